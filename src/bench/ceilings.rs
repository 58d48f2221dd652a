//! What a device can do at most: multiply-adds per second, bytes copied per second, and the time of one
//! launch. Measured in the same run as the rows, with small kernels of our own.

use std::time::Instant;

use burn::backend::DispatchDevice;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::{Device, Distribution, Tensor, TensorData};
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use rayon::prelude::*;
use serde::Serialize;

use crate::op::gpu::launch::launch;
use crate::op::gpu::params::{CeilingCopyParams, CeilingFmaParams};
use crate::{Error, Result};

/// Multiply-adds per iteration of `ceiling_fma.wgsl`: 32 of vec4.
const FMA_ITERATION: f64 = 128.0;

/// Bytes of the buffer that is copied: larger than the caches of most GPUs, and half of what WebGPU
/// guarantees for one binding.
const COPY_BYTES: usize = 64 << 20;

/// Most iterations of a kernel's loop; see [`crate::mps::plan::MAX_ITERATIONS`] on llvmpipe's limit.
const MOST_ITERATIONS: u32 = 60_000;

/// Least duration of a measurement in seconds; a shorter one would measure the launch.
const LONG_ENOUGH: f64 = 0.05;

/// Repetitions, of which the best counts, because this is a ceiling.
const REPETITIONS: usize = 5;

/// What a device can do at most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ceilings {
    /// Floating-point operations per second, in 10⁹; a multiply-add counts as two.
    pub gflops: f64,
    /// Bytes read and written per second by a copy, in 10⁹.
    pub gbps: f64,
    /// Time of one launch of many, in seconds.
    pub launch_s: f64,
}

impl Ceilings {
    /// Measures a device.
    ///
    /// # Errors
    ///
    /// [`Error::Compute`] when the device fails.
    pub fn measure(device: &Device) -> Result<Self> {
        match device.as_dispatch() {
            DispatchDevice::Cube(cube) => {
                let zeros = |count: usize| {
                    CubeBackend::float_from_data(TensorData::zeros::<f32, _>([count]), cube)
                };
                let gpu = Gpu {
                    device,
                    output: zeros(1 << 16),
                    copy: [0; 2].map(|_| zeros(COPY_BYTES / 4)),
                };
                gpu.measure()
            }
            _ => cpu(device),
        }
    }
}

/// The shortest of several times, in seconds.
fn best(mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    run()?;
    let mut best = f64::INFINITY;
    for _ in 0..REPETITIONS {
        let started = Instant::now();
        run()?;
        best = best.min(started.elapsed().as_secs_f64());
    }
    Ok(best)
}

struct Gpu<'a> {
    device: &'a Device,
    output: CubeTensor,
    copy: [CubeTensor; 2],
}

impl Gpu<'_> {
    fn wait(&self) -> Result<()> {
        self.device.sync().map_err(|error| Error::compute("measuring the device", error))
    }

    fn measure(&self) -> Result<Ceilings> {
        let [input, output] = &self.copy;
        let copy = |count: u32| {
            launch(count as usize, &[input], output, &CeilingCopyParams { count });
        };
        let copied = best(|| {
            copy((COPY_BYTES / 16) as u32);
            self.wait()
        })?;
        let launches = 256;
        let launched = best(|| {
            (0..launches).for_each(|_| copy(1));
            self.wait()
        })?;
        Ok(Ceilings {
            gflops: self.multiply_adds()? * 2e-9,
            gbps: 2.0 * COPY_BYTES as f64 / copied * 1e-9,
            launch_s: launched / launches as f64,
        })
    }

    /// Multiply-adds per second, with enough iterations for a measurement.
    fn multiply_adds(&self) -> Result<f64> {
        let invocations = 1_u32 << 16;
        let mut iterations = 64;
        loop {
            let seconds = best(|| {
                let params = CeilingFmaParams { invocations, iterations };
                launch(invocations as usize, &[], &self.output, &params);
                self.wait()
            })?;
            if seconds >= LONG_ENOUGH || iterations == MOST_ITERATIONS {
                return Ok(f64::from(invocations) * f64::from(iterations) * FMA_ITERATION / seconds);
            }
            iterations = (iterations * 4).min(MOST_ITERATIONS);
        }
    }
}

/// The CPU device: a large matrix product, a copy by all threads, and, as a launch, an addition of two
/// numbers.
fn cpu(device: &Device) -> Result<Ceilings> {
    let size = 1024;
    let matrix = || Tensor::<2>::random([size; 2], Distribution::Uniform(0.0, 1.0), device);
    let (lhs, rhs) = (matrix(), matrix());
    let multiplied = best(|| {
        std::hint::black_box(lhs.clone().matmul(rhs.clone()));
        Ok(())
    })?;
    let input = vec![1_u8; COPY_BYTES];
    let mut output = vec![0_u8; COPY_BYTES];
    let copied = best(|| {
        let chunk = COPY_BYTES / rayon::current_num_threads();
        output
            .par_chunks_mut(chunk)
            .zip(input.par_chunks(chunk))
            .for_each(|(output, input)| output.copy_from_slice(input));
        std::hint::black_box(&mut output);
        Ok(())
    })?;
    let one = Tensor::<1>::ones([1], device);
    let additions = 1000;
    let added = best(|| {
        (0..additions).for_each(|_| drop(std::hint::black_box(one.clone() + one.clone())));
        Ok(())
    })?;
    Ok(Ceilings {
        gflops: 2.0 * (size as f64).powi(3) / multiplied * 1e-9,
        gbps: 2.0 * COPY_BYTES as f64 / copied * 1e-9,
        launch_s: added / additions as f64,
    })
}
