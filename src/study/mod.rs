//! Many runs: their figures side by side, what each number of parameters buys, and which network to take.

pub mod finished;
pub mod latency;
pub mod spread;

pub use finished::FinishedRun;
pub use latency::latency;
pub use spread::Spread;
