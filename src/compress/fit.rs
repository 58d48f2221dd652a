//! The cores whose outputs are nearest to those of a matrix, over the inputs that it gets.
//!
//! What is minimised is `E‖(W - W')ᵀ x‖²` over centred inputs: with the covariance `S` of the inputs, the trace of `(W -
//! W')ᵀ S (W - W')`. The mean is met by the bias. In one core the problem is linear least squares: with `C` given, the
//! elements `A[·,k,j]` of every output mode `m` solve a system with the same normal matrix
//!
//! ```text
//! N[(j k), (j' k')] = Σ_n Σ_ll' C[l,k,n] S[(j l), (j' l')] C[l',k',n]
//! ```
//!
//! which is a sum of small products for each pair `(j, j')`; no factor of `JK x JL` is formed. The two cores take turns
//! (alternating least squares) until a sweep over both gains little. A step never loses: its normal matrix gets a small
//! multiple of the identity, and its unknown is the change of the core, so that what the inputs do not determine (pixels
//! that are always black) stays as it was.

use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::linalg::solvers::Solve;
use faer::{Accum, Mat, MatMut, MatRef, Par, Side};
use rayon::prelude::*;

use super::cores::{Cores, check, exchanged};
use crate::mps::MpsSpec;
use crate::{Error, Result};

/// A sweep that lowers the error by less than this share is the last one.
const GAIN: f64 = 0.01;

/// An error below this is none: cores are stored in f32, which rounds to 6e-8, and at its full bond the nearest ones have
/// some 1e-14.
const EXACT: f64 = 1e-9;

/// Most sweeps.
const SWEEPS: usize = 50;

/// What is added to the diagonal of a normal matrix, by its mean: less than f64's rounding of the sums in it makes a
/// Cholesky decomposition fail where the inputs do not determine a core.
const RIDGE: f64 = 1e-9;

/// Where even that is too little, it grows by this, so many times.
const MORE_RIDGE: f64 = 100.0;
const TRIES: usize = 4;

/// The result of a fit.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit<C = Cores> {
    /// The cores.
    pub cores: C,
    /// See [`output_error`].
    pub error: f64,
    /// How often all cores were computed.
    pub sweeps: usize,
}

/// Fits cores to `weight[J·L, M·N]` over inputs with a covariance `[J·L, J·L]`, beginning with other cores.
///
/// # Errors
///
/// [`Error::Argument`] naming the operand whose size is another or that is not finite, [`Error::Compute`] when a system
/// cannot be solved.
pub fn fit(weight: &[f32], start: Cores, covariance: &[f64]) -> Result<Fit> {
    let mut problem = Problem::new(weight, *start.spec(), covariance)?;
    let best = Fit { error: problem.error(&start)?, cores: start, sweeps: 0 };
    alternated(best, |cores| {
        let mut cores = cores.clone();
        problem.sweep(&mut cores)?;
        let error = problem.error(&cores)?;
        Ok((cores, error))
    })
}

/// Sweeps over all cores until one gains little. `sweep` gives the cores after one, and their error.
pub(super) fn alternated<C>(
    mut best: Fit<C>,
    mut sweep: impl FnMut(&C) -> Result<(C, f64)>,
) -> Result<Fit<C>> {
    while best.sweeps < SWEEPS && best.error > EXACT {
        let (cores, error) = sweep(&best.cores)?;
        let gains = error < best.error * (1.0 - GAIN);
        if error < best.error {
            best = Fit { cores, error, sweeps: best.sweeps + 1 };
        }
        if !gains {
            break;
        }
    }
    Ok(best)
}

/// `√(E‖(W - W')ᵀ x‖² / E‖Wᵀ x‖²)` over centred inputs with a covariance `[J·L, J·L]`: the share of the outputs' deviation
/// that the cores miss, where the bias meets their mean; 0 where the outputs do not vary.
///
/// # Errors
///
/// As [`fit`].
pub fn output_error(weight: &[f32], cores: &Cores, covariance: &[f64]) -> Result<f64> {
    Problem::new(weight, *cores.spec(), covariance)?.error(cores)
}

