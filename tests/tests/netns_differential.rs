//! tidegate and the kernel's own NAT, packet by packet.
//!
//! `TIDEGATE_DIFFERENTIAL_PACKETS` and `TIDEGATE_DIFFERENTIAL_SEED` (decimal) choose how many
//! packets are sent and which.

use anyhow::{Context as _, Result};
use tidegate_tests::differential::{Plan, run};
use tidegate_tests::setting::take_turn;
use tidegate_tests::spread::Spread;

/// Enough for every kind and exception; some seconds.
const PACKETS: u32 = 10_000;

const SEED: u64 = 0x7469_6465;

fn number(name: &str, default: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("read {name}={text}")),
        Err(_) => Ok(default),
    }
}

fn compare(spread: Spread, changes: &'static [(&'static str, &'static str)]) -> Result<()> {
    let seed = number("TIDEGATE_DIFFERENTIAL_SEED", SEED)?;
    let packets = number("TIDEGATE_DIFFERENTIAL_PACKETS", PACKETS.into())?;
    eprintln!("seed {seed}, {packets} packets");
    let _turn = take_turn()?;
    let plan = Plan { seed, packets: u32::try_from(packets)?, spread, changes };
    let report = run(&plan)?;
    eprintln!("{report}");
    Ok(())
}

#[test]
fn what_tidegate_makes_of_packets_is_what_the_kernel_makes_of_them() -> Result<()> {
    compare(Spread::OneQueue, &[])
}

/// Replies come in at another worker than the one that has their flow.
#[test]
fn two_workers_make_of_packets_what_the_kernel_makes_of_them() -> Result<()> {
    compare(Spread::OneQueue, &[("cpus: auto", "cpus: [0, 1]")])
}

/// Every packet comes in at either worker by chance.
#[test]
fn two_workers_and_shuffled_queues_make_of_packets_what_the_kernel_makes_of_them() -> Result<()> {
    compare(Spread::Shuffled, &[])
}
