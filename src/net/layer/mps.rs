//! `mps`: cores joined by bonds, in place of a matrix.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Dense, Layer};
use crate::mps::chain::{ChainPlan, End, Way};
use crate::mps::strategy::Target;
use crate::mps::{Chain, Fan, MpsSpec, Order};
use crate::net::{Backward, Call, Draw, Kind, MultiplyAdds, Shape, Stepped, Weight, features};
use crate::op;
use crate::op::activation::Activation;
use crate::op::chain::{ChainLayer, chain_layer, chain_update};
use crate::{Error, Result};

/// A matrix replaced by a chain of cores: two of them, `Y[m,n] = Σ A[m,k,j] C[l,k,n] X[j,l] + B[m,n]`, or more ([`Chain`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mps {
    /// Extents into which the input is folded, one for each core: `[J, L]` of two.
    #[serde(rename = "in")]
    pub in_factors: Vec<usize>,
    /// Extents into which the output is folded, as many: `[M, N]` of two.
    #[serde(rename = "out")]
    pub out_factors: Vec<usize>,
    /// The bonds between the cores: `K` of two.
    pub bond: Bond,
    /// Whether a bias is added.
    #[serde(default = "super::yes")]
    pub bias: bool,
    /// Zeros by which the input is extended before it is folded, and outputs of the cores that are cut off: a width that has
    /// no good factors takes those of a larger one.
    #[serde(default, skip_serializing_if = "is_none")]
    pub pad: [usize; 2],
}

/// No padding is not written: a file without any stays as it was.
fn is_none(pad: &[usize; 2]) -> bool {
    *pad == [0, 0]
}

/// The bonds of a chain: one number for all of them, or one for each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Numbers", into = "Numbers")]
pub struct Bond(Vec<usize>);

/// As files have them.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "bond: expected a number, or a list of numbers")]
enum Numbers {
    One(usize),
    Each(Vec<usize>),
}

impl From<usize> for Bond {
    fn from(bond: usize) -> Self {
        Self(vec![bond])
    }
}

/// Equal numbers are the same as one for all.
impl From<Vec<usize>> for Bond {
    fn from(mut bonds: Vec<usize>) -> Self {
        if bonds.windows(2).all(|two| two[0] == two[1]) {
            bonds.truncate(1);
        }
        Self(bonds)
    }
}

impl From<Numbers> for Bond {
    fn from(numbers: Numbers) -> Self {
        match numbers {
            Numbers::One(bond) => bond.into(),
            Numbers::Each(bonds) => bonds.into(),
        }
    }
}

impl From<Bond> for Numbers {
    fn from(Bond(bonds): Bond) -> Self {
        match bonds[..] {
            [bond] => Self::One(bond),
            _ => Self::Each(bonds),
        }
    }
}

impl Bond {
    /// That of every cut between so many cores; as it is, where it has another number of them.
    pub fn cuts(&self, cores: usize) -> Vec<usize> {
        match self.0[..] {
            [bond] => vec![bond; cores.saturating_sub(1)],
            _ => self.0.clone(),
        }
    }

    /// The largest.
    pub fn largest(&self) -> usize {
        self.0.iter().copied().max().unwrap_or_default()
    }
}

/// `3`, or `4,8,4`.
impl std::fmt::Display for Bond {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.iter().map(usize::to_string).collect::<Vec<_>>().join(","))
    }
}

impl Mps {
    /// A layer with these factors and bonds, and a bias.
    pub fn new(
        in_factors: impl Into<Vec<usize>>,
        out_factors: impl Into<Vec<usize>>,
        bond: impl Into<Bond>,
    ) -> Self {
        let (in_factors, out_factors) = (in_factors.into(), out_factors.into());
        Self { in_factors, out_factors, bond: bond.into(), bias: true, pad: [0, 0] }
    }

    /// Its extents, which [`Kind::output`] has checked.
    pub fn chain(&self) -> Chain {
        let (inputs, outputs) = (self.in_factors.clone(), self.out_factors.clone());
        let bonds = self.bond.cuts(inputs.len());
        Chain::checked(inputs, outputs, bonds)
    }

    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.chain().output() - self.pad[1]
    }

    /// The layer of two cores, if it has two.
    pub fn two_cores(&self) -> Option<MpsSpec> {
        self.chain().two_cores()
    }
}

/// Multiply-adds of a layer of two cores.
fn of_two(spec: &MpsSpec) -> MultiplyAdds {
    let order = Order::cheaper(spec);
    let forward = order.multiply_adds(spec);
    // Of `V` with the core that meets the input.
    let grad_x = match order {
        Order::CFirst => spec.j * spec.l * spec.n * spec.k,
        Order::AFirst => spec.m * spec.j * spec.l * spec.k,
    };
    // `U` or `T` again, one core's gradient from it, `V`, and the other's gradient from that.
    MultiplyAdds { forward, weights: 2 * forward, grad_x }
}

