//! The options that say which network is trained.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Factors, at_least_one};
use crate::net::{self, Model, Preset, Shape, Stack};
use crate::text::shown;
use crate::{Error, Result};

/// Shape of the images and number of classes of Fashion-MNIST.
const GUESS: (Shape, usize) = ([1, 28, 28], 10);

/// Options of the network.
#[derive(Debug, Args)]
pub struct NetworkArgs {
    /// Which hidden layers are tensor networks (cores joined by bonds): the first, none, or all
    #[arg(long, value_enum, default_value_t)]
    model: Model,

    /// Size K of the bonds, one for all tensor networks or one for each; dense has none
    #[arg(long, value_name = "K,…", value_delimiter = ',', default_value = "1", value_parser = at_least_one())]
    bond: Vec<usize>,

    /// Widths of the hidden layers [default: 512,512, the first one the product of --out-factors]
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = at_least_one())]
    hidden: Option<Vec<usize>>,

    /// Share of activations that dropout sets to 0 after each hidden layer; 0 for none
    #[arg(long, value_name = "RATE", default_value_t = 0.2)]
    dropout: f64,

    /// Number of cores of every tensor network [default: 2, and of the first as many as its factors]
    #[arg(long, value_name = "N")]
    cores: Option<usize>,

    /// Extents M,N,… into which the first layer's output is folded, one for each core [default: the factors of its width
    /// that are closest to each other, 32,16 for 512; other layers always have those]
    #[arg(long, value_name = "M,N,…")]
    out_factors: Option<Factors>,

    /// Extents J,L,… into which an image is folded [default: its height and width, or factors of them]
    #[arg(long, value_name = "J,L,…")]
    in_factors: Option<Factors>,

    /// Train the network of a file instead; --print-network writes one to begin with
    #[arg(
        id = "network",
        long,
        value_name = "FILE",
        conflicts_with_all = ["model", "bond", "hidden", "dropout", "cores", "out_factors", "in_factors"]
    )]
    file: Option<PathBuf>,
}

/// Where the network comes from.
#[derive(Debug)]
pub enum Source {
    /// From options.
    Preset(Preset),
    /// From a file.
    File {
        /// The file.
        file: PathBuf,
        /// What it says.
        stack: Stack,
    },
}

impl NetworkArgs {
    /// What the options say; a file is read here. `dropout` is the rate where none was typed.
    pub fn source(&self, given: &[&str], dropout: f64) -> Result<Source> {
        if let Some(file) = &self.file {
            return Ok(Source::File { file: file.clone(), stack: net::file::read(file)? });
        }
        let typed = given.contains(&"dropout");
        let dropout = if typed { self.dropout } else { dropout };
        Ok(Source::Preset(Preset { dropout, ..self.preset() }))
    }

    fn preset(&self) -> Preset {
        let product = |Factors(factors): &Factors| {
            factors.iter().fold(1, |all: usize, &factor| all.saturating_mul(factor))
        };
        let first = self.out_factors.as_ref().map_or(512, product);
        let list = |factors: &Option<Factors>| factors.clone().map(|Factors(factors)| factors);
        Preset {
            model: self.model,
            bond: self.bond.clone(),
            hidden: self.hidden.clone().unwrap_or_else(|| vec![first, 512]),
            dropout: self.dropout,
            cores: self.cores,
            in_factors: list(&self.in_factors),
            out_factors: list(&self.out_factors),
        }
    }

    /// The name of a new run's folder, without its number.
    pub fn name(&self) -> String {
        if let Some(file) = &self.file {
            let stem = file.file_stem();
            return stem.map_or_else(|| "network".into(), |stem| stem.to_string_lossy().into());
        }
        let bonds: Vec<String> = self.bond.iter().map(usize::to_string).collect();
        match self.model {
            Model::Dense => "dense".into(),
            model => {
                let cores = self.cores.map_or_else(String::new, |cores| format!("-cores{cores}"));
                format!("{model}{cores}-bond{}", bonds.join("-"))
            }
        }
    }

