//! `tnet-gpu bench`: benchmarks the layer against the same layer composed from Burn's operations,
//! against the dense layer that it replaces, and against what the device can do at most.

pub mod ceilings;
pub mod count;
pub mod export;
pub mod stats;
pub mod workloads;

use std::panic::{self, AssertUnwindSafe};
use std::time::Instant;

use burn::tensor::Device;
use serde::{Serialize, Serializer};

use crate::device::{Adapter, OpenDevice};
use crate::mps::MpsSpec;
use crate::mps::strategy::Strategy;
use crate::net::{Layer, Model, Placed, Preset, Stack};
use crate::op::gpu::launch::launches;
use crate::train::memory::Place;
use crate::{Error, Result, memory, op};
use ceilings::Ceilings;
use count::{Bound, Work};
use stats::{Effort, Samples, Workload};
use workloads::{Pass, Rival};

/// Version of the exported form.
pub const FORMAT: u32 = 1;

/// Which rows to measure.
#[derive(Debug, Clone)]
pub struct Grid {
    /// Extents `[J, L]`.
    pub in_factors: [usize; 2],
    /// Extents `[M, N]`.
    pub out_factors: [usize; 2],
    /// Sizes of the bond.
    pub bonds: Vec<usize>,
    /// Samples per execution.
    pub batches: Vec<usize>,
    /// What is timed.
    pub passes: Vec<Pass>,
    /// What it is compared with.
    pub rivals: Vec<Rival>,
    /// Strategies that get a row each, in addition to the plan's choice.
    pub strategies: Vec<Strategy>,
    /// A network whose steps are timed, instead of the layer and the article's network with it.
    pub network: Option<Stack>,
}

/// What a row is about.
#[derive(Debug, Clone, PartialEq)]
pub enum Subject {
    /// A layer; for a step, the article's network with this first layer.
    Layer(MpsSpec),
    /// A network.
    Network(Stack),
}

impl Subject {
    /// The size of the bond, if there is one.
    pub fn bond(&self) -> Option<usize> {
        match self {
            Self::Layer(spec) => Some(spec.k),
            Self::Network(_) => None,
        }
    }

    /// The network whose step is timed.
    ///
    /// # Errors
    ///
    /// [`Error::Layer`] for an impossible one.
    pub fn network(&self) -> Result<Stack> {
        match self {
            Self::Layer(spec) => Preset {
                model: Model::Mps,
                bond: vec![spec.k],
                hidden: vec![spec.outputs(), 512],
                in_factors: Some(vec![spec.j, spec.l]),
                out_factors: Some(vec![spec.m, spec.n]),
                ..Preset::default()
            }
            .stack([1, spec.j, spec.l], CLASSES),
            Self::Network(stack) => Ok(stack.clone()),
        }
    }
}

/// Classes of the article's data.
const CLASSES: usize = 10;

impl Grid {
    /// What the rows are about, checked.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for an impossible layer, and for a pass that a network does not have.
    pub fn check(&self) -> Result<Vec<Subject>> {
        let Some(network) = &self.network else {
            let layer = |&bond: &usize| MpsSpec::new(self.in_factors, self.out_factors, bond);
            let layers = self.bonds.iter().map(layer);
            return layers.map(|layer| layer.map(Subject::Layer)).collect();
        };
        network.check()?;
        let is_step = |pass: &&Pass| matches!(pass, Pass::Step | Pass::StepDense);
        match self.passes.iter().find(|pass| !is_step(pass)) {
            None => Ok(vec![Subject::Network(network.clone())]),
            Some(pass) => {
                let problem =
                    format!("{pass}: of a network, only step and step_dense can be timed");
                Err(Error::argument("pass", problem))
            }
        }
    }

    fn variants(&self, pass: Pass) -> Vec<Variant> {
        // A dense network has no strategies, and itself as the only dense rival.
        let dense = pass == Pass::StepDense;
        let forced = if dense { &[] } else { &self.strategies[..] };
        let rivals = self.rivals.iter().copied().filter(|&rival| !(dense && rival == Rival::Dense));
        let rivals = rivals.map(Variant::Rival);
        std::iter::once(Variant::Fused)
            .chain(forced.iter().copied().map(Variant::Forced))
            .chain(rivals)
            .collect()
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        let variants: usize = self.passes.iter().map(|&pass| self.variants(pass).len()).sum();
        let subjects = if self.network.is_some() { 1 } else { self.bonds.len() };
        variants * self.batches.len() * subjects
    }
}

