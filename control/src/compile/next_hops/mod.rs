//! Where backends are: one entry per backend address, resolved again where its way may have
//! changed (T12).

mod affected;
mod index;
mod reap;
mod table;
mod world;

pub(super) use table::{NOWHERE, NextHops, Pair};
pub(super) use world::World;
