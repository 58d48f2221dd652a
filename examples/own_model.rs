//! The layer in a user's own Burn model: a regression on random images, trained on the device that is
//! the first argument (default: `auto`).
//!
//! ```text
//! cargo run --release --example own_model -- cpu
//! ```

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use burn::module::Module;
use burn::nn::loss::{MseLoss, Reduction};
use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Distribution, Tensor};
use tnet_gpu::device::{self, DeviceChoice};
use tnet_gpu::nn::{MpsLinear, MpsLinearConfig};

/// 16 x 16 images to 64 features through two cores, then to one number.
#[derive(Module, Debug)]
struct Regressor {
    features: MpsLinear,
    output: Linear,
}

impl Regressor {
    fn new(device: &Device) -> tnet_gpu::Result<Self> {
        Ok(Self {
            features: MpsLinearConfig::new([16, 16], [8, 8], 4).init(device)?,
            output: LinearConfig::new(64, 1).init(device),
        })
    }

    fn forward(&self, images: Tensor<2>) -> Tensor<2> {
        self.output.forward(relu(self.features.forward(images)))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let choice = std::env::args().nth(1).map_or(Ok(DeviceChoice::Auto), |name| name.parse())?;
    let opened = device::open(choice)?;
    println!("device: {}", opened.description);
    opened.device.seed(1);
    let device = opened.device.autodiff();

    // The model learns the mean brightness of each image.
    let images = Tensor::<2>::random([256, 256], Distribution::Uniform(0.0, 1.0), &device);
    let targets = images.clone().mean_dim(1);

    let mut model = Regressor::new(&device)?;
    println!("{model}");
    let mut optimizer = AdamConfig::new().init();
    for step in 1..=200 {
        let predicted = model.forward(images.clone());
        let loss = MseLoss::new().forward(predicted, targets.clone(), Reduction::Mean);
        if step % 50 == 0 {
            println!("step {step}: mean squared error {:.5}", loss.clone().into_scalar::<f32>());
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(1e-3, model, gradients);
    }
    Ok(())
}
