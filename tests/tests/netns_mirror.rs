//! The mirror of the kernel's tables, and the devices of the road back, against a real kernel.

use anyhow::{Context as _, Result};
use core::net::IpAddr;
use core::time::Duration;
use std::future::Future;
use std::process;
use tidegate_control::demo::rig::NetNs;
use tidegate_control::netlink::{
    KernelRoadDevices, Mirror, NetlinkError, NetworkState, NextHopResolution, ROAD_DEVICE,
    ROAD_PEER,
};
use tidegate_dataplane::types::{IfIndex, MacAddress};
use tidegate_tests::setting::{self, take_turn};

/// How long the kernel may take for what it does by itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// Two namespaces joined by `eth0` (10.1.0.1/24, 2001:db8:1::1/64, fe80::1) and `far0`
/// (10.1.0.2/24, 2001:db8:1::2/64, fe80::2; ..:02).
fn pair(name: &str) -> Result<(NetNs, NetNs)> {
    let create = |end| NetNs::create(&format!("test-{}-{name}-{end}", process::id()));
    let (near, far) = (create("near")?, create("far")?);
    near.ip(&format!("link add eth0 type veth peer name far0 netns {}", far.name()))?;
    far.ip("link set far0 address 02:00:00:00:00:02 up")?;
    near.ip("link set eth0 up")?;
    for (netns, device, number) in [(&near, "eth0", 1), (&far, "far0", 2)] {
        netns.ip(&format!("address add 10.1.0.{number}/24 dev {device}"))?;
        for address in [format!("2001:db8:1::{number}/64"), format!("fe80::{number}/64")] {
            netns.ip(&format!("address add {address} dev {device} nodad"))?;
        }
    }
    Ok((near, far))
}

/// Runs `work` inside, in a runtime of its own.
fn inside<F: Future<Output = Result<()>>>(
    netns: &NetNs,
    work: impl FnOnce() -> F + Send,
) -> Result<()> {
    netns.enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(work())
    })?
}

/// Waits until the mirror's state is as `is_so` says.
async fn wait_until(
    mirror: &Mirror,
    what: &str,
    is_so: impl FnMut(&NetworkState) -> bool,
) -> Result<()> {
    let mut states = mirror.subscribe();
    let wait = tokio::time::timeout(PATIENCE, states.wait_for(is_so)).await;
    wait.with_context(|| format!("{what}: {:?}", mirror.state()))?.map(drop).context("mirror ended")
}

fn via(state: &NetworkState, to: &str) -> Option<(IfIndex, IpAddr, Option<MacAddress>)> {
    match state.resolve(to.parse().ok()?) {
        NextHopResolution::Via { interface, neighbour, mac, .. } => {
            Some((interface, neighbour, mac))
        }
        NextHopResolution::Local | NextHopResolution::NoRoute => None,
    }
}

#[test]
fn asked_again_it_sees_what_the_kernel_changed_without_an_event() -> Result<()> {
    let netns = NetNs::create(&format!("test-{}-again", process::id()))?;
    netns.ip("link add eth0 numrxqueues 4 type veth peer name far0 numtxqueues 4")?;
    netns.run("ethtool -L eth0 rx 1")?;
    inside(&netns, || async {
        let mirror = Mirror::start().await?;
        let queues = |state: &NetworkState| {
            state.links.values().find(|link| &*link.name == "eth0").map(|link| link.rx_queue_count)
        };
        assert_eq!(queues(&mirror.state()), Some(1));
        netns.run("ethtool -L eth0 rx 3")?;
        mirror.read_links_again();
        wait_until(&mirror, "three queues", |state| queues(state) == Some(3)).await
    })
}

#[test]
fn the_mirror_follows_routes_links_and_addresses() -> Result<()> {
    let _turn = take_turn()?;
    let (near, _far) = pair("routes")?;
    near.ip("route add 10.2.0.0/16 via 10.1.0.2 metric 50")?;
    near.ip("route add blackhole 10.2.9.0/24")?;
    inside(&near, || async {
        let mirror = Mirror::start().await?;
        let state = mirror.state();
        let eth0 = state.link_named("eth0").context("eth0")?.clone();
        assert_eq!((&*eth0.kind, eth0.mtu_bytes, eth0.is_ethernet), ("veth", 1500, true));
        assert_eq!(state.resolve("10.1.0.1".parse()?), NextHopResolution::Local);
        assert_eq!(state.resolve("10.2.9.1".parse()?), NextHopResolution::NoRoute);
        assert_eq!(state.resolve("192.0.2.1".parse()?), NextHopResolution::NoRoute);
        let gateway = Some((eth0.index, "10.1.0.2".parse::<IpAddr>()?));
        let hop = |state: &NetworkState, to| via(state, to).map(|(index, hop, _)| (index, hop));
        assert_eq!(hop(&state, "10.2.1.1"), gateway);
        near.ip("route add 10.2.1.0/24 dev eth0 src 10.1.0.1")?;
        let direct = Some((eth0.index, "10.2.1.1".parse::<IpAddr>()?));
        wait_until(&mirror, "a longer prefix wins", |s| hop(s, "10.2.1.1") == direct).await?;
        near.ip("route del 10.2.1.0/24")?;
        wait_until(&mirror, "a removed route", |s| hop(s, "10.2.1.1") == gateway).await?;
        // The kernel removes the routes without an event of their own.
        near.ip("link set eth0 down")?;
        wait_until(&mirror, "a link down", |s| via(s, "10.2.1.1").is_none()).await?;
        near.ip("link set eth0 up")?;
        near.ip("address add 10.9.0.1/24 dev eth0")?;
        wait_until(&mirror, "a new address", |s| via(s, "10.9.0.7").is_some()).await?;
        near.ip("address del 10.9.0.1/24 dev eth0")?;
        wait_until(&mirror, "its removal", |s| via(s, "10.9.0.7").is_none()).await?;
        near.ip("link del eth0")?;
        wait_until(&mirror, "a link gone", |s| s.link_named("eth0").is_none()).await
    })
}

