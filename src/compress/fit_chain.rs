//! The chain whose outputs are nearest to those of a matrix, over the inputs that it gets: [`fit()`](super::fit()) for any
//! number of cores (alternating linear least squares: S. Holtz, T. Rohwedder, R. Schneider 2012).
//!
//! In one core `G[k,i,o,k']` the error `tr((W - W')ᵀ S (W - W'))` is least squares. With `L` the product of the cores before
//! it and `R` that of the cores after it, all its elements of an output mode `o` have the same normal matrix
//!
//! ```text
//! N[(k i k'), (κ ι κ')] = Σ P[(I I'), (k κ)] S[(I i J), (I' ι J')] Q[(J J'), (k' κ')]
//! P[(I I'), (k κ)]      = Σ_O L[I,O,k] L[I',O,κ]          Q[(J J'), (k' κ')] = Σ_O R[k',J,O] R[κ',J',O]
//! ```
//!
//! which is built from the right: `S Q` first, then `P` of that. No factor of `(k i o k')` squared is formed. `L` has
//! orthonormal columns and `R` orthonormal rows while the core between them is solved for, so that the matrix is no worse
//! conditioned than the inputs are. Cores take turns from the left to the right.
//!
//! A matrix that would be large (4,096 rows have 0.3 GB with the decomposition) is never built: conjugate
//! gradients apply it as what it is, a product with `L` and `R`, one with `S` and one with `L` and `R` again. They lower the
//! error from their first step on, so that a few steps in every sweep are enough.

use faer::{Mat, MatRef};

use super::chain::{ChainCores, Modes, row_major, times};
use super::cores::{check, exchanged};
use super::fit::{Fit, alternated, product, solved};
use crate::mps::Chain;
use crate::{Error, Result};

/// Most numbers that a normal matrix takes, with what it is built from and its decomposition.
const DIRECT: u64 = 1 << 25;

/// Most steps of conjugate gradients in a core.
const STEPS: usize = 40;

/// They end where what is left of the right side is this share of it.
const SMALL: f64 = 1e-8;

/// Fits a chain to `weight[I, O]` over inputs with a covariance `[I, I]`, beginning with other cores.
///
/// # Errors
///
/// [`Error::Argument`] naming the operand whose size is another or that is not finite, or `bond` when one is larger than the
/// rank that the cores beside it allow; [`Error::Compute`] when a system cannot be solved.
pub fn fit_chain(weight: &[f32], start: ChainCores, covariance: &[f64]) -> Result<Fit<ChainCores>> {
    let chain = start.chain().clone();
    for core in 0..chain.cores() {
        let [before, outputs, inputs, after] = chain.core_shape(core);
        let most = inputs * outputs;
        if before > most * after || after > most * before {
            let problem =
                format!("{chain}: expected none larger than {most} times the one beside it");
            return Err(Error::argument("bond", problem));
        }
    }
    let problem = Problem::new(weight, chain, covariance)?;
    let best = Fit { error: problem.error(&start)?, cores: start, sweeps: 0 };
    let mut fitted = alternated(best, |cores| {
        let cores = problem.swept(cores)?;
        let error = problem.error(&cores)?;
        Ok((cores, error))
    })?;
    if fitted.sweeps > 0 {
        fitted.cores = fitted.cores.balanced()?;
    }
    Ok(fitted)
}

/// [`output_error`](super::output_error) of a chain.
///
/// # Errors
///
/// As [`fit_chain`].
pub fn chain_output_error(weight: &[f32], cores: &ChainCores, covariance: &[f64]) -> Result<f64> {
    Problem::new(weight, cores.chain().clone(), covariance)?.error(cores)
}

/// Bytes that a fit needs at its peak, besides the matrix and the covariance.
pub fn needed(chain: &Chain) -> u64 {
    let direct = (0..chain.cores()).map(|core| Turn::new(chain, core).direct());
    let direct = direct.filter(|numbers| *numbers <= DIRECT).max().unwrap_or(0);
    // What a core and its direction of search stand for, each as a tensor, as a matrix, and multiplied by the covariance.
    let others = 8 * (chain.input() * chain.output()) as u64;
    (direct + others) * size_of::<f64>() as u64
}

struct Problem {
    chain: Chain,
    modes: Modes,
    /// `[I, O]`.
    weight: Vec<f64>,
    /// `[I, I]`.
    covariance: Vec<f64>,
    /// `E‖Wᵀ x‖²`.
    whole: f64,
    /// Most numbers of a normal matrix that is built: [`DIRECT`].
    direct: u64,
}

