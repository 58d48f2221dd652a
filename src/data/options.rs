//! How the images of a data set are taken, and which of them become test images.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Download, batches, picture};
use crate::{Error, Result};

/// How the images of a set are taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoadOptions {
    /// Height and width to which images are resized.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<[usize; 2]>,
    /// 1 for grey, or 3 for red, green and blue. Of files in folders, none stands for 1 if every pixel of all is grey, else
    /// 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<usize>,
    /// The share of each class's images that become test images, in sets that are not divided.
    pub test_share: f64,
    /// Which ones.
    pub split_seed: u64,
    /// Channels, height and width of a network's input, for images in folders where the others do not say.
    #[serde(skip)]
    pub like: Option<[usize; 3]>,
    /// Whether decoded images are kept in the user's cache folder, and taken from there.
    #[serde(skip)]
    pub cache: bool,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { size: None, channels: None, test_share: 0.2, split_seed: 0, like: None, cache: true }
    }
}

/// How far loading has come.
#[derive(Debug, Clone, Copy)]
pub enum Loading<'a> {
    /// A file is being downloaded.
    Download(Download<'a>),
    /// Image files are being decoded.
    Images {
        /// How many have been.
        done: usize,
        /// Of how many.
        count: usize,
    },
}

impl LoadOptions {
    /// Checks that the values make sense.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] naming the field.
    pub(super) fn check(&self) -> Result<()> {
        if let Some([height, width]) = self.size
            && !(1..=picture::MAX_PIXELS as usize).contains(&height.saturating_mul(width))
        {
            let problem = format!("{height},{width}: expected 1 to {} pixels", picture::MAX_PIXELS);
            return Err(Error::argument("size", problem));
        }
        if let Some(channels) = self.channels.filter(|channels| ![1, 3].contains(channels)) {
            let problem = format!("{channels}: expected 1 (grey) or 3 (red, green, blue)");
            return Err(Error::argument("channels", problem));
        }
        if !(self.test_share > 0.0 && self.test_share < 1.0) {
            let problem = format!("{}: expected a number between 0 and 1", self.test_share);
            return Err(Error::argument("test_share", problem));
        }
        Ok(())
    }
}

/// Which images of a set that is not divided become test images, in ascending order.
pub(super) fn test_part(path: &Path, labels: &[u8], options: &LoadOptions) -> Result<Vec<u32>> {
    let test = batches::test_part(options.split_seed, labels, options.test_share);
    if test.is_empty() {
        let expected = format!("images of a class whose share of {} is one", options.test_share);
        let found = format!("{} images in all", labels.len());
        return Err(Error::malformed(path, "test images", expected, found));
    }
    Ok(test)
}
