//! Which runs a study has: every network of its grid, with every recipe and every seed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files::read_toml;
use crate::net::{self, Layer, Model, Preset, Shape, Stack};
use crate::train::{RecipeChoice, TrainConfig};
use crate::{Error, Result};

/// A grid of training runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Study {
    /// Seeds of the runs of each network.
    #[serde(default = "three_seeds")]
    pub seeds: Vec<u64>,
    /// Most parameters of the network that is looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<usize>,
    /// How the networks are trained.
    #[serde(default = "article")]
    pub recipes: Vec<RecipeChoice>,
    /// The networks.
    pub networks: Vec<NetworkGrid>,
}

/// The seeds where none are named.
fn three_seeds() -> Vec<u64> {
    vec![200, 201, 202]
}

fn article() -> Vec<RecipeChoice> {
    vec![RecipeChoice::default()]
}

/// A network, or a grid of networks that differ in their bonds and factors.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkGrid {
    /// What it is called; by default its model, or the file's name.
    pub name: Option<String>,
    /// A file that describes it, in place of the options below.
    pub file: Option<PathBuf>,
    /// The network itself, in place of a file.
    pub stack: Option<Stack>,
    /// Which hidden layers are tensor networks.
    pub model: Option<Model>,
    /// Widths of the hidden layers.
    pub hidden: Option<Vec<usize>>,
    /// The rate of dropout; by default the recipe's.
    pub dropout: Option<f64>,
    /// Number of cores of every tensor network.
    pub cores: Option<usize>,
    /// Extents into which a first tensor network folds an image.
    pub in_factors: Option<Vec<usize>>,
    /// Bonds to try, each for all tensor networks or a list with one for each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bond: Vec<Bonds>,
    /// Extents of the output of the first tensor network to try.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub out_factors: Vec<Vec<usize>>,
}

/// The bond of all tensor networks, or of each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Bonds {
    /// One for all.
    All(usize),
    /// One for each.
    Each(Vec<usize>),
}

/// The images on which the runs of a study are trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Images {
    /// Their shape.
    pub input: Shape,
    /// Number of classes.
    pub classes: usize,
    /// Number of training images, the held-out ones included.
    pub count: usize,
}

/// What runs that differ only in their seed have in common, as a table shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Point {
    /// The network's name.
    pub network: String,
    /// The bond of its tensor networks, or of each: `1 2`. Empty for a network without.
    pub bond: String,
    /// Extents of the outputs of its tensor networks: `64x16 16x16`.
    pub factors: String,
    /// The recipe's name, where there are several.
    pub recipe: String,
}

/// A run of a study.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedRun {
    /// The name of its folder.
    pub name: String,
    /// What it has in common with others.
    pub point: Point,
    /// How it is trained.
    pub config: TrainConfig,
}

impl Study {
    /// Reads a study from a TOML file; the files that it names are read too, from where it lies.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when a file cannot be read, [`Error::Malformed`] naming the line that is wrong.
    pub fn read(path: &Path) -> Result<Self> {
        let study: Self = read_toml(path, "a study: networks and recipes")?;
        study.with_files(crate::files::parent(path))
    }

    /// The same with the networks of all files in it, so that it says all by itself.
    ///
    /// # Errors
    ///
    /// As [`Study::read`].
    pub fn with_files(mut self, folder: &Path) -> Result<Self> {
        for network in &mut self.networks {
            let Some(file) = network.file.take() else { continue };
            network.stack = Some(net::file::read(&folder.join(&file))?);
            let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
            network.name = network.name.take().or(stem);
        }
        Ok(self)
    }

    /// All its runs: network by network, recipe by recipe, seed by seed.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] or [`Error::Layer`] for what is impossible, [`Error::Argument`] when two networks would have
    /// one name.
    pub fn runs(&self, images: Images) -> Result<Vec<PlannedRun>> {
        let nothing = |name, what: &str| Err(Error::argument(name, format!("none: {what}")));
        if self.networks.is_empty() {
            return nothing("networks", "a study needs one");
        }
        if self.recipes.is_empty() {
            return nothing("recipes", "a study needs one");
        }
        if self.seeds.is_empty() {
            return nothing("seeds", "a study needs one");
        }
        let mut runs: Vec<PlannedRun> = Vec::new();
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        for network in &self.networks {
            for recipe in &self.recipes {
                for (point, stack) in network.stacks(recipe, images)? {
                    for &seed in &self.seeds {
                        let held_out = (images.count / 12).max(1);
                        let config = recipe.config(stack.clone(), seed, held_out);
                        config.check()?;
                        if config.validation == 0 {
                            let problem = "0: the epoch, and the network, are chosen on images that are held out";
                            return Err(Error::argument("validation", problem));
                        }
                        let name = format!("{}-seed{seed}", point.name());
                        let run = PlannedRun { name, point: point.clone(), config };
                        match places.get(&run.name).map(|&at| &runs[at]) {
                            Some(same) if *same == run => continue,
                            Some(_) => return Err(one_name(&point)),
                            None => {}
                        }
                        places.insert(run.name.clone(), runs.len());
                        runs.push(run);
                    }
                }
            }
        }
        Ok(runs)
    }
}

