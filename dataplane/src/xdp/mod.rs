
pub mod heartbeat;
pub mod hook;
mod kernel_words;
pub mod layout;
pub mod maps;
mod object;
pub mod program;
