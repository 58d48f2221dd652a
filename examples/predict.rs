//! Loads a trained network and tells what it takes the first test images for. The first argument is a run folder, or any
//! file that `tnet-gpu export` reads, the second a device (default: `auto`).
//!
//! ```text
//! cargo run --release --example predict -- runs/mps-bond1-1 cpu
//! ```

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use burn::tensor::{Tensor, TensorData};
use tnet_gpu::data::fashion_mnist;
use tnet_gpu::device::{self, DeviceChoice};
use tnet_gpu::net::Network;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let run = arguments.next().ok_or("expected a run folder")?;
    let choice = arguments.next().map_or(Ok(DeviceChoice::Auto), |name| name.parse())?;
    let opened = device::open(choice)?;
    println!("device: {}", opened.description);
    let network = Network::load(&run, &opened.device)?;

    // Images are rows of grey values from 0 to 1.
    let test = fashion_mnist::load(None, &mut |_| ())?.test;
    let (count, pixels) = (10, test.size());
    let grey = test.pixels[..count * pixels].iter().map(|&grey| f32::from(grey) / 255.0);
    let images = TensorData::new(grey.collect::<Vec<_>>(), [count, pixels]);
    let images = Tensor::<2>::from_data(images, &opened.device);
    for (prediction, label) in network.predict(images)?.iter().zip(&test.labels) {
        let share = 100.0 * prediction.probability;
        println!("class {} ({share:.1} %), labelled {label}", prediction.class);
    }
    Ok(())
}