fn one_name(point: &Point) -> Error {
    let problem = format!(
        "two that differ would both be called {}; give each a name of its own",
        point.name()
    );
    Error::argument("networks", problem)
}

impl NetworkGrid {
    /// Its networks.
    fn stacks(&self, recipe: &RecipeChoice, images: Images) -> Result<Vec<(Point, Stack)>> {
        let bonds: Vec<Option<&Bonds>> = or_none(&self.bond);
        let factors: Vec<Option<&Vec<usize>>> = or_none(&self.out_factors);
        let mut stacks = Vec::new();
        for &factors in &factors {
            for &bond in &bonds {
                let (name, stack) = self.stack(bond, factors.cloned(), recipe, images)?;
                let point = Point::of(name, recipe.name.clone().unwrap_or_default(), &stack);
                stacks.push((point, stack));
            }
        }
        Ok(stacks)
    }

    fn stack(
        &self,
        bond: Option<&Bonds>,
        out_factors: Option<Vec<usize>>,
        recipe: &RecipeChoice,
        images: Images,
    ) -> Result<(String, Stack)> {
        let bonds = match bond {
            None => None,
            Some(Bonds::All(bond)) => Some(vec![*bond]),
            Some(Bonds::Each(bonds)) => Some(bonds.clone()),
        };
        let Some(stack) = &self.stack else {
            let model = self.model.unwrap_or_default();
            let product = |factors: &Vec<usize>| {
                factors.iter().fold(1, |all: usize, &factor| all.saturating_mul(factor))
            };
            let first = out_factors.as_ref().map_or(512, product);
            let preset = Preset {
                model,
                bond: bonds.filter(|_| model != Model::Dense).unwrap_or_else(|| vec![1]),
                hidden: self.hidden.clone().unwrap_or_else(|| vec![first, 512]),
                dropout: self.dropout.unwrap_or_else(|| recipe.recipe.settings().dropout),
                cores: self.cores.filter(|_| model != Model::Dense),
                in_factors: self.in_factors.clone(),
                out_factors: out_factors.filter(|_| model != Model::Dense),
            };
            let stack = preset.stack(images.input, images.classes)?;
            return Ok((self.name.clone().unwrap_or_else(|| model.to_string()), stack));
        };
        let mut stack = stack.clone();
        let mut tensor_layers: Vec<_> = stack.layers.iter_mut().filter_map(tensor_layer).collect();
        let count = tensor_layers.len();
        if let Some(bonds) = bonds {
            if bonds.len() != 1 && bonds.len() != count {
                let problem = format!(
                    "{}: expected one number, or one for each of {count} tensor layers",
                    joined(&bonds, ",")
                );
                return Err(Error::argument("bond", problem));
            }
            for (at, layer) in tensor_layers.iter_mut().enumerate() {
                layer.bond = bonds[at % bonds.len()].into();
            }
        }
        if let (Some(factors), Some(first)) = (out_factors, tensor_layers.first_mut()) {
            first.out_factors = factors;
        }
        let name = self.name.clone().unwrap_or_else(|| "network".into());
        if stack.input != images.input {
            let problem =
                format!("{name}: input {:?}, and the data has {:?}", stack.input, images.input);
            return Err(Error::argument("networks", problem));
        }
        let outputs = stack.outputs()?;
        if outputs != images.classes {
            let problem =
                format!("{name}: {outputs} outputs, and the data has {} classes", images.classes);
            return Err(Error::argument("networks", problem));
        }
        Ok((name, stack))
    }
}

/// Each of some alternatives, or none where there are none.
fn or_none<T>(alternatives: &[T]) -> Vec<Option<&T>> {
    match alternatives {
        [] => vec![None],
        some => some.iter().map(Some).collect(),
    }
}

fn tensor_layer(layer: &mut Layer) -> Option<&mut net::Mps> {
    match layer {
        Layer::Mps(mps) => Some(mps),
        _ => None,
    }
}

fn joined<T: ToString>(numbers: &[T], between: &str) -> String {
    numbers.iter().map(T::to_string).collect::<Vec<_>>().join(between)
}

impl Point {
    fn of(network: String, recipe: String, stack: &Stack) -> Self {
        let mut layers = stack.layers.clone();
        let tensor_layers: Vec<&mut net::Mps> =
            layers.iter_mut().filter_map(tensor_layer).collect();
        let mut bonds: Vec<String> =
            tensor_layers.iter().map(|layer| layer.bond.to_string()).collect();
        if bonds.iter().all(|bond| *bond == bonds[0]) {
            bonds.truncate(1);
        }
        let factors = tensor_layers.iter().map(|layer| joined(&layer.out_factors, "x"));
        let factors: Vec<String> = factors.collect();
        Self { network, bond: joined(&bonds, " "), factors: factors.join(" "), recipe }
    }