/// The same of a chain, core by core.
fn by_core(chain: &Chain, from: End) -> MultiplyAdds {
    let steps = chain.steps(from);
    let forward = steps.iter().map(|step| step.multiply_adds()).sum();
    let of = |step: Option<&crate::mps::chain::Step>| step.map_or(0, |step| step.multiply_adds());
    let (grad_x, last) = (of(steps.first()), of(steps.last()));
    // All steps but the last again, the gradient of every core, and back through all steps but the first.
    MultiplyAdds { forward, weights: 3 * forward - grad_x - last, grad_x }
}

impl Kind for Mps {
    fn output(&self, input: Shape) -> Result<Shape> {
        let named = |error| match error {
            Error::Argument { name: "in_factors", problem } => Error::argument("in", problem),
            Error::Argument { name: "out_factors", problem } => Error::argument("out", problem),
            error => error,
        };
        let bonds = self.bond.cuts(self.in_factors.len());
        let chain = Chain::new(&self.in_factors, &self.out_factors, &bonds).map_err(named)?;
        let inputs = features(input);
        let [zeros, cut] = self.pad;
        if cut >= chain.output() {
            let (outputs, most) = (chain.output(), chain.output() - 1);
            let problem = format!(
                "{zeros},{cut}: expected at most {most} outputs to cut off, of {outputs} that the cores have"
            );
            return Err(Error::argument("pad", problem));
        }
        let width = inputs.saturating_add(zeros);
        if chain.input() == width {
            return Ok([self.outputs(), 1, 1]);
        }
        let found: Vec<String> = self.in_factors.iter().map(usize::to_string).collect();
        let found = found.join(",");
        let of = match zeros {
            0 => "the layer's inputs".to_owned(),
            _ => format!("the layer's {inputs} inputs and {zeros} zeros"),
        };
        let problem = format!("{found}: expected a product of {width}, {of}");
        Err(Error::argument("in", problem))
    }

    fn weights(&self, _input: Shape) -> Vec<Weight> {
        let chain = self.chain();
        let draw = Draw::Core(Fan::from(&chain));
        let core = |name: String, shape: Vec<usize>| Weight { name, shape, draw };
        let (mut weights, bias): (Vec<Weight>, Vec<usize>) = match chain.two_cores() {
            Some(spec) => {
                let [a, c] = [spec.a_shape(), spec.c_shape()].map(Vec::from);
                (vec![core("a".into(), a), core("c".into(), c)], spec.bias_shape().into())
            }
            None => {
                let cores = (0..chain.cores())
                    .map(|at| core(format!("g{}", at + 1), chain.core_shape(at).into()));
                (cores.collect(), chain.out_factors().into())
            }
        };
        if self.bias {
            weights.push(Weight { name: "bias".into(), shape: bias, draw: Draw::Zeros });
        }
        weights
    }

    fn multiply_adds(&self, _input: Shape) -> MultiplyAdds {
        let chain = self.chain();
        if let Some(spec) = chain.two_cores() {
            return of_two(&spec);
        }
        let ways = End::BOTH.map(|from| by_core(&chain, from)).into_iter();
        let folded = (1..chain.cores()).map(|cut| of_two(&chain.folded(cut)));
        ways.chain(folded).min_by_key(|way| way.forward).unwrap_or_default()
    }

    fn buffers(&self, _input: Shape) -> Vec<usize> {
        let chain = self.chain();
        let outputs = chain.output();
        let mut buffers = if chain.cores() == 2 {
            vec![outputs]
        } else {
            // What an adapter keeps between steps, of a usual batch.
            match ChainPlan::of(&chain, 128, Target::Gpu).way {
                Way::Folded { .. } => vec![outputs],
                Way::CoreByCore { from } => {
                    chain.steps(from).iter().map(|step| step.output()).collect()
                }
            }
        };
        let [zeros, cut] = self.pad;
        buffers.extend((zeros > 0).then(|| chain.input()));
        buffers.extend((cut > 0).then(|| self.outputs()));
        buffers
    }

    fn scratch(&self, _input: Shape, batch: usize) -> [u64; 2] {
        let chain = self.chain();
        match chain.two_cores() {
            Some(spec) => op::scratch_on_cpu(&spec, batch),
            None => op::chain::scratch_on_cpu(&chain, batch),
        }
    }

    fn dense(&self) -> Option<Layer> {
        Some(Dense { out: self.outputs(), bias: self.bias }.into())
    }

    fn summary(&self, _input: Shape) -> String {
        let chain = self.chain();
        match self.pad {
            [0, 0] => chain.to_string(),
            [zeros, cut] => format!("{chain}, padded by {zeros},{cut}"),
        }
    }

