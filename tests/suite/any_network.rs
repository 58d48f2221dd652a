//! Networks that are drawn at random: computed, counted, kept in files and checkpoints, and damaged there.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use tnet_gpu::data::{ImageSet, resident};
use tnet_gpu::export::html::{self, Lowered, Page, Weights};
use tnet_gpu::mps::MpsInit;
use tnet_gpu::net::{
    self, AvgPool, Channels, Conv2d, Dense, Dropout, Gelu, Layer, MaxPool, Mps, Relu, Shape,
    Snapshot, Stack, features,
};
use tnet_gpu::train::checkpoint::Checkpoint;
use tnet_gpu::train::{Learner, TrainConfig};

use crate::common::data::{images, scaled};
use crate::common::{config, numbers, tensor, values};
use crate::net::steps;

/// A layer of any kind for a shape of inputs, by some numbers that are drawn.
fn layer(input: Shape, [kind, first, second, third]: [usize; 4]) -> Layer {
    let inputs = features(input);
    let [_, height, width] = input;
    let kernel = [1 + second % height.min(4), 1 + third % width.min(4)];
    let stride = 1 + first % 3;
    // Of two, three or four cores.
    let cores = 2 + first % 3;
    let factors = |number: usize, of: usize| {
        let mut rest = of;
        let mut factors = Vec::new();
        for _ in 1..cores {
            let divisors: Vec<usize> =
                (1..=rest).filter(|small| rest.is_multiple_of(*small)).collect();
            let divisor = divisors[number % divisors.len()];
            factors.push(divisor);
            rest /= divisor;
        }
        factors.push(rest);
        factors
    };
    let bias = !third.is_multiple_of(3);
    let out = 1 + first % 40;
    match Layer::KINDS[kind % Layer::KINDS.len()] {
        "mps" => {
            let bonds: Vec<usize> = (1..cores).map(|cut| 1 + (second + cut * third) % 5).collect();
            // Half of them with a width that is padded.
            let [zeros, cut] = [(first + second) % 4, second % 4].map(|by| by * (third % 2));
            let layer = Mps::new(factors(second, inputs + zeros), factors(third, out + cut), bonds);
            Mps { bias, pad: [zeros, cut], ..layer }.into()
        }
        "conv2d" => {
            let padding = first % kernel[0].min(kernel[1]);
            let (out, bond) = match second % 2 {
                0 => (Channels::Count(1 + first % 6), None),
                _ => (Channels::Factors([1 + first % 3, 1 + third % 3]), Some(1 + second % 3)),
            };
            Conv2d { out, kernel, stride, padding, bond, bias }.into()
        }
        "maxpool" => MaxPool { kernel, stride: bias.then_some(stride) }.into(),
        "avgpool" => AvgPool { kernel, stride: bias.then_some(stride) }.into(),
        "dense" => Dense { out, bias }.into(),
        "relu" => Relu {}.into(),
        "gelu" => Gelu {}.into(),
        "dropout" => Dropout { rate: (first % 100) as f64 / 100.0 }.into(),
        kind => panic!("no {kind} is drawn"),
    }
}

