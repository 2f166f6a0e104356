//! The kernel's own packet generator, in a guest, against tidegate on virtio-net; and what this and
//! other generators print.

mod account;
mod guest;
pub(crate) mod outside;
pub(crate) mod words;

pub(crate) use account::Trial;
pub(crate) use guest::{Args, run};
