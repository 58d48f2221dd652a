//! The table of `compress`, and what it says: where a smaller layer pays.

use burn::tensor::Device;
use serde::Serialize;

use super::super::{out, say};
use crate::Result;
use crate::bench::Subject;
use crate::bench::export::time;
use crate::bench::stats::{Effort, measure};
use crate::bench::workloads::{Pass, Rival, workload};
use crate::compress::Candidate;
use crate::mps::MpsSpec;
use crate::report::table::{self, thousands};
use crate::train::StopFlag;

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
    /// Its bond.
    pub bond: usize,
    /// Of the network with this layer, and those before it, replaced.
    pub parameters: usize,
    /// `‖W - W'‖ / ‖W‖`.
    pub weight_error: f64,
    /// The share of its outputs' deviation that is missed, if its inputs are known.
    pub output_error: Option<f64>,
    /// Of the same network as the parameters, on the test images, if there are any.
    pub accuracy: Option<f64>,
    /// Its extents.
    #[serde(skip)]
    pub spec: MpsSpec,
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
        let [own, rival] = times(row.spec, device, stop)?.map(time);
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
        let spec = candidate.spec(1);
        let bonds: Vec<usize> =
            rows.iter().filter(|row| row.layer == candidate.name).map(|row| row.bond).collect();
        say_where_it_pays(candidate, &bonds, break_even(spec, device, stop)?);
    }
    if rows.iter().any(|row| row.bond <= FROM_SCRATCH) {
        say!(
            "at a bond of {FROM_SCRATCH} or less, training a tensor network from the start (tnet-gpu train --bond K) \
             gives a better one than compressing"
        );
    }
    Ok(())
}

fn say_where_it_pays(candidate: &Candidate, bonds: &[usize], by_time: usize) {
    let spec = candidate.spec(1);
    let MpsSpec { m, n, j, l, .. } = spec;
    let parameters = spec.break_even_parameters();
    let upto = |bond: usize| match bond {
        0 => "at no bond".to_owned(),
        bond => format!("up to bond {bond}"),
    };
    let name = &candidate.name;
    say!(
        "{name} as {j}x{l} -> {m}x{n}: no more parameters than dense {}, no more multiply-adds {}, no slower on this \
         device {} or so",
        upto(parameters),
        upto(spec.break_even_multiply_adds()),
        upto(by_time)
    );
    let beyond: Vec<String> =
        bonds.iter().filter(|bond| **bond > parameters).map(usize::to_string).collect();
    if !beyond.is_empty() {
        say!("{name}: a bond of {} does not pay: the dense layer is smaller", beyond.join(", "));
    }
}

/// Median times in seconds of the forward pass of a layer and of the dense one, measured in turn.
fn times(spec: MpsSpec, device: &Device, stop: &StopFlag) -> Result<[f64; 2]> {
    const ROUNDS: usize = 3;
    let effort = Effort { warmup: 2, samples: Some(15), seconds: 0.0 };
    let subject = Subject::Layer(spec);
    let of = |rival| workload(Pass::Forward, rival, &subject, BATCH, device);
    let mut workloads = [of(None)?, of(Some(Rival::Dense))?];
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
fn break_even(spec: MpsSpec, device: &Device, stop: &StopFlag) -> Result<usize> {
    let (mut low, mut high) = (0, spec.full_bond() + 1);
    while low + 1 < high {
        let middle = usize::midpoint(low, high);
        let [own, dense] = times(MpsSpec { k: middle, ..spec }, device, stop)?;
        if own <= dense {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(low)
}