/// A core that is computed, and how wide what is beside it is.
struct Turn {
    /// `[k, o, i, k']`.
    shape: [usize; 4],
    /// Inputs and outputs of the cores before it.
    before: [usize; 2],
    /// The same of those after it.
    after: [usize; 2],
}

impl Turn {
    fn new(chain: &Chain, core: usize) -> Self {
        let product = |factors: &[usize]| factors.iter().product();
        let (inputs, outputs) = (chain.in_factors(), chain.out_factors());
        Self {
            shape: chain.core_shape(core),
            before: [product(&inputs[..core]), product(&outputs[..core])],
            after: [product(&inputs[core + 1..]), product(&outputs[core + 1..])],
        }
    }

    /// Numbers of the normal matrix, of its decomposition and of the largest of what it is built from.
    fn direct(&self) -> u64 {
        let [k, _, i, next] = self.shape.map(|extent| extent as u64);
        let square = |extent: u64| extent.saturating_mul(extent);
        let [before, after] = [self.before[0] as u64, self.after[0] as u64];
        let (size, p, q) = (k * i * next, square(before * k), square(after * next));
        let of_covariance = square(before * i * after);
        let spread = square(before * i * next);
        let sums = p.saturating_add(q).saturating_add(of_covariance).saturating_add(spread);
        sums.saturating_mul(2).saturating_add(2 * square(size))
    }
}

impl Problem {
    fn new(weight: &[f32], chain: Chain, covariance: &[f64]) -> Result<Self> {
        let (inputs, outputs) = (chain.input(), chain.output());
        check("weight", weight, inputs * outputs)?;
        if covariance.len() != inputs * inputs || covariance.iter().any(|x| !x.is_finite()) {
            let problem = format!("expected {inputs} x {inputs} finite numbers");
            return Err(Error::argument("covariance", problem));
        }
        let weight: Vec<f64> = weight.iter().copied().map(f64::from).collect();
        let spread = times(covariance, inputs, &weight);
        let whole = weight.iter().zip(&spread).map(|(weight, spread)| weight * spread).sum();
        let modes = Modes::new(chain.in_factors(), chain.out_factors());
        let covariance = covariance.to_vec();
        Ok(Self { chain, modes, weight, covariance, whole, direct: DIRECT })
    }

    fn error(&self, cores: &ChainCores) -> Result<f64> {
        if self.whole <= 0.0 {
            return Ok(0.0);
        }
        let other = cores.matrix();
        let difference: Vec<f64> =
            self.weight.iter().zip(&other).map(|(weight, other)| weight - other).collect();
        let spread = times(&self.covariance, self.chain.input(), &difference);
        let missed: f64 = difference.iter().zip(&spread).map(|(by, spread)| by * spread).sum();
        if !missed.is_finite() {
            return Err(Error::compute("fitting cores", "the error is not finite"));
        }
        Ok((missed.max(0.0) / self.whole).sqrt())
    }

    /// The cores after each was computed anew, the weight in the last one.
    fn swept(&self, cores: &ChainCores) -> Result<ChainCores> {
        let count = self.chain.cores();
        let mut cores = cores.clone().right_orthogonal();
        // `[k', (J O)]`: the product of the cores from one on.
        let mut right = vec![vec![1.0]];
        for core in (1..count).rev() {
            let next = right[right.len() - 1].clone();
            let bond = self.chain.core_shape(core)[3];
            right.push(times(&cores.cores[core], bond, &next));
        }
        // `[(I O), k]`: the product of the cores so far.
        let mut left = vec![1.0];
        for core in 0..count {
            let right = right.pop().unwrap_or_default();
            let between = Between { problem: self, core, left: &left, right: &right };
            let change = between.change(&cores.cores[core])?;
            cores.cores[core].iter_mut().zip(change).for_each(|(number, by)| *number += by);
            if core + 1 < count {
                cores.pass_on(core);
                left = times(&left, self.chain.core_shape(core)[0], &cores.cores[core]);
            }
        }
        Ok(cores)
    }
}

/// A core between the products of those before and after it.
struct Between<'a> {
    problem: &'a Problem,
    core: usize,
    left: &'a [f64],
    right: &'a [f64],
}

