//! The network that a command reads.

use std::path::PathBuf;

use clap::Args;

use super::say;
use crate::Result;
use crate::model::{Layout, ModelFile};

/// Which network is read.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// A run folder (its best network if one was chosen, else its last), a checkpoint, an exported file, or another
    /// program's safetensors file: dense layers with ReLU between them
    #[arg(value_name = "MODEL")]
    model: PathBuf,

    /// How another program's file has its matrices, where their shapes do not tell: [out, in] or [in, out]
    #[arg(long, value_enum, value_name = "LAYOUT")]
    layout: Option<Layout>,
}

impl ModelArgs {
    /// Reads the network, and says what had to be assumed.
    pub fn read(&self) -> Result<ModelFile> {
        let model = ModelFile::read(&self.model, self.layout)?;
        model.remarks.iter().for_each(|remark| say!("{remark}"));
        Ok(model)
    }
}
