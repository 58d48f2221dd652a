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
//! - `compare`: the figures of `compare` are those of the runs, in every form, and what cannot be compared is refused.
//! - `compilers`: AMD's compiler fits every kernel for GPUs into its registers, without a GPU.
//! - `completions`: bash and zsh complete commands, options, values and files.
//! - `compress`: the cores nearest to a matrix, and those fitted to its inputs, are what plain loops in f64 say.
//! - `compress_chains`: a matrix as a chain, padded or not, is what TT-SVD promises, and a fit of one is that of two cores.
//! - `compressing`: the table of `compress` is right, and the run that it begins is like any other.
//! - `devices`: devices are listed; one that cannot be had is an error.
//! - `disks`: disks without syncs or locks, few threads and little memory are met, or told in one line.
//! - `eval`: a checkpoint has the accuracy that its run reported, on its own data; another set must be asked for.
//! - `export`: what is exported computes the same in another runtime, and is read back as it was.
//! - `faults`: a full disk, a link, a second process or a lost device costs no checkpoint.
//! - `folders`: litter, marks of spreadsheets and paths one level off are taken for what is meant.
//! - `help`: the examples of every help text work, and every command has a manual page.
//! - `images`: class folders and NumPy archives train as IDX files do; what is wrong with one is told in one line.
//! - `launches`: a training step launches what it should, and fills no buffer.
//! - `layer`: the layer agrees with its f64 reference, as an operation and through autodiff.
//! - `matmul`: the matrix products for software adapters agree with a loop in f64.
//! - `models`: files of networks, of this program and of others, are read for what they are or refused.
//! - `net`: any stack of layers has its shapes, counts, initial weights and gradients, and is kept in files.
//! - `networks`: networks of options and files are trained, resumed, evaluated, benchmarked; others are refused.
//! - `page`: an exported page holds the network and asks for nothing, and what cannot be one is refused.
//! - `paths`: paths of any bytes work, and what is printed of them can be pasted.
//! - `pooling`: a convolution and the pooling after it in one pass are what they are one after the other.
//! - `predict`: images of every kind are answered as `eval` would, and what is no image costs one line.
//! - `report`: the files of a report agree with each other, and names of classes are text in all of them.
//! - `resume`: a run that was stopped or killed ends as if it had not been, to the bit.
//! - `shaders`: the WGSL files are valid and agree with the Rust side.
//! - `signals`: a hangup ends a run in good order, and what was ignored stays ignored.
//! - `soak`: memory does not grow over thousands of steps (not run by default).
//! - `step`: a whole training step is that of Burn's autodiff.
//! - `strategies`: every strategy is right, and the one that is printed is the one that ran.
//! - `streams`: no colours in files, no line but the program's own.
//! - `train`: a training run learns, and leaves what it should in its folder.
//! - `training_ops`: each operation of a training step agrees with Burn's or with plain loops.
//! - `tuning`: what was measured on a GPU is kept, and a run computes by it to the end.
//! - `verify`: the check of a device reports every case, and fails where a number is off.
//!
//! Tests in a module `vulkan` run on the Vulkan adapter, llvmpipe where there is no GPU. Without any
//! adapter they say that they were skipped; `TNET_REQUIRE_ADAPTER=1` turns that into a failure. So do
//! `TNET_REQUIRE_DATA=1` where Fashion-MNIST is not on the machine, and `TNET_REQUIRE_ZSH=1` where zsh is not.
//!
//! No test expects anything to be fast: what it waits for is an event, and a deadline only ends a hang.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helper fails by panicking")]

#[macro_use]
mod common;

mod accuracy;
mod adam;
mod any_network;
mod archives;
mod bad_data;
mod bench;
mod chain;
mod checkpoints;
mod cli;
mod compare;
#[cfg(target_os = "linux")]
mod compilers;
#[cfg(unix)]
mod completions;
mod compress;
mod compress_chains;
mod compressing;
mod devices;
#[cfg(target_os = "linux")]
mod disks;
mod eval;
mod export;
mod faults;
mod folders;
#[cfg(unix)]
mod help;
mod images;
#[cfg(target_os = "linux")]
mod launches;
mod layer;
mod loss;
mod matmul;
mod models;
mod net;
mod networks;
#[cfg(target_os = "linux")]
mod page;
mod paths;
mod pooling;
mod predict;
mod report;
mod resume;
mod shaders;
#[cfg(unix)]
mod signals;
mod soak;
mod step;
mod strategies;
mod streams;
mod sweep;
mod table;
mod train;
mod training_ops;
#[cfg(target_os = "linux")]
mod tuning;
mod verify;
