//! The rows of health, asked by a real HTTP client over loopback.

use super::*;
use crate::admin::query::{Query, mailbox};
use crate::cli::view::fixtures;
use crate::health::view::ServiceCheck;
use crate::health::{Freshness, SYNC_PERIOD};
use core::fmt::Write as _;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::time::{Duration, SystemTime};
use tidegate_dataplane::types::L4Port;
use tokio::net::TcpStream;

/// Listeners of a node on 127.0.0.1, and what they answer from.
struct Node {
    view: watch::Sender<HealthView>,
    doors: Doors,
    counts: Arc<AnswerCounts>,
}

impl Node {
    fn new() -> Self {
        let view = watch::Sender::new(HealthView { is_eligible: true, ..HealthView::default() });
        let (counts, (mailbox, mut queries)) = (Arc::<AnswerCounts>::default(), mailbox());
        let doors = Doors::new(view.subscribe(), Arc::clone(&counts), mailbox);
        tokio::spawn(async move {
            while let Some(query) = queries.recv().await {
                if let Query::Status(to) = query {
                    assert!(to.send(fixtures::status()).is_ok());
                }
            }
        });
        Self { view, doors, counts }
    }

    /// Listens for health checks of the node itself.
    fn of_itself() -> (Self, SocketAddr) {
        let (mut node, address) = (Self::new(), SocketAddr::from(([127, 0, 0, 1], free_port())));
        let purpose = Purpose::Node(Answers::Health);
        assert_eq!(node.doors.follow([(address, purpose)].into(), Instant::now()), []);
        (node, address)
    }

    /// Follows these Services: name, port, local ready endpoints.
    fn follow(&mut self, services: &[(&str, u16, usize)], now: Instant) -> Vec<Move> {
        let check = |port, local_ready| ServiceCheck { port: L4Port::new(port), local_ready };
        let checks: ServiceChecks =
            services.iter().map(|(name, port, n)| (key(name), check(*port, *n))).collect();
        let mut wanted = BTreeMap::new();
        service_purposes(&checks, &[IpAddr::from([127, 0, 0, 1])], &mut wanted);
        self.view.send_modify(|view| view.services = Arc::new(checks));
        self.doors.follow(wanted, now)
    }

    fn age(&self, by: Duration) {
        let mut freshness = Freshness::default();
        freshness.queued(Instant::now().checked_sub(by).unwrap());
        self.view.send_modify(|view| view.freshness = freshness);
    }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("shop", name)
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// The answer as text: status, headers in their order, an empty line, body.
async fn ask(address: SocketAddr, path: &str) -> Option<String> {
    let stream = TcpStream::connect(address).await.ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    let request = hyper::Request::get(path).header("host", "node");
    let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.ok()?;
    let mut text = format!("{}\n", response.status().as_u16());
    let told = ["content-type", "x-content-type-options", "x-load-balancing-endpoint-weight"];
    for name in told {
        if let Some(value) = response.headers().get(name) {
            writeln!(text, "{name}: {}", value.to_str().unwrap()).unwrap();
        }
    }
    let body = response.into_body().collect().await.ok()?.to_bytes();
    Some(text + "\n" + std::str::from_utf8(&body).unwrap())
}

async fn at(port: u16, path: &str) -> Option<String> {
    ask(SocketAddr::from(([127, 0, 0, 1], port)), path).await
}

async fn status(port: u16) -> Option<String> {
    at(port, "/healthz").await.map(|text| text.lines().next().unwrap().to_owned())
}

#[tokio::test]
async fn h1_the_listener_opens_closes_and_is_renumbered_with_its_service() {
    let (mut node, first, second) = (Node::new(), free_port(), free_port());
    node.follow(&[("web", first, 1)], Instant::now());
    assert_eq!(status(first).await.as_deref(), Some("200"));
    node.follow(&[("web", second, 1)], Instant::now());
    assert_eq!(status(second).await.as_deref(), Some("200"));
    wait_until_closed(first).await;
    node.follow(&[], Instant::now());
    wait_until_closed(second).await;
}

/// The task that has the socket ends at its next turn.
async fn wait_until_closed(port: u16) {
    for _ in 0..1_000 {
        if status(port).await.is_none() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("{port} still answers");
}

#[tokio::test]
async fn h2_a_port_that_is_held_is_told_once_and_taken_when_it_frees() {
    let rival = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = rival.local_addr().unwrap().port();
    let (mut node, start) = (Node::new(), Instant::now());
    let told = node.follow(&[("web", port, 1)], start);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].service, key("web"));
    let words = &told[0].refusal.words;
    let begin =
        format!("healthCheckNodePort of Service shop/web: cannot listen on 127.0.0.1:{port}");
    assert!(words.starts_with(&begin) && words.contains("Address already in use"), "{words}");
    assert!(words.ends_with("tidegate itself answers there, for another purpose"), "{words}");
    assert_eq!(node.doors.refusals().count(), 1);

