//! The interface that clients come by.

use crate::{ONE_WORKER, PATIENCE, Shape, TWO_WORKERS, flap, start_with};
use anyhow::Result;
use core::net::{IpAddr, SocketAddr};
use tidegate_control::admin::report::StatusReport;
use tidegate_control::demo::rig::{CLIENT, CLIENT_V6, GATEWAY, GATEWAY_V6, NetNs};
use tidegate_control::demo::site::{HTTP_CLUSTER, UDP_CLUSTER};
use tidegate_tests::bystander;
use tidegate_tests::lab::{FAMILIES, Lab};
use tidegate_tests::load::{self, Answers};
use tidegate_tests::setting::wait_until;
use tidegate_tests::steady::{Steady, steadily};

/// A second address of the gateway towards its clients.
const SECOND: [&str; 2] = ["192.0.2.99/24", "2001:db8:1::99/64"];

const ALL_ADDRESSES: (&str, &str) = ("interfaces:", "nodePortAddresses: [all]\ninterfaces:");

type Ask = fn(&NetNs, SocketAddr, u32, u32) -> Result<Answers>;

fn changes(shape: Shape) -> Result<()> {
    let lab = start_with(shape, &[ALL_ADDRESSES])?;
    steadily(&lab, (HTTP_CLUSTER, UDP_CLUSTER), |steady| {
        let (gateway, client) = (lab.rig().gateway(), lab.rig().client());
        steady.change("the clients' link was down", || flap(gateway, "eth0"))?;
        steady.change("it had no carrier", || {
            flap(client, "eth0")?;
            give_ways(client)?;
            kernel_answers(&lab)
        })?;
        steady.change("the gateway has another link address", || {
            gateway.ip("link set eth0 address 02:00:00:00:cc:01")?;
            // Had it missed the announcement, it would ask anew after half a minute only.
            client.ip("neigh flush dev eth0")?;
            Ok(())
        })?;
        steady.change("the client has another link address", || {
            client.ip("link set eth0 address 02:00:00:00:cc:02")?;
            Ok(())
        })?;
        addresses_that_come_and_go(&lab)?;
        replaced(&lab, shape, steady)
    })?;
    lab.finish()
}

fn give_ways(client: &NetNs) -> Result<()> {
    client.ip(&format!("route replace default via {GATEWAY}"))?;
    client.ip(&format!("route replace default via {GATEWAY_V6}"))?;
    Ok(())
}

/// The client's first question for the gateway's link address may be lost while its link comes up,
/// and it asks again after a second; with which tidegate has nothing to do.
fn kernel_answers(lab: &Lab) -> Result<()> {
    FAMILIES.into_iter().try_for_each(|family| bystander::connect(lab.rig(), family).map(drop))
}

/// Fronts follow the node's addresses.
fn addresses_that_come_and_go(lab: &Lab) -> Result<()> {
    let gateway = lab.rig().gateway();
    let fronts = || lab.report::<StatusReport>("/api/v1/status").map(|status| status.source.fronts);
    let before = fronts()?;
    for net in SECOND {
        let address: IpAddr = net.split('/').next().unwrap_or_default().parse()?;
        gateway.ip(&format!("addr add {net} dev eth0"))?;
        let ports: [(u16, Ask); 2] = [(HTTP_CLUSTER, load::http), (UDP_CLUSTER, load::udp)];
        for (port, ask) in ports {
            let to = SocketAddr::new(address, port);
            let is_served =
                || ask(lab.rig().client(), to, 1, 1).is_ok_and(|answers| answers.answered() == 1);
            wait_until("the new address is served", PATIENCE, is_served)?;
        }
        gateway.ip(&format!("addr del {net} dev eth0"))?;
        let is_gone = || fronts().is_ok_and(|now| now == before);
        wait_until("it is served no more", PATIENCE, is_gone)?;
    }
    Ok(())
}

/// A card that goes away and returns. Until tidegate has it, it has no address: a packet that came
/// before would be the kernel's, which would reset what it does not know.
fn replaced(lab: &Lab, (queues, _): Shape, steady: &Steady<'_>) -> Result<()> {
    let (gateway, client) = (lab.rig().gateway(), lab.rig().client());
    steady.change("the gateway's card was another one for a while", || {
        gateway.ip("link del eth0")?;
        let is_gone = || lab.interfaces().is_ok_and(|list| list.iter().all(|i| i.name != "eth0"));
        wait_until("it is gone", PATIENCE, is_gone)?;
        let queues = format!("numrxqueues {queues} numtxqueues {queues}");
        let peer = format!("type veth peer name eth0 {queues} netns {}", client.name());
        gateway.ip(&format!("link add eth0 {queues} {peer}"))?;
        let is_back = || {
            let list = lab.interfaces().unwrap_or_default();
            list.iter().any(|interface| interface.name == "eth0" && interface.attached)
        };
        wait_until("it is attached", PATIENCE, is_back)?;
        client.ip("link set eth0 up")?;
        client.ip(&format!("addr add {CLIENT}/24 dev eth0"))?;
        client.ip(&format!("addr add {CLIENT_V6}/64 dev eth0"))?;
        give_ways(client)?;
        gateway.ip("link set eth0 up")?;
        gateway.ip(&format!("addr add {GATEWAY}/24 dev eth0"))?;
        gateway.ip(&format!("addr add {GATEWAY_V6}/64 dev eth0"))?;
        kernel_answers(lab)
    })
}

#[test]
fn the_clients_interface_may_flap_change_and_return() -> Result<()> {
    changes(ONE_WORKER)
}

#[test]
fn the_clients_interface_may_flap_change_and_return_with_two_workers() -> Result<()> {
    changes(TWO_WORKERS)
}
