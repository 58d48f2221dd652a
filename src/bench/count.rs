//! The least work of a row: operations as the algorithm needs them, and bytes that must be moved to or
//! from memory once.

use serde::Serialize;

use super::ceilings::Ceilings;
use super::workloads::{Pass, Rival};
use crate::model::{ClassifierConfig, FirstLayer, HIDDEN};
use crate::mps::{MpsInit, MpsSpec, Order};

/// Operations and bytes of one execution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Work {
    /// Floating-point operations; a multiply-add counts as two.
    pub flops: f64,
    /// Bytes of operands read and results written, each once.
    pub bytes: f64,
}

/// What limits a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// The multiply-add rate.
    Compute,
    /// The copy bandwidth.
    Bandwidth,
    /// The time of one launch.
    Launch,
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Compute => "compute",
            Self::Bandwidth => "bandwidth",
            Self::Launch => "launch",
        })
    }
}

impl Work {
    /// The work of a row; without a `rival`, that of this crate's operation. The composed layer needs the
    /// same operations as the fused one.
    ///
    /// - forward: both contractions in the cheaper order, and the bias
    /// - backward: `U` or `T` again, the gradient of one core from it, the other intermediate `V`, and
    ///   the gradient of the other core from that: twice the forward contractions
    /// - with `grad_x`: one more contraction, of `V`
    /// - step: three matrix products for each dense layer (the first one needs no `grad_x`), and
    ///   about ten operations per parameter for Adam
    pub fn of(pass: Pass, rival: Option<Rival>, spec: &MpsSpec, batch: usize) -> Self {
        let dense = pass.is_dense(rival);
        let outputs = spec.outputs() as f64;
        let inputs = spec.inputs() as f64;
        let parameters = if dense { spec.dense_parameters() } else { spec.parameters() } as f64;
        let contractions = match dense {
            true => inputs * outputs,
            false => Order::cheaper(spec).multiply_adds(spec) as f64,
        };
        // The contraction of V with the core that meets the input.
        let into_x = match (dense, Order::cheaper(spec)) {
            (true, _) => inputs * outputs,
            (false, Order::CFirst) => (spec.j * spec.l * spec.n * spec.k) as f64,
            (false, Order::AFirst) => (spec.m * spec.j * spec.l * spec.k) as f64,
        };
        // A dense weight's gradient is one product; that of each core is two contractions.
        let into_cores = contractions * if dense { 1.0 } else { 2.0 };
        let batch = batch as f64;
        let (per_sample, bytes) = match pass {
            Pass::Forward => {
                (2.0 * contractions + outputs, batch * (inputs + outputs) + parameters)
            }
            Pass::Backward => {
                (2.0 * into_cores + outputs, batch * (inputs + outputs) + 2.0 * parameters)
            }
            Pass::BackwardX => (
                2.0 * (into_cores + into_x) + outputs,
                batch * (2.0 * inputs + outputs) + 2.0 * parameters,
            ),
            Pass::Step | Pass::StepDense => {
                return Self::of_step(spec, dense, batch, contractions + into_cores);
            }
        };
        Self { flops: batch * per_sample, bytes: 4.0 * bytes }
    }

    fn of_step(spec: &MpsSpec, dense: bool, batch: f64, first: f64) -> Self {
        let classes = 10;
        let classifier = ClassifierConfig {
            model: if dense { FirstLayer::Dense } else { FirstLayer::Mps },
            in_factors: [spec.j, spec.l],
            out_factors: [spec.m, spec.n],
            bond: spec.k,
            init: MpsInit::He,
            classes,
        };
        let total = classifier.parameters().map_or(0, |parameters| parameters.total) as f64;
        let others = (spec.outputs() * HIDDEN + HIDDEN * classes) as f64;
        Self {
            flops: batch * 2.0 * (first + 3.0 * others) + 10.0 * total,
            // Weight, gradient and two moments are read, weight and moments written.
            bytes: 4.0 * (batch * (spec.inputs() + spec.outputs()) as f64 + 7.0 * total),
        }
    }

    /// The shortest time that the ceilings allow, in seconds, and which of them it is.
    pub fn bound(&self, ceilings: &Ceilings) -> (f64, Bound) {
        [
            (self.flops / (ceilings.gflops * 1e9), Bound::Compute),
            (self.bytes / (ceilings.gbps * 1e9), Bound::Bandwidth),
            (ceilings.launch_s, Bound::Launch),
        ]
        .into_iter()
        .fold((0.0, Bound::Launch), |most, bound| if bound.0 > most.0 { bound } else { most })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_article_s_layer_is_counted_as_designed() {
        let spec = MpsSpec { m: 32, n: 16, j: 28, l: 28, k: 4 };
        let of = |pass, rival| Work::of(pass, rival, &spec, 128);
        let forward = of(Pass::Forward, None);
        assert_eq!(forward.flops, 128.0 * (2.0 * 26_880.0 * 4.0 + 512.0));
        assert_eq!(forward.bytes, 4.0 * (128.0 * (784.0 + 512.0) + 1344.0 * 4.0 + 512.0));
        assert_eq!(forward, of(Pass::Forward, Some(Rival::Composed)));
        assert_eq!(of(Pass::Backward, None).flops, 128.0 * (4.0 * 26_880.0 * 4.0 + 512.0));
        let with_x = of(Pass::BackwardX, None).flops - of(Pass::Backward, None).flops;
        assert_eq!(with_x, 128.0 * 2.0 * 12_544.0 * 4.0);
        let dense = of(Pass::Forward, Some(Rival::Dense));
        assert_eq!(dense.flops, 128.0 * (2.0 * 401_408.0 + 512.0));
    }

    #[test]
    fn the_bound_is_the_longest_time() {
        let ceilings = Ceilings { gflops: 100.0, gbps: 10.0, launch_s: 1e-5 };
        let bound = |flops, bytes| Work { flops, bytes }.bound(&ceilings);
        assert_eq!(bound(1e9, 1e6), (1e-2, Bound::Compute));
        assert_eq!(bound(1e3, 1e9), (1e-1, Bound::Bandwidth));
        assert_eq!(bound(1e3, 1e3), (1e-5, Bound::Launch));
    }
}
