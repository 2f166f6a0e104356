//! ICMP errors: those of others about our flows, and our own.

mod answer;
mod translate;

pub(super) use answer::{Answers, turn_ethernet};
pub(super) use translate::translate;