impl Between<'_> {
    /// By what the core changes for the error to be the least.
    fn change(&self, own: &[f64]) -> Result<Vec<f64>> {
        let turn = Turn::new(&self.problem.chain, self.core);
        let now = self.matrix(own);
        let left: Vec<f64> =
            self.problem.weight.iter().zip(&now).map(|(weight, now)| weight - now).collect();
        let right = self.projected(&left);
        if turn.direct() > self.problem.direct {
            return Ok(self.by_gradients(right));
        }
        let [k, o, i, next] = turn.shape;
        let size = k * i * next;
        let right = exchanged(&right, [k * i, o, next, 1]);
        let right = MatRef::from_row_major_slice(&right, size, o).to_owned();
        let change = solved(self.normal(&turn), &right)?;
        Ok(exchanged(&row_major(change.as_ref()), [k * i, next, o, 1]))
    }

    /// The matrix for which a core between the others stands.
    fn matrix(&self, core: &[f64]) -> Vec<f64> {
        let [k, _, _, next] = self.problem.chain.core_shape(self.core);
        let tensor = times(&times(self.left, k, core), next, self.right);
        self.problem.modes.matrix(&tensor)
    }

    /// `Σ L (S matrix) R`: the gradient by the core, but for a factor.
    fn projected(&self, matrix: &[f64]) -> Vec<f64> {
        let Problem { chain, modes, covariance, .. } = self.problem;
        let [k, _, _, next] = chain.core_shape(self.core);
        let spread = modes.tensor(&times(covariance, chain.input(), matrix));
        let rows = self.left.len() / k;
        let left = MatRef::from_row_major_slice(self.left, rows, k);
        let spread = MatRef::from_row_major_slice(&spread, rows, spread.len() / rows);
        let of_left = product(left.transpose(), spread);
        let columns = self.right.len() / next;
        let right = MatRef::from_row_major_slice(self.right, next, columns);
        let of_left = MatRef::from_row_major_slice(&of_left, of_left.len() / columns, columns);
        product(of_left, right.transpose())
    }

    fn normal(&self, turn: &Turn) -> Mat<f64> {
        let [k, _, i, next] = turn.shape;
        let ([before, before_outputs], [after, after_outputs]) = (turn.before, turn.after);
        let factors = (self.problem.chain.in_factors(), self.problem.chain.out_factors());
        let modes = Modes::new(&factors.0[..self.core], &factors.1[..self.core]);
        // [(I k), O] and [(J k'), O].
        let mut of_left = Vec::with_capacity(self.left.len());
        for input in &modes.inputs {
            for at in 0..k {
                of_left.extend(modes.outputs.iter().map(|o| self.left[(input + o) * k + at]));
            }
        }
        let modes = Modes::new(&factors.0[self.core + 1..], &factors.1[self.core + 1..]);
        let mut of_right = Vec::with_capacity(self.right.len());
        for input in &modes.inputs {
            for row in self.right.chunks_exact(after * after_outputs) {
                of_right.extend(modes.outputs.iter().map(|o| row[input + o]));
            }
        }
        let squared = |rows: &[f64], columns: usize| {
            let rows = MatRef::from_row_major_slice(rows, rows.len() / columns, columns);
            product(rows, rows.transpose())
        };
        let p = exchanged(&squared(&of_left, before_outputs), [before, k, before, k]);
        let q = exchanged(&squared(&of_right, after_outputs), [after, next, after, next]);
        // [(I i), (I' ι), (J J')].
        let inner = before * i;
        let covariance = exchanged(&self.problem.covariance, [inner, after, inner, after]);
        let spread = times(&covariance, after * after, &q);
        let spread = exchanged(&spread, [before, i, before, i * next * next]);
        let columns = spread.len() / (before * before);
        let p = MatRef::from_row_major_slice(&p, before * before, k * k);
        let spread = MatRef::from_row_major_slice(&spread, before * before, columns);
        let normal = product(p.transpose(), spread);
        // [k, κ, i, (ι k' κ')] to [(k i), κ, ι, k', κ'] to [(k i k'), (κ ι κ')].
        let normal = exchanged(&normal, [k, k, i, i * next * next]);
        let normal = exchanged(&normal, [k * i, k * i, next, next]);
        MatRef::from_row_major_slice(&normal, k * i * next, k * i * next).to_owned()
    }

    /// Conjugate gradients from a change of 0 on.
    fn by_gradients(&self, mut left: Vec<f64>) -> Vec<f64> {
        let dot = |one: &[f64], other: &[f64]| -> f64 {
            one.iter().zip(other).map(|(one, other)| one * other).sum()
        };
        let mut change = vec![0.0; left.len()];
        let mut direction = left.clone();
        let mut square = dot(&left, &left);
        let end = SMALL * SMALL * square;
        for _ in 0..STEPS {
            let applied = self.projected(&self.matrix(&direction));
            let along = dot(&direction, &applied);
            // Nothing that varies is left.
            if square <= end || along <= 0.0 {
                break;
            }
            let step = square / along;
            change.iter_mut().zip(&direction).for_each(|(number, by)| *number += step * by);
            left.iter_mut().zip(&applied).for_each(|(number, by)| *number -= step * by);
            let next = dot(&left, &left);
            direction.iter_mut().zip(&left).for_each(|(by, left)| *by = left + next / square * *by);
            square = next;
        }
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compress::TtSvd;

    /// Numbers from -1 to 1.
    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        let mut next = seed;
        let mut number = || {
            next = next.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
            (next >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| number()).collect()
    }

    /// A covariance of so many features that follow from fewer causes, and of some that never vary.
    fn covariance(features: usize, causes: usize, seed: u64) -> Vec<f64> {
        let mixed: Vec<f64> = numbers(features * causes, seed).into_iter().map(f64::from).collect();
        let varies = |feature: usize| feature % 7 != 6;
        let of = |one: usize, other: usize| -> f64 {
            let both = |cause| mixed[one * causes + cause] * mixed[other * causes + cause];
            let sum = (0..causes).map(both).sum();
            if varies(one) && varies(other) { sum } else { 0.0 }
        };
        (0..features * features).map(|at| of(at / features, at % features)).collect()
    }

    fn problem(ins: &[usize], outs: &[usize], bond: usize) -> (Problem, ChainCores) {
        let (inputs, outputs) = (ins.iter().product(), outs.iter().product::<usize>());
        let weight = numbers(inputs * outputs, 3);
        let start = TtSvd::new(&weight, ins, outs, None).unwrap().cores(bond).unwrap();
        let covariance = covariance(inputs, inputs, 5);
        let problem = Problem::new(&weight, start.chain().clone(), &covariance).unwrap();
        (problem, start)
    }

    /// With the normal matrices built, and without: no sweep ends with a larger error than the one before it, but for the
    /// rounding of sums in f64; and what is left of the gradient by a core that was solved for is nothing beside what it was.
    #[test]
    fn the_error_falls_from_sweep_to_sweep() {
        for (ins, outs, bond) in [
            (&[2, 3, 2][..], &[3, 1, 4][..], 3),
            (&[1, 5, 2, 2], &[2, 2, 1, 3], 2),
            (&[3, 1, 4], &[1, 7, 2], 2),
        ] {
            for direct in [DIRECT, 0] {
                let (problem, mut cores) = problem(ins, outs, bond);
                let problem = Problem { direct, ..problem };
                let mut error = problem.error(&cores).unwrap();
                let first = error;
                for sweep in 0..8 {
                    cores = problem.swept(&cores).unwrap();
                    let next = problem.error(&cores).unwrap();
                    assert!(next <= error + 1e-12, "{ins:?}, {sweep}: {next} after {error}");
                    error = next;
                }
                assert!(error < 0.99 * first, "{ins:?}, {direct}: {error} of {first}");
            }
        }
    }

    /// The matrix that is built is what conjugate gradients apply: both solve for the same change. In so many steps as there
    /// are unknowns of an output they are exact but for rounding, which the condition of the inputs makes larger.
    #[test]
    fn both_ways_to_solve_for_a_core_agree() {
        let (problem, cores) = problem(&[2, 3, 2], &[2, 1, 2], 2);
        let cores = cores.right_orthogonal();
        let right = times(&cores.cores[1], 2, &cores.cores[2]);
        let between = Between { problem: &problem, core: 0, left: &[1.0], right: &right };
        let direct = between.change(&cores.cores[0]).unwrap();
        let now = between.matrix(&cores.cores[0]);
        let left: Vec<f64> =
            problem.weight.iter().zip(&now).map(|(weight, now)| weight - now).collect();
        let projected = between.projected(&left);
        let gradients = between.by_gradients(projected.clone());
        let largest = direct.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
        for (one, other) in direct.iter().zip(&gradients) {
            assert!((one - other).abs() < 1e-6 * largest, "{direct:?} {gradients:?}");
        }
        let moved: Vec<f64> = cores.cores[0].iter().zip(&direct).map(|(x, by)| x + by).collect();
        let now = between.matrix(&moved);
        let left: Vec<f64> =
            problem.weight.iter().zip(&now).map(|(weight, now)| weight - now).collect();
        let square = |numbers: &[f64]| numbers.iter().map(|x| x * x).sum::<f64>().sqrt();
        let [before, after] = [square(&projected), square(&between.projected(&left))];
        assert!(after < 1e-7 * before, "{after} of {before}");
    }
}
