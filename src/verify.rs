//! Checks that a device computes the layer correctly: the forward pass and every gradient, through
//! autodiff, against the f64 reference or against reference files made by other programs.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::files::is_litter;
use crate::mps::MpsSpec;
use crate::mps::reference::{self, Operands, Outcome, relative_error};
use crate::op::{mps_linear, mps_step_grads};
use crate::{Error, Result};

/// Largest `‖got − reference‖ / ‖reference‖` that passes, for each output and gradient.
///
/// A sum of `t` terms in f32 has a relative error of about `2⁻²⁴ √(t/2)`. The longest sums here have
/// some 10⁴ terms, which gives 4e-6; sums over the batch are split into groups and stay below that.
/// A wrong index anywhere gives an error of the order of 1.
pub const TOLERANCE: f64 = 1e-5;

/// Operands and the expected results.
#[derive(Debug, Clone)]
pub struct Case {
    /// What it tests, or the file's name.
    pub name: String,
    /// The operands.
    pub operands: Operands,
    /// Output and gradients in f64.
    pub expected: Outcome,
}

/// `‖got − reference‖ / ‖reference‖` of the output and of each gradient; 0 where both are 0.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Distances {
    /// Of the output.
    pub y: f64,
    /// Of the gradient with respect to core `A`.
    pub da: f64,
    /// Of the gradient with respect to core `C`.
    pub dc: f64,
    /// Of the gradient with respect to the bias.
    pub dbias: f64,
    /// Of the gradient with respect to the input.
    pub dx: f64,
}

impl Distances {
    /// Whether each is within [`TOLERANCE`]; NaN is not.
    pub fn pass(&self) -> bool {
        let Self { y, da, dc, dbias, dx } = *self;
        [y, da, dc, dbias, dx].into_iter().all(|distance| distance <= TOLERANCE)
    }
}

/// Sizes that test the edge cases, with random operands.
///
/// Ones, primes, extents next to the kernels' tile of 16 and their workgroup of 64, both orders of
/// contraction, bonds from 1 to beyond 298, the largest at which the article's layer is smaller than
/// dense, batches that do not divide into the groups of the sums, and sums so long that the kernels
/// need several launches for them.
pub fn built_in() -> Vec<Case> {
    // [batch, J, L, M, N, K]
    let sizes: [(&str, [usize; 6]); 22] = [
        ("all ones", [1, 1, 1, 1, 1, 1]),
        ("the article, bond 1", [128, 28, 28, 32, 16, 1]),
        ("the article, bond 4", [128, 28, 28, 32, 16, 4]),
        ("the article, bond 16, last batch of an epoch", [96, 28, 28, 32, 16, 16]),
        ("the article, bond 448 (every matrix)", [3, 28, 28, 32, 16, 448]),
        ("the article, bond 299 (more than dense)", [2, 28, 28, 32, 16, 299]),
        ("primes", [7, 11, 13, 5, 3, 2]),
        ("larger primes", [5, 31, 17, 29, 37, 19]),
        ("tile - 1", [15, 15, 15, 15, 15, 3]),
        ("tile + 1", [17, 17, 17, 17, 17, 3]),
        ("workgroup - 1", [63, 9, 7, 4, 63, 1]),
        ("workgroup + 1", [65, 7, 9, 65, 4, 1]),
        ("A first", [20, 28, 28, 16, 32, 5]),
        ("one row in, one column out", [9, 1, 40, 24, 1, 3]),
        ("one column in, one row out", [9, 40, 1, 1, 24, 3]),
        ("uneven", [4, 49, 16, 8, 64, 3]),
        ("large batch", [4099, 4, 3, 2, 5, 2]),
        ("one sample", [1, 28, 28, 32, 16, 7]),
        ("long sums over l", [2, 1, 20_000, 3, 2, 1]),
        ("long sums over n", [7, 1, 300, 2, 300, 2]),
        ("long sums over m", [7, 300, 1, 300, 2, 2]),
        ("long sums over samples", [100, 4, 400, 4, 400, 1]),
    ];
    sizes.into_iter().map(|(name, size)| random_case(name, size)).collect()
}

