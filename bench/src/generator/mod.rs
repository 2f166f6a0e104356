//! Two senders of small packets on a veth, both open loop: they do not wait for anybody.

mod frame;
mod live;
mod load;
mod pace;
mod shape;
mod xsk;

pub(crate) use frame::{FLOW_PORT_FIRST, FLOW_PORTS, Route};
pub(crate) use load::{Kind, Load, Rate, Sent};
pub(crate) use shape::{Shape, Size};
pub(crate) use xsk::bind;
