//! The operations of a training step, checked against Burn's own and against plain loops.

use burn::backend::DispatchDevice;
use burn::tensor::{DType, Device, Tensor};
use tnet_gpu::Error;
use tnet_gpu::data::{Resident, resident};
use tnet_gpu::op::activation::Activation;
use tnet_gpu::op::state::{AdamStep, Betas, Layout};
use tnet_gpu::op::training;
use tnet_gpu::op::words::StepWords;

use crate::common::data::{images, scaled};
use crate::common::{integers, largest_difference, numbers, seeded, tensor, values};

const BETAS: Betas = [0.9, 0.999];

on_each_device!(
    images_are_gathered_and_scaled,
    dense_layers_and_their_gradients,
    dense_layers_take_activations_with_them,
    dropout_keeps_its_share,
    every_device_drops_the_same,
    the_gradient_goes_where_something_was_kept,
    the_step_of_a_dense_layer_is_that_of_its_gradients,
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
            values(linear(x.clone(), weight.clone(), Some(bias)).unwrap()),
            values(training::linear_grad_x(weight, None, grad_y).unwrap()),
            values(grad_weight),
            values(grad_bias),
        ];
        for (what, (got, expected)) in got.iter().zip(&expected).enumerate() {
            let off = largest_difference(got, expected);
            assert!(off < 1e-5, "{batch}x{inputs}x{outputs}, {what}: {off}");
        }
    }
}

/// The dense layer alone.
fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> tnet_gpu::Result<Tensor<2>> {
    let words = StepWords::none(&x.device());
    training::linear(x, weight, bias, Activation::NONE, &words)
}

/// The activation in the products' launch is that after it, to the bit, and so is the gradient of a ReLU.
fn dense_layers_take_activations_with_them(device: &Device) {
    for [batch, inputs, outputs] in [[2, 3, 5], [130, 70, 66], [5, 1500, 3], [40, 32, 64]] {
        let x = tensor(&numbers(batch * inputs, 1), [batch, inputs], device);
        let weight = tensor(&numbers(inputs * outputs, 2), [inputs, outputs], device);
        let bias = Some(tensor(&numbers(outputs, 3), [outputs], device));
        let words = seeded(7, device);
        let alone = linear(x.clone(), weight.clone(), bias.clone()).unwrap();
        for activation in [Activation::RELU, Activation::dropout(0.3), relu_dropout(0.3)] {
            let (weight, bias) = (weight.clone(), bias.clone());
            let got = training::linear(x.clone(), weight.clone(), bias, activation, &words);
            let expected = training::activate(alone.clone(), activation, &words).unwrap();
            let y = got.unwrap();
            assert_eq!(values(y.clone()), values(expected), "{activation:?}");
            if activation.needs_output() {
                let d = tensor(&numbers(batch * outputs, 4), [batch, outputs], device);
                let relu = Some((y.clone(), 1.0 / 0.7));
                let got = training::linear_grad_x(weight.clone(), relu, d.clone()).unwrap();
                let passed = training::activate_grad(Some(y), d, relu_dropout(0.3), &words);
                let expected = training::linear_grad_x(weight, None, passed.unwrap()).unwrap();
                assert_eq!(values(got), values(expected), "{activation:?}");
            }
        }
    }
}

