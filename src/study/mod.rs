//! Many runs: their figures side by side, what each number of parameters buys, and which network to take.

pub mod factors;
pub mod families;
pub mod finished;
pub mod front;
pub mod grid;
pub mod latency;
pub mod report;
pub mod row;
pub mod spread;

pub use finished::FinishedRun;
pub use front::{Summary, summaries};
pub use grid::{Images, PlannedRun, Study};
pub use latency::latency;
pub use row::{Figures, Outcome, Row};
pub use spread::Spread;