/// What computes a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// The layer as the plan computes it.
    Fused,
    /// The layer by a given strategy, whether or not the plan picks it.
    Forced(Strategy),
    /// A rival.
    Rival(Rival),
}

impl std::fmt::Display for Variant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fused => f.pad("fused"),
            Self::Forced(strategy) => f.pad(&format!("fused:{strategy}")),
            Self::Rival(Rival::Composed) => f.pad("composed"),
            Self::Rival(Rival::Dense) => f.pad("dense"),
        }
    }
}

impl Serialize for Variant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One row: what was timed, and its figures or the reason why there are none.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// What was timed.
    pub pass: Pass,
    /// What computed it.
    pub variant: Variant,
    /// Size of the bond. A dense layer has none; its row is repeated for each bond. Nor has a network.
    pub bond: Option<usize>,
    /// Samples per execution.
    pub batch: usize,
    /// How the plan computes it, if it is this crate's operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// The figures, unless it failed.
    #[serde(flatten)]
    pub figures: Option<Figures>,
    /// Why it failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Row {
    /// Whether the samples vary so much that the figures are doubtful.
    pub fn is_wide(&self) -> bool {
        self.figures.is_some_and(|figures| figures.samples.is_wide())
    }
}

/// The figures of a row.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figures {
    /// Times of one execution.
    #[serde(flatten)]
    pub samples: Samples,
    /// Operations per second at the median, in 10⁹.
    pub gflops: f64,
    /// Bytes per second at the median, in 10⁹.
    pub gbps: f64,
    /// What limits the row.
    pub bound: Bound,
    /// Share of that limit which the median reaches; at most 1, except for measurement errors.
    pub fraction: f64,
    /// Launches of this crate's kernels, on an adapter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub launches: Option<u64>,
    /// The time that was expected of them, in seconds: see docs/gpu.md.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted_s: Option<f64>,
}

/// Everything that was measured; this is the exported JSON.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Version of this form.
    pub version: u32,
    /// Description of the device.
    pub device: String,
    /// The adapter, if it is not the CPU device.
    pub adapter: Option<Adapter>,
    /// What the device can do at most.
    pub ceilings: Ceilings,
    /// The rows, in the order in which they were measured.
    pub rows: Vec<Row>,
}

impl Report {
    /// The figures of this crate's layer in the case of `row`.
    pub fn fused(&self, row: &Row) -> Option<Figures> {
        let case = |row: &Row| (row.pass, row.bond, row.batch);
        let fused = |other: &&Row| other.variant == Variant::Fused && case(other) == case(row);
        self.rows.iter().find(fused).and_then(|row| row.figures)
    }
}

/// Measures the rows of the grids in order and calls `follow` after each row. A row that fails says
/// why, and the next one is measured. After `until` no measurement is started, and the remaining rows
/// say so.
///
/// # Errors
///
/// [`Error::Argument`] for an impossible layer.
pub fn run(
    grids: &[Grid],
    effort: &Effort,
    opened: &OpenDevice,
    ceilings: Ceilings,
    until: Option<Instant>,
    follow: &mut dyn FnMut(&Row),
) -> Result<Report> {
    let mut rows = Vec::new();
    for grid in grids {
        let subjects = grid.check()?;
        for &pass in &grid.passes {
            for &batch in &grid.batches {
                for subject in &subjects {
                    for variant in grid.variants(pass) {
                        let case = Case { pass, variant, subject, batch };
                        let row = match until {
                            Some(until) if Instant::now() >= until => {
                                case.failed("not measured: time ran out".into())
                            }
                            _ => case.measure(effort, opened, &ceilings),
                        };
                        follow(&row);
                        rows.push(row);
                    }
                }
            }
        }
    }
    Ok(Report {
        version: FORMAT,
        device: opened.description.clone(),
        adapter: opened.adapter.clone(),
        ceilings,
        rows,
    })
}

