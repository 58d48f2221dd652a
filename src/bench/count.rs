//! The least work of a row: operations as the algorithm needs them, and bytes that must be moved to or
//! from memory once.

use serde::Serialize;

use super::Subject;
use super::ceilings::Ceilings;
use super::workloads::{Pass, Rival};
use crate::Result;
use crate::net::{Dense, Layer, Mps, MultiplyAdds, Stack, features};

/// Operations and bytes of one execution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Work {
    /// Floating-point operations; a multiply-add counts as two.
    pub flops: f64,
    /// Bytes of operands read and results written, each once.
    pub bytes: f64,
}

/// Share of the multiply-add rate that a kernel is expected to reach whose operands come from workgroup memory.
const COMPUTE: f64 = 0.5;

/// Share of a copy's bandwidth that a kernel is expected to reach.
const BANDWIDTH: f64 = 0.8;

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
    /// - step: the same for each layer (the first one with weights needs no `grad_x`), and about ten operations per
    ///   parameter for Adam
    ///
    /// # Errors
    ///
    /// [`crate::Error::Layer`] for an impossible network.
    pub fn of(pass: Pass, rival: Option<Rival>, subject: &Subject, batch: usize) -> Result<Self> {
        let dense = pass.is_dense(rival);
        let spec = match (pass, subject) {
            (Pass::Forward | Pass::Backward | Pass::BackwardX, Subject::Layer(spec)) => spec,
            _ => {
                let network = subject.network()?;
                return Self::of_step(&if dense { network.dense() } else { network }, batch as f64);
            }
        };
        let mps = Mps::new([spec.j, spec.l], [spec.m, spec.n], spec.k);
        let input = [spec.inputs(), 1, 1];
        let layer: Layer = match dense {
            true => Dense { out: spec.outputs(), bias: true }.into(),
            false => mps.into(),
        };
        let MultiplyAdds { forward, weights, grad_x } = layer.kind().multiply_adds(input);
        let parameters: usize =
            layer.kind().weights(input).iter().map(|weight| weight.count()).sum();
        let (inputs, outputs) = (spec.inputs(), spec.outputs());
        let (multiply_adds, per_sample, of_weights) = match pass {
            Pass::Forward => (forward, inputs + outputs, parameters),
            Pass::BackwardX => (weights + grad_x, 2 * inputs + outputs, 2 * parameters),
            _ => (weights, inputs + outputs, 2 * parameters),
        };
        let batch = batch as f64;
        Ok(Self {
            flops: batch * (2.0 * multiply_adds as f64 + outputs as f64),
            bytes: 4.0 * (batch * per_sample as f64 + of_weights as f64),
        })
    }

    fn of_step(network: &Stack, batch: f64) -> Result<Self> {
        let (mut multiply_adds, mut before) = (0.0, 0);
        for placed in network.placed()? {
            let layer = placed.layer.kind().multiply_adds(placed.input);
            multiply_adds += layer.forward as f64 + layer.weights as f64;
            // Nothing asks for the gradient by the input of the first layer with weights.
            if before > 0 {
                multiply_adds += layer.grad_x as f64;
            }
            before += placed.parameters();
        }
        let parameters = network.parameters()? as f64;
        Ok(Self {
            flops: batch * 2.0 * multiply_adds + 10.0 * parameters,
            // The images are read; weight, gradient and two moments too, weight and moments written.
            bytes: 4.0 * (batch * features(network.input) as f64 + 7.0 * parameters),
        })
    }

    /// The time that so many launches are expected to take together, in seconds: that of the launches, and of
    /// the work at half of the multiply-add rate or 0.8 of a copy's bandwidth, whichever takes longer.
    pub fn predicted(&self, launches: u64, ceilings: &Ceilings) -> f64 {
        let compute = self.flops / (COMPUTE * ceilings.gflops * 1e9);
        let bandwidth = self.bytes / (BANDWIDTH * ceilings.gbps * 1e9);
        launches as f64 * ceilings.launch_s + compute.max(bandwidth)
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
    use crate::mps::MpsSpec;

    #[test]
    fn the_article_s_layer_is_counted_as_designed() {
        let subject = Subject::Layer(MpsSpec { m: 32, n: 16, j: 28, l: 28, k: 4 });
        let of = |pass, rival| Work::of(pass, rival, &subject, 128).unwrap();
        let forward = of(Pass::Forward, None);
        assert_eq!(forward.flops, 128.0 * (2.0 * 26_880.0 * 4.0 + 512.0));
        assert_eq!(forward.bytes, 4.0 * (128.0 * (784.0 + 512.0) + 1344.0 * 4.0 + 512.0));
        assert_eq!(forward, of(Pass::Forward, Some(Rival::Composed)));
        assert_eq!(of(Pass::Backward, None).flops, 128.0 * (4.0 * 26_880.0 * 4.0 + 512.0));
        let with_x = of(Pass::BackwardX, None).flops - of(Pass::Backward, None).flops;
        assert_eq!(with_x, 128.0 * 2.0 * 12_544.0 * 4.0);
        let dense = of(Pass::Forward, Some(Rival::Dense));
        assert_eq!(dense.flops, 128.0 * (2.0 * 401_408.0 + 512.0));
        let step = of(Pass::Step, None);
        let others = 3.0 * 512.0 * (512.0 + 10.0);
        let parameters = 1_344.0 * 4.0 + 512.0 + 267_786.0;
        assert_eq!(step.flops, 128.0 * 2.0 * (3.0 * 26_880.0 * 4.0 + others) + 10.0 * parameters);
    }

    #[test]
    fn a_prediction_has_the_time_of_the_launches_and_of_the_work() {
        let ceilings = Ceilings { gflops: 100.0, gbps: 10.0, launch_s: 1e-5 };
        let predicted = |flops, bytes| Work { flops, bytes }.predicted(3, &ceilings);
        assert!((predicted(1e9, 1e6) - (3e-5 + 2e-2)).abs() < 1e-12);
        assert!((predicted(1e3, 1e9) - (3e-5 + 0.125)).abs() < 1e-12);
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
