//! What several tests need: devices, numbers and comparisons here, and in files of their own the cases
//! of the layer, small data sets, runs of the executable, and faulty systems for it to run on.

pub mod cases;
pub mod data;
pub mod executable;
#[cfg(target_os = "linux")]
pub mod faulty;
pub mod markup;
pub mod pictures;
#[cfg(unix)]
pub mod running;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tnet_gpu::data::{Resident, fashion_mnist};
use tnet_gpu::device::{self, OpenDevice};
use tnet_gpu::mps::MpsInit;
use tnet_gpu::net::{Model, Preset, Stack};
use tnet_gpu::op;
use tnet_gpu::op::state::AdamStep;
use tnet_gpu::op::words::StepWords;
use tnet_gpu::train::{Learner, Recipe, TrainConfig};

/// Opens a device. Without a Vulkan adapter it prints that the test is skipped and returns `None`, or
/// fails where `TNET_REQUIRE_ADAPTER` is 1.
///
/// As in the executable, `TNET_TARGET` forces what every adapter is taken for, and `TNET_PRODUCTS` whose products GPUs take.
pub fn open(name: &str) -> Option<OpenDevice> {
    if let Ok(target) = std::env::var("TNET_TARGET") {
        op::force_target(Some(target.parse().unwrap()));
    }
    if let Ok(products) = std::env::var("TNET_PRODUCTS") {
        op::choice::force_products(Some(products.parse().unwrap()));
    }
    let opened = device::open(name.parse().unwrap());
    match opened {
        Ok(opened) => Some(opened),
        Err(error) => {
            assert!(!required("TNET_REQUIRE_ADAPTER") && name != "cpu", "{error}");
            eprintln!("SKIPPED, THE GPU WAS NOT TESTED: {error}");
            None
        }
    }
}

/// Whether a variable demands that a test which cannot run fails instead of being skipped.
pub fn required(variable: &str) -> bool {
    std::env::var(variable).is_ok_and(|value| value == "1")
}

/// Whether Fashion-MNIST is on this machine. Without it, it prints that the test is skipped, or fails where
/// `TNET_REQUIRE_DATA` is 1.
pub fn fashion_mnist_is_here() -> bool {
    let is_here = fashion_mnist::is_here();
    if !is_here {
        assert!(!required("TNET_REQUIRE_DATA"), "Fashion-MNIST is not on this machine");
        eprintln!("SKIPPED, NOT TESTED ON REAL IMAGES: Fashion-MNIST is not on this machine");
    }
    is_here
}

/// Makes two tests of each function, which is called with the open device: the CPU in `mod cpu`, the
/// Vulkan adapter in `mod vulkan`.
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

/// A tensor of these values.
pub fn tensor<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

/// A tensor of whole numbers, such as labels.
pub fn integers(values: &[i32], device: &Device) -> Tensor<1, Int> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), (device, DType::I32))
}

/// What a tensor holds.
pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_to_vec_as::<f32>().unwrap()
}

/// The words of a step with the seed of one dropout layer.
pub fn seeded(seed: u64, device: &Device) -> StepWords {
    let step = AdamStep { size: 0.0, epsilon: 0.0, keep: 1.0, inertia: 0.0 };
    StepWords::new(&step, &[seed], device)
}

/// One step on these images; the sum of their losses before it.
pub fn step(learner: &mut Learner, data: &Resident, order: &[u32], seeds: &[u64]) -> f32 {
    let schedule = learner.schedule(order, order.len(), |_| seeds.to_vec()).unwrap();
    let sums = learner.step(data, schedule.step(0).unwrap()).unwrap();
    values(sums).iter().step_by(2).sum()
}

/// The largest difference, relative to the largest element of `expected`.
pub fn largest_difference(got: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(got.len(), expected.len());
    let scale = expected.iter().fold(f32::MIN_POSITIVE, |largest, value| largest.max(value.abs()));
    let differences = got.iter().zip(expected).map(|(got, expected)| (got - expected).abs());
    // A NaN would be lost in `max`.
    differences.fold(0.0, |largest: f32, d| if d.is_nan() { d } else { largest.max(d) }) / scale
}

/// A network for images of `J x L` pixels, whose first layer has `M x N` outputs and whose second has 512.
pub fn stack(
    model: Model,
    [height, width]: [usize; 2],
    [m, n]: [usize; 2],
    bond: usize,
    classes: usize,
) -> Stack {
    let preset = Preset {
        model,
        bond: vec![bond],
        hidden: vec![m * n, 512],
        out_factors: Some(vec![m, n]),
        ..Preset::default()
    };
    preset.stack([1, height, width], classes).unwrap()
}

/// One epoch of a network, with He's weights.
pub fn config(network: Stack) -> TrainConfig {
    TrainConfig {
        epochs: 1,
        batch_size: 33,
        lr: 1e-3,
        seed: 5,
        validation: 0,
        init: MpsInit::He,
        recipe: Recipe::default(),
        network,
    }
}
