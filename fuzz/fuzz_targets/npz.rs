//! The reader of NumPy archives: any bytes are refused with one line, or give as many pixels and labels as there are images.
//! Bytes that begin like an array are read as one in an archive as well, so that its checksum does not stop the search.

#![no_main]

use std::io::{Cursor, Write};
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use tnet_gpu::data::{LoadOptions, npz};
use zip::CompressionMethod;
use zip::write::{SimpleFileOptions, ZipWriter};

/// Two labels, as NumPy writes them.
const LABELS: &[u8] =
    b"\x93NUMPY\x01\0\x3c\0{'descr': '|u1', 'fortran_order': False, 'shape': (2,), }  \n\0\x01";

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    if bytes.starts_with(b"\x93NUMPY") {
        for names in [["x_train", "y_train"], ["y_train", "x_train"]] {
            check(&archive(names, bytes));
        }
    }
});

fn archive([own, other]: [&str; 2], array: &[u8]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, array) in [(own, array), (other, LABELS)] {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        archive.start_file(format!("{name}.npy"), options).unwrap();
        archive.write_all(array).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

fn check(bytes: &[u8]) {
    match npz::read(Path::new("fuzz"), Cursor::new(bytes), &LoadOptions::default()) {
        Ok((train, test)) => {
            for set in [train, test] {
                assert_eq!(set.pixels.len(), set.count * set.size());
                assert_eq!(set.labels.len(), set.count);
            }
        }
        Err(error) => assert_eq!(error.to_string().lines().count(), 1),
    }
}
