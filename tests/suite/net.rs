//! Networks as data: shapes, parameters, initial weights, gradients through whole networks, learning, files.

use std::path::Path;

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use tnet_gpu::Error;
use tnet_gpu::data::{ImageSet, Resident};
use tnet_gpu::mps::MpsInit;
use tnet_gpu::mps::reference::{self, Operands, relative_error};
use tnet_gpu::net::{
    self, Dense, Dropout, Layer, Model, Mps, Network, Preset, Relu, Stack, features,
};
use tnet_gpu::nn::{MpsLinear, MpsLinearConfig};
use tnet_gpu::train::{Learner, TrainConfig, evaluate};

use crate::common;
use crate::common::data::images;
use crate::common::{config, integers, largest_difference, numbers, stack, tensor, values};

on_each_device!(
    gradients_go_through_a_model_of_ones_own,
    one_batch_is_learned_by_heart,
    dropout_acts_in_training_alone,
    every_device_computes_the_same_dense_layers,
    leading_dimensions_are_one_batch,
);

fn article(model: Model, bond: usize) -> Stack {
    stack(model, [28, 28], [32, 16], bond, 10)
}

#[test]
fn parameters_are_those_of_the_article() {
    for (model, bond, first, total) in [
        (Model::Mps, 1, 1_856, 269_642),
        (Model::Mps, 16, 1_344 * 16 + 512, 267_786 + 1_344 * 16 + 512),
        (Model::Dense, 1, 401_920, 669_706),
        (Model::MpsAll, 1, 1_856, 1_856 + 1_792 + 5_130),
    ] {
        let network = article(model, bond);
        assert_eq!(network.parameters().unwrap(), total);
        assert_eq!(network.placed().unwrap()[0].parameters(), first);
        assert_eq!(network.dense(), article(Model::Dense, 1));
        let drawn = network.draw(MpsInit::He, 1).unwrap();
        assert_eq!(drawn.iter().map(Vec::len).sum::<usize>(), total);
    }
}

/// The rebuilt `W` of He's rule has the variance 2/784. The mean of its squares over W's 401,408
/// elements varies by about √(8/1344K) of itself, the cores having so few numbers: 8 % at K = 1 for
/// one network, 2 % for 16; the bounds are five of those.
#[test]
fn the_rebuilt_matrix_has_the_variance_of_the_dense_one() {
    let device = Device::flex();
    for bond in [1, 4, 16] {
        let mut variance = 0.0;
        for _ in 0..16 {
            let layer = MpsLinearConfig::new([28, 28], [32, 16], bond).init(&device).unwrap();
            // W[(m j),(l n)] = Σ_k A[(m j),k] C[k,(l n)]
            let a = layer.a.val().swap_dims(1, 2).reshape([32 * 28, bond]);
            let c = layer.c.val().swap_dims(0, 1).reshape([bond, 28 * 16]);
            variance += a.matmul(c).square().mean().into_scalar::<f32>() / 16.0;
        }
        let ratio = variance / (2.0 / 784.0);
        assert!((ratio - 1.0).abs() < 0.1, "bond {bond}: {ratio} of He's variance");
    }
}

/// Any number of leading dimensions, as burn-nn's `Linear` takes them.
fn leading_dimensions_are_one_batch(device: &Device) {
    let layer = MpsLinearConfig::new([4, 5], [3, 2], 2).init(device).unwrap();
    let x = numbers(6 * 20, 1);
    let expected = values(layer.forward(tensor(&x, [6, 20], device)));
    assert_eq!(expected.len(), 6 * 6);
    let three = layer.forward(tensor(&x, [2, 3, 20], device));
    assert_eq!(three.dims(), [2, 3, 6]);
    assert_eq!(values(three), expected);
    let four = layer.forward(tensor(&x, [3, 1, 2, 20], device));
    assert_eq!(four.dims(), [3, 1, 2, 6]);
    assert_eq!(values(four), expected);
    // A batch of one may be computed in another order: sums of some 40 products of f32.
    let one = layer.forward(tensor(&x[..20], [20], device));
    assert_eq!(one.dims(), [6]);
    let difference = largest_difference(&values(one), &expected[..6]);
    assert!(difference < 1e-5, "{difference:e}");
}

