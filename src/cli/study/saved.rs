//! `sweep.toml`: the study of a folder, with all that its runs follow from, so that it goes on without its options.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::paths;
use crate::data::LoadOptions;
use crate::files::{if_there, read_toml, write_whole};
use crate::study::{Images, Study};
use crate::{Error, Result};

const FILE: &str = "sweep.toml";

/// A study and its data.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// Where the data is.
    #[serde(with = "paths::stored")]
    pub data: PathBuf,
    /// How its images are taken.
    pub load: LoadOptions,
    /// What they are.
    pub images: Images,
    /// The study.
    pub study: Study,
}

impl Saved {
    /// Whether a folder has one.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(FILE).is_file()
    }

    /// Reads that of a folder, if it has one.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it cannot be read, [`Error::Malformed`] naming the line that is wrong.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        if_there(read_toml(&folder.join(FILE), "the study of a folder"))
    }

    /// Writes it, unless the folder has the same.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let text =
            toml::to_string(self).map_err(|error| Error::internal("writing sweep.toml", error))?;
        let path = folder.join(FILE);
        // Of many processes that share the folder, most find it there.
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            return Ok(());
        }
        write_whole(&path, text.as_bytes()).map(drop)
    }
}
