//! The layer as an operation: checked against the f64 reference, with and without fusion, with unusual
//! operands; the same bits every time.

use burn::backend::{Backend, DispatchDevice, Flex};
use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_cubecl::CubeBackend;
use tnet_gpu::Error;
use tnet_gpu::mps::MpsSpec;
use tnet_gpu::mps::reference::{self, Operands, Outcome, relative_error};
use tnet_gpu::op::activation::Activation;
use tnet_gpu::op::training;
use tnet_gpu::op::{MpsOps, mps_layer, mps_linear, mps_step_grads};
use tnet_gpu::verify::TOLERANCE;

use crate::common::cases::{CASES, operands};
use crate::common::{largest_difference, seeded, tensor, values};

on_each_device!(
    every_built_in_case_is_right,
    it_is_right_without_fusion,
    it_is_right_between_fused_operations,
    it_needs_no_bias,
    a_step_gets_the_activation_and_all_gradients_with_it,
    views_of_tensors_are_taken_for_what_they_are,
    the_same_inputs_give_the_same_bits,
    gradients_are_computed_for_what_asks_for_them,
    a_layer_used_twice_adds_up_its_gradients,
    operands_that_do_not_fit_are_named,
    operands_that_do_not_fit_stop_a_backend,
);

/// Operands of a layer whose extents all differ.
fn uneven() -> Operands {
    operands(MpsSpec { m: 7, n: 18, j: 5, l: 11, k: 3 }, 13)
}

/// `x`, `a`, `c` and the bias on a device.
fn upload(operands: &Operands, device: &Device) -> (Tensor<3>, Tensor<3>, Tensor<3>, Tensor<2>) {
    let Operands { spec, batch, x, a, c, bias, .. } = operands;
    (
        tensor(x, [*batch, spec.j, spec.l], device),
        tensor(a, spec.a_shape(), device),
        tensor(c, spec.c_shape(), device),
        tensor(bias, spec.bias_shape(), device),
    )
}

/// The operations of a training step: the activation as if it came after the layer, to the bit, and the gradients of
/// what the reference computes from the gradient before the activation. Also where core A comes first, where extents
/// are no multiples of anything, and for bonds at which `W` is rebuilt.
fn a_step_gets_the_activation_and_all_gradients_with_it(device: &Device) {
    let spec = |[j, l]: [usize; 2], [m, n]: [usize; 2], k| MpsSpec { m, n, j, l, k };
    for (spec, batch) in [
        (spec([28, 28], [32, 16], 1), 130),
        (spec([32, 16], [32, 16], 2), 33),
        (spec([4, 6], [2, 7], 3), 5),
        (spec([16, 24], [4, 40], 2), 17),
        (spec([5, 11], [7, 18], 3), 13),
        (spec([12, 12], [8, 12], 64), 40),
        (spec([1, 1], [1, 1], 1), 1),
        // The CPU takes several blocks of samples for one partial sum: because they are large, and because there are many.
        (spec([28, 28], [32, 16], 9), 40),
        (spec([4, 4], [3, 5], 2), 1100),
    ] {
        let operands = operands(spec, batch);
        let (x, a, c, bias) = upload(&operands, device);
        let shape = [batch, spec.m, spec.n];
        let grad_y = || tensor(&operands.grad_y, shape, device);
        let (dropout, words) = (Activation::dropout(0.3), seeded(99, device));
        let both = Activation::RELU.then(dropout).unwrap();
        for activation in [Activation::NONE, Activation::RELU, dropout, both] {
            let what = format!("{spec}, {activation:?}");
            let plain = mps_linear(x.clone(), a.clone(), c.clone(), Some(bias.clone())).unwrap();
            let flat = plain.reshape([batch, spec.outputs()]);
            let expected = values(training::activate(flat, activation, &words).unwrap());
            let (a, c, bias) = (a.clone(), c.clone(), Some(bias.clone()));
            let y = mps_layer(x.clone(), a, c, bias, activation, &words).unwrap();
            assert_eq!(values(y.clone()), expected, "{what}");

            let kept = activation.needs_output().then(|| y.reshape([batch, spec.outputs()]));
            let flat = grad_y().reshape([batch, spec.outputs()]);
            let before = training::activate_grad(kept.clone(), flat.clone(), activation, &words);
            let before = Operands { grad_y: values(before.unwrap()), ..operands.clone() };
            let expected = reference::compute(&before);
            let (relu, d) = training::before_relu(kept, flat, activation, &words).unwrap();
            for wants_x in [true, false] {
                let (x, relu, d) = (x.clone().flatten(1, 2), relu.clone(), d.clone());
                let cores = [&operands.a[..], &operands.c];
                let got = mps_step_grads(spec, x, cores, relu, d, wants_x).unwrap();
                close(&got.a, &expected.grad_a, &what);
                close(&got.c, &expected.grad_c, &what);
                close(&got.bias, &expected.grad_bias, &what);
                assert_eq!(got.x.is_some(), wants_x);
                if let Some(grad_x) = got.x {
                    close(&grad_x, &expected.grad_x, &what);
                }
            }
        }
        let flat = grad_y().reshape([batch, spec.outputs()]);
        let words = seeded(0, device);
        let missing = training::before_relu(None, flat, Activation::RELU, &words);
        assert!(missing.unwrap_err().to_string().starts_with("y: none"));
    }
}

