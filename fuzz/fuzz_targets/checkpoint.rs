//! The checkpoint reader: any bytes are refused with one line, or are a checkpoint that reads the same
//! after it is written again. The checksum would stop nearly every input, so each is also read with the
//! checksum that it should have.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};
use tnet_gpu::train::checkpoint::Checkpoint;

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    if let Some(sealed) = sealed(bytes) {
        check(&sealed);
    }
});

fn check(bytes: &[u8]) {
    match Checkpoint::parse(Path::new("fuzz"), bytes) {
        Ok(checkpoint) => {
            assert_eq!(checkpoint.not_finite(), None);
            let written = checkpoint.to_bytes().unwrap();
            assert_eq!(Checkpoint::parse(Path::new("fuzz"), &written).unwrap(), checkpoint);
        }
        Err(error) => assert_eq!(error.to_string().lines().count(), 1),
    }
}

/// The same with the digits that its content has, where it has a place for them.
fn sealed(bytes: &[u8]) -> Option<Vec<u8>> {
    let before = br#"\"checksum\":\""#;
    let header = bytes.get(..bytes.len().min(1 << 20))?;
    let at = header.windows(before.len()).rposition(|part| part == before)? + before.len();
    let mut sealed = bytes.to_vec();
    sealed.get_mut(at..at + 64)?.fill(b'0');
    let digits: String = Sha256::digest(&sealed).iter().map(|b| format!("{b:02x}")).collect();
    sealed[at..at + 64].copy_from_slice(digits.as_bytes());
    Some(sealed)
}
