//! Devices, small data sets and reference files.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use tnet_gpu::device::{self, OpenDevice};
use tnet_gpu::verify::{self, Case};

/// Opens a device. Without a Vulkan adapter it says so and returns none, or, where
/// `TNET_REQUIRE_ADAPTER` is 1, fails.
pub fn open(name: &str) -> Option<OpenDevice> {
    let opened = device::open(name.parse().unwrap());
    match opened {
        Ok(opened) => Some(opened),
        Err(error) => {
            let required = std::env::var("TNET_REQUIRE_ADAPTER").is_ok_and(|value| value == "1");
            assert!(!required && name != "cpu", "{error}");
            eprintln!("SKIPPED, THE GPU WAS NOT TESTED: {error}");
            None
        }
    }
}

/// Makes a test of each function, for the CPU and for the Vulkan adapter; it is called with the
/// open device.
macro_rules! on_each_device {
    ($($test:ident),+ $(,)?) => {
        on_each_device!(@module cpu "cpu" $($test)+);
        on_each_device!(@module vulkan "vulkan" $($test)+);
    };
    (@module $module:ident $name:literal $($test:ident)+) => {
        mod $module {
            $(
                #[test]
                fn $test() {
                    if let Some(opened) = crate::common::open($name) {
                        super::$test(&opened.device);
                    }
                }
            )+
        }
    };
}

/// Uniform random numbers in [-1, 1), the same for the same seed.
pub fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| (random.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0).collect()
}

/// The largest difference, relative to the largest element of `expected`.
pub fn largest_difference(got: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(got.len(), expected.len());
    let scale = expected.iter().fold(f32::MIN_POSITIVE, |largest, value| largest.max(value.abs()));
    let differences = got.iter().zip(expected).map(|(got, expected)| (got - expected).abs());
    // A NaN would be lost in `max`.
    differences.fold(0.0, |largest: f32, d| if d.is_nan() { d } else { largest.max(d) }) / scale
}

/// A file in the IDX format.
pub fn idx(extents: &[usize], elements: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, extents.len() as u8];
    bytes.extend(extents.iter().flat_map(|&extent| (extent as u32).to_be_bytes()));
    bytes.extend(elements);
    bytes
}

/// Files of a set, by name.
pub type Files = HashMap<&'static str, Vec<u8>>;

/// A set of 60 training and 12 test images of 8 x 8 pixels in 3 classes: each class lights a stripe
/// of its own, with some noise around it.
pub fn files() -> Files {
    let part = |count: usize, seed: u64| {
        let noise = numbers(count * 64, seed);
        let labels: Vec<u8> = (0..count).map(|image| (image % 3) as u8).collect();
        let pixels: Vec<u8> = (0..count * 64)
            .map(|at| {
                let stripe = at % 64 / 8 / 2 == at / 64 % 3;
                (if stripe { 200.0 } else { 40.0 } + 40.0 * noise[at]) as u8
            })
            .collect();
        (idx(&[count, 8, 8], &pixels), idx(&[count], &labels))
    };
    let (train_images, train_labels) = part(60, 1);
    let (test_images, test_labels) = part(12, 2);
    HashMap::from([
        ("train-images-idx3-ubyte", train_images),
        ("train-labels-idx1-ubyte", train_labels),
        ("t10k-images-idx3-ubyte", test_images),
        ("t10k-labels-idx1-ubyte", test_labels),
    ])
}

/// Writes a set into a new folder.
pub fn write_files(folder: &Path, files: &Files) {
    fs::create_dir_all(folder).unwrap();
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes).unwrap();
    }
}

/// Writes a case of `verify` as a reference file, its expected output off by `off` in one element.
pub fn case_file(path: &Path, off: f64) {
    let Case { operands, mut expected, .. } = verify::built_in().swap_remove(6);
    expected.y[0] += off;
    let (spec, batch) = (operands.spec, operands.batch);
    let (x, y) = (vec![batch, spec.j, spec.l], vec![batch, spec.m, spec.n]);
    let (a, c) = (spec.a_shape().to_vec(), spec.c_shape().to_vec());
    let bias = spec.bias_shape().to_vec();
    let single = [
        ("x", &x, &operands.x),
        ("a", &a, &operands.a),
        ("c", &c, &operands.c),
        ("bias", &bias, &operands.bias),
        ("dy", &y, &operands.grad_y),
    ];
    let double = [
        ("y", &y, &expected.y),
        ("da", &a, &expected.grad_a),
        ("dc", &c, &expected.grad_c),
        ("dbias", &bias, &expected.grad_bias),
        ("dx", &x, &expected.grad_x),
    ];
    let view = |dtype, shape: &Vec<usize>, bytes| TensorView::new(dtype, shape.clone(), bytes);
    let views: Vec<_> = single
        .iter()
        .map(|(name, shape, v)| (*name, view(Dtype::F32, shape, bytemuck::cast_slice(v)).unwrap()))
        .chain(double.iter().map(|(name, shape, v)| {
            (*name, view(Dtype::F64, shape, bytemuck::cast_slice(v)).unwrap())
        }))
        .collect();
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}
