//! The options that say how a network is trained.

use clap::Args;

use super::at_least_one;
use super::network::{kept, text};
use crate::Result;
use crate::mps::MpsInit;
use crate::net::Stack;
use crate::train::{RateSchedule, Recipe, TrainConfig};

/// Options of the training, without those of the network, the data and the device.
#[derive(Debug, Clone, Args)]
pub struct RecipeArgs {
    /// Initial weights: he and glorot give the variance of a dense layer of that size, article draws
    /// the cores from N(0, 1/32)
    #[arg(long, value_enum, default_value_t)]
    init: MpsInit,

    /// Passes over the training images
    #[arg(long, default_value = "50", value_parser = at_least_one())]
    pub epochs: usize,

    /// Images per step; the last batch of an epoch may be smaller
    #[arg(long, default_value = "128", value_parser = at_least_one())]
    batch_size: usize,

    /// Adam's learning rate
    #[arg(long, default_value_t = 1e-3)]
    lr: f64,

    /// How the learning rate goes on after --warmup: constant, or falling to 0 like a cosine
    #[arg(long, value_enum, default_value_t)]
    schedule: RateSchedule,

    /// Epochs, or a part of one, over which the learning rate rises to --lr
    #[arg(long, value_name = "EPOCHS", default_value_t = 0.0)]
    warmup: f64,

    /// Let every weight decay apart from its gradient (AdamW): each step takes off this times the learning rate
    #[arg(long, value_name = "RATE", default_value_t = 0.0)]
    weight_decay: f64,

    /// Share of a label's probability that the loss spreads over all classes
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    label_smoothing: f64,

    /// Evaluate and keep the mean of the weights, which after each step keeps this share of itself [default: no mean;
    /// 0.999 without a SHARE]
    #[arg(long, value_name = "SHARE", num_args = 0..=1, default_missing_value = "0.999")]
    average: Option<f64>,

    /// End training after so many epochs without a better accuracy on the images that --validation holds out
    #[arg(long, value_name = "EPOCHS", value_parser = at_least_one())]
    patience: Option<usize>,

    /// Hold out N training images, by which the best epoch is chosen
    #[arg(long, value_name = "N", default_value_t = 0)]
    validation: usize,

    /// Seed of the weights, the order of the images and dropout
    #[arg(long, default_value_t = 200)]
    seed: u64,
}

impl RecipeArgs {
    /// The options as a configuration, checked.
    pub fn config(&self, network: Stack) -> Result<TrainConfig> {
        let config = self.unchecked(network);
        config.check()?;
        Ok(config)
    }

    fn unchecked(&self, network: Stack) -> TrainConfig {
        TrainConfig {
            epochs: self.epochs,
            batch_size: self.batch_size,
            lr: self.lr,
            seed: self.seed,
            validation: self.validation,
            init: self.init,
            recipe: Recipe {
                schedule: self.schedule,
                warmup: self.warmup,
                weight_decay: self.weight_decay,
                label_smoothing: self.label_smoothing,
                average: self.average,
                patience: self.patience,
            },
            network,
        }
    }

    /// Refuses options that were typed and differ from a run's.
    pub fn check_kept(&self, given: &[&str], run: &TrainConfig) -> Result<()> {
        // Typed alone, they need not make sense.
        let typed = texts(&self.unchecked(run.network.clone())).into_iter();
        let of_run = texts(run).map(|(_, text)| text);
        kept(given, typed.zip(of_run).map(|((id, typed), of_run)| (id, typed, of_run)))
    }
}

/// The options that a run keeps, as they are typed.
fn texts(config: &TrainConfig) -> [(&'static str, String); 11] {
    let TrainConfig { batch_size, lr, seed, validation, init, recipe, .. } = *config;
    let or = |number: Option<String>, none: &str| number.unwrap_or_else(|| none.into());
    [
        ("init", text(&init)),
        ("batch_size", batch_size.to_string()),
        ("lr", lr.to_string()),
        ("schedule", text(&recipe.schedule)),
        ("warmup", recipe.warmup.to_string()),
        ("weight_decay", recipe.weight_decay.to_string()),
        ("label_smoothing", recipe.label_smoothing.to_string()),
        ("average", or(recipe.average.map(|share| share.to_string()), "no mean")),
        ("patience", or(recipe.patience.map(|epochs| epochs.to_string()), "no limit")),
        ("seed", seed.to_string()),
        ("validation", validation.to_string()),
    ]
}
