//! A dense layer as a tensor layer: the nearest cores, and those fitted to the layer's inputs.
//!
//! What is compared with is written out in plain loops of f64.

use burn::nn::LinearConfig;
use burn::tensor::{Device, Tensor};
use proptest::prelude::*;
use tnet_gpu::compress::{Cores, Moments, Nearest, fit, output_error};
use tnet_gpu::mps::MpsSpec;
use tnet_gpu::nn::MpsLinear;

use crate::common::{numbers, tensor};

/// `‖W - W'‖ / ‖W‖`.
fn weight_error(weight: &[f32], cores: &Cores) -> f64 {
    let squares = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|x| x * x).sum::<f64>();
    let other = cores.matrix();
    let missed = squares(&mut weight.iter().zip(&other).map(|(w, other)| f64::from(*w) - other));
    (missed / squares(&mut weight.iter().map(|w| f64::from(*w)))).sqrt()
}

#[test]
fn the_cores_are_as_near_as_the_decomposition_says() {
    for ([in_factors, out_factors], full) in [
        ([[4, 7], [3, 5]], 12),
        ([[1, 6], [5, 2]], 5),
        ([[6, 1], [2, 5]], 5),
        ([[3, 3], [3, 3]], 9),
    ] {
        let count = in_factors.iter().chain(&out_factors).product();
        let weight = numbers(count, 3);
        let nearest = Nearest::to_matrix(&weight, in_factors, out_factors).unwrap();
        assert_eq!(nearest.full_bond(), full);
        for bond in 1..=full {
            let cores = nearest.cores(bond).unwrap();
            // Sums of f64 in another order.
            assert!((weight_error(&weight, &cores) - nearest.error(bond)).abs() < 1e-12, "{bond}");
        }
        assert!(nearest.error(full) < 1e-12);
        assert!(nearest.cores(full + 1).unwrap_err().to_string().starts_with("bond: "));
        assert_eq!(nearest.bond_for(nearest.error(2.min(full))), 2.min(full));
    }
}

#[test]
fn what_has_a_small_bond_loses_nothing() {
    let spec = MpsSpec::new([4, 6], [5, 3], 2).unwrap();
    let [a, c] = [spec.a_shape(), spec.c_shape()].map(|shape| numbers(shape.iter().product(), 5));
    let cores = Cores::new(spec, &a, &c).unwrap();
    let nearest = Nearest::to_cores(&cores).unwrap();
    let again = nearest.cores(2).unwrap().matrix();
    for (again, number) in again.iter().zip(cores.matrix()) {
        assert!((again - number).abs() < 1e-12);
    }
    assert!(nearest.error(1) > 0.1 && nearest.error(2) < 1e-12);
}

