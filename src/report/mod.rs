//! What a training leaves to look at: the figure of its curves, and tables for the terminal.

pub mod curves;
#[cfg(feature = "cli")]
pub mod table;
