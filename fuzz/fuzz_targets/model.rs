//! The reader of networks, of this program and of others: any bytes are refused with one line, or are a network of finite
//! numbers that is the same after it is exported and read again. Every layout is tried.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use tnet_gpu::export::{Format, to_bytes};
use tnet_gpu::model::{Layout, ModelFile};

fuzz_target!(|bytes: &[u8]| {
    for layout in [None, Some(Layout::Pytorch), Some(Layout::Keras)] {
        check(bytes, layout);
    }
});

fn check(bytes: &[u8], layout: Option<Layout>) {
    let read = |bytes: &[u8], layout| ModelFile::parse(Path::new("fuzz"), bytes, layout);
    match read(bytes, layout) {
        Ok(model) => {
            let weights = model.snapshot.weights();
            assert!(weights.iter().flatten().all(|number| number.is_finite()));
            assert!(model.remarks.iter().all(|remark| remark.lines().count() == 1));
            let written = to_bytes(&model, Format::Safetensors).unwrap();
            let again = read(&written, None).unwrap();
            assert_eq!((again.snapshot, again.classes), (model.snapshot, model.classes));
        }
        Err(error) => assert_eq!(error.to_string().lines().count(), 1),
    }
}
