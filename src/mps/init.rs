//! The standard deviation of the initial random cores.
//!
//! `W[(m,n),(j,l)] = Σ_k A[m,k,j] C[l,k,n]` is a sum of `K` products. With both cores drawn from
//! `N(0, σ²)` its elements have the variance `K σ⁴`, so `σ = (target / K)^¼` gives the rebuilt
//! matrix the variance of a dense layer of that size, for any `K`. An element of the matrix of `d` cores is a sum of
//! `K_1 … K_{d-1}` products of `d` numbers, so there `σ = (target / (K_1 … K_{d-1}))^(1/2d)`.

use serde::{Deserialize, Serialize};

use super::{Chain, MpsSpec};

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

/// What the distribution of a layer's cores depends on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fan {
    /// Number of inputs.
    pub inputs: usize,
    /// Number of outputs.
    pub outputs: usize,
    /// Number of products that an element of the matrix is the sum of: the bonds' product.
    pub ways: f64,
    /// Number of cores.
    pub cores: usize,
}

impl From<&MpsSpec> for Fan {
    fn from(spec: &MpsSpec) -> Self {
        let (inputs, outputs) = (spec.inputs(), spec.outputs());
        Self { inputs, outputs, ways: spec.k as f64, cores: 2 }
    }
}

impl From<&Chain> for Fan {
    fn from(chain: &Chain) -> Self {
        let ways = chain.bonds().iter().map(|&bond| bond as f64).product();
        Self { inputs: chain.input(), outputs: chain.output(), ways, cores: chain.cores() }
    }
}

impl MpsInit {
    /// Standard deviation of the elements of every core.
    pub fn core_std(self, fan: impl Into<Fan>) -> f64 {
        let Fan { inputs, outputs, ways, cores } = fan.into();
        let variance = match self {
            Self::He => 2.0 / inputs as f64,
            Self::Glorot => 2.0 / (inputs + outputs) as f64,
            Self::Article => return 1.0 / 32.0,
        };
        (variance / ways).powf(0.5 / cores as f64)
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
        let chain = Chain::new(&[4, 7, 28], &[8, 8, 8], &[3, 5]).unwrap();
        let variance = 15.0 * MpsInit::He.core_std(&chain).powi(6);
        assert!((variance / (2.0 / 784.0) - 1.0).abs() < 1e-12);
        let spec = MpsSpec::new([28, 28], [32, 16], 1).unwrap();
        let ratio = (2.0_f64 / 784.0).sqrt() / MpsInit::Article.core_std(&spec).powi(2);
        assert!((51.0..53.0).contains(&ratio), "{ratio}");
    }
}
