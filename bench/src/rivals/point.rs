//! One load and what became of it.

use crate::generator::{Rate, Sent};
use crate::numbers::{float, ratio};
use serde::Serialize;

/// A paced load that loses less counts as carried.
pub(crate) const LOSS_MAX: f64 = 0.005;

/// A generator that sends less than this share of the rate is the limit itself.
const KEPT_RATE_MIN: f64 = 0.98;

/// One load and what became of it.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Point {
    /// Packets per second asked of the generator; `None` for as many as it can.
    pub(crate) asked_pps: Option<f64>,
    pub(crate) sent_pps: f64,
    pub(crate) delivered_pps: f64,
    /// Share of the sent packets that did not arrive.
    pub(crate) loss: f64,
    /// The gateway's CPU time per million delivered packets; `None` where none arrived.
    pub(crate) cpu_seconds_per_million: Option<f64>,
    /// The generator could not keep the rate: it is the limit, not the forwarder.
    pub(crate) is_generator_bound: bool,
}

impl Point {
    /// Whether it was offered, and arrived.
    pub(super) fn is_carried(&self) -> bool {
        self.loss < LOSS_MAX && !self.is_generator_bound
    }
}

/// The largest load that was carried.
pub(super) fn best(points: &[Point]) -> Option<&Point> {
    let carried = points.iter().filter(|p| p.is_carried());
    carried.max_by(|a, b| a.asked_pps.unwrap_or(0.0).total_cmp(&b.asked_pps.unwrap_or(0.0)))
}

/// What became of a load.
pub(super) fn point(
    rate: Rate,
    sent: &Sent,
    delivered: u64,
    cpu_seconds_per_million: Option<f64>,
) -> Point {
    let asked_pps = match rate {
        Rate::Paced(pps) => Some(pps),
        Rate::Full => None,
    };
    let lost = sent.packets.saturating_sub(delivered);
    Point {
        asked_pps,
        sent_pps: sent.rate_pps(),
        delivered_pps: ratio(delivered, sent.elapsed.as_secs_f64()),
        loss: ratio(lost, float(sent.packets)),
        cpu_seconds_per_million,
        is_generator_bound: asked_pps.is_some_and(|pps| sent.rate_pps() < pps * KEPT_RATE_MIN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn sent(packets: u64) -> Sent {
        Sent { packets, elapsed: Duration::from_secs(2) }
    }

    #[test]
    fn a_load_is_carried_only_if_it_was_offered_and_arrived() {
        let carried = point(Rate::Paced(1000.0), &sent(2000), 1995, None);
        assert!(carried.is_carried());
        assert!((carried.loss - 0.0025).abs() < 1e-9);
        assert!((carried.delivered_pps - 997.5).abs() < 1e-6);
        assert!(!point(Rate::Paced(1000.0), &sent(2000), 1980, None).is_carried());
        assert!(!point(Rate::Paced(2000.0), &sent(2000), 2000, None).is_carried());
    }
}
