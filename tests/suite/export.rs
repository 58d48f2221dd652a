//! What is exported computes the same elsewhere: ONNX in another runtime, merged matrices as another program's file.
//!
//! With `TNET_EXPORTED` naming a folder, the networks trained here are left there with images and logits, for
//! `tests/onnxruntime.sh`, `tests/browser.sh`, and PyTorch's by `tests/pytorch.sh`.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use rten::{Model, Value};
use safetensors::SafeTensors;
use tempfile::tempdir;
use tnet_gpu::compress::{By, Candidate, Folding};
use tnet_gpu::data::fashion_mnist;
use tnet_gpu::export::{Format, html, to_bytes, write};
use tnet_gpu::model::{Layout, ModelFile};
use tnet_gpu::mps::MpsInit;
use tnet_gpu::net::{
    self, AvgPool, Channels, Conv2d, Dense, Dropout, Gelu, Layer, MaxPool, Mps, Network, Relu,
    Snapshot, Stack, features,
};

use crate::common::data::scaled;
use crate::common::executable::{Training, code, command, error_line, stderr, stdout, tnet};
use crate::common::{fashion_mnist_is_here, largest_difference, numbers, open, tensor, values};

/// Sums of f32 in other orders, over at most 784 inputs and three layers: relative to the largest logit.
const TOLERANCE: f32 = 1e-5;

/// A network that has not been trained, biases included.
fn model(input: [usize; 3], layers: Vec<Layer>) -> ModelFile {
    let stack = Stack { input, layers };
    let mut weights = stack.draw(MpsInit::He, 3).unwrap();
    for (at, weight) in weights.iter_mut().enumerate() {
        if weight.iter().all(|number| *number == 0.0) {
            *weight = numbers(weight.len(), at as u64);
        }
    }
    let classes = (0..stack.outputs().unwrap()).map(|class| format!("class {class}")).collect();
    ModelFile {
        file: "a network".into(),
        snapshot: Snapshot::new(stack, weights).unwrap(),
        classes,
        border: Some(200),
        trained: None,
        remarks: Vec::new(),
    }
}

fn mps<const D: usize>(
    in_factors: [usize; D],
    out_factors: [usize; D],
    bond: usize,
    bias: bool,
) -> Layer {
    Mps { bias, ..Mps::new(in_factors, out_factors, bond) }.into()
}

fn padded(layer: Layer, pad: [usize; 2]) -> Layer {
    match layer {
        Layer::Mps(layer) => Mps { pad, ..layer }.into(),
        _ => panic!("{layer:?} has no padding"),
    }
}

fn conv(out: Channels, bond: Option<usize>, bias: bool) -> Layer {
    Conv2d { out, kernel: [3, 2], stride: 1, padding: 1, bond, bias }.into()
}

fn dense(out: usize, bias: bool) -> Layer {
    Dense { out, bias }.into()
}

/// What another runtime makes of a file, as `[batch, classes]`.
fn run(onnx: &[u8], images: &[f32], [channels, height, width]: [usize; 3]) -> Vec<f32> {
    let model = Model::load(onnx.to_vec()).unwrap();
    let batch = images.len() / (channels * height * width);
    let images = Value::from_shape([batch, channels, height, width], images.to_vec()).unwrap();
    let output = model.run_one(images.into(), None).unwrap();
    let ([rows, _], logits) = output.into_shape_vec::<f32, 2>().unwrap();
    assert_eq!(rows, batch);
    logits
}

fn logits(snapshot: &Snapshot, images: &[f32], device: &Device) -> Vec<f32> {
    let inputs = features(snapshot.stack().input);
    let images = tensor(images, [images.len() / inputs, inputs], device);
    values(snapshot.on(device).unwrap().logits(images).unwrap())
}