#[test]
#[should_panic(expected = "x: expected shape [.., 20] (4 x 5), found [2, 3, 19]")]
fn a_last_dimension_of_another_size_is_refused() {
    let device = Device::flex();
    let layer = MpsLinearConfig::new([4, 5], [3, 2], 2).init(&device).unwrap();
    layer.forward(Tensor::<3>::zeros([2, 3, 19], &device));
}

/// A model that a user might write: the layer, ReLU, a dense layer.
#[derive(Module, Debug)]
struct Own {
    first: MpsLinear,
    second: Linear,
}

/// The gradients of cross entropy by every weight, checked against f64 loops.
fn gradients_go_through_a_model_of_ones_own(device: &Device) {
    let (batch, classes) = (9, 4);
    let device = device.clone().autodiff();
    let own = Own {
        first: MpsLinearConfig::new([4, 5], [3, 2], 2).init(&device).unwrap(),
        second: LinearConfig::new(6, classes).init(&device),
    };
    let x = numbers(batch * 20, 1);
    let labels: Vec<i32> = (0..batch).map(|b| (b * 7 % classes) as i32).collect();
    let hidden = relu(own.first.forward(tensor(&x, [batch, 20], &device)));
    let targets = integers(&labels, &device);
    let loss =
        CrossEntropyLossConfig::new().init(&device).forward(own.second.forward(hidden), targets);
    let grads = loss.backward();

    let mut operands = Operands {
        spec: own.first.spec(),
        batch,
        x,
        a: values(own.first.a.val()),
        c: values(own.first.c.val()),
        bias: values(own.first.bias.as_ref().unwrap().val()),
        grad_y: vec![0.0; batch * 6],
    };
    let y = reference::compute(&operands).y;
    let weight = values(own.second.weight.val());
    let bias = values(own.second.bias.as_ref().unwrap().val());
    let mut grad_weight = vec![0.0; 6 * classes];
    for b in 0..batch {
        let hidden: Vec<f64> = y[b * 6..][..6].iter().map(|y| y.max(0.0)).collect();
        let logit = |class: usize| {
            let sum: f64 = (0..6).map(|h| hidden[h] * f64::from(weight[h * classes + class])).sum();
            sum + f64::from(bias[class])
        };
        let total: f64 = (0..classes).map(|class| logit(class).exp()).sum();
        for class in 0..classes {
            let target = f64::from(u8::from(labels[b] as usize == class));
            let gradient = (logit(class).exp() / total - target) / batch as f64;
            for h in 0..6 {
                grad_weight[h * classes + class] += hidden[h] * gradient;
                if y[b * 6 + h] > 0.0 {
                    operands.grad_y[b * 6 + h] +=
                        (gradient * f64::from(weight[h * classes + class])) as f32;
                }
            }
        }
    }
    let expected = reference::compute(&operands);
    let first_bias = own.first.bias.as_ref().unwrap().val();
    // The sums have some ten terms, exponentials err by a few 1e-7 on a GPU, and the gradients are
    // differences of similar numbers.
    for (name, got, expected) in [
        ("A", values(own.first.a.val().grad(&grads).unwrap()), &expected.grad_a),
        ("C", values(own.first.c.val().grad(&grads).unwrap()), &expected.grad_c),
        ("the bias", values(first_bias.grad(&grads).unwrap()), &expected.grad_bias),
        ("the weight", values(own.second.weight.val().grad(&grads).unwrap()), &grad_weight),
    ] {
        let distance = relative_error(&got, expected);
        assert!(distance < 1e-5, "gradient by {name}: {distance:e}");
    }
}

/// Some steps of a network on a batch of 33 images, with the seeds of `dropout`.
pub fn steps(
    config: &TrainConfig,
    device: &Device,
    dropout: &[u64],
) -> (Learner, Resident, Vec<f32>) {
    let pixels = features(config.network.input);
    // The images of `data::images` repeat after a few, with other labels.
    let grey = |number: f32| (128.0 + 127.0 * number) as u8;
    let noise = numbers(33 * pixels, 9).into_iter().map(grey).collect();
    let data = Resident::new(&ImageSet { pixels: noise, ..images(33, pixels) }, device);
    let order: Vec<u32> = (0..33).collect();
    let mut learner = Learner::new(config, device).unwrap();
    let layers = config.network.dropouts() as u64;
    let mut losses = Vec::new();
    for &seed in dropout {
        let seeds: Vec<u64> = (0..layers).map(|layer| layers * seed + layer).collect();
        losses.push(common::step(&mut learner, &data, &order, &seeds));
    }
    (learner, data, losses)
}

