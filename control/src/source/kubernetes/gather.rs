//! What the watches tell, as one state. Nothing is told before all kinds were listed once
//! (semantics B13); a list is one transaction, which removes what is not in it.

use super::told::{Listing, Message, Seen, Told};
use super::watched::{Form, Kind};
use crate::model::{Change, ClusterState, ObjectName};
use crate::source::{NodePresence, SourceError, SourceEvent, SourceNotes};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

/// Warnings that are told at most; more are counted.
const WARNINGS_MAX: usize = 20;

type Forms = BTreeMap<ObjectName, Form>;

/// The state as the server has it.
#[derive(Debug)]
pub(super) struct Gather {
    node: Arc<str>,
    /// What was told, or will be by `changes`.
    live: Forms,
    /// What the server has, until all kinds were listed once.
    first: Option<Forms>,
    kinds: [KindState; 3],
    changes: Vec<Change>,
    is_whole_due: bool,
    told_error: Option<SourceError>,
    told_notes: SourceNotes,
    presence: NodePresence,
    kept_since: Option<SystemTime>,
    /// The server's address.
    pub(super) location: String,
    /// Warnings of others: of what is kept on disk.
    pub(super) other_warnings: Vec<String>,
}

#[derive(Debug, Default)]
struct KindState {
    list: Option<List>,
    was_listed: bool,
    listing: Option<Listing>,
    error: Option<SourceError>,
    /// Objects that cannot be used, and why.
    refused: BTreeMap<ObjectName, String>,
}

/// A list that is coming in.
#[derive(Debug, Default)]
struct List {
    forms: Forms,
    refused: BTreeMap<ObjectName, String>,
}

impl Gather {
    /// Nothing is known yet, apart from what was kept on disk and since when.
    pub(super) fn new(node: &str, kept: Option<(Vec<(ObjectName, Form)>, SystemTime)>) -> Self {
        let (live, kept_since) = kept.map_or_else(Default::default, |(forms, since)| {
            (forms.into_iter().collect(), Some(since))
        });
        Self {
            node: node.into(),
            live,
            first: Some(Forms::new()),
            kinds: Default::default(),
            changes: Vec::new(),
            is_whole_due: kept_since.is_some(),
            told_error: None,
            told_notes: SourceNotes::default(),
            presence: NodePresence::Unknown,
            kept_since,
            location: String::new(),
            other_warnings: Vec::new(),
        }
    }

    /// Takes a message in.
    pub(super) fn take(&mut self, message: Message) {
        let Message { kind, told } = message;
        let state = &mut self.kinds[kind as usize];
        match told {
            Told::ListBegins(listing) => {
                state.list = Some(List::default());
                state.listing = Some(listing);
            }
            Told::Listed(seen) => self.listed(kind, seen),
            Told::ListEnds => self.list_ends(kind),
            Told::Applied(seen) => self.applied(kind, seen),
            Told::Deleted(name) => {
                state.refused.remove(&name);
                self.remove(name);
            }
            Told::Failed(error) => state.error = Some(error),
            Told::Answered => state.error = None,
        }
    }

    /// What there is to tell now.
    pub(super) fn events(&mut self) -> Vec<SourceEvent> {
        let mut events = Vec::new();
        if std::mem::take(&mut self.is_whole_due) {
            self.changes.clear();
            events.push(SourceEvent::State(Arc::new(self.whole())));
        } else if !self.changes.is_empty() {
            events.push(SourceEvent::Changed(std::mem::take(&mut self.changes)));
        }
        let error = self.kinds.iter().find_map(|kind| kind.error.clone());
        let notes = self.notes(error.is_none());
        if notes != self.told_notes {
            self.told_notes = notes.clone();
            events.push(SourceEvent::Noted(notes));
        }
        if error != self.told_error {
            self.told_error.clone_from(&error);
            events.extend(error.map(SourceEvent::Refused));
        }
        events
    }

    /// Every object as Kubernetes' JSON, for the disk. None before the server told everything.
    pub(super) fn kept_form(&self) -> Option<Vec<Arc<str>>> {
        let is_complete = self.first.is_none();
        is_complete.then(|| self.live.values().map(|form| Arc::clone(&form.json)).collect())
    }

    fn listed(&mut self, kind: Kind, seen: Seen) {
        let Seen { name, form } = seen;
        let form = form.map_err(|reason| (reason, self.last_good(&name)));
        // Without a beginning there is no list; kube's watcher tells one.
        let Some(list) = &mut self.kinds[kind as usize].list else { return };
        match form {
            Ok(form) => {
                list.forms.insert(name, form);
            }
            Err((reason, last)) => {
                list.refused.insert(name.clone(), refusal(&reason, last.is_some()));
                list.forms.extend(last.map(|form| (name, form)));
            }
        }
    }

