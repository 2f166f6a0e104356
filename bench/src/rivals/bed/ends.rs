//! Clients and servers of short TCP connections, as XDP programs on both far ends of the rig: each
//! packet is answered from what stands in it.

use super::rig::Rig;
use crate::bpf;
use anyhow::{Context as _, Result};
use libbpf_rs::{Link, Object};
use tidegate_control::demo::rig::NetNs;
use zerocopy::{FromBytes, Immutable, KnownLayout};

static ENDS: &bpf::Elf = &bpf::Elf(*include_bytes!(concat!(env!("OUT_DIR"), "/ends.bpf.o")));

/// `struct ends_state` of `bpf/ends.bpf.c`.
#[derive(Debug, Clone, Copy, Default, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct EndsState {
    _opened: u64,
    completed: u64,
    _reset: u64,
}

/// Both ends, while they are there.
#[derive(Debug)]
pub(crate) struct Ends {
    _links: [Link; 2],
    object: Object,
}

impl Ends {
    /// Puts both in place, and lets the gateway's interfaces receive what an XDP program sends.
    pub(crate) fn attach(rig: &Rig) -> Result<Self> {
        let object = bpf::load(ENDS, None)?;
        let at = |netns: &NetNs, name: &str, index: u32| -> Result<Link> {
            netns.enter(|| {
                let program = bpf::program(&object, name)?;
                program.attach_xdp(index.cast_signed()).context("attach an end of connections")
            })?
        };
        let client = at(rig.client_ns(), "client", rig.client.index.0)?;
        let server = at(rig.backends_ns(), "server", rig.backend.index.0)?;
        Ok(Self { _links: [client, server], object })
    }

    /// Connections that were opened, answered and closed.
    pub(crate) fn completed(&self) -> Result<u64> {
        Ok(bpf::state::<EndsState>(&self.object)?.completed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{PacketHeaders, TcpHeader};
    use libbpf_rs::ProgramInput;
    use tidegate_dataplane::testing::{checksums_are_right, tcp_frame};

    /// What an end makes of a frame: the kernel's word for what becomes of it, and the frame.
    fn run(object: &Object, name: &str, frame: &[u8]) -> (u32, Vec<u8>) {
        let mut output = vec![0; 256];
        let input = ProgramInput {
            data_in: Some(frame),
            data_out: Some(&mut output),
            ..Default::default()
        };
        let result = bpf::program(object, name).unwrap().test_run(input).unwrap();
        (result.return_value, result.data.unwrap().to_vec())
    }

    /// An answer: its TCP header, the length of its text, and the frame.
    fn answer(object: &Object, name: &str, frame: &[u8]) -> (TcpHeader, usize, Vec<u8>) {
        let (value, frame) = run(object, name, frame);
        assert_eq!(value, 4, "XDP_REDIRECT");
        assert!(checksums_are_right(&frame));
        let packet = PacketHeaders::from_ethernet_slice(&frame).unwrap();
        let text_bytes = packet.payload.slice().len();
        (packet.transport.unwrap().tcp().unwrap(), text_bytes, frame)
    }

    fn bits(tcp: &TcpHeader) -> (bool, bool, bool) {
        (tcp.syn, tcp.ack, tcp.fin)
    }

    #[test]
    fn a_connection_is_opened_answered_and_closed() {
        let object = bpf::load(ENDS, None).unwrap();
        let syn = tcp_frame("192.0.2.10:1024", "10.0.0.2:9", 2, &[]);
        let (tcp, _, frame) = answer(&object, "server", &syn);
        assert_eq!((bits(&tcp), tcp.acknowledgment_number), ((true, true, false), 1001));
        let (tcp, text, frame) = answer(&object, "client", &frame);
        assert_eq!((bits(&tcp), tcp.sequence_number, text), ((false, true, false), 1001, 6));
        let (tcp, text, frame) = answer(&object, "server", &frame);
        assert_eq!((bits(&tcp), tcp.acknowledgment_number, text), ((false, true, true), 1007, 6));
        let (tcp, text, frame) = answer(&object, "client", &frame);
        assert_eq!((bits(&tcp), tcp.sequence_number, text), ((false, true, true), 1007, 0));
        let (tcp, text, frame) = answer(&object, "server", &frame);
        assert_eq!((bits(&tcp), tcp.acknowledgment_number, text), ((false, true, false), 1008, 0));
        assert_eq!(run(&object, "client", &frame).0, 1, "XDP_DROP: all is said");
        assert_eq!(bpf::state::<[u64; 3]>(&object).unwrap(), [1, 1, 0]);
    }
}