/// Launches of one execution.
fn launched(workload: &mut dyn Workload) -> Result<u64> {
    workload.prepare(1)?;
    let before = launches();
    workload.execute()?;
    Ok(launches() - before)
}

/// What one row measures.
struct Case<'a> {
    pass: Pass,
    variant: Variant,
    subject: &'a Subject,
    batch: usize,
}

impl Case<'_> {
    fn failed(&self, error: String) -> Row {
        Row {
            pass: self.pass,
            variant: self.variant,
            bond: self.subject.bond(),
            batch: self.batch,
            plan: None,
            figures: None,
            error: Some(error),
        }
    }

    /// The plans by which the layer is executed, in words, or those of a network's tensor layers; a dense network has none.
    fn plan(&self, device: &Device) -> Option<String> {
        let Self { pass, subject, batch, .. } = self;
        let spec = match subject {
            Subject::Layer(spec) => spec,
            Subject::Network(network) if *pass == Pass::Step => {
                return plan_of_network(network, *batch, device);
            }
            Subject::Network(_) => return None,
        };
        let forward = || op::forward_plan(spec, *batch, device);
        let grads = || op::grads_plan(spec, *batch, device);
        match pass {
            Pass::Forward => Some(forward()),
            Pass::Backward => Some(grads()),
            Pass::BackwardX => {
                Some(format!("{}; grad_x {}", grads(), op::grad_x_plan(spec, *batch, device)))
            }
            Pass::Step => Some(format!("{}; gradients {}", forward(), grads())),
            Pass::StepDense => None,
        }
    }

    fn measure(&self, effort: &Effort, opened: &OpenDevice, ceilings: &Ceilings) -> Row {
        let Self { pass, variant, subject, batch } = self;
        let (rival, forced) = match *variant {
            Variant::Fused => (None, None),
            Variant::Forced(strategy) => (None, Some(strategy)),
            Variant::Rival(rival) => (Some(rival), None),
        };
        let before = if forced.is_some() { op::force_strategy(forced) } else { None };
        // Burn and drivers panic when memory runs out; the next row may be smaller.
        let measured = panic::catch_unwind(AssertUnwindSafe(|| {
            let work = Work::of(*pass, rival, subject, *batch)?;
            if Place::of(opened) != Place::Card {
                memory::check("this row", work.bytes as u64)?;
            }
            let mut workload = workloads::workload(*pass, rival, subject, *batch, &opened.device)?;
            let samples = stats::measure(effort, workload.as_mut())?;
            let plan = rival.is_none().then(|| self.plan(&opened.device)).flatten();
            let launches = match (rival, &opened.adapter) {
                (None, Some(_)) => Some(launched(workload.as_mut())?),
                _ => None,
            };
            Ok((samples, plan, work, launches))
        }));
        if forced.is_some() {
            op::force_strategy(before);
        }
        let measured = measured.unwrap_or_else(|_| {
            Err(Error::compute("measuring a row", "it may need more memory than the device has"))
        });
        let (samples, plan, work, launches) = match measured {
            Ok(measured) => measured,
            Err(error) => return self.failed(error.to_string()),
        };
        let (shortest, bound) = work.bound(ceilings);
        let figures = Figures {
            samples,
            gflops: work.flops / samples.median_s * 1e-9,
            gbps: work.bytes / samples.median_s * 1e-9,
            bound,
            fraction: shortest / samples.median_s,
            launches,
            predicted_s: launches.map(|launches| work.predicted(launches, ceilings)),
        };
        Row { plan, figures: Some(figures), error: None, ..self.failed(String::new()) }
    }
}

/// How the tensor layers of a network are computed, by their names.
fn plan_of_network(network: &Stack, batch: usize, device: &Device) -> Option<String> {
    let plan = |placed: Placed| {
        let Layer::Mps(layer) = placed.layer else { return None };
        let chain = layer.chain();
        let plan = match chain.two_cores() {
            Some(spec) => op::forward_plan(&spec, batch, device),
            None => op::chain::chain_plan(&chain, batch, device),
        };
        Some(format!("{} {plan}", placed.name))
    };
    let plans: Vec<String> = network.placed().ok()?.into_iter().filter_map(plan).collect();
    (!plans.is_empty()).then(|| plans.join("; "))
}
