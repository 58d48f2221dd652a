//! The four files of a set, read, and checked to belong together.

use std::fs::File;
use std::path::Path;

use super::folder::Found;
use super::idx::{self, Idx};
use super::{DataSet, ImageSet, class_names};
use crate::text::shown;
use crate::{Error, Result, files};

/// Reads the four files of a set and checks that they belong together.
pub fn read_set(Found { folder, paths }: Found, sums: [Option<&str>; 4]) -> Result<DataSet> {
    let train = read_part([&paths[0], &paths[1]], [sums[0], sums[1]])?;
    let test = read_part([&paths[2], &paths[3]], [sums[2], sums[3]])?;

    let size = |set: &ImageSet| format!("{} x {} pixels", set.shape[1], set.shape[2]);
    if size(&train) != size(&test) {
        let expected = format!("{}, as in {}", size(&train), shown(&paths[0]));
        return Err(Error::malformed(&paths[2], "images", expected, size(&test)));
    }
    let classes = train.labels.iter().max().map_or(0, |&label| usize::from(label) + 1);
    let beyond = test.labels.iter().position(|&label| usize::from(label) >= classes);
    if let Some(index) = beyond {
        let expected = format!("less than {classes}, the classes of {}", shown(&paths[1]));
        let found = test.labels[index];
        return Err(Error::malformed(&paths[3], format!("label {index}"), expected, found));
    }
    let names = class_names::read(files::parent(&paths[1]), classes)?;
    let classes = match names {
        Some(names) => names,
        None => class_names(Some(&test.sha256()), classes),
    };
    Ok(DataSet { train, test, classes, folder, test_files: Vec::new(), remarks: Vec::new() })
}

/// Reads images and their labels.
fn read_part(paths: [&Path; 2], sums: [Option<&str>; 2]) -> Result<ImageSet> {
    let images: Idx<3> = read_file(paths[0], sums[0])?;
    let labels: Idx<1> = read_file(paths[1], sums[1])?;
    let [count, height, width] = images.extents;
    if labels.extents != [count] {
        let expected = format!("{count}, one for each image of {}", shown(paths[0]));
        return Err(Error::malformed(paths[1], "labels", expected, labels.extents[0]));
    }
    Ok(ImageSet { count, shape: [1, height, width], pixels: images.bytes, labels: labels.bytes })
}

fn read_file<const RANK: usize>(path: &Path, sum: Option<&str>) -> Result<Idx<RANK>> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let idx = idx::read(path, file)?;
    match sum {
        Some(sum) if idx.sha256() != sum => Err(Error::malformed(
            path,
            "content",
            format!(
                "SHA-256 {sum}, that of Fashion-MNIST (delete the file, or name its folder explicitly if it holds another set)"
            ),
            idx.sha256(),
        )),
        _ => Ok(idx),
    }
}
