//! The XDP program and the road, in the kernel. Needs root; each test works in network namespaces
//! of its own, which go with it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are tests")]

mod attach;
mod frames;
mod fuzz;
mod guard;
mod maps;
mod net;
mod port;
mod rig;
mod road;
mod sleep;
mod trials;
