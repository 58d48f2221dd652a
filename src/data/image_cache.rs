//! Decoded images of folders, kept in the user's cache folder: a file for each set, named after the names, sizes and times
//! of its image files and after how they were taken.
//!
//! A file is 32 bytes of SHA-256 of what follows, then channels, height, width and count as u64, then the pixels. One that
//! is damaged is not used.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::picture::Target;
use super::tree::File;
use crate::{Error, Result, files, hex};

/// Changed whenever images are decoded in another way.
const VERSION: &str = "tnet-gpu images 1";

/// Most bytes that are kept; the oldest files go first.
const MOST: u64 = 4 << 30;

/// Bytes of the checksum, and of checksum and extents.
const SUM: usize = 32;
const HEAD: usize = SUM + 4 * 8;

/// Where the images of a set are kept.
pub struct Place {
    path: PathBuf,
}

impl Place {
    /// None where the user has no cache folder, or the time of a file is not known.
    pub fn of(files: &[&File], target: Target) -> Option<Self> {
        let mut hash = Sha256::new();
        hash.update(format!("{VERSION}\n{target:?}\n"));
        for file in files {
            let modified = file.modified?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
            let path = file.path.as_os_str().as_encoded_bytes();
            hash.update((path.len() as u64).to_le_bytes());
            hash.update(path);
            hash.update(file.bytes.to_le_bytes());
            hash.update(modified.as_nanos().to_le_bytes());
        }
        let name = hex(&hash.finalize()[..16]);
        let path = dirs::cache_dir()?.join("tnet-gpu").join("images").join(name);
        Some(Self { path })
    }

    /// The shape and the pixels of so many images, if they are here and whole.
    pub fn get(&self, count: usize) -> Option<([usize; 3], Vec<u8>)> {
        let mut bytes = fs::read(&self.path).ok()?;
        if bytes.len() < HEAD || bytes[..SUM] != *Sha256::digest(&bytes[SUM..]) {
            return None;
        }
        let extent = |at: usize| {
            let bytes = bytes.get(SUM + 8 * at..)?.first_chunk()?;
            usize::try_from(u64::from_le_bytes(*bytes)).ok()
        };
        let shape = [extent(0)?, extent(1)?, extent(2)?];
        let size = shape.iter().try_fold(count, |size, &extent| size.checked_mul(extent))?;
        if extent(3)? != count || bytes.len() - HEAD != size {
            return None;
        }
        bytes.drain(..HEAD);
        Some((shape, bytes))
    }

    /// Keeps images.
    pub fn put(&self, shape: [usize; 3], count: usize, pixels: &[u8]) -> Result<()> {
        if pixels.len() as u64 > MOST {
            return Ok(());
        }
        let folder = files::parent(&self.path);
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let mut bytes = vec![0; SUM];
        for extent in shape.into_iter().chain([count]) {
            bytes.extend((extent as u64).to_le_bytes());
        }
        bytes.extend(pixels);
        let sum = Sha256::digest(&bytes[SUM..]);
        bytes[..SUM].copy_from_slice(&sum);
        files::write_whole(&self.path, &bytes)?;
        tidy(folder, &self.path);
        Ok(())
    }
}

/// Removes the oldest files until the rest is small enough; what cannot be removed stays.
fn tidy(folder: &Path, newest: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut kept: Vec<(SystemTime, u64, PathBuf)> = entries
        .filter_map(|entry| {
            let metadata = entry.metadata().ok()?;
            Some((metadata.modified().ok()?, metadata.len(), entry.path()))
        })
        .collect();
    kept.sort();
    let mut all: u64 = kept.iter().map(|(_, bytes, _)| bytes).sum();
    for (_, bytes, path) in kept {
        if all <= MOST || path == newest {
            continue;
        }
        if fs::remove_file(&path).is_ok() {
            all -= bytes;
        }
    }
}
