//! The packet path alone, in memory: by time, by instructions, by memory, and how each grows.

mod bed;
mod compile;
mod counted;
mod frames;
mod growth;
mod hits;
mod lookup;
mod rows;
mod run;

pub(crate) use run::{Args, run};
