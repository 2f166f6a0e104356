//! Frames in and out of one interface, past the stack of its namespace.
#![expect(unsafe_code, reason = "packet(7) has no safe face in the standard library")]

use crate::shuffle::CHOSEN_QUEUE_MARK;
use anyhow::{Context as _, Result, ensure};
use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsRawFd, FromRawFd as _, OwnedFd};
use tidegate_control::demo::rig::NetNs;

/// What a tap may hold before it is read: far more than one batch of packets.
const BUFFER_BYTES: libc::c_int = 4 << 20;

/// No frame of the rig is longer.
const FRAME_BYTES_MAX: usize = 2048;

/// A packet socket on `eth0` of a namespace whose own stack hears nothing but ARP and neighbour
/// discovery: nobody there answers but the test.
#[derive(Debug)]
pub(super) struct Tap {
    socket: File,
    /// The interface's link address.
    pub(super) mac: [u8; 6],
}

impl Tap {
    /// Silences the namespace and opens its `eth0`.
    pub(super) fn open(netns: &NetNs) -> Result<Self> {
        silence(netns)?;
        let index = netns.run("cat /sys/class/net/eth0/ifindex")?;
        let index: i32 = index.trim().parse().context("read eth0's number")?;
        let mac = mac_of(netns, "eth0")?;
        let socket = netns.enter(|| open(index))?;
        let socket = socket.with_context(|| format!("open eth0 of {}", netns.name()))?;
        Ok(Self { socket, mac })
    }

    /// Sends on a queue of the gateway by chance, or on this one, where packets are shuffled.
    pub(super) fn choose_queue(&self, queue: Option<u32>) -> Result<()> {
        let mark = queue.map_or(0, |queue| CHOSEN_QUEUE_MARK + queue);
        let mark = libc::c_int::try_from(mark)?;
        set_option(&self.socket, libc::SOL_SOCKET, libc::SO_MARK, mark).context("choose a queue")
    }

    /// Sends one frame.
    pub(super) fn send(&mut self, frame: &[u8]) -> Result<()> {
        let sent = self.socket.write(frame).context("send a frame")?;
        ensure!(sent == frame.len(), "only {sent} of {} bytes were sent", frame.len());
        Ok(())
    }

    /// The next frame that came in; `None` if there is none now.
    pub(super) fn receive(&mut self) -> Result<Option<Vec<u8>>> {
        let mut frame = vec![0; FRAME_BYTES_MAX];
        match self.socket.read(&mut frame) {
            Ok(length) => {
                frame.truncate(length);
                Ok(Some(frame))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error).context("receive a frame"),
        }
    }
}

/// The link address of an interface.
pub(super) fn mac_of(netns: &NetNs, interface: &str) -> Result<[u8; 6]> {
    let text = netns.run(&format!("cat /sys/class/net/{interface}/address"))?;
    let bytes: Result<Vec<u8>, _> =
        text.trim().split(':').map(|byte| u8::from_str_radix(byte, 16)).collect();
    let bytes = bytes.with_context(|| format!("read {interface}'s address"))?;
    bytes.try_into().ok().with_context(|| format!("read {interface}'s address {text}"))
}

/// Packet sockets see frames before this hook does.
fn silence(netns: &NetNs) -> Result<()> {
    let neighbours = "{ nd-neighbor-solicit, nd-neighbor-advert }";
    let rules = format!(
        "add table netdev silence ; add chain netdev silence input \
         {{ type filter hook ingress device eth0 priority 0 ; }} ; \
         add rule netdev silence input ether type arp accept ; \
         add rule netdev silence input icmpv6 type {neighbours} accept ; \
         add rule netdev silence input drop"
    );
    netns.run(&format!("nft {rules}"))?;
    Ok(())
}

/// `ETH_P_ALL` and `AF_PACKET`, as wide as the kernel has them in an address.
const EVERY_PROTOCOL: u16 = 0x0003;
const PACKET_FAMILY: libc::sa_family_t = 17;

fn length_of<T>(value: &T) -> libc::socklen_t {
    libc::socklen_t::try_from(size_of_val(value)).unwrap_or_default()
}

fn open(interface: i32) -> std::io::Result<File> {
    let every_protocol = EVERY_PROTOCOL.to_be();
    let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind, i32::from(every_protocol)) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: a file descriptor that the kernel just gave us, and nobody else has.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, BUFFER_BYTES)?;
    set_option(&socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
    let address = libc::sockaddr_ll {
        sll_family: PACKET_FAMILY,
        sll_protocol: every_protocol,
        sll_ifindex: interface,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = length_of(&address);
    // SAFETY: the pointer and length are those of `address`.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if result != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(File::from(socket))
}

fn set_option(
    socket: &impl AsRawFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> std::io::Result<()> {
    let length = length_of(&value);
    let (fd, value) = (socket.as_raw_fd(), (&raw const value).cast());
    // SAFETY: the pointer and length are those of the parameter, which outlives the call.
    let result = unsafe { libc::setsockopt(fd, level, name, value, length) };
    if result != 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}
