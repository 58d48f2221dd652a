//! The table of `compress`, and what it says: where a smaller layer pays.

use burn::tensor::{Device, Distribution, Tensor};
use serde::Serialize;

use super::super::{out, say};
use crate::bench::Subject;
use crate::bench::export::time;
use crate::bench::stats::{Effort, Workload, measure};
use crate::bench::workloads::{Pass, Rival, workload};
use crate::compress::{By, Candidate};
use crate::mps::{MpsInit, MpsSpec};
use crate::net::{Kind, Mps, Network, Stack};
use crate::report::table::{self, thousands};
use crate::train::StopFlag;
use crate::{Error, Result};

/// Images of a layer that is timed.
const BATCH: usize = 128;

/// The largest bond at which training a tensor network from the start was measured to give the better one
/// (docs/benchmarks.md).
const FROM_SCRATCH: usize = 16;

/// The network with dense layers.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Dense {
    /// Of the network.
    pub parameters: usize,
    /// On the test images, if there are any.
    pub accuracy: Option<f64>,
}

/// A layer that was replaced.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Its name before.
    pub layer: String,
    /// Its bond, the largest of a chain.
    pub bond: usize,
    /// The bonds between its cores.
    pub bonds: Vec<usize>,
    /// The extents of its input.
    pub in_factors: Vec<usize>,
    /// The extents of its output.
    pub out_factors: Vec<usize>,
    /// Zeros after its inputs and outputs, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pad: Option<[usize; 2]>,
    /// Of the network with this layer, and those before it, replaced.
    pub parameters: usize,
    /// `‖W - W'‖ / ‖W‖`.
    pub weight_error: f64,
    /// The share of its outputs' deviation that is missed, if its inputs are known.
    pub output_error: Option<f64>,
    /// Of the same network as the parameters, on the test images, if there are any.
    pub accuracy: Option<f64>,
    /// The layer, which is timed.
    #[serde(skip)]
    pub timed: Mps,
}

/// Prints the rows, with the time of every layer beside the dense one on this device, and what follows from them.
pub fn print(
    candidates: &[Candidate],
    dense: Dense,
    rows: &[Row],
    device: &Device,
    stop: &StopFlag,
) -> Result<()> {
    let header = [
        "layer",
        "bond",
        "parameters",
        "of dense",
        "weight error",
        "output error",
        "accuracy",
        "time",
        "dense",
    ];
    let mut table = table::new(&header, true);
    let share =
        |number: Option<f64>| number.map_or_else(String::new, |number| format!("{number:.4}"));
    let (parameters, accuracy) = (thousands(dense.parameters), share(dense.accuracy));
    table.add_row(["dense", "", &parameters, "100.00 %", "", "", &accuracy, "", ""]);
    for row in rows {
        let [own, rival] = times(&row.timed, device, stop)?.map(time);
        table.add_row([
            row.layer.clone(),
            row.bond.to_string(),
            thousands(row.parameters),
            format!("{:.2} %", 100.0 * row.parameters as f64 / dense.parameters as f64),
            share(Some(row.weight_error)),
            share(row.output_error),
            share(row.accuracy),
            own,
            rival,
        ]);
    }
    out(&table.to_string())?;

    say!("time: forward pass of the layer, and of the dense one, batch {BATCH}");
    for candidate in candidates {
        let bonds: Vec<usize> =
            rows.iter().filter(|row| row.layer == candidate.name).map(|row| row.bond).collect();
        say_where_it_pays(candidate, &bonds, break_even(candidate, device, stop)?);
    }
    // Of chains that has not been measured.
    if rows.iter().any(|row| row.bonds.len() == 1 && row.bond <= FROM_SCRATCH) {
        say!(
            "at a bond of {FROM_SCRATCH} or less, training a tensor network from the start (tnet-gpu train --bond K) \
             gives a better one than compressing"
        );
    }
    Ok(())
}