    let mut later = start;
    let mut next = || {
        later += Duration::from_secs(5);
        later
    };
    assert_eq!(node.follow(&[("web", port, 1)], next()), [], "told again");
    drop(rival);
    assert_eq!(node.follow(&[("web", port, 1)], next()), []);
    assert_eq!(status(port).await.as_deref(), Some("200"));
    assert_eq!(node.doors.refusals().count(), 0);
}

#[tokio::test]
async fn h2_a_check_binds_the_addresses_that_serve_node_ports() {
    let addresses = ["192.0.2.1", "198.51.100.1", "2001:db8::1"].map(|a| a.parse().unwrap());
    assert_eq!(check_addresses(addresses, false), addresses);
    let everywhere: [IpAddr; 2] = ["0.0.0.0", "::"].map(|a| a.parse().unwrap());
    assert_eq!(check_addresses(addresses, true), everywhere);
    assert_eq!(check_addresses([addresses[0]], true), [everywhere[0]]);
}

#[tokio::test]
async fn h3_h4_h6_h7_any_path_tells_the_local_endpoints() {
    let (mut node, port) = (Node::new(), free_port());
    node.follow(&[("web", port, 2)], Instant::now());
    let good = "200\ncontent-type: application/json\nx-content-type-options: nosniff\n\
                x-load-balancing-endpoint-weight: 2\n\n{\n\t\"service\": {\n\t\t\"namespace\": \
                \"shop\",\n\t\t\"name\": \"web\"\n\t},\n\t\"localEndpoints\": \
                2,\n\t\"serviceProxyHealthy\": true\n}";
    for path in ["/", "/healthz", "/any/path?query"] {
        assert_eq!(at(port, path).await.as_deref(), Some(good), "{path}");
    }
    node.follow(&[("web", port, 0)], Instant::now());
    let none = good.replace("200\n", "503\n").replace("weight: 2", "weight: 0");
    let none = none.replace("\"localEndpoints\": 2", "\"localEndpoints\": 0");
    assert_eq!(at(port, "/healthz").await, Some(none));
}

#[tokio::test]
async fn h4_a_proxy_that_does_not_follow_fails_the_check_of_a_service_with_endpoints() {
    let (mut node, port) = (Node::new(), free_port());
    node.follow(&[("web", port, 2)], Instant::now());
    node.age(2 * SYNC_PERIOD);
    let text = at(port, "/").await.unwrap();
    assert!(text.starts_with("503") && text.contains("weight: 2"), "{text}");
    assert!(text.contains("\"serviceProxyHealthy\": false"), "{text}");
}

/// Status and body with every time as `T`.
async fn timeless(address: SocketAddr, path: &str) -> String {
    let text = ask(address, path).await.unwrap();
    let (head, body) = text.split_once("\n\n").unwrap();
    let (status, headers) = head.split_once('\n').unwrap();
    assert_eq!(headers, "content-type: application/json\nx-content-type-options: nosniff");
    let is_time = |part: &str| part.len() > 10 && part.as_bytes()[4] == b'-';
    let parts = body.split('"').map(|part| if is_time(part) { "T" } else { part });
    format!("{status} {}", parts.collect::<Vec<_>>().join("\""))
}

