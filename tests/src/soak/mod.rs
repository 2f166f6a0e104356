//! The long run: mixed real traffic through a real tidegate while something changes every second.
//!
//! No request may fail that kube-proxy would have served, memory and file descriptors stay as they
//! are, and the sum of packets closes at the end. What is asked is in `traffic`, what changes in
//! `changes`, which failures are nobody's fault in `journal`. The order of work is in [`run`].

mod changes;
mod journal;
mod requests;
mod resources;
mod run;
mod stage;
mod traffic;

pub use run::{Plan, run};
