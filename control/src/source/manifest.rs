//! From a manifest's text to objects of the model, each with its place.

use super::document::{Document, Entry, Raw, documents, read_document};
use super::error::ManifestError;
use super::locate;
use crate::model::{ClusterState, EndpointSlice, Node, Object, ObjectError, Pod, Service};
use serde_saphyr::UserMessageFormatter;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// An object and where it stands.
#[derive(Debug)]
pub(super) struct Placed {
    object: Object,
    file: PathBuf,
    line: u64,
}

/// The objects of a file. Kinds that tidegate does not read are left out.
///
/// # Errors
/// With line and reason.
pub(super) fn parse(file: &Path, text: &str) -> Result<Vec<Placed>, ManifestError> {
    let mut placed = Vec::new();
    for document in documents(text) {
        parse_document(file, &document, &mut placed)?;
    }
    Ok(placed)
}

/// The state made of all objects; the last of one name wins, as `kubectl apply` would have it.
///
/// # Errors
/// Two Services claim one node port.
pub(super) fn assemble(placed: Vec<Placed>) -> Result<ClusterState, ManifestError> {
    let mut places: BTreeMap<String, (PathBuf, u64)> = BTreeMap::new();
    for Placed { object, file, line } in &placed {
        let title = object.title();
        if let Some((first, first_line)) = places.insert(title.clone(), (file.clone(), *line)) {
            let (first, again) = (first.display(), file.display());
            tracing::warn!("{title} of {again}:{line} replaces that of {first}:{first_line}");
        }
    }
    ClusterState::try_new(placed.into_iter().map(|p| p.object)).map_err(|clash| {
        let place = |key| places.get(&format!("Service {key}"));
        let second = place(&clash.second).cloned();
        let first = place(&clash.first)
            .map(|(file, line)| format!("; the first is at {}:{line}", file.display()));
        ManifestError {
            path: second.as_ref().map(|(file, _)| file.clone()).unwrap_or_default(),
            line: second.map(|(_, line)| line),
            reason: format!("{clash}{}", first.unwrap_or_default()),
        }
    })
}

fn parse_document(
    file: &Path,
    document: &Document<'_>,
    placed: &mut Vec<Placed>,
) -> Result<(), ManifestError> {
    let read = read_document(document.text);
    // The snippet should show the file's own line numbers: read once more, moved down. Only errors
    // pay for it.
    let read =
        read.or_else(|_moved| read_document(&("\n".repeat(document.lines_before) + document.text)));
    let entries = read.map_err(|error| ManifestError {
        path: file.to_owned(),
        line: error.location().map(|location| location.line()),
        reason: text(&error),
    })?;
    let before = document.lines_before as u64;
    for entry in entries {
        let Entry { item, line, raw } = entry;
        let object = model(&raw).map_err(|error| {
            let found = locate::line_of(document.text, item, &error.field);
            ManifestError {
                path: file.to_owned(),
                line: Some(before + found.unwrap_or(line)),
                reason: format!("{}: {error}", raw.title()),
            }
        })?;
        placed.push(Placed { object, file: file.to_owned(), line: before + line });
    }
    Ok(())
}

/// The parser's words, without the first one: ours stand before it.
fn text(error: &serde_saphyr::Error) -> String {
    error.render_with_formatter(&UserMessageFormatter).trim_start_matches("error: ").to_owned()
}

