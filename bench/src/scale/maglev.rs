//! Maglev tables: how long they take, how even they are, what a removal moves.

use super::samples::{Fact, Row};
use crate::numbers::float;
use anyhow::Result;
use std::hint::black_box;
use std::time::Instant;
use tidegate_dataplane::snapshot::maglev::{MaglevBackend, MaglevTable, TABLE_SIZES};
use tidegate_dataplane::types::{IpAddress, L4Port, Protocol};

const BACKENDS: u16 = 1_000;
const BUILDS: usize = 201;
const REMOVALS: usize = 20;

/// Measures the largest table with a thousand backends.
pub(crate) fn run() -> Result<(Row, Vec<Fact>)> {
    let [.., size] = TABLE_SIZES;
    let all: Vec<_> = (0..BACKENDS).map(backend).collect();
    let mut times = Vec::with_capacity(BUILDS);
    for seed in 0..BUILDS {
        let begin = Instant::now();
        black_box(MaglevTable::try_new(black_box(&all), size, seed as u64)?);
        times.push(begin.elapsed());
    }
    let table = MaglevTable::try_new(&all, size, 0)?;
    let mut shares = vec![0u64; all.len()];
    table.entries().iter().for_each(|entry| shares[usize::from(*entry)] += 1);
    let most = shares.iter().max().copied().unwrap_or(0);
    let least = shares.iter().min().copied().unwrap_or(0);
    let mut moved_most = 0.0_f64;
    for removed in (0..all.len()).step_by(all.len() / REMOVALS) {
        moved_most = moved_most.max(moved_percent(&table, &all, removed, size)?);
    }
    let row = Row::of(&format!("Maglev table, {size} entries, {BACKENDS} backends"), times);
    let fact = |name: &str, value, unit| Fact { name: name.into(), value, unit };
    Ok((
        row,
        vec![
            fact("Maglev shares: most - least", float(most - least), "entries"),
            fact("entries of other backends that a removal moves, at most", moved_most, "%"),
        ],
    ))
}

fn moved_percent(
    before: &MaglevTable,
    all: &[MaglevBackend],
    removed: usize,
    size: u32,
) -> Result<f64> {
    let mut fewer = all.to_vec();
    fewer.remove(removed);
    let after = MaglevTable::try_new(&fewer, size, 0)?;
    let owners = before.entries().iter().zip(after.entries());
    let moved = owners.filter(|(old, new)| {
        let (old, new) = (&all[usize::from(**old)], &fewer[usize::from(**new)]);
        *old != all[removed] && old != new
    });
    Ok(float(moved.count() as u64) / f64::from(size) * 100.0)
}

fn backend(number: u16) -> MaglevBackend {
    let [high, low] = number.to_be_bytes();
    MaglevBackend {
        address: IpAddress::v4([10, 244, high, low]),
        port: L4Port::new(8080),
        protocol: Protocol::Tcp,
        weight: 1,
    }
}