    fn forward(&self, call: &Call, x: Tensor<2>) -> Result<Tensor<2>> {
        let (weights, chain) = (call.weights, self.chain());
        let [zeros, cut] = self.pad;
        // Dropout draws by the place of a number among the outputs: those that are cut off have none.
        let activation = if cut == 0 { call.activation } else { Activation::NONE };
        let x = with_zeros(x, zeros);
        let y = match chain.two_cores() {
            None => {
                let layer = ChainLayer::new(chain, weights.layout())?;
                chain_layer(x, weights.all()?, &layer, activation, call.words)?
            }
            Some(spec) => {
                let [batch, _] = x.dims();
                let x = x.reshape([batch, spec.j, spec.l]);
                let (a, c) = (weights.get(0, spec.a_shape())?, weights.get(1, spec.c_shape())?);
                let bias = weights.optional(2, spec.bias_shape())?;
                let y = op::mps_layer(x, a, c, bias, activation, call.words)?;
                y.reshape([batch, spec.outputs()])
            }
        };
        if cut == 0 { Ok(y) } else { call.activate(without_last(y, cut)) }
    }

    fn backward(&self, call: &Call, mut step: Backward) -> Result<Stepped> {
        let state = step.state()?;
        let Backward { x, y, grad_y, layout, betas, .. } = step;
        let [zeros, cut] = self.pad;
        let x = with_zeros(x, zeros);
        let (relu, grad_y) = match cut {
            0 => call.before_relu(y, grad_y)?,
            // What was cut off has a gradient of 0.
            _ => (None, with_zeros(call.activate_grad(y, grad_y)?, cut)),
        };
        let (chain, wanted) = (self.chain(), call.wants_grad_x);
        let (grad_x, state) = match chain.two_cores() {
            Some(spec) => {
                op::mps_update(state, layout, spec, x, relu, grad_y, call.words, betas, wanted)?
            }
            None => {
                let layer = ChainLayer::new(chain, layout)?;
                chain_update(state, &layer, x, relu, grad_y, call.words, betas, wanted)?
            }
        };
        let grad_x = grad_x.map(|grad_x| without_last(grad_x, zeros));
        Ok(Stepped { grad_x, state: Some(state) })
    }

    /// Matrix products, with the cores permuted instead of the larger intermediates, as a user of Burn would compose them: of
    /// two cores in the cheaper order, of more from the right.
    fn composed(&self, _input: Shape, weights: &[Tensor<1>], x: Tensor<2>) -> Tensor<2> {
        let chain = self.chain();
        let [zeros, cut] = self.pad;
        let x = with_zeros(x, zeros);
        let [batch, _] = x.dims();
        let (y, bias) = match chain.two_cores() {
            Some(spec) => (composed_of_two(&spec, weights, x), 2),
            None => (composed_by_core(&chain, weights, x), chain.cores()),
        };
        let y = y.reshape([batch, chain.output()]);
        let y = match weights.get(bias) {
            Some(bias) => y + bias.clone().unsqueeze(),
            None => y,
        };
        without_last(y, cut)
    }
}

/// Rows that go on with so many zeros.
fn with_zeros(x: Tensor<2>, count: usize) -> Tensor<2> {
    if count == 0 {
        return x;
    }
    let [batch, _] = x.dims();
    let zeros = Tensor::zeros([batch, count], &x.device());
    Tensor::cat(vec![x, zeros], 1)
}

/// Rows without so many numbers at their end.
fn without_last(y: Tensor<2>, count: usize) -> Tensor<2> {
    if count == 0 {
        return y;
    }
    let [batch, width] = y.dims();
    y.slice([0..batch, 0..width - count])
}

fn composed_of_two(spec: &MpsSpec, weights: &[Tensor<1>], x: Tensor<2>) -> Tensor<3> {
    let MpsSpec { m, n, j, l, k } = *spec;
    let [batch, _] = x.dims();
    let a = weights[0].clone().reshape(spec.a_shape());
    let c = weights[1].clone().reshape(spec.c_shape());
    match Order::cheaper(spec) {
        Order::CFirst => {
            let u = x.reshape([batch * j, l]).matmul(c.reshape([l, k * n]));
            let a = a.swap_dims(1, 2).reshape([1, m, j * k]);
            a.matmul(u.reshape([batch, j * k, n]))
        }
        Order::AFirst => {
            let t = a.reshape([1, m * k, j]).matmul(x.reshape([batch, j, l]));
            let c = c.swap_dims(0, 1).reshape([k * l, n]);
            t.reshape([batch * m, k * l]).matmul(c).reshape([batch, m, n])
        }
    }
}

/// `[p, (k o), r]` from `[p, (i k'), r]`, one core after the other: a core lies as that matrix already.
fn composed_by_core(chain: &Chain, weights: &[Tensor<1>], x: Tensor<2>) -> Tensor<3> {
    let [batch, _] = x.dims();
    let steps = chain.steps(End::Right);
    let mut t = x.reshape([batch, chain.input(), 1]);
    for step in steps {
        let (sums, terms) = (step.sums(), step.terms());
        let core = weights[step.core].clone().reshape([1, sums, terms]);
        t = core.matmul(t.reshape([batch * step.p.extent, terms, step.r.extent]));
    }
    t.reshape([batch, chain.output(), 1])
}
