//! Many runs: their figures side by side, what each number of parameters buys, and which network to take.
//!
//! ```text
//! run folders ─ finished ─▶ runs ─ groups ─▶ groups ─┬─ spread, latency ─▶ comparison: table, Markdown, CSV, JSON
//!                                                     └─ curves by epoch ──▶ report::bands
//! grid, families ─▶ runs to train ─▶ rows: results.csv ─▶ front: summaries, which to take ─▶ report, report::front
//! ```

pub mod comparison;
pub mod factors;
pub mod families;
pub mod finished;
pub mod front;
pub mod grid;
pub mod groups;
pub mod latency;
pub mod report;
pub mod row;
pub mod spread;

pub use comparison::Comparison;
pub use finished::FinishedRun;
pub use front::{Summary, summaries};
pub use grid::{Images, PlannedRun, Study};
pub use groups::Group;
pub use latency::latency;
pub use row::{Figures, Outcome, Row};
pub use spread::Spread;