fn close(got: &[f32], expected: &[f64], what: &str) {
    let distance = relative_error(got, expected);
    assert!(distance <= TOLERANCE, "{what}: {distance:e}");
}

fn every_built_in_case_is_right(device: &Device) {
    for case in CASES.iter() {
        let distances = case.run(device).unwrap();
        assert!(distances.pass(), "{}: {distances}", case.name());
    }
}

fn it_is_right_without_fusion(device: &Device) {
    // Multiples of 4 but not of 8, 16 or 32: the last tile is partial.
    let parts = MpsSpec { m: 36, n: 12, j: 20, l: 44, k: 3 };
    let article = MpsSpec { m: 32, n: 16, j: 28, l: 28, k: 16 };
    for operands in [uneven(), operands(parts, 19), operands(article, 66)] {
        // Called directly on the backends below Burn's Fusion.
        let outcome = match device.as_dispatch() {
            DispatchDevice::Cube(device) => unfused::<CubeBackend>(&operands, device),
            DispatchDevice::Flex(device) => unfused::<Flex>(&operands, device),
            other => panic!("{other:?} is neither"),
        };
        let expected = reference::compute(&operands);
        let [y, grad_a, grad_c, grad_bias, grad_x] = &outcome;
        close(y, &expected.y, "y");
        close(grad_a, &expected.grad_a, "grad_a");
        close(grad_c, &expected.grad_c, "grad_c");
        close(grad_bias, &expected.grad_bias, "grad_bias");
        close(grad_x, &expected.grad_x, "grad_x");
    }
}

fn unfused<B: Backend + MpsOps>(operands: &Operands, device: &B::Device) -> [Vec<f32>; 5] {
    let Operands { spec, batch, x, a, c, bias, grad_y } = operands;
    let upload = |values: &[f32], shape: &[usize]| {
        B::float_from_data(TensorData::new(values.to_vec(), shape.to_vec()), device)
    };
    let x = upload(x, &[*batch, spec.j, spec.l]);
    let a = upload(a, &spec.a_shape());
    let c = upload(c, &spec.c_shape());
    let bias = upload(bias, &spec.bias_shape());
    let grad_y = upload(grad_y, &[*batch, spec.m, spec.n]);
    let y = B::mps_linear(x.clone(), a.clone(), c.clone(), bias);
    let (grad_a, grad_c, grad_bias) = B::mps_grads(x, a.clone(), c.clone(), grad_y.clone());
    let grad_x = B::mps_grad_x(a, c, grad_y);
    [y, grad_a, grad_c, grad_bias, grad_x].map(|tensor| {
        burn::tensor::read_sync(B::float_into_data(tensor)).unwrap().try_to_vec::<f32>().unwrap()
    })
}

/// Element-wise operations before and after it, which Fusion merges with their neighbours.
fn it_is_right_between_fused_operations(device: &Device) {
    let mut operands = uneven();
    let (x, a, c, bias) = upload(&operands, device);
    let y = mps_linear(x * 2.0 + 0.5, a.abs(), c, Some(bias)).unwrap();
    let got = values((y * 3.0 - 1.0).abs());

    operands.x.iter_mut().for_each(|x| *x = *x * 2.0 + 0.5);
    operands.a.iter_mut().for_each(|a| *a = a.abs());
    let expected = reference::compute(&operands).y;
    let expected: Vec<f64> = expected.iter().map(|y| (y * 3.0 - 1.0).abs()).collect();
    close(&got, &expected, "y");
}

fn it_needs_no_bias(device: &Device) {
    let mut operands = uneven();
    operands.bias.fill(0.0);
    let device = device.clone().autodiff();
    let (x, a, c, _) = upload(&operands, &device);
    let (x, a, c) = (x.require_grad(), a.require_grad(), c.require_grad());
    let y = mps_linear(x.clone(), a.clone(), c.clone(), None).unwrap();
    let grad_y = tensor(&operands.grad_y, y.dims(), &device);
    let grads = (y.clone() * grad_y).sum().backward();
    let Outcome { y: expected, grad_a, grad_c, grad_x, .. } = reference::compute(&operands);
    close(&values(y), &expected, "y");
    close(&values(a.grad(&grads).unwrap()), &grad_a, "grad_a");
    close(&values(c.grad(&grads).unwrap()), &grad_c, "grad_c");
    close(&values(x.grad(&grads).unwrap()), &grad_x, "grad_x");
}

