//! Image files, and sets of them in class folders.

use std::fs;
use std::io::Write;
use std::path::Path;

use image::ExtendedColorType;
use zip::CompressionMethod;
use zip::write::{SimpleFileOptions, ZipWriter};

use super::data::files;
use super::numbers;

/// Writes a grey image, or one of three channels one after the other.
pub fn write_png(path: &Path, [channels, height, width]: [usize; 3], pixels: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let (plane, color) = match channels {
        1 => (pixels.to_vec(), ExtendedColorType::L8),
        _ => {
            let pixel = |at| (0..3).map(move |channel| pixels[channel * height * width + at]);
            ((0..height * width).flat_map(pixel).collect(), ExtendedColorType::Rgb8)
        }
    };
    image::save_buffer(path, &plane, width as u32, height as u32, color).unwrap();
}

/// The training and the test part of [`files`]: pixels of 8 x 8 images, and labels.
pub fn parts() -> [(Vec<u8>, Vec<u8>); 2] {
    let files = files();
    ["train", "t10k"].map(|part| {
        let images = &files[&*format!("{part}-images-idx3-ubyte")];
        let labels = &files[&*format!("{part}-labels-idx1-ubyte")];
        (images[16..].to_vec(), labels[8..].to_vec())
    })
}

/// Writes the set of [`files`] as class folders 0, 1, 2, the images numbered in its order.
pub fn write_folders(folder: &Path) {
    for (part, (pixels, labels)) in ["train", "test"].into_iter().zip(parts()) {
        for (at, (image, label)) in pixels.chunks(64).zip(&labels).enumerate() {
            let path = folder.join(format!("{part}/{label}/{at}.png"));
            write_png(&path, [1, 8, 8], image);
        }
    }
}

/// The array of a NumPy file.
pub fn npy(descr: &str, shape: &str, content: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    header += &" ".repeat(63 - (10 + header.len()) % 64);
    header.push('\n');
    let mut file = b"\x93NUMPY\x01\0".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(content);
    file
}

/// A NumPy archive.
pub fn archive_of(arrays: &[(&str, Vec<u8>)], deflated: bool) -> Vec<u8> {
    let mut archive = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let method = if deflated { CompressionMethod::Deflated } else { CompressionMethod::Stored };
    for (name, array) in arrays {
        let options = SimpleFileOptions::default().compression_method(method);
        archive.start_file(format!("{name}.npy"), options).unwrap();
        archive.write_all(array).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// The set of [`files`] as an archive, as Keras has its sets; the labels in 64 bits.
pub fn archive(deflated: bool) -> Vec<u8> {
    let arrays = ["train", "test"].into_iter().zip(parts()).flat_map(|(part, (pixels, labels))| {
        let count = labels.len();
        let labels: Vec<u8> =
            labels.iter().flat_map(|&label| i64::from(label).to_le_bytes()).collect();
        [
            (format!("x_{part}"), npy("|u1", &format!("({count}, 8, 8)"), &pixels)),
            (format!("y_{part}"), npy("<i8", &format!("({count},)"), &labels)),
        ]
    });
    let arrays: Vec<(String, Vec<u8>)> = arrays.collect();
    let arrays: Vec<(&str, Vec<u8>)> =
        arrays.iter().map(|(name, array)| (&**name, array.clone())).collect();
    archive_of(&arrays, deflated)
}

/// Writes images of 12 x 10 pixels in three classes that are told apart by their colour, some of it noise.
pub fn write_colours(folder: &Path, count: usize) {
    for (class, name) in ["blue", "green", "red"].into_iter().enumerate() {
        let noise = numbers(count * 360, class as u64);
        for at in 0..count {
            let pixels = (0..360).map(|number| {
                let bright = if number / 120 == 2 - class { 190.0 } else { 60.0 };
                (bright + 50.0 * noise[at * 360 + number]) as u8
            });
            let path = folder.join(format!("{name}/{at}.png"));
            write_png(&path, [3, 12, 10], &pixels.collect::<Vec<_>>());
        }
    }
}
