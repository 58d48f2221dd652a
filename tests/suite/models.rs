//! Files of networks, of this program and of others: what is read from them, and what is refused, with one line.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use safetensors::tensor::{Dtype, TensorView};
use tempfile::tempdir;
use tnet_gpu::model::{Layout, ModelFile};
use tnet_gpu::net::Network;

use crate::common::data::fuzz_seeds;
use crate::common::executable::{code, error_line, tnet};
use crate::common::{largest_difference, numbers, open, tensor, values};

/// A tensor of a file: name, type, shape, bytes.
type Stored<'a> = (&'a str, Dtype, &'a [usize], Vec<u8>);

fn bytes(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn f32s<'a>(name: &'a str, shape: &'a [usize], numbers: &[f32]) -> Stored<'a> {
    (name, Dtype::F32, shape, bytes(numbers))
}

/// Numbers that do not matter.
fn some<'a>(name: &'a str, shape: &'a [usize]) -> Stored<'a> {
    f32s(name, shape, &numbers(shape.iter().product(), 1))
}

fn file(tensors: &[Stored]) -> Vec<u8> {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (*name, TensorView::new(*dtype, shape.to_vec(), bytes).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

/// A file with this header and so many bytes after it.
fn with_header(header: &str, rest: usize) -> Vec<u8> {
    let length = (header.len() as u64).to_le_bytes();
    [&length[..], header.as_bytes(), &vec![0; rest]].concat()
}

fn read(content: &[u8], layout: Option<Layout>) -> tnet_gpu::Result<ModelFile> {
    let folder = tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    fs::write(&path, content).unwrap();
    ModelFile::read(&path, layout)
}

/// `relu(x W + b)` for every layer but the last, in f64; matrices `[in, out]`.
fn reference(x: &[f32], layers: &[(&[f32], &[f32])]) -> Vec<f32> {
    let mut x: Vec<f64> = x.iter().copied().map(f64::from).collect();
    for (at, (weight, bias)) in layers.iter().enumerate() {
        let sum = |output: usize| {
            let products = x.iter().enumerate();
            let products =
                products.map(|(input, x)| x * f64::from(weight[input * bias.len() + output]));
            f64::from(bias[output]) + products.sum::<f64>()
        };
        let y: Vec<f64> = (0..bias.len()).map(sum).collect();
        x = match at + 1 < layers.len() {
            true => y.into_iter().map(|y| y.max(0.0)).collect(),
            false => y,
        };
    }
    x.into_iter().map(|x| x as f32).collect()
}

fn turned(matrix: &[f32], rows: usize) -> Vec<f32> {
    let columns = matrix.len() / rows;
    (0..matrix.len()).map(|at| matrix[at % rows * columns + at / rows]).collect()
}

/// Two layers, 6 -> 5 -> 3, as the programs write them.
#[test]
fn the_layouts_of_other_programs_compute_the_same() {
    let (first, second) = (numbers(30, 3), numbers(15, 4));
    let (bias, last) = (numbers(5, 5), numbers(3, 6));
    let x = numbers(6, 7);
    let expected = reference(&x, &[(&first, &bias), (&second, &last)]);
    let device = open("cpu").unwrap().device;
    let pytorch = [turned(&first, 6), turned(&second, 5)];
    for (names, is_pytorch) in [
        (["0.weight", "0.bias", "2.weight", "2.bias"], true),
        (["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"], true),
        (["net.9.weight", "net.9.bias", "net.10.weight", "net.10.bias"], true),
        (["dense/kernel:0", "dense/bias:0", "dense_1/kernel:0", "dense_1/bias:0"], false),
        (["Dense_0.kernel", "Dense_0.bias", "Dense_1.kernel", "Dense_1.bias"], false),
        (
            [
                "layers/dense/vars/0",
                "layers/dense/vars/1",
                "layers/dense_1/vars/0",
                "layers/dense_1/vars/1",
            ],
            false,
        ),
    ] {
        let [one, two] = if is_pytorch { [[5, 6], [3, 5]] } else { [[6, 5], [5, 3]] };
        let [first, second] =
            if is_pytorch { pytorch.clone() } else { [first.clone(), second.clone()] };
        let content = file(&[
            f32s(names[0], &one, &first),
            f32s(names[1], &[5], &bias),
            f32s(names[2], &two, &second),
            f32s(names[3], &[3], &last),
        ]);
        let model = read(&content, None).unwrap_or_else(|error| panic!("{}: {error}", names[0]));
        let assumed = &model.remarks[0];
        assert!(assumed.contains(if is_pytorch { "PyTorch" } else { "Keras" }), "{assumed}");
        assert_eq!(model.remarks.len(), 1, "{:?}", model.remarks);
        let network = model.snapshot.on(&device).unwrap();
        let logits = values(network.logits(tensor(&x, [1, 6], &device)).unwrap());
        assert!(largest_difference(&logits, &expected) < 1e-5, "{}", names[0]);
    }
}

#[test]
fn halves_are_read_as_they_are() {
    // 1, -2, 0.5, 65504 and the smallest normal numbers, by their bits.
    let halves: Vec<u8> = [0x3c00_u16, 0xc000, 0x3800, 0x7bff, 0x0400, 0x0001]
        .iter()
        .flat_map(|h| h.to_le_bytes())
        .collect();
    let bfloats: Vec<u8> =
        [0x3f80_u16, 0xc000, 0x3f00].iter().flat_map(|h| h.to_le_bytes()).collect();
    let content =
        file(&[("a.weight", Dtype::F16, &[3, 2], halves), ("a.bias", Dtype::BF16, &[3], bfloats)]);
    let model = read(&content, None).unwrap();
    let smallest = 2.0_f32.powi(-14);
    let expected = [1.0, 0.5, smallest, -2.0, 65504.0, 2.0_f32.powi(-24)];
    assert_eq!(model.snapshot.weights(), [expected.to_vec(), vec![1.0, -2.0, 0.5]]);
}

#[test]
fn what_was_assumed_and_left_over_is_told() {
    let content = file(&[
        some("0.weight", &[5, 6]),
        some("0.bias", &[5]),
        some("3.weight", &[3, 5]),
        some("running_mean", &[5]),
        some("conv.weight", &[2, 2, 3, 3]),
    ]);
    let model = read(&content, None).unwrap();
    let kinds: Vec<&str> = model.snapshot.stack().layers.iter().map(|layer| layer.name()).collect();
    assert_eq!(kinds, ["dense", "relu", "dropout", "dense"]);
    assert!(model.remarks[0].contains("ReLU and dropout (rate 0.2)"), "{}", model.remarks[0]);
    assert_eq!(model.remarks[1], "left over, not part of the network: conv.weight, running_mean");
}

/// Alphabetically, `hidden` comes before `input`.
#[test]
fn layers_whose_names_have_no_order_are_taken_in_the_one_that_chains() {
    let names = |content: &[u8]| {
        let model = read(content, None)?;
        Ok::<_, tnet_gpu::Error>(model.remarks[0].clone())
    };
    let hidden = |shape: &'static [usize]| some("hidden.weight", shape);
    let content = file(&[
        some("input.weight", &[5, 6]),
        hidden(&[4, 5]),
        some("output.weight", &[3, 4]),
        some("output.bias", &[3]),
    ]);
    let remark = names(&content).unwrap();
    let expected = "input.weight 6 -> 5, hidden.weight 5 -> 4, output.weight 4 -> 3";
    assert!(remark.contains(expected), "{remark}");
    // Two orders: what is wrong in that of the names is told.
    let content = file(&[
        some("z.weight", &[5, 6]),
        some("z.bias", &[5]),
        hidden(&[5, 5]),
        some("c.weight", &[5, 5]),
    ]);
    let line = names(&content).unwrap_err().to_string();
    assert!(line.contains("tensor 'z.bias': expected [6]"), "{line}");
}

/// Only `--layout` tells of a square matrix.
#[test]
fn a_layout_that_the_shapes_do_not_tell_is_asked_for() {
    let matrix = [1.0, 2.0, 3.0, 4.0];
    let content = file(&[f32s("a.weight", &[2, 2], &matrix), f32s("a.bias", &[2], &[0.0, 0.0])]);
    let error = read(&content, None).unwrap_err().to_string();
    assert!(error.starts_with("layout: ") && error.contains("pytorch or keras"), "{error}");
    let weights = |layout| read(&content, Some(layout)).unwrap().snapshot.weights()[0].clone();
    assert_eq!(weights(Layout::Keras), matrix);
    assert_eq!(weights(Layout::Pytorch), [1.0, 3.0, 2.0, 4.0]);

    let told = file(&[some("a.weight", &[3, 2]), some("a.bias", &[3])]);
    let error = read(&told, Some(Layout::Keras)).unwrap_err().to_string();
    assert_eq!(error, "layout: keras: the matrices are [out, in], as PyTorch has them");
}

#[test]
fn bad_files_are_refused_with_one_line() {
    let good = file(&[some("0.weight", &[5, 6]), some("0.bias", &[5])]);
    let with = |number: f32| {
        let mut bias = [0.0; 5];
        bias[2] = number;
        file(&[some("0.weight", &[5, 6]), f32s("0.bias", &[5], &bias)])
    };
    let header = |shape: &str, dtype: &str, end: usize| {
        format!(r#"{{"a.weight":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{end}]}}}}"#)
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("found 0 bytes", vec![]),
        ("found 7 bytes", good[..7].to_vec()),
        ("a header that ends after 40 bytes", good[..40].to_vec()),
        ("the file is cut short", good[..good.len() - 1].to_vec()),
        ("something was appended", [&good[..], b"x"].concat()),
        ("a header of 1073741824 bytes", [&(1_u64 << 30).to_le_bytes()[..], b"{}"].concat()),
        ("a header of", [0xff; 64].to_vec()),
        ("content: expected a safetensors file", with_header("{", 0)),
        ("content: expected a safetensors file", with_header("[1,2]", 0)),
        ("torch.save", b"PK\x03\x04\x00\x00\x08\x08 archive/data.pkl".to_vec()),
        ("an HDF5 file", b"\x89HDF\r\n\x1a\n and more".to_vec()),
        ("a Python pickle", b"\x80\x02}q\x00 and more".to_vec()),
        ("tensors: expected dense layers", with_header("{}", 0)),
        (
            "found h.0.attn.c_attn, wte",
            file(&[some("h.0.attn.c_attn", &[2, 6]), some("wte", &[3, 2])]),
        ),
        (
            "found conv1.bias, conv1.weight",
            file(&[some("conv1.weight", &[2, 1, 3, 3]), some("conv1.bias", &[2])]),
        ),
        (
            "tensor 'fc2.weight': expected 5 inputs, the outputs of 'fc1.weight' of shape [5, 6], found [3, 4], which takes 4",
            file(&[
                some("fc1.weight", &[5, 6]),
                some("fc1.bias", &[5]),
                some("fc2.weight", &[3, 4]),
                some("fc2.bias", &[3]),
            ]),
        ),
        (
            "tensor '0.bias': expected [5], the outputs of '0.weight', found [4]",
            file(&[some("0.weight", &[5, 6]), some("0.bias", &[4])]),
        ),
        (
            "tensor '0.weight': expected a matrix with elements, found [0, 6]",
            file(&[some("0.weight", &[0, 6])]),
        ),
        (
            "expected F32, F16 or BF16, found F64",
            file(&[("0.weight", Dtype::F64, &[2, 3], vec![0; 48])]),
        ),
        (
            "expected F32, F16 or BF16, found I8",
            file(&[("0.weight", Dtype::I8, &[2, 3], vec![0; 6])]),
        ),
        ("tensor '0.bias': expected finite numbers, found NaN", with(f32::NAN)),
        ("tensor '0.bias': expected finite numbers, found inf", with(f32::INFINITY)),
        // An infinite half.
        (
            "expected finite numbers, found inf",
            file(&[("0.weight", Dtype::F16, &[1, 2], vec![0, 0x7c, 0, 0]), some("0.bias", &[1])]),
        ),
        // Shapes whose product is another number of bytes, or no number.
        ("content: expected a safetensors file", with_header(&header("[3,2]", "F32", 8), 8)),
        (
            "content: expected a safetensors file",
            with_header(&header("[4294967296,4294967296,4294967296]", "F32", 8), 8),
        ),
        ("content: expected a safetensors file", with_header(&header("[-3,2]", "F32", 24), 24)),
        ("content: expected a safetensors file", with_header(&header("[3,2]", "Q4", 24), 24)),
    ];
    let folder = tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    for (expected, content) in &cases {
        fs::write(&path, content).unwrap();
        let line = ModelFile::read(&path, None).unwrap_err().to_string();
        assert!(line.starts_with(&path.display().to_string()), "{line}");
        assert!(line.contains(expected), "{expected} in {line}");
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
    // As a user sees it.
    fs::write(&path, &cases[15].1).unwrap();
    for command in ["eval", "compress"] {
        let output = tnet(&[command, path.to_str().unwrap(), "--device", "cpu"]);
        assert_eq!(code(&output), 1);
        assert!(error_line(&output).contains(cases[15].0));
    }
}

#[test]
fn a_name_of_any_characters_stays_on_one_line() {
    let name = format!("a\n\u{1b}[31m{}.weight", "x".repeat(5000));
    let content = file(&[some(&name, &[0, 3])]);
    let line = read(&content, None).unwrap_err().to_string();
    assert!(!line.chars().any(char::is_control) && line.len() < 1000, "{line:?}");
    let content = file(&[some(&name, &[2, 3]), some("other\n", &[1])]);
    let model = read(&content, Some(Layout::Keras)).unwrap();
    assert!(model.remarks.iter().all(|line| !line.chars().any(char::is_control)));
}

/// What the fuzz target found, and the files that it begins with.
#[test]
fn the_seeds_of_the_fuzz_target_are_read_or_refused_with_one_line() {
    let seeds = fuzz_seeds("model");
    let mut read = 0;
    for seed in &seeds {
        for layout in [None, Some(Layout::Pytorch), Some(Layout::Keras)] {
            match ModelFile::parse(Path::new("seed"), seed, layout) {
                Ok(_) => read += 1,
                Err(error) => assert_eq!(error.to_string().lines().count(), 1, "{error}"),
            }
        }
    }
    assert!(read > 0, "none of {} seeds is read", seeds.len());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    /// A changed byte anywhere is read as another network, or refused with one line.
    #[test]
    fn damaged_files_are_read_or_refused(at in 0..400_usize, byte: u8) {
        let mut content = file(&[some("0.weight", &[5, 6]), some("0.bias", &[5]), some("2.weight", &[2, 5])]);
        let at = at % content.len();
        content[at] = byte;
        match ModelFile::parse(Path::new("file"), &content, None) {
            Ok(model) => {
                let finite = model.snapshot.weights().iter().flatten().all(|number| number.is_finite());
                prop_assert!(finite);
            }
            Err(error) => prop_assert_eq!(error.to_string().lines().count(), 1),
        }
    }
}

/// As a user of the library loads a file.
#[test]
fn a_loaded_network_predicts() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    // Two outputs: the sum of the inputs, and 1.
    let content = file(&[
        f32s("0.weight", &[2, 3], &[1.0, 1.0, 1.0, 0.0, 0.0, 0.0]),
        f32s("0.bias", &[2], &[0.0, 1.0]),
    ]);
    fs::write(&path, content).unwrap();
    let device = open("cpu").unwrap().device;
    let network = Network::load(&path, &device).unwrap();
    let images = tensor(&[0.0, 0.1, 0.2, 1.0, 1.0, 1.0], [2, 3], &device);
    let predictions = network.predict(images).unwrap();
    assert_eq!(predictions.iter().map(|p| p.class).collect::<Vec<_>>(), [1, 0]);
    // 1 / (1 + exp(1 - 3)), in f32.
    let expected = 1.0 / (1.0 + (-2.0_f32).exp());
    assert!((predictions[1].probability - expected).abs() < 1e-6);
}
