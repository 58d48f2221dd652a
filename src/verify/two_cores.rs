//! Cases of the layer of two cores.

use burn::tensor::{Device, Tensor, TensorData};

use super::reader::Reader;
use super::{Distances, Numbers, distance, gradient, poison};
use crate::mps::MpsSpec;
use crate::mps::reference::{self, Operands, Outcome, relative_error};
use crate::op::{mps_linear, mps_step_grads};
use crate::{Error, Result};

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
    let mut random = Numbers::of(&size);
    let mut numbers = |count, mean| random.take(count, mean);
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

/// Reads a file of `x a c bias dy` and `y da dc dbias dx`.
pub(super) fn read(name: String, inputs: &Reader) -> Result<Case> {
    let x = inputs.shape::<3>("x")?;
    let (spec, batch) = MpsSpec::from_shapes(x, inputs.shape("a")?, inputs.shape("c")?)
        .map_err(|error| inputs.unfit(error))?;
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
    Ok(Case { name, operands, expected })
}

/// Computes a case on `device` (without autodiff) and measures the distances.
///
/// # Errors
///
/// [`Error::Compute`] when the device fails.
pub fn run(case: &Case, device: &Device) -> Result<Distances> {
    let Operands { spec, batch, x, a, c, bias, grad_y } = &case.operands;
    poison([x, a, c, bias, grad_y].map(Vec::len), device)?;

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
    let mut distances = Distances::default();
    distances.add("y", distance(y, &expected.y)?);
    distances.add("da", distance(gradient(a.grad(&grads))?, &expected.grad_a)?);
    distances.add("dc", distance(gradient(c.grad(&grads))?, &expected.grad_c)?);
    distances.add("dbias", distance(gradient(bias.grad(&grads))?, &expected.grad_bias)?);
    distances.add("dx", distance(gradient(x.grad(&grads))?, &expected.grad_x)?);
    // The trainer computes them in one operation with a step of the optimizer.
    let flat = |tensor: Tensor<3>| tensor.inner().flatten::<2>(1, 2);
    let Operands { a, c, .. } = &case.operands;
    let all = mps_step_grads(*spec, flat(x), [a, c], None, flat(grad_y), true)?;
    let of_x =
        all.x.ok_or_else(|| Error::internal("computing gradients", "that by x is missing"))?;
    distances.add("da", relative_error(&all.a, &expected.grad_a));
    distances.add("dc", relative_error(&all.c, &expected.grad_c));
    distances.add("dbias", relative_error(&all.bias, &expected.grad_bias));
    distances.add("dx", relative_error(&of_x, &expected.grad_x));
    Ok(distances)
}
