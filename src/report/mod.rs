//! What a training run leaves to look at: the figure of its curves, and tables for the terminal.

pub mod axis;
pub mod curves;
pub mod figure;
#[cfg(feature = "cli")]
pub mod table;