#[test]
fn the_mirror_follows_ipv6_routes_of_every_kind() -> Result<()> {
    let _turn = take_turn()?;
    let (near, _far) = pair("routes6")?;
    for route in [
        "2001:db8:2::/48 via 2001:db8:1::2 metric 50",
        "blackhole 2001:db8:2:9::/64",
        "2001:db8:3::/48 via fe80::2 dev eth0",
        "2001:db8:4::/48 via 2001:db8:77::7 dev eth0 onlink",
        "2001:db8:5::/48 nexthop via fe80::2 dev eth0 nexthop via 2001:db8:1::2 dev eth0",
        "2001:db8:6::/48 via fe80::2 dev eth0 mtu 1400 src 2001:db8:1::1",
    ] {
        near.ip(&format!("-6 route add {route}"))?;
    }
    // An IPv4 route may have an IPv6 next hop (RFC 8950).
    near.ip("route add 10.6.0.0/16 via inet6 fe80::2 dev eth0")?;
    inside(&near, || async {
        let mirror = Mirror::start().await?;
        let state = mirror.state();
        let hop = |state: &NetworkState, to| via(state, to).map(|(_, hop, _)| hop.to_string());
        let is = |to, expected: Option<&str>| assert_eq!(hop(&state, to).as_deref(), expected);
        is("2001:db8:1::9", Some("2001:db8:1::9"));
        is("2001:db8:2::9", Some("2001:db8:1::2"));
        is("2001:db8:2:9::9", None);
        is("2001:db8:3::9", Some("fe80::2"));
        is("2001:db8:4::9", Some("2001:db8:77::7"));
        assert!(
            ["fe80::2", "2001:db8:1::2"]
                .map(Some)
                .contains(&hop(&state, "2001:db8:5::9").as_deref())
        );
        is("2001:db8:99::9", None);
        is("10.6.0.9", Some("fe80::2"));
        assert_eq!(state.resolve("2001:db8:1::1".parse()?), NextHopResolution::Local);
        let limited = state.resolve("2001:db8:6::9".parse()?);
        let source = Some("2001:db8:1::1".parse()?);
        let is_limited = matches!(&limited, NextHopResolution::Via { mtu_bytes: Some(1400),
            source: own, .. } if *own == source);
        assert!(is_limited, "{limited:?}");
        near.ip("-6 route add 2001:db8:2:1::/64 via fe80::2 dev eth0")?;
        let longer = |s: &NetworkState| hop(s, "2001:db8:2:1::9").as_deref() == Some("fe80::2");
        wait_until(&mirror, "a longer prefix wins", longer).await?;
        near.ip("link set eth0 down")?;
        wait_until(&mirror, "a link down", |s| via(s, "2001:db8:3::9").is_none()).await
    })
}

#[test]
fn an_ipv6_address_is_ours_once_duplicates_are_ruled_out() -> Result<()> {
    let _turn = take_turn()?;
    let (near, far) = pair("dad")?;
    inside(&near, || async {
        let mirror = Mirror::start().await?;
        let own = |s: &NetworkState, to: &str| to.parse().is_ok_and(|to| s.is_own(to));
        // Both at once: when the free one is ours, detection had its time for the taken one too.
        far.ip("address add 2001:db8:1::66/64 dev far0 nodad")?;
        near.ip("address add 2001:db8:1::66/64 dev eth0")?;
        near.ip("address add 2001:db8:1::77/64 dev eth0")?;
        wait_until(&mirror, "the free address", |s| own(s, "2001:db8:1::77")).await?;
        let refused = || near.ip("-6 address show dadfailed").is_ok_and(|t| t.contains("::66/"));
        setting::wait_until("the taken address is refused", PATIENCE, refused)?;
        assert!(!own(&mirror.state(), "2001:db8:1::66"));
        near.ip("address change 2001:db8:1::77/64 dev eth0 preferred_lft 0")?;
        let is_passing = |s: &NetworkState| {
            let mut all = s.addresses.iter();
            all.any(|a| a.address.to_string() == "2001:db8:1::77" && !a.is_preferred)
        };
        wait_until(&mirror, "a deprecated address", is_passing).await?;
        near.ip("address del 2001:db8:1::77/64 dev eth0")?;
        wait_until(&mirror, "its removal", |s| !own(s, "2001:db8:1::77")).await
    })
}