/// Transposed, sliced and repeated tensors have strides and offsets of their own.
fn views_of_tensors_are_taken_for_what_they_are(device: &Device) {
    let operands = uneven();
    let Operands { spec: MpsSpec { m, n, j, l, k }, batch, .. } = operands;
    let expected = reference::compute(&operands).y;
    let (x, a, c, bias) = upload(&operands, device);

    // Stored in another order, then permuted back: the strides are not row-major.
    let permuted = |tensor: Tensor<3>| {
        let stored = values(tensor.clone().permute([2, 0, 1]));
        let [d0, d1, d2] = tensor.dims();
        let stored: Tensor<3> = self::tensor(&stored, [d2, d0, d1], device);
        stored.permute([1, 2, 0])
    };
    let bias_permuted = tensor(&values(bias.clone().transpose()), [n, m], device).transpose();
    let y = mps_linear(
        permuted(x.clone()),
        permuted(a.clone()),
        permuted(c.clone()),
        Some(bias_permuted),
    );
    close(&values(y.unwrap()), &expected, "permuted");

    // A part of a larger tensor.
    let within = |tensor: Tensor<3>| {
        let [d0, d1, d2] = tensor.dims();
        let larger = Tensor::<3>::full([d0 + 2, d1 + 1, d2 + 3], f32::NAN, device);
        let range = [1..d0 + 1, 0..d1, 2..d2 + 2];
        larger.slice_assign(range.clone(), tensor).slice(range)
    };
    let y = mps_linear(within(x), within(a.clone()), within(c.clone()), Some(bias.clone()));
    close(&values(y.unwrap()), &expected, "within");

    // One sample for the whole batch: a stride of 0.
    let one = tensor(&operands.x[..j * l], [1, j, l], device);
    let y = mps_linear(one.expand([batch, j, l]), a, c, Some(bias)).unwrap();
    let sample = &expected[..m * n];
    let repeated: Vec<f64> = sample.iter().copied().cycle().take(batch * m * n).collect();
    close(&values(y), &repeated, "repeated");
    assert!(k > 1);
}

fn the_same_inputs_give_the_same_bits(device: &Device) {
    let operands = operands(MpsSpec { m: 32, n: 16, j: 28, l: 28, k: 4 }, 130);
    let device = device.clone().autodiff();
    let run = || {
        let (x, a, c, bias) = upload(&operands, &device);
        let (x, a, c) = (x.require_grad(), a.require_grad(), c.require_grad());
        let bias = bias.require_grad();
        let y = mps_linear(x.clone(), a.clone(), c.clone(), Some(bias.clone())).unwrap();
        let grad_y = tensor(&operands.grad_y, y.dims(), &device);
        let grads = (y.clone() * grad_y).sum().backward();
        let all = [
            values(y),
            values(x.grad(&grads).unwrap()),
            values(a.grad(&grads).unwrap()),
            values(c.grad(&grads).unwrap()),
            values(bias.grad(&grads).unwrap()),
        ];
        all.map(|values| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>())
    };
    let first = run();
    for _ in 0..3 {
        assert!(run() == first);
    }
}

fn gradients_are_computed_for_what_asks_for_them(device: &Device) {
    let operands = uneven();
    let expected = reference::compute(&operands);
    let device = device.clone().autodiff();
    for asking in 0..4 {
        let (x, a, c, bias) = upload(&operands, &device);
        let ask = |tensor: Tensor<3>, index: usize| match asking == index {
            true => tensor.require_grad(),
            false => tensor,
        };
        let (x, a, c) = (ask(x, 0), ask(a, 1), ask(c, 2));
        let bias = if asking == 3 { bias.require_grad() } else { bias };
        let y = mps_linear(x.clone(), a.clone(), c.clone(), Some(bias.clone())).unwrap();
        let grad_y = tensor(&operands.grad_y, y.dims(), &device);
        let grads = (y * grad_y).sum().backward();
        let got = [x.grad(&grads), a.grad(&grads), c.grad(&grads)].map(|grad| grad.map(values));
        let [of_x, of_a, of_c] = got;
        let got = [of_x, of_a, of_c, bias.grad(&grads).map(values)];
        let expected = [&expected.grad_x, &expected.grad_a, &expected.grad_c, &expected.grad_bias];
        for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
            assert_eq!(got.is_some(), index == asking, "operand {index} of 4");
            if let Some(got) = got {
                close(got, expected, "the gradient asked for");
            }
        }
    }
}

