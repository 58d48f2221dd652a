//! The layer as a Burn operation.
//!
//! [`mps_linear`] takes Burn tensors of any device and hands them to [`MpsOps`], the extension of
//! Burn's backends: `layer` makes a plan ([`crate::mps::plan`]) and executes it, on a GPU by the WGSL kernels of
//! `shaders/` ([`gpu`]; on a software adapter [`software`]), on the CPU by the parallel implementation of `cpu`,
//! and on each of them by way of the rebuilt `W` (`rebuilt`). Burn's Fusion queues the operation like its own, and on
//! an autodiff device `autodiff` registers the hand-written backward pass. A training step calls [`mps_layer`] and
//! [`mps_update`] instead, which take in the ReLU and the dropout after the layer, and the step of the optimizer.
//!
//! The trait is generic over backends and cannot return errors, so shapes and element types
//! are checked in the public functions, before anything is queued.

pub mod activation;
mod autodiff;
pub mod chain;
pub mod choice;
pub mod conv;
mod cpu;
mod fused;
pub mod gpu;
mod kernels;
mod layer;
mod rebuilt;
pub mod software;
pub mod state;
pub mod training;
pub mod words;

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, DispatchDevice, backend_extension};
use burn::tensor::{DType, Device, Shape, Tensor};

pub use choice::{Choices, choose, force_strategy};
pub use fused::{MpsGrads, mps_layer, mps_step_grads, mps_update};
pub use gpu::target::force_target;
pub(crate) use gpu::target::register;

use choice::{Pass, Product, strategy};

use crate::mps::MpsSpec;
use crate::mps::plan::Plan;
use crate::mps::strategy::{Strategy, Target};
use crate::{Error, Result};