fn say_where_it_pays(candidate: &Candidate, bonds: &[usize], by_time: usize) {
    let layer = candidate.layer(1, By::Data);
    let (parameters, multiply_adds) = match plain(&layer) {
        Some(spec) => (spec.break_even_parameters(), spec.break_even_multiply_adds()),
        None => {
            let [inputs, outputs] = widths(&layer);
            let below = |counts: &dyn Fn(&Mps) -> usize, dense: usize| {
                let full = candidate.full_bond();
                let fits = |bond: &usize| counts(&candidate.layer(*bond, By::Data)) <= dense;
                (1..=full).rev().find(fits).unwrap_or(0)
            };
            let input = [1, 1, inputs];
            let parameters = |layer: &Mps| layer.chain().parameters();
            let multiply_adds = |layer: &Mps| layer.multiply_adds(input).forward;
            let matrix = inputs * outputs;
            (below(&parameters, matrix + outputs), below(&multiply_adds, matrix))
        }
    };
    let upto = |bond: usize| match bond {
        0 => "at no bond".to_owned(),
        bond => format!("up to bond {bond}"),
    };
    let name = &candidate.name;
    say!(
        "{name} as {} -> {}: no more parameters than dense {}, no more multiply-adds {}, no slower on this \
         device {} or so",
        joined(&layer.in_factors),
        joined(&layer.out_factors),
        upto(parameters),
        upto(multiply_adds),
        upto(by_time)
    );
    let beyond: Vec<String> =
        bonds.iter().filter(|bond| **bond > parameters).map(usize::to_string).collect();
    if !beyond.is_empty() {
        say!("{name}: a bond of {} does not pay: the dense layer is smaller", beyond.join(", "));
    }
}

fn joined(factors: &[usize]) -> String {
    factors.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

/// The extents of a layer of two cores without padding.
fn plain(layer: &Mps) -> Option<MpsSpec> {
    layer.two_cores().filter(|_| layer.pad == [0, 0])
}

/// Inputs and outputs of a layer.
fn widths(layer: &Mps) -> [usize; 2] {
    [layer.chain().input() - layer.pad[0], layer.outputs()]
}

/// The forward pass of a chain.
struct Alone {
    network: Network,
    x: Tensor<2>,
    executions: usize,
}

impl Alone {
    fn new(layer: &Mps, device: &Device) -> Result<Self> {
        let [inputs, _] = widths(layer);
        let stack = Stack { input: [1, 1, inputs], layers: vec![layer.clone().into()] };
        let network = Network::new(&stack, &stack.draw(MpsInit::He, 1)?, device)?;
        let uniform = Distribution::Uniform(0.0, 1.0);
        Ok(Self { network, x: Tensor::random([BATCH, inputs], uniform, device), executions: 0 })
    }

    fn wait(&self) -> Result<()> {
        let waited = self.x.device().sync();
        waited.map_err(|error| Error::compute("waiting for the device", error))
    }
}

impl Workload for Alone {
    fn prepare(&mut self, executions: usize) -> Result<()> {
        self.executions = executions;
        self.wait()
    }

    fn execute(&mut self) -> Result<()> {
        // Outputs are kept until the end; otherwise Burn might never compute them.
        let mut outputs = Vec::with_capacity(self.executions);
        for _ in 0..self.executions {
            outputs.push(self.network.logits(self.x.clone())?);
        }
        self.wait()
    }
}

/// Median times in seconds of the forward pass of a layer and of the dense one, measured in turn.
fn times(layer: &Mps, device: &Device, stop: &StopFlag) -> Result<[f64; 2]> {
    const ROUNDS: usize = 3;
    let effort = Effort { warmup: 2, samples: Some(15), seconds: 0.0 };
    let [inputs, outputs] = widths(layer);
    let of = |spec: MpsSpec, rival: Option<Rival>| {
        workload(Pass::Forward, rival, &Subject::Layer(spec), BATCH, device)
    };
    let own = match plain(layer) {
        Some(spec) => of(spec, None)?,
        None => Box::new(Alone::new(layer, device)?),
    };
    let dense = MpsSpec { m: outputs, n: 1, j: inputs, l: 1, k: 1 };
    let mut workloads = [own, of(dense, Some(Rival::Dense))?];
    let mut medians = [[0.0; ROUNDS]; 2];
    for round in 0..ROUNDS {
        stop.check()?;
        for (workload, medians) in workloads.iter_mut().zip(&mut medians) {
            medians[round] = measure(&effort, &mut **workload)?.median_s;
        }
    }
    Ok(medians.map(|mut medians| {
        medians.sort_by(f64::total_cmp);
        medians[ROUNDS / 2]
    }))
}

/// The largest bond at which a layer is measured to be no slower than the dense one; 0 if there is none.
fn break_even(candidate: &Candidate, device: &Device, stop: &StopFlag) -> Result<usize> {
    let (mut low, mut high) = (0, candidate.full_bond() + 1);
    while low + 1 < high {
        let middle = usize::midpoint(low, high);
        let [own, dense] = times(&candidate.layer(middle, By::Data), device, stop)?;
        if own <= dense {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(low)
}
