//! What outer load balancers and the kubelet ask: whether this node takes traffic, and how many
//! endpoints of a Service it has (semantics H1-H15). Start at [`answer`]: what is answered is a
//! pure function of [`view`] and the time.

pub mod answer;
mod connection;
mod door;
mod doors;
mod freshness;
pub mod holder;
pub mod view;

pub use door::{Answers, Purpose, Refusal};
pub use doors::{Doors, Move, check_addresses, node_purposes, service_purposes};
pub use freshness::{Freshness, SYNC_PERIOD};
pub use view::{AnswerCounts, HealthView};