#[test]
fn a_probed_neighbour_becomes_known_and_is_kept_so() -> Result<()> {
    let _turn = take_turn()?;
    for (name, address) in [("arp", "10.1.0.2"), ("nd", "2001:db8:1::2"), ("ndlink", "fe80::2")] {
        probe(name, address).with_context(|| format!("to probe {address}"))?;
    }
    Ok(())
}

fn probe(name: &str, address: &str) -> Result<()> {
    let (near, far) = pair(name)?;
    let target: IpAddr = address.parse()?;
    // A link-local neighbour is found as a gateway.
    let (to, net, beyond) = match target {
        IpAddr::V4(_) => (address, "10.3.0.0/16", "10.3.0.1"),
        IpAddr::V6(_) => ("2001:db8:3::1", "2001:db8:4::/48", "2001:db8:4::1"),
    };
    if target.is_ipv6() {
        near.ip(&format!("-6 route add {to} via {address} dev eth0"))?;
    }
    inside(&near, || async {
        let mirror = Mirror::start().await?;
        let eth0 = mirror.state().link_named("eth0").context("eth0")?.index;
        let known = |number| Some(MacAddress([2, 0, 0, 0, 0, number]));
        let mac = |state: &NetworkState| via(state, to).and_then(|(.., mac)| mac);
        assert_eq!(mac(&mirror.state()), None);
        mirror.probe_neighbour(eth0, target).await?;
        wait_until(&mirror, "the neighbour's link address", |s| mac(s) == known(2)).await?;
        let resolution = mirror.state().resolve(to.parse()?);
        let is_managed = matches!(resolution, NextHopResolution::Via { is_managed: true, .. });
        assert!(is_managed, "this kernel keeps a neighbour known when asked: {resolution:?}");
        far.ip("link set far0 address 02:00:00:00:00:03")?;
        let replace = format!("neighbour replace {address} dev eth0 lladdr 02:00:00:00:00:03 nud");
        near.ip(&format!("{replace} reachable"))?;
        wait_until(&mirror, "another link address", |s| mac(s) == known(3)).await?;
        let version = mirror.state().version;
        near.ip(&format!("{replace} delay"))?;
        near.ip(&format!("route add {net} via {address} dev eth0"))?;
        wait_until(&mirror, "a route", |s| via(s, beyond).is_some()).await?;
        assert!(mirror.state().version <= version + 2, "an ageing neighbour is no change");
        assert!(mirror.probe_neighbour(IfIndex(9999), target).await.is_err());
        Ok(())
    })
}

#[test]
fn the_road_is_made_anew_after_a_crash_and_spares_foreign_devices() -> Result<()> {
    let _turn = take_turn()?;
    let netns = NetNs::create(&format!("test-{}-road", process::id()))?;
    inside(&netns, || async {
        let mirror = Mirror::start().await?;
        let first = KernelRoadDevices::create(&mirror, 2).await?;
        let second = KernelRoadDevices::create(&mirror, 3).await?;
        assert_ne!(first, second, "the stale pair was removed");
        wait_until(&mirror, "both ends up", |state| {
            [ROAD_DEVICE, ROAD_PEER].iter().all(|name| {
                state.link_named(name).is_some_and(|link| {
                    link.is_up && link.rx_queue_count == 3 && link.mtu_bytes == 9000
                })
            })
        })
        .await?;
        assert_eq!(netns.ip("-6 address show dev tidegate0")?, "", "no link-local address");
        let road = second.kernel_road();
        let state = mirror.state();
        assert_eq!(state.link_named(&road.device).map(|l| l.index), Some(road.device_index));
        second.remove(&mirror).await?;
        wait_until(&mirror, "both ends gone", |s| s.link_named(ROAD_PEER).is_none()).await?;
        netns.ip("link add tidegate1 type bridge")?;
        let error = KernelRoadDevices::create(&mirror, 1).await.map(drop);
        assert!(matches!(&error, Err(NetlinkError::ForeignDevice { .. })), "{error:?}");
        assert!(netns.ip("link show").is_ok_and(|links| !links.contains(ROAD_DEVICE)));
        Ok(())
    })
}

#[test]
fn lost_events_cost_nothing_but_a_read() -> Result<()> {
    let _turn = take_turn()?;
    let (near, _far) = pair("flood")?;
    inside(&near, || async {
        let mirror = Mirror::start().await?;
        let folder = tempfile::tempdir()?;
        let batch = folder.path().join("routes");
        let line =
            |i: u32| format!("route add 10.{}.{}.0/24 via 10.1.0.2\n", 100 + i / 250, i % 250);
        std::fs::write(&batch, (0..8_000).map(line).collect::<String>())?;
        // The runtime has one thread, and this blocks it: the socket overflows meanwhile.
        near.ip(&format!("-batch {}", batch.display()))?;
        wait_until(&mirror, "the last of many routes", |s| via(s, "10.131.249.1").is_some())
            .await?;
        assert!(via(&mirror.state(), "10.100.0.1").is_some());
        Ok(())
    })
}