/// The two-core layer on a backend.
///
/// Shapes, in the letters of the equation: `x[b,J,L]`, `a[M,K,J]`, `c[L,K,N]`, `bias[M,N]`,
/// `grad_y[b,M,N]`; all f32.
///
/// # Panics
///
/// When shapes do not fit each other, as Burn's backends do. [`mps_linear`] returns an error instead.
#[backend_extension(Cube, Flex, Fusion, Autodiff)]
pub trait MpsOps: Backend {
    /// `Y[m,n] = Σ A[m,k,j] C[l,k,n] X[j,l] + B[m,n]`, shape `[b, M, N]`.
    #[fusion(dtype = x, shape = output_shape(x, a, c))]
    fn mps_linear(
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        c: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// The same without a bias.
    #[fusion(dtype = x, shape = output_shape(x, a, c))]
    fn mps_contract(
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        c: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// `grad_a[M,K,J]`, `grad_c[L,K,N]` and `grad_bias[M,N]`, summed over the batch.
    #[fusion(meta = grad_specs)]
    fn mps_grads(
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        c: FloatTensor<Self>,
        grad_y: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// `grad_bias[M,N]` alone, the sum of `grad_y` over the batch.
    #[fusion(dtype = grad_y, shape = sample_shape(grad_y))]
    fn mps_grad_bias(grad_y: FloatTensor<Self>) -> FloatTensor<Self>;

    /// `grad_x[b,J,L]`.
    #[fusion(dtype = grad_y, shape = input_shape(a, c, grad_y))]
    fn mps_grad_x(
        a: FloatTensor<Self>,
        c: FloatTensor<Self>,
        grad_y: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

fn output_shape(x: &Shape, a: &Shape, c: &Shape) -> Shape {
    Shape::new([x[0], a[0], c[2]])
}

fn input_shape(a: &Shape, c: &Shape, grad_y: &Shape) -> Shape {
    Shape::new([grad_y[0], a[2], c[0]])
}

fn sample_shape(grad_y: &Shape) -> Shape {
    Shape::new([grad_y[1], grad_y[2]])
}

fn grad_specs(
    _x: &TensorSpec,
    a: &TensorSpec,
    c: &TensorSpec,
    grad_y: &TensorSpec,
) -> (TensorSpec, TensorSpec, TensorSpec) {
    let bias = TensorSpec { shape: sample_shape(&grad_y.shape), ..grad_y.clone() };
    (a.clone(), c.clone(), bias)
}

/// The strategies that there are kernels for on a device.
pub fn strategies(device: &Device) -> &'static [Strategy] {
    Strategy::of(target_of(device))
}

pub(crate) fn target_of(device: &Device) -> Target {
    match device.as_dispatch() {
        DispatchDevice::Cube(device) => gpu::target::target(device),
        _ => Target::Cpu,
    }
}

/// Blocks until the work queued for a software adapter is submitted; elsewhere does nothing.
///
/// Called once per step. Burn's queues take 32 tasks, and a thread that finds one full spins up to
/// 524,288 times before it sleeps. This does not slow down a GPU; llvmpipe's threads compute on the same
/// cores, and on two of them a step took 1.15 times as long (bond 1) or 1.7 times (dense).
///
/// # Errors
///
/// [`Error::Compute`] when the device has failed. (`Device::sync` would block forever on a lost device.)
pub fn submit_to_software(device: &Device) -> Result<()> {
    match target_of(device) {
        Target::Software => {
            device.flush().map_err(|error| Error::compute("submitting queued work", error))
        }
        Target::Gpu | Target::Cpu => Ok(()),
    }
}

/// Whether a dense layer's products on a device take the gradient of a ReLU with them; else it is a pass of its own, which
/// is best taken once for all products.
pub(crate) fn products_pass_relu(device: &Device) -> bool {
    match device.as_dispatch() {
        DispatchDevice::Cube(device) => {
            gpu::target::target(device) == Target::Gpu && choice::products() == Product::Own
        }
        _ => false,
    }
}

/// How the forward pass of a layer is computed on a device: the plan that is executed, in words.
pub fn forward_plan(spec: &MpsSpec, batch: usize, device: &Device) -> String {
    Plan::forward(spec, batch, target_of(device), strategy(Pass::Forward, spec, batch)).to_string()
}

/// The same of the gradients by cores and bias.
pub fn grads_plan(spec: &MpsSpec, batch: usize, device: &Device) -> String {
    Plan::grads(spec, batch, target_of(device), strategy(Pass::Grads, spec, batch)).to_string()
}

/// The same of `grad_x`.
pub fn grad_x_plan(spec: &MpsSpec, batch: usize, device: &Device) -> String {
    Plan::grad_x(spec, batch, target_of(device), strategy(Pass::GradX, spec, batch)).to_string()
}

/// Numbers that a layer needs on the CPU device besides operands and results, at most, forward and for its gradients.
pub fn scratch_on_cpu(spec: &MpsSpec, batch: usize) -> [u64; 2] {
    let dense = spec.inputs() * spec.outputs();
    let forward = match Plan::forward(
        spec,
        batch,
        Target::Cpu,
        strategy(Pass::Forward, spec, batch),
    )
    .strategy
    {
        // `W` before and after it is permuted, and its factors.
        Strategy::Rebuilt => 2 * dense + spec.parameters(),
        Strategy::Plain | Strategy::Tiled => 0,
    };
    let grads =
        match Plan::grads(spec, batch, Target::Cpu, strategy(Pass::Grads, spec, batch)).strategy {
            // The gradient of `W` before and after it is permuted, and all factors.
            Strategy::Rebuilt => 2 * dense + 2 * spec.parameters(),
            Strategy::Plain | Strategy::Tiled => cpu::partials(batch) * spec.parameters(),
        };
    let grad_x =
        Plan::grad_x(spec, batch, Target::Cpu, strategy(Pass::GradX, spec, batch)).strategy;
    let grad_x = if grad_x == Strategy::Rebuilt { 2 * dense + spec.parameters() } else { 0 };
    [forward, grads.max(grad_x)].map(|numbers| numbers as u64)
}

/// The two-core layer: `Y[b,m,n] = Σ_{j,k,l} A[m,k,j] C[l,k,n] X[b,j,l] + B[m,n]`.
///
/// # Shapes
///
/// - `x`: `[batch, J, L]`
/// - `a`: `[M, K, J]`
/// - `c`: `[L, K, N]`
/// - `bias`: `[M, N]`, or none
/// - output: `[batch, M, N]`
///
/// # Errors
///
/// [`Error::Shape`] or [`Error::ElementType`] naming the operand that does not fit, before
/// anything is launched.
pub fn mps_linear(
    x: Tensor<3>,
    a: Tensor<3>,
    c: Tensor<3>,
    bias: Option<Tensor<2>>,
) -> Result<Tensor<3>> {
    let (spec, batch) = MpsSpec::from_shapes(x.dims(), a.dims(), c.dims())?;
    for (operand, tensor) in [("x", &x), ("a", &a), ("c", &c)] {
        check_dtype(operand, DType::F32, tensor.dtype())?;
    }
    check_countable(&spec, batch)?;
    let [x, a, c] = [x, a, c].map(Tensor::into_dispatch);
    let y = match bias {
        None => Dispatch::mps_contract(x, a, c),
        Some(bias) => {
            spec.check_bias(bias.dims())?;
            check_dtype("bias", DType::F32, bias.dtype())?;
            Dispatch::mps_linear(x, a, c, bias.into_dispatch())
        }
    };
    Ok(Tensor::from_dispatch(y))
}

fn check_dtype(operand: &'static str, expected: DType, found: DType) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::ElementType { operand, expected: expected.name(), found: found.name() })
}

fn check_shape<const D: usize>(
    operand: &'static str,
    found: [usize; D],
    expected: [usize; D],
) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    let [expected, found] = [expected, found].map(|shape| format!("{shape:?}"));
    Err(Error::Shape { operand, expected, found })
}

/// The kernels count elements and invocations in u32; no count exceeds one of these two tensors
/// rounded up to whole tiles of 16, hence 2³¹.
fn check_countable(spec: &MpsSpec, batch: usize) -> Result<()> {
    let largest = batch.saturating_mul(spec.inputs().max(spec.outputs()));
    if largest <= 1 << 31 {
        return Ok(());
    }
    Err(Error::Shape {
        operand: "x",
        expected: "an input and an output of at most 2147483648 elements".into(),
        found: format!("[{batch}, {}, {}]", spec.j, spec.l),
    })
}