/// Every kind of layer, both orders of contraction, with and without biases, for any batch.
#[test]
fn every_kind_of_layer_is_the_same_in_onnx() {
    let device = open("cpu").unwrap().device;
    let relu = || Layer::from(Relu {});
    for (input, layers) in [
        // C first, then A first: J L N + M J N against M J L + M N L multiply-adds a bond.
        ([1, 6, 4], vec![mps([6, 4], [5, 2], 3, true), relu(), dense(3, true)]),
        ([1, 4, 6], vec![mps([4, 6], [2, 5], 3, true), relu(), dense(3, false)]),
        (
            [1, 6, 4],
            vec![
                mps([2, 3, 4], [5, 1, 2], 3, true),
                relu(),
                mps([5, 2, 1, 1], [1, 3, 1, 2], 2, false),
            ],
        ),
        // Padded: 24 as 5 x 5, and 13 of 14 outputs; then a chain from them.
        (
            [1, 6, 4],
            vec![
                padded(mps([5, 5], [7, 2], 3, true), [1, 1]),
                relu(),
                padded(mps([2, 4, 2], [1, 3, 2], 2, true), [3, 2]),
            ],
        ),
        ([1, 6, 4], vec![padded(mps([6, 4], [5, 2], 2, false), [0, 3])]),
        ([1, 6, 4], vec![mps([6, 4], [5, 2], 2, false)]),
        ([1, 4, 6], vec![mps([4, 6], [2, 5], 2, false)]),
        ([3, 2, 4], vec![mps([6, 4], [4, 4], 1, true), relu(), mps([2, 8], [1, 7], 4, true)]),
        (
            [2, 3, 1],
            vec![
                Dropout { rate: 0.5 }.into(),
                dense(4, true),
                Gelu {}.into(),
                dense(2, true),
                Dropout { rate: 0.1 }.into(),
            ],
        ),
        (
            [2, 6, 5],
            vec![
                conv(Channels::Factors([2, 3]), Some(2), true),
                relu(),
                MaxPool { kernel: [2, 3], stride: Some(1) }.into(),
                conv(Channels::Count(4), None, false),
                AvgPool { kernel: [2, 2], stride: None }.into(),
                dense(3, true),
            ],
        ),
        ([1, 2, 2], vec![relu()]),
    ] {
        let model = model(input, layers);
        let stack = model.snapshot.stack();
        let bytes = to_bytes(&model, Format::Onnx).unwrap();
        for batch in [1, 3, 130] {
            let images = numbers(batch * features(input), 9);
            let difference = largest_difference(
                &run(&bytes, &images, input),
                &logits(&model.snapshot, &images, &device),
            );
            assert!(difference < TOLERANCE, "{stack:?}, batch {batch}: {difference:e}");
        }
        let loaded = Model::load(bytes).unwrap();
        let classes: Vec<String> =
            serde_json::from_str(loaded.metadata().get("classes").unwrap()).unwrap();
        assert_eq!(classes, model.classes);
        assert_eq!(loaded.metadata().producer_name(), Some("tnet-gpu"));
    }
}

/// The two cores are there as they are, and nothing as large as the matrix.
#[test]
fn an_exported_tensor_layer_is_as_small_as_its_cores() {
    let layers = vec![mps([28, 28], [32, 16], 2, true)];
    let model = model([1, 28, 28], layers);
    let parameters = model.snapshot.stack().parameters().unwrap();
    let bytes = to_bytes(&model, Format::Onnx).unwrap();
    // 12.8 kB of numbers and 512 names; the matrix would have 1.6 MB.
    assert!(bytes.len() < 8 * parameters, "{} bytes for {parameters}", bytes.len());
}

#[test]
fn exported_weights_are_read_back_as_they_were() {
    let device = open("cpu").unwrap().device;
    let relu = Layer::from(Relu {});
    let drop = Layer::from(Dropout { rate: 0.2 });
    let model = model(
        [1, 4, 6],
        vec![mps([4, 6], [5, 3], 3, true), relu, drop, mps([5, 3], [2, 2], 2, false)],
    );
    let folder = tempdir().unwrap();
    let path = folder.path().join("model");
    write(&path, false, || to_bytes(&model, Format::Safetensors)).unwrap();
    let read = ModelFile::read(&path, None).unwrap();
    assert_eq!((&read.snapshot, &read.classes), (&model.snapshot, &model.classes));
    assert_eq!(read.border, model.border);

    // The merged matrices have the names that PyTorch gives them, and are those of the same network.
    let bytes = to_bytes(&model, Format::Dense).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut shapes: Vec<(&str, Vec<usize>)> =
        tensors.iter().map(|(name, view)| (name, view.shape().to_vec())).collect();
    shapes.sort_unstable();
    let expected = [("0.bias", vec![15]), ("0.weight", vec![15, 24]), ("3.weight", vec![4, 15])];
    assert_eq!(shapes, expected);
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(metadata.metadata().as_ref().unwrap()["format"], "pt");
    let merged = ModelFile::parse(Path::new("merged"), &bytes, None).unwrap();
    let kinds: Vec<&str> =
        merged.snapshot.stack().layers.iter().map(|layer| layer.name()).collect();
    assert_eq!(kinds, ["dense", "relu", "dropout", "dense"]);
    let images = numbers(5 * 24, 2);
    let [one, other] = [&model, &merged].map(|model| logits(&model.snapshot, &images, &device));
    assert!(largest_difference(&one, &other) < TOLERANCE);
}

