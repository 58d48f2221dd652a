//! How long one image takes.

use burn::tensor::{Device, Tensor};

use crate::Result;
use crate::bench::stats::{Effort, Workload, measure};
use crate::net::{Network, Shape, features};

/// Time for one row: 40 samples or more of a small network.
const EFFORT: Effort = Effort { warmup: 5, samples: None, seconds: 0.1 };

/// The time in seconds, the median of many, from one image on the device to its probabilities on the host.
///
/// # Errors
///
/// [`crate::Error::Shape`] when the network does not take images of this shape, [`crate::Error::Compute`] when the device
/// fails.
pub fn latency(network: &Network, input: Shape, device: &Device) -> Result<f64> {
    let image = Tensor::zeros([1, features(input)], device);
    let mut one = One { network, image, times: 0 };
    Ok(measure(&EFFORT, &mut one)?.median_s)
}

/// One image after the other.
struct One<'a> {
    network: &'a Network,
    image: Tensor<2>,
    times: usize,
}

impl Workload for One<'_> {
    fn prepare(&mut self, executions: usize) -> Result<()> {
        self.times = executions;
        Ok(())
    }

    fn execute(&mut self) -> Result<()> {
        for _ in 0..self.times {
            self.network.probabilities(self.image.clone())?;
        }
        Ok(())
    }
}
