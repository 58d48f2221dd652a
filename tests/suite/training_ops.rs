//! The operations of a training step, checked against Burn's own and against plain loops.

use burn::backend::DispatchDevice;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::{DType, Device, Tensor};
use tnet_gpu::Error;
use tnet_gpu::data::{Resident, resident};
use tnet_gpu::op::training::{self, Activation, AdamStep};

use crate::common::data::{images, scaled};
use crate::common::{integers, largest_difference, numbers, tensor, values};

on_each_device!(
    images_are_gathered_and_scaled,
    dense_layers_and_their_gradients,
    dropout_keeps_its_share,
    every_device_drops_the_same,
    the_gradient_goes_where_something_was_kept,
    the_loss_and_its_gradient_are_those_of_burn,
    many_images_are_summed,
    adam_is_that_of_burn,
    adam_of_a_product_is_that_of_the_gradient,
    what_is_shared_is_not_written_to,
    operands_that_do_not_fit_are_named,
    no_index_reaches_outside_a_buffer,
);

/// Images of whole words of four pixels, and of 1 and 5 pixels.
fn images_are_gathered_and_scaled(device: &Device) {
    for pixels in [1, 4, 5, 64] {
        let set = images(7, pixels);
        let order = [3, 0, 3, 6];
        let resident = Resident::new(&set, device);
        let got = values(resident.gather(resident::order(&order, device)).unwrap());
        let expected = scaled(&set, &order);
        // A GPU may divide with an error of 2.5 units in the last place.
        assert!(largest_difference(&got, &expected) < 3e-7, "{pixels} pixels");
    }
}

/// Sums of up to 401 products of numbers below 1, in f32 and in f64. Each addition errs by 6e-8 of the
/// sum so far: far less than the bound of 1e-5 of the largest sum. A wrong index is far above it.
fn dense_layers_and_their_gradients(device: &Device) {
    for [batch, inputs, outputs] in
        // The last two are computed by several threads of the CPU: one by rows, one by columns.
        [
            [1, 1, 1],
            [2, 3, 5],
            [17, 64, 10],
            [96, 33, 129],
            [65, 16, 4],
            [130, 140, 65],
            [9, 297, 401],
        ]
    {
        let x = numbers(batch * inputs, 1);
        let weight = numbers(inputs * outputs, 2);
        let bias = numbers(outputs, 3);
        let grad_y = numbers(batch * outputs, 4);
        let product = |left: &dyn Fn(usize, usize) -> f32,
                       right: &dyn Fn(usize, usize) -> f32,
                       start: &dyn Fn(usize) -> f32,
                       [rows, inner, columns]: [usize; 3]| {
            let mut out = Vec::new();
            for row in 0..rows {
                for column in 0..columns {
                    let terms =
                        (0..inner).map(|i| f64::from(left(row, i)) * f64::from(right(i, column)));
                    out.push((f64::from(start(column)) + terms.sum::<f64>()) as f32);
                }
            }
            out
        };
        let none = |_: usize| 0.0;
        let at_x = |b: usize, i: usize| x[b * inputs + i];
        let at_w = |i: usize, o: usize| weight[i * outputs + o];
        let at_d = |b: usize, o: usize| grad_y[b * outputs + o];
        let expected = [
            product(&at_x, &at_w, &|o| bias[o], [batch, inputs, outputs]),
            product(&at_d, &|o, i| at_w(i, o), &none, [batch, outputs, inputs]),
            product(&|i, b| at_x(b, i), &at_d, &none, [inputs, batch, outputs]),
            product(&|_, _| 1.0, &at_d, &none, [1, batch, outputs]),
        ];
        let x = tensor(&x, [batch, inputs], device);
        let weight = tensor(&weight, [inputs, outputs], device);
        let grad_y = tensor(&grad_y, [batch, outputs], device);
        let bias = tensor(&bias, [outputs], device);
        let grad_weight = training::linear_grad_weight(x.clone(), grad_y.clone()).unwrap();
        let grad_bias = training::column_sums(grad_y.clone()).unwrap();
        let got = [
            values(training::linear(x.clone(), weight.clone(), Some(bias)).unwrap()),
            values(training::linear_grad_x(weight, grad_y).unwrap()),
            values(grad_weight),
            values(grad_bias),
        ];
        for (what, (got, expected)) in got.iter().zip(&expected).enumerate() {
            let off = largest_difference(got, expected);
            assert!(off < 1e-5, "{batch}x{inputs}x{outputs}, {what}: {off}");
        }
    }
}

