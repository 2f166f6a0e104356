//! Live frames: `BPF_PROG_TEST_RUN` runs a program that redirects each frame out of the interface.

use super::frame::Template;
use super::shape::{SIZES, Shape, opening};
use super::{Load, Rate, Sent};
use crate::bpf;
use anyhow::{Context as _, Result};
use libbpf_rs::{Object, ProgramInput};
use std::time::Duration;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

static BLAST: &bpf::Elf = &bpf::Elf(*include_bytes!(concat!(env!("OUT_DIR"), "/blast.bpf.o")));

/// `BPF_F_TEST_XDP_LIVE_FRAMES` of the kernel's `bpf.h`.
const LIVE_FRAMES: u32 = 1 << 1;

/// What it has frames for at full speed, per second. Where the receiver's ring is full it can be
/// faster, and has then sent them all before the time is over.
const FULL_RATE_PPS: f64 = 12e6;

/// `struct blast_config` of `bpf/blast.bpf.c`.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct BlastConfig {
    template: [u8; 64],
    ifindex: u32,
    flows: u32,
    flow_first: u32,
    address_low: u32,
    ip_sum: u32,
    l4_sum: u32,
    is_tcp: u32,
    zero: u32,
    spacing_ps: u64,
    duration_ns: u64,
    frame_bytes: [u16; SIZES],
}

/// `struct blast_state` of `bpf/blast.bpf.c`.
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct BlastState {
    start_ns: u64,
    due_ns: u64,
    sent: u64,
    _flow: u64,
}

pub(super) fn send(load: &Load) -> Result<Sent> {
    let object = open(load)?;
    let program = bpf::program(&object, "blast")?;
    let rate_pps = match load.rate {
        Rate::Paced(pps) => pps,
        Rate::Full => FULL_RATE_PPS,
    };
    let frame = longest(load);
    let frames = whole(rate_pps * load.duration.as_secs_f64());
    let input = ProgramInput {
        data_in: Some(&frame),
        flags: LIVE_FRAMES,
        repeat: frames,
        ..Default::default()
    };
    program.test_run(input).context("send live frames")?;
    let state = state(&object)?;
    Ok(Sent { packets: state.sent, elapsed: state.elapsed(load, frames) })
}

impl BlastState {
    /// How long it sent: until the time was over, or the last of its `frames` was gone.
    fn elapsed(&self, load: &Load, frames: u32) -> Duration {
        let is_early = load.rate == Rate::Full && self.sent >= u64::from(frames);
        // At full speed a batch is due when it is sent, to within LATE_NS of `bpf/blast.bpf.c`.
        let sending = Duration::from_nanos(self.due_ns - self.start_ns);
        if is_early { sending.min(load.duration) } else { load.duration }
    }
}

/// Room for the load's longest frame.
fn longest(load: &Load) -> Vec<u8> {
    let bytes = load.shape.frame_bytes().into_iter().max().unwrap_or_default();
    vec![0; usize::from(bytes)]
}

fn state(object: &Object) -> Result<BlastState> {
    bpf::state(object)
}

#[expect(clippy::cast_possible_truncation, reason = "saturates: seconds of packets fit")]
#[expect(clippy::cast_sign_loss, reason = "rates are not negative")]
fn whole(packets: f64) -> u32 {
    packets.ceil() as u32
}

fn open(load: &Load) -> Result<Object> {
    let template = template(load);
    let mut bytes = [0; 64];
    bytes[..template.bytes.len()].copy_from_slice(&template.bytes);
    let config = BlastConfig {
        template: bytes,
        ifindex: load.index.0,
        flows: load.flows,
        flow_first: load.flow_first,
        address_low: template.address_low.into(),
        ip_sum: template.ip_sum,
        l4_sum: template.udp_sum,
        is_tcp: (load.shape == Shape::Openings).into(),
        zero: 0,
        spacing_ps: match load.rate {
            Rate::Paced(pps) => whole(1e12 / pps).into(),
            Rate::Full => 0,
        },
        duration_ns: u64::try_from(load.duration.as_nanos())?,
        frame_bytes: load.shape.frame_bytes(),
    };
    bpf::load(BLAST, Some(config.as_bytes()))
}

