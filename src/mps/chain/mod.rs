//! A chain of any number of cores (Oseledets 2011's TT-matrix): the extents of its layer, and what follows from them.
//!
//! With `d` cores `G_t[k_{t-1}, o_t, i_t, k_t]`, where `k_0 = k_d = 1`,
//!
//! ```text
//! Y[o_1 … o_d] = Σ G_1[1,o_1,i_1,k_1] G_2[k_1,o_2,i_2,k_2] … G_d[k_{d-1},o_d,i_d,1] X[i_1 … i_d] + B[o_1 … o_d]
//! ```
//!
//! Two cores are the layer of the rest of [`crate::mps`]: `A[m,k,j]` is `G_1[1,m,j,k]`, `C[l,k,n]` is `G_2[k,n,l,1]`. A longer
//! chain is computed in one of two ways ([`plan`]): as a layer of two cores, each the product of some neighbours, or core by
//! core ([`steps`]). The f64 [`mod@reference`] does neither: it builds the matrix.

pub mod plan;
pub mod reference;
pub mod steps;

use serde::{Deserialize, Serialize};

use super::MpsSpec;
use crate::{Error, Result};

pub use plan::{ChainPlan, Way};
pub use steps::{CoreMode, End, Mode, Step};

/// The extents of a chain. All are at least 1; [`Chain::new`] checks it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Chain {
    /// Extents `I_t` of the input.
    inputs: Vec<usize>,
    /// Extents `O_t` of the output, as many.
    outputs: Vec<usize>,
    /// Bonds `K_1 … K_{d-1}`, one fewer.
    bonds: Vec<usize>,
}

/// Most elements of a tensor.
const MOST: usize = 1 << 31;

impl Chain {
    /// A chain of two cores or more between inputs and outputs of these factors, with a bond between each two cores.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] naming the parameter when there are too few or not as many, one is 0, or when a core, or the input
    /// or output of a sample, has more than 2³¹ elements.
    pub fn new(in_factors: &[usize], out_factors: &[usize], bonds: &[usize]) -> Result<Self> {
        let listed = |numbers: &[usize]| match numbers {
            [] => "none".to_owned(),
            _ => numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(","),
        };
        if in_factors.len() < 2 {
            let problem = format!("{}: expected two factors or more", listed(in_factors));
            return Err(Error::argument("in_factors", problem));
        }
        if out_factors.len() != in_factors.len() {
            let (found, count) = (listed(out_factors), in_factors.len());
            let problem = format!("{found}: expected {count} factors, as many as the input has");
            return Err(Error::argument("out_factors", problem));
        }
        if bonds.len() + 1 != in_factors.len() {
            let (found, count) = (listed(bonds), in_factors.len() - 1);
            let problem = format!("{found}: expected {count} numbers, one between each two cores");
            return Err(Error::argument("bond", problem));
        }
        for (name, numbers) in
            [("in_factors", in_factors), ("out_factors", out_factors), ("bond", bonds)]
        {
            if numbers.contains(&0) {
                let problem = format!("{}: each must be at least 1", listed(numbers));
                return Err(Error::argument(name, problem));
            }
        }
        let [inputs, outputs, bonds] = [in_factors, out_factors, bonds].map(<[usize]>::to_vec);
        let chain = Self { inputs, outputs, bonds };
        let product =
            |extents: &[usize]| extents.iter().fold(1, |p: usize, &e| p.saturating_mul(e));
        let cores = (0..chain.cores()).map(|core| product(&chain.core_shape(core)));
        let samples = [product(&chain.inputs), product(&chain.outputs)];
        if cores.chain(samples).any(|elements| elements > MOST) {
            let problem = format!("a layer of {chain} has a tensor of more than {MOST} elements");
            return Err(Error::argument("bond", problem));
        }
        Ok(chain)
    }

    /// The same of extents that have been checked.
    pub(crate) fn checked(inputs: Vec<usize>, outputs: Vec<usize>, bonds: Vec<usize>) -> Self {
        Self { inputs, outputs, bonds }
    }

    /// The layer of two cores, if there are two.
    pub fn two_cores(&self) -> Option<MpsSpec> {
        (self.cores() == 2).then(|| self.folded(1))
    }

    /// Takes the extents from the shapes of cores `[k_{t-1}, o_t, i_t, k_t]`.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] naming the first core that does not fit the one before it, [`Error::Argument`] as [`Chain::new`].
    pub fn from_shapes(cores: &[[usize; 4]]) -> Result<Self> {
        let mut before = 1;
        for (at, core) in cores.iter().enumerate() {
            let [k, _, _, next] = *core;
            let is_last = at + 1 == cores.len();
            if k != before || (is_last && next != 1) {
                let end = if is_last { ", 1" } else { ", K" };
                return Err(Error::Shape {
                    operand: "cores",
                    expected: format!("[{before}, O, I{end}] of core {}", at + 1),
                    found: format!("{core:?}"),
                });
            }
            before = next;
        }
        let of = |mode: usize| cores.iter().map(|core| core[mode]).collect::<Vec<_>>();
        let bonds = of(3);
        Self::new(&of(2), &of(1), &bonds[..bonds.len().saturating_sub(1)])
    }

    /// Number of cores.
    pub fn cores(&self) -> usize {
        self.inputs.len()
    }

    /// The factors `I_t` of the input.
    pub fn in_factors(&self) -> &[usize] {
        &self.inputs
    }

