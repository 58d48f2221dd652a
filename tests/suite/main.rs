//! The promises that one part alone cannot keep. One executable, because linking Burn takes longer than
//! running most of these.
//!
//! - `accuracy`: two epochs on the real Fashion-MNIST reach the accuracy that a user expects.
//! - `any_network`: networks drawn at random are computed, counted and kept, and damaged files of them refused.
//! - `archives`: data sets are read as they were published and unpacked, or what is there is named.
//! - `bad_data`: damaged data files are refused with one line.
//! - `bench`: every row is measured and exported.
//! - `checkpoints`: damaged and forged checkpoints are refused, and a run resumes from a whole one.
//! - `cli`: wrong options are refused before anything is done.
//! - `devices`: devices are listed; one that cannot be had is an error.
//! - `eval`: a checkpoint has the accuracy that its run reported.
//! - `faults`: a full disk, a link, a second process or a lost device costs no checkpoint.
//! - `layer`: the layer agrees with its f64 reference, as an operation and through autodiff.
//! - `matmul`: the matrix products for software adapters agree with a loop in f64.
//! - `net`: any stack of layers has its shapes, counts, initial weights and gradients, and is kept in files.
//! - `networks`: networks of options and files are trained, resumed, evaluated, benchmarked; others are refused.
//! - `resume`: a run that was stopped or killed ends as if it had not been, to the bit.
//! - `shaders`: the WGSL files are valid and agree with the Rust side.
//! - `soak`: memory does not grow over thousands of steps (not run by default).
//! - `step`: a whole training step is that of Burn's autodiff.
//! - `strategies`: every strategy is right, and the one that is printed is the one that ran.
//! - `train`: a training run learns, and leaves what it should in its folder.
//! - `training_ops`: each operation of a training step agrees with Burn's or with plain loops.
//! - `verify`: the check of a device reports every case, and fails where a number is off.
//!
//! Tests in a module `vulkan` run on the Vulkan adapter, llvmpipe where there is no GPU. Without any
//! adapter they say that they were skipped; `TNET_REQUIRE_ADAPTER=1` turns that into a failure. So does
//! `TNET_REQUIRE_DATA=1` where Fashion-MNIST is not on the machine.
//!
//! No test expects anything to be fast: what it waits for is an event, and a deadline only ends a hang.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helper fails by panicking")]

#[macro_use]
mod common;

mod accuracy;
mod any_network;
mod archives;
mod bad_data;
mod bench;
mod checkpoints;
mod cli;
mod devices;
mod eval;
mod faults;
mod layer;
mod matmul;
mod net;
mod networks;
mod resume;
mod shaders;
mod soak;
mod step;
mod strategies;
mod train;
mod training_ops;
mod verify;
