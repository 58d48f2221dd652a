//! The reader of images: any bytes are refused with one line, or give an image of the shape that was asked for. Those of
//! more than 65,536 pixels are left out, since a few bytes that claim to be one take a second.

#![no_main]

use std::io::Cursor;
use std::path::Path;

use image::ImageReader;
use libfuzzer_sys::fuzz_target;
use tnet_gpu::data::picture::{Target, decode};

fuzz_target!(|bytes: &[u8]| {
    let size = ImageReader::new(Cursor::new(bytes)).with_guessed_format().unwrap().into_dimensions();
    if size.is_ok_and(|(width, height)| u64::from(width) * u64::from(height) > 1 << 16) {
        return;
    }
    let small = Target { size: Some([5, 3]), channels: Some(1), invert: false };
    for target in [Target::default(), small, Target { channels: Some(3), invert: true, ..small }] {
        match decode(Path::new("fuzz"), bytes, target) {
            Ok(picture) => {
                assert_eq!(picture.pixels.len(), picture.shape.iter().product::<usize>());
                assert!(target.channels.is_none_or(|channels| channels == picture.shape[0]));
                assert!(target.size.is_none_or(|size| size == picture.shape[1..]));
            }
            Err(error) => assert_eq!(error.to_string().lines().count(), 1),
        }
    }
});
