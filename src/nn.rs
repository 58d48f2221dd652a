//! The layer as a Burn module: [`MpsLinearConfig`] and [`MpsLinear`], modelled on burn-nn's `Linear`.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Initializer, Module, ModuleDisplay, Param};
use burn::tensor::{Device, Tensor};

use crate::Result;
use crate::mps::{MpsInit, MpsSpec};
use crate::op::mps_linear;

/// Configuration of an [`MpsLinear`] layer.
#[derive(Config, Debug)]
pub struct MpsLinearConfig {
    /// Extents `[J, L]` into which the input features are folded.
    pub in_factors: [usize; 2],
    /// Extents `[M, N]` into which the output features are folded.
    pub out_factors: [usize; 2],
    /// Size `K` of the bond.
    pub bond: usize,
    /// Whether a bias is added.
    #[config(default = true)]
    pub bias: bool,
    /// The distribution of the cores before training.
    #[config(default = "MpsInit::He")]
    pub initializer: MpsInit,
}

impl MpsLinearConfig {
    /// Creates the layer. The cores are drawn by the device's random number generator, which
    /// [`Device::seed`] seeds.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Argument`] when an extent is 0 or the layer is too large to index
    /// ([`MpsSpec::new`]).
    pub fn init(&self, device: &Device) -> Result<MpsLinear> {
        let spec = MpsSpec::new(self.in_factors, self.out_factors, self.bond)?;
        let cores = Initializer::Normal { mean: 0.0, std: self.initializer.core_std(&spec) };
        Ok(MpsLinear {
            a: cores.init(spec.a_shape(), device),
            c: cores.init(spec.c_shape(), device),
            bias: self.bias.then(|| Initializer::Zeros.init(spec.bias_shape(), device)),
        })
    }
}

/// A linear layer whose weight matrix is two cores joined by a bond:
/// `Y[m,n] = Σ A[m,k,j] C[l,k,n] X[j,l] + B[m,n]`.
///
/// Created with [`MpsLinearConfig`].
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct MpsLinear {
    /// Core `A` of shape `[M, K, J]`.
    pub a: Param<Tensor<3>>,
    /// Core `C` of shape `[L, K, N]`.
    pub c: Param<Tensor<3>>,
    /// Bias of shape `[M, N]`.
    pub bias: Option<Param<Tensor<2>>>,
}

impl MpsLinear {
    /// Applies the layer to every vector along the last dimension of `input`, as burn-nn's `Linear`
    /// does.
    ///
    /// # Shapes
    ///
    /// - input: `[..., J·L]`, with any number of leading dimensions, none included
    /// - output: `[..., M·N]`
    ///
    /// # Panics
    ///
    /// If the last dimension of `input` is not `J·L`, if any dimension is 0, or if its elements are
    /// not f32. The message is that of the [`crate::Error`] which [`crate::op::mps_linear`] returns in
    /// such cases.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let spec = self.spec();
        let mut shape = input.dims();
        assert!(
            shape.last() == Some(&spec.inputs()),
            "x: expected shape [.., {}] ({} x {}), found {shape:?}",
            spec.inputs(),
            spec.j,
            spec.l
        );
        // The leading dimensions together are the batch; without any it is 1.
        let batch: usize = shape.iter().rev().skip(1).product();
        shape[D - 1] = spec.outputs();
        let x = input.reshape([batch, spec.j, spec.l]);
        let bias = self.bias.as_ref().map(Param::val);
        match mps_linear(x, self.a.val(), self.c.val(), bias) {
            Ok(y) => y.reshape(shape),
            #[expect(clippy::panic, reason = "Burn's modules report misuse by panicking")]
            Err(error) => panic!("{error}"),
        }
    }

    /// The extents of the layer.
    pub fn spec(&self) -> MpsSpec {
        let [m, k, j] = self.a.shape().dims();
        let [l, _, n] = self.c.shape().dims();
        MpsSpec { m, n, j, l, k }
    }
}

impl ModuleDisplay for MpsLinear {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new().with_new_line_after_attribute(false).optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        let spec = self.spec();
        content
            .add("in_factors", &format!("{}x{}", spec.j, spec.l))
            .add("out_factors", &format!("{}x{}", spec.m, spec.n))
            .add("bond", &spec.k)
            .add("bias", &self.bias.is_some())
            .optional()
    }
}
