//! NumPy archives as Keras publishes its data sets: a ZIP file of the arrays `x_train`, `y_train`, `x_test` and `y_test`,
//! deflated or stored (`numpy.savez_compressed`, `numpy.savez`).
//!
//! Images are `[count, height, width]`, or with 1 or 3 channels last or first; whole numbers from 0 to 255. Labels are whole
//! numbers. Files are not trusted: memory grows with the data that is really there.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

use super::npy::{self, Array};
use super::options::{LoadOptions, test_part};
use super::{DataSet, ImageSet, class_names, kind};
use crate::text::{excerpt, one_line};
use crate::{Error, Result, files};

/// Loads an archive. `labels.txt` beside it may name the classes.
///
/// # Errors
///
/// [`Error::Malformed`] naming the file and the array that is wrong, [`Error::Memory`] where there is too little for it,
/// [`Error::Io`] when reading fails.
pub fn load(path: &Path, options: &LoadOptions) -> Result<DataSet> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let (train, test) = read(path, file, options)?;
    let classes = train.labels.iter().max().map_or(0, |&label| usize::from(label) + 1);
    let beyond = test.labels.iter().position(|&label| usize::from(label) >= classes);
    if let Some(at) = beyond {
        let expected = format!("less than {classes}, the classes of y_train");
        return Err(Error::malformed(
            path,
            format!("y_test: label {at}"),
            expected,
            test.labels[at],
        ));
    }
    let classes = match class_names::read(files::parent(path), classes)? {
        Some(names) => names,
        None => class_names(Some(&test.sha256()), classes),
    };
    let folder = path.to_path_buf();
    Ok(DataSet { train, test, classes, folder, test_files: Vec::new(), remarks: Vec::new() })
}

/// The training and the test images of an archive. Errors name `path`.
///
/// # Errors
///
/// As [`load`].
pub fn read(
    path: &Path,
    mut reader: impl Read + Seek,
    options: &LoadOptions,
) -> Result<(ImageSet, ImageSet)> {
    let archive = ZipArchive::new(&mut reader);
    let mut archive = match archive {
        Ok(archive) => archive,
        Err(error) => {
            let kind = start_of(&mut reader);
            let found = kind.unwrap_or_else(|| one_line(error));
            return Err(Error::malformed(path, "file", "a whole NumPy archive", found));
        }
    };
    let train = part(path, &mut archive, ["x_train", "y_train"])?;
    let has_test =
        ["x_test", "y_test"].iter().any(|name| archive.index_for_name(&file_name(name)).is_some());
    let (train, test) = match has_test {
        true => (train, part(path, &mut archive, ["x_test", "y_test"])?),
        false => train.parted(&test_part(path, &train.labels, options)?),
    };
    if train.shape != test.shape {
        let [expected, found] = [&train, &test].map(|set| format!("{:?}", set.shape));
        let expected = format!("images of {expected} (channels, height, width), as in x_train");
        return Err(Error::malformed(path, "x_test", expected, found));
    }
    Ok((train, test))
}

/// What the file begins with, if it is known and no archive.
fn start_of(reader: &mut (impl Read + Seek)) -> Option<String> {
    reader.rewind().ok()?;
    let mut start = Vec::new();
    reader.take(kind::START as u64).read_to_end(&mut start).ok()?;
    if start.starts_with(b"PK") {
        return None;
    }
    Some(match kind::of(&start) {
        Some(kind) => kind.into(),
        None if start.is_empty() => "an empty file".into(),
        None => "no ZIP archive".into(),
    })
}

fn file_name(array: &str) -> String {
    format!("{array}.npy")
}

/// An array of the archive.
fn array<'a, R: Read + Seek>(
    path: &Path,
    archive: &mut ZipArchive<R>,
    name: &'a str,
) -> Result<Array<'a>> {
    let held: Vec<String> =
        archive.file_names().take(8).flatten().map(|name| excerpt(&name)).collect();
    let file = archive.by_name(&file_name(name)).map_err(|error| match error {
        ZipError::FileNotFound => {
            let expected = "the arrays x_train, y_train, x_test and y_test";
            let found = if held.is_empty() { "none".into() } else { held.join(", ") };
            Error::malformed(path, "archive", expected, found)
        }
        error => npy::damaged(path, name, error),
    })?;
    Array::read(path, name, file)
}

