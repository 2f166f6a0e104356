//! The API server as a source.

mod client;
mod pace;

pub use client::connect;
