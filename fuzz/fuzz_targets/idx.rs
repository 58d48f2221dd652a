//! The IDX reader: any bytes are refused with one line, or give as many elements as the header says.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use tnet_gpu::data::idx::{self, Idx};

fuzz_target!(|bytes: &[u8]| {
    check::<1>(bytes);
    check::<3>(bytes);
});

fn check<const RANK: usize>(bytes: &[u8]) {
    match idx::read::<RANK>(Path::new("fuzz"), bytes) {
        Ok(Idx { extents, bytes }) => assert_eq!(bytes.len(), extents.iter().product::<usize>()),
        Err(error) => assert_eq!(error.to_string().lines().count(), 1),
    }
}
