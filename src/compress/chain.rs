//! The cores of a chain in f64, and the matrix that they stand for.
//!
//! A matrix `W[(i_1 … i_d), (o_1 … o_d)]` with its modes in the order `T[(i_1 o_1), …, (i_d o_d)]` is the product of the cores
//! `G_t[k_{t-1}, (i_t o_t), k_t]` (I. Oseledets 2010 and 2011), so that everything here is done to `T`.

use faer::MatRef;

use super::cores::{check, exchanged};
use super::fit::product;
use crate::mps::Chain;
use crate::{Error, Result};

/// A singular value below this share of the largest is nothing but rounding: its root is not divided by.
const NOTHING: f64 = 1e-14;

/// Where the numbers of a matrix lie in `T`: that of an input and an output at the sum of both.
#[derive(Debug, Clone)]
pub(super) struct Modes {
    pub inputs: Vec<usize>,
    pub outputs: Vec<usize>,
}

impl Modes {
    /// Of some neighbouring cores.
    pub fn new(in_factors: &[usize], out_factors: &[usize]) -> Self {
        let (mut inputs, mut outputs) = (vec![0], vec![0]);
        let mut left: usize = in_factors.iter().chain(out_factors).product();
        for (&input, &output) in in_factors.iter().zip(out_factors) {
            left /= input * output;
            let with = |offsets: &[usize], extent: usize, stride: usize| {
                let each = |&offset: &usize| (0..extent).map(move |at| offset + at * stride);
                offsets.iter().flat_map(each).collect()
            };
            inputs = with(&inputs, input, output * left);
            outputs = with(&outputs, output, left);
        }
        Self { inputs, outputs }
    }

    /// `T` from the matrix.
    pub fn tensor(&self, matrix: &[f64]) -> Vec<f64> {
        let mut tensor = vec![0.0; matrix.len()];
        for (row, input) in matrix.chunks_exact(self.outputs.len()).zip(&self.inputs) {
            for (number, output) in row.iter().zip(&self.outputs) {
                tensor[input + output] = *number;
            }
        }
        tensor
    }

    /// The matrix from `T`.
    pub fn matrix(&self, tensor: &[f64]) -> Vec<f64> {
        let row = |input: usize| self.outputs.iter().map(move |output| tensor[input + output]);
        self.inputs.iter().copied().flat_map(row).collect()
    }
}

/// The cores of a chain, each as `[k, i, o, k']`, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct ChainCores {
    pub(super) chain: Chain,
    pub(super) cores: Vec<Vec<f64>>,
}

/// The product of row-major matrices `[…, inner]` and `[inner, …]`.
pub(super) fn times(left: &[f64], inner: usize, right: &[f64]) -> Vec<f64> {
    product(
        MatRef::from_row_major_slice(left, left.len() / inner, inner),
        MatRef::from_row_major_slice(right, inner, right.len() / inner),
    )
}

/// A row-major matrix from one of faer's.
pub(super) fn row_major(matrix: MatRef<f64>) -> Vec<f64> {
    let row = |row: usize| (0..matrix.ncols()).map(move |column| matrix[(row, column)]);
    (0..matrix.nrows()).flat_map(row).collect()
}

impl ChainCores {
    /// From cores `[k, o, i, k']`.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] naming `cores` when there are not as many, or one has not as many numbers, as the chain says, or one
    /// that is not finite.
    pub fn new(chain: Chain, cores: &[Vec<f32>]) -> Result<Self> {
        if cores.len() != chain.cores() {
            let problem = format!("{} cores: expected {}", cores.len(), chain.cores());
            return Err(Error::argument("cores", problem));
        }
        let core = |(at, core): (usize, &Vec<f32>)| {
            let shape = chain.core_shape(at);
            check("cores", core, shape.iter().product())?;
            let core: Vec<f64> = core.iter().copied().map(f64::from).collect();
            Ok(exchanged(&core, shape))
        };
        let cores = cores.iter().enumerate().map(core).collect::<Result<_>>()?;
        Ok(Self { chain, cores })
    }

    /// The extents.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The cores as `[k, o, i, k']`.
    pub fn cores(&self) -> Vec<Vec<f32>> {
        let core = |(at, core): (usize, &Vec<f64>)| {
            let [k, o, i, next] = self.chain.core_shape(at);
            exchanged(core, [k, i, o, next]).into_iter().map(|number| number as f32).collect()
        };
        self.cores.iter().enumerate().map(core).collect()
    }

