//! Events, published to the stand-in of the API server over real connections.

use anyhow::{Result, ensure};
use serde_json::Value;
use std::time::{Duration, Instant};
use tidegate_control::config::ClientConnection;
use tidegate_control::events::{Event, Publisher, Reason, Subject};
use tidegate_control::model::ObjectKey;
use tidegate_tests::api_server::{ApiServer, Door, Effect, Fault};
use tokio::time::sleep;

/// How long an event may take to be there, on a busy machine.
const TOLD_MAX: Duration = Duration::from_mins(1);

fn publisher(kubeconfig: &std::path::Path) -> Publisher {
    let kubeconfig = kubeconfig.display().to_string();
    let connection = ClientConnection { kubeconfig, ..ClientConnection::default() };
    Publisher::connect(connection, "gw-1")
}

fn lost_backends() -> Event {
    let subject = Subject::Service(ObjectKey::new("shop", "web"));
    Event::new(subject, Reason::NoReadyBackends, "no ready endpoint for port 80/TCP")
}

async fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + TOLD_MAX;
    while Instant::now() < deadline {
        if is_so() {
            return Ok(());
        }
        sleep(Duration::from_millis(10)).await;
    }
    anyhow::bail!("not within {} s: {what}", TOLD_MAX.as_secs())
}

#[tokio::test]
async fn an_event_of_a_service_is_one_object_however_often_it_comes() -> Result<()> {
    let server = ApiServer::start(Door::Tls)?;
    server.set_tokens(Some(&["secret"]));
    let publisher = publisher(&server.kubeconfig("{token: secret}")?);
    publisher.publish(lost_backends(), Some("u-1".into()));
    publisher.publish(lost_backends(), Some("u-1".into()));
    let count = |events: &[Value]| events.first().map(|event| event["series"]["count"].clone());
    wait_until("it is counted", || count(&server.objects("events")) == Some(2.into())).await?;
    let events = server.objects("events");
    ensure!(events.len() == 1, "{events:?}");
    let told = ["reason", "type", "note", "reportingController", "reportingInstance"];
    let told: Vec<_> = told.iter().map(|field| events[0][*field].as_str()).collect();
    let note = "no ready endpoint for port 80/TCP";
    let expected = ["NoReadyBackends", "Warning", note, "tidegate.dev/node", "gw-1"];
    ensure!(told == expected.map(Some), "{told:?}");
    ensure!(events[0]["regarding"]["uid"] == "u-1", "{}", events[0]);
    ensure!(publisher.lost() == 0, "{} lost", publisher.lost());
    Ok(())
}

#[tokio::test]
async fn events_that_the_server_refuses_are_counted_and_later_ones_arrive() -> Result<()> {
    let server = ApiServer::start(Door::Open)?;
    server.fail(Fault::always(Effect::Status(500)));
    let publisher = publisher(&server.kubeconfig("{}")?);
    publisher.publish(lost_backends(), None);
    wait_until("it is lost", || publisher.lost() == 1).await?;
    server.heal();
    let node = Event::new(Subject::Node("gw-1".into()), Reason::XdpAttached, "eth0: native XDP");
    publisher.publish(node, None);
    let is_there = || server.objects("events").iter().any(|e| e["reason"] == "XdpAttached");
    wait_until("the next is there", is_there).await?;
    ensure!(publisher.lost() == 1, "{} lost", publisher.lost());
    Ok(())
}
