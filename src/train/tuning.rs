//! Which of several right ways is the fastest on this device, for this network and batch: measured in training steps.
//!
//! On a GPU the plan's estimates may be off, and nobody can try every card. A run that is resumed must take the same
//! ways again, since their roundings differ; so they are kept with it.

use std::time::{Duration, Instant};

use burn::tensor::Device;

use super::evaluation::Tally;
use super::{Learner, Schedule, TrainConfig};
use crate::Result;
use crate::data::{ImageSet, Resident};
use crate::mps::MpsSpec;
use crate::mps::strategy::Strategy;
use crate::net::{Layer, features};
use crate::op::choice::{Choices, LayerChoice, Pass, Product, choose};
use crate::op::{forward_plan, grad_x_plan, grads_plan};

/// Steps before a measurement, in which kernels are compiled.
const WARM_UP: usize = 3;

/// Least time of one measurement: that of a step is known to some 3 %.
const LEAST: Duration = Duration::from_millis(10);

/// Measurements of each of two choices, in turn.
const ROUNDS: usize = 5;

/// A choice must take less than this part of the time of the other one to take its place.
const BETTER: f64 = 0.97;

/// Steps of a schedule, after which it begins again.
const STEPS: usize = 8;

/// Most numbers of a matrix that is worth rebuilding.
const MOST_REBUILT: usize = 32 << 20;

/// Measures the choices that there are for a network, and returns the best ones; what was chosen before is chosen again
/// then. Asks `go_on` between measurements, and tells each of them.
///
/// # Errors
///
/// [`crate::Error::Layer`] for an impossible network, [`crate::Error::Compute`] when the device fails, and that of `go_on`.
pub fn tune(
    config: &TrainConfig,
    device: &Device,
    go_on: &dyn Fn() -> Result<()>,
    tell: &mut dyn FnMut(&str),
) -> Result<Choices> {
    let before = choose(Choices::default());
    let best = Measured::new(config, device).and_then(|mut measured| {
        let mut best = Choices::default();
        for (what, choices) in alternatives(config, device)? {
            go_on()?;
            let other = choices(&best);
            let [now, then] = measured.compare(&best, &other)?;
            let [now_ms, then_ms] = [now, then].map(|time| time.as_secs_f64() * 1e3);
            let better = then_ms < BETTER * now_ms;
            let verdict = if better { "taken" } else { "left" };
            tell(&format!("{what}: {then_ms:.3} ms a step instead of {now_ms:.3}: {verdict}"));
            if better {
                best = other;
            }
        }
        Ok(best)
    });
    choose(before);
    best
}

/// A choice in words, and what it makes of those before it.
type Alternative = (String, Box<dyn Fn(&Choices) -> Choices>);

/// The other strategy for each pass of each layer, and the other products.
fn alternatives(config: &TrainConfig, device: &Device) -> Result<Vec<Alternative>> {
    let batch = config.batch_size;
    let mut alternatives: Vec<Alternative> = Vec::new();
    let mut seen: Vec<(MpsSpec, Pass)> = Vec::new();
    for stage in config.network.stages()? {
        let Layer::Mps(layer) = &stage.layer else { continue };
        let Some(spec) = layer.two_cores() else { continue };
        if spec.inputs() * spec.outputs() > MOST_REBUILT {
            continue;
        }
        let passes = [
            (Pass::Forward, forward_plan(&spec, batch, device)),
            (Pass::Grads, grads_plan(&spec, batch, device)),
            (Pass::GradX, grad_x_plan(&spec, batch, device)),
        ];
        for (pass, plan) in passes {
            if (pass == Pass::GradX && !stage.wants_grad_x()) || seen.contains(&(spec, pass)) {
                continue;
            }
            seen.push((spec, pass));
            let rebuilt = plan == Strategy::Rebuilt.name();
            let strategy = if rebuilt { Strategy::Tiled } else { Strategy::Rebuilt };
            let choice = LayerChoice { spec, batch, pass, strategy };
            alternatives.push((
                format!("{spec}, {pass:?} {strategy}").to_lowercase(),
                Box::new(move |before| {
                    let mut choices = before.clone();
                    choices.layers.push(choice.clone());
                    choices
                }),
            ));
        }
    }
    let has_dense = config.network.layers.iter().any(|layer| matches!(layer, Layer::Dense(_)));
    if has_dense {
        for products in Product::ALL.into_iter().filter(|products| *products != Product::Own) {
            let chosen = move |before: &Choices| Choices { products, ..before.clone() };
            alternatives.push((format!("products by {products}"), Box::new(chosen)));
        }
    }
    Ok(alternatives)
}

/// A network that is trained on blank images, to be measured.
struct Measured {
    learner: Learner,
    images: Resident,
    schedule: Schedule,
    batch: usize,
    /// Steps of one measurement.
    steps: usize,
}

impl Measured {
    fn new(config: &TrainConfig, device: &Device) -> Result<Self> {
        let (count, shape) = (config.batch_size, config.network.input);
        let pixels = vec![0; count * features(shape)];
        let set = ImageSet { count, shape, pixels, labels: vec![0; count] };
        let learner = Learner::new(config, device)?;
        let order: Vec<u32> = (0..count as u32).collect();
        let dropouts = config.network.dropouts();
        let seeds = |step: usize| vec![step as u64; dropouts];
        let schedule = learner.schedule(&order.repeat(STEPS), count, seeds)?;
        let images = Resident::new(&set, device);
        let mut measured = Self { learner, images, schedule, batch: count, steps: WARM_UP };
        measured.run()?;
        let once = measured.run()? / WARM_UP as u32;
        let wanted = LEAST.as_secs_f64() / once.as_secs_f64().max(1e-6);
        measured.steps = (wanted as usize).clamp(WARM_UP, 1000);
        Ok(measured)
    }

    /// The time of some steps. Reading a loss waits for them, and does not wait for ever for a device that is lost.
    fn run(&mut self) -> Result<Duration> {
        let started = Instant::now();
        let mut last = Tally::default();
        for at in 0..self.steps {
            let step = self.schedule.step(at % self.schedule.steps())?;
            let sums = self.learner.step(&self.images, step)?;
            if at + 1 == self.steps {
                last.add(sums, self.batch);
            }
        }
        last.read()?;
        Ok(started.elapsed())
    }

    /// The median times of a step with each of two choices, measured in turn.
    fn compare(&mut self, first: &Choices, second: &Choices) -> Result<[Duration; 2]> {
        let mut times = [Vec::new(), Vec::new()];
        for round in 0..=ROUNDS {
            for (choices, times) in [first, second].into_iter().zip(&mut times) {
                choose(choices.clone());
                let time = self.run()?;
                // Nothing is compiled any more after the first round.
                if round > 0 {
                    times.push(time / self.steps as u32);
                }
            }
        }
        let median = |mut times: Vec<Duration>| {
            times.sort();
            times[times.len() / 2]
        };
        Ok(times.map(median))
    }
}
