//! The mathematics of the layer, independent of any device: extents and counts ([`spec`]), the order
//! of the contractions and the letters of the kernels ([`view`]), what is decided about a pass ([`plan`], [`strategy`], [`tiles`]),
//! initial cores ([`init`]) and the f64 reference ([`mod@reference`]); and chains of more than two cores ([`chain`]).

pub mod chain;
pub mod conv;
pub mod init;
pub mod plan;
pub mod reference;
pub mod spec;
pub mod strategy;
pub mod tiles;
pub mod view;

pub use chain::Chain;
pub use init::{Fan, MpsInit};
pub use spec::MpsSpec;
pub use view::{Order, View};
