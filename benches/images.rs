//! 20,000 PNG files of 32 x 32 pixels in ten class folders: how long the set takes to load, beside the decoder alone in a
//! parallel loop over known paths, in turn.

#![expect(clippy::print_stdout, reason = "the times go to standard output")]

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use image::{ExtendedColorType, GrayImage, ImageError};
use rayon::prelude::*;
use tnet_gpu::data::{LoadOptions, load};

/// Number of files.
const FILES: usize = 20_000;

/// Pairs of measurements.
const PAIRS: usize = 5;

// Arguments are not looked at: cargo passes `--bench`.
fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    for class in 0..10 {
        fs::create_dir(folder.path().join(class.to_string()))?;
    }
    let mut paths: Vec<PathBuf> = Vec::new();
    for file in 0..FILES {
        // No two are alike, and none is easy to compress.
        let pixel = |at: usize| ((at * at + 31 * at * file) % 251) as u8;
        let pixels: Vec<u8> = (0..1024).map(pixel).collect();
        let path = folder.path().join(format!("{}/{file}.png", file % 10));
        image::save_buffer(&path, &pixels, 32, 32, ExtendedColorType::L8)?;
        paths.push(path);
    }
    let options = LoadOptions { cache: false, ..LoadOptions::default() };
    for _ in 0..PAIRS {
        let started = Instant::now();
        let decoded: Result<Vec<GrayImage>, ImageError> =
            paths.par_iter().map(|path| Ok(image::open(path)?.into_luma8())).collect();
        let (alone, count) = (started.elapsed(), decoded?.len());
        let started = Instant::now();
        let data = load(Some(folder.path()), &options, &mut |_| ())?;
        let loading = started.elapsed();
        assert_eq!(data.train.count + data.test.count, count);
        let share = alone.as_secs_f64() / loading.as_secs_f64();
        println!("the decoder alone {alone:.1?}, loading {loading:.1?}: {share:.2} of its speed");
    }
    Ok(())
}
