//! Cases of chains of cores.

use burn::tensor::{Device, Tensor, TensorData};

use super::reader::Reader;
use super::{Distances, Numbers, distance, gradient, poison, read as numbers_of};
use crate::mps::chain::reference::{self, Operands, Outcome};
use crate::mps::chain::{Chain, End, Way};
use crate::mps::reference::relative_error;
use crate::op::chain::{ChainLayer, chain_update, mps_chain_by};
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

/// Extents that test the edge cases, with random operands: chains of three to six cores, bonds of 1 and beyond full rank,
/// extents of 1, primes, and batches that do not divide into the groups of the sums.
pub fn built_in() -> Vec<Case> {
    type Size = (&'static str, usize, &'static [usize], &'static [usize], &'static [usize]);
    let sizes: [Size; 11] = [
        ("a chain of ones", 1, &[1, 1, 1], &[1, 1, 1], &[1, 1]),
        ("three cores", 20, &[4, 7, 28], &[8, 8, 8], &[3, 5]),
        ("four cores, the article's sizes", 128, &[4, 7, 4, 7], &[8, 4, 4, 4], &[4, 8, 4]),
        ("six cores", 17, &[2, 7, 2, 2, 7, 2], &[4, 2, 4, 2, 4, 2], &[2, 3, 4, 3, 2]),
        ("bonds of 1", 9, &[4, 7, 28], &[8, 8, 8], &[1, 1]),
        ("bonds beyond full rank", 5, &[2, 3, 2], &[2, 2, 3], &[9, 11]),
        ("extents of 1", 3, &[1, 3, 1], &[2, 1, 2], &[1, 2]),
        ("primes in a chain", 7, &[3, 5, 7], &[5, 2, 11], &[3, 7]),
        ("one sample of a chain", 1, &[4, 7, 4, 7], &[8, 4, 4, 4], &[2, 2, 2]),
        ("large batch of a chain", 1030, &[2, 3, 2], &[3, 2, 2], &[2, 3]),
        ("long sums in a chain", 2, &[3, 20_000, 2], &[2, 1, 3], &[1, 2]),
    ];
    sizes.into_iter().map(random_case).collect()
}

/// `x` has a mean of 1, so that sums which do not cancel are tested too; the others have a mean of 0.
#[expect(clippy::expect_used, reason = "the extents of the cases are possible ones")]
fn random_case(
    (name, batch, inputs, outputs, bonds): (&str, usize, &[usize], &[usize], &[usize]),
) -> Case {
    let chain = Chain::new(inputs, outputs, bonds).expect("a possible chain");
    let mut random = Numbers::of(&[&[batch], inputs, outputs, bonds].concat());
    let operands = Operands {
        batch,
        x: random.take(batch * chain.input(), 1.0),
        cores: (0..chain.cores())
            .map(|core| random.take(chain.core_shape(core).iter().product(), 0.0))
            .collect(),
        bias: random.take(chain.output(), 0.0),
        grad_y: random.take(batch * chain.output(), 0.0),
        chain,
    };
    let expected = reference::compute(&operands);
    let name = format!("{name}: batch {batch}, {}", operands.chain);
    Case { name, operands, expected }
}

/// Reads a file of `x g1 g2 … bias dy` and `y dg1 dg2 … dbias dx`.
pub(super) fn read(name: String, file: &Reader) -> Result<Case> {
    let cores = (1..).take_while(|core| file.has(&format!("g{core}")));
    let shapes = cores.map(|core| file.shape::<4>(&format!("g{core}")));
    let shapes = shapes.collect::<Result<Vec<_>>>()?;
    let chain = Chain::from_shapes(&shapes).map_err(|error| file.unfit(error))?;
    let batch = file.first("x")?;
    let of_batch = |factors: &[usize]| [&[batch], factors].concat();
    let (x, y) = (of_batch(chain.in_factors()), of_batch(chain.out_factors()));
    let each = shapes.iter().enumerate();
    let operands = Operands {
        batch,
        x: file.f32("x", &x)?,
        cores: each
            .clone()
            .map(|(at, shape)| file.f32(&format!("g{}", at + 1), shape))
            .collect::<Result<_>>()?,
        bias: file.f32("bias", chain.out_factors())?,
        grad_y: file.f32("dy", &y)?,
        chain: chain.clone(),
    };
    let expected = Outcome {
        y: file.f64("y", &y)?,
        grad_cores: each
            .map(|(at, shape)| file.f64(&format!("dg{}", at + 1), shape))
            .collect::<Result<_>>()?,
        grad_bias: file.f64("dbias", chain.out_factors())?,
        grad_x: file.f64("dx", &x)?,
    };
    Ok(Case { name, operands, expected })
}