/// Of 100,000 elements at a rate of 0.2, 20,000 are expected to be dropped, with a standard deviation of
/// 126; the bound is five of these.
fn dropout_keeps_its_share(device: &Device) {
    let ones = Tensor::<2>::ones([1000, 100], device);
    let mut masks = Vec::new();
    for seed in [0, 1, 1 << 32, u64::MAX] {
        let mask = values(training::activate(ones.clone(), relu_dropout(0.2, seed)).unwrap());
        let alone = Activation::dropout(0.2).seeded(seed);
        assert_eq!(mask, values(training::activate(ones.clone(), alone).unwrap()));
        assert!(mask.iter().all(|&value| value == 0.0 || value == 1.25));
        let dropped = mask.iter().filter(|&&value| value == 0.0).count();
        assert!(dropped.abs_diff(20_000) < 632, "{dropped} of 100,000");
        // Independent masks agree in 0.8² + 0.2² = 68 % of their elements, give or take 0.15 %.
        for other in &masks {
            let pairs = mask.iter().zip::<&Vec<f32>>(other);
            let same = pairs.filter(|(a, b)| a == b).count();
            assert!(same.abs_diff(68_000) < 740, "{same} of 100,000 agree");
        }
        // Neither does an element depend on its neighbour.
        let repeated = mask.windows(2).filter(|pair| pair[0] == pair[1]).count();
        assert!(repeated.abs_diff(68_000) < 740, "{repeated} of 100,000 repeat");
        masks.push(mask);
    }
    let x = tensor(&[-1.0, 0.0, 2.0, f32::NAN], [1, 4], device);
    for (activation, expected) in [
        (relu_dropout(0.0, 7), [0.0, 0.0, 2.0]),
        (Activation::RELU, [0.0, 0.0, 2.0]),
        (Activation::dropout(0.0), [-1.0, 0.0, 2.0]),
        (Activation::NONE, [-1.0, 0.0, 2.0]),
    ] {
        let y = values(training::activate(x.clone(), activation).unwrap());
        assert_eq!(y[..3], expected, "{activation:?}");
        assert!(y[3].is_nan(), "{activation:?} hides a NaN: {y:?}");
    }
}

/// ReLU, then dropout.
fn relu_dropout(rate: f32, seed: u64) -> Activation {
    Activation::RELU.then(Activation::dropout(rate)).unwrap().seeded(seed)
}

/// The second has a number of elements that is no multiple of four, and takes another kernel.
const SHAPES: [[usize; 2]; 2] = [[700, 100], [31, 13]];

fn every_device_drops_the_same(device: &Device) {
    for [rows, columns] in SHAPES {
        let x = numbers(rows * columns, 5);
        let both = relu_dropout(0.5, 0x0123_4567_89ab_cdef);
        for activation in [both, Activation { relu: false, ..both }, Activation::RELU] {
            let on = |device| {
                values(training::activate(tensor(&x, [rows, columns], device), activation).unwrap())
            };
            assert_eq!(on(device), on(&Device::flex()), "{activation:?}");
        }
    }
}

fn the_gradient_goes_where_something_was_kept(device: &Device) {
    for shape in SHAPES {
        let count = shape[0] * shape[1];
        let both = relu_dropout(0.25, 3);
        let x = numbers(count, 6);
        let y = training::activate(tensor(&x, shape, device), both).unwrap();
        let d = numbers(count, 7);
        let grad = |y, activation| {
            values(training::activate_grad(y, tensor(&d, shape, device), activation).unwrap())
        };
        let got = grad(Some(y.clone()), both);
        let alone = grad(None, Activation { relu: false, ..both });
        for ((with, without), x) in got.iter().zip(&alone).zip(&x) {
            assert_eq!(*with, if *x > 0.0 { *without } else { 0.0 });
        }
        let expected: Vec<f32> = values(y)
            .iter()
            .zip(&d)
            .map(|(&y, d)| if y > 0.0 { d * (1.0 / 0.75) } else { 0.0 })
            .collect();
        assert_eq!(got, expected);
        assert!(got.iter().any(|&value| value != 0.0));
    }
}