/// A core that is computed: its input and output mode, those of the other one, and the bond.
struct Turn {
    input: usize,
    output: usize,
    other_input: usize,
    other_output: usize,
    bond: usize,
}

struct Problem {
    spec: MpsSpec,
    /// `[(j l), (m n)]`.
    weight: Vec<f64>,
    /// `[(j l), (j' l')]`, and `[(l j), (l' j')]`.
    covariances: [Vec<f64>; 2],
    /// `S W` as `[(j m), (l n)]`.
    target: Vec<f64>,
    /// `E‖Wᵀ x‖²`.
    whole: f64,
}

impl Problem {
    fn new(weight: &[f32], spec: MpsSpec, covariance: &[f64]) -> Result<Self> {
        let MpsSpec { m, n, j, l, .. } = spec;
        let (inputs, outputs) = (spec.inputs(), spec.outputs());
        check("weight", weight, inputs * outputs)?;
        if covariance.len() != inputs * inputs || covariance.iter().any(|value| !value.is_finite())
        {
            let problem = format!("expected {inputs} x {inputs} finite numbers");
            return Err(Error::argument("covariance", problem));
        }
        let weight: Vec<f64> = weight.iter().copied().map(f64::from).collect();
        // [j, l, j', l'] to [l, j, l', j'].
        let turned = (0..covariance.len()).map(|at| {
            let (row, column) = (at / inputs, at % inputs);
            let [row, column] = [row, column].map(|at| at % j * l + at / j);
            covariance[row * inputs + column]
        });
        let covariances = [covariance.to_vec(), turned.collect()];
        let spread = product(
            MatRef::from_row_major_slice(covariance, inputs, inputs),
            MatRef::from_row_major_slice(&weight, inputs, outputs),
        );
        let whole = weight.iter().zip(&spread).map(|(weight, spread)| weight * spread).sum();
        let target = exchanged(&spread, [j, l, m, n]);
        Ok(Self { spec, weight, covariances, target, whole })
    }

    fn error(&self, cores: &Cores) -> Result<f64> {
        if self.whole <= 0.0 {
            return Ok(0.0);
        }
        let (inputs, outputs) = (self.spec.inputs(), self.spec.outputs());
        let other = cores.matrix();
        let difference: Vec<f64> =
            self.weight.iter().zip(&other).map(|(weight, other)| weight - other).collect();
        let spread = product(
            MatRef::from_row_major_slice(&self.covariances[0], inputs, inputs),
            MatRef::from_row_major_slice(&difference, inputs, outputs),
        );
        let missed: f64 = difference.iter().zip(&spread).map(|(by, spread)| by * spread).sum();
        if !missed.is_finite() {
            return Err(Error::compute("fitting cores", "the error is not finite"));
        }
        Ok((missed.max(0.0) / self.whole).sqrt())
    }

    /// Computes both cores anew.
    fn sweep(&mut self, cores: &mut Cores) -> Result<()> {
        let MpsSpec { m, n, j, l, k } = self.spec;
        let of_a = Turn { input: j, output: m, other_input: l, other_output: n, bond: k };
        let of_c = Turn { input: l, output: n, other_input: j, other_output: m, bond: k };
        let target = MatRef::from_row_major_slice(&self.target, j * m, l * n);
        cores.a = of_a.solved(&self.covariances[0], target, &cores.a, &cores.c)?;
        cores.c = of_c.solved(&self.covariances[1], target.transpose(), &cores.c, &cores.a)?;
        Ok(())
    }
}

