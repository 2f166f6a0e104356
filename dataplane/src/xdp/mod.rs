//! Everything that touches the kernel: the XDP programs with their maps, and the workers' sleep.

pub mod heartbeat;
pub mod hook;
mod kernel_words;
pub mod layout;
pub mod maps;
mod object;
pub mod program;
pub mod road;
pub mod sleep;
