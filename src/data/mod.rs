//! The data set: in which form it is (`load`), how its images are taken (`options`), where its files are ([`fashion_mnist`]; in a folder: `folder`, under which
//! names: `name`), whether they belong together (`set`), their formats ([`idx`]; what else is met in their place: `kind`;
//! [`npz`] of `npy`; folders of images: `class_folders`, of files like [`picture`], kept in an `image_cache`), what the classes are
//! called ([`class_names`]), the images in memory and on the device ([`resident`]), and the order in which an epoch visits
//! them ([`batches`]).

pub mod batches;
#[cfg(feature = "images")]
mod class_folders;
mod class_names;
#[cfg(feature = "cli")]
mod download;
pub mod fashion_mnist;
mod folder;
pub mod idx;
#[cfg(feature = "images")]
mod image_cache;
mod kind;
#[cfg(feature = "images")]
mod load;
mod name;
#[cfg(feature = "images")]
mod npy;
#[cfg(feature = "images")]
pub mod npz;
#[cfg(feature = "images")]
mod options;
#[cfg(feature = "images")]
pub mod picture;
pub mod resident;
mod set;
#[cfg(feature = "images")]
mod tree;

use std::path::PathBuf;

use sha2::{Digest, Sha256};

pub use class_names::class_names;
#[cfg(feature = "images")]
pub use load::load;
#[cfg(feature = "images")]
pub use options::{LoadOptions, Loading};
pub use resident::Resident;

use crate::{Error, Result, hex};

/// Images and their labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSet {
    /// Number of images.
    pub count: usize,
    /// The shape of an image: channels (1 for grey; red, green and blue), height, width.
    pub shape: [usize; 3],
    /// Brightness from 0 to 255, `[count, channels, height, width]`.
    pub pixels: Vec<u8>,
    /// The class of each image, counted from 0.
    pub labels: Vec<u8>,
}

impl ImageSet {
    /// Numbers of an image: the product of its shape.
    pub fn size(&self) -> usize {
        self.shape.iter().product()
    }

    /// SHA-256 of count, shape, pixels and labels, as hexadecimal digits; a single channel is not counted.
    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        let grey = usize::from(self.shape[0] == 1);
        for &extent in [self.count].iter().chain(&self.shape[grey..]) {
            hash.update((extent as u64).to_le_bytes());
        }
        hash.update(&self.pixels);
        hash.update(&self.labels);
        hex(&hash.finalize())
    }

    /// Drops all images except the first `count`.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] naming `train_images` if there are fewer images, or if none would be left.
    pub fn keep_first(&mut self, count: usize) -> Result<()> {
        if !(1..=self.count).contains(&count) {
            let problem = format!("{count}: expected 1 to {}, the number of images", self.count);
            return Err(Error::argument("train_images", problem));
        }
        self.pixels.truncate(count * self.size());
        self.labels.truncate(count);
        self.count = count;
        Ok(())
    }

    /// Splits the set into a training part and `count` images that are held out, chosen by `seed`.
    /// Both keep the order of the images.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] naming `validation` if no image would be held out, or if none would be left
    /// to train on.
    pub fn hold_out(self, count: usize, seed: u64) -> Result<(Self, Self)> {
        if !(1..self.count).contains(&count) {
            let problem = format!(
                "{count}: expected at least 1 and less than {}, the number of training images",
                self.count
            );
            return Err(Error::argument("validation", problem));
        }
        Ok(self.parted(&batches::held_out(seed, self.count, count)))
    }

    /// The images besides those of these indices, which ascend, and those.
    fn parted(&self, indices: &[u32]) -> (Self, Self) {
        let is_other = |index: &u32| indices.binary_search(index).is_err();
        let others: Vec<u32> = (0..self.count as u32).filter(is_other).collect();
        (self.select(&others), self.select(indices))
    }

    /// The mean brightness of the outermost pixels of all images, from 0 to 255: whether they are bright on dark or dark on
    /// bright.
    pub fn border(&self) -> u8 {
        border(&self.pixels, self.shape)
    }

    /// Which of the classes `0..classes` no image of the set has.
    pub fn empty_classes(&self, classes: usize) -> Vec<usize> {
        let mut seen = [false; 1 << u8::BITS];
        for &label in &self.labels {
            seen[usize::from(label)] = true;
        }
        (0..classes).filter(|&class| !seen.get(class).is_some_and(|&seen| seen)).collect()
    }

    fn select(&self, indices: &[u32]) -> Self {
        let size = self.size();
        let at = |index: u32| index as usize;
        let mut pixels = Vec::with_capacity(indices.len() * size);
        for &index in indices {
            pixels.extend_from_slice(&self.pixels[at(index) * size..][..size]);
        }
        Self {
            count: indices.len(),
            shape: self.shape,
            pixels,
            labels: indices.iter().map(|&index| self.labels[at(index)]).collect(),
        }
    }
}

