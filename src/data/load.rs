//! Loads a data set in whichever form it is: the four files of [`super::idx`], a folder of images for each class, or a
//! NumPy archive.

use std::path::{Path, PathBuf};

use super::options::{LoadOptions, Loading};
use super::picture::Target;
use super::{DataSet, Download, class_folders, fashion_mnist, npz, picture};
use crate::{Error, Result};

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

/// A set whose images have the size and the channels that were asked for.
fn resized(data: DataSet, options: &LoadOptions) -> DataSet {
    let target = Target { size: options.size, channels: options.channels, invert: false };
    let [train, test] = [data.train, data.test].map(|set| picture::set(set, target));
    DataSet { train, test, ..data }
}