impl Turn {
    /// The core for which the error is the least with the other one given. Cores are `[(input output), bond]`.
    fn solved(
        &self,
        covariance: &[f64],
        target: MatRef<f64>,
        own: &[f64],
        other: &[f64],
    ) -> Result<Vec<f64>> {
        let Self { input, output, bond, .. } = *self;
        let size = input * bond;
        let normal = self.normal(covariance, other);
        let other_rows = self.other_input * self.other_output;
        let right = product(target, MatRef::from_row_major_slice(other, other_rows, bond));
        // [input, output, bond] as [(input bond), output].
        let column = |numbers: &[f64]| {
            let number = |row: usize, column: usize| {
                numbers[(row / bond * output + column) * bond + row % bond]
            };
            Mat::from_fn(size, output, number)
        };
        let (own, right) = (column(own), column(&right));
        // What is left of the right side is solved for the change.
        let mut left = right;
        subtract_product(left.as_mut(), normal.as_ref(), own.as_ref());
        let change = solved(normal, &left)?;
        let number = |at: usize| {
            let (row, column) = (at / bond / output * bond + at % bond, at / bond % output);
            own[(row, column)] + change[(row, column)]
        };
        Ok((0..size * output).map(number).collect())
    }

    /// The normal matrix `[(input bond), (input bond)]`, of which the lower half is filled.
    fn normal(&self, covariance: &[f64], other: &[f64]) -> Mat<f64> {
        let Self { input, other_input, other_output, bond, .. } = *self;
        let columns = other_output * bond;
        let inputs = input * other_input;
        let covariance = MatRef::from_row_major_slice(covariance, inputs, inputs);
        let wide = MatRef::from_row_major_slice(other, other_input, columns);
        let tall = MatRef::from_row_major_slice(other, other_input * other_output, bond);
        let mut normal = Mat::zeros(input * bond, input * bond);
        // Each row of blocks is a task; the products in it are too small to share.
        let rows = normal.as_mut().par_row_chunks_mut(bond).enumerate();
        rows.for_each(|(row, mut blocks)| {
            let mut spread = vec![0.0; other_input * columns];
            for column in 0..=row {
                let block = covariance.submatrix(
                    row * other_input,
                    column * other_input,
                    other_input,
                    other_input,
                );
                let to = MatMut::from_row_major_slice_mut(&mut spread, other_input, columns);
                matmul(to, Accum::Replace, block, wide, 1.0, Par::Seq);
                let spread =
                    MatRef::from_row_major_slice(&spread, other_input * other_output, bond);
                let to = blocks.as_mut().subcols_mut(column * bond, bond);
                matmul(to, Accum::Replace, tall.transpose(), spread, 1.0, Par::Seq);
            }
        });
        normal
    }
}

/// `N⁻¹ right` of a normal matrix, of which the lower half is read, with as much of a ridge as it takes.
pub(super) fn solved(mut normal: Mat<f64>, right: &Mat<f64>) -> Result<Mat<f64>> {
    let size = normal.nrows();
    let mean = (0..size).map(|at| normal[(at, at)]).sum::<f64>() / size as f64;
    let mut ridge = RIDGE * mean;
    for _ in 0..TRIES {
        for at in 0..size {
            normal[(at, at)] += ridge;
        }
        if let Ok(decomposed) = normal.llt(Side::Lower) {
            return Ok(decomposed.solve(right));
        }
        ridge *= MORE_RIDGE;
    }
    Err(Error::compute("fitting cores", "the normal matrix is not positive definite"))
}

/// `to -= matrix · right`, with a symmetric matrix of which only the lower half is read.
fn subtract_product(mut to: MatMut<f64>, matrix: MatRef<f64>, right: MatRef<f64>) {
    let halves = [
        (matrix, BlockStructure::TriangularLower),
        (matrix.transpose(), BlockStructure::StrictTriangularUpper),
    ];
    for (half, structure) in halves {
        triangular::matmul(
            to.as_mut(),
            BlockStructure::Rectangular,
            Accum::Add,
            half,
            structure,
            right,
            BlockStructure::Rectangular,
            -1.0,
            Par::rayon(0),
        );
    }
}

/// The product of two matrices, row-major.
pub(super) fn product(left: MatRef<f64>, right: MatRef<f64>) -> Vec<f64> {
    let mut product = vec![0.0; left.nrows() * right.ncols()];
    let to = MatMut::from_row_major_slice_mut(&mut product, left.nrows(), right.ncols());
    matmul(to, Accum::Replace, left, right, 1.0, Par::rayon(0));
    product
}