fn one_batch_is_learned_by_heart(device: &Device) {
    for model in [Model::Mps, Model::Dense, Model::MpsAll] {
        let network = stack(model, [8, 8], [8, 4], 4, 3);
        let config = TrainConfig { lr: 3e-3, ..config(network) };
        let seeds: Vec<u64> = (0..150).collect();
        let (learner, data, _) = steps(&config, device, &seeds);
        let learned = evaluate(&learner.network().unwrap(), &data).unwrap();
        assert_eq!(learned.accuracy, 1.0, "{model:?}: {learned:?}");
    }
}

/// One mask gives one loss and another another; for evaluation there is none.
fn dropout_acts_in_training_alone(device: &Device) {
    let config = config(stack(Model::Mps, [8, 8], [8, 4], 4, 3));
    let (learner, data, first) = steps(&config, device, &[1]);
    let (_, _, again) = steps(&config, device, &[1]);
    let (_, _, other) = steps(&config, device, &[2]);
    assert_eq!(first, again);
    assert_ne!(first, other, "two masks are the same");
    let network = learner.network().unwrap();
    let loss = || evaluate(&network, &data).unwrap().loss;
    assert_eq!(loss(), loss());
}

/// Logits and moments of a network of dense layers alone (where a sum is 0 but for rounding, ReLU would pass the
/// gradient on one device and not on the other), from the same weights. They are sums of up to 784 products of f32 in
/// another order: 784 · 2⁻²⁴ is 5e-5 at worst.
fn every_device_computes_the_same_dense_layers(device: &Device) {
    let dense = |out: usize| Layer::from(Dense { out, bias: true });
    let network = Stack { input: [1, 28, 28], layers: vec![dense(512), dense(100), dense(10)] };
    let config = config(network);
    let on = |device: &Device| {
        let (learner, ..) = steps(&config, device, &[0]);
        let moments = learner.state().unwrap().weights.into_iter().map(|weight| weight.mean);
        let drawn = config.network.draw(MpsInit::He, 5).unwrap();
        let network = Network::new(&config.network, &drawn, device).unwrap();
        let x = tensor(&numbers(32 * 784, 1), [32, 784], device);
        (values(network.logits(x).unwrap()), moments.collect::<Vec<_>>())
    };
    let ((logits, moments), (expected_logits, expected)) = (on(device), on(&Device::flex()));
    let difference = largest_difference(&logits, &expected_logits);
    assert!(difference < 5e-5, "logits: {difference:e}");
    for (got, expected) in moments.iter().zip(&expected) {
        let difference = largest_difference(got, expected);
        assert!(difference < 5e-5, "gradients: {difference:e}");
    }
}

/// The standard deviation of every weight is that of its rule: He's √(2/inputs) for a dense layer,
/// (2/784 K)^¼ for a core; Glorot's √(2/(inputs + outputs)). The bounds are five standard errors: 17 %
/// for the smallest weight, a core of 448 numbers.
#[test]
fn weights_are_drawn_by_their_rules() {
    let deviation = |values: &[f32]| {
        let squares: f64 = values.iter().map(|&value| f64::from(value).powi(2)).sum();
        (squares / values.len() as f64).sqrt()
    };
    let check = |init: MpsInit, model: Model, expected: &[f64]| {
        let network = article(model, 1);
        let drawn = network.draw(init, 7).unwrap();
        let weights = network.weights().unwrap();
        assert_eq!(drawn.len(), expected.len());
        for ((values, (name, weight)), expected) in drawn.iter().zip(weights).zip(expected) {
            assert_eq!(values.len(), weight.count(), "{name}");
            let bound = 5.0 / (2.0 * values.len() as f64).sqrt();
            let found = deviation(values);
            assert!((found - expected).abs() <= bound * expected, "{init:?} {name}: {found}");
        }
    };
    let core = (2.0_f64 / 784.0).powf(0.25);
    let he = |inputs: f64| (2.0 / inputs).sqrt();
    let glorot = |inputs: f64, outputs: f64| (2.0 / (inputs + outputs)).sqrt();
    check(MpsInit::He, Model::Mps, &[core, core, 0.0, he(512.0), 0.0, he(512.0), 0.0]);
    check(MpsInit::He, Model::Dense, &[he(784.0), 0.0, he(512.0), 0.0, he(512.0), 0.0]);
    let rest = [0.0, glorot(512.0, 512.0), 0.0, glorot(512.0, 10.0), 0.0];
    check(MpsInit::Article, Model::Mps, &[&[1.0 / 32.0; 2], &rest[..]].concat());
    check(MpsInit::Glorot, Model::Dense, &[&[glorot(784.0, 512.0)], &rest[..]].concat());
}

