//! SYNs from random sources that exist nowhere, from a namespace, as fast as a thread can write
//! them between short pauses: the test and tidegate share their cores.

use anyhow::{Context as _, Result};
use core::net::{IpAddr, SocketAddr};
use etherparse::PacketBuilder;
use rustix::net::{AddressFamily, SocketType, ipproto, socket};
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tidegate_control::demo::rig::NetNs;
use tidegate_dataplane::random::Random;

/// How long a pause is at least.
const PAUSE: Duration = Duration::from_millis(1);

/// Floods the fronts in turn until it is asked to stop, with `burst` SYNs to each between two
/// pauses. Returns how many were sent.
///
/// # Errors
/// A raw socket cannot be had, or a packet cannot be sent.
pub fn run(netns: &NetNs, fronts: &[SocketAddr], burst: u64, stop: &AtomicBool) -> Result<u64> {
    netns.enter(|| {
        let sockets = fronts.iter().map(|front| Ok((raw_socket(*front)?, *front)));
        let sockets: Vec<_> = sockets.collect::<Result<_>>()?;
        let (mut random, mut sent) = (Random::new(7), 0);
        while !stop.load(Ordering::Relaxed) {
            for (socket, front) in &sockets {
                for _ in 0..burst {
                    let packet = syn(*front, &mut random)?;
                    // The port of a raw socket's peer means nothing, and IPv6 wants it 0.
                    let to = SocketAddr::new(front.ip(), 0);
                    socket.send_to(&packet, to).context("send a SYN")?;
                }
                sent += burst;
            }
            std::thread::sleep(PAUSE);
        }
        Ok(sent)
    })?
}

/// It takes whole packets, with the header of IP.
fn raw_socket(like: SocketAddr) -> Result<UdpSocket> {
    let family = if like.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket(family, SocketType::RAW, Some(ipproto::RAW)).context("a raw socket")?;
    Ok(UdpSocket::from(socket))
}

fn syn(front: SocketAddr, random: &mut Random) -> Result<Vec<u8>> {
    let [a, b, c, d, e, f, g, h] = random.next_u64().to_ne_bytes();
    let ip = match front.ip() {
        // RFC 2544: nobody's.
        IpAddr::V4(to) => PacketBuilder::ipv4([198, 18 + a % 2, b, c], to.octets(), 64),
        // RFC 3849: nobody's.
        IpAddr::V6(to) => {
            let from = [0x20, 1, 0xd, 0xb8, 0xff, 0xff, a, b, c, d, 0, 0, 0, 0, 0, 1];
            PacketBuilder::ipv6(from, to.octets(), 64)
        }
    };
    let (port, isn) = (1024 + (u16::from_ne_bytes([d, e]) >> 1), u32::from_ne_bytes([e, f, g, h]));
    let mut packet = Vec::new();
    ip.tcp(port, front.port(), isn, 64_240).syn().write(&mut packet, &[])?;
    Ok(packet)
}
