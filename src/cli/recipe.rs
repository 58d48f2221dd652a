//! The options that say how a network is trained.

use clap::Args;

use super::at_least_one;
use super::network::{kept, text};
use crate::mps::MpsInit;
use crate::net::Stack;
use crate::train::{RateSchedule, RecipeChoice, RecipeName, TrainConfig};
use crate::{Error, Result};

/// The seed where none is typed.
const DEFAULT_SEED: u64 = 200;

/// Options of the training, without those of the network, the data and the device.
#[derive(Debug, Clone, Args)]
pub struct RecipeArgs {
    /// Set all options of training, and --dropout, to those that go well together: the article's, or what was found best
    /// for tensor networks of 5,000 to 50,000 parameters; options that are typed as well replace its own
    #[arg(long, value_enum, default_value_t)]
    recipe: RecipeName,

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
    #[arg(
        long,
        value_name = "SHARE",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "0.999"
    )]
    average: Option<f64>,

    /// End training after so many epochs without a better accuracy on the images that --validation holds out
    #[arg(long, value_name = "EPOCHS", value_parser = at_least_one())]
    patience: Option<usize>,

    /// Hold out N training images, by which the best epoch is chosen
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub validation: usize,

    /// Seed of the weights, the order of the images and dropout
    #[arg(long, default_value_t = DEFAULT_SEED)]
    pub seed: u64,
}

impl RecipeArgs {
    /// The recipe with the options that were typed in place of its own.
    pub fn choice(&self, given: &[&str]) -> RecipeChoice {
        fn typed<T: Copy>(given: &[&str], id: &str, value: T) -> Option<T> {
            given.contains(&id).then_some(value)
        }
        RecipeChoice {
            name: None,
            recipe: self.recipe,
            epochs: typed(given, "epochs", self.epochs),
            batch_size: typed(given, "batch_size", self.batch_size),
            lr: typed(given, "lr", self.lr),
            validation: typed(given, "validation", self.validation),
            init: typed(given, "init", self.init),
            schedule: typed(given, "schedule", self.schedule),
            warmup: typed(given, "warmup", self.warmup),
            weight_decay: typed(given, "weight_decay", self.weight_decay),
            label_smoothing: typed(given, "label_smoothing", self.label_smoothing),
            average: self.average,
            patience: self.patience,
        }
    }

    /// The rate of dropout that goes with it.
    pub fn dropout(&self) -> f64 {
        self.recipe.settings().dropout
    }

    /// The options as a configuration, checked.
    pub fn config(&self, given: &[&str], network: Stack) -> Result<TrainConfig> {
        let config = self.choice(given).config(network, self.seed, 0);
        config.check()?;
        Ok(config)
    }

    /// Refuses options that were typed and differ from a run's.
    pub fn check_kept(&self, given: &[&str], run: &TrainConfig) -> Result<()> {
        if given.contains(&"recipe") {
            let problem =
                format!("{}: a run that is resumed keeps its options; omit it", text(&self.recipe));
            return Err(Error::argument("recipe", problem));
        }
        // Typed alone, they need not make sense.
        let typed = self.choice(given).config(run.network.clone(), self.seed, 0);
        let typed = texts(&typed).into_iter();
        let of_run = texts(run).map(|(_, text)| text);
        kept(given, typed.zip(of_run).map(|((id, typed), of_run)| (id, typed, of_run)))
    }
}

/// The options with which `train` trains so, as they are typed: those that are not the defaults.
pub fn typed(config: &TrainConfig) -> Vec<String> {
    let default = RecipeChoice::default().config(config.network.clone(), DEFAULT_SEED, 0);
    let epochs = [("epochs", config.epochs.to_string())];
    let others = texts(config).into_iter().zip(texts(&default));
    let others = others.filter(|(option, default)| option != default).map(|(option, _)| option);
    let options = epochs.into_iter().chain(others);
    // With an equals sign, which --average needs.
    options.map(|(id, text)| format!("--{}={text}", id.replace('_', "-"))).collect()
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
