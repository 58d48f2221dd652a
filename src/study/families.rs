//! The networks of a fair table: of each family the widest that a number of parameters allows.

use super::Study;
use super::grid::{Images, NetworkGrid, PlannedRun};
use crate::net::{Dense, Dropout, Layer, Mps, Relu, Stack, factors_of, image_factors};
use crate::train::{RecipeChoice, RecipeName};
use crate::{Error, Result};

/// A family of networks, all with two hidden layers and a dense output layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Two dense layers of equal width.
    NarrowDense,
    /// A dense layer of 128 outputs whose matrix is a product of two: a narrow layer without bias and activation first.
    LowRank,
    /// Two tensor layers of bond 1, whose matrices are Kronecker products.
    Kronecker,
    /// Two tensor layers of bond 3.
    MpsAll,
    /// Two chains of four cores, whose bonds grow with the budget.
    Chains,
}

/// Outputs of the layer whose matrix has a low rank.
const LOW_RANK_WIDTH: usize = 128;

/// The bond of [`Family::MpsAll`]. Square layers of bond 2 and longer ones of bond 4 were as accurate, within the spread
/// of three seeds (docs/recipes.md).
const BOND: usize = 3;

/// Cores of a chain.
const CORES: usize = 4;

/// Outputs of the first of [`Family::Chains`], as the article has. It is their bond that grows: at a bond of 8, the widest
/// chains of 50,000 parameters would have 31,000 outputs, and more biases than cores.
const CHAIN_WIDTH: usize = 512;

/// The first tensor layer's outputs are folded into `4 N x N`.
const ASPECT: usize = 4;

/// The learning rate of narrow dense networks with the recipe for small networks. At its own, 0.006, those of 4,822 parameters
/// reach 0.67 instead of 0.83; layers of low rank are as good at either (docs/recipes.md).
const NARROW_LR: f64 = 1e-3;

/// Widest layer that is tried.
const WIDEST: usize = 1 << 14;

impl Family {
    /// All families, in the order of a table.
    pub const ALL: [Self; 5] =
        [Self::NarrowDense, Self::LowRank, Self::Kronecker, Self::MpsAll, Self::Chains];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::NarrowDense => "narrow dense",
            Self::LowRank => "low rank",
            Self::Kronecker => "Kronecker (bond 1)",
            Self::MpsAll => "mps-all (bond 3)",
            Self::Chains => "mps-all (4 cores)",
        }
    }

    /// Its name as it is typed.
    fn typed(self) -> &'static str {
        match self {
            Self::NarrowDense => "dense",
            Self::LowRank => "low-rank",
            Self::Kronecker => "kronecker",
            Self::MpsAll => "mps-all",
            Self::Chains => "chains",
        }
    }

    /// How it is trained where the small networks' recipe is chosen, and no rate.
    fn recipe(self, chosen: &RecipeChoice) -> RecipeChoice {
        let is_narrow = self == Self::NarrowDense && chosen.recipe == RecipeName::Small;
        let own = is_narrow.then_some(NARROW_LR);
        RecipeChoice { lr: chosen.lr.or(own), ..chosen.clone() }
    }

    /// The widest of its networks with at most `budget` parameters, of chains that of the largest bond.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] when the narrowest has more.
    pub fn network(self, budget: usize, images: Images, dropout: f64) -> Result<Stack> {
        let fits = |stack: &Stack| Ok::<_, Error>(stack.parameters()? <= budget);
        let mut widest = None;
        for width in 1..=WIDEST {
            let stack = self.of_width(width, budget, images, dropout);
            if !fits(&stack)? {
                break;
            }
            widest = Some(stack);
        }
        widest.ok_or_else(|| {
            let problem = format!("{budget}: a network of the family {} has more", self.name());
            Error::argument("parameters", problem)
        })
    }

    fn of_width(self, width: usize, budget: usize, images: Images, dropout: f64) -> Stack {
        let Images { input, classes, .. } = images;
        let dense = |out, bias| Layer::from(Dense { out, bias });
        // The dense output layer has as many inputs as the second has outputs.
        let is_small = budget < 2 * 16 * 16 * (classes + 1);
        let tensor = |bond| {
            let [channels, height, columns] = input;
            let first = [ASPECT * width, width];
            let second = if is_small { [8, 8] } else { [16, 16] };
            let layer = |in_factors: [usize; 2], out_factors: [usize; 2]| {
                Layer::from(Mps::new(in_factors, out_factors, bond))
            };
            vec![layer([channels * height, columns], first), layer(first, second)]
        };
        let chains = |bond: usize| {
            let factors = |width| factors_of(width, CORES);
            let (first, second) = (factors(CHAIN_WIDTH), if is_small { 64 } else { 256 });
            let layer = |in_factors, out_factors| Mps::new(in_factors, out_factors, bond).into();
            vec![layer(image_factors(input, CORES), first.clone()), layer(first, factors(second))]
        };
        let hidden = match self {
            Self::NarrowDense => vec![dense(width, true), dense(width, true)],
            Self::LowRank => vec![dense(width, false), dense(LOW_RANK_WIDTH, true)],
            Self::Kronecker => tensor(1),
            Self::MpsAll => tensor(BOND),
            Self::Chains => chains(width),
        };
        let mut layers = Vec::new();
        for (at, layer) in hidden.into_iter().enumerate() {
            layers.push(layer);
            if self == Self::LowRank && at == 0 {
                continue;
            }
            layers.push(Relu {}.into());
            if dropout > 0.0 {
                layers.push(Dropout { rate: dropout }.into());
            }
        }
        layers.push(dense(classes, true));
        Stack { input, layers }
    }
}

