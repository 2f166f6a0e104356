//! The report: one page that needs nothing from anywhere, two plots and a table for the README.

mod aims;
mod command;
mod data;
mod markdown;
mod page;
mod plot;

pub(crate) use command::{Args, run};
