//! The API server as a source, against the stand-in: lists, watches, and everything that breaks.

use anyhow::Result;
use serde_json::json;
use std::sync::Arc;
use tidegate_control::model::{ClusterState, ObjectKey};
use tidegate_control::source::NodePresence;
use tidegate_tests::api_server::{ApiServer, Door, Effect, Fault, Interruption, Verb};
use tidegate_tests::objects::{node, service, slice};
use tidegate_tests::watching::{NODE, Watching};
use tokio::sync::Semaphore;

/// A server with two Services, a slice and two Nodes.
fn server() -> Result<ApiServer> {
    let server = ApiServer::start(Door::Open)?;
    server.apply(service("web", 30080))?;
    server.apply(service("api", 30081))?;
    server.apply(slice("web-1", "web", &["10.244.1.10"]))?;
    server.apply(node(NODE, &["192.0.2.1"]))?;
    server.apply(node("other", &["192.0.2.2"]))?;
    Ok(server)
}

async fn watch(server: &ApiServer) -> Result<Watching> {
    let mut watching = Watching::open(server)?;
    watching.wait_until("the first state", |w| w.wholes == 1).await?;
    Ok(watching)
}

#[tokio::test]
async fn b13_the_first_state_is_whole_and_changes_follow() -> Result<()> {
    let server = server()?;
    let mut watching = watch(&server).await?;
    assert_eq!(watching.services(), ["api", "web"]);
    assert_eq!(watching.state.slices.len(), 1);
    let nodes: Vec<&str> = watching.state.nodes.keys().map(AsRef::as_ref).collect();
    assert_eq!(nodes, [NODE], "the own Node alone");
    server.apply(service("new", 30082))?;
    server.delete(("services", "shop", "api"))?;
    server.apply(slice("web-2", "web", &["10.244.1.11"]))?;
    let is_so = |w: &Watching| w.services() == ["new", "web"] && w.state.slices.len() == 2;
    watching.wait_until("the changes", is_so).await?;
    assert_eq!((watching.wholes, watching.notes.listing), (1, Some("streaming")));
    assert_eq!(watching.notes.node, NodePresence::Present);
    Ok(())
}

#[tokio::test]
async fn b13_nothing_is_told_while_one_kind_is_missing() -> Result<()> {
    let server = server()?;
    let gate = Arc::new(Semaphore::new(0));
    let slow = Effect::Hold(Arc::clone(&gate));
    server.fail(Fault::once("endpointslices", Verb::Watch, slow));
    let mut watching = Watching::open(&server)?;
    let is_known = |w: &Watching| w.notes.node == NodePresence::Present;
    watching.wait_until("the Node is known", is_known).await?;
    assert_eq!(watching.wholes, 0);
    gate.add_permits(1);
    watching.wait_until("the first state", |w| w.wholes == 1).await?;
    assert_eq!((watching.services().len(), watching.state.slices.len()), (2, 1));
    Ok(())
}

#[tokio::test]
async fn a_server_without_streaming_lists_is_asked_for_pages() -> Result<()> {
    let server = server()?;
    server.fail(Fault::always(Effect::NoStreaming));
    let watching = watch(&server).await?;
    assert_eq!(watching.notes.listing, Some("paged"));
    assert_eq!(watching.refusals, [""; 0]);
    Ok(())
}

#[tokio::test]
async fn a_server_that_ignores_the_wish_for_streaming_is_asked_for_pages() -> Result<()> {
    let server = server()?;
    server.fail(Fault::always(Effect::IgnoreStreaming));
    let watching = watch(&server).await?;
    assert_eq!((watching.services().len(), watching.notes.listing), (2, Some("paged")));
    Ok(())
}

/// 1 200 Services are three pages of 500.
#[tokio::test]
async fn a_list_of_several_pages_is_whole() -> Result<()> {
    let server = server()?;
    server.fail(Fault::always(Effect::NoStreaming));
    for i in 0..1200 {
        server.apply(service(&format!("many-{i}"), 30_100 + i))?;
    }
    let watching = watch(&server).await?;
    assert_eq!(watching.services().len(), 1202);
    let pages = server.requests().iter().filter(|r| r.path.contains("continue=")).count();
    assert_eq!(pages, 2);
    Ok(())
}