/// The load's first packet; what the program fills in is 0, and not in the sums.
fn template(load: &Load) -> Template {
    let mut template = match load.shape {
        Shape::Datagrams(_) => Template::new(&load.route),
        Shape::Openings => opening(&load.route),
    };
    let word = |at: usize| u16::from_ne_bytes([template.bytes[at], template.bytes[at + 1]]);
    let (ip_bytes, l4_bytes) = (u32::from(word(16)), u32::from(word(38)));
    template.ip_sum -= ip_bytes;
    template.bytes[16..18].fill(0);
    if load.shape != Shape::Openings {
        // In the UDP header and in the pseudo-header.
        template.udp_sum -= 2 * l4_bytes;
        template.bytes[38..40].fill(0);
    }
    template
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::frame::FRAME_BYTES;
    use crate::generator::frame::tests::route;
    use crate::generator::{Kind, Size};
    use etherparse::PacketHeaders;
    use tidegate_dataplane::testing::checksums_are_right;
    use tidegate_dataplane::types::IfIndex;

    fn load(shape: Shape, flow_first: u32) -> Load {
        Load {
            kind: Kind::Live,
            route: route(),
            name: "lo".into(),
            index: IfIndex(1),
            flows: FLOWS,
            flow_first,
            shape,
            rate: Rate::Full,
            duration: Duration::from_mins(1),
            cpu: 0,
        }
    }

    const FLOWS: u32 = 80_000;

    /// The next frame of the program, that would go out.
    fn next(object: &Object, load: &Load) -> Vec<u8> {
        let mut output = vec![0; 2048];
        let data_in = longest(load);
        let input = ProgramInput {
            data_in: Some(&data_in),
            data_out: Some(&mut output),
            ..Default::default()
        };
        let result = bpf::program(object, "blast").unwrap().test_run(input).unwrap();
        assert_eq!(result.return_value, 4, "XDP_REDIRECT");
        result.data.unwrap().to_vec()
    }

    #[test]
    fn the_program_writes_the_frames_that_rust_writes() {
        let load = load(Shape::Datagrams(Size::LEAST), 0);
        let object = open(&load).unwrap();
        let template = Template::new(&load.route);
        let mut expected = [0; FRAME_BYTES];
        for number in (0..FLOWS).chain(0..3) {
            template.write(number, &mut expected);
            assert_eq!(next(&object, &load), expected, "flow {number}");
        }
        assert_eq!(state(&object).unwrap().sent, u64::from(FLOWS) + 3);
    }

    #[test]
    fn the_flows_come_round_from_wherever_the_load_begins() {
        let load = Load { flows: 10, ..load(Shape::Openings, 8) };
        let object = open(&load).unwrap();
        let port = || {
            let frame = next(&object, &load);
            u16::from_be_bytes([frame[34], frame[35]]) - 1024
        };
        let ports: Vec<u16> = (0..7).map(|_| port()).collect();
        assert_eq!(ports, [8, 9, 0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_flood_lasts_until_its_frames_are_gone_and_no_longer_than_its_time() {
        let flood = load(Shape::Datagrams(Size::LEAST), 0);
        let paced = Load { rate: Rate::Paced(1e3), ..flood.clone() };
        let after = |sent| BlastState { start_ns: 5, due_ns: 2_000_000_005, sent, _flow: 0 };
        assert_eq!(after(100).elapsed(&flood, 100), Duration::from_secs(2));
        assert_eq!(after(99).elapsed(&flood, 100), flood.duration);
        assert_eq!(after(100).elapsed(&paced, 100), paced.duration);
    }

    #[test]
    fn frames_of_all_sizes_have_right_lengths_and_sums() {
        let load = load(Shape::Datagrams(Size::Imix), 70_000);
        let object = open(&load).unwrap();
        for bytes in Size::Imix.frame_bytes().into_iter().cycle().take(3 * SIZES) {
            let frame = next(&object, &load);
            assert_eq!(frame.len(), usize::from(bytes));
            assert!(checksums_are_right(&frame));
        }
        let packet = next(&object, &load);
        let udp = PacketHeaders::from_ethernet_slice(&packet).unwrap().transport.unwrap().udp();
        // Flow 70,036 is the third address's 4,500th.
        assert_eq!(udp.unwrap().source_port, 1024 + 4_500);
    }

    #[test]
    fn openings_are_right_syns() {
        let load = load(Shape::Openings, 5);
        let object = open(&load).unwrap();
        for number in 5..100 {
            let frame = next(&object, &load);
            assert_eq!(frame.len(), FRAME_BYTES);
            assert!(checksums_are_right(&frame));
            let packet = PacketHeaders::from_ethernet_slice(&frame).unwrap();
            let tcp = packet.transport.unwrap().tcp().unwrap();
            assert!(tcp.syn && !tcp.ack && packet.payload.slice().is_empty());
            assert_eq!((tcp.source_port, tcp.destination_port), (1024 + number, 30_090));
        }
    }
}
