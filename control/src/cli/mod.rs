//! The command line: one file per verb in [`verb`], the tables that people read in [`view`].

pub mod args;
pub mod dispatch;
pub mod output;
pub mod verb;
pub mod view;

pub use args::Cli;
pub use dispatch::main;
