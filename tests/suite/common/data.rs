//! Small data sets and their files.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use tnet_gpu::data::ImageSet;

use super::numbers;

/// A file in the IDX format.
pub fn idx(extents: &[usize], elements: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, extents.len() as u8];
    bytes.extend(extents.iter().flat_map(|&extent| (extent as u32).to_be_bytes()));
    bytes.extend(elements);
    bytes
}

/// The same bytes, compressed.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Files of a set, by name.
pub type Files = HashMap<&'static str, Vec<u8>>;

/// A set of 60 training and 12 test images of 8 x 8 pixels in 3 classes: each class lights a stripe
/// of its own, with some noise around it.
pub fn files() -> Files {
    let part = |count: usize, seed: u64| {
        let noise = numbers(count * 64, seed);
        let labels: Vec<u8> = (0..count).map(|image| (image % 3) as u8).collect();
        let pixels: Vec<u8> = (0..count * 64)
            .map(|at| {
                let stripe = at % 64 / 8 / 2 == at / 64 % 3;
                (if stripe { 200.0 } else { 40.0 } + 40.0 * noise[at]) as u8
            })
            .collect();
        (idx(&[count, 8, 8], &pixels), idx(&[count], &labels))
    };
    let (train_images, train_labels) = part(60, 1);
    let (test_images, test_labels) = part(12, 2);
    HashMap::from([
        ("train-images-idx3-ubyte", train_images),
        ("train-labels-idx1-ubyte", train_labels),
        ("t10k-images-idx3-ubyte", test_images),
        ("t10k-labels-idx1-ubyte", test_labels),
    ])
}

/// Writes a set into a new folder.
pub fn write_files(folder: &Path, files: &Files) {
    fs::create_dir_all(folder).unwrap();
    for (name, bytes) in files {
        fs::write(folder.join(name), bytes).unwrap();
    }
}

/// Images of one row in 3 classes.
pub fn images(count: usize, pixels: usize) -> ImageSet {
    ImageSet {
        count,
        shape: [1, 1, pixels],
        pixels: (0..count * pixels).map(|at| (at * 37 % 256) as u8).collect(),
        labels: (0..count).map(|image| (image % 3) as u8).collect(),
    }
}

/// The grey values of some images as the network gets them, from 0 to 1.
pub fn scaled(set: &ImageSet, order: &[u32]) -> Vec<f32> {
    let pixels = set.size();
    let images = order.iter().flat_map(|&image| &set.pixels[image as usize * pixels..][..pixels]);
    images.map(|&grey| f32::from(grey) / 255.0).collect()
}

/// The seeds that a fuzz target found.
pub fn fuzz_seeds(target: &str) -> Vec<Vec<u8>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    fs::read_dir(corpus).unwrap().map(|file| fs::read(file.unwrap().path()).unwrap()).collect()
}
