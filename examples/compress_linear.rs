//! A trained `Linear` of Burn, replaced by two cores with a tenth of its parameters: the nearest ones, those fitted to the
//! layer's inputs, and these after some more training. On the device that is the first argument (default: `auto`).
//!
//! ```text
//! cargo run --release --example compress_linear -- cpu
//! ```

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use burn::module::Module;
use burn::nn::loss::{MseLoss, Reduction};
use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Distribution, Tensor};
use tnet_gpu::compress::Moments;
use tnet_gpu::device::{self, DeviceChoice};
use tnet_gpu::nn::MpsLinear;

/// 16 x 16 images to 64 features, then to one number.
#[derive(Module, Debug)]
struct Dense {
    features: Linear,
    output: Linear,
}

/// The same with the first layer compressed.
#[derive(Module, Debug)]
struct Compressed {
    features: MpsLinear,
    output: Linear,
}

trait Model: Module {
    fn forward(&self, images: Tensor<2>) -> Tensor<2>;
}

impl Model for Dense {
    fn forward(&self, images: Tensor<2>) -> Tensor<2> {
        self.output.forward(relu(self.features.forward(images)))
    }
}

impl Model for Compressed {
    fn forward(&self, images: Tensor<2>) -> Tensor<2> {
        self.output.forward(relu(self.features.forward(images)))
    }
}

/// The model learns how much brighter the upper half of an image is than the lower one.
struct Task {
    images: Tensor<2>,
    targets: Tensor<2>,
}

impl Task {
    fn new(device: &Device) -> Self {
        let images = Tensor::<2>::random([512, 256], Distribution::Uniform(0.0, 1.0), device);
        let half = |from: usize| images.clone().slice([0..512, from..from + 128]).mean_dim(1);
        let targets = (half(0) - half(128)) * 10.0;
        Self { images, targets }
    }

    fn loss(&self, model: &impl Model) -> Tensor<1> {
        let predicted = model.forward(self.images.clone());
        MseLoss::new().forward(predicted, self.targets.clone(), Reduction::Mean)
    }

    fn train<M: Model>(&self, mut model: M, steps: usize) -> M {
        let mut optimizer = AdamConfig::new().init();
        for _ in 0..steps {
            let gradients = GradientsParams::from_grads(self.loss(&model).backward(), &model);
            model = optimizer.step(1e-3, model, gradients);
        }
        model
    }

    fn report(&self, what: &str, model: &impl Model) {
        let loss = self.loss(model).into_scalar::<f32>();
        println!("{what}: mean squared error {loss:.5}, {} parameters", model.num_params());
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let choice = std::env::args().nth(1).map_or(Ok(DeviceChoice::Auto), |name| name.parse())?;
    let opened = device::open(choice)?;
    println!("device: {}", opened.description);
    opened.device.seed(1);
    let device = opened.device.autodiff();
    let task = Task::new(&device);

    let dense = Dense {
        features: LinearConfig::new(256, 64).init(&device),
        output: LinearConfig::new(64, 1).init(&device),
    };
    let dense = task.train(dense, 200);
    task.report("dense", &dense);

    let (inputs, outputs, bond) = ([16, 16], [8, 8], 6);
    let nearest = MpsLinear::from_linear(&dense.features, inputs, outputs, bond)?;
    task.report("nearest cores", &Compressed { features: nearest, output: dense.output.clone() });

    let mut moments = Moments::new(256);
    moments.add(&task.images.clone().try_to_vec_as::<f32>()?)?;
    let fitted = MpsLinear::fit(&dense.features, inputs, outputs, bond, &moments)?;
    let compressed = Compressed { features: fitted, output: dense.output };
    task.report("fitted cores", &compressed);
    task.report("fitted and trained", &task.train(compressed, 50));
    Ok(())
}
