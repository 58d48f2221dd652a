//! The cores nearest to a matrix, for every bond at once.
//!
//! `W[(j l), (m n)]` with its modes in the order `R[(j m), (l n)]` is a matrix of rank `K` exactly where two cores of bond
//! `K` stand for it. So the nearest ones come from the singular value decomposition of `R` (C. Eckart, G. Young 1936; for
//! Kronecker products C. F. Van Loan, N. Pitsianis 1993): the first `K` singular values, their roots in both cores.

use faer::{Mat, MatRef};

use super::cores::{Cores, check, exchanged};
use crate::mps::MpsSpec;
use crate::{Error, Result};

/// A matrix, decomposed.
#[derive(Debug, Clone)]
pub struct Nearest {
    in_factors: [usize; 2],
    out_factors: [usize; 2],
    left: Mat<f64>,
    right: Mat<f64>,
    /// From the largest on.
    values: Vec<f64>,
}

impl Nearest {
    /// Decomposes `weight[J·L, M·N]`, row-major.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] naming the factors that are not possible, or `weight` if its size is another or a number is not
    /// finite.
    pub fn to_matrix(
        weight: &[f32],
        in_factors: [usize; 2],
        out_factors: [usize; 2],
    ) -> Result<Self> {
        let spec = MpsSpec::new(in_factors, out_factors, 1)?;
        check("weight", weight, spec.inputs() * spec.outputs())?;
        let weight: Vec<f64> = weight.iter().copied().map(f64::from).collect();
        Self::decomposed(&weight, spec)
    }

    /// Decomposes the matrix for which two cores stand, so that their bond can be lowered.
    ///
    /// # Errors
    ///
    /// [`Error::Compute`] when the decomposition does not converge.
    pub fn to_cores(cores: &Cores) -> Result<Self> {
        Self::decomposed(&cores.matrix(), *cores.spec())
    }

    fn decomposed(weight: &[f64], spec: MpsSpec) -> Result<Self> {
        let MpsSpec { m, n, j, l, .. } = spec;
        let rearranged = exchanged(weight, [j, l, m, n]);
        let rearranged = MatRef::from_row_major_slice(&rearranged, j * m, l * n);
        let decomposed = rearranged
            .thin_svd()
            .map_err(|error| Error::compute("decomposing a matrix", format!("{error:?}")))?;
        Ok(Self {
            in_factors: [j, l],
            out_factors: [m, n],
            left: decomposed.U().to_owned(),
            right: decomposed.V().to_owned(),
            values: decomposed.S().column_vector().iter().copied().collect(),
        })
    }

    /// The largest bond there is: at it the cores stand for the matrix itself.
    pub fn full_bond(&self) -> usize {
        self.values.len()
    }

    /// The nearest cores of a bond.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] naming `bond` if it is 0 or above [`Nearest::full_bond`].
    pub fn cores(&self, bond: usize) -> Result<Cores> {
        let spec = MpsSpec::new(self.in_factors, self.out_factors, bond)?;
        if bond > self.full_bond() {
            let most = self.full_bond();
            let problem = format!("{bond}: expected at most {most}, at which nothing is lost");
            return Err(Error::argument("bond", problem));
        }
        let scaled = |side: &Mat<f64>| {
            let row = |row: usize| (0..bond).map(move |k| side[(row, k)] * self.values[k].sqrt());
            (0..side.nrows()).flat_map(row).collect()
        };
        Ok(Cores { spec, a: scaled(&self.left), c: scaled(&self.right) })
    }

    /// `‖W - W'‖ / ‖W‖` in Frobenius' norm, with the nearest cores of a bond; 0 of a matrix of zeros.
    pub fn error(&self, bond: usize) -> f64 {
        // A sum of nothing is -0 without the fold.
        let squares =
            |values: &[f64]| values.iter().rev().fold(0.0, |sum, value| sum + value * value);
        let whole = squares(&self.values);
        if whole == 0.0 {
            return 0.0;
        }
        (squares(self.values.get(bond..).unwrap_or_default()) / whole).sqrt()
    }

    /// The smallest bond whose [`Nearest::error`] is at most this.
    pub fn bond_for(&self, error: f64) -> usize {
        (1..self.full_bond()).find(|&bond| self.error(bond) <= error).unwrap_or(self.full_bond())
    }
}