#[test]
fn a_file_is_replaced_only_where_that_is_asked_for() {
    let folder = tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let from = path("from.safetensors");
    let model = model([1, 2, 3], vec![dense(2, true)]);
    write(Path::new(&from), false, || to_bytes(&model, Format::Safetensors)).unwrap();
    let to = path("to.onnx");
    fs::write(&to, "mine").unwrap();
    let arguments = ["export", &from, "--format", "onnx", "--out", &to];
    let output = tnet(&arguments);
    assert_eq!(code(&output), 1);
    let line = error_line(&output);
    assert!(line.contains("exists already; replace it with --exist-ok"), "{line}");
    assert_eq!(fs::read_to_string(&to).unwrap(), "mine");

    let output = tnet(&[&arguments[..], &["--exist-ok"]].concat());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(
        stdout(&output).contains("images [batch, 1, 2, 3] to 2 classes"),
        "{}",
        stdout(&output)
    );
    assert_eq!(fs::read(&to).unwrap(), to_bytes(&model, Format::Onnx).unwrap());

    let nowhere = path("missing/to.onnx");
    let output = tnet(&["export", &from, "--format", "dense", "--out", &nowhere]);
    assert_eq!(code(&output), 1);
    assert!(error_line(&output).contains("cannot write"), "{}", error_line(&output));
    // What cannot be read leaves nothing.
    fs::write(&from, "no network").unwrap();
    let output = tnet(&["export", &from, "--format", "onnx", "--out", &path("new")]);
    assert_eq!(code(&output), 1);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

/// Convolutions of a matrix and of cores, both kinds of pooling, a chain and a matrix after them.
const CONVOLUTIONS: &str = r#"
input = [1, 28, 28]
[[layers]]
kind = "conv2d"
out = 6
kernel = [5, 3]
stride = 2
padding = 1
[[layers]]
kind = "relu"
[[layers]]
kind = "conv2d"
out = [4, 2]
kernel = [3, 3]
padding = 1
bond = 2
[[layers]]
kind = "maxpool"
kernel = [2, 2]
[[layers]]
kind = "relu"
[[layers]]
kind = "avgpool"
kernel = [2, 2]
stride = 1
[[layers]]
kind = "mps"
in = [8, 5, 6]
out = [4, 4, 2]
bond = [2, 3]
[[layers]]
kind = "relu"
[[layers]]
kind = "dense"
out = 10
"#;

/// Tensor layers of widths that are padded, of four cores and of two.
const PADDED: &str = r#"
input = [1, 28, 28]
layers = [
    { kind = "mps", in = [4, 7, 4, 8], out = [8, 4, 4, 4], bond = 4, pad = [112, 3] },
    { kind = "relu" },
    { kind = "mps", in = [32, 16], out = [8, 8], bond = 2, pad = [3, 1] },
    { kind = "relu" },
    { kind = "dense", out = 10 },
]
"#;

/// Networks as users have them, after one epoch: on 256 test images, the logits are the same to 1e-4, and the classes.
#[test]
fn trained_networks_are_the_same_in_onnx() {
    if !fashion_mnist_is_here() {
        return;
    }
    let kept = std::env::var_os("TNET_EXPORTED").map(std::path::PathBuf::from);
    let folder = tempdir().unwrap();
    let device = open("cpu").unwrap().device;
    let data = fashion_mnist::load(None, &mut |_| ()).unwrap();
    let order: Vec<u32> = (0..256).collect();
    let images = scaled(&data.test, &order);
    let train = |name: &str, options: &[&str]| {
        let run = folder.path().join(name);
        let fixed = ["train", "--device", "cpu", "--epochs", "1", "--train-images", "6000"];
        let mut command = command(&[&fixed[..], options].concat());
        let output = command.arg("--out").arg(&run).output().unwrap();
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        ModelFile::read(&run, None).unwrap()
    };
    let of_dense = train("dense", &["--model", "dense"]);
    let candidate = Candidate::new(&of_dense.snapshot, 0, &Folding::default()).unwrap();
    let smaller = candidate.compressed(64, By::Weights, None).unwrap();
    let snapshot = smaller.into_place(&of_dense.snapshot, 0).unwrap();
    let compressed = ModelFile { snapshot, ..of_dense.clone() };
    let convolutions = folder.path().join("net.toml");
    fs::write(&convolutions, CONVOLUTIONS).unwrap();
    let padded = folder.path().join("padded.toml");
    fs::write(&padded, PADDED).unwrap();
    for (name, model) in [
        ("padded", train("padded", &["--network", padded.to_str().unwrap()])),
        ("chain", train("chain", &["--cores", "4", "--model", "mps-all", "--bond", "3"])),
        ("convolutions", train("convolutions", &["--network", convolutions.to_str().unwrap()])),
        ("mps", train("mps", &["--bond", "4"])),
        ("dense", of_dense),
        ("mps-all", train("mps-all", &["--model", "mps-all", "--bond", "1,2"])),
        ("compressed", compressed),
    ] {
        assert_eq!(model.classes[9], "Ankle boot");
        let bytes = to_bytes(&model, Format::Onnx).unwrap();
        let expected = logits(&model.snapshot, &images, &device);
        let found = run(&bytes, &images, [1, 28, 28]);
        let largest = found.iter().zip(&expected).map(|(found, expected)| (found - expected).abs());
        let largest = largest.fold(0.0, f32::max);
        assert!(largest < 1e-4, "{name}: {largest:e}");
        let class = |logits: &[f32]| {
            let logits = logits.iter().enumerate();
            logits.max_by(|one, other| one.1.total_cmp(other.1)).map(|(class, _)| class)
        };
        let classes = |logits: &[f32]| logits.chunks(10).map(class).collect::<Vec<_>>();
        assert_eq!(classes(&found), classes(&expected), "{name}");

        // Merged, read as another program's file; of such, convolutions are not read.
        let merged = to_bytes(&model, Format::Dense).unwrap();
        if name != "convolutions" {
            let read = ModelFile::parse(Path::new("merged"), &merged, Some(Layout::Pytorch));
            let found = logits(&read.unwrap().snapshot, &images, &device);
            assert!(largest_difference(&found, &expected) < TOLERANCE, "{name}, merged");
        }
        if let Some(kept) = &kept {
            let raw = |numbers: &[f32]| -> Vec<u8> {
                numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
            };
            let stack = net::file::write(model.snapshot.stack()).unwrap();
            let cores = to_bytes(&model, Format::Safetensors).unwrap();
            fs::write(kept.join("images.f32"), raw(&images)).unwrap();
            let halved = html::Halved::new(&model.snapshot).unwrap();
            let of_half = logits(halved.snapshot(), &images, &device);
            fs::write(kept.join(format!("{name}-half.f32")), raw(&of_half)).unwrap();
            if name != "compressed" {
                for (page, more) in
                    [(name.to_owned(), None), (format!("{name}-half"), Some("--half"))]
                {
                    let page = kept.join(page).with_extension("html");
                    let mut command = command(&["export", "--format", "html"]);
                    command.args(more).arg(folder.path().join(name)).arg("--out").arg(page);
                    let output = command.output().unwrap();
                    assert_eq!(code(&output), 0, "{}", stderr(&output));
                }
            }
            for (form, bytes) in [
                ("onnx", bytes),
                ("f32", raw(&expected)),
                ("toml", stack.into_bytes()),
                ("dense", merged),
                ("cores", cores),
            ] {
                fs::write(kept.join(format!("{name}.{form}")), bytes).unwrap();
            }
        }
    }
    // As a user of the library reads it.
    let network = Network::load(folder.path().join("mps"), &device).unwrap();
    let predictions = network.predict(tensor(&images, [256, 784], &device)).unwrap();
    let right = predictions
        .iter()
        .zip(&data.test.labels)
        .filter(|(p, label)| p.class == usize::from(**label));
    assert!(right.count() > 150);
}

/// From `labels.txt` beside the data to the checkpoint, and from there to what is compressed and exported.
#[test]
fn the_names_of_classes_go_along_with_a_network() {
    let training = Training::new();
    let labels = training.path("data/labels.txt");
    fs::write(&labels, "upper\nmiddle\nlower\n").unwrap();
    let output = training.run(&["--epochs", "1", "--out-factors", "4,4"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let [run, small, exported] = ["run", "small", "small.onnx"].map(|name| training.path(name));
    for arguments in [
        &["compress", &run, "--device", "cpu", "--bond", "1", "--out", &small][..],
        &["export", &small, "--format", "onnx", "--out", &exported],
    ] {
        let output = tnet(arguments);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
    }
    for file in [&run, &small] {
        let model = ModelFile::read(Path::new(file), None).unwrap();
        assert_eq!(model.classes, ["upper", "middle", "lower"]);
    }
    let onnx = Model::load_file(exported).unwrap();
    assert_eq!(onnx.metadata().get("classes"), Some(r#"["upper","middle","lower"]"#));

    fs::write(&labels, "upper\nlower\n").unwrap();
    let output = training.run(&["--out", &training.path("other")]);
    assert_eq!(code(&output), 1);
    let expected = "labels.txt: lines: expected 3, one for each class of the labels, found 2";
    assert!(error_line(&output).ends_with(expected), "{}", error_line(&output));
}
