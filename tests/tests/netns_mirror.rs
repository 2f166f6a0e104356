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
use tidegate_tests::setting::take_turn;

/// Two namespaces joined by `eth0` (10.1.0.1/24) and `far0` (10.1.0.2/24, ..:02).
fn pair(name: &str) -> Result<(NetNs, NetNs)> {
    let create = |end| NetNs::create(&format!("test-{}-{name}-{end}", process::id()));
    let (near, far) = (create("near")?, create("far")?);
    near.ip(&format!("link add eth0 type veth peer name far0 netns {}", far.name()))?;
    far.ip("link set far0 address 02:00:00:00:00:02 up")?;
    far.ip("address add 10.1.0.2/24 dev far0")?;
    near.ip("link set eth0 up")?;
    near.ip("address add 10.1.0.1/24 dev eth0")?;
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
    let wait = tokio::time::timeout(Duration::from_secs(10), states.wait_for(is_so)).await;
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
fn a_probed_neighbour_becomes_known_and_is_kept_so() -> Result<()> {
    let _turn = take_turn()?;
    let (near, far) = pair("probe")?;
    inside(&near, || async {
        let mirror = Mirror::start().await?;
        let eth0 = mirror.state().link_named("eth0").context("eth0")?.index;
        let far_mac = Some(MacAddress([2, 0, 0, 0, 0, 2]));
        let mac = |state: &NetworkState| via(state, "10.1.0.2").and_then(|(.., mac)| mac);
        assert_eq!(mac(&mirror.state()), None);
        mirror.probe_neighbour(eth0, "10.1.0.2".parse()?).await?;
        wait_until(&mirror, "the neighbour's link address", |s| mac(s) == far_mac).await?;
        let resolution = mirror.state().resolve("10.1.0.2".parse()?);
        let is_managed = matches!(resolution, NextHopResolution::Via { is_managed: true, .. });
        assert!(is_managed, "this kernel keeps a neighbour known when asked: {resolution:?}");
        far.ip("link set far0 address 02:00:00:00:00:03")?;
        near.ip("neighbour replace 10.1.0.2 dev eth0 lladdr 02:00:00:00:00:03 nud reachable")?;
        let new = Some(MacAddress([2, 0, 0, 0, 0, 3]));
        wait_until(&mirror, "another link address", |s| mac(s) == new).await?;
        let version = mirror.state().version;
        near.ip("neighbour replace 10.1.0.2 dev eth0 lladdr 02:00:00:00:00:03 nud delay")?;
        near.ip("route add 10.3.0.0/16 via 10.1.0.2")?;
        wait_until(&mirror, "a route", |s| via(s, "10.3.0.1").is_some()).await?;
        assert!(mirror.state().version <= version + 2, "an ageing neighbour is no change");
        assert!(mirror.probe_neighbour(IfIndex(9999), "10.1.0.2".parse()?).await.is_err());
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