/// Weights are drawn in pieces, and between two of them it is asked whether to go on.
#[test]
fn a_drawing_that_is_to_stop_stops_within_a_piece() {
    let network = article(Model::Dense, 1);
    let asked = std::cell::Cell::new(0);
    let stop_at = |last: usize| {
        asked.set(0);
        network.draw_while(MpsInit::He, 1, &|| {
            asked.set(asked.get() + 1);
            if asked.get() < last {
                Ok(())
            } else {
                Err(Error::Interrupted { signal: 2, run: None })
            }
        })
    };
    // 401,408 weights of the first layer in two pieces, 262,144 of the second and 5,120 of the third in one.
    let drawn = stop_at(usize::MAX).unwrap();
    assert_eq!(asked.get(), 4);
    assert_eq!(drawn, network.draw(MpsInit::He, 1).unwrap());
    for last in 1..=4 {
        assert!(matches!(stop_at(last), Err(Error::Interrupted { signal: 2, .. })));
        assert_eq!(asked.get(), last);
    }
}

/// A change here changes every training run: it would have to be announced.
#[test]
fn the_first_weights_stay_what_they_were() {
    let drawn = article(Model::Mps, 1).draw(MpsInit::He, 200).unwrap();
    let expected = [0.319_261_37, -0.255_408_4, -0.170_428_29];
    // Another platform's logarithm and cosine may round otherwise.
    assert!(largest_difference(&drawn[0][..3], &expected) < 1e-6, "{:?}", &drawn[0][..3]);
}

/// A stack that does not fit is one line that names the layer, what was expected and what was found.
#[test]
fn a_stack_that_does_not_fit_names_the_layer() {
    let mps = |in_factors: [usize; 2], bond: usize| Layer::from(Mps::new(in_factors, [4, 4], bond));
    let dense = |out| Layer::from(Dense { out, bias: true });
    for (layers, expected) in [
        (vec![], "layers: none: expected at least one"),
        (vec![mps([4, 5], 1)], "mps1: in: 4,5: expected a product of 64, the layer's inputs"),
        (
            vec![dense(20), Relu {}.into(), mps([4, 4], 1)],
            "mps3: in: 4,4: expected a product of 20",
        ),
        (vec![mps([8, 8], 0)], "mps1: bond: 0: each must be at least 1"),
        (vec![mps([8, 8], usize::MAX)], "mps1: bond: a layer of 8x8 -> 4x4"),
        (vec![dense(0)], "dense1: out: 0: expected at least 1"),
        (vec![dense(usize::MAX)], "dense1: out: 18446744073709551615: a matrix from 64 inputs"),
        (vec![Dropout { rate: 1.0 }.into()], "dropout1: rate: 1: expected a number from 0"),
        (vec![Dropout { rate: f64::NAN }.into()], "dropout1: rate: NaN: expected a number from 0"),
        (vec![Dropout { rate: 0.999_999_999_9 }.into()], "dropout1: rate: 0.9999999999: expected"),
    ] {
        let error = Stack { input: [1, 8, 8], layers }.check().unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
        assert_eq!(error.lines().count(), 1);
    }
    for input in [[0, 8, 8], [1, usize::MAX, 8]] {
        let error = Stack { input, layers: vec![dense(1)] }.check().unwrap_err().to_string();
        assert!(error.starts_with("input: "), "{error}");
    }
}