/// The end of the body.
fn families(healthy: bool) -> String {
    let family = format!("{{\"lastUpdated\":\"T\",\"healthy\":{healthy}}}");
    format!("\"status\":{{\"IPv4\":{family},\"IPv6\":{family}}}}}")
}

#[tokio::test]
async fn h9_h10_h12_h13_a_node_that_goes_fails_healthz_and_stays_alive() {
    let (node, address) = Node::of_itself();
    let head = "200 {\"lastUpdated\":\"T\",\"currentTime\":\"T\",\"nodeEligible\":true,\
                \"healthy\":true";
    let healthy = format!("{head},{}", families(true));
    assert_eq!(timeless(address, "/healthz").await, healthy);
    node.view.send_modify(|view| view.is_eligible = false);
    let leaving = healthy.replace("200", "503").replace("Eligible\":true", "Eligible\":false");
    assert_eq!(timeless(address, "/healthz").await, leaving);
    let alive = healthy.replace("\"nodeEligible\":true,", "");
    assert_eq!(timeless(address, "/livez").await, alive);
    assert_eq!((node.counts.healthz(), node.counts.livez()), ([1, 1], [0, 1]));
}

#[tokio::test]
async fn h11_changes_that_wait_for_two_sync_periods_fail_both() {
    let (node, address) = Node::of_itself();
    node.age(SYNC_PERIOD + Duration::from_secs(20));
    assert!(timeless(address, "/healthz").await.starts_with("200"));
    node.age(2 * SYNC_PERIOD);
    let head = "503 {\"lastUpdated\":\"T\",\"currentTime\":\"T\",\"healthy\":false";
    let late = format!("{head},{}", families(false));
    assert_eq!(timeless(address, "/livez").await, late);
    assert!(timeless(address, "/healthz").await.starts_with("503"));
    node.view.send_modify(|view| view.freshness.published(SystemTime::now()));
    assert!(timeless(address, "/healthz").await.starts_with("200"));
}

#[tokio::test]
async fn readiness_names_each_check_and_other_paths_are_not_there() {
    let (_node, address) = Node::of_itself();
    let text = ask(address, "/readyz?verbose").await.unwrap();
    assert!(text.starts_with("503") && text.contains("[-]interfaces failed"), "{text}");
    for path in ["/metrics", "/api/v1/status"] {
        assert!(ask(address, path).await.unwrap().starts_with("404"), "{path}");
    }
}

#[tokio::test]
async fn a_stranger_that_says_nothing_keeps_nobody_out() {
    let (_node, address) = Node::of_itself();
    let mut silent = Vec::new();
    for _ in 0..32 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    assert!(timeless(address, "/healthz").await.starts_with("200"));
}

#[test]
fn one_address_for_health_and_metrics_is_one_listener() {
    let mut config = Config::default();
    let purposes = |config: &Config| {
        let listed = node_purposes(config).into_iter();
        listed.map(|(address, purpose)| format!("{address} {purpose}")).collect::<Vec<_>>()
    };
    let both = "0.0.0.0:10271 healthzBindAddress and metricsBindAddress";
    assert_eq!(purposes(&config), [both, "127.0.0.1:10270 adminBindAddress"]);
    config.admin_bind_address.0 = String::new().try_into().unwrap();
    assert_eq!(purposes(&config), [both]);
    config.metrics_bind_address = "127.0.0.1:9".to_owned().try_into().unwrap();
    let two = ["0.0.0.0:10271 healthzBindAddress", "127.0.0.1:9 metricsBindAddress"];
    assert_eq!(purposes(&config), two);
    config.healthz_bind_address = String::new().try_into().unwrap();
    assert_eq!(purposes(&config), two[1..]);
}
