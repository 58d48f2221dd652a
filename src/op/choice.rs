//! What is computed how where more than one way is right and the plan alone cannot know the fastest: forced for tests, or
//! chosen by measurements on the device ([`crate::train::tuning`]).

use std::fmt;
use std::str::FromStr;
use std::sync::{PoisonError, RwLock};

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::target_of;
use crate::mps::MpsSpec;
use crate::mps::strategy::{Strategy, Target};

/// A pass of the layer that has a plan of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pass {
    /// The output.
    Forward,
    /// The gradients by cores and bias.
    Grads,
    /// The gradient by the input.
    GradX,
}

/// A kernel of Burn that multiplies matrices and needs no matrix units, which round f32 to fewer bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BurnKernel {
    /// It loads a block of the operands, and then multiplies.
    SimpleUnit,
    /// It loads the next block while it multiplies.
    DoubleUnit,
}

/// Whose kernels multiply matrices on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Product {
    /// Ours, which take bias and activation with them.
    #[default]
    Own,
    /// Burn's.
    Burn(BurnKernel),
}

impl Product {
    /// All there are.
    pub const ALL: [Self; 3] =
        [Self::Own, Self::Burn(BurnKernel::SimpleUnit), Self::Burn(BurnKernel::DoubleUnit)];

    /// The name in the environment and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Burn(BurnKernel::SimpleUnit) => "burn-simple",
            Self::Burn(BurnKernel::DoubleUnit) => "burn-double",
        }
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<Product> for String {
    fn from(product: Product) -> Self {
        product.name().into()
    }
}

impl TryFrom<String> for Product {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Product {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = |product: &Self| product.name() == text;
        Self::ALL.into_iter().find(named).ok_or_else(|| {
            format!("'{text}': expected one of {}", Self::ALL.map(Self::name).join(", "))
        })
    }
}

/// The strategy of one pass of one layer at one batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerChoice {
    /// The layer.
    #[serde(flatten)]
    pub spec: MpsSpec,
    /// Samples of a batch.
    pub batch: usize,
    /// The pass.
    pub pass: Pass,
    /// How it is computed.
    pub strategy: Strategy,
}

/// Choices for a device and a network. What they do not name, the plan decides.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choices {
    /// Whose products dense layers take.
    #[serde(default)]
    pub products: Product,
    /// The layers' strategies.
    #[serde(default)]
    pub layers: Vec<LayerChoice>,
}

struct Chosen {
    forced: Option<Strategy>,
    forced_products: Option<Product>,
    choices: Choices,
}

static CHOSEN: RwLock<Chosen> = RwLock::new(Chosen {
    forced: None,
    forced_products: None,
    choices: Choices { products: Product::Own, layers: Vec::new() },
});

/// Makes every pass, in the whole process, take one strategy wherever the extents allow it; with none, choices and plan
/// decide again. Returns what was forced before.
///
/// For tests and measurements. The executable forces what `TNET_STRATEGY` names.
pub fn force_strategy(strategy: Option<Strategy>) -> Option<Strategy> {
    let mut chosen = CHOSEN.write().unwrap_or_else(PoisonError::into_inner);
    std::mem::replace(&mut chosen.forced, strategy)
}

/// Makes dense layers, in the whole process, take one kind of products on GPUs; with none, the choices decide again.
///
/// For tests. The executable forces what `TNET_PRODUCTS` names.
pub fn force_products(products: Option<Product>) {
    CHOSEN.write().unwrap_or_else(PoisonError::into_inner).forced_products = products;
}

/// Makes the whole process take these choices. Returns the ones before.
pub fn choose(choices: Choices) -> Choices {
    let mut chosen = CHOSEN.write().unwrap_or_else(PoisonError::into_inner);
    std::mem::replace(&mut chosen.choices, choices)
}

/// The strategy that was forced or chosen for a pass, if one was.
pub(super) fn strategy(pass: Pass, spec: &MpsSpec, batch: usize) -> Option<Strategy> {
    let chosen = CHOSEN.read().unwrap_or_else(PoisonError::into_inner);
    let is = |choice: &&LayerChoice| {
        choice.pass == pass && choice.batch == batch && choice.spec == *spec
    };
    chosen.forced.or_else(|| Some(chosen.choices.layers.iter().find(is)?.strategy))
}

/// Whose products are taken.
pub(super) fn products() -> Product {
    let chosen = CHOSEN.read().unwrap_or_else(PoisonError::into_inner);
    chosen.forced_products.unwrap_or(chosen.choices.products)
}

/// Whether a device has more than one way to choose from: a GPU.
pub fn has_choices(device: &Device) -> bool {
    target_of(device) == Target::Gpu
}
