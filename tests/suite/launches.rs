//! What a training step has a device do, counted by a Vulkan layer under the executable: kernel launches, which are most
//! of a small step's time on a GPU, and copies into buffers, of which there are none.
//!
//! A run is compared with a longer one. Opening, warming up, evaluating and reading the losses, once each, cost both the
//! same, so what is left are steps. Submissions are not compared: when Burn submits depends on more than the steps. Nor are
//! fills: wgpu zeroes memory before its first use, as it does until the first reading of the losses frees some.

use std::fs;
use std::path::Path;

use crate::common;
use crate::common::data::{Files, idx, write_files};
use crate::common::executable::{Training, code, stderr};
use crate::common::faulty::FaultyDevice;

const BATCH: usize = 128;
/// Both runs read the losses once, after the last step: sooner than after 20.
const STEPS: [usize; 2] = [4, 16];
/// Launches and copies by which the longer reading exceeds the other one: four groups of losses are put together once more.
const READING: [i64; 2] = [1, 1];

/// What a device is taken for, and whose products it takes: the columns of [`CASES`].
const COLUMNS: [[&str; 2]; 4] =
    [["software", "own"], ["gpu", "own"], ["gpu", "burn-simple"], ["gpu", "burn-double"]];

/// A model, and the launches of one step.
const CASES: [(&[&str], [i64; 4]); 5] = [
    (&["--model", "mps", "--bond", "1"], [21, 13, 20, 20]),
    (&["--model", "mps", "--bond", "16"], [30, 14, 21, 21]),
    (&["--model", "mps-all", "--bond", "1"], [22, 14, 17, 17]),
    (&["--model", "mps-all", "--bond", "16"], [48, 17, 20, 20]),
    (&["--model", "dense"], [20, 13, 24, 24]),
];

// Whatever the table is changed to: on a GPU a step of the article's network stays a matter of few launches.
const _: () = assert!(CASES[0].1[1] <= 16 && CASES[0].1[2] <= 20 && CASES[0].1[3] <= 20);

/// What the layer counted in a process.
#[derive(Debug, Clone, Copy)]
struct Counted {
    launches: i64,
    copies: i64,
}

/// Reads the lines of launches, submissions, copies and fills that the layer left.
fn read(path: &Path) -> Counted {
    let text = fs::read_to_string(path).unwrap();
    let mut sums = Counted { launches: 0, copies: 0 };
    for line in text.lines() {
        let numbers: Vec<i64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
        let &[launches, _, copies, _] = &numbers[..] else { panic!("{text}") };
        sums.launches += launches;
        sums.copies += copies;
    }
    assert!(sums.launches > 0 && sums.copies > 0, "nothing was counted: {text}");
    sums
}

/// As many images of Fashion-MNIST's size as the longer run takes, and ten to evaluate on.
fn write_images(training: &Training) {
    let part = |count: usize| {
        let pixels: Vec<u8> = (0..count * 28 * 28).map(|at| (at * at / 7 % 251) as u8).collect();
        let labels: Vec<u8> = (0..count).map(|image| (image % 10) as u8).collect();
        (idx(&[count, 28, 28], &pixels), idx(&[count], &labels))
    };
    let (train_images, train_labels) = part(STEPS[1] * BATCH);
    let (test_images, test_labels) = part(10);
    let files = Files::from([
        ("train-images-idx3-ubyte", train_images),
        ("train-labels-idx1-ubyte", train_labels),
        ("t10k-images-idx3-ubyte", test_images),
        ("t10k-labels-idx1-ubyte", test_labels),
    ]);
    write_files(Path::new(&training.path("data")), &files);
}

/// Counts the steps of some models for one column of [`CASES`].
fn count(cases: &[(&[&str], [i64; 4])], column: usize) {
    let Some(opened) = common::open("vulkan") else { return };
    // Which kernels Burn fuses, and how many buffers each may bind, is a matter of the driver.
    if !opened.adapter.is_some_and(|adapter| adapter.name.contains("llvmpipe")) {
        eprintln!("SKIPPED, THE LAUNCHES WERE NOT COUNTED: {} is not llvmpipe", opened.description);
        return;
    }
    let Some(layer) = FaultyDevice::build() else { return };
    let training = Training::new();
    write_images(&training);
    let [target, products] = COLUMNS[column];
    let run = |model: &[&str], steps: usize| {
        let counts = training.path("counts");
        let _ = fs::remove_file(&counts);
        let (images, batch) = ((steps * BATCH).to_string(), BATCH.to_string());
        let sized = ["--train-images", &images, "--batch-size", &batch, "--epochs", "1"];
        let mut command =
            training.command(&[&["--device", "vulkan", "--exist-ok"], &sized[..]].concat());
        command.args(model);
        command.env("TNET_TARGET", target).env("TNET_PRODUCTS", products);
        command.env("TNET_TEST_COUNT", &counts);
        let output = layer.under(&mut command).output().unwrap();
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        read(Path::new(&counts))
    };
    let mut differences = Vec::new();
    for (model, expected) in cases {
        let [few, many] = STEPS.map(|steps| run(model, steps));
        let steps = (STEPS[1] - STEPS[0]) as i64;
        let case = format!("{} on {target} with products by {products}", model.join(" "));
        let mut compare = |what: &str, expected: i64, found: i64| {
            if found != expected * steps {
                let per_step = found as f64 / steps as f64;
                differences.push(format!(
                    "{case}: expected {expected} {what} per step, found {per_step} \
                    ({found} in {steps} steps)"
                ));
            }
        };
        compare("launches", expected[column], many.launches - few.launches - READING[0]);
        compare("copies into buffers", 0, many.copies - few.copies - READING[1]);
    }
    assert!(differences.is_empty(), "\n{}", differences.join("\n"));
}

mod vulkan {
    #[test]
    fn a_step_of_software_kernels_launches_what_it_should_and_copies_nothing() {
        super::count(&super::CASES, 0);
    }

    #[test]
    fn a_step_of_gpu_kernels_launches_what_it_should_and_copies_nothing() {
        super::count(&super::CASES, 1);
    }

    #[test]
    fn so_does_a_step_with_burns_products() {
        super::count(&super::CASES, 2);
        // A software adapter compiles these for seconds each.
        super::count(&super::CASES[..1], 3);
    }
}
