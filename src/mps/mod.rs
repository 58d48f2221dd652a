//! The mathematics of the layer, independent of any device: extents and counts ([`spec`]), the order
//! of the contractions ([`plan`]), initial cores ([`init`]) and the f64 reference
//! ([`mod@reference`]).

pub mod init;
pub mod plan;
pub mod reference;
pub mod spec;

pub use init::MpsInit;
pub use plan::Order;
pub use spec::MpsSpec;
