//! Live frames: `BPF_PROG_TEST_RUN` runs a program that redirects each frame out of the interface.

use super::frame::{FRAME_BYTES, Template};
use super::{Load, Rate, Sent};
use crate::bpf;
use anyhow::{Context as _, Result, anyhow};
use libbpf_rs::{MapCore as _, MapFlags, Object, ProgramInput};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

static BLAST: &bpf::Elf = &bpf::Elf(*include_bytes!(concat!(env!("OUT_DIR"), "/blast.bpf.o")));

/// `BPF_F_TEST_XDP_LIVE_FRAMES` of the kernel's `bpf.h`.
const LIVE_FRAMES: u32 = 1 << 1;

/// More than the sender can send, per second: what it runs for at full speed.
const FULL_RATE_PPS: f64 = 12e6;

/// `struct blast_config` of `bpf/blast.bpf.c`.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct BlastConfig {
    template: [u8; 64],
    ifindex: u32,
    flows: u32,
    address_low: u32,
    ip_sum: u32,
    udp_sum: u32,
    zero: u32,
    spacing_ps: u64,
    duration_ns: u64,
}

/// `struct blast_state` of `bpf/blast.bpf.c`.
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct BlastState {
    _start_ns: u64,
    _due_ns: u64,
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
    let frame = [0; FRAME_BYTES];
    let input = ProgramInput {
        data_in: Some(&frame),
        flags: LIVE_FRAMES,
        repeat: whole(rate_pps * load.duration.as_secs_f64()),
        ..Default::default()
    };
    program.test_run(input).context("send live frames")?;
    Ok(Sent { packets: sent(&object)?, elapsed: load.duration })
}

fn sent(object: &Object) -> Result<u64> {
    let state = object.maps().find(|map| map.name().to_string_lossy().ends_with(".bss"));
    let state = state.context("find the generator's state")?;
    let bytes = state.lookup(0u32.as_bytes(), MapFlags::ANY)?.context("read its state")?;
    let (state, _) =
        BlastState::read_from_prefix(&bytes).map_err(|_short| anyhow!("its state is short"))?;
    Ok(state.sent)
}

#[expect(clippy::cast_possible_truncation, reason = "saturates: seconds of packets fit")]
#[expect(clippy::cast_sign_loss, reason = "rates are not negative")]
fn whole(packets: f64) -> u32 {
    packets.ceil() as u32
}

fn open(load: &Load) -> Result<Object> {
    let template = Template::new(&load.route);
    let mut bytes = [0; 64];
    bytes[..FRAME_BYTES].copy_from_slice(&template.bytes);
    let config = BlastConfig {
        template: bytes,
        ifindex: load.index.0,
        flows: load.flows,
        address_low: template.address_low.into(),
        ip_sum: template.ip_sum,
        udp_sum: template.udp_sum,
        zero: 0,
        spacing_ps: match load.rate {
            Rate::Paced(pps) => whole(1e12 / pps).into(),
            Rate::Full => 0,
        },
        duration_ns: u64::try_from(load.duration.as_nanos())?,
    };
    bpf::load(BLAST, Some(config.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::Kind;
    use crate::generator::frame::tests::route;
    use std::time::Duration;
    use tidegate_dataplane::types::IfIndex;

    #[test]
    fn the_program_writes_the_frames_that_rust_writes() {
        let load = Load {
            kind: Kind::Live,
            route: route(),
            name: "lo".into(),
            index: IfIndex(1),
            flows: 40_000,
            rate: Rate::Full,
            duration: Duration::from_mins(1),
            cpu: 0,
        };
        let object = open(&load).unwrap();
        let program = bpf::program(&object, "blast").unwrap();
        let template = Template::new(&load.route);
        let mut expected = [0; FRAME_BYTES];
        for number in (0..40_000).chain(0..3) {
            let mut output = [0; FRAME_BYTES];
            let input = ProgramInput {
                data_in: Some(&[0xaa; FRAME_BYTES]),
                data_out: Some(&mut output),
                ..Default::default()
            };
            assert_eq!(program.test_run(input).unwrap().return_value, 4, "XDP_REDIRECT");
            template.write(number, &mut expected);
            assert_eq!(output, expected, "flow {number}");
        }
        assert_eq!(sent(&object).unwrap(), 40_003);
    }
}