    /// The factors `O_t` of the output.
    pub fn out_factors(&self) -> &[usize] {
        &self.outputs
    }

    /// The bonds `K_1 … K_{d-1}`.
    pub fn bonds(&self) -> &[usize] {
        &self.bonds
    }

    /// The bond before core `core`, counted from 0: 1 before the first and after the last.
    fn bond(&self, core: usize) -> usize {
        if core == 0 { 1 } else { self.bonds.get(core - 1).copied().unwrap_or(1) }
    }

    /// Shape `[K_{t-1}, O_t, I_t, K_t]` of a core, counted from 0.
    pub fn core_shape(&self, core: usize) -> [usize; 4] {
        [self.bond(core), self.outputs[core], self.inputs[core], self.bond(core + 1)]
    }

    /// Number of inputs of one sample.
    pub fn input(&self) -> usize {
        self.inputs.iter().product()
    }

    /// Number of outputs of one sample.
    pub fn output(&self) -> usize {
        self.outputs.iter().product()
    }

    /// Number of parameters, the bias included.
    pub fn parameters(&self) -> usize {
        let cores = (0..self.cores()).map(|core| self.core_shape(core).iter().product::<usize>());
        cores.sum::<usize>() + self.output()
    }

    /// The smallest bonds with which every matrix can be represented: at a cut the product of the factors on its
    /// smaller side.
    pub fn full_bonds(&self) -> Vec<usize> {
        let pairs = self.inputs.iter().zip(&self.outputs).map(|(i, o)| i.saturating_mul(*o));
        let pairs: Vec<usize> = pairs.collect();
        let product = |pairs: &[usize]| pairs.iter().fold(1, |p: usize, &e| p.saturating_mul(e));
        (1..pairs.len()).map(|cut| product(&pairs[..cut]).min(product(&pairs[cut..]))).collect()
    }

    /// The layer of two cores that the chain is when the `cut` cores on the left are one, and those on the right another.
    pub fn folded(&self, cut: usize) -> MpsSpec {
        let product = |factors: &[usize]| factors.iter().product();
        let (inputs, outputs) = (self.inputs.split_at(cut), self.outputs.split_at(cut));
        MpsSpec {
            m: product(outputs.0),
            n: product(outputs.1),
            j: product(inputs.0),
            l: product(inputs.1),
            k: self.bond(cut),
        }
    }
}

impl std::fmt::Display for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let joined = |numbers: &[usize], between: &str| {
            numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(between)
        };
        let (inputs, outputs) = (joined(&self.inputs, "x"), joined(&self.outputs, "x"));
        let all_equal = self.bonds.iter().all(|bond| *bond == self.bonds[0]);
        let bonds = if all_equal { &self.bonds[..1] } else { &self.bonds[..] };
        write!(f, "{inputs} -> {outputs}, bond {}", joined(bonds, ","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_those_of_the_cores() {
        let chain = Chain::new(&[4, 7, 4, 7], &[8, 4, 4, 4], &[4, 8, 4]).unwrap();
        assert_eq!((chain.input(), chain.output()), (784, 512));
        let shapes: Vec<[usize; 4]> = (0..4).map(|core| chain.core_shape(core)).collect();
        assert_eq!(shapes, [[1, 8, 4, 4], [4, 4, 7, 8], [8, 4, 4, 4], [4, 4, 7, 1]]);
        assert_eq!(chain.parameters(), 128 + 896 + 512 + 112 + 512);
        assert_eq!(chain.full_bonds(), [32, 448, 28]);
        assert_eq!(chain.folded(2), MpsSpec { m: 32, n: 16, j: 28, l: 28, k: 8 });
        assert_eq!(chain.to_string(), "4x7x4x7 -> 8x4x4x4, bond 4,8,4");
        assert_eq!(Chain::from_shapes(&shapes).unwrap(), chain);
        let two = Chain::new(&[28, 28], &[32, 16], &[3]).unwrap();
        assert_eq!(two.folded(1), MpsSpec::new([28, 28], [32, 16], 3).unwrap());
        assert_eq!(two.to_string(), two.folded(1).to_string());
    }

    #[test]
    fn impossible_extents_name_the_parameter() {
        type Case = (&'static [usize], &'static [usize], &'static [usize], &'static str);
        let cases: [Case; 6] = [
            (&[784], &[512], &[], "in_factors: 784: "),
            (&[28, 28], &[8, 8, 8], &[1], "out_factors: 8,8,8: "),
            (&[4, 7, 28], &[8, 8, 8], &[2], "bond: 2: expected 2 numbers"),
            (&[4, 0, 28], &[8, 8, 8], &[2, 2], "in_factors: 4,0,28: "),
            (&[4, 7, 28], &[8, 8, 8], &[2, 0], "bond: 2,0: "),
            (&[4, 7, 28], &[8, 8, 8], &[2, usize::MAX], "bond: a layer of "),
        ];
        for (inputs, outputs, bonds, expected) in cases {
            let line = Chain::new(inputs, outputs, bonds).unwrap_err().to_string();
            assert!(line.starts_with(expected), "{line}");
        }
        for cores in [
            [[1, 2, 3, 4], [5, 2, 3, 1]],
            [[2, 2, 3, 4], [4, 2, 3, 1]],
            [[1, 2, 3, 4], [4, 2, 3, 2]],
        ] {
            let line = Chain::from_shapes(&cores).unwrap_err().to_string();
            assert!(line.starts_with("cores: expected shape ["), "{line}");
        }
    }
}
