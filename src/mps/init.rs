//! The standard deviation of the initial random cores.
//!
//! `W[(m,n),(j,l)] = Σ_k A[m,k,j] C[l,k,n]` is a sum of `K` products. With both cores drawn from
//! `N(0, σ²)` its elements have the variance `K σ⁴`, so `σ = (target / K)^¼` gives the rebuilt
//! matrix the variance of a dense layer of that size, for any `K`.

use serde::{Deserialize, Serialize};

use super::MpsSpec;

/// The distribution of the cores before training. The bias starts at 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum MpsInit {
    /// The rebuilt `W` has the variance of He et al. 2015 (eq. 10), `2 / (J L)`, which keeps the
    /// scale of activations through a ReLU.
    #[default]
    He,
    /// The rebuilt `W` has the variance of Glorot and Bengio 2010 (eq. 12), `2 / (J L + M N)`.
    Glorot,
    /// Cores from `N(0, 1/32)` as in the article. At `K = 1` the rebuilt `W` has a standard
    /// deviation of 1/1024, 52 times below He's.
    Article,
}

impl MpsInit {
    /// Standard deviation of the elements of both cores.
    pub fn core_std(self, spec: &MpsSpec) -> f64 {
        match self {
            Self::He => (2.0 / spec.inputs() as f64 / spec.k as f64).powf(0.25),
            Self::Glorot => {
                (2.0 / (spec.inputs() + spec.outputs()) as f64 / spec.k as f64).powf(0.25)
            }
            Self::Article => 1.0 / 32.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rebuilt_matrix_has_the_variance_of_the_dense_one() {
        for bond in [1, 7, 448] {
            let spec = MpsSpec::new([28, 28], [32, 16], bond).unwrap();
            let variance = |init: MpsInit| bond as f64 * init.core_std(&spec).powi(4);
            assert!((variance(MpsInit::He) / (2.0 / 784.0) - 1.0).abs() < 1e-12);
            assert!((variance(MpsInit::Glorot) / (2.0 / 1296.0) - 1.0).abs() < 1e-12);
        }
        let spec = MpsSpec::new([28, 28], [32, 16], 1).unwrap();
        let ratio = (2.0_f64 / 784.0).sqrt() / MpsInit::Article.core_std(&spec).powi(2);
        assert!((51.0..53.0).contains(&ratio), "{ratio}");
    }
}
