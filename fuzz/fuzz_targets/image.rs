//! The reader of images: any bytes are refused with one line, or give an image of the shape that was asked for.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use tnet_gpu::data::picture::{Target, decode};

fuzz_target!(|bytes: &[u8]| {
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