/// The mean brightness of the outermost pixels of images, their channels one after the other.
fn border(pixels: &[u8], [_, height, width]: [usize; 3]) -> u8 {
    let (mut sum, mut count) = (0_u64, 0_u64);
    for plane in pixels.chunks_exact((height * width).max(1)) {
        let [first, last] = [&plane[..width], &plane[(height - 1) * width..]];
        let sides = plane.chunks_exact(width).flat_map(|row| [&row[0], &row[width - 1]]);
        for &value in first.iter().chain(last).chain(sides) {
            sum += u64::from(value);
            count += 1;
        }
    }
    (sum as f64 / count.max(1) as f64).round() as u8
}

/// The images of a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataSet {
    /// The training images.
    pub train: ImageSet,
    /// The test images, of the same size.
    pub test: ImageSet,
    /// A name for each class: those of `labels.txt` beside the files, Fashion-MNIST's, or numbers. There are as many as the
    /// highest label of the training images, plus 1. Some of them may have no training image
    /// ([`DataSet::empty_classes`]).
    pub classes: Vec<String>,
    /// Where the files are, as [`fashion_mnist::load`] takes it: a folder, or one and the prefix of
    /// the names.
    pub folder: PathBuf,
    /// The file of each test image, where every image has its own; else none.
    pub test_files: Vec<PathBuf>,
    /// What a reader of the files had to assume, or passed over: lines for the user.
    pub remarks: Vec<String>,
}

/// How far the download of one file has come.
#[derive(Debug, Clone, Copy)]
pub struct Download<'a> {
    /// Where it comes from.
    pub url: &'a str,
    /// Bytes received so far; 0 in the first report.
    pub bytes: u64,
    /// Size of the file, if the server has said it.
    pub length: Option<u64>,
}

/// Compresses a file of a test.
#[cfg(test)]
fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;

    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

impl DataSet {
    /// The classes below the highest label that no training image has, in ascending order: outputs
    /// of the network that are never the right answer.
    pub fn empty_classes(&self) -> Vec<usize> {
        self.train.empty_classes(self.classes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(count: usize) -> ImageSet {
        ImageSet {
            count,
            shape: [1, 1, 2],
            pixels: (0..count * 2).map(|grey| grey as u8).collect(),
            labels: (0..count).map(|label| label as u8).collect(),
        }
    }

    #[test]
    fn classes_without_a_training_image_are_found() {
        let train = ImageSet { labels: vec![0, 200, 2, 0], ..set(4) };
        let data = DataSet {
            train,
            test: set(1),
            classes: class_names(None, 201),
            folder: PathBuf::new(),
            test_files: Vec::new(),
            remarks: Vec::new(),
        };
        let empty = data.empty_classes();
        assert_eq!(empty.len(), 198);
        assert_eq!((empty[..3].to_vec(), empty.last()), (vec![1, 3, 4], Some(&199)));
        let data = DataSet { train: set(4), classes: class_names(None, 4), ..data };
        assert!(data.empty_classes().is_empty());
        // More classes than a label can name.
        assert_eq!(set(256).empty_classes(258), [256, 257]);
    }

    #[test]
    fn the_first_images_are_kept() {
        let mut kept = set(5);
        kept.keep_first(2).unwrap();
        assert_eq!(kept, set(2));
        for count in [0, 3] {
            let error = kept.keep_first(count).unwrap_err().to_string();
            assert!(error.starts_with("train_images: "), "{error}");
        }
    }

    #[test]
    fn the_border_of_images_is_measured() {
        let frame =
            |outer: u8, inner: u8| [[outer; 5], [outer, outer, inner, outer, outer], [outer; 5]];
        let pixels = [frame(10, 250), frame(20, 250)].concat().concat();
        let images = ImageSet { count: 2, shape: [1, 3, 5], pixels, labels: vec![0, 0] };
        // The inner pixels beside the middle one are of the frame's brightness, but no part of the border.
        assert_eq!(images.border(), 15);
        assert_eq!(ImageSet { count: 0, pixels: Vec::new(), ..images }.border(), 0);
    }

    #[test]
    fn holding_out_splits_the_set() {
        let (train, held_out) = set(10).hold_out(3, 200).unwrap();
        assert_eq!((train.count, held_out.count), (7, 3));
        let mut labels = [train.labels.clone(), held_out.labels.clone()].concat();
        labels.sort_unstable();
        assert_eq!(labels, set(10).labels);
        for part in [&train, &held_out] {
            assert!(part.labels.is_sorted());
            let first_pixels: Vec<u8> =
                part.pixels.iter().step_by(2).map(|grey| grey / 2).collect();
            assert_eq!(first_pixels, part.labels, "an image lost its label");
        }
        for count in [0, 10] {
            let error = set(10).hold_out(count, 200).unwrap_err().to_string();
            assert!(error.starts_with("validation: "), "{error}");
        }
    }
}