/// A case of size `[batch, J, L, M, N, K]` with uniform random operands. `x` has a mean of 1, so that
/// sums which do not cancel are tested too; the others have a mean of 0.
fn random_case(name: &str, size: [usize; 6]) -> Case {
    let [batch, j, l, m, n, k] = size;
    let spec = MpsSpec { m, n, j, l, k };
    let seed = size.iter().fold(17, |seed: u64, &extent| seed.wrapping_mul(31) + extent as u64);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut numbers = |count: usize, mean: f32| -> Vec<f32> {
        // 24 random bits make every f32 of the grid 2⁻²³ in [-1, 1).
        (0..count)
            .map(|_| (random.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0 + mean)
            .collect()
    };
    let operands = Operands {
        spec,
        batch,
        x: numbers(batch * spec.inputs(), 1.0),
        a: numbers(m * k * j, 0.0),
        c: numbers(l * k * n, 0.0),
        bias: numbers(spec.outputs(), 0.0),
        grad_y: numbers(batch * spec.outputs(), 0.0),
    };
    let expected = reference::compute(&operands);
    Case { name: format!("{name}: batch {batch}, {spec}"), operands, expected }
}

/// Reads every `.safetensors` file of a folder, in order of their names, or the one file that is given.
///
/// A file contains the inputs `x[b,j,l] a[m,k,j] c[l,k,n] bias[m,n] dy[b,m,n]` in f32 and the expected
/// `y da dc dbias dx` in f64.
///
/// # Errors
///
/// [`Error::Io`] and [`Error::Malformed`], naming the file and the tensor.
pub fn from_folder(folder: &Path) -> Result<Vec<Case>> {
    if folder.is_file() {
        return Ok(vec![from_file(folder)?]);
    }
    let entries = std::fs::read_dir(folder).map_err(Error::io("read the folder", folder))?;
    let mut files = Vec::<PathBuf>::new();
    for entry in entries {
        let entry = entry.map_err(Error::io("read the folder", folder))?;
        if !is_litter(&entry.file_name()) {
            files.push(entry.path());
        }
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "safetensors"));
    files.sort();
    if files.is_empty() {
        return Err(Error::malformed(folder, "folder", "files named *.safetensors", "none"));
    }
    files.iter().map(|file| from_file(file)).collect()
}

fn from_file(path: &Path) -> Result<Case> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|error| Error::malformed(path, "content", "a safetensors file", error))?;
    let inputs = Reader { path, file: &file };

    let x = inputs.shape::<3>("x")?;
    let (spec, batch) = MpsSpec::from_shapes(x, inputs.shape("a")?, inputs.shape("c")?)
        .map_err(|error| Error::malformed(path, "shapes", "operands that fit", error))?;
    let MpsSpec { m, n, j, l, k } = spec;
    let operands = Operands {
        spec,
        batch,
        x: inputs.f32("x", &[batch, j, l])?,
        a: inputs.f32("a", &[m, k, j])?,
        c: inputs.f32("c", &[l, k, n])?,
        bias: inputs.f32("bias", &[m, n])?,
        grad_y: inputs.f32("dy", &[batch, m, n])?,
    };
    let expected = Outcome {
        y: inputs.f64("y", &[batch, m, n])?,
        grad_a: inputs.f64("da", &[m, k, j])?,
        grad_c: inputs.f64("dc", &[l, k, n])?,
        grad_bias: inputs.f64("dbias", &[m, n])?,
        grad_x: inputs.f64("dx", &[batch, j, l])?,
    };
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Case { name, operands, expected })
}

/// The tensors of one file by name, each checked before it is copied.
struct Reader<'a> {
    path: &'a Path,
    file: &'a SafeTensors<'a>,
}

impl<'a> Reader<'a> {
    fn tensor(&self, name: &str) -> Result<TensorView<'a>> {
        self.file.tensor(name).map_err(|_| {
            Error::malformed(self.path, format!("tensor '{name}'"), "it to exist", "none")
        })
    }

    fn shape<const D: usize>(&self, name: &str) -> Result<[usize; D]> {
        let tensor = self.tensor(name)?;
        tensor.shape().try_into().map_err(|_| {
            Error::malformed(
                self.path,
                format!("tensor '{name}'"),
                format!("{D} extents"),
                format!("{:?}", tensor.shape()),
            )
        })
    }

    fn bytes(&self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<&'a [u8]> {
        let tensor = self.tensor(name)?;
        if tensor.dtype() == dtype && tensor.shape() == shape {
            return Ok(tensor.data());
        }
        Err(Error::malformed(
            self.path,
            format!("tensor '{name}'"),
            format!("{dtype} {shape:?}"),
            format!("{} {:?}", tensor.dtype(), tensor.shape()),
        ))
    }

    fn f32(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let bytes = self.bytes(name, Dtype::F32, shape)?;
        Ok(bytemuck::pod_collect_to_vec(bytes))
    }

    fn f64(&self, name: &str, shape: &[usize]) -> Result<Vec<f64>> {
        let bytes = self.bytes(name, Dtype::F64, shape)?;
        Ok(bytemuck::pod_collect_to_vec(bytes))
    }
}