impl std::str::FromStr for Family {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = |family: &Self| family.typed() == text;
        let names = || Self::ALL.map(Self::typed).join(", ");
        Self::ALL.into_iter().find(named).ok_or_else(|| format!("expected one of {}", names()))
    }
}

/// What a network of a table is called in its study: `mps-all (bond 3), 10000`.
pub fn name(family: Family, budget: usize) -> String {
    format!("{}, {budget}", family.name())
}

/// The runs of a table, family by family, each once.
///
/// # Errors
///
/// As [`Family::network`] and [`Study::runs`].
pub fn runs(
    families: &[Family],
    budgets: &[usize],
    images: Images,
    recipe: &RecipeChoice,
    seeds: &[u64],
) -> Result<Vec<PlannedRun>> {
    let mut runs = Vec::new();
    for family in Family::ALL.into_iter().filter(|family| families.contains(family)) {
        let recipe = family.recipe(recipe);
        let dropout = recipe.recipe.settings().dropout;
        let network = |&budget: &usize| {
            let stack = Some(family.network(budget, images, dropout)?);
            let name = Some(name(family, budget));
            Ok(NetworkGrid { name, stack, ..NetworkGrid::default() })
        };
        let networks = budgets.iter().map(network).collect::<Result<_>>()?;
        let study = Study { seeds: seeds.to_vec(), budget: None, recipes: vec![recipe], networks };
        runs.extend(study.runs(images)?);
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGES: Images = Images { input: [1, 28, 28], classes: 10, count: 60_000 };

    #[test]
    fn networks_use_what_they_may_have() {
        for budget in [5_000, 10_000, 20_000, 50_000] {
            for family in Family::ALL {
                let stack = family.network(budget, IMAGES, 0.1).unwrap();
                let parameters = stack.parameters().unwrap();
                // The next of 5,000 parameters may be a tenth or more wider.
                let least = if budget < 10_000 { 0.8 } else { 0.9 } * budget as f64;
                assert!(
                    parameters <= budget && parameters as f64 >= least,
                    "{family:?} {parameters}"
                );
                assert_eq!(stack.outputs().unwrap(), 10);
                assert_eq!(stack.dropouts(), if family == Family::LowRank { 1 } else { 2 });
            }
        }
        let error = Family::MpsAll.network(100, IMAGES, 0.1).unwrap_err().to_string();
        assert!(error.starts_with("parameters: 100: "), "{error}");
    }

    #[test]
    fn a_table_has_every_family_of_every_size() {
        let of = |families: &[Family]| {
            runs(families, &[5_000, 10_000], IMAGES, &RecipeChoice::default(), &[1, 2]).unwrap()
        };
        let runs = of(&Family::ALL);
        assert_eq!(runs.len(), 5 * 2 * 2);
        for name in ["mps-all (bond 3), 10000", "mps-all (4 cores), 5000"] {
            assert!(runs.iter().any(|run| run.point.network == name), "{name}");
        }
        // In the table's order, and none twice.
        let some = of(&[Family::Chains, Family::NarrowDense, Family::Chains]);
        assert_eq!(some.len(), 2 * 2 * 2);
        assert!(some[0].point.network.starts_with("narrow dense"), "{}", some[0].point.network);
    }

    #[test]
    fn families_are_read_by_name() {
        for family in Family::ALL {
            assert_eq!(family.typed().parse(), Ok(family));
        }
        let error = "wide".parse::<Family>().unwrap_err();
        assert_eq!(error, "expected one of dense, low-rank, kronecker, mps-all, chains");
    }

    /// Narrow networks have their own rate in the recipe for small networks, and else the one that was chosen.
    #[test]
    fn every_family_has_its_rate() {
        let rates = |recipe: RecipeChoice| {
            let runs = runs(&Family::ALL, &[5_000], IMAGES, &recipe, &[1]).unwrap();
            runs.iter().map(|run| run.config.lr).collect::<Vec<_>>()
        };
        let small = RecipeChoice { recipe: RecipeName::Small, ..RecipeChoice::default() };
        assert_eq!(rates(small.clone()), [NARROW_LR, 6e-3, 6e-3, 6e-3, 6e-3]);
        assert_eq!(rates(RecipeChoice { lr: Some(0.5), ..small }), [0.5; 5]);
        assert_eq!(rates(RecipeChoice::default()), [1e-3; 5]);
    }
}
