//! The cores of a layer in f64, and the matrix that they stand for.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use crate::mps::MpsSpec;
use crate::{Error, Result};

/// Two cores, in the order in which products take them: `A` as `[(j m), k]` and `C` as `[(l n), k]`, row-major. Their
/// product `A Cᵀ` is the matrix with its modes in another order.
#[derive(Debug, Clone, PartialEq)]
pub struct Cores {
    pub(super) spec: MpsSpec,
    pub(super) a: Vec<f64>,
    pub(super) c: Vec<f64>,
}

impl Cores {
    /// From `a[m,k,j]` and `c[l,k,n]`.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] naming the core that has not as many numbers as the layer says, or one that is not finite.
    pub fn new(spec: MpsSpec, a: &[f32], c: &[f32]) -> Result<Self> {
        check("a", a, spec.a_shape().iter().product())?;
        check("c", c, spec.c_shape().iter().product())?;
        let MpsSpec { m, n, j, k, .. } = spec;
        let a_at = |at: usize| a[(at / k % m * k + at % k) * j + at / k / m];
        let c_at = |at: usize| c[(at / k / n * k + at % k) * n + at / k % n];
        let a = (0..a.len()).map(|at| f64::from(a_at(at))).collect();
        let c = (0..c.len()).map(|at| f64::from(c_at(at))).collect();
        Ok(Self { spec, a, c })
    }

    /// The extents of the layer.
    pub fn spec(&self) -> &MpsSpec {
        &self.spec
    }

    /// Core `A` as `[M, K, J]`.
    pub fn a(&self) -> Vec<f32> {
        let MpsSpec { m, j, k, .. } = self.spec;
        // [m, k, j] from [j, m, k].
        let number = |at: usize| self.a[(at % j * m + at / j / k) * k + at / j % k] as f32;
        (0..self.a.len()).map(number).collect()
    }

    /// Core `C` as `[L, K, N]`.
    pub fn c(&self) -> Vec<f32> {
        let MpsSpec { n, k, .. } = self.spec;
        // [l, k, n] from [l, n, k].
        let number = |at: usize| self.c[(at / n / k * n + at % n) * k + at / n % k] as f32;
        (0..self.c.len()).map(number).collect()
    }

    /// The matrix `W[(j l), (m n)] = Σ_k A[m,k,j] C[l,k,n]`, row-major.
    pub fn matrix(&self) -> Vec<f64> {
        let MpsSpec { m, n, j, l, k } = self.spec;
        let mut product = vec![0.0; j * m * l * n];
        matmul(
            MatMut::from_row_major_slice_mut(&mut product, j * m, l * n),
            Accum::Replace,
            MatRef::from_row_major_slice(&self.a, j * m, k),
            MatRef::from_row_major_slice(&self.c, l * n, k).transpose(),
            1.0,
            Par::rayon(0),
        );
        exchanged(&product, [j, m, l, n])
    }
}

/// The numbers of `[p, q, r, s]` as `[p, r, q, s]`.
pub(super) fn exchanged(numbers: &[f64], [p, q, r, s]: [usize; 4]) -> Vec<f64> {
    let mut exchanged = Vec::with_capacity(numbers.len());
    for at_p in 0..p {
        for at_r in 0..r {
            for at_q in 0..q {
                exchanged.extend_from_slice(&numbers[((at_p * q + at_q) * r + at_r) * s..][..s]);
            }
        }
    }
    exchanged
}

/// Checks how many numbers an operand has, and that all are finite.
pub(super) fn check(operand: &'static str, numbers: &[f32], expected: usize) -> Result<()> {
    if numbers.len() != expected {
        let problem = format!("{} numbers: expected {expected}", numbers.len());
        return Err(Error::argument(operand, problem));
    }
    match numbers.iter().find(|number| !number.is_finite()) {
        Some(number) => Err(Error::argument(operand, format!("it has a number that is {number}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix_is_that_of_the_reference() {
        let spec = MpsSpec::new([2, 3], [5, 7], 4).unwrap();
        let numbers = |count: usize, step: usize| -> Vec<f32> {
            (0..count).map(|at| (at * step % 17) as f32 - 8.0).collect()
        };
        let a = numbers(spec.a_shape().iter().product(), 5);
        let c = numbers(spec.c_shape().iter().product(), 3);
        let cores = Cores::new(spec, &a, &c).unwrap();
        assert_eq!((cores.a(), cores.c()), (a.clone(), c.clone()));
        let matrix = cores.matrix();
        let MpsSpec { m, n, j, l, k } = spec;
        for input in 0..j * l {
            for output in 0..m * n {
                let [at_j, at_l] = [input / l, input % l];
                let [at_m, at_n] = [output / n, output % n];
                let sum: f64 = (0..k)
                    .map(|at_k| {
                        f64::from(a[(at_m * k + at_k) * j + at_j])
                            * f64::from(c[(at_l * k + at_k) * n + at_n])
                    })
                    .sum();
                assert_eq!(matrix[input * m * n + output], sum, "{input}, {output}");
            }
        }
    }
}
