//! Atomic writing: a reader of a file finds its old content or the new, never a part.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// Suffix of a file that is being written, after the number of the process that writes it.
const TEMPORARY: &str = "tmp";

/// A file being written under a temporary name next to its own.
///
/// If it is dropped without [`Pending::commit`], the temporary file is removed and the old content of
/// the path stays.
#[derive(Debug)]
pub struct Pending {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
}

impl Pending {
    /// Creates the temporary file; fails early if the file cannot be written.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn create(path: &Path) -> Result<Self> {
        if path.is_dir() {
            let taken = ErrorKind::IsADirectory.into();
            return Err(Error::io("write", path)(taken));
        }
        // The process number keeps two processes that write the same file apart.
        let temporary = path.with_added_extension(format!("{}.{TEMPORARY}", std::process::id()));
        // An existing file of that name was left by a killed process of the same number. It is
        // removed, not written to: it may be a link.
        let create = || File::create_new(&temporary);
        let file = create().or_else(|error| match error.kind() {
            ErrorKind::AlreadyExists => fs::remove_file(&temporary).and_then(|()| create()),
            _ => Err(error),
        });
        let file = file.map_err(Error::io("write", path))?;
        Ok(Self { path: path.to_path_buf(), temporary, file })
    }

    /// The path that the file will have.
    #[cfg(feature = "cli")]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the content, syncs it, renames it into place and syncs the folder.
    ///
    /// # Errors
    ///
    /// [`Error::Io`]; the old content of the path is then still there.
    pub fn commit(self, bytes: &[u8]) -> Result<Synced> {
        self.replace(bytes, None)
    }

    /// The same, keeping the old content of the path as `previous`.
    ///
    /// If it is interrupted at any point, one of the two names refers to a whole file.
    ///
    /// # Errors
    ///
    /// As [`Pending::commit`].
    pub fn commit_keeping(self, bytes: &[u8], previous: &Path) -> Result<Synced> {
        self.replace(bytes, Some(previous))
    }

    fn replace(mut self, bytes: &[u8], previous: Option<&Path>) -> Result<Synced> {
        let keep = || match previous.map(|previous| fs::rename(&self.path, previous)) {
            Some(Err(error)) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        let failed = Error::io("write", &self.path);
        let file = match self.file.write_all(bytes).and_then(|()| synced(self.file.sync_all())) {
            Ok(file) => file,
            Err(error) => return Err(failed(error)),
        };
        keep().and_then(|()| fs::rename(&self.temporary, &self.path)).map_err(failed)?;
        let folder = sync_folder(&self.path)?;
        Ok(file.and(folder))
    }
}

/// Whether what was written outlasts a power failure.
#[derive(Debug)]
pub enum Synced {
    /// It does.
    Yes,
    /// The file system cannot say: it answered this to a request to sync a file or a folder.
    Unsupported(io::Error),
}

impl Synced {
    fn and(self, other: Self) -> Self {
        match self {
            Self::Yes => other,
            Self::Unsupported(_) => self,
        }
    }
}

/// What a sync answered, where "not supported" is no failure: what was written is written.
fn synced(answer: io::Result<()>) -> io::Result<Synced> {
    match answer {
        Ok(()) => Ok(Synced::Yes),
        Err(error) if is_unsupported(&error) => Ok(Synced::Unsupported(error)),
        Err(error) => Err(error),
    }
}

/// Whether a file system says that it has no syncs or no locks, or none for a folder: CIFS, vboxsf, 9p and FUSE answer
/// EINVAL, EOPNOTSUPP or ENOTSUP to the first, NFS without its lock server ENOLCK to the second. Of the answers to
/// these requests alone; from any other EINVAL is a failure.
pub fn is_unsupported(error: &io::Error) -> bool {
    #[cfg(unix)]
    if error.raw_os_error().is_some_and(|code| {
        [libc::EINVAL, libc::EOPNOTSUPP, libc::ENOTSUP, libc::ENOSYS, libc::ENOTTY, libc::ENOLCK]
            .contains(&code)
    }) {
        return true;
    }
    error.kind() == ErrorKind::Unsupported
}

