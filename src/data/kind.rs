//! What a file is that is no IDX file: the kinds that are met in its place.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// How many bytes tell what another file is: a tar archive says so behind its first 257.
pub const START: usize = 512;

/// How other files begin that are met in place of an IDX file, and what can be done about it.
const KINDS: [(&[u8], &str); 15] = [
    (b"PK\x03\x04", "a ZIP archive; unpack it"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"BZh", "a bzip2 file; unpack it"),
    (b"\xfd7zXZ\0", "an xz file; unpack it"),
    (b"\x28\xb5\x2f\xfd", "a zstd file; unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive; unpack it"),
    (b"Rar!", "a RAR archive; unpack it"),
    (b"\x1f\x8b", "a gzip file; unpack it"),
    (b"version https://git-lfs", "a Git LFS pointer; get the file itself with git lfs pull"),
    (b"\x93NUMPY", "a NumPy array; convert it to IDX"),
    (b"PAR1", "a Parquet file; convert it to IDX"),
    (b"\x89HDF", "an HDF5 file; convert it to IDX"),
    (b"MATLAB 5.0", "a MATLAB file; convert it to IDX"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
];

/// How pages begin that a server sends in place of a file.
const PAGES: [(&str, &str); 3] = [
    ("<!doctype html", "an HTML page in place of the file; download it again"),
    ("<html", "an HTML page in place of the file; download it again"),
    ("<?xml", "an XML page in place of the file; download it again"),
];

/// What a file that begins like this is, if it is known.
pub fn of(start: &[u8]) -> Option<&'static str> {
    if start.get(257..262) == Some(b"ustar") {
        return Some("a tar archive; unpack it");
    }
    if start.starts_with(b"PK\x03\x04") {
        // The name of the first file in the archive, after its length and other fields.
        let name = start.get(30..).unwrap_or_default();
        let length = start.get(26..28).and_then(|bytes| bytes.try_into().ok());
        let length = length.map_or(0, u16::from_le_bytes);
        if name.get(..length.into()).is_some_and(|name| name.ends_with(b".npy")) {
            return Some("a NumPy archive; give it a name that ends in .npz");
        }
    }
    let known = KINDS.iter().find(|(magic, _)| start.starts_with(magic));
    known.map(|&(_, kind)| kind).or_else(|| {
        let text = String::from_utf8_lossy(start).to_ascii_lowercase();
        // Pages may begin with a byte order mark and empty lines.
        let text = text.trim_start_matches('\u{feff}').trim_start();
        PAGES.iter().find(|(begin, _)| text.starts_with(begin)).map(|&(_, kind)| kind)
    })
}

/// What the file at `path` is, if it is known and no IDX file.
pub fn of_file(path: &Path) -> Option<&'static str> {
    let mut start = Vec::new();
    File::open(path).ok()?.take(START as u64).read_to_end(&mut start).ok()?;
    of(&start)
}

#[cfg(test)]
mod tests {
    use super::super::{gzip, idx};
    use super::*;

    #[test]
    fn files_of_other_kinds_are_named() {
        let refused = |bytes: &[u8], with: &str| {
            let message = idx::read::<3>(Path::new("images"), bytes).unwrap_err().to_string();
            assert!(message.ends_with(with), "{with} in {message}");
        };
        let mut tar = b"train-images-idx3-ubyte".to_vec();
        tar.resize(257, 0);
        tar.extend(b"ustar\x0000");
        let mut npz = b"PK\x03\x04".to_vec();
        npz.resize(26, 0);
        npz.extend(b"\x0b\0\0\0x_train.npy");
        for (bytes, found) in [
            (&b"PK\x03\x04\x14\0"[..], "0x504b0304 (a ZIP archive; unpack it)"),
            (&npz, "0x504b0304 (a NumPy archive; give it a name that ends in .npz)"),
            (b"BZh91AY&SY", "0x425a6839 (a bzip2 file; unpack it)"),
            (b"\xfd7zXZ\0\0", "0xfd377a58 (an xz file; unpack it)"),
            (b"\x28\xb5\x2f\xfd", "0x28b52ffd (a zstd file; unpack it)"),
            (
                b"version https://git-lfs.github.com/spec/v1\noid",
                "0x76657273 (a Git LFS pointer; get the file itself with git lfs pull)",
            ),
            (b"\x93NUMPY\x01\0", "0x934e554d (a NumPy array; convert it to IDX)"),
            (
                b"<!DOCTYPE html>\n<html>",
                "0x3c21444f (an HTML page in place of the file; download it again)",
            ),
            (
                b"\xef\xbb\xbf\r\n<HTML>",
                "0xefbbbf0d (an HTML page in place of the file; download it again)",
            ),
            (b"<?xml version", "0x3c3f786d (an XML page in place of the file; download it again)"),
            (&tar, "0x74726169 (a tar archive; unpack it)"),
        ] {
            let message = format!("magic number: expected an IDX file's 0x0000...., found {found}");
            refused(bytes, &message);
            refused(&gzip(bytes), &message);
        }
        refused(&gzip(&gzip(&[0])), "0x1f8b0800 (a gzip file; unpack it)");
        refused(b"what is this?", "found 0x77686174");
        // A name is not looked for beyond the end.
        refused(&npz[..29], "(a ZIP archive; unpack it)");
    }
}