/// Computes a case on `device` (without autodiff) in every way that there is, and measures the largest distances.
///
/// # Errors
///
/// [`Error::Compute`] when the device fails.
pub fn run(case: &Case, device: &Device) -> Result<Distances> {
    let cuts = (1..case.operands.chain.cores()).map(|cut| Way::Folded { cut });
    let by_core = End::BOTH.map(|from| Way::CoreByCore { from });
    let mut distances = Distances::default();
    for way in cuts.chain(by_core) {
        recorded(case, way, device, &mut distances)?;
        stepped(case, way, device, &mut distances)?;
    }
    Ok(distances)
}

/// Through autodiff.
fn recorded(case: &Case, way: Way, device: &Device, distances: &mut Distances) -> Result<()> {
    let Operands { chain, batch, x, cores, bias, grad_y } = &case.operands;
    poison([x, bias, grad_y].into_iter().chain(cores).map(Vec::len), device)?;
    let autodiff = device.clone().autodiff();
    let tensor = |numbers: &[f32], rows: usize| {
        let shape = [rows, numbers.len() / rows];
        Tensor::<2>::from_data(TensorData::new(numbers.to_vec(), shape), &autodiff)
    };
    let x = tensor(x, *batch).require_grad();
    let bias = Tensor::<1>::from_data(&bias[..], &autodiff).require_grad();
    let leaf = |(at, core): (usize, &Vec<f32>)| {
        let data = TensorData::new(core.clone(), chain.core_shape(at));
        Tensor::<4>::from_data(data, &autodiff).require_grad()
    };
    let cores: Vec<Tensor<4>> = cores.iter().enumerate().map(leaf).collect();
    let y = mps_chain_by(Some(way), x.clone(), &cores, Some(bias.clone()))?;
    // The gradient of this sum with respect to y is grad_y.
    let grads = (y.clone() * tensor(grad_y, *batch)).sum().backward();
    let expected = &case.expected;
    distances.add("y", distance(y, &expected.y)?);
    for (at, (core, expected)) in cores.iter().zip(&expected.grad_cores).enumerate() {
        distances.add(format!("dg{}", at + 1), distance(gradient(core.grad(&grads))?, expected)?);
    }
    distances.add("dbias", distance(gradient(bias.grad(&grads))?, &expected.grad_bias)?);
    distances.add("dx", distance(gradient(x.grad(&grads))?, &expected.grad_x)?);
    Ok(())
}

/// As a training step computes the gradients: what Adam's mean becomes where it forgets the past.
fn stepped(case: &Case, way: Way, device: &Device, distances: &mut Distances) -> Result<()> {
    let Operands { chain, batch, x, cores, bias, grad_y } = &case.operands;
    let weights: Vec<&[f32]> = cores.iter().chain([bias]).map(Vec::as_slice).collect();
    let layout = Layout::new(weights.iter().map(|weight| weight.len()));
    let zeros: Vec<Vec<f32>> = weights.iter().map(|weight| vec![0.0; weight.len()]).collect();
    let moments = || zeros.iter().map(Vec::as_slice).collect();
    let state = Tensor::from_data(&layout.state([weights, moments(), moments()])[..], device);
    let layer = ChainLayer::new(chain.clone(), &layout)?.by(way)?;
    let rows = |numbers: &[f32]| {
        let shape = [*batch, numbers.len() / batch];
        Tensor::<2>::from_data(TensorData::new(numbers.to_vec(), shape), device)
    };
    let (words, betas) = (StepWords::none(device), [0.0; 2]);
    let (grad_x, state) =
        chain_update(state, &layer, rows(x), None, rows(grad_y), &words, betas, true)?;
    let missing = || Error::internal("computing gradients", "that by x is missing");
    let expected = &case.expected;
    distances.add("dx", distance(grad_x.ok_or_else(missing)?, &expected.grad_x)?);
    let state = numbers_of(state)?;
    let mean = |weight| layout.of_weight(&state, weight)[1];
    for (at, expected) in expected.grad_cores.iter().enumerate() {
        distances.add(format!("dg{}", at + 1), relative_error(mean(at), expected));
    }
    distances.add("dbias", relative_error(mean(cores.len()), &expected.grad_bias));
    Ok(())
}
