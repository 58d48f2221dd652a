//! Many runs: their figures side by side, what each number of parameters buys, and which network to take.
//!
//! ```text
//! run folders ─ finished ─▶ runs ─ groups ─▶ groups ─┬─ spread, latency ─▶ comparison: table, Markdown, CSV, JSON
//!                                                     └─ curves by epoch ──▶ report::bands
//! ```

pub mod comparison;
pub mod finished;
pub mod groups;
pub mod latency;
pub mod spread;

pub use comparison::Comparison;
pub use finished::FinishedRun;
pub use groups::Group;
pub use latency::latency;
pub use spread::Spread;