/// Images and their labels.
fn part<R: Read + Seek>(
    path: &Path,
    archive: &mut ZipArchive<R>,
    [images, labels]: [&str; 2],
) -> Result<ImageSet> {
    let x = array(path, archive, images)?;
    let y = array(path, archive, labels)?;
    let (count, shape, channels_last) = x.images(path)?;
    let is_label = y.shape()[0] == count && y.shape()[1..].iter().all(|&extent| extent == 1);
    if !is_label {
        let expected = format!("[{count}], a label for each image of {images}");
        return Err(Error::malformed(path, labels, expected, format!("{:?}", y.shape())));
    }
    let [channels, height, width] = shape;
    let mut pixels = x.bytes(path)?;
    if channels_last && channels > 1 {
        let mut planes = Vec::with_capacity(pixels.len());
        for image in pixels.chunks_exact(channels * height * width) {
            for channel in 0..channels {
                planes.extend(image.iter().skip(channel).step_by(channels));
            }
        }
        pixels = planes;
    }
    Ok(ImageSet { count, shape, pixels, labels: y.bytes(path)? })
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use zip::CompressionMethod;
    use zip::write::{SimpleFileOptions, ZipWriter};

    use super::*;

    /// An array as NumPy writes it.
    fn npy(descr: &str, fortran: bool, shape: &str, content: &[u8]) -> Vec<u8> {
        let fortran = if fortran { "True" } else { "False" };
        let mut header =
            format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}");
        header += &" ".repeat(63 - (10 + header.len()) % 64);
        header.push('\n');
        let mut file = b"\x93NUMPY\x01\0".to_vec();
        file.extend((header.len() as u16).to_le_bytes());
        file.extend(header.as_bytes());
        file.extend(content);
        file
    }

    fn npz(arrays: &[(&str, Vec<u8>)], method: CompressionMethod) -> Vec<u8> {
        let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, array) in arrays {
            let options = SimpleFileOptions::default().compression_method(method);
            archive.start_file(format!("{name}.npy"), options).unwrap();
            archive.write_all(array).unwrap();
        }
        archive.finish().unwrap().into_inner()
    }

    /// Two training images and one test image of 1 x 2 pixels, with something else in place of an array.
    fn with(name: &str, array: Vec<u8>) -> Vec<(&'static str, Vec<u8>)> {
        let mut arrays = vec![
            ("x_train", npy("|u1", false, "(2, 1, 2)", &[1, 2, 3, 4])),
            ("y_train", npy("|u1", false, "(2,)", &[0, 1])),
            ("x_test", npy("|u1", false, "(1, 1, 2)", &[5, 6])),
            ("y_test", npy("|u1", false, "(1,)", &[1])),
        ];
        if let Some((_, own)) = arrays.iter_mut().find(|(own, _)| *own == name) {
            *own = array;
        }
        arrays
    }

    fn parsed(bytes: &[u8]) -> Result<(ImageSet, ImageSet)> {
        read(Path::new("set.npz"), Cursor::new(bytes), &LoadOptions::default())
    }

    #[test]
    fn deflated_and_stored_archives_are_the_same() {
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            let (train, test) = parsed(&npz(&with("", Vec::new()), method)).unwrap();
            assert_eq!((train.count, train.shape, test.count), (2, [1, 1, 2], 1));
            assert_eq!((train.pixels, train.labels), (vec![1, 2, 3, 4], vec![0, 1]));
            assert_eq!((test.pixels, test.labels), (vec![5, 6], vec![1]));
        }
    }

    #[test]
    fn labels_may_be_any_whole_numbers_and_a_column() {
        for (descr, content) in [
            ("|i1", vec![0, 72]),
            ("<u2", vec![0, 0, 72, 0]),
            (">u2", vec![0, 0, 0, 72]),
            ("<i8", [0_i64.to_le_bytes(), 72_i64.to_le_bytes()].concat()),
            (">i4", [0_i32.to_be_bytes(), 72_i32.to_be_bytes()].concat()),
        ] {
            let arrays = with("y_train", npy(descr, false, "(2, 1)", &content));
            let (train, _) = parsed(&npz(&arrays, CompressionMethod::Stored)).unwrap();
            assert_eq!(train.labels, [0, 72], "{descr}");
        }
    }

    #[test]
    fn colours_are_planes_in_every_order() {
        // Two images of 1 x 2 pixels: value 100 i + 10 w + c.
        let value = |image: usize, column: usize, channel: usize| {
            (100 * image + 10 * column + channel) as u8
        };
        let mut expected = Vec::new();
        let mut last = Vec::new();
        for image in 0..2 {
            for channel in 0..3 {
                expected.extend([value(image, 0, channel), value(image, 1, channel)]);
            }
            for column in 0..2 {
                last.extend([0, 1, 2].map(|channel| value(image, column, channel)));
            }
        }
        let mut fortran = Vec::new();
        for channel in 0..3 {
            for column in 0..2 {
                fortran.extend([value(0, column, channel), value(1, column, channel)]);
            }
        }
        let test = npy("|u1", false, "(1, 1, 2, 3)", &[0; 6]);
        for array in [
            npy("|u1", false, "(2, 1, 2, 3)", &last),
            npy("|u1", false, "(2, 3, 1, 2)", &expected),
            npy("|u1", true, "(2, 1, 2, 3)", &fortran),
        ] {
            let mut arrays = with("x_train", array);
            arrays[2].1.clone_from(&test);
            let (train, _) = parsed(&npz(&arrays, CompressionMethod::Deflated)).unwrap();
            assert_eq!((train.shape, &train.pixels), ([3, 1, 2], &expected));
        }
    }

    #[test]
    fn a_set_without_test_images_is_divided() {
        let labels: Vec<u8> = (0..10).map(|at| at % 2).collect();
        let arrays = [
            ("x_train", npy("|u1", false, "(10, 1, 1)", &(0..10).collect::<Vec<u8>>())),
            ("y_train", npy("|u1", false, "(10,)", &labels)),
        ];
        let (train, test) = parsed(&npz(&arrays, CompressionMethod::Stored)).unwrap();
        assert_eq!((train.count, test.count), (8, 2));
        assert_eq!(test.pixels[0] % 2, test.labels[0]);
    }

    #[test]
    fn what_is_wrong_is_told_in_one_line() {
        let refused = |bytes: &[u8], with: &str| {
            let line = parsed(bytes).unwrap_err().to_string();
            assert!(line.starts_with("set.npz: ") && line.contains(with), "{with} in {line}");
            assert_eq!(line.lines().count(), 1, "{line}");
        };
        let whole = npz(&with("", Vec::new()), CompressionMethod::Stored);
        refused(b"", "file: expected a whole NumPy archive, found an empty file");
        refused(b"what is this?", "found no ZIP archive");
        refused(b"\x93NUMPY\x01\0", "found a NumPy array");
        refused(&whole[..whole.len() / 2], "file: expected a whole NumPy archive");
        let mut damaged = whole.clone();
        // A pixel of the first array: the ZIP file has its checksum.
        let at = whole.windows(4).position(|bytes| bytes == [1, 2, 3, 4]).unwrap();
        damaged[at] ^= 1;
        refused(&damaged, "x_train: expected a whole array");
        let arrays = with("", Vec::new());
        refused(
            &npz(&arrays[..1], CompressionMethod::Stored),
            "archive: expected the arrays x_train, y_train, x_test and y_test, found x_train.npy",
        );
        let four = [1, 2, 3, 4];
        for (name, array, with_text) in [
            (
                "x_train",
                npy("<f4", false, "(2, 1, 2)", &[0; 16]),
                "x_train: type: expected whole numbers (as after .astype('uint8')), found fractions, '<f4'",
            ),
            ("x_train", npy("|O", false, "(2, 1, 2)", &four), "found '|O'"),
            (
                "x_train",
                npy("|u1", false, "(2, 2)", &four),
                "x_train: expected images [count, height, width]",
            ),
            (
                "x_train",
                npy("|u1", false, "(1, 2, 1, 1, 2)", &four),
                "shape: expected 1 to 4 numbers",
            ),
            ("x_train", npy("|u1", false, "(-2, 1, 2)", &four), "shape: expected 1 to 4 numbers"),
            (
                "x_train",
                npy("|u1", false, "(0, 1, 2)", &[]),
                "x_train: expected numbers, found none: [0, 1, 2]",
            ),
            (
                "x_train",
                npy("|u1", false, "(4294967296, 4294967296, 2)", &four),
                "x_train: expected at most",
            ),
            (
                "x_train",
                npy("|u1", false, "(2, 1, 2)", &four[..3]),
                "x_train: expected 4 bytes, as its header says, found 3",
            ),
            (
                "x_train",
                npy("|u1", false, "(2, 1, 2)", &[0; 5]),
                "x_train: expected 4 bytes, as its header says, found more",
            ),
            (
                "x_train",
                b"\x93NUMPY\x02\0\xff\xff\xff\xff".to_vec(),
                "x_train: header: expected at most 4096 bytes",
            ),
            ("x_train", b"\x93NUM".to_vec(), "x_train: header: expected a whole one"),
            ("x_train", b"no array".to_vec(), "x_train: magic number"),
            (
                "x_test",
                npy("|u1", false, "(1, 2, 1)", &[5, 6]),
                "x_test: expected images of [1, 1, 2]",
            ),
            (
                "y_train",
                npy("<i2", false, "(2,)", &[0, 0, 255, 255]),
                "y_train: number 1: expected 0 to 255, found -1",
            ),
            (
                "y_train",
                npy("<i2", false, "(2,)", &[0, 0, 0, 1]),
                "y_train: number 1: expected 0 to 255, found 256",
            ),
            (
                "y_train",
                npy("|u1", false, "(3,)", &[0, 1, 2]),
                "y_train: expected [2], a label for each image of x_train, found [3]",
            ),
            ("y_train", npy("|u1", false, "(2, 10)", &[0; 20]), "y_train: expected [2]"),
        ] {
            refused(&npz(&with(name, array), CompressionMethod::Deflated), with_text);
        }
    }
}