    fn list_ends(&mut self, kind: Kind) {
        let state = &mut self.kinds[kind as usize];
        let Some(list) = state.list.take() else { return };
        state.was_listed = true;
        state.refused = list.refused;
        let is_gone =
            |name: &&ObjectName| Kind::of(name) == Some(kind) && !list.forms.contains_key(name);
        let gone: Vec<_> = self.target().keys().filter(is_gone).cloned().collect();
        gone.into_iter().for_each(|name| self.remove(name));
        list.forms.into_iter().for_each(|(name, form)| self.upsert(name, form));
        if self.kinds.iter().all(|kind| kind.was_listed) {
            self.complete();
        }
    }

    /// All kinds were listed: from here on the server's state is ours.
    fn complete(&mut self) {
        if let Some(mut first) = self.first.take() {
            let name = ObjectName::Node(Arc::clone(&self.node));
            if let (false, Some(last)) = (first.contains_key(&name), self.live.remove(&name)) {
                first.insert(name, last);
                self.presence = NodePresence::Deleted;
            }
            self.live = first;
            self.kept_since = None;
            self.is_whole_due = true;
        }
        if self.presence == NodePresence::Unknown {
            self.presence = NodePresence::Missing;
        }
    }

    fn applied(&mut self, kind: Kind, seen: Seen) {
        let Seen { name, form } = seen;
        match form {
            Ok(form) => {
                self.kinds[kind as usize].refused.remove(&name);
                self.upsert(name, form);
            }
            Err(reason) => {
                let text = refusal(&reason, self.last_good(&name).is_some());
                self.kinds[kind as usize].refused.insert(name, text);
            }
        }
    }

    fn last_good(&self, name: &ObjectName) -> Option<Form> {
        let first = self.first.as_ref().and_then(|forms| forms.get(name));
        first.or_else(|| self.live.get(name)).cloned()
    }

    fn target(&mut self) -> &mut Forms {
        self.first.as_mut().unwrap_or(&mut self.live)
    }

    fn upsert(&mut self, name: ObjectName, form: Form) {
        if Kind::of(&name) == Some(Kind::Nodes) {
            self.presence = NodePresence::Present;
        }
        if let Some(first) = &mut self.first {
            first.insert(name, form);
            return;
        }
        // What no reader looks at changes often: a Node's heartbeats.
        if self.live.get(&name).is_none_or(|before| before.object != form.object) {
            self.changes.push(Change::Upserted(form.object.clone()));
        }
        self.live.insert(name, form);
    }

    fn remove(&mut self, name: ObjectName) {
        if Kind::of(&name) == Some(Kind::Nodes) {
            // Told and nothing more (semantics H14): the node's addresses work on.
            self.presence = NodePresence::Deleted;
            return;
        }
        let was_known = self.target().remove(&name).is_some();
        if was_known && self.first.is_none() {
            self.changes.push(Change::Removed(name));
        }
    }

    fn whole(&self) -> ClusterState {
        let mut state = ClusterState::default();
        for form in self.live.values() {
            state.apply(Change::Upserted(form.object.clone()));
        }
        state
    }

    fn notes(&self, is_well: bool) -> SourceNotes {
        // One kind that needs pages tells what the server can.
        let listings = self.kinds.iter().filter_map(|kind| kind.listing);
        let listing = listings.max_by_key(|listing| *listing == Listing::Paged);
        SourceNotes {
            is_well,
            location: self.location.clone(),
            listing: listing.map(Listing::name),
            kept_since: self.kept_since,
            node: self.presence,
            warnings: self.warnings(),
        }
    }

    fn warnings(&self) -> Vec<String> {
        let node = match self.presence {
            NodePresence::Unknown | NodePresence::Present => None,
            NodePresence::Missing => Some(format!(
                "there is no Node {}: the interfaces' addresses count; hostnameOverride names \
                 another",
                self.node
            )),
            NodePresence::Deleted => {
                Some(format!("Node {} was deleted: its last form stays in use", self.node))
            }
        };
        let refused = self.kinds.iter().flat_map(|kind| &kind.refused);
        let refused = refused.map(|(name, reason)| format!("{}: {reason}", name.title()));
        let mut warnings: Vec<_> =
            node.into_iter().chain(self.other_warnings.iter().cloned()).chain(refused).collect();
        if warnings.len() > WARNINGS_MAX {
            let more = warnings.len() - WARNINGS_MAX;
            warnings.truncate(WARNINGS_MAX);
            warnings.push(format!("and {more} warnings more about objects of the API server"));
        }
        warnings
    }
}