/// Computes one case on `device` (without autodiff) and measures the distances.
///
/// # Errors
///
/// [`Error::Compute`] when the device fails.
pub fn run(case: &Case, device: &Device) -> Result<Distances> {
    let Operands { spec, batch, x, a, c, bias, grad_y } = &case.operands;
    poison(&case.operands, device)?;

    let autodiff = device.clone().autodiff();
    let leaf = |values: &[f32], shape: [usize; 3]| {
        Tensor::<3>::from_data(TensorData::new(values.to_vec(), shape), &autodiff).require_grad()
    };
    let x = leaf(x, [*batch, spec.j, spec.l]);
    let a = leaf(a, spec.a_shape());
    let c = leaf(c, spec.c_shape());
    let bias = TensorData::new(bias.clone(), spec.bias_shape());
    let bias = Tensor::<2>::from_data(bias, &autodiff).require_grad();
    let grad_y = TensorData::new(grad_y.clone(), [*batch, spec.m, spec.n]);
    let grad_y = Tensor::<3>::from_data(grad_y, &autodiff);

    let y = mps_linear(x.clone(), a.clone(), c.clone(), Some(bias.clone()))?;
    // The gradient of this sum with respect to y is grad_y.
    let grads = (y.clone() * grad_y.clone()).sum().backward();
    let expected = &case.expected;
    let distances = Distances {
        y: distance(y, &expected.y)?,
        da: distance(gradient(a.grad(&grads))?, &expected.grad_a)?,
        dc: distance(gradient(c.grad(&grads))?, &expected.grad_c)?,
        dbias: distance(gradient(bias.grad(&grads))?, &expected.grad_bias)?,
        dx: distance(gradient(x.grad(&grads))?, &expected.grad_x)?,
    };
    // The trainer computes them in one operation with a step of the optimizer.
    let flat = |tensor: Tensor<3>| tensor.inner().flatten::<2>(1, 2);
    let Operands { a, c, .. } = &case.operands;
    let all = mps_step_grads(*spec, flat(x), [a, c], None, flat(grad_y), true)?;
    let of_x =
        all.x.ok_or_else(|| Error::internal("computing gradients", "that by x is missing"))?;
    Ok(Distances {
        da: distances.da.max(relative_error(&all.a, &expected.grad_a)),
        dc: distances.dc.max(relative_error(&all.c, &expected.grad_c)),
        dbias: distances.dbias.max(relative_error(&all.bias, &expected.grad_bias)),
        dx: distances.dx.max(relative_error(&of_x, &expected.grad_x)),
        ..distances
    })
}

/// Leaves NaN in freed memory of the sizes of the outputs, so that an element which a kernel forgets
/// to write shows up.
fn poison(operands: &Operands, device: &Device) -> Result<()> {
    let Operands { x, a, c, bias, grad_y, .. } = operands;
    for count in [x.len(), a.len(), c.len(), bias.len(), grad_y.len()] {
        // Written by a kernel, then dropped; reading one element makes sure that the kernel has run.
        let poisoned = Tensor::<1>::full([count], f32::NAN, device);
        read(poisoned.clone().slice(0..1))?;
    }
    Ok(())
}

fn gradient<const D: usize>(gradient: Option<Tensor<D>>) -> Result<Tensor<D>> {
    gradient.ok_or_else(|| Error::internal("computing gradients", "a gradient is missing"))
}

fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    tensor.try_to_vec_as::<f32>().map_err(|error| Error::compute("reading a result", error))
}

fn distance<const D: usize>(got: Tensor<D>, expected: &[f64]) -> Result<f64> {
    Ok(relative_error(&read(got)?, expected))
}
