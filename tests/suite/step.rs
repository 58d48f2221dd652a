//! A whole training step, written by hand, against Burn's autodiff of the same network, and against finite differences.

use std::sync::LazyLock;

use burn::module::Param;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::tensor::{Device, Tensor};
use tnet_gpu::data::{ImageSet, Resident};
use tnet_gpu::mps::MpsInit;
use tnet_gpu::net::{
    AvgPool, Channels, Conv2d, Dense, Dropout, Gelu, Layer, MaxPool, Model, Mps, Relu, Stack,
    features,
};
use tnet_gpu::op::activation::Activation;
use tnet_gpu::op::training;
use tnet_gpu::train::learner::State;
use tnet_gpu::train::{Learner, TrainConfig};

use crate::common;
use crate::common::data::{images, scaled};
use crate::common::{config, integers, largest_difference, stack, tensor, values};

on_each_device!(a_step_is_that_of_autodiff, gradients_are_those_of_finite_differences);

/// Every kind of layer, with and without a bias, in places where the ReLU and the dropout after a layer run with it and
/// where they do not.
fn mixed() -> Stack {
    let mps = |in_factors: &[usize], out_factors: &[usize], bond: usize, bias| Mps {
        bias,
        ..Mps::new(in_factors, out_factors, bond)
    };
    let layers: Vec<Layer> = vec![
        Dropout { rate: 0.1 }.into(),
        mps(&[5, 4], &[6, 4], 3, false).into(),
        Relu {}.into(),
        Dense { out: 15, bias: false }.into(),
        Gelu {}.into(),
        Dropout { rate: 0.3 }.into(),
        Relu {}.into(),
        mps(&[3, 5], &[7, 2], 2, true).into(),
        Relu {}.into(),
        mps(&[2, 7, 1], &[2, 3, 2], 2, true).into(),
        Relu {}.into(),
        mps(&[1, 2, 3, 2], &[2, 3, 1, 2], 3, false).into(),
        Dropout { rate: 0.2 }.into(),
        Dropout { rate: 0.2 }.into(),
        Dense { out: 3, bias: true }.into(),
    ];
    let stack = Stack { input: [1, 4, 5], layers };
    let both = || stack.layers.iter().chain(&*IMAGES);
    assert!(Layer::KINDS.iter().all(|kind| both().any(|layer| layer.name() == *kind)));
    stack
}

/// Two cores and chains whose input is extended, whose outputs are cut off, or both, before a ReLU and dropout and before
/// neither.
fn padded() -> Stack {
    let mps = |in_factors: &[usize], out_factors: &[usize], pad: [usize; 2], bias| Mps {
        bias,
        pad,
        ..Mps::new(in_factors, out_factors, 2)
    };
    let layers: Vec<Layer> = vec![
        mps(&[5, 5], &[4, 4], [5, 1], true).into(),
        Relu {}.into(),
        Dropout { rate: 0.2 }.into(),
        mps(&[2, 4, 2], &[3, 2, 3], [1, 4], true).into(),
        Relu {}.into(),
        mps(&[2, 7], &[4, 3], [0, 2], false).into(),
        Dropout { rate: 0.1 }.into(),
        mps(&[3, 2, 2], &[2, 1, 6], [2, 0], true).into(),
        Gelu {}.into(),
        Dense { out: 3, bias: true }.into(),
    ];
    Stack { input: [1, 4, 5], layers }
}

/// Layers of images: cores and a matrix, with strides and padding; kernels of pooling that overlap and that do not come out
/// even; two channels at first.
static IMAGES: LazyLock<Vec<Layer>> = LazyLock::new(|| {
    let of_cores = Conv2d {
        out: Channels::Factors([3, 2]),
        kernel: [3, 3],
        stride: 1,
        padding: 1,
        bond: Some(2),
        bias: true,
    };
    let (out, kernel, stride) = (Channels::Count(4), [2, 3], 2);
    let of_matrix = Conv2d { out, kernel, stride, bond: None, bias: false, ..of_cores.clone() };
    vec![
        of_cores.clone().into(),
        Relu {}.into(),
        MaxPool { kernel: [2, 2], stride: Some(1) }.into(),
        of_matrix.into(),
        Relu {}.into(),
        Dropout { rate: 0.2 }.into(),
        Conv2d { kernel: [1, 1], padding: 0, bias: false, ..of_cores }.into(),
        AvgPool { kernel: [2, 2], stride: None }.into(),
        Relu {}.into(),
        Dense { out: 3, bias: true }.into(),
    ]
});

/// A network of them.
fn images_in_layers() -> Stack {
    Stack { input: [2, 7, 9], layers: IMAGES.clone() }
}

/// One step on a batch of 33 images: the state before and after, and the loss.
fn step(config: &TrainConfig, device: &Device, order: &[u32]) -> (ImageSet, [State; 2], f32) {
    let set = images(40, features(config.network.input));
    let data = Resident::new(&set, device);
    let mut learner = Learner::new(config, device).unwrap();
    let before = learner.state().unwrap();
    let seeds: Vec<u64> = (77..).take(config.network.dropouts()).collect();
    let loss = common::step(&mut learner, &data, order, &seeds) / order.len() as f32;
    (set, [before, learner.state().unwrap()], loss)
}