fn refusal(reason: &str, has_last: bool) -> String {
    let meanwhile =
        if has_last { "its last good form keeps serving" } else { "it counts as absent" };
    format!("{reason}; {meanwhile}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ObjectKey;
    use crate::source::kubernetes::watched::{Watchable, Watched};
    use k8s_openapi::api::core::v1 as core;
    use k8s_openapi::api::discovery::v1 as discovery;
    use serde_json::{Value, json};

    fn seen<K: Watchable>(value: Value) -> Seen {
        let read: Watched<K> = serde_json::from_value(value).unwrap();
        Seen { name: read.name, form: read.form }
    }

    fn service(name: &str, port: u32) -> Seen {
        seen::<core::Service>(json!({"metadata": {"name": name, "resourceVersion": "1"},
            "spec": {"ports": [{"port": port}]}}))
    }

    fn slice(name: &str) -> Seen {
        seen::<discovery::EndpointSlice>(
            json!({"metadata": {"name": name}, "addressType": "IPv4", "endpoints": null}),
        )
    }

    fn node(name: &str) -> Seen {
        seen::<core::Node>(json!({"metadata": {"name": name}}))
    }

    fn list(gather: &mut Gather, kind: Kind, objects: Vec<Seen>) {
        gather.take(Message { kind, told: Told::ListBegins(Listing::Paged) });
        objects.into_iter().for_each(|o| gather.take(Message { kind, told: Told::Listed(o) }));
        gather.take(Message { kind, told: Told::ListEnds });
    }

    /// What is told, in short: `whole: names`, `+name`, `-name`.
    fn told(gather: &mut Gather) -> Vec<String> {
        let mut texts = Vec::new();
        for event in gather.events() {
            match event {
                SourceEvent::State(state) => {
                    let services = state.services.keys().map(|key| key.name.to_string());
                    let slices = state.slices.keys().map(|key| key.name.to_string());
                    let nodes = state.nodes.keys().map(ToString::to_string);
                    let names: Vec<_> = services.chain(slices).chain(nodes).collect();
                    texts.push(format!("whole: {}", names.join(" ")));
                }
                SourceEvent::Changed(changes) => texts.extend(changes.iter().map(change_text)),
                SourceEvent::Refused(error) => texts.push(error.to_string()),
                SourceEvent::Noted(_) => {}
            }
        }
        texts
    }

    fn change_text(change: &Change) -> String {
        match change {
            Change::Upserted(object) => format!("+{}", object.title()),
            Change::Removed(name) => format!("-{}", name.title()),
        }
    }

    /// All kinds listed: Services a and b, slice s, node gw.
    fn listed() -> Gather {
        let mut gather = Gather::new("gw", None);
        list(&mut gather, Kind::Services, vec![service("a", 80), service("b", 80)]);
        list(&mut gather, Kind::EndpointSlices, vec![slice("s")]);
        list(&mut gather, Kind::Nodes, vec![node("gw")]);
        assert_eq!(told(&mut gather), ["whole: a b s gw"]);
        gather
    }

    #[test]
    fn b13_nothing_is_told_before_all_kinds_were_listed() {
        let mut gather = Gather::new("gw", None);
        list(&mut gather, Kind::EndpointSlices, vec![slice("s")]);
        list(&mut gather, Kind::Nodes, vec![]);
        gather.take(Message { kind: Kind::Services, told: Told::ListBegins(Listing::Streaming) });
        gather.take(Message { kind: Kind::Services, told: Told::Listed(service("a", 80)) });
        gather.take(Message { kind: Kind::EndpointSlices, told: Told::Applied(slice("t")) });
        assert_eq!(told(&mut gather), [""; 0]);
        gather.take(Message { kind: Kind::Services, told: Told::ListEnds });
        assert_eq!(told(&mut gather), ["whole: a s t"]);
        assert_eq!(gather.told_notes.listing, Some("paged"));
        assert_eq!(gather.told_notes.node, NodePresence::Missing);
    }

    #[test]
    fn a_relist_is_one_transaction_that_removes_what_vanished() {
        let mut gather = listed();
        gather.take(Message { kind: Kind::Services, told: Told::ListBegins(Listing::Paged) });
        gather.take(Message { kind: Kind::Services, told: Told::Listed(service("b", 81)) });
        assert_eq!(told(&mut gather), [""; 0]);
        // The list breaks off and begins anew.
        gather.take(Message { kind: Kind::Services, told: Told::ListBegins(Listing::Paged) });
        gather.take(Message { kind: Kind::Services, told: Told::Listed(service("c", 80)) });
        gather.take(Message { kind: Kind::Services, told: Told::Listed(service("b", 80)) });
        gather.take(Message { kind: Kind::Services, told: Told::ListEnds });
        assert_eq!(told(&mut gather), ["-Service default/a", "+Service default/c"]);
    }

    #[test]
    fn what_means_the_same_is_not_told() {
        let mut gather = listed();
        gather.take(Message { kind: Kind::Services, told: Told::Applied(service("a", 80)) });
        assert_eq!(told(&mut gather), [""; 0]);
    }

    #[test]
    fn an_odd_object_keeps_its_last_good_form_or_counts_as_absent() {
        let mut gather = listed();
        for name in ["a", "new"] {
            gather.take(Message { kind: Kind::Services, told: Told::Applied(service(name, 0)) });
        }
        assert_eq!(told(&mut gather), [""; 0]);
        let reason = "spec.ports[0].port 0 is not a port number between 1 and 65535";
        let expected = [
            format!("Service default/a: {reason}; its last good form keeps serving"),
            format!("Service default/new: {reason}; it counts as absent"),
        ];
        assert_eq!(gather.told_notes.warnings, expected);
        list(&mut gather, Kind::Services, vec![service("a", 0), service("b", 80)]);
        assert_eq!(told(&mut gather), [""; 0]);
        assert_eq!(gather.told_notes.warnings, expected[..1]);
        gather.take(Message { kind: Kind::Services, told: Told::Applied(service("a", 81)) });
        assert_eq!(told(&mut gather), ["+Service default/a"]);
        assert_eq!(gather.told_notes.warnings, [""; 0]);
    }

    #[test]
    fn h14_a_deleted_node_is_told_and_stays() {
        let mut gather = listed();
        let name = ObjectName::Node("gw".into());
        gather.take(Message { kind: Kind::Nodes, told: Told::Deleted(name) });
        assert_eq!(told(&mut gather), [""; 0]);
        let expected = ["Node gw was deleted: its last form stays in use"];
        assert_eq!(gather.told_notes.warnings, expected);
        list(&mut gather, Kind::Nodes, vec![]);
        assert_eq!(told(&mut gather), [""; 0]);
        assert_eq!(gather.told_notes.node, NodePresence::Deleted);
        gather.take(Message { kind: Kind::Nodes, told: Told::Applied(node("gw")) });
        assert!(told(&mut gather).is_empty() && gather.told_notes.warnings.is_empty());
    }

    #[test]
    fn the_kept_state_serves_until_the_server_told_everything() {
        let kept = ["a", "old"].map(|name| {
            let seen = service(name, 80);
            (seen.name, seen.form.unwrap())
        });
        let mut gather = Gather::new("gw", Some((kept.to_vec(), SystemTime::UNIX_EPOCH)));
        assert_eq!(told(&mut gather), ["whole: a old"]);
        assert_eq!(gather.told_notes.kept_since, Some(SystemTime::UNIX_EPOCH));
        assert!(gather.kept_form().is_none());
        list(&mut gather, Kind::Services, vec![service("a", 80)]);
        list(&mut gather, Kind::Nodes, vec![node("gw")]);
        assert_eq!(told(&mut gather), [""; 0]);
        list(&mut gather, Kind::EndpointSlices, vec![]);
        assert_eq!(told(&mut gather), ["whole: a gw"]);
        assert_eq!(gather.told_notes.kept_since, None);
        assert_eq!(gather.kept_form().unwrap().len(), 2);
    }

    #[test]
    fn h15_a_refusal_is_told_once_and_ends_when_the_server_answers() {
        let mut gather = listed();
        let failed =
            || Told::Failed(SourceError::Server { what: "watch".into(), words: "no".into() });
        for kind in [Kind::Services, Kind::Nodes] {
            gather.take(Message { kind, told: failed() });
        }
        assert_eq!(told(&mut gather), ["watch: no"]);
        assert!(!gather.told_notes.is_well);
        gather.take(Message { kind: Kind::Services, told: Told::Answered });
        assert_eq!(told(&mut gather), [""; 0]);
        assert!(!gather.told_notes.is_well);
        gather.take(Message { kind: Kind::Nodes, told: Told::Answered });
        assert_eq!(told(&mut gather), [""; 0]);
        assert!(gather.told_notes.is_well);
    }

    #[test]
    fn warnings_are_cut_and_counted() {
        let mut gather = listed();
        for i in 0..WARNINGS_MAX + 5 {
            let odd = service(&format!("odd-{i}"), 0);
            gather.take(Message { kind: Kind::Services, told: Told::Applied(odd) });
        }
        told(&mut gather);
        assert_eq!(gather.told_notes.warnings.len(), WARNINGS_MAX + 1);
        assert!(gather.told_notes.warnings[WARNINGS_MAX].starts_with("and 5 warnings more"));
        let name = ObjectName::Service(ObjectKey::new("default", "odd-0"));
        gather.take(Message { kind: Kind::Services, told: Told::Deleted(name) });
        told(&mut gather);
        assert!(gather.told_notes.warnings[WARNINGS_MAX].starts_with("and 4 warnings more"));
    }
}
