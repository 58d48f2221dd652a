//! The article's layer on one device, at batch 128: forward, backward and a training step, beside the
//! layer composed from Burn's operations and the dense layer it replaces.
//!
//! `cargo bench` measures the CPU, `TNET_BENCH_DEVICE=vulkan cargo bench` a GPU. This is what
//! `tnet-gpu bench` does with fewer options; `benches/peers/` times other frameworks.

#![expect(clippy::print_stdout, reason = "the table goes to standard output")]

use tnet_gpu::bench::ceilings::Ceilings;
use tnet_gpu::bench::stats::Effort;
use tnet_gpu::bench::workloads::{Pass, Rival};
use tnet_gpu::bench::{self, Grid, export};
use tnet_gpu::device;

// Arguments are not looked at: cargo passes `--bench`.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let choice = std::env::var("TNET_BENCH_DEVICE").unwrap_or_else(|_| "cpu".into());
    let opened = device::open(choice.parse()?)?;
    opened.device.seed(200);

    let grid = Grid {
        in_factors: [28, 28],
        out_factors: [32, 16],
        bonds: vec![1, 4, 16],
        batches: vec![128],
        passes: vec![Pass::Forward, Pass::Backward, Pass::Step],
        rivals: vec![Rival::Composed, Rival::Dense],
        strategies: Vec::new(),
        network: None,
    };
    let effort = Effort { warmup: 3, samples: None, seconds: 0.5 };
    let ceilings = Ceilings::measure(&opened.device)?;
    let report = bench::run(&[grid], &effort, &opened, ceilings, None, &mut |_| {})?;
    print!("{}", export::markdown(&report));
    Ok(())
}