    /// The matrix `W[(i_1 … i_d), (o_1 … o_d)]`, row-major.
    pub fn matrix(&self) -> Vec<f64> {
        let tensor = (1..self.chain.cores()).fold(self.cores[0].clone(), |left, core| {
            times(&left, self.bond(core), &self.cores[core])
        });
        Modes::new(self.chain.in_factors(), self.chain.out_factors()).matrix(&tensor)
    }

    /// The bond before a core.
    pub(super) fn bond(&self, core: usize) -> usize {
        self.chain.core_shape(core)[0]
    }

    /// The same matrix with the weight in the first core: every core after it has rows `[k, (i o k')]` that are orthonormal, up to a
    /// factor if the matrix has one.
    pub(super) fn right_orthogonal(mut self) -> Self {
        for core in (1..self.chain.cores()).rev() {
            let bond = self.bond(core);
            let columns = self.cores[core].len() / bond;
            let rows = MatRef::from_row_major_slice(&self.cores[core], bond, columns);
            let decomposed = rows.transpose().qr();
            self.cores[core] = row_major(decomposed.compute_thin_Q().transpose());
            let rest = row_major(decomposed.thin_R().transpose());
            self.cores[core - 1] = times(&self.cores[core - 1], bond, &rest);
        }
        self
    }

    /// Moves the weight of a core, `[(k i o), k']`, to the next one.
    pub(super) fn pass_on(&mut self, core: usize) {
        let bond = self.bond(core + 1);
        let rows = self.cores[core].len() / bond;
        let decomposed = MatRef::from_row_major_slice(&self.cores[core], rows, bond).qr();
        self.cores[core] = row_major(decomposed.compute_thin_Q().as_ref());
        self.cores[core + 1] = times(&row_major(decomposed.thin_R()), bond, &self.cores[core + 1]);
    }

    /// The same matrix in cores to train on, of which no one is much larger than another: the roots of the singular values at a
    /// cut in both cores beside it, as two cores have them, and every core of the same norm. The last core must have the
    /// weight, the others orthonormal columns.
    pub(super) fn balanced(mut self) -> Result<Self> {
        // Roots of the singular values at the cut after a core.
        let mut after = vec![1.0_f64];
        for core in (0..self.chain.cores()).rev() {
            let bond = self.bond(core);
            let columns = self.cores[core].len() / bond;
            let mut before = vec![1.0_f64];
            if core > 0 {
                let rows = MatRef::from_row_major_slice(&self.cores[core], bond, columns);
                let svd = decomposed(rows)?;
                let value = |k: usize| svd.S().column_vector()[k];
                let kept = |k: usize| if value(k) > NOTHING * value(0) { value(k) } else { 0.0 };
                before = (0..bond).map(|k| kept(k).sqrt()).collect();
                let right = svd.V();
                let rows = (0..bond).flat_map(|k| (0..columns).map(move |at| right[(at, k)]));
                self.cores[core] = rows.collect();
                let left = svd.U();
                let rest = (0..bond).flat_map(|row| (0..bond).map(move |k| (row, k)));
                let rest: Vec<f64> = rest.map(|(row, k)| left[(row, k)] * value(k)).collect();
                self.cores[core - 1] = times(&self.cores[core - 1], bond, &rest);
            }
            let inverse: Vec<f64> =
                after.iter().map(|root| if *root == 0.0 { 0.0 } else { 1.0 / root }).collect();
            for (at, number) in self.cores[core].iter_mut().enumerate() {
                *number *= before[at / columns] * inverse[at % after.len()];
            }
            after = before;
        }
        let norms = self.cores.iter().map(|core| core.iter().map(|x| x * x).sum::<f64>().sqrt());
        let norms: Vec<f64> = norms.collect();
        if norms.iter().all(|norm| *norm > 0.0) {
            let logarithms: f64 = norms.iter().map(|norm| norm.ln()).sum();
            let mean = (logarithms / norms.len() as f64).exp();
            for (core, norm) in self.cores.iter_mut().zip(norms) {
                core.iter_mut().for_each(|number| *number *= mean / norm);
            }
        }
        Ok(self)
    }
}

/// The thin singular value decomposition.
pub(super) fn decomposed(matrix: MatRef<f64>) -> Result<faer::linalg::solvers::Svd<f64>> {
    matrix.thin_svd().map_err(|error| Error::compute("decomposing a matrix", format!("{error:?}")))
}
