//! The layer as a Burn module: [`MpsLinearConfig`] and [`MpsLinear`], modelled on burn-nn's `Linear`.

use burn::config::Config;
use burn::module::{Content, DisplaySettings, Initializer, Module, ModuleDisplay, Param};
use burn::nn::Linear;
use burn::tensor::{Device, Tensor, TensorData};

use crate::compress::{self, Cores, Moments, Nearest};
use crate::mps::{MpsInit, MpsSpec};
use crate::op::mps_linear;
use crate::{Error, Result};

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

    /// The layer of this bond whose matrix is nearest to that of `linear`, on its device, with its bias.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] when the factors do not have the layer's sizes as products, the bond is 0 or above
    /// [`MpsSpec::full_bond`], or a weight is not finite; [`Error::Compute`] when the device fails.
    pub fn from_linear(
        linear: &Linear,
        in_factors: [usize; 2],
        out_factors: [usize; 2],
        bond: usize,
    ) -> Result<Self> {
        let weight = numbers(linear.weight.val())?;
        let cores = Nearest::to_matrix(&weight, in_factors, out_factors)?.cores(bond)?;
        Ok(Self::with(&cores, linear.bias.as_ref().map(Param::val), &linear.weight.device()))
    }

    /// The layer of this bond whose outputs are nearest to those of `linear` over some inputs, by least squares: see
    /// [`crate::compress`]. It has a bias, which meets the outputs' mean.
    ///
    /// # Errors
    ///
    /// As [`MpsLinear::from_linear`]; also [`Error::Argument`] when there are no inputs, or of another size.
    pub fn fit(
        linear: &Linear,
        in_factors: [usize; 2],
        out_factors: [usize; 2],
        bond: usize,
        inputs: &Moments,
    ) -> Result<Self> {
        let device = linear.weight.device();
        let weight = numbers(linear.weight.val())?;
        let start = Nearest::to_matrix(&weight, in_factors, out_factors)?.cores(bond)?;
        let outputs = start.spec().outputs();
        let fitted = compress::fit(&weight, start, &inputs.covariance()?)?;
        let bias = match &linear.bias {
            Some(bias) => numbers(bias.val())?,
            None => vec![0.0; outputs],
        };
        let bias = inputs.corrected_bias(&bias, &weight, &fitted.cores.matrix())?;
        Ok(Self::with(&fitted.cores, Some(Tensor::from_data(&bias[..], &device)), &device))
    }

    fn with(cores: &Cores, bias: Option<Tensor<1>>, device: &Device) -> Self {
        let spec = cores.spec();
        let core = |numbers: Vec<f32>, shape: [usize; 3]| {
            Param::from_tensor(Tensor::from_data(TensorData::new(numbers, shape), device))
        };
        Self {
            a: core(cores.a(), spec.a_shape()),
            c: core(cores.c(), spec.c_shape()),
            bias: bias.map(|bias| Param::from_tensor(bias.reshape(spec.bias_shape()).detach())),
        }
    }

    /// The dense layer that computes the same: its matrix is `W[(j l), (m n)] = Σ_k A[m,k,j] C[l,k,n]`.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] when a core has a number that is not finite, [`Error::Compute`] when the device fails.
    pub fn to_linear(&self) -> Result<Linear> {
        let spec = self.spec();
        let cores = Cores::new(spec, &numbers(self.a.val())?, &numbers(self.c.val())?)?;
        let matrix: Vec<f32> = cores.matrix().into_iter().map(|number| number as f32).collect();
        let shape = [spec.inputs(), spec.outputs()];
        let weight = Tensor::from_data(TensorData::new(matrix, shape), &self.a.device());
        let bias = self.bias.as_ref().map(|bias| bias.val().reshape([spec.outputs()]).detach());
        let bias = bias.map(Param::from_tensor);
        Ok(Linear { weight: Param::from_tensor(weight), bias })
    }

    /// The extents of the layer.
    pub fn spec(&self) -> MpsSpec {
        let [m, k, j] = self.a.shape().dims();
        let [l, _, n] = self.c.shape().dims();
        MpsSpec { m, n, j, l, k }
    }
}

/// The numbers of a tensor, in row-major order.
fn numbers<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    tensor.try_to_vec_as().map_err(|error| Error::compute("reading weights", error))
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