    /// A name for folders: `mps-all-bond1-2-64x16-16x16-long`.
    pub fn name(&self) -> String {
        let bond = if self.bond.is_empty() { String::new() } else { format!("bond{}", self.bond) };
        let parts = [&self.network, &bond, &self.factors, &self.recipe];
        let parts: Vec<&str> =
            parts.into_iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        let plain = |character: char| match character {
            _ if character.is_alphanumeric() || "_.-".contains(character) => character,
            _ => '-',
        };
        let name: String = parts.join("-").chars().map(plain).collect();
        // A folder's name that begins with a dot is hidden.
        name.trim_start_matches(['.', '-']).to_owned()
    }

    /// What people read: `mps-all, bond 1 2, 64x16 16x16`.
    pub fn title(&self) -> String {
        let bond = if self.bond.is_empty() { String::new() } else { format!("bond {}", self.bond) };
        let parts = [self.network.clone(), bond, self.factors.clone(), self.recipe.clone()];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::RecipeName;

    const IMAGES: Images = Images { input: [1, 28, 28], classes: 10, count: 60_000 };

    fn study(text: &str) -> Result<Vec<PlannedRun>> {
        toml::from_str::<Study>(text).unwrap().runs(IMAGES)
    }

    #[test]
    fn a_grid_has_every_network_with_every_recipe_and_seed() {
        let runs = study(
            r#"
            seeds = [1, 2]
            [[recipes]]
            name = "short"
            epochs = 3
            [[recipes]]
            name = "long"
            recipe = "small"
            lr = 0.5
            validation = 7
            [[networks]]
            model = "mps-all"
            bond = [1, [2, 3]]
            out_factors = [[32, 16], [16, 16]]
            [[networks]]
            model = "dense"
            hidden = [20, 20]
            dropout = 0.0
            "#,
        )
        .unwrap();
        let names: Vec<&str> = runs.iter().map(|run| &run.name[..]).collect();
        assert_eq!(runs.len(), 2 * 2 * (2 * 2 + 1), "{names:?}");
        assert_eq!(names[0], "mps-all-bond1-32x16-32x16-short-seed1");
        assert_eq!(names[7], "mps-all-bond2-3-16x16-32x16-short-seed2");
        assert_eq!(names[19], "dense-long-seed2");
        assert_eq!(runs[3].point.title(), "mps-all, bond 2 3, 32x16 32x16, short");
        let config = |at: usize| &runs[at].config;
        assert_eq!((config(0).epochs, config(0).validation, config(0).seed), (3, 5000, 1));
        let small = RecipeName::Small.settings();
        assert_eq!((config(19).lr, config(19).validation), (0.5, 7));
        assert_eq!((config(19).epochs, config(19).recipe), (small.epochs, small.recipe));
        // Dropout is the recipe's where the network does not say.
        assert_eq!(config(0).network.dropouts(), 2);
        assert_eq!(config(19).network.dropouts(), 0);
    }

    #[test]
    fn a_described_network_takes_bonds_and_factors() {
        let text = r#"
            seeds = [1]
            [[networks]]
            name = "my net"
            bond = [4, [5, 6]]
            out_factors = [[16, 32]]
            stack = { input = [1, 28, 28], layers = [
                { kind = "mps", in = [28, 28], out = [32, 16], bond = 1 },
                { kind = "mps", in = [32, 16], out = [4, 2], bond = 1 },
                { kind = "dense", out = 10 },
            ] }
            "#;
        let runs = study(text).unwrap();
        let names: Vec<&str> = runs.iter().map(|run| &run.name[..]).collect();
        assert_eq!(names, ["my-net-bond4-16x32-4x2-seed1", "my-net-bond5-6-16x32-4x2-seed1"]);
        // What is written says the same.
        let again: Study = toml::from_str(text).unwrap();
        let again: Study = toml::from_str(&toml::to_string(&again).unwrap()).unwrap();
        assert_eq!(again.runs(IMAGES).unwrap(), runs);
        for (from, to, expected) in [
            ("[5, 6]", "[5, 6, 7]", "5,6,7: expected one number, or one for each of 2"),
            ("out = 10", "out = 9", "my net: 9 outputs, and the data has 10 classes"),
            ("input = [1, 28, 28]", "input = [1, 16, 49]", "the data has [1, 28, 28]"),
            ("[[16, 32]]", "[[16, 31]]", "expected a product of 496"),
            ("seeds = [1]", "seeds = []", "seeds: none"),
            ("seeds = [1]", "seeds = [1]\n[[recipes]]\nvalidation = 0", "validation: 0: "),
        ] {
            let line = study(&text.replace(from, to)).unwrap_err().to_string();
            assert!(line.contains(expected), "{line}");
        }
    }

    #[test]
    fn two_networks_need_two_names() {
        let two = |second: &str| {
            study(&format!("[[networks]]\nhidden = [512, 64]\n[[networks]]\n{second}\n"))
        };
        // The same network twice is one.
        assert_eq!(two("hidden = [512, 64]").unwrap().len(), 3);
        let line = two("hidden = [512, 65]").unwrap_err().to_string();
        assert!(line.contains("mps-bond1-32x16"), "{line}");
        assert_eq!(two("name = \"other\"\nhidden = [512, 65]").unwrap().len(), 6);
    }
}
