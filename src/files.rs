//! Writing files so that whoever reads one finds the old content or the new, never a part.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// A file that is being written under a temporary name beside its own.
///
/// Dropped without [`Pending::commit`], it leaves nothing; what its path held before is untouched.
#[derive(Debug)]
pub struct Pending {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
}

impl Pending {
    /// Begins the file: whether it can be written is known from here on.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn create(path: &Path) -> Result<Self> {
        if path.is_dir() {
            let taken = std::io::ErrorKind::IsADirectory.into();
            return Err(Error::io("write", path)(taken));
        }
        // Of this process, so that two which write the same file do not write into each other's.
        let temporary = path.with_added_extension(format!("{}.tmp", std::process::id()));
        let file = File::create(&temporary).map_err(Error::io("write", path))?;
        Ok(Self { path: path.to_path_buf(), temporary, file })
    }

    /// Where the file will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the content, syncs it, renames it into place and syncs the folder.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; what the path held before is then still there.
    pub fn commit(mut self, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all(bytes)
            .and_then(|()| self.file.sync_all())
            .and_then(|()| fs::rename(&self.temporary, &self.path))
            .map_err(Error::io("write", &self.path))?;
        sync_folder(&self.path)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // Half a file is of no use to anyone; after a commit there is none.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Writes a file whole: see [`Pending`].
///
/// # Errors
///
/// [`Error::Io`]; what `path` held before is then still there.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    Pending::create(path)?.commit(bytes)
}

/// A rename is lost with the power unless its folder is synced too.
#[cfg(unix)]
fn sync_folder(path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::io("sync", folder))
}

/// Elsewhere a folder cannot be opened as a file.
#[cfg(not(unix))]
fn sync_folder(_path: &Path) -> Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_replaced_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        for content in ["old", "new"] {
            write_whole(&path, content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_not_committed_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        fs::write(&path, "old").unwrap();
        drop(Pending::create(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failure_names_the_file_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        // A folder cannot be replaced by a file.
        let path = folder.path().join("taken");
        fs::create_dir(&path).unwrap();
        let message = write_whole(&path, b"new").unwrap_err().to_string();
        assert!(message.starts_with(&format!("cannot write {}", path.display())), "{message}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
