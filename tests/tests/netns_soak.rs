//! The long run: real traffic while something changes every second.
//!
//! `TIDEGATE_SOAK_SECONDS` makes it longer (`make soak`), `TIDEGATE_SOAK_SEED` (decimal) makes
//! other changes. A longer run lets other tests in namespaces go on beside it.

use anyhow::{Context as _, Result};
use std::time::Duration;
use tidegate_tests::soak::{Plan, run};

/// Every change at least twice.
const SECONDS: u64 = 25;

const SEED: u64 = 0x7469_6465;

fn number(name: &str) -> Result<Option<u64>> {
    let text = std::env::var(name).ok();
    text.map(|text| text.parse().with_context(|| format!("read {name}={text}"))).transpose()
}

#[test]
fn no_request_fails_and_nothing_grows_while_everything_changes() -> Result<()> {
    let (seconds, seed) = (number("TIDEGATE_SOAK_SECONDS")?, number("TIDEGATE_SOAK_SEED")?);
    let length = Duration::from_secs(seconds.unwrap_or(SECONDS));
    let plan = Plan { length, seed: seed.unwrap_or(SEED), takes_turn: seconds.is_none() };
    eprintln!("{} seconds, seed {}", length.as_secs(), plan.seed);
    eprintln!("{}", run(&plan)?);
    Ok(())
}
