//! SYN floods, and handshakes in the backend's place: real clients and servers, both families, both
//! policies.

use anyhow::{Context as _, Result, ensure};
use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tidegate_control::admin::report::{DropsReport, HandshakeReport, StatusReport};
use tidegate_control::demo::rig::RigPlan;
use tidegate_control::demo::site::{HTTP_CLUSTER, HTTP_LOCAL};
use tidegate_tests::flood;
use tidegate_tests::lab::{FAMILIES, FAR, Lab, NEAR, V4, V6, front, packets_of};
use tidegate_tests::load::{self, Session};
use tidegate_tests::setting::{self, wait_until};

const PATIENCE: Duration = Duration::from_secs(30);

/// The server that speaks first: its port in each pod, and its node ports.
const GREETER: u16 = 7_000;
const GREETER_CLUSTER: u16 = 30_082;
const GREETER_LOCAL: u16 = 30_083;

/// Every SYN gets a cookie.
const ALWAYS: (&str, &str) = ("loadBalancer:\n", "synProxy: always\nloadBalancer:\n");

/// A limit that the flood reaches at once: 2,048 handshakes.
const SMALL: (&str, &str) = ("loadBalancer:\n", "conntrack: {maxFlows: 16384}\nloadBalancer:\n");

/// What the daemon may grow by while a flood goes on, in KiB: reports and logs.
const GROWTH_KIB_MAX: u64 = 8 * 1024;

const MIB: u64 = 1 << 20;

/// SYNs to each front in a millisecond, at most.
const FAST: u64 = 64;
const SLOW: u64 = 8;

fn fronts() -> impl Iterator<Item = SocketAddr> {
    FAMILIES.into_iter().flat_map(|family| [HTTP_CLUSTER, HTTP_LOCAL].map(|p| front(family, p)))
}

fn handshakes(lab: &Lab) -> Result<HandshakeReport> {
    Ok(lab.report::<StatusReport>("/api/v1/status")?.handshakes)
}

fn resident_kib(lab: &mut Lab) -> Result<u64> {
    let daemon = lab.site_mut().daemon_mut().context("a daemon")?;
    setting::resident_kib(daemon.process().id())
}

/// Runs `work` while SYNs from nowhere come to these fronts.
fn under_flood(lab: &Lab, burst: u64, work: impl FnOnce() -> Result<()>) -> Result<u64> {
    let (stop, targets) = (AtomicBool::new(false), [V4, V6].map(|f| front(f, HTTP_CLUSTER)));
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| flood::run(lab.rig().client(), &targets, burst, &stop));
        let worked = work();
        stop.store(true, Ordering::Relaxed);
        let sent = flood.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        worked.map(|()| sent)
    })
}

fn sessions(lab: &Lab) -> Result<Vec<Session>> {
    let open = |to: SocketAddr| {
        (0..5).map(move |_| {
            let mut session = Session::open(lab.rig().client(), to)?;
            session.ask().map(|_| session)
        })
    };
    fronts().flat_map(open).collect()
}

fn survives_a_flood(changes: &[(&str, &str)], queues: u32) -> Result<()> {
    let mut lab = Lab::start(&RigPlan::new("test").queues(queues), changes)?;
    let mut live = sessions(&lab)?;
    // A first flood brings the tables in, and whatever else is made once.
    let is_proxying = || handshakes(&lab).is_ok_and(|h| h.cookies_sent > 10_000);
    under_flood(&lab, FAST, || wait_until("cookies are sent", PATIENCE, is_proxying))?;
    let before = (resident_kib(&mut lab)?, handshakes(&lab)?.cookies_sent);
    under_flood(&lab, FAST, || {
        for round in 0..5 {
            for session in &mut live {
                session.ask().with_context(|| format!("an established connection, {round}"))?;
            }
            fronts().try_for_each(|to| lab.http(to, 20).map(drop))?;
        }
        let more = || handshakes(&lab).is_ok_and(|h| h.cookies_sent > before.1 + 20_000);
        wait_until("the flood goes on", PATIENCE, more)
    })?;
    for session in &mut live {
        session.ask().context("an established connection after the flood")?;
    }
    let after = handshakes(&lab)?;
    ensure!(after.under_way <= after.limit, "{after:?}");
    ensure!(after.cookies_valid > 0, "{after:?}");
    let resident = resident_kib(&mut lab)?;
    ensure!(resident < before.0 + GROWTH_KIB_MAX, "{} KiB became {resident}", before.0);
    let drops: DropsReport = lab.report("/api/v1/drops")?;
    ensure!(packets_of(&drops.rejected, "SYN_COOKIE") > 20_000, "{:?}", drops.rejected);
    ensure!(packets_of(&drops.dropped, "FLOW_TABLE_FULL") == 0, "{:?}", drops.dropped);
    lab.finish()
}

#[test]
fn a_syn_flood_ends_no_flow_and_refuses_no_client() -> Result<()> {
    survives_a_flood(&[SMALL, ("cpus: auto", "cpus: [1]")], 1)
}