/// The loss of the network in Burn's operations, with the masks that the step drew.
fn loss(network: &Stack, weights: &[Tensor<1>], x: Tensor<2>, labels: &[i32]) -> Tensor<1> {
    let device = x.device();
    let (mut x, mut weights, mut seed) = (x, weights, 77);
    for placed in network.placed().unwrap() {
        let (own, rest) = weights.split_at(placed.weights().len());
        weights = rest;
        if let Layer::Dropout(Dropout { rate }) = placed.layer {
            let (flex, activation) = (Device::flex(), Activation::dropout(*rate as f32));
            let ones = Tensor::ones(x.dims(), &flex);
            let mask = training::activate(ones, activation, &common::seeded(seed, &flex));
            x = x.clone() * tensor(&values(mask.unwrap()), x.dims(), &device);
            seed += 1;
        } else {
            x = placed.layer.kind().composed(placed.input, own, x);
        }
    }
    CrossEntropyLossConfig::new().init(&device).forward(x, integers(labels, &device))
}

fn order() -> Vec<u32> {
    (0..33).map(|b| b * 7 % 40).collect()
}

fn labels(set: &ImageSet, order: &[u32]) -> Vec<i32> {
    order.iter().map(|&image| set.labels[image as usize].into()).collect()
}

/// The moments after the first step give the gradients: `mean` is a tenth of them, `square` a thousandth
/// of their squares.
fn a_step_is_that_of_autodiff(device: &Device) {
    let usual = |model| stack(model, [4, 5], [3, 8], 2, 3);
    for network in [
        usual(Model::Mps),
        usual(Model::Dense),
        usual(Model::MpsAll),
        mixed(),
        padded(),
        images_in_layers(),
    ] {
        let title = network.title().unwrap();
        let config = config(network);
        let order = order();
        let (set, [before, after], got) = step(&config, device, &order);

        let autodiff = Device::flex().autodiff();
        let weights: Vec<_> = before
            .weights
            .iter()
            .map(|weight| {
                Param::from_tensor(tensor(&weight.values, [weight.values.len()], &autodiff))
            })
            .collect();
        let tensors: Vec<Tensor<1>> = weights.iter().map(Param::val).collect();
        let inputs = features(config.network.input);
        let x = tensor(&scaled(&set, &order), [33, inputs], &autodiff);
        let loss = loss(&config.network, &tensors, x, &labels(&set, &order));
        let off = (got / loss.clone().into_scalar::<f32>() - 1.0).abs();
        assert!(off < 1e-5, "{title}: loss off by {off}");
        let grads = loss.backward();
        for (weight, tensor) in after.weights.iter().zip(&tensors) {
            let name = &weight.name;
            let grad = values(tensor.grad(&grads).unwrap());
            // The gradient is right to some 1e-6 of its largest element; 0.1 and 0.001 are f32.
            let mean: Vec<f32> = grad.iter().map(|grad| 0.1 * grad).collect();
            let square: Vec<f32> = grad.iter().map(|grad| 0.001 * grad * grad).collect();
            assert!(mean.iter().any(|&mean| mean != 0.0), "{title} {name}: no gradient");
            let off = largest_difference(&weight.mean, &mean);
            assert!(off < 1e-5, "{title} {name}: mean off by {off}");
            // `1 - 0.999` in f32 is 5e-5 off a thousandth.
            let off = largest_difference(&weight.square, &square);
            assert!(off < 1e-4, "{title} {name}: square off by {off}");
        }
        assert_ne!(after.weights[0].values, before.weights[0].values);
        assert_eq!(after.steps, 1);
    }
}

/// The loss along a direction, forward passes alone: `(loss(w + h d) - loss(w - h d)) / 2h` is the sum of the gradient
/// times `d`. Every weight has its own direction.
///
/// At `h` = 1/1000 of a weight's size the loss changes by 1e-4 to 1e-2, and f32 knows it to 1e-7: the quotient is right
/// to some 1e-3 of itself. A ReLU whose sign changes on the way adds to that, less the shorter it is: at 1/100 of the
/// size, the gradient by one core was off by 3 %. A wrong gradient is off by tens of per cent.
fn gradients_are_those_of_finite_differences(device: &Device) {
    let config = config(mixed());
    let order = order();
    let (set, [before, after], _) = step(&config, device, &order);
    let data = Resident::new(&set, device);
    let seeds: Vec<u64> = (77..).take(config.network.dropouts()).collect();
    let loss = |state: &State| {
        let mut learner = Learner::resume(&config, state, device).unwrap();
        let loss = common::step(&mut learner, &data, &order, &seeds);
        f64::from(loss) / order.len() as f64
    };
    for (at, weight) in before.weights.iter().enumerate() {
        // Along the gradient, where the loss changes most.
        let grad: Vec<f64> =
            after.weights[at].mean.iter().map(|mean| f64::from(*mean) * 10.0).collect();
        let norm = grad.iter().map(|grad| grad * grad).sum::<f64>().sqrt();
        let size = weight.values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        let h = 1e-3 * size.max(0.1);
        let moved = |by: f64| {
            let mut state = before.clone();
            let values = state.weights[at].values.iter_mut().zip(&grad);
            values.for_each(|(value, grad)| *value += (by * grad / norm) as f32);
            loss(&state)
        };
        let slope = (moved(h) - moved(-h)) / (2.0 * h);
        let off = (slope / norm - 1.0).abs();
        assert!(off < 1e-2, "{}: slope {slope}, gradient {norm}", weight.name);
    }
    assert_eq!(config.init, MpsInit::He);
}