#[tokio::test]
async fn what_vanished_while_the_server_was_away_vanishes() -> Result<()> {
    let mut server = server()?;
    let mut watching = watch(&server).await?;
    server.stop();
    watching.wait_until("the refusal", |w| !w.refusals.is_empty()).await?;
    assert!(!watching.notes.is_well);
    assert!(watching.refusals[0].contains("refused"), "{:?}", watching.refusals);
    assert_eq!(watching.services(), ["api", "web"], "the last state stays");
    server.delete(("services", "shop", "web"))?;
    server.delete(("endpointslices", "shop", "web-1"))?;
    server.apply(service("new", 30082))?;
    // The past is forgotten: the watch cannot be resumed.
    server.compact();
    server.resume()?;
    let is_so = |w: &Watching| w.services() == ["api", "new"] && w.state.slices.is_empty();
    watching.wait_until("the new state", is_so).await?;
    watching.wait_until("the server answers", |w| w.notes.is_well).await?;
    assert_eq!(watching.wholes, 1, "a relist tells what changed");
    Ok(())
}

#[tokio::test]
async fn interrupted_watches_go_on() -> Result<()> {
    let server = server()?;
    let mut watching = watch(&server).await?;
    let interruptions = [Interruption::Cut, Interruption::Error(410), Interruption::Error(504)];
    for (i, interruption) in (0..).zip(interruptions) {
        server.interrupt(interruption);
        let name = format!("after-{i}");
        server.apply(service(&name, 30_090 + i))?;
        let what = format!("the change after {interruption:?}");
        watching.wait_until(&what, |w| w.services().contains(&name.as_str())).await?;
    }
    Ok(())
}

#[tokio::test]
async fn each_status_is_survived_and_told_in_the_servers_words() -> Result<()> {
    for code in [401, 403, 410, 429, 500, 503] {
        let server = server()?;
        server.fail(Fault::once("services", Verb::Watch, Effect::Status(code)));
        let mut watching = watch(&server).await?;
        assert_eq!(watching.services(), ["api", "web"]);
        let is_well = |w: &Watching| w.notes.is_well;
        watching.wait_until(&format!("well after {code}"), is_well).await?;
        let words = watching.refusals.join("\n");
        assert!(words.contains(&format!("({code})")), "{code}: {words}");
        assert!(words.contains("watch Services at http://127.0.0.1:"), "{code}: {words}");
    }
    Ok(())
}

#[tokio::test]
async fn one_odd_object_does_not_stop_the_others() -> Result<()> {
    let server = server()?;
    let mut odd = service("odd", 30082);
    odd["spec"]["ports"][0]["port"] = json!("eighty");
    server.apply(odd)?;
    let mut watching = watch(&server).await?;
    assert_eq!(watching.services(), ["api", "web"]);
    let names_it = |w: &Watching| w.notes.warnings.iter().any(|text| text.contains("shop/odd"));
    watching.wait_until("a warning", names_it).await?;
    server.apply(service("odd", 30082))?;
    watching.wait_until("the mended one", |w| w.services().contains(&"odd")).await?;
    watching.wait_until("no warning", |w| w.notes.warnings.is_empty()).await
}

/// Whether a Service takes part.
fn is_served(state: &ClusterState, name: &str) -> bool {
    let service = state.services.get(&ObjectKey::new("shop", name));
    service.is_some_and(|service| service.skipped.is_none() && !service.ports.is_empty())
}

#[tokio::test]
async fn a3_a4_labels_are_followed_live() -> Result<()> {
    let server = server()?;
    let mut watching = watch(&server).await?;
    let web = ObjectKey::new("shop", "web");
    for label in ["service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"] {
        for is_labelled in [true, false] {
            let value = if is_labelled { json!("x") } else { json!(null) };
            let patch = json!({"metadata": {"labels": {label: value}}});
            server.patch(("services", "shop", "web"), patch.clone())?;
            server.patch(("endpointslices", "shop", "web-1"), patch)?;
            let owner = (!is_labelled).then(|| web.clone());
            let is_so = |w: &Watching| {
                let mut slices = w.state.slices.values();
                is_served(&w.state, "web") != is_labelled && slices.all(|s| s.service == owner)
            };
            watching.wait_until(&format!("{label} {is_labelled}"), is_so).await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn h14_the_own_node_gone_is_told_and_its_addresses_stay() -> Result<()> {
    let server = server()?;
    let mut watching = watch(&server).await?;
    server.delete(("nodes", "", NODE))?;
    watching.wait_until("the note", |w| w.notes.node == NodePresence::Deleted).await?;
    assert_eq!(watching.state.nodes.len(), 1);
    server.apply(node(NODE, &["192.0.2.9"]))?;
    let is_new = |w: &Watching| {
        let node = w.state.nodes.get(NODE);
        node.is_some_and(|node| node.addresses[0].1.to_string() == "192.0.2.9")
    };
    watching.wait_until("the new address", is_new).await?;
    watching.wait_until("no note", |w| w.notes.node == NodePresence::Present).await
}