/// Of 100,000 elements at a rate of 0.2, 20,000 are expected to be dropped, with a standard deviation of
/// 126; the bound is five of these.
fn dropout_keeps_its_share(device: &Device) {
    let ones = Tensor::<2>::ones([1000, 100], device);
    let mut masks = Vec::new();
    for seed in [0, 1, 1 << 32, u64::MAX] {
        let words = seeded(seed, device);
        let drawn =
            |activation| values(training::activate(ones.clone(), activation, &words).unwrap());
        let mask = drawn(relu_dropout(0.2));
        assert_eq!(mask, drawn(Activation::dropout(0.2)));
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
    let words = seeded(7, device);
    for (activation, expected) in [
        (relu_dropout(0.0), [0.0, 0.0, 2.0]),
        (Activation::RELU, [0.0, 0.0, 2.0]),
        (Activation::dropout(0.0), [-1.0, 0.0, 2.0]),
        (Activation::NONE, [-1.0, 0.0, 2.0]),
    ] {
        let y = values(training::activate(x.clone(), activation, &words).unwrap());
        assert_eq!(y[..3], expected, "{activation:?}");
        assert!(y[3].is_nan(), "{activation:?} hides a NaN: {y:?}");
    }
}

/// ReLU, then dropout.
fn relu_dropout(rate: f32) -> Activation {
    Activation::RELU.then(Activation::dropout(rate)).unwrap()
}

/// The second has a number of elements that is no multiple of four, and takes another kernel.
const SHAPES: [[usize; 2]; 2] = [[700, 100], [31, 13]];

fn every_device_drops_the_same(device: &Device) {
    for [rows, columns] in SHAPES {
        let x = numbers(rows * columns, 5);
        let both = relu_dropout(0.5);
        for activation in [both, Activation { relu: false, ..both }, Activation::RELU] {
            let on = |device| {
                let (x, words) =
                    (tensor(&x, [rows, columns], device), seeded(0x0123_4567_89ab_cdef, device));
                values(training::activate(x, activation, &words).unwrap())
            };
            assert_eq!(on(device), on(&Device::flex()), "{activation:?}");
        }
    }
}

fn the_gradient_goes_where_something_was_kept(device: &Device) {
    for shape in SHAPES {
        let count = shape[0] * shape[1];
        let (both, words) = (relu_dropout(0.25), seeded(3, device));
        let x = numbers(count, 6);
        let y = training::activate(tensor(&x, shape, device), both, &words).unwrap();
        let d = numbers(count, 7);
        let grad = |y, activation| {
            let d = tensor(&d, shape, device);
            values(training::activate_grad(y, d, activation, &words).unwrap())
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

/// The step of a dense layer is that of its gradients: with a bias and without, after a ReLU and not. The CPU computes
/// the second product in several pieces, a GPU the last one in parts.
fn the_step_of_a_dense_layer_is_that_of_its_gradients(device: &Device) {
    for [batch, inputs, outputs] in [[2, 3, 5], [33, 300, 129], [4000, 7, 12]] {
        for (bias, relu) in [(true, None), (false, None), (true, Some(1.25))] {
            let counts = [inputs * outputs, outputs];
            let layout = Layout::new(counts.into_iter().take(if bias { 2 } else { 1 }));
            let state = numbers(3 * layout.stride, 1);
            // The mean of squares is not negative.
            let state: Vec<f32> = state.iter().map(|number| number.abs()).collect();
            let state = tensor(&state, [3 * layout.stride], device);
            let x = tensor(&numbers(batch * inputs, 4), [batch, inputs], device);
            let d = tensor(&numbers(batch * outputs, 5), [batch, outputs], device);
            let y = tensor(&numbers(batch * outputs, 6), [batch, outputs], device);
            let step = AdamStep::new(0.1, BETAS, 1e-7, 3);
            let words = StepWords::new(&step, &[], device);
            let before = values(state.clone());
            let after = relu.map(|scale| (y.clone(), scale));
            let got = training::linear_update(
                state.clone(),
                &layout,
                x.clone(),
                after.clone(),
                d.clone(),
                &words,
                BETAS,
            );
            // Tensors that are used elsewhere too stay as they were.
            assert_eq!(values(state.clone()), before);
            let passed = Activation::RELU.then(Activation::dropout(0.2)).unwrap();
            let d = match after {
                Some((y, _)) => training::activate_grad(Some(y), d, passed, &words).unwrap(),
                None => d,
            };
            let grads = [
                values(training::linear_grad_weight(x, d.clone()).unwrap()),
                values(training::column_sums(d).unwrap()),
            ];
            let mut row = vec![0.0; layout.stride];
            for ([begin, count], grad) in layout.weights.iter().zip(&grads) {
                row[*begin..][..*count].copy_from_slice(grad);
            }
            let row = tensor(&row, [1, layout.stride], device);
            let expected = training::adam(state, row, &words, BETAS).unwrap();
            for (at, [_, count]) in layout.weights.iter().enumerate() {
                let [got, expected] = [got.as_ref().unwrap(), &expected]
                    .map(|state| values(training::weight(state, &layout, at, [*count]).unwrap()));
                // Sums of up to 4,000 products in another order: 4000 · 6e-8 of a gradient, of whose sign and size
                // the step takes one tenth.
                let off = largest_difference(&got, &expected);
                assert!(off < 1e-4, "{batch}x{inputs}x{outputs}, {bias}, {relu:?}: {off}");
                assert!(largest_difference(&got, &before[..*count]) > 1e-3, "no step");
            }
        }
    }
}

fn what_is_shared_is_not_written_to(device: &Device) {
    let kept = tensor(&numbers(64, 20), [8, 8], device);
    let before = values(kept.clone());
    let (both, words) = (relu_dropout(0.5), seeded(1, device));
    drop(values(training::activate(kept.clone(), both, &words).unwrap()));
    let y = Some(kept.clone());
    drop(values(training::activate_grad(y, kept.clone(), both, &words).unwrap()));
    let (grad, _) = training::softmax_cross_entropy(
        kept.clone(),
        integers(&[0; 8], device),
        integers(&[0, 1, 2, 3, 4, 5, 6, 7], device),
        0.0,
    )
    .unwrap();
    drop(values(grad));
    let layout = Layout::new([5]);
    let state = tensor(&numbers(3 * layout.stride, 21), [3 * layout.stride], device);
    let before_step = values(state.clone());
    let words = StepWords::new(&AdamStep::new(0.1, BETAS, 1e-7, 1), &[], device);
    let row = tensor(&numbers(layout.stride, 22), [1, layout.stride], device);
    let new = training::adam(state.clone(), row, &words, BETAS).unwrap();
    assert_ne!(values(new)[..5], before_step[..5]);
    assert_eq!(values(state), before_step);
    assert_eq!(values(kept), before);
}

fn operands_that_do_not_fit_are_named(device: &Device) {
    let matrix = |shape: [usize; 2]| Tensor::<2>::zeros(shape, device);
    let flat = |count: usize| Tensor::<1>::zeros([count], device);
    let indices = |count: usize| integers(&vec![0; count], device);
    let words = |shape: [usize; 2]| indices(shape[0] * shape[1]).reshape(shape);
    let both = relu_dropout(0.5);
    let y = Some(matrix([4, 2]));
    let (seed, none) = (seeded(1, device), StepWords::none(device));
    let layout = Layout::new([6, 3]);
    let stride = layout.stride;
    let update = |state: usize, grad_y: [usize; 2]| {
        let (x, d) = (matrix([4, 2]), matrix(grad_y));
        training::linear_update(flat(state), &layout, x, None, d, &none, BETAS).err()
    };
    let narrow = Some((matrix([4, 2]), 1.0));
    let cases: Vec<(&str, Option<Error>)> = vec![
        ("images", training::gather_images(words([3, 2]), indices(2), 9).err()),
        ("weight", linear(matrix([4, 2]), matrix([3, 3]), Some(flat(3))).err()),
        ("bias", linear(matrix([4, 2]), matrix([2, 3]), Some(flat(2))).err()),
        ("grad_y", training::linear_grad_x(matrix([2, 3]), None, matrix([4, 2])).err()),
        ("y", training::linear_grad_x(matrix([2, 3]), narrow, matrix([4, 3])).err()),
        ("grad_y", training::linear_grad_weight(matrix([4, 2]), matrix([3, 3])).err()),
        ("grad_y", training::activate_grad(y, matrix([4, 3]), both, &seed).err()),
        ("words", training::activate(matrix([4, 2]), both, &none).err()),
        (
            "order",
            training::softmax_cross_entropy(matrix([4, 3]), indices(9), indices(5), 0.0).err(),
        ),
        ("state", training::average(flat(5), &flat(14), &none).err()),
        ("state", training::adam(flat(5), matrix([1, 6]), &none, BETAS).err()),
        ("grad_y", update(3 * stride, [5, 3])),
        ("state", update(3 * stride - 1, [4, 3])),
        ("weight", training::weight(&flat(3 * stride), &layout, 1, [2]).err()),
        ("x", training::activate(matrix([4, 2]).cast(DType::F16), both, &seed).err()),
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
        values(training::softmax_cross_entropy(logits.clone(), labels, order, 0.0).unwrap().0)
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
