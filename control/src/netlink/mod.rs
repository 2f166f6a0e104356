//! A mirror of the kernel's links, addresses, routes and neighbours (T12), and the devices that
//! tidegate makes for itself (T8).

mod channels;
mod decode;
mod dump;
mod error;
mod features;
mod mirror;
mod read;
mod resolve;
mod road;
mod state;

pub use error::NetlinkError;
pub use mirror::Mirror;
pub use resolve::NextHopResolution;
pub use road::{KernelRoadDevices, ROAD_DEVICE, ROAD_PEER};
pub use state::{
    InterfaceAddress, Link, Neighbour, NeighbourState, NetworkState, Route, RouteKind,
};