impl Drop for Pending {
    fn drop(&mut self) {
        // An incomplete file is useless; after a commit there is none to remove.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Writes a file atomically: see [`Pending`].
///
/// # Errors
///
/// [`Error::Io`]; the old content of `path` is then still there.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<Synced> {
    Pending::create(path)?.commit(bytes)
}

/// Reads a TOML file, of which `what` says what it should be.
///
/// # Errors
///
/// [`Error::Io`] when it cannot be read, [`Error::Malformed`] naming the line that is wrong.
pub fn read_toml<T: DeserializeOwned>(path: &Path, what: &str) -> Result<T> {
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    toml::from_str(&text).map_err(|error| Error::toml(path, &text, what, &error))
}

/// What was read, or nothing where there is no such file.
///
/// # Errors
///
/// What else kept it from being read.
pub fn if_there<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Err(error) if is_missing(&error) => Ok(None),
        read => read.map(Some),
    }
}

/// Whether an error says that there is no such file.
pub fn is_missing(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == ErrorKind::NotFound)
}

/// Removes the temporary files of killed processes: `NAME.NUMBER.tmp` for the names given.
///
/// # Errors
///
/// [`Error::Io`].
pub fn remove_temporaries(folder: &Path, names: &[&str]) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io("read the folder", folder))? {
        let entry = entry.map_err(Error::io("read the folder", folder))?;
        let file = entry.file_name();
        let process = file.to_str().and_then(|file| {
            let name = names.iter().find_map(|name| file.strip_prefix(name))?;
            name.strip_prefix('.')?.strip_suffix(TEMPORARY)?.strip_suffix('.')
        });
        if process.is_some_and(|process| process.parse::<u32>().is_ok()) {
            let path = entry.path();
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}

/// Whether a file is one that macOS or Windows puts into folders unasked; no folder is read for these.
pub fn is_litter(name: &OsStr) -> bool {
    const NAMES: [&str; 3] = [".DS_Store", "Thumbs.db", "desktop.ini"];
    name.as_encoded_bytes().starts_with(b"._") || NAMES.iter().any(|litter| name == *litter)
}

/// Whether a folder holds nothing but such files.
///
/// # Errors
///
/// [`Error::Io`] when it cannot be read.
pub fn is_empty(folder: &Path) -> Result<bool> {
    let unreadable = || Error::io("read the folder", folder);
    let mut is_empty = true;
    for entry in fs::read_dir(folder).map_err(unreadable())? {
        is_empty &= is_litter(&entry.map_err(unreadable())?.file_name());
    }
    Ok(is_empty)
}

/// The folder that a path is in, the current one for a mere name.
pub fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Without syncing the folder too, a power failure could undo a rename.
#[cfg(unix)]
fn sync_folder(path: &Path) -> Result<Synced> {
    let folder = parent(path);
    let folder_opened = match File::open(folder) {
        // It can be written to but not listed: nothing is wrong with the file.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            return Ok(Synced::Unsupported(error));
        }
        opened => opened,
    };
    folder_opened
        .and_then(|folder| synced(folder.sync_all()))
        .map_err(Error::io("sync the folder", folder))
}

/// Elsewhere a folder cannot be opened as a file.
#[cfg(not(unix))]
fn sync_folder(_path: &Path) -> Result<Synced> {
    Ok(Synced::Yes)
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
    fn a_file_that_is_not_committed_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        fs::write(&path, "old").unwrap();
        drop(Pending::create(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_old_content_is_kept_as_the_previous() {
        let folder = tempfile::tempdir().unwrap();
        let [last, previous] = ["last", "previous"].map(|name| folder.path().join(name));
        for (content, kept) in [("1", None), ("2", Some("1")), ("3", Some("2"))] {
            Pending::create(&last).unwrap().commit_keeping(content.as_bytes(), &previous).unwrap();
            assert_eq!(fs::read_to_string(&last).unwrap(), content);
            assert_eq!(fs::read_to_string(&previous).ok().as_deref(), kept);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn leftovers_are_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let kept = ["last", "last.tmp", "last.x.tmp", "other.7.tmp", "last.7.tmp.txt", "last7.tmp"];
        for name in kept.iter().chain(&["last.7.tmp", "last.123456.tmp"]) {
            fs::write(folder.path().join(name), "").unwrap();
        }
        remove_temporaries(folder.path(), &["last", "metrics.csv"]).unwrap();
        assert!(kept.iter().all(|name| folder.path().join(name).exists()));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), kept.len());
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
