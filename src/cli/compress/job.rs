//! The networks of all bonds: what they share, and how each is found.

use std::path::PathBuf;

use super::super::data::DataArgs;
use super::super::run_data::Found;
use super::super::training::{check_space, split};
use super::super::{run_data, say};
use super::table::Row;
use crate::compress::{By, Candidate, Compressed, Moments, inputs};
use crate::data::{ImageSet, LoadOptions, Resident, fashion_mnist};
use crate::device::OpenDevice;
use crate::model::ModelFile;
use crate::net::Snapshot;
use crate::text::shown;
use crate::train::{Splits, StopFlag, TrainConfig, evaluate, run};
use crate::{Result, memory};

/// What a bond is chosen by.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    /// It is given.
    Bond(usize),
    /// The largest error that is allowed.
    Error(f64),
}

/// The data, on the host and on the device.
#[derive(Debug)]
pub struct Data {
    /// Where it is.
    pub folder: PathBuf,
    /// How its images are taken.
    pub images: LoadOptions,
    /// How many training images are used, the held-out ones included.
    pub train_images: usize,
    /// The images.
    pub splits: Splits,
    train: Resident,
    test: Resident,
}

/// Everything that the networks of all bonds share.
#[derive(Debug)]
pub struct Job {
    /// The network that is compressed.
    pub model: ModelFile,
    /// The layers to replace, in their order.
    pub candidates: Vec<Candidate>,
    /// How cores are found.
    pub by: By,
    /// The data, if there is any.
    pub data: Option<Data>,
    /// The device.
    pub opened: OpenDevice,
    /// Asks to stop.
    pub stop: StopFlag,
    /// Of the inputs of the first candidate, which are the same for every bond.
    first_inputs: Option<Moments>,
}

impl Data {
    /// The data of a folder that was named, else the run's, else Fashion-MNIST where it is on this machine and fits; it is
    /// an error that there is none only if it `is_needed`.
    pub fn load(
        args: &DataArgs,
        train_images: Option<usize>,
        is_needed: bool,
        model: &ModelFile,
        config: &TrainConfig,
        opened: &OpenDevice,
    ) -> Result<Option<Self>> {
        let loaded = || run_data::for_model(args, model);
        let found = match is_needed {
            true => Some(loaded()?),
            // What no option asks for is taken where it is, and fits.
            false if model.trained.is_none() && !fashion_mnist::is_here() => None,
            false => loaded().map_err(|error| say!("without data: {error}")).ok(),
        };
        let Some(Found { data, options: images, .. }) = found else {
            say!("data: none; accuracy and the error of the outputs are not measured");
            return Ok(None);
        };
        let train_images = match (train_images, &model.trained) {
            (Some(count), _) => count,
            (None, Some(_)) => run::train_images(&model.file).unwrap_or(data.train.count),
            (None, None) => data.train.count,
        };
        let (folder, splits) = split(data, config, train_images)?;
        check_space(opened, config, &splits)?;
        say!(
            "data: {} ({} training images, {} test images)",
            shown(&folder),
            splits.train.count,
            splits.test.count
        );
        let on_device = |set: &ImageSet| Resident::new(set, &opened.device);
        let (train, test) = (on_device(&splits.train), on_device(&splits.test));
        Ok(Some(Self { folder, images, train_images, splits, train, test }))
    }
}

impl Job {
    /// With what no bond changes.
    pub fn new(
        model: ModelFile,
        candidates: Vec<Candidate>,
        by: By,
        data: Option<Data>,
        opened: OpenDevice,
        stop: StopFlag,
    ) -> Result<Self> {
        let mut job = Self { model, candidates, by, data, opened, stop, first_inputs: None };
        if let Some(first) = job.candidates.first() {
            job.first_inputs = job.inputs(&job.model.snapshot, first.at)?;
        }
        Ok(job)
    }

    /// The network at a bond, and a row for each of its layers.
    pub fn compressed(&self, goal: Goal) -> Result<(Snapshot, Vec<Row>)> {
        let mut snapshot = self.model.snapshot.clone();
        let mut rows = Vec::new();
        for (index, candidate) in self.candidates.iter().enumerate() {
            let own = match index {
                0 => None,
                _ => self.inputs(&snapshot, candidate.at)?,
            };
            let inputs = if index == 0 { self.first_inputs.as_ref() } else { own.as_ref() };
            let compressed = self.layer(candidate, goal, inputs)?;
            let bond = compressed.bond();
            let Compressed { weight_error, output_error, .. } = compressed;
            let layer = compressed.layer.clone();
            snapshot = compressed.into_place(&snapshot, candidate.at)?;
            rows.push(Row {
                layer: candidate.name.clone(),
                bond,
                parameters: snapshot.stack().parameters()?,
                weight_error,
                output_error,
                accuracy: self.accuracy(&snapshot)?,
                bonds: layer.bond.cuts(layer.in_factors.len()),
                in_factors: layer.in_factors.clone(),
                out_factors: layer.out_factors.clone(),
                pad: (layer.pad != [0, 0]).then_some(layer.pad),
                timed: layer,
            });
        }
        Ok((snapshot, rows))
    }

    /// One layer.
    fn layer(
        &self,
        candidate: &Candidate,
        goal: Goal,
        inputs: Option<&Moments>,
    ) -> Result<Compressed> {
        let allowed = |bond: usize| {
            self.stop.check()?;
            match self.by {
                By::Weights => Ok(()),
                By::Data => memory::check("fitting cores of this bond", candidate.needed(bond)),
            }
        };
        let compressed = match goal {
            Goal::Bond(bond) => {
                allowed(bond)?;
                candidate.compressed(bond, self.by, inputs)?
            }
            Goal::Error(error) => candidate.within(error, self.by, inputs, &allowed)?,
        };
        if let (By::Data, Some(error)) = (self.by, compressed.output_error) {
            let (name, bond, sweeps) = (&candidate.name, compressed.bond(), compressed.sweeps);
            let sweeps = if sweeps == 1 { "1 sweep".into() } else { format!("{sweeps} sweeps") };
            say!("{name}, bond {bond}: error of the outputs {error:.4} after {sweeps}");
        }
        Ok(compressed)
    }

    /// The moments of the inputs that a layer gets from the training images, if there are any.
    fn inputs(&self, snapshot: &Snapshot, layer: usize) -> Result<Option<Moments>> {
        let Some(data) = &self.data else { return Ok(None) };
        let go_on = || self.stop.check();
        inputs(snapshot, layer, &data.train, &self.opened.device, &go_on).map(Some)
    }

    /// The share of test images that a network classifies correctly, if there are any.
    pub fn accuracy(&self, snapshot: &Snapshot) -> Result<Option<f64>> {
        let Some(data) = &self.data else { return Ok(None) };
        let network = snapshot.on(&self.opened.device)?;
        Ok(Some(evaluate(&network, &data.test)?.accuracy))
    }
}
