//! Exported pages: what is in the file, and what is refused. What a page computes is checked in a browser, by
//! `tests/browser.sh`.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use naga::valid::{Capabilities, ValidationFlags, Validator};
use serde_json::Value;
use tnet_gpu::export::{Format, html, to_bytes};
use tnet_gpu::model::ModelFile;
use tnet_gpu::net::Snapshot;
use tnet_gpu::op::gpu::shader::{Kernel, Shader};

use crate::common::executable::{Training, code, error_line, stderr, stdout, tnet};

/// One layer of every kind for which there are kernels.
const EVERY_KIND: &str = r#"
input = [1, 8, 8]
layers = [
    { kind = "conv2d", out = 2, kernel = [3, 3], padding = 1 },
    { kind = "relu" },
    { kind = "maxpool", kernel = [2, 2] },
    { kind = "conv2d", out = [2, 2], kernel = [2, 2], bond = 2 },
    { kind = "avgpool", kernel = [2, 2] },
    { kind = "mps", in = [2, 2], out = [5, 4], bond = 2 },
    { kind = "dropout", rate = 0.1 },
    { kind = "mps", in = [2, 3, 4], out = [3, 2, 2], bond = 2, pad = [4, 1] },
    { kind = "dense", out = 3 },
]
"#;

fn export(training: &Training, model: &str, more: &[&str]) -> std::process::Output {
    let (model, page) = (training.path(model), training.path("page.html"));
    let arguments = ["export", &model, "--format", "html", "--out", &page, "--exist-ok"];
    tnet(&[&arguments[..], more].concat())
}

/// What stands between two texts.
fn between<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(begin).unwrap_or_else(|| panic!("no {begin}"));
    rest.split_once(end).unwrap().0
}

