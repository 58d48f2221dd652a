//! The IDX reader: whatever the bytes, an answer, and nothing but what they say.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use tnet_gpu::data::idx;

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("fuzz");
    if let Ok(idx) = idx::read::<1>(path, bytes) {
        assert_eq!(idx.bytes.len(), idx.extents.iter().product::<usize>());
    }
    if let Ok(idx) = idx::read::<3>(path, bytes) {
        assert_eq!(idx.bytes.len(), idx.extents.iter().product::<usize>());
    }
});