    /// Refuses options that were typed and differ from the network of a run, and from the preset that made it unless
    /// that was a file.
    pub fn check_kept(
        &self,
        given: &[&str],
        preset: Option<&Preset>,
        network: &Stack,
    ) -> Result<()> {
        if let Some(file) = &self.file
            && net::file::read(file)? != *network
        {
            let typed = shown(file);
            return kept(given, [("network", typed, "another network".into())]);
        }
        let of_run = preset.map(texts);
        let options = texts(&self.preset()).into_iter().enumerate().map(|(at, (id, typed))| {
            let of_run = of_run.as_ref().map(|texts| texts[at].1.clone());
            (id, typed, of_run.unwrap_or_else(|| "a file's network".into()))
        });
        kept(given, options)
    }
}

/// Refuses the first of the options `(id, as typed, as the run has it)` that was typed and differs.
pub fn kept(
    given: &[&str],
    options: impl IntoIterator<Item = (&'static str, String, String)>,
) -> Result<()> {
    let differs = |(id, typed, kept): &(&str, String, String)| given.contains(id) && typed != kept;
    match options.into_iter().find(differs) {
        None => Ok(()),
        Some((id, typed, kept)) => {
            let problem = format!(
                "{typed}: the run is trained with {kept}, which --resume cannot change; omit the option \
                 or start another run"
            );
            Err(Error::argument(id, problem))
        }
    }
}

/// The text of an option's value, as typed.
pub fn text(choice: &impl ValueEnum) -> String {
    choice.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// The options that make a network, as they are typed.
fn texts(preset: &Preset) -> [(&'static str, String); 7] {
    let Preset { model, bond, hidden, dropout, cores, in_factors, out_factors } = preset;
    let list =
        |numbers: &[usize]| numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let or_default = |text: Option<String>| text.unwrap_or_else(|| "the default".into());
    let factors = |factors: &Option<Vec<usize>>| or_default(factors.as_deref().map(list));
    [
        ("model", model.to_string()),
        ("bond", list(bond)),
        ("hidden", list(hidden)),
        ("dropout", dropout.to_string()),
        ("cores", or_default(cores.map(|cores| cores.to_string()))),
        ("out_factors", factors(out_factors)),
        ("in_factors", factors(in_factors)),
    ]
}

impl Source {
    /// The network to train on images of a shape.
    pub fn stack(&self, input: Shape, classes: usize) -> Result<Stack> {
        let (file, stack) = match self {
            Self::Preset(preset) => return preset.stack(input, classes),
            Self::File { file, stack } => (file, stack),
        };
        let wrong = |problem| Err(Error::Network { file: file.clone(), problem });
        if stack.input != input {
            let found = stack.input;
            return wrong(format!("input: expected {input:?}, as the data has, found {found:?}"));
        }
        let outputs = stack.outputs()?;
        if outputs == classes {
            return Ok(stack.clone());
        }
        let last = stack.placed()?.pop().map(|placed| placed.name).unwrap_or_default();
        wrong(format!(
            "{last}: expected {classes} outputs, one for each class of the data, found {outputs}"
        ))
    }

    /// The shape of the images that the network of a file takes.
    pub fn input(&self) -> Option<Shape> {
        match self {
            Self::File { stack, .. } => Some(stack.input),
            Self::Preset(_) => None,
        }
    }

    /// The network before the data is known: that of a file, or the one for Fashion-MNIST's images, or for as many
    /// pixels as `--in-factors` says.
    pub fn guess(&self) -> Result<Stack> {
        let (mut input, classes) = GUESS;
        match self {
            Self::File { stack, .. } => Ok(stack.clone()),
            Self::Preset(preset) => {
                // The pixels that the factors say, in rows of those on the right.
                if let Some(factors) = &preset.in_factors {
                    let product = |factors: &[usize]| {
                        factors.iter().fold(1, |all: usize, &factor| all.saturating_mul(factor))
                    };
                    let (rows, columns) = factors.split_at(factors.len().div_ceil(2));
                    input = [1, product(rows), product(columns)];
                }
                preset.stack(input, classes)
            }
        }
    }

    /// The options, unless it is a file's.
    pub fn into_preset(self) -> Option<Preset> {
        match self {
            Self::Preset(preset) => Some(preset),
            Self::File { .. } => None,
        }
    }
}