#[test]
fn a_syn_flood_over_two_workers_ends_no_flow_and_refuses_no_client() -> Result<()> {
    survives_a_flood(&[SMALL, ("cpus: auto", "cpus: [0, 1]")], 2)
}

/// Without cookies: the oldest handshakes give way, so whoever answers in time gets in. The limit
/// is 32,768 here and the flood slower: it takes longer to go round than a client to send a lost
/// ACK again, and what a worker without time loses is not taken for what the limit ends.
#[test]
fn without_a_syn_proxy_a_flood_ends_no_flow_either() -> Result<()> {
    let lab = Lab::start(
        &RigPlan::new("test"),
        &[("loadBalancer:\n", "conntrack: {maxFlows: 262144}\nsynProxy: off\nloadBalancer:\n")],
    )?;
    let mut live = sessions(&lab)?;
    let is_full = || handshakes(&lab).is_ok_and(|h| h.under_way == h.limit);
    under_flood(&lab, SLOW, || {
        wait_until("as many handshakes as may be", PATIENCE, is_full)?;
        live.iter_mut().try_for_each(|session| session.ask().map(drop))?;
        fronts().try_for_each(|to| lab.http(to, 10).map(drop))
    })?;
    live.iter_mut().try_for_each(|session| session.ask().map(drop))?;
    ensure!(handshakes(&lab)?.cookies_sent == 0);
    lab.finish()
}

#[test]
fn everything_works_where_every_syn_gets_a_cookie() -> Result<()> {
    everything_works(1, ("cpus: auto", "cpus: [1]"))
}

#[test]
fn everything_works_where_every_syn_gets_a_cookie_from_any_of_two_workers() -> Result<()> {
    everything_works(2, ("cpus: auto", "cpus: [0, 1]"))
}

fn everything_works(queues: u32, cpus: (&str, &str)) -> Result<()> {
    let lab = Lab::start(&RigPlan::new("test").queues(queues), &[ALWAYS, cpus])?;
    add_greeter(&lab)?;
    lose_some(&lab)?;
    let expected = (MIB, load::pattern_digest(MIB));
    let client = lab.rig().client();
    let mut connections = 0;
    for to in fronts() {
        lab.http(to, 50)?;
        let mut session = Session::open(client, to)?;
        (0..20).try_for_each(|_| session.ask().map(drop)).context("keep-alive")?;
        let got = load::download(client, to, &format!("/bytes/{MIB}"))?;
        ensure!(got == expected, "{got:?} from {to}");
        load::upload(client, to, MIB).with_context(|| format!("upload to {to}"))?;
        connections += 53;
    }
    for family in FAMILIES {
        for port in [GREETER_CLUSTER, GREETER_LOCAL] {
            greeted(&lab, front(family, port))?;
            connections += 1;
        }
    }
    let handshakes = handshakes(&lab)?;
    ensure!(handshakes.cookies_valid >= connections, "{handshakes:?}, {connections}");
    lab.finish()
}

/// Two of a hundred packets to the client are lost: it asks for them by selective acknowledgment.
fn lose_some(lab: &Lab) -> Result<()> {
    let rules = "add table netdev loss ; add chain netdev loss input \
                 { type filter hook ingress device eth0 priority 0 ; } ; \
                 add rule netdev loss input tcp flags & syn == 0 numgen random mod 50 == 0 drop";
    lab.rig().client().run(&format!("nft {rules}"))?;
    Ok(())
}

/// A Service whose pods speak before the client does.
fn add_greeter(lab: &Lab) -> Result<()> {
    for name in [NEAR, FAR[0], FAR[1]] {
        let pod = lab.site().pod(name).context("a pod")?;
        let listen = || TcpListener::bind((Ipv6Addr::UNSPECIFIED, GREETER));
        let listener = pod.netns().enter(listen)?.context("listen in the pod")?;
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                stream.write_all(b"hello").ok();
            }
        });
    }
    for (name, policy, port) in
        [("greeter", "Cluster", GREETER_CLUSTER), ("greeter-local", "Local", GREETER_LOCAL)]
    {
        let text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  type: NodePort\n  \
             ipFamilyPolicy: PreferDualStack\n  externalTrafficPolicy: {policy}\n  \
             selector: {{app: frontend}}\n  \
             ports: [{{port: 80, targetPort: {GREETER}, nodePort: {port}}}]\n"
        );
        lab.site().files().write_manifest(name, &text)?;
    }
    Ok(())
}

fn greeted(lab: &Lab, to: SocketAddr) -> Result<()> {
    let greeting = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut greeting = String::new();
        stream.read_to_string(&mut greeting)?;
        Ok(greeting)
    };
    let greet = || lab.rig().client().enter(greeting).ok()?.ok();
    // The Service may be new to tidegate.
    wait_until("a greeting", PATIENCE, || greet().as_deref() == Some("hello"))
}
