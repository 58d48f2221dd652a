//! What a training run and an evaluation leave to look at: figures, tables for the terminal, and the report of an
//! evaluation.

pub mod axis;
pub mod bands;
pub mod classification;
#[cfg(feature = "cli")]
pub mod csv;
pub mod curves;
#[cfg(feature = "cli")]
pub mod eval;
pub mod figure;
#[cfg(feature = "cli")]
pub mod front;
#[cfg(feature = "cli")]
pub mod table;
