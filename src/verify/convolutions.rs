//! Cases of convolutions of two cores.

use burn::tensor::{Device, Tensor, TensorData};

use super::reader::Reader;
use super::{Distances, Numbers, distance, poison, read as numbers_of};
use crate::mps::conv::Window;
use crate::mps::conv::reference::{self, Operands, Outcome};
use crate::mps::reference::relative_error;
use crate::op::activation::Activation;
use crate::op::conv::{ConvLayer, Kernel, conv_layer, conv_update};
use crate::op::state::Layout;
use crate::op::words::StepWords;
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

/// Extents that test the edge cases, with random operands: strides and paddings that do and do not come out even, kernels of 1,
/// as large as the image and longer in one direction, both orders of contraction, and patches that adapters compute in two parts.
#[expect(clippy::expect_used, reason = "the extents of the cases are possible ones")]
pub fn built_in() -> Vec<Case> {
    type Size = (&'static str, usize, [usize; 3], [usize; 2], [usize; 2], [usize; 2], usize);
    // Batch, image, kernel, [stride, padding], output factors, bond.
    let sizes: [Size; 9] = [
        ("a convolution of ones", 1, [1, 1, 1], [1, 1], [1, 0], [1, 1], 1),
        ("three by three", 9, [8, 14, 14], [3, 3], [1, 1], [4, 4], 2),
        ("five by five, stride 2", 5, [1, 28, 28], [5, 5], [2, 2], [4, 8], 1),
        ("one by one", 7, [6, 5, 4], [1, 1], [1, 0], [3, 2], 3),
        ("the whole image", 17, [3, 4, 5], [4, 5], [1, 0], [2, 3], 2),
        ("longer than high, stride 3", 3, [2, 11, 13], [2, 5], [3, 1], [5, 2], 4),
        ("more channels than taps", 4, [32, 6, 6], [3, 3], [1, 1], [8, 4], 3),
        ("a bond beyond full rank", 2, [2, 5, 5], [2, 2], [1, 1], [2, 2], 9),
        ("patches of 74 MB", 60, [8, 28, 28], [7, 7], [1, 3], [1, 2], 1),
    ];
    let case = |(name, batch, image, kernel, [stride, padding], factors, bond): Size| {
        let window = Window::new(image, kernel, stride, padding).expect("a possible window");
        let spec = window.two_cores(factors, bond).expect("possible cores");
        let positions: usize = window.output().iter().product();
        let extents = [&[batch, stride, padding, bond][..], &image, &kernel, &factors].concat();
        let mut random = Numbers::of(&extents);
        let operands = Operands {
            window,
            spec,
            batch,
            x: random.take(batch * image.iter().product::<usize>(), 1.0),
            a: random.take(spec.a_shape().iter().product(), 0.0),
            c: random.take(spec.c_shape().iter().product(), 0.0),
            bias: random.take(spec.outputs(), 0.0),
            grad_y: random.take(batch * spec.outputs() * positions, 0.0),
        };
        let expected = reference::compute(&operands);
        let [channels, height, width] = image;
        let [m, n] = factors;
        let name = format!(
            "{name}: batch {batch}, {channels}x{height}x{width}, {window} -> {m}x{n}, bond {bond}"
        );
        Case { name, operands, expected }
    };
    sizes.into_iter().map(case).collect()
}

/// Reads a file of `x a c bias dy` and `y da dc dbias dx`, with `kernel`, `stride` and `padding` in its metadata.
pub(super) fn read(name: String, file: &Reader) -> Result<Case> {
    let [batch, channels, height, width] = file.shape::<4>("x")?;
    let ([rows, columns], [stride], [padding]) =
        (file.numbers("kernel")?, file.numbers("stride")?, file.numbers("padding")?);
    let image = [channels, height, width];
    let (a, c) = (file.shape::<3>("a")?, file.shape::<3>("c")?);
    let extents = || {
        let window = Window::new(image, [rows, columns], stride, padding)?;
        let spec = window.two_cores([a[0], c[2]], a[1])?;
        Ok((window, spec))
    };
    let (window, spec) = extents().map_err(|error| file.unfit(error))?;
    let [out_rows, out_columns] = window.output();
    let (x, y) = ([batch, channels, height, width], [batch, spec.outputs(), out_rows, out_columns]);
    let operands = Operands {
        window,
        spec,
        batch,
        x: file.f32("x", &x)?,
        a: file.f32("a", &spec.a_shape())?,
        c: file.f32("c", &spec.c_shape())?,
        bias: file.f32("bias", &spec.bias_shape())?,
        grad_y: file.f32("dy", &y)?,
    };
    let expected = Outcome {
        y: file.f64("y", &y)?,
        grad_a: file.f64("da", &spec.a_shape())?,
        grad_c: file.f64("dc", &spec.c_shape())?,
        grad_bias: file.f64("dbias", &spec.bias_shape())?,
        grad_x: file.f64("dx", &x)?,
    };
    Ok(Case { name, operands, expected })
}

/// Computes a case on `device` (without autodiff), as a training step does, and measures the distances.
///
/// # Errors
///
/// [`Error::Compute`] when the device fails.
pub fn run(case: &Case, device: &Device) -> Result<Distances> {
    let Operands { window, spec, batch, x, a, c, bias, grad_y } = &case.operands;
    poison([x, a, c, bias, grad_y].map(Vec::len), device)?;
    let weights = [a, c, bias].map(Vec::as_slice);
    let layout = Layout::new(weights.map(<[f32]>::len));
    let zeros = weights.map(|weight| vec![0.0; weight.len()]);
    let moments = || zeros.iter().map(Vec::as_slice).collect();
    let values = Tensor::from_data(&layout.values(weights.into())[..], device);
    let state = layout.state([weights.into(), moments(), moments()]);
    let state = Tensor::from_data(&state[..], device);
    let layer = ConvLayer::new(*window, Kernel::TwoCores(*spec), &layout)?;
    let rows = |numbers: &[f32]| {
        let shape = [*batch, numbers.len() / batch];
        Tensor::<2>::from_data(TensorData::new(numbers.to_vec(), shape), device)
    };
    let (words, betas) = (StepWords::none(device), [0.0; 2]);
    let expected = &case.expected;
    let mut distances = Distances::default();
    let y = conv_layer(rows(x), values, &layer, Activation::NONE, &words)?;
    distances.add("y", distance(y, &expected.y)?);
    // Adam's mean becomes the gradient where it forgets the past.
    let (grad_x, state) =
        conv_update(state, &layer, rows(x), None, rows(grad_y), &words, betas, true)?;
    let missing = || Error::internal("computing gradients", "that by x is missing");
    let state = numbers_of(state)?;
    let mean = |weight| layout.of_weight(&state, weight)[1];
    distances.add("da", relative_error(mean(0), &expected.grad_a));
    distances.add("dc", relative_error(mean(1), &expected.grad_c));
    distances.add("dbias", relative_error(mean(2), &expected.grad_bias));
    distances.add("dx", distance(grad_x.ok_or_else(missing)?, &expected.grad_x)?);
    Ok(distances)
}