/// The solution of `matrix x = right` by Gauss' elimination with the largest pivot of each column.
fn solved(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Vec<f64> {
    let size = right.len();
    for at in 0..size {
        let pivot = (at..size)
            .max_by(|x, y| matrix[*x][at].abs().total_cmp(&matrix[*y][at].abs()))
            .unwrap();
        matrix.swap(at, pivot);
        right.swap(at, pivot);
        let (above, below) = matrix.split_at_mut(at + 1);
        for (row, lower) in below.iter_mut().enumerate() {
            let factor = lower[at] / above[at][at];
            for (number, upper) in lower.iter_mut().zip(&above[at]).skip(at) {
                *number -= factor * upper;
            }
            right[at + 1 + row] -= factor * right[at];
        }
    }
    for at in (0..size).rev() {
        let known: f64 = (at + 1..size).map(|column| matrix[at][column] * right[column]).sum();
        right[at] = (right[at] - known) / matrix[at][at];
    }
    right
}

/// Alternating least squares over the inputs themselves, one output at a time: `a[m,k,j]` and `c[l,k,n]` after so many
/// sweeps.
fn plainly_fitted(
    spec: &MpsSpec,
    weight: &[f32],
    inputs: &[Vec<f64>],
    [mut a, mut c]: [Vec<f64>; 2],
    sweeps: usize,
) -> [Vec<f64>; 2] {
    let MpsSpec { m, n, j, l, k } = *spec;
    let y = |x: &[f64], output: usize| -> f64 {
        x.iter().enumerate().map(|(at, x)| x * f64::from(weight[at * m * n + output])).sum()
    };
    // Least squares of the rows [(factors, value)].
    let least_squares = |rows: &[(Vec<f64>, f64)]| {
        let size = rows[0].0.len();
        let normal = (0..size).map(|at| {
            (0..size).map(|to| rows.iter().map(|(row, _)| row[at] * row[to]).sum()).collect()
        });
        let right = (0..size).map(|at| rows.iter().map(|(row, y)| row[at] * y).sum());
        solved(normal.collect(), right.collect())
    };
    for _ in 0..sweeps {
        for at_m in 0..m {
            let rows: Vec<(Vec<f64>, f64)> = (0..n)
                .flat_map(|at_n| inputs.iter().map(move |x| (at_n, x)))
                .map(|(at_n, x)| {
                    let factor = |at: usize| -> f64 {
                        let (at_k, at_j) = (at / j, at % j);
                        (0..l)
                            .map(|at_l| c[(at_l * k + at_k) * n + at_n] * x[at_j * l + at_l])
                            .sum()
                    };
                    ((0..k * j).map(factor).collect(), y(x, at_m * n + at_n))
                })
                .collect();
            a[at_m * k * j..][..k * j].copy_from_slice(&least_squares(&rows));
        }
        for at_n in 0..n {
            let rows: Vec<(Vec<f64>, f64)> = (0..m)
                .flat_map(|at_m| inputs.iter().map(move |x| (at_m, x)))
                .map(|(at_m, x)| {
                    let factor = |at: usize| -> f64 {
                        let (at_l, at_k) = (at / k, at % k);
                        (0..j)
                            .map(|at_j| a[(at_m * k + at_k) * j + at_j] * x[at_j * l + at_l])
                            .sum()
                    };
                    ((0..l * k).map(factor).collect(), y(x, at_m * n + at_n))
                })
                .collect();
            for (at, number) in least_squares(&rows).into_iter().enumerate() {
                c[at * n + at_n] = number;
            }
        }
    }
    [a, c]
}

/// Samples `[count, features]` and their moments.
fn inputs(count: usize, features: usize, seed: u64) -> (Vec<f32>, Moments) {
    let inputs = numbers(count * features, seed);
    let mut moments = Moments::new(features);
    moments.add(&inputs).unwrap();
    (inputs, moments)
}

#[test]
fn the_moments_are_those_of_all_inputs() {
    let (count, features) = (5_000, 3);
    let (inputs, moments) = inputs(count, features, 7);
    let mut in_parts = Moments::new(features);
    inputs.chunks(7 * features).for_each(|part| in_parts.add(part).unwrap());
    assert_eq!((moments.count(), in_parts.count()), (count, count));
    let rows: Vec<&[f32]> = inputs.chunks(features).collect();
    let mean =
        |of: &dyn Fn(&[f32]) -> f64| rows.iter().map(|row| of(row)).sum::<f64>() / count as f64;
    for first in 0..features {
        let of_first = mean(&|row| f64::from(row[first]));
        assert!((moments.mean().unwrap()[first] - of_first).abs() < 1e-12);
        for second in 0..features {
            let of_second = mean(&|row| f64::from(row[second]));
            let covariance = mean(&|row| {
                (f64::from(row[first]) - of_first) * (f64::from(row[second]) - of_second)
            });
            for moments in [&moments, &in_parts] {
                let found = moments.covariance().unwrap()[first * features + second];
                assert!((found - covariance).abs() < 1e-12, "{found} {covariance}");
            }
        }
    }
    assert!(Moments::new(3).mean().unwrap_err().to_string().starts_with("inputs: none"));
    assert!(Moments::new(3).add(&[1.0, 2.0]).unwrap_err().to_string().starts_with("inputs: "));
    assert!(Moments::new(1).add(&[f32::NAN]).unwrap_err().to_string().contains("NaN"));
}

/// The fitted cores are those that plain least squares over the inputs gives after as many sweeps.
#[test]
fn the_fit_is_that_of_a_plain_solver() {
    for ([in_factors, out_factors], bond) in
        [([[2, 3], [3, 2]], 2), ([[3, 2], [2, 4]], 1), ([[1, 5], [4, 2]], 2), ([[4, 2], [2, 3]], 3)]
    {
        let spec = MpsSpec::new(in_factors, out_factors, bond).unwrap();
        let weight = numbers(spec.inputs() * spec.outputs(), 11);
        let (samples, moments) = inputs(200, spec.inputs(), 13);
        let (mean, covariance) = (moments.mean().unwrap(), moments.covariance().unwrap());
        let centred: Vec<Vec<f64>> = samples
            .chunks(spec.inputs())
            .map(|row| row.iter().zip(&mean).map(|(x, mean)| f64::from(*x) - mean).collect())
            .collect();
        let start = Nearest::to_matrix(&weight, in_factors, out_factors).unwrap();
        let start = start.cores(bond).unwrap();
        let cores = [start.a(), start.c()];
        let cores = cores.map(|core| core.into_iter().map(f64::from).collect());
        let fitted = fit(&weight, start, &covariance).unwrap();
        assert!(fitted.sweeps > 0, "{spec}");
        let [a, c] = plainly_fitted(&spec, &weight, &centred, cores, fitted.sweeps);
        let [a, c] = [a, c].map(|core| core.iter().map(|x| *x as f32).collect::<Vec<f32>>());
        let plain = Cores::new(spec, &a, &c).unwrap();
        // The plain cores are rounded to f32, and begin with rounded ones.
        for (fitted, plain) in fitted.cores.matrix().iter().zip(plain.matrix()) {
            assert!((fitted - plain).abs() < 1e-5, "{spec}: {fitted} and {plain}");
        }
        let plain = output_error(&weight, &plain, &covariance).unwrap();
        assert!((fitted.error - plain).abs() < 1e-6, "{spec}: {} and {plain}", fitted.error);
    }
}

/// Means are met by the bias: the outputs' deviation is what the error says.
#[test]
fn the_error_is_that_of_the_outputs() {
    let spec = MpsSpec::new([3, 4], [2, 5], 2).unwrap();
    let weight = numbers(spec.inputs() * spec.outputs(), 17);
    let bias = numbers(spec.outputs(), 19);
    let (samples, moments) = inputs(300, spec.inputs(), 23);
    let start = Nearest::to_matrix(&weight, [3, 4], [2, 5]).unwrap().cores(2).unwrap();
    let fitted = fit(&weight, start, &moments.covariance().unwrap()).unwrap();
    let other = fitted.cores.matrix();
    let corrected = moments.corrected_bias(&bias, &weight, &other).unwrap();
    let short = moments.corrected_bias(&[], &weight, &other).unwrap_err().to_string();
    assert!(short.starts_with("weight: 120 numbers: expected 0"), "{short}");
    let (mut missed, mut whole, mut shift) = (0.0, 0.0, vec![0.0; spec.outputs()]);
    let mean = moments.mean().unwrap();
    for row in samples.chunks(spec.inputs()) {
        for output in 0..spec.outputs() {
            let mut of = [f64::from(bias[output]), f64::from(corrected[output]), 0.0];
            for (at, (x, mean)) in row.iter().zip(&mean).enumerate() {
                let x = f64::from(*x);
                let w = f64::from(weight[at * spec.outputs() + output]);
                of[0] += x * w;
                of[1] += x * other[at * spec.outputs() + output];
                of[2] += (x - mean) * w;
            }
            missed += (of[0] - of[1]).powi(2);
            whole += of[2].powi(2);
            shift[output] += of[0] - of[1];
        }
    }
    // The bias is rounded to f32.
    assert!(((missed / whole).sqrt() - fitted.error).abs() < 1e-6, "{}", fitted.error);
    assert!(shift.iter().all(|shift| (shift / 300.0).abs() < 1e-6), "{shift:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Whatever the inputs are: with features that never change, or fewer inputs than features.
    #[test]
    fn a_fit_is_never_worse_than_the_nearest_cores(
        j in 1..5_usize, l in 1..5_usize, m in 1..5_usize, n in 1..5_usize,
        count in 1..40_usize, constant in 0..8_usize, seed in 0..1000_u64,
    ) {
        let features = j * l;
        let weight = numbers(features * m * n, seed);
        let mut samples = numbers(count * features, seed + 1);
        for row in samples.chunks_mut(features) {
            row.iter_mut().take(constant).for_each(|number| *number = 0.5);
        }
        let mut moments = Moments::new(features);
        moments.add(&samples).unwrap();
        let covariance = moments.covariance().unwrap();
        let nearest = Nearest::to_matrix(&weight, [j, l], [m, n]).unwrap();
        for bond in 1..=nearest.full_bond() {
            let start = nearest.cores(bond).unwrap();
            let before = output_error(&weight, &start, &covariance).unwrap();
            let fitted = fit(&weight, start, &covariance).unwrap();
            prop_assert!(fitted.error <= before, "bond {bond}: {} after {before}", fitted.error);
            prop_assert!(fitted.cores.a().iter().chain(&fitted.cores.c()).all(|x| x.is_finite()));
        }
    }
}

fn a_linear_layer_becomes_one_of_cores_and_back(device: &Device) {
    device.seed(1);
    becomes_one_of_cores_and_back(device);
    // Of a model that is trained.
    becomes_one_of_cores_and_back(&device.clone().autodiff());
}

fn becomes_one_of_cores_and_back(device: &Device) {
    let linear = LinearConfig::new(12, 15).init(device);
    let x: Tensor<2> = tensor(&numbers(64 * 12, 29), [64, 12], device);
    let distance = |one: Tensor<2>, other: Tensor<2>| {
        one.sub(other).powf_scalar(2.0).mean().into_scalar::<f32>()
    };
    let whole = MpsLinear::from_linear(&linear, [3, 4], [5, 3], 12).unwrap();
    // Rounded to f32 in both cores, and summed by other kernels.
    assert!(distance(linear.forward(x.clone()), whole.forward(x.clone())) < 1e-10);
    let back = whole.to_linear().unwrap();
    assert!(distance(linear.forward(x.clone()), back.forward(x.clone())) < 1e-10);

    let smaller = MpsLinear::from_linear(&linear, [3, 4], [5, 3], 4).unwrap();
    let mut moments = Moments::new(12);
    moments.add(&x.clone().try_to_vec_as::<f32>().unwrap()).unwrap();
    let fitted = MpsLinear::fit(&linear, [3, 4], [5, 3], 4, &moments).unwrap();
    let [nearest, fitted] = [smaller, fitted]
        .map(|layer| distance(linear.forward(x.clone()), layer.forward(x.clone())));
    assert!(fitted < 0.95 * nearest, "{fitted} {nearest}");

    let wrong = MpsLinear::from_linear(&linear, [3, 5], [5, 3], 4).unwrap_err().to_string();
    assert!(wrong.starts_with("weight: 180 numbers: expected 225"), "{wrong}");
}

on_each_device!(a_linear_layer_becomes_one_of_cores_and_back);