fn the_loss_and_its_gradient_are_those_of_burn(device: &Device) {
    for (batch, classes) in [(1, 2), (5, 10), (128, 10), (300, 3), (257, 256)] {
        let logits: Vec<f32> = numbers(batch * classes, 8).iter().map(|x| 20.0 * x).collect();
        let labels: Vec<i32> = (0..batch).map(|b| (b * 7 % classes) as i32).collect();
        // The order reverses the batch, so that a label must be looked up through it.
        let order: Vec<i32> = (0..batch as i32).rev().collect();
        let (grad, sums) = training::softmax_cross_entropy(
            tensor(&logits, [batch, classes], device),
            integers(&labels, device),
            integers(&order, device),
        )
        .unwrap();

        let flex = Device::flex().autodiff();
        let burn = tensor(&logits, [batch, classes], &flex).require_grad();
        let reversed: Vec<i32> = labels.iter().rev().copied().collect();
        let targets = integers(&reversed, &flex);
        let loss = CrossEntropyLossConfig::new().init(&flex).forward(burn.clone(), targets);
        let expected = values(burn.grad(&loss.backward()).unwrap());
        let off = largest_difference(&values(grad), &expected);
        // Exponentials that differ by up to e⁴⁰, each right to a few units in the last place.
        assert!(off < 5e-6, "{batch} x {classes}: gradient off by {off}");
        let mean = loss.into_scalar::<f32>();
        let right = logits
            .chunks(classes)
            .zip(&reversed)
            .filter(|(row, label)| row.iter().all(|logit| *logit <= row[**label as usize]))
            .count();
        let sums = values(sums);
        // A unit in the last place of logits up to 20 is 2e-6.
        let off = (sums[0] / batch as f32 - mean).abs() / (1.0 + mean);
        assert!(off < 5e-6, "{batch} x {classes}: loss off by {off}");
        assert_eq!(sums[1], right as f32);
    }
}

/// More images than one launch sums.
fn many_images_are_summed(device: &Device) {
    let batch = 20_001;
    let logits = Tensor::<2>::zeros([batch, 2], device);
    let labels: Vec<i32> = (0..batch).map(|b| b % 2).collect();
    let order: Vec<i32> = (0..batch).collect();
    let (_, sums) = training::softmax_cross_entropy(
        logits,
        integers(&labels, device),
        integers(&order, device),
    )
    .unwrap();
    let sums = values(sums);
    assert!((sums[0] / (batch as f32 * 2.0_f32.ln()) - 1.0).abs() < 1e-5, "{sums:?}");
    assert_eq!(sums[1], 10_001.0, "of equal logits the first counts");
}

fn adam_is_that_of_burn(device: &Device) {
    let count = 1000;
    let autodiff = Device::flex().autodiff();
    // A module with one weight: its gradient is what the loss multiplies it by.
    let mut burn = burn::nn::LinearConfig::new(count, 1).with_bias(false).init(&autodiff);
    let mut optimizer = AdamConfig::new().with_epsilon(1e-7).init();
    let start = values(burn.weight.val());
    let zeros = || Tensor::<1>::zeros([count], device);
    let mut ours = [tensor(&start, [count], device), zeros(), zeros()];
    for step in 1..=5 {
        let grad = numbers(count, 10 + step);
        let loss = (burn.weight.val() * tensor(&grad, [count, 1], &autodiff)).sum();
        let grads = GradientsParams::from_grads(loss.backward(), &burn);
        burn = optimizer.step(1e-2, burn, grads);
        let step = AdamStep::new(1e-2, [0.9, 0.999], 1e-7, step);
        ours = training::adam(ours, tensor(&grad, [count], device), step).unwrap();
    }
    let [ours, ..] = ours.map(values);
    // Burn computes `1 - 0.999ᵗ` in f32, which errs by 6e-8, 6e-5 of 0.001, and its root by half of that:
    // five steps of 1e-2 differ by up to 1.5e-6, with weights of 0.08 at most.
    let off = largest_difference(&ours, &values(burn.weight.val()));
    assert!(off < 2e-5, "{off}");
    assert!(largest_difference(&ours, &start) > 1e-2);
}

/// To the bit. The CPU computes the second product in several pieces.
fn adam_of_a_product_is_that_of_the_gradient(device: &Device) {
    for [batch, inputs, outputs] in [[2, 3, 5], [33, 300, 129]] {
        let count = inputs * outputs;
        let state = [1, 2, 3].map(|seed| tensor(&numbers(count, seed), [count], device));
        // The mean of squares is not negative.
        let [value, mean, square] = state;
        let state = [value, mean, square.abs()];
        let x = tensor(&numbers(batch * inputs, 4), [batch, inputs], device);
        let grad_y = tensor(&numbers(batch * outputs, 5), [batch, outputs], device);
        let step = AdamStep::new(0.1, [0.9, 0.999], 1e-7, 3);
        let before = state.clone().map(values);
        let got = training::linear_adam(state.clone(), x.clone(), grad_y.clone(), step).unwrap();
        // Tensors that are used elsewhere too stay as they were.
        assert_eq!(state.clone().map(values), before);
        let grad = training::linear_grad_weight(x, grad_y).unwrap().flatten(0, 1);
        let expected = training::adam(state, grad, step).unwrap();
        assert_eq!(got.map(values), expected.map(values));
    }
}