fn model(raw: &Raw) -> Result<Object, ObjectError> {
    match raw {
        Raw::Service(object) => Service::try_from(&**object).map(Object::Service),
        Raw::EndpointSlice(object) => EndpointSlice::try_from(&**object).map(Object::EndpointSlice),
        Raw::Pod(object) => Pod::try_from(&**object).map(Object::Pod),
        Raw::Node(object) => Node::try_from(&**object).map(Object::Node),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ObjectKey;

    fn load(text: &str) -> Result<ClusterState, ManifestError> {
        assemble(parse(Path::new("web.yaml"), text)?)
    }

    const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  type: \
                           NodePort\n  ports:\n  - port: 80\n    nodePort: 30080\n";

    #[test]
    fn documents_comments_and_other_kinds_are_told_apart() {
        let state = load(&format!(
            "# comment\n---\n{SERVICE}---\napiVersion: apps/v1\nkind: Deployment\n---\n\
             apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {{name: other}}\n...\n"
        ));
        let keys: Vec<_> = state.unwrap().services.into_keys().collect();
        assert_eq!(keys, [ObjectKey::new("default", "web")]);
    }

    #[test]
    fn a_list_of_any_kinds_is_read() {
        let state = load(
            "apiVersion: v1\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata: {name: a}\n\
             - apiVersion: v1\n  kind: ConfigMap\n  data: {x: y}\n- apiVersion: v1\n  kind: \
             Node\n  metadata: {name: n}\nkind: List\nmetadata: {resourceVersion: \"\"}\n",
        );
        let state = state.unwrap();
        assert_eq!((state.pods.len(), state.nodes.len()), (1, 1));
    }

    #[test]
    fn json_and_typed_lists_are_read() {
        let state = load(
            "{\"kind\": \"PodList\", \"apiVersion\": \"v1\", \"items\": [{\"metadata\": \
             {\"name\": \"a\"}}]}",
        );
        assert_eq!(state.unwrap().pods.len(), 1);
    }

    #[test]
    fn each_fault_is_told_with_its_line() {
        let pod = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: a}\n";
        for (text, line, part) in [
            (SERVICE.replace("30080", "70000"), 8, "70000 is not a port number"),
            (SERVICE.replace("port: 80\n", "port: eighty\n"), 7, "eighty"),
            (SERVICE.replace("NodePort", "Nodeport"), 5, "`Nodeport` is none of"),
            (SERVICE.replace("  - port: 80", "\t- port: 80"), 7, "tab"),
            (format!("{pod}{pod}status: {{podIP: x}}\n"), 9, "`x` is not an address"),
            (format!("{pod}metadata: {{}}\n"), 5, "metadata"),
            ("kind: Pod\napiVersion: v2\n".into(), 2, "v1"),
            (format!("{pod}---\nkind: Node\napiVersion: v1\n"), 6, "metadata"),
        ] {
            let error = load(&text).unwrap_err();
            assert_eq!(error.line, Some(line), "{text}\n{error}");
            assert!(error.to_string().contains(part), "{part} is missing in: {error}");
            assert!(error.to_string().starts_with(&format!("read web.yaml:{line}: ")), "{error}");
        }
    }

    #[test]
    fn a_fault_inside_a_list_has_its_own_line() {
        let error = load(
            "kind: List\napiVersion: v1\nitems:\n- kind: Pod\n  apiVersion: v1\n  metadata: {name: \
             a}\n- kind: Pod\n  apiVersion: v1\n  metadata: {name: b}\n  status:\n    \
             podIP: 1.2.3\n",
        );
        let error = error.unwrap_err();
        assert_eq!(error.line, Some(11), "{error}");
        assert!(error.reason.starts_with("Pod b: status.podIP"), "{error}");
    }

    #[test]
    fn a_list_inside_a_list_is_refused_and_not_left_out() {
        let pods = "- kind: PodList\n  apiVersion: v1\n  items: []\n";
        let error = load(&format!("kind: List\napiVersion: v1\nitems:\n{pods}")).unwrap_err();
        assert_eq!(error.line, Some(4), "{error}");
        assert!(error.reason.contains("a List inside a List"), "{error}");
    }

    #[test]
    fn a_node_port_clash_names_both_services_and_places() {
        let text = format!("{SERVICE}---\n{}", SERVICE.replace("web", "shop"));
        let error = load(&text).unwrap_err();
        assert_eq!(
            error.to_string(),
            "read web.yaml:1: node port 30080/TCP is claimed by Service default/shop and by \
             Service default/web; the first is at web.yaml:10"
        );
    }

    #[test]
    fn ten_thousand_services_fit_the_parsers_limits() {
        let one = |i: u32| {
            let (name, port) = (format!("s{i}"), format!("{}", 1 + i));
            format!("---\n{}", SERVICE.replace("web", &name).replace("30080", &port))
        };
        let text: String = (0..10_000).map(one).collect();
        assert_eq!(load(&text).unwrap().services.len(), 10_000);
        let item = |i: u32| {
            format!("- {{apiVersion: v1, kind: Pod, metadata: {{name: p{i}, labels: {{a: b}}}}}}\n")
        };
        let items: String = (0..40_000).map(item).collect();
        let list = load(&format!("kind: List\napiVersion: v1\nitems:\n{items}"));
        assert_eq!(list.unwrap().pods.len(), 40_000);
    }
}
