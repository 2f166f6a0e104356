//! ICMP errors: those of others about our flows, and our own.

mod answer;
mod translate;

pub(super) use answer::Answers;
pub(super) use translate::translate;