#[test]
fn a_file_that_is_no_network_names_the_line_or_the_layer() {
    let parse = |text: &str| net::file::parse(Path::new("net.toml"), text);
    let head = "input = [1, 8, 8]\n[[layers]]\nkind = \"dense\"\nout = 4\n[[layers]]\n";
    for (text, expected) in [
        ("", "net.toml: line 1: expected a network, found missing field `input`"),
        ("input = [1, 8, 8", "net.toml: line 1: "),
        ("input = [1, 8]\nlayers = []", "net.toml: line 1: "),
        ("input = [1, 8, 8]\nlayers = []\nbond = 1", "net.toml: line 3: "),
        (
            &format!("{head}kind = \"relu\"\nslope = 1"),
            "net.toml: relu2: expected a layer, found unknown field `slope`",
        ),
        (
            &format!("{head}kind = \"swish\""),
            "net.toml: swish2: expected a layer, found unknown variant `swish`",
        ),
        (
            &format!("{head}out = 5"),
            "net.toml: layer 2: expected a layer, found missing field `kind`",
        ),
        (
            &format!("{head}kind = \"dense\"\nout = -1"),
            "net.toml: dense2: expected a layer, found invalid value",
        ),
        (
            &format!("{head}kind = \"mps\"\nin = [2, 3]\nout = [2, 2]\nbond = 1"),
            "net.toml: mps2: in: 2,3: expected a product of 4",
        ),
        (
            &format!("{head}kind = \"mps\"\nin = [2]\nout = [2, 2]\nbond = 1"),
            "net.toml: mps2: in: 2: expected two factors or more",
        ),
        (
            &format!("{head}kind = \"mps\"\nin = [2, 2]\nout = [2, 2]\nbond = \"2\""),
            "net.toml: mps2: expected a layer, found bond: expected a number, or a list of numbers",
        ),
        (
            &format!("{head}kind = \"mps\"\nin = [2, 2, 1]\nout = [2, 2, 1]\nbond = []"),
            "net.toml: mps2: bond: none: expected 2 numbers, one between each two cores",
        ),
        (
            &format!("{head}kind = \"mps\"\nin = [2, 1, 2]\nout = [2, 2]\nbond = 1"),
            "net.toml: mps2: out: 2,2: expected 3 factors, as many as the input has",
        ),
        (
            &format!("{head}kind = \"dropout\"\nrate = 2"),
            "net.toml: dropout2: rate: 2: expected a number from 0",
        ),
        (&"#".repeat(2 << 20), "net.toml: size: "),
    ] {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    // A bias need not be named.
    let text = format!("{head}kind = \"dense\"\nout = 2\nbias = false");
    let layers = vec![Dense { out: 4, bias: true }.into(), Dense { out: 2, bias: false }.into()];
    assert_eq!(parse(&text).unwrap(), Stack { input: [1, 8, 8], layers });
}

#[test]
fn a_state_of_another_network_is_refused() {
    let device = Device::flex();
    let config = |bond| config(stack(Model::Mps, [4, 4], [2, 2], bond, 3));
    let state = Learner::new(&config(1), &device).unwrap().state().unwrap();
    Learner::resume(&config(1), &state, &device).unwrap();
    let error = Learner::resume(&config(2), &state, &device).unwrap_err().to_string();
    assert!(error.starts_with("state: "), "{error}");
    let error = Network::new(&config(1).network, &[], &device).unwrap_err().to_string();
    assert!(error.starts_with("weights: of sizes []: expected ["), "{error}");
}

#[test]
fn options_that_do_not_fit_are_named() {
    let stack = |preset: Preset| preset.stack([1, 28, 28], 10).unwrap_err().to_string();
    let default = Preset::default;
    for (preset, expected) in [
        (Preset { bond: vec![1, 2], ..default() }, "bond: 1,2: expected one number"),
        (Preset { model: Model::MpsAll, bond: vec![1, 2, 3], ..default() }, "bond: 1,2,3: "),
        (Preset { model: Model::Dense, bond: vec![1, 2], ..default() }, "bond: 1,2: "),
        (Preset { out_factors: Some(vec![16, 16]), ..default() }, "out_factors: 16,16: "),
        (Preset { in_factors: Some(vec![28, 27]), ..default() }, "in_factors: 28,27: "),
        (
            Preset {
                in_factors: Some(vec![4, 7, 28]),
                out_factors: Some(vec![32, 16]),
                ..default()
            },
            "out_factors: 32,16: expected 3",
        ),
        (Preset { cores: Some(1), ..default() }, "cores: 1: expected 2 to 16"),
        (Preset { dropout: 1.5, ..default() }, "dropout3: rate: 1.5: "),
        (Preset { dropout: -0.5, ..default() }, "dropout3: rate: -0.5: "),
        (Preset { dropout: f64::NAN, ..default() }, "dropout3: rate: NaN: "),
        (Preset { model: Model::MpsAll, hidden: vec![], ..default() }, "hidden: none"),
    ] {
        let error = stack(preset);
        assert!(error.starts_with(expected), "{error}");
    }
}
