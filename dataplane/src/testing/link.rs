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
        link.want_tags();
        link
    }

    /// The kernel takes VLAN tags out before a packet socket sees a frame; ask it for them.
    fn want_tags(&self) {
        let yes: libc::c_int = 1;
        let (at, length) = ((&raw const yes).cast(), u32::try_from(size_of_val(&yes)).unwrap());
        let (fd, option) = (self.0.as_raw_fd(), libc::PACKET_AUXDATA);
        // SAFETY: the pointer and length are those of `yes`.
        let result = unsafe { libc::setsockopt(fd, libc::SOL_PACKET, option, at, length) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    }

    /// Sends a frame.
    pub fn send(&self, frame: &[u8]) {
        let (at, length) = (frame.as_ptr().cast(), frame.len());
        // SAFETY: the pointer and length are those of `frame`.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), at, length, 0) };
        assert_eq!(usize::try_from(sent), Ok(length), "{}", std::io::Error::last_os_error());
    }

    /// The next frame that has come, if one has, with its VLAN tag.
    pub fn receive(&self) -> Option<Vec<u8>> {
        let (mut frame, mut control) = (vec![0u8; 4096], [0u64; 8]);
        let mut place = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() };
        // SAFETY: zeros are a valid `msghdr`: no pointers, no lengths.
        let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
        (message.msg_iov, message.msg_iovlen) = (&raw mut place, 1);
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = size_of_val(&control);
        // SAFETY: all pointers and lengths in `message` are those of the variables above.
        let length = unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut message, 0) };
        frame.truncate(usize::try_from(length).ok()?);
        if let Some(tag) = tag_of(&message) {
            frame.splice(12..12, [[0x81, 0x00], tag.to_be_bytes()].concat());
        }
        Some(frame)
    }
}

/// The tag that the kernel has taken out of a received frame.
fn tag_of(message: &libc::msghdr) -> Option<u16> {
    // SAFETY: the kernel has filled the message's control buffer, which still lives.
    let first = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: null, or a header within that buffer, which is aligned for it.
    let first = unsafe { first.as_ref() }?;
    let is_ours = (first.cmsg_level, first.cmsg_type) == (libc::SOL_PACKET, libc::PACKET_AUXDATA);
    // SAFETY: the header is the kernel's, and this socket asked for nothing else.
    let data = unsafe { libc::CMSG_DATA(first) };
    // SAFETY: that is what follows a header of this type; it need not be aligned.
    let data = is_ours.then(|| unsafe { data.cast::<libc::tpacket_auxdata>().read_unaligned() })?;
    (data.tp_status & libc::TP_STATUS_VLAN_VALID != 0).then_some(data.tp_vlan_tci)
}
