//! A chain near to a matrix, for every bond: TT-SVD (I. Oseledets, Tensor-Train Decomposition, 2011, algorithm 1).
//!
//! The tensor `T[(i_1 o_1), …, (i_d o_d)]` of the matrix is split from the left, one core at a time, by the singular value
//! decomposition of what is left of it as `[(k_{t-1} i_t o_t), rest]`: the first `K` left singular vectors are the core, and the
//! singular values times the right ones go on. With the errors `ε_t` of the nearest matrices of that rank at every cut,
//!
//! ```text
//! max ε_t ≤ ‖T - T'‖ ≤ √Σ ε_t²          (theorem 2.2)
//! ```

use faer::MatRef;

use super::chain::{ChainCores, Modes, decomposed};
use super::cores::check;
use crate::Result;
use crate::mps::Chain;

/// A matrix, to be split.
#[derive(Debug, Clone)]
pub struct TtSvd {
    in_factors: Vec<usize>,
    out_factors: Vec<usize>,
    tensor: Vec<f64>,
    /// The largest bond of every cut.
    most: Vec<usize>,
}

impl TtSvd {
    /// Of `weight[I, O]`, row-major. No cut gets a larger bond than `most` says, which is by default that of a full rank.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Argument`] naming the factors that are not possible, or `weight` if its size is another or a number is not finite.
    pub fn new(
        weight: &[f32],
        in_factors: &[usize],
        out_factors: &[usize],
        most: Option<&[usize]>,
    ) -> Result<Self> {
        let bonds = vec![1; in_factors.len().saturating_sub(1)];
        let chain = Chain::new(in_factors, out_factors, &bonds)?;
        check("weight", weight, chain.input() * chain.output())?;
        let full = chain.full_bonds();
        let most = match most {
            Some(most) => Chain::new(in_factors, out_factors, most)?.bonds().to_vec(),
            None => full.clone(),
        };
        let mut most: Vec<usize> =
            most.iter().zip(&full).map(|(most, full)| *most.min(full)).collect();
        // Where a neighbour's bond allows no larger rank, one is of no use.
        let extents: Vec<usize> = in_factors.iter().zip(out_factors).map(|(i, o)| i * o).collect();
        for cut in 1..most.len() {
            most[cut] = most[cut].min(most[cut - 1].saturating_mul(extents[cut]));
        }
        for cut in (1..most.len()).rev() {
            most[cut - 1] = most[cut - 1].min(most[cut].saturating_mul(extents[cut]));
        }
        let weight: Vec<f64> = weight.iter().copied().map(f64::from).collect();
        let tensor = Modes::new(in_factors, out_factors).tensor(&weight);
        let (in_factors, out_factors) = (in_factors.to_vec(), out_factors.to_vec());
        Ok(Self { in_factors, out_factors, tensor, most })
    }

    /// The chain whose every cut has this bond, or the largest one that it may have.
    pub fn chain(&self, bond: usize) -> Chain {
        let bonds = self.most.iter().map(|most| bond.min(*most)).collect();
        Chain::checked(self.in_factors.clone(), self.out_factors.clone(), bonds)
    }

    /// The largest bond of a cut: a larger one changes nothing.
    pub fn largest_bond(&self) -> usize {
        self.most.iter().copied().max().unwrap_or(1)
    }

    /// The cores of a bond, balanced so that they can be trained on.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Argument`] naming `bond` if it is 0, [`crate::Error::Compute`] when a decomposition does not converge.
    pub fn cores(&self, bond: usize) -> Result<ChainCores> {
        let chain = self.chain(bond);
        Chain::new(chain.in_factors(), chain.out_factors(), chain.bonds())?;
        let mut cores = Vec::with_capacity(chain.cores());
        let mut rest = self.tensor.clone();
        for core in 0..chain.cores() - 1 {
            let [before, outputs, inputs, after] = chain.core_shape(core);
            let rows = before * outputs * inputs;
            let columns = rest.len() / rows;
            let svd = decomposed(MatRef::from_row_major_slice(&rest, rows, columns))?;
            let (left, values, right) = (svd.U(), svd.S().column_vector(), svd.V());
            let of_row = |row: usize| (0..after).map(move |k| left[(row, k)]);
            cores.push((0..rows).flat_map(of_row).collect());
            let of_bond = |k: usize| (0..columns).map(move |at| values[k] * right[(at, k)]);
            rest = (0..after).flat_map(of_bond).collect();
        }
        cores.push(rest);
        ChainCores { chain, cores }.balanced()
    }

    /// The singular values at every cut, from the largest on.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Compute`] when a decomposition does not converge.
    pub fn singular_values(&self) -> Result<Vec<Vec<f64>>> {
        let extents = self.in_factors.iter().zip(&self.out_factors);
        let mut rows = 1;
        let cuts = extents.take(self.most.len()).map(|(input, output)| {
            rows *= input * output;
            let columns = self.tensor.len() / rows;
            let svd = decomposed(MatRef::from_row_major_slice(&self.tensor, rows, columns))?;
            Ok(svd.S().column_vector().iter().copied().collect())
        });
        cuts.collect()
    }

    /// A bond below which every chain misses more than this share of the matrix, by the lower bound above.
    ///
    /// # Errors
    ///
    /// As [`TtSvd::singular_values`].
    pub fn least_bond(&self, error: f64) -> Result<usize> {
        let mut least = 1;
        for values in self.singular_values()? {
            let squares = |values: &[f64]| values.iter().map(|x| x * x).sum::<f64>();
            let allowed = error * error * squares(&values);
            let misses = |bond: &usize| squares(&values[*bond..]) > allowed;
            least = (least..values.len()).find(|bond| !misses(bond)).unwrap_or(values.len());
        }
        Ok(least.min(self.largest_bond()))
    }
}