/// A network of up to eight layers of any kinds.
fn any_stack() -> impl Strategy<Value = Stack> {
    let numbers = any::<[u16; 4]>().prop_map(|numbers| numbers.map(usize::from));
    (any::<[u8; 3]>(), proptest::collection::vec(numbers, 1..8)).prop_map(|(input, numbers)| {
        let input = input.map(|extent| 1 + usize::from(extent) % 6);
        let mut stack = Stack { input, layers: Vec::new() };
        let mut shape = input;
        for numbers in numbers {
            stack.layers.push(layer(shape, numbers));
            shape = stack.placed().unwrap().pop().unwrap().output;
        }
        stack
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Shapes, counts, one step, and the way through a file and a checkpoint, of any network.
    #[test]
    fn any_stack_is_computed_counted_and_kept(network in any_stack(), ends_in_relu in any::<bool>()) {
        let placed = network.placed().unwrap();
        prop_assert_eq!(placed[0].input, network.input);
        for pair in placed.windows(2) {
            prop_assert_eq!(pair[0].output, pair[1].input);
        }
        let weights = network.weights().unwrap();
        let parameters: usize = weights.iter().map(|(_, weight)| weight.count()).sum();
        prop_assert_eq!(network.parameters().unwrap(), parameters);
        let dense = network.dense();
        let of_dense: usize = placed.iter().map(net::Placed::dense_parameters).sum();
        prop_assert_eq!(dense.parameters().unwrap(), of_dense);
        prop_assert_eq!(dense.outputs().unwrap(), network.outputs().unwrap());

        // A page has launches from the image to the logits, of any network without GELU.
        match Lowered::new(&network) {
            Ok(lowered) => {
                let numbers = |buffer: usize| lowered.buffers[buffer].numbers;
                prop_assert_eq!(numbers(0), features(network.input));
                prop_assert_eq!(numbers(lowered.logits), network.outputs().unwrap());
            }
            Err(error) => prop_assert!(error.to_string().starts_with("gelu"), "{}", error),
        }

        let text = net::file::write(&network).unwrap();
        prop_assert_eq!(&net::file::parse(Path::new("net.toml"), &text).unwrap(), &network);

        // Of the classes of `images`, the network may have fewer.
        let mut network = network;
        network.layers.push(Dense { out: 3, bias: true }.into());
        if ends_in_relu {
            network.layers.push(Relu {}.into());
        }
        let config = TrainConfig { lr: 1e-2, ..config(network) };
        let (learner, data, losses) = steps(&config, &Device::flex(), &[1, 2]);
        prop_assert!(losses.iter().all(|loss| loss.is_finite()), "{:?}", losses);
        let network = learner.network().unwrap();
        let all = resident::order(&[0, 1], &Device::flex());
        let logits = network.logits(data.gather(all).unwrap()).unwrap();
        prop_assert_eq!(logits.dims(), [2, 3]);

        let state = learner.state().unwrap();
        for (weight, (name, of)) in state.weights.iter().zip(config.network.weights().unwrap()) {
            prop_assert_eq!((&weight.name, &weight.shape), (&name, &of.shape));
            prop_assert_eq!(weight.values.len(), of.count());
        }
        let written = Checkpoint {
            config: config.clone(),
            data: String::new(),
            test: None,
            classes: Vec::new(),
            border: Some(31),
            epoch: 0,
            step: 2,
            loss: 0.0,
            right: 0,
            best: None,
            state,
        };
        let bytes = written.to_bytes().unwrap();
        let read = Checkpoint::parse(Path::new("file"), &bytes).unwrap();
        prop_assert_eq!(&read, &written);
        let again = Learner::resume(&config, &read.state, &Device::flex()).unwrap();
        prop_assert_eq!(again.state().unwrap(), written.state);
    }
}

/// With `TNET_EXPORTED` naming a folder, leaves pages of networks there, none of them trained, for `tests/browser.sh`: each
/// tests itself against what is computed here.
#[test]
fn pages_of_any_network_have_what_they_test_themselves_by() {
    let kept = std::env::var_os("TNET_EXPORTED").map(PathBuf::from);
    let mut runner = TestRunner::deterministic();
    let mut pages = 0;
    while pages < 24 {
        let network = any_stack().new_tree(&mut runner).unwrap().current();
        let [channels, ..] = network.input;
        if ![1, 3].contains(&channels) || Lowered::new(&network).is_err() {
            continue;
        }
        let mut weights = network.draw(MpsInit::He, pages).unwrap();
        for weight in &mut weights {
            if weight.iter().all(|number| *number == 0.0) {
                *weight = numbers(weight.len(), pages);
            }
        }
        let size = features(network.input);
        let samples = ImageSet { shape: network.input, ..images(html::SAMPLES, size) };
        let order: Vec<u32> = (0..html::SAMPLES as u32).collect();
        let classes = network.outputs().unwrap();
        let snapshot = Snapshot::new(network, weights).unwrap();
        let x = tensor(&scaled(&samples, &order), [html::SAMPLES, size], &Device::flex());
        let logits = values(snapshot.on(&Device::flex()).unwrap().logits(x).unwrap());
        let names: Vec<String> =
            (0..classes.max(3)).map(|class| format!("class {class}")).collect();
        let page = Page {
            weights: Weights::Whole(&snapshot),
            classes: &names[..classes],
            border: Some(200),
            samples: &samples,
            logits: &logits.chunks(classes).map(<[f32]>::to_vec).collect::<Vec<_>>(),
        };
        let text = page.text().unwrap();
        assert!(text.contains("\"launches\":["), "{text}");
        if let Some(kept) = &kept {
            fs::write(kept.join(format!("any-{pages}.html")), text).unwrap();
        }
        pages += 1;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// A file with a part replaced is another network, or is refused with one line that names it.
    #[test]
    fn a_file_with_a_hole_is_read_or_refused(
        network in any_stack(),
        at in any::<proptest::sample::Index>(),
        part in "[ -~\n]{0,12}",
        cut in 0..40_usize,
    ) {
        let text = net::file::write(&network).unwrap();
        let at = at.index(text.len());
        let end = (at + cut).min(text.len());
        let text = [&text[..at], &part, &text[end..]].concat();
        match net::file::parse(Path::new("net.toml"), &text) {
            Ok(network) => prop_assert!(network.check().is_ok()),
            Err(error) => {
                let error = error.to_string();
                prop_assert!(error.starts_with("net.toml: "), "{}", error);
                prop_assert_eq!(error.lines().count(), 1, "{}", error);
            }
        }
    }
}