fn a_layer_used_twice_adds_up_its_gradients(device: &Device) {
    let operands = uneven();
    let device = device.clone().autodiff();
    let (x, a, c, bias) = upload(&operands, &device);
    let gradient = |uses: usize| {
        let a = a.clone().require_grad();
        let y = || mps_linear(x.clone(), a.clone(), c.clone(), Some(bias.clone())).unwrap();
        let sum = (1..uses).fold(y(), |sum, _| sum + y());
        values(a.grad(&sum.sum().backward()).unwrap())
    };
    let doubled: Vec<f32> = gradient(1).iter().map(|gradient| 2.0 * gradient).collect();
    // Twice a number and the sum of two equal numbers have the same bits.
    assert_eq!(largest_difference(&gradient(2), &doubled), 0.0);
}

fn operands_that_do_not_fit_are_named(device: &Device) {
    let zeros = |shape: [usize; 3]| Tensor::<3>::zeros(shape, device);
    let run = |x, a, c, bias: Option<[usize; 2]>| {
        let bias = bias.map(|shape| Tensor::<2>::zeros(shape, device));
        mps_linear(zeros(x), zeros(a), zeros(c), bias)
    };
    // b 2, J 3, L 4, M 5, N 6, K 7.
    let (x, a, c, bias) = ([2, 3, 4], [5, 7, 3], [4, 7, 6], Some([5, 6]));
    assert_eq!(run(x, a, c, bias).unwrap().dims(), [2, 5, 6]);
    for (outcome, named, expected, found) in [
        (run([2, 9, 4], a, c, bias), ["x", "a"], "9", "3"),
        (run([2, 3, 9], a, c, bias), ["x", "c"], "9", "4"),
        (run(x, [5, 9, 3], c, bias), ["a", "c"], "9", "7"),
        (run(x, [5, 7, 9], c, bias), ["a", "a"], "3", "9"),
        (run(x, a, [9, 7, 6], bias), ["c", "c"], "4", "9"),
        (run(x, a, [4, 9, 6], bias), ["c", "c"], "7", "9"),
        (run(x, a, c, Some([9, 6])), ["bias", "bias"], "5", "9"),
        (run(x, a, c, Some([5, 9])), ["bias", "bias"], "6", "9"),
    ] {
        let error = outcome.unwrap_err();
        let message = error.to_string();
        assert!(
            matches!(error, Error::Shape { operand, .. } if named.contains(&operand)),
            "{message}"
        );
        assert!(message.contains(expected) && message.contains(found), "{message}");
    }

    let half = zeros(x).cast(DType::F16);
    let error = mps_linear(half, zeros(a), zeros(c), None).unwrap_err();
    assert!(matches!(error, Error::ElementType { operand: "x", .. }), "{error}");
    assert!(error.to_string().contains("f16"), "{error}");
}

/// Beneath the checked functions, too, nothing is read or written outside a buffer.
fn operands_that_do_not_fit_stop_a_backend(device: &Device) {
    match device.as_dispatch() {
        DispatchDevice::Cube(device) => stops::<CubeBackend>(device),
        DispatchDevice::Flex(device) => stops::<Flex>(device),
        other => panic!("{other:?} is neither"),
    }
}

fn stops<B: Backend + MpsOps>(device: &B::Device) {
    let zeros =
        |shape: &[usize]| B::float_from_data(TensorData::zeros::<f32, _>(shape.to_vec()), device);
    // b 2, J 3, L 4, M 5, N 6, K 7.
    let fitting: [&[usize]; 5] = [&[2, 3, 4], &[5, 7, 3], &[4, 7, 6], &[5, 6], &[2, 5, 6]];
    let run = |shapes: [&[usize]; 5]| {
        let [x, a, c, bias, grad_y] = shapes;
        let passes: [&dyn Fn(); 3] = [
            &|| drop(B::mps_linear(zeros(x), zeros(a), zeros(c), zeros(bias))),
            &|| drop(B::mps_grads(zeros(x), zeros(a), zeros(c), zeros(grad_y))),
            &|| drop(B::mps_grad_x(zeros(a), zeros(c), zeros(grad_y))),
        ];
        passes.map(|pass| std::panic::catch_unwind(std::panic::AssertUnwindSafe(pass)).is_ok())
    };
    assert_eq!(run(fitting), [true; 3]);
    let with = |operand: usize, shape: &'static [usize]| {
        let mut shapes = fitting;
        shapes[operand] = shape;
        run(shapes)
    };
    assert_eq!(with(0, &[2, 9, 4])[..2], [false; 2], "x");
    assert_eq!(with(1, &[5, 9, 3]), [false; 3], "a");
    assert_eq!(with(2, &[4, 7, 9])[1..], [false; 2], "c");
    assert!(!with(3, &[5, 9])[0], "bias");
    assert_eq!(with(4, &[2, 5, 9])[1..], [false; 2], "grad_y");
}
