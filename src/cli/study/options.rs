//! The options that `sweep` and `table` share.

use clap::Args;

use crate::cli::at_least_one;
use crate::cli::material::MaterialArgs;
use crate::cli::recipe::RecipeArgs;

/// How, how often and on what each network is trained.
#[derive(Debug, Args)]
pub struct StudyArgs {
    #[command(flatten)]
    pub recipe: RecipeArgs,

    /// Runs of each network, with seeds from --seed on
    #[arg(long, value_name = "N", default_value = "3", value_parser = at_least_one())]
    pub seeds: usize,

    #[command(flatten)]
    pub on: MaterialArgs,
}

impl StudyArgs {
    /// The first `count` seeds.
    pub fn first_seeds(&self, count: usize) -> Vec<u64> {
        (0..count as u64).map(|at| self.recipe.seed.wrapping_add(at)).collect()
    }
}
