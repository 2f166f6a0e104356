//! Frames as they are, on a link: packet(7).
#![expect(unsafe_code, reason = "packet(7) has no safe interface")]

use crate::types::IfIndex;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// The link behind an interface of this thread's namespace: what a packet capture sees, and what
/// leaves without the stack.
#[derive(Debug)]
pub struct Link(OwnedFd);

impl Link {
    /// Opens it. Frames that come from now on wait to be received.
    pub fn open(interface: IfIndex) -> Self {
        let every_protocol = u16::try_from(libc::ETH_P_ALL).unwrap().to_be();
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK;
        // SAFETY: no pointers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, every_protocol.into()) };
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        // SAFETY: a file descriptor that the kernel just gave us, and nobody else has.
        let link = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        let mut address = libc::sockaddr_ll {
            sll_family: u16::try_from(libc::AF_PACKET).unwrap(),
            sll_protocol: every_protocol,
            sll_ifindex: interface.0.cast_signed(),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let length = u32::try_from(size_of_val(&address)).unwrap();
        // SAFETY: the pointer and length are those of `address`.
        let result = unsafe { libc::bind(fd, (&raw mut address).cast(), length) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        link
    }

    /// Sends a frame.
    pub fn send(&self, frame: &[u8]) {
        let (at, length) = (frame.as_ptr().cast(), frame.len());
        // SAFETY: the pointer and length are those of `frame`.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), at, length, 0) };
        assert_eq!(usize::try_from(sent), Ok(length), "{}", std::io::Error::last_os_error());
    }

    /// The next frame that has come, if one has.
    pub fn receive(&self) -> Option<Vec<u8>> {
        let mut frame = vec![0; 4096];
        let (at, room) = (frame.as_mut_ptr().cast(), frame.len());
        // SAFETY: the pointer and length are those of `frame`.
        let length = unsafe { libc::recv(self.0.as_raw_fd(), at, room, 0) };
        frame.truncate(usize::try_from(length).ok()?);
        Some(frame)
    }
}
