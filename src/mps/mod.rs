//! The mathematics of the layer, free of any device: extents and counts ([`spec`]), the order of
//! the contractions ([`plan`]), initial cores ([`init`]) and the reference in f64 ([`mod@reference`]).

pub mod init;
pub mod plan;
pub mod reference;
pub mod spec;

pub use init::MpsInit;
pub use plan::Order;
pub use spec::MpsSpec;
