//! A whole training step, written by hand, against Burn's autodiff of the same network.

use burn::nn::loss::CrossEntropyLossConfig;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use tnet_gpu::data::{Resident, resident};
use tnet_gpu::model::{First, FirstLayer};
use tnet_gpu::op::training::{self, Dropout};
use tnet_gpu::train::{Learner, TrainConfig};

use crate::common::data::{images, scaled};
use crate::common::{classifier, integers, largest_difference, tensor, values};

on_each_device!(a_step_is_that_of_autodiff);

/// The moments after the first step give the gradients: `mean` is a tenth of them, `square` a thousandth
/// of their squares.
fn a_step_is_that_of_autodiff(device: &Device) {
    for model in [FirstLayer::Mps, FirstLayer::Dense] {
        let config = TrainConfig {
            epochs: 1,
            batch_size: 33,
            lr: 1e-3,
            seed: 5,
            validation: 0,
            classifier: classifier(model, [4, 5], [3, 8], 2, 3),
        };
        let set = images(40, 20);
        let data = Resident::new(&set, device);
        let mut learner = Learner::new(&config, device).unwrap();
        let before = learner.state().unwrap();
        let order: Vec<u32> = (0..33).map(|b| b * 7 % 40).collect();
        let seeds = [77, 78];
        let sums = learner.step(&data, resident::order(&order, device), seeds).unwrap();
        let after = learner.state().unwrap();

        let autodiff = Device::flex().autodiff();
        let flat = before
            .weights
            .iter()
            .map(|weight| tensor(&weight.values, [weight.values.len()], &autodiff));
        let network = config.classifier.with_weights(flat.collect()).unwrap();
        let labels: Vec<i32> =
            order.iter().map(|&image| set.labels[image as usize].into()).collect();
        let mask = |seed: u64, width: usize| {
            let ones = Tensor::ones([33, width], &Device::flex());
            let mask = values(training::relu_dropout(ones, Dropout { rate: 0.2, seed }).unwrap());
            tensor(&mask, [33, width], &autodiff)
        };
        let x = tensor(&scaled(&set, &order), [33, 20], &autodiff);
        let hidden = match &network.first {
            First::Mps(layer) => layer.forward(x),
            First::Dense(layer) => layer.forward(x),
        };
        let hidden = relu(hidden) * mask(77, 24);
        let hidden = relu(network.second.forward(hidden)) * mask(78, 512);
        let logits = network.output.forward(hidden);
        let loss = CrossEntropyLossConfig::new()
            .init(&autodiff)
            .forward(logits, integers(&labels, &autodiff));
        let off = (values(sums)[0] / 33.0 / loss.clone().into_scalar::<f32>() - 1.0).abs();
        assert!(off < 1e-5, "{model:?}: loss off by {off}");
        let grads = loss.backward();
        let of = |grad: Option<Vec<f32>>| grad.unwrap();
        let expected = match &network.first {
            First::Mps(layer) => vec![
                of(layer.a.val().grad(&grads).map(values)),
                of(layer.c.val().grad(&grads).map(values)),
                of(layer.bias.as_ref().unwrap().val().grad(&grads).map(values)),
            ],
            First::Dense(layer) => vec![
                of(layer.weight.val().grad(&grads).map(values)),
                of(layer.bias.as_ref().unwrap().val().grad(&grads).map(values)),
            ],
        };
        let rest = [&network.second, &network.output].into_iter().flat_map(|layer| {
            let bias = layer.bias.as_ref().unwrap();
            [layer.weight.val().grad(&grads).map(values), bias.val().grad(&grads).map(values)]
        });
        let expected = expected.into_iter().chain(rest.map(of));
        for (weight, grad) in after.weights.iter().zip(expected) {
            let name = weight.name;
            // The gradient is right to some 1e-6 of its largest element; 0.1 and 0.001 are f32.
            let mean: Vec<f32> = grad.iter().map(|grad| 0.1 * grad).collect();
            let square: Vec<f32> = grad.iter().map(|grad| 0.001 * grad * grad).collect();
            assert!(mean.iter().any(|&mean| mean != 0.0), "{model:?} {name}: no gradient");
            let off = largest_difference(&weight.mean, &mean);
            assert!(off < 1e-5, "{model:?} {name}: mean off by {off}");
            // `1 - 0.999` in f32 is 5e-5 off a thousandth.
            let off = largest_difference(&weight.square, &square);
            assert!(off < 1e-4, "{model:?} {name}: square off by {off}");
        }
        assert_ne!(after.weights[0].values, before.weights[0].values);
        assert_eq!(after.steps, 1);
    }
}
