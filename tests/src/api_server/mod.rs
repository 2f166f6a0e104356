//! A stand-in for the API server: lists, watches, writes, discovery, authentication, and faults on
//! demand. What it does not do: admission, defaulting, validation, controllers, protobuf, tables,
//! OpenAPI (so `kubectl apply --validate=false`), and strategic merge (taken for a merge patch).

mod answer;
mod discovery;
mod fault;
mod query;
mod resource;
mod server;
mod shared;
mod status;
mod store;
mod tls;
mod watch;

pub use fault::{Effect, Fault, Interruption, Verb};
pub use resource::{RESOURCES, Resource};
pub use server::{ApiServer, Door, write_whole};
pub use shared::Request;
pub use tls::Certificates;
