//! Everything that touches the kernel: the XDP programs with their maps, and the workers' sleep;
//! sockets and their memory.

pub mod affinity;
pub mod front_map;
pub mod guard;
pub mod heartbeat;
pub mod hook;
mod kernel_words;
pub mod layout;
mod mapping;
pub mod maps;
mod object;
pub mod program;
pub mod road;
pub mod sleep;
pub mod socket;
pub mod umem;
