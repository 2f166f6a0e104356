//! The kinds that the stand-in knows, and the paths that name them.

/// A kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resource {
    /// `discovery.k8s.io`; empty for the core group.
    pub group: &'static str,
    /// In paths: `endpointslices`.
    pub plural: &'static str,
    /// In objects: `EndpointSlice`.
    pub kind: &'static str,
    /// kubectl's abbreviation.
    pub short: &'static [&'static str],
    /// Lives in namespaces.
    pub is_namespaced: bool,
}

impl Resource {
    /// `v1` or `discovery.k8s.io/v1`.
    pub(super) fn api_version(&self) -> String {
        if self.group.is_empty() { "v1".to_owned() } else { format!("{}/v1", self.group) }
    }
}

const fn resource(
    group: &'static str,
    plural: &'static str,
    kind: &'static str,
    short: &'static [&'static str],
    is_namespaced: bool,
) -> Resource {
    Resource { group, plural, kind, short, is_namespaced }
}

/// All of them; version `v1` each.
pub const RESOURCES: [Resource; 6] = [
    resource("", "services", "Service", &["svc"], true),
    resource("", "nodes", "Node", &["no"], false),
    resource("", "namespaces", "Namespace", &["ns"], false),
    resource("", "pods", "Pod", &["po"], true),
    resource("discovery.k8s.io", "endpointslices", "EndpointSlice", &[], true),
    resource("events.k8s.io", "events", "Event", &["ev"], true),
];

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// All objects, or those of a namespace.
    Collection(Resource, Option<String>),
    /// One object (or its status): kind, namespace (empty where there is none), name.
    Object(Resource, String, String),
    /// `/version`, `/api`, `/apis`, `/api/v1`, `/apis/GROUP`, `/apis/GROUP/v1`.
    Discovery,
}

impl Target {
    /// What `path` names; `None`: nothing here.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let words: Vec<&str> = path.split('/').filter(|word| !word.is_empty()).collect();
        let (group, rest) = match words.as_slice() {
            ["version" | "api" | "apis"] | ["api", "v1"] | ["apis", _] | ["apis", _, "v1"] => {
                return Some(Self::Discovery);
            }
            ["api", "v1", rest @ ..] => ("", rest),
            ["apis", group, "v1", rest @ ..] => (*group, rest),
            _ => return None,
        };
        let find =
            |plural: &str| RESOURCES.into_iter().find(|r| r.group == group && r.plural == plural);
        match *rest {
            ["namespaces", namespace, plural, ref name @ ..]
                if find(plural).is_some_and(|r| r.is_namespaced) =>
            {
                let resource = find(plural)?;
                match *name {
                    [] => Some(Self::Collection(resource, Some(namespace.to_owned()))),
                    [name] | [name, "status"] => {
                        Some(Self::Object(resource, namespace.to_owned(), name.to_owned()))
                    }
                    _ => None,
                }
            }
            [plural] => Some(Self::Collection(find(plural)?, None)),
            [plural, name] | [plural, name, "status"] => {
                let resource = find(plural).filter(|r| !r.is_namespaced)?;
                Some(Self::Object(resource, String::new(), name.to_owned()))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_collections_and_objects() {
        let collection = Target::parse("/apis/discovery.k8s.io/v1/endpointslices");
        assert_eq!(collection, Some(Target::Collection(RESOURCES[4], None)));
        let object = Target::parse("/api/v1/namespaces/shop/services/web/status");
        let expected = Target::Object(RESOURCES[0], "shop".into(), "web".into());
        assert_eq!(object, Some(expected));
        let node = Target::parse("/api/v1/nodes/gw-1");
        assert_eq!(node, Some(Target::Object(RESOURCES[1], String::new(), "gw-1".into())));
        assert_eq!(Target::parse("/apis/apps/v1/deployments"), None);
        assert_eq!(Target::parse("/apis"), Some(Target::Discovery));
    }
}
