//! A trained network in a file: of a training run, one that was exported, or another program's.
//!
//! ```text
//! run folder, checkpoint ─┐
//! exported file (file)    ├─▶ ModelFile: a Snapshot, names of the classes, what is known of its training
//! other programs (foreign)┘
//! ```

pub mod file;
pub mod foreign;

use std::path::{Path, PathBuf};

use burn::tensor::Device;

use crate::Result;
use crate::data::class_names;
use crate::net::{Network, Snapshot};
use crate::tensor_file::{Header, TensorFile};
use crate::text::shown;
use crate::train::TrainConfig;
use crate::train::checkpoint::{self, Checkpoint, Described};
use crate::train::run::{self, Newest};

pub use foreign::Layout;

/// A trained network, read from a file.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelFile {
    /// The file.
    pub file: PathBuf,
    /// The network and its weights.
    pub snapshot: Snapshot,
    /// A name for each class.
    pub classes: Vec<String>,
    /// [`crate::data::ImageSet::border`] of the images it was trained on, where the file tells.
    pub border: Option<u8>,
    /// How it was trained, if it is a training run's.
    pub trained: Option<Trained>,
    /// What a reader of the file had to assume, or passed over: lines for the user.
    pub remarks: Vec<String>,
}

/// What is known of the training of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// The options.
    pub config: TrainConfig,
    /// Finished epochs.
    pub epoch: usize,
    /// The data: [`crate::train::Splits::sha256`].
    pub data: String,
    /// Its test images: [`crate::data::ImageSet::sha256`]. None in files of earlier versions.
    pub test: Option<String>,
}

impl ModelFile {
    /// Reads a file, or of a run folder the best network if one was chosen, else the last. `layout` says how another
    /// program's file has its matrices, where their shapes do not tell.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Io`] when it cannot be read, [`crate::Error::Malformed`] when it is none of these files or is
    /// damaged, [`crate::Error::Argument`] naming `layout` where it must be known, or does not fit.
    pub fn read(path: &Path, layout: Option<Layout>) -> Result<Self> {
        let path = run::to_read(path)?;
        if path.is_dir() {
            return match run::best(&path) {
                Some(file) => Self::of_checkpoint(&file, Checkpoint::read(&file)?),
                None => Self::newest(&path),
            };
        }
        let file = TensorFile::open(&path)?;
        let plan = Plan::new(&path, file.header(), layout)?;
        let (header, bytes) = file.content()?;
        plan.read(&path, &header, &bytes)
    }

    /// Reads a file's content. Errors name `path`.
    ///
    /// # Errors
    ///
    /// As [`ModelFile::read`].
    pub fn parse(path: &Path, bytes: &[u8], layout: Option<Layout>) -> Result<Self> {
        let header = Header::parse(path, bytes, bytes.len() as u64)?;
        Plan::new(path, &header, layout)?.read(path, &header, bytes)
    }

    fn newest(run: &Path) -> Result<Self> {
        let Newest { file, checkpoint, passed_over } = run::newest(run)?;
        let mut model = Self::of_checkpoint(&file, checkpoint)?;
        let remark = passed_over.map(|error| format!("{error}: using {} instead", shown(&file)));
        model.remarks.extend(remark);
        Ok(model)
    }

    fn of_checkpoint(file: &Path, checkpoint: Checkpoint) -> Result<Self> {
        let snapshot = checkpoint.snapshot()?;
        let Checkpoint { config, epoch, data, test, classes, border, .. } = checkpoint;
        let outputs = config.network.outputs()?;
        let classes = match classes.is_empty() {
            true => class_names(test.as_deref(), outputs),
            false => classes,
        };
        Ok(Self {
            file: file.to_path_buf(),
            snapshot,
            classes,
            border,
            trained: Some(Trained { config, epoch, data, test }),
            remarks: Vec::new(),
        })
    }
}

/// What a file is, by its header, which has been checked.
enum Plan {
    Checkpoint(Box<Described>),
    Exported(file::Plan),
    Foreign(foreign::Plan),
}

impl Plan {
    fn new(path: &Path, header: &Header, layout: Option<Layout>) -> Result<Self> {
        if header.metadata(checkpoint::KEY).is_some() {
            return Described::by(path, header)
                .map(|described| Self::Checkpoint(Box::new(described)));
        }
        if header.metadata(file::KEY).is_some() {
            return file::Plan::new(path, header).map(Self::Exported);
        }
        foreign::Plan::new(path, header, layout).map(Self::Foreign)
    }

    fn read(self, path: &Path, header: &Header, bytes: &[u8]) -> Result<ModelFile> {
        let (snapshot, classes, border, remarks) = match self {
            Self::Checkpoint(described) => {
                return ModelFile::of_checkpoint(path, described.content(path, header, bytes)?);
            }
            Self::Exported(plan) => {
                let (snapshot, classes, border) = plan.read(path, header, bytes)?;
                (snapshot, classes, border, Vec::new())
            }
            Self::Foreign(plan) => {
                let (snapshot, remarks) = plan.read(path, header, bytes)?;
                let classes = class_names(None, snapshot.stack().outputs()?);
                (snapshot, classes, None, remarks)
            }
        };
        Ok(ModelFile {
            file: path.to_path_buf(),
            snapshot,
            classes,
            border,
            trained: None,
            remarks,
        })
    }
}

impl Network {
    /// Reads a trained network and puts it on a device: a run folder, a checkpoint, or a file in the safetensors format
    /// that was exported or is another program's.
    ///
    /// # Errors
    ///
    /// As [`ModelFile::read`].
    pub fn load(path: impl AsRef<Path>, device: &Device) -> Result<Self> {
        ModelFile::read(path.as_ref(), None)?.snapshot.on(device)
    }
}
