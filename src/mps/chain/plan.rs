//! How a chain is computed: as a layer of two cores, or core by core.

use super::{Chain, End};
use crate::mps::plan::expected_work;
use crate::mps::strategy::Target;
use crate::mps::view::CPU_LANES;

/// A way to compute a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// The `cut` cores on the left are multiplied into one, those on the right into another, once for a batch; then the layer of
    /// two cores is computed. In the backward pass, the gradients by both are pulled back to the cores.
    Folded {
        /// Number of cores on the left.
        cut: usize,
    },
    /// One core after the other is applied to the batch.
    CoreByCore {
        /// Which one the input meets first.
        from: End,
    },
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folded { cut } => write!(f, "folded after core {cut}"),
            Self::CoreByCore { from } => write!(f, "core by core {from}"),
        }
    }
}

/// What is decided about a chain before anything is launched.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChainPlan {
    /// The way.
    pub way: Way,
    /// Multiply-adds of a batch by the tiled kernels for two cores that take as long.
    pub work: f64,
}

/// What takes as long as so many multiply-adds of the kernels for two cores.
struct Costs {
    /// A multiply-add of a step with a batch.
    step: f64,
    /// A product of a core with a part of a sample: a `p` and an `r`.
    product: f64,
    /// A multiply-add of a fold.
    fold: f64,
    /// Folds and the layer of two cores, whatever their size.
    folded: f64,
    /// A launch.
    launch: f64,
}

impl Costs {
    fn of(target: Target) -> Self {
        match target {
            // Fitted to the steps of 33 networks on two cores with AVX-512: chains of 3, 4 and 6 cores at bonds of 1 to 8, 784 to
            // 512, 256 and 64, batch 128, by every way. What is chosen takes 0.7 % longer on average than the fastest. Packing
            // cores and gathering what is folded takes 40 µs.
            Target::Cpu => Self { step: 1.3, product: 40.0, fold: 8.0, folded: 3.2e6, launch: 0.0 },
            // Guesses. There is a plain kernel for steps; a launch on llvmpipe takes some 90 µs.
            Target::Software => {
                Self { step: 6.0, product: 0.0, fold: 6.0, folded: 0.0, launch: 2e6 }
            }
            // No GPU has been at hand. A launch takes some 4 µs: see `Plan`.
            Target::Gpu => Self { step: 3.0, product: 0.0, fold: 3.0, folded: 0.0, launch: 40e6 },
        }
    }
}

impl ChainPlan {
    /// The way that is expected to take the least time.
    pub fn of(chain: &Chain, batch: usize, target: Target) -> Self {
        let plans = Self::all(chain, batch, target).into_iter();
        plans
            .min_by(|one, other| one.work.total_cmp(&other.work))
            .unwrap_or(Self { way: Way::CoreByCore { from: End::Right }, work: f64::INFINITY })
    }

    /// Every way, in no order.
    pub fn all(chain: &Chain, batch: usize, target: Target) -> Vec<Self> {
        let (cores, costs) = (chain.cores(), Costs::of(target));
        let launches = costs.launch * cores as f64;
        let folded = (1..cores).map(|cut| {
            let spec = chain.folded(cut);
            let folds = End::BOTH.into_iter().flat_map(|end| chain.folds(cut, end));
            let folds: usize = folds.map(|step| step.multiply_adds()).sum();
            let work =
                costs.fold * folds as f64 + expected_work(&spec, batch, target) + costs.folded;
            Self { way: Way::Folded { cut }, work: work + launches }
        });
        let samples = match target {
            // Lanes without a sample take as long as the others.
            Target::Cpu => batch.next_multiple_of(CPU_LANES),
            Target::Software | Target::Gpu => batch,
        };
        let by_core = End::BOTH.map(|from| {
            let work = chain.steps(from).into_iter().map(|step| {
                let products = step.p.extent * step.r.extent;
                costs.step * step.multiply_adds() as f64 + costs.product * products as f64
            });
            let work = samples as f64 * work.sum::<f64>();
            Self { way: Way::CoreByCore { from }, work: work + launches }
        });
        folded.chain(by_core).collect()
    }
}
