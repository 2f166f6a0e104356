//! Live frames: `BPF_PROG_TEST_RUN` runs a program that redirects each frame out of the interface.

use super::frame::{FRAME_BYTES, Template};
use super::{Load, Rate, Sent, pace};
use crate::bpf;
use anyhow::{Context as _, Result};
use libbpf_rs::{Object, ProgramInput};
use zerocopy::{Immutable, IntoBytes};

static BLAST: &bpf::Elf = &bpf::Elf(*include_bytes!(concat!(env!("OUT_DIR"), "/blast.bpf.o")));

/// `BPF_F_TEST_XDP_LIVE_FRAMES` of the kernel's `bpf.h`.
const LIVE_FRAMES: u32 = 1 << 1;

/// Packets per system call where the rate is given: the kernel's own batch.
const PACED_BURST: u32 = 64;

/// Packets per system call at full speed: some milliseconds' worth.
const FULL_BURST: u32 = 8_192;

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
}

pub(super) fn send(load: &Load) -> Result<Sent> {
    let object = open(load)?;
    let program = bpf::program(&object, "blast")?;
    let frame = [0; FRAME_BYTES];
    let repeat = match load.rate {
        Rate::Paced(_) => PACED_BURST,
        Rate::Full => FULL_BURST,
    };
    pace::run(load, || {
        let data_in = Some(&frame[..]);
        let input = ProgramInput { data_in, flags: LIVE_FRAMES, repeat, ..Default::default() };
        program.test_run(input).context("send live frames")?;
        Ok(repeat.into())
    })
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
            duration: Duration::ZERO,
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
    }
}