fn network(page: &str) -> Value {
    let text = between(page, r#"<script id="network" type="application/json">"#, "</script>");
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_page_has_the_network_its_kernels_and_images() {
    let training = Training::new();
    fs::write(training.path("net.toml"), EVERY_KIND).unwrap();
    let output = training.run(&["--epochs", "1", "--network", &training.path("net.toml")]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let output = export(&training, "run", &[]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stdout(&output).contains(", 3 classes"), "{}", stdout(&output));
    let page = training.read("page.html");
    let model = ModelFile::read(Path::new(&training.path("run")), None).unwrap();
    let network = network(&page);

    // The kernels are those of the program, of which a browser may write to one binding.
    let kernels = network["kernels"].as_array().unwrap();
    let files: Vec<&str> = kernels.iter().map(|kernel| kernel["file"].as_str().unwrap()).collect();
    assert_eq!(
        files,
        ["contract.wgsl", "chain_step.wgsl", "patches.wgsl", "pool.wgsl", "activate.wgsl"]
    );
    for kernel in kernels {
        let text = kernel["text"].as_str().unwrap();
        let is_named = |shader: &&Shader| shader.facts().file == kernel["file"];
        let shader = *Shader::ALL.iter().find(is_named).unwrap();
        assert_eq!(text.matches("var<storage, read_write>").count(), 1, "{text}");
        let as_in_the_program = text.replace("var<storage, read>", "var<storage, read_write>");
        assert_eq!(as_in_the_program, Kernel::plain(shader).text());
        let module = naga::front::wgsl::parse_str(text).unwrap();
        Validator::new(ValidationFlags::all(), Capabilities::empty()).validate(&module).unwrap();
    }
    // Every launch names what is there, and reads nothing that it writes.
    let buffers = network["buffers"].as_array().unwrap();
    for launch in network["launches"].as_array().unwrap() {
        let kernel = &kernels[launch["kernel"].as_u64().unwrap() as usize];
        let written = kernel["written"].as_u64().unwrap() as usize;
        let bound = launch["buffers"].as_array().unwrap();
        assert!(bound.iter().all(|buffer| (buffer.as_u64().unwrap() as usize) < buffers.len()));
        assert_eq!(bound.iter().filter(|buffer| **buffer == bound[written]).count(), 1, "{launch}");
        for (name, _) in kernel["members"].as_array().unwrap().iter().map(|of| (&of[0], &of[1])) {
            assert!(!launch["params"][name.as_str().unwrap()].is_null(), "{launch}: {name}");
        }
    }
    let weights: Vec<u8> =
        model.snapshot.weights().iter().flatten().flat_map(|number| number.to_le_bytes()).collect();
    assert_eq!(BASE64_STANDARD.decode(network["weights"].as_str().unwrap()).unwrap(), weights);

    // Images of all classes in turn.
    let labels: Vec<u64> =
        network["samples"]["labels"].as_array().unwrap().iter().filter_map(Value::as_u64).collect();
    assert_eq!(labels, [0, 1, 2].repeat(4));
    let pixels = BASE64_STANDARD.decode(network["samples"]["pixels"].as_str().unwrap()).unwrap();
    assert_eq!(pixels.len(), 64 * labels.len());
    assert_eq!(network["samples"]["logits"].as_array().unwrap().len(), labels.len());

    // Nothing is asked of anyone, and nothing of the template is left.
    let policy = between(&page, "Content-Security-Policy\" content=\"", "\"");
    assert!(policy.starts_with("default-src 'none'; "), "{policy}");
    for text in ["http:", "https:", " src=", "@import", "url(", "{{", "import("] {
        assert!(!page.contains(text), "{text}");
    }
}

#[test]
fn weights_of_16_bits_are_half_the_size_and_their_cost_is_told() {
    let training = Training::finished();
    assert_eq!(code(&export(&training, "run", &[])), 0);
    let whole = network(&training.read("page.html"));
    let output = export(&training, "run", &["--half"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(stderr(&output).contains("with weights of 16 bits, 0."), "{}", stderr(&output));
    let half = network(&training.read("page.html"));
    let bytes = |network: &Value| {
        BASE64_STANDARD.decode(network["weights"].as_str().unwrap()).unwrap().len()
    };
    // Two bytes a weight, and four for every 64 of each tensor.
    let (of_half, of_whole) = (bytes(&half), bytes(&whole));
    assert!(
        2 * of_half > of_whole && 2 * of_half < of_whole + of_whole / 10,
        "{of_half} {of_whole}"
    );
    assert_eq!((half["block"].as_u64(), &whole["block"]), (Some(64), &Value::Null));
    // What the page is tested with is what rounded weights give.
    assert_ne!(half["samples"]["logits"], whole["samples"]["logits"]);

    let model = ModelFile::read(Path::new(&training.path("run")), None).unwrap();
    let mut weights = model.snapshot.weights().to_vec();
    weights[1][0] = f32::INFINITY;
    let infinite = Snapshot::new(model.snapshot.stack().clone(), weights).unwrap();
    let error = html::Halved::new(&infinite).unwrap_err().to_string();
    assert_eq!(error, "mps1.c: expected finite numbers, found inf");
}

#[test]
fn what_cannot_be_a_page_is_refused_and_leaves_no_file() {
    let training = Training::new();
    let stack = EVERY_KIND.replace(r#""dropout", rate = 0.1"#, r#""gelu""#);
    fs::write(training.path("net.toml"), stack).unwrap();
    let output = training.run(&["--epochs", "1", "--network", &training.path("net.toml")]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let output = export(&training, "run", &[]);
    assert_eq!(code(&output), 2);
    assert!(error_line(&output).contains("gelu7: a page cannot compute it"), "{}", stderr(&output));
    // Its data are gone.
    let other = Training::finished();
    fs::rename(other.path("data"), other.path("moved")).unwrap();
    let output = export(&other, "run", &[]);
    assert_eq!(code(&output), 1);
    assert!(error_line(&output).contains("--data"), "{}", stderr(&output));
    let output = export(&other, "run", &["--data", &other.path("moved")]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(!Path::new(&training.path("page.html")).exists());

    for option in [&["--half"][..], &["--data", "data"], &["--size", "28,28"]] {
        let arguments = ["export", &other.path("run"), "--format", "onnx", "--out", "no.onnx"];
        let output = tnet(&[&arguments[..], option].concat());
        assert_eq!(code(&output), 2);
        let expected = format!("{}: expected only with --format html", option[0]);
        assert!(error_line(&output).contains(&expected), "{}", stderr(&output));
    }
}

/// The demo in the repository is what the command makes of its network today.
#[test]
fn the_demo_is_of_this_version() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let demo = fs::read_to_string(root.join("docs/demo/index.html")).unwrap();
    assert!(demo.len() < 200_000, "{} bytes", demo.len());
    for file in ["picture.js", "compute.js", "page.js", "page.css"] {
        let own = fs::read_to_string(root.join("assets/page").join(file)).unwrap();
        assert!(demo.contains(own.trim_end()), "{file}: export the demo again, as README.md says");
    }
    for kernel in network(&demo)["kernels"].as_array().unwrap() {
        let is_named = |shader: &&Shader| shader.facts().file == kernel["file"];
        let shader = *Shader::ALL.iter().find(is_named).unwrap();
        let text =
            kernel["text"].as_str().unwrap().replace("storage, read>", "storage, read_write>");
        assert_eq!(text, Kernel::plain(shader).text(), "export the demo again, as README.md says");
    }
}

/// 18 MB of weights are 24 MB of text.
#[test]
fn a_large_page_gets_a_word() {
    let training = Training::new();
    let stack = r#"
        input = [1, 8, 8]
        layers = [{ kind = "dense", out = 60000 }, { kind = "relu" }, { kind = "dense", out = 3 }]"#;
    let stack = toml::from_str::<tnet_gpu::net::Stack>(stack).unwrap();
    let weights = stack.weights().unwrap().into_iter().map(|(_, weight)| vec![0.5; weight.count()]);
    let weights = weights.collect();
    let model = ModelFile {
        file: "large".into(),
        snapshot: Snapshot::new(stack, weights).unwrap(),
        classes: (0..3).map(|class| class.to_string()).collect(),
        border: None,
        trained: None,
        remarks: Vec::new(),
    };
    let file = training.path("large.safetensors");
    fs::write(file, to_bytes(&model, Format::Safetensors).unwrap()).unwrap();
    let data = training.path("data");
    let output = export(&training, "large.safetensors", &["--data", &data]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let line = stderr(&output);
    assert!(
        line.contains("take long to open and to send; --half makes it half as large"),
        "{line}"
    );
}
