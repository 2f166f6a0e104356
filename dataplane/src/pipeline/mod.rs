//! The packet's path: parse > flow > balance > rewrite (or answer).
//!
//! Pure: bytes, a snapshot, a flow table and a time in; bytes and a verdict out. No clock, syscall,
//! allocation, lock or log. AF_XDP workers, tests, benchmarks and fuzzers call this same code.

mod balance;
mod flow;
mod fragment;
mod gate;
mod generated;
mod icmp;
mod packet;
mod parse;
mod process;
mod rewrite;
mod sticky;
mod tcp;

#[cfg(test)]
mod tests;

pub use crate::types::BURST_FRAMES_MAX;
pub use balance::{balancing_hash, is_masqueraded};
pub use gate::Gate;
pub use generated::{Generated, GeneratedFrame, PIECES_MAX};
pub use packet::{Headers, Packet, PacketKind, Quote};
pub use process::Pipeline;
pub use rewrite::finish_checksum;
