//! Loads a data set in whichever form it is: the four files of [`super::idx`], a folder of images for each class, or a
//! NumPy archive.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::picture::Target;
use super::{DataSet, Download, batches, class_folders, fashion_mnist, npz, picture};
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

/// Loads the set that `given` names, else the one that `$TNET_DATA` names, else Fashion-MNIST as [`fashion_mnist::load`]
/// does. What is named is one of these:
///
/// - the four IDX files, as for [`fashion_mnist::load`];
/// - a folder with a folder of PNG or JPEG files for each class in `train` and `test`, or without these two, or a folder of
///   one NumPy archive;
/// - a NumPy archive with the arrays `x_train`, `y_train`, `x_test` and `y_test`.
///
/// `follow` is called as loading proceeds; nothing is printed.
///
/// # Errors
///
/// [`Error::Malformed`] and [`Error::Io`] naming the file, [`Error::Images`] with every image that cannot be read,
/// [`Error::Argument`] naming an option, [`Error::Memory`] where there is too little for the images, and what
/// [`fashion_mnist::load`] returns.
pub fn load(
    given: Option<&Path>,
    options: &LoadOptions,
    follow: &mut dyn FnMut(Loading<'_>),
) -> Result<DataSet> {
    options.check()?;
    let named = given.map(Path::to_path_buf).or_else(fashion_mnist::from_environment);
    match named.as_deref().map_or(Ok(None), Form::of)? {
        Some(Form::Folders(folder)) => class_folders::read(&folder, options, follow),
        Some(Form::Archive(file)) => Ok(resized(npz::load(&file, options)?, options)),
        None => {
            let mut follow = |download: Download<'_>| follow(Loading::Download(download));
            Ok(resized(fashion_mnist::load(given, &mut follow)?, options))
        }
    }
}

/// What a path names.
enum Form {
    Folders(PathBuf),
    Archive(PathBuf),
}

impl Form {
    /// None for the four files, and for what nobody recognises: that is an error of theirs.
    fn of(path: &Path) -> Result<Option<Self>> {
        let is_archive =
            |path: &Path| path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("npz"));
        if path.is_file() {
            return Ok(is_archive(path).then(|| Self::Archive(path.to_path_buf())));
        }
        if !path.is_dir() || super::folder::is_set(path) {
            return Ok(None);
        }
        if class_folders::are_in(path) {
            return Ok(Some(Self::Folders(path.to_path_buf())));
        }
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        let mut archives: Vec<PathBuf> =
            entries.map(|entry| entry.path()).filter(|path| is_archive(path)).collect();
        archives.sort();
        match archives.len() {
            0 => Ok(None),
            1 => Ok(archives.pop().map(Self::Archive)),
            count => {
                let expected = "one NumPy archive, or the name of one";
                Err(Error::malformed(path, "data set", expected, format!("{count} of them")))
            }
        }
    }
}

impl LoadOptions {
    fn check(&self) -> Result<()> {
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

/// A set whose images have the size and the channels that were asked for.
fn resized(data: DataSet, options: &LoadOptions) -> DataSet {
    let target = Target { size: options.size, channels: options.channels, invert: false };
    let [train, test] = [data.train, data.test].map(|set| picture::set(set, target));
    DataSet { train, test, ..data }
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