fn what_is_shared_is_not_written_to(device: &Device) {
    let kept = tensor(&numbers(64, 20), [8, 8], device);
    let before = values(kept.clone());
    let both = relu_dropout(0.5, 1);
    drop(values(training::activate(kept.clone(), both).unwrap()));
    drop(values(training::activate_grad(Some(kept.clone()), kept.clone(), both).unwrap()));
    let (grad, _) = training::softmax_cross_entropy(
        kept.clone(),
        integers(&[0; 8], device),
        integers(&[0, 1, 2, 3, 4, 5, 6, 7], device),
    )
    .unwrap();
    drop(values(grad));
    let flat = kept.clone().flatten::<1>(0, 1);
    let step = AdamStep::new(0.1, [0.9, 0.999], 1e-7, 1);
    let [new, ..] = training::adam([flat.clone(), flat.clone(), flat.clone()], flat, step).unwrap();
    assert_ne!(values(new), before);
    assert_eq!(values(kept), before);
}

fn operands_that_do_not_fit_are_named(device: &Device) {
    let matrix = |shape: [usize; 2]| Tensor::<2>::zeros(shape, device);
    let flat = |count: usize| Tensor::<1>::zeros([count], device);
    let indices = |count: usize| integers(&vec![0; count], device);
    let words = |shape: [usize; 2]| indices(shape[0] * shape[1]).reshape(shape);
    let state = |count: usize| [flat(count), flat(6), flat(6)];
    let both = relu_dropout(0.5, 1);
    let y = Some(matrix([4, 2]));
    let step = AdamStep::new(1e-3, [0.9, 0.999], 1e-7, 1);
    let cases: Vec<(&str, Option<Error>)> = vec![
        ("images", training::gather_images(words([3, 2]), indices(2), 9).err()),
        ("weight", training::linear(matrix([4, 2]), matrix([3, 3]), Some(flat(3))).err()),
        ("bias", training::linear(matrix([4, 2]), matrix([2, 3]), Some(flat(2))).err()),
        ("grad_y", training::linear_grad_x(matrix([2, 3]), matrix([4, 2])).err()),
        ("grad_y", training::linear_grad_weight(matrix([4, 2]), matrix([3, 3])).err()),
        ("grad_y", training::activate_grad(y, matrix([4, 3]), both).err()),
        ("order", training::softmax_cross_entropy(matrix([4, 3]), indices(9), indices(5)).err()),
        ("value", training::adam(state(5), flat(6), step).err()),
        ("mean", training::adam(state(7), flat(7), step).err()),
        ("grad_y", training::linear_adam(state(6), matrix([4, 2]), matrix([5, 3]), step).err()),
        ("value", training::linear_adam(state(5), matrix([4, 2]), matrix([4, 3]), step).err()),
        ("x", training::activate(matrix([4, 2]).cast(DType::F16), both).err()),
    ];
    for (at, (expected, error)) in cases.into_iter().enumerate() {
        match error {
            Some(Error::Shape { operand, .. } | Error::ElementType { operand, .. }) => {
                assert_eq!(operand, expected, "case {at}");
            }
            other => panic!("case {at}, {expected}: {other:?}"),
        }
    }
}

/// An index past the last image takes the last on an adapter, whose kernels have no other bounds checks; the CPU
/// device panics.
fn no_index_reaches_outside_a_buffer(device: &Device) {
    let set = images(7, 5);
    let resident = Resident::new(&set, device);
    let gather =
        |order: [u32; 2]| values(resident.gather(resident::order(&order, device)).unwrap());
    let logits = tensor(&numbers(6, 8), [2, 3], device);
    let gradient = |labels: [i32; 2], order: [i32; 2]| {
        let [labels, order] = [labels, order].map(|numbers| integers(&numbers, device));
        values(training::softmax_cross_entropy(logits.clone(), labels, order).unwrap().0)
    };
    if matches!(device.as_dispatch(), DispatchDevice::Flex(_)) {
        let panics = |run: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
        panics(&|| drop(gather([1, 7]))).unwrap_err();
        panics(&|| drop(gradient([1, 3], [0, 1]))).unwrap_err();
        return;
    }
    assert_eq!(gather([1, 7]), gather([1, 6]));
    assert_eq!(gather([u32::MAX, 0]), gather([6, 0]));
    assert_eq!(gradient([1, 3], [0, 1]), gradient([1, 2], [0, 1]));
    assert_eq!(gradient([1, 2], [0, -1]), gradient([1, 2], [0, 1]));
}
