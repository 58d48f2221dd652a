//! Files in folders and in those within them, in natural order (2 before 10).

use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::files::is_litter;
use crate::text::natural;
use crate::{Error, Result};

/// Folders within folders that are looked into.
const DEEPEST: usize = 16;

/// A file in a folder.
pub struct File {
    /// Where it is.
    pub path: PathBuf,
    /// Its path within the folder.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// When it was last written, where that is known.
    pub modified: Option<SystemTime>,
}

/// What is in a folder, without what nobody put there: litter, and hidden files.
pub fn entries(folder: &Path) -> Result<Vec<DirEntry>> {
    let entries = fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let entries: Vec<DirEntry> =
        entries.collect::<Result<_, _>>().map_err(Error::io("read", folder))?;
    let is_meant = |entry: &DirEntry| {
        let name = entry.file_name();
        !is_litter(&name) && !name.as_encoded_bytes().starts_with(b".")
    };
    Ok(entries.into_iter().filter(is_meant).collect())
}

/// Whether an entry is a folder, or a link to one.
fn is_folder(entry: &DirEntry) -> bool {
    match entry.file_type() {
        Ok(kind) if !kind.is_symlink() => kind.is_dir(),
        _ => entry.path().is_dir(),
    }
}

/// The folders in a folder, and their names.
pub fn folders(folder: &Path) -> Result<Vec<(PathBuf, String)>> {
    let named = entries(folder)?.into_iter().filter(is_folder);
    let named = named.map(|entry| (entry.path(), entry.file_name().to_string_lossy().into_owned()));
    let mut named: Vec<(PathBuf, String)> = named.collect();
    named.sort_by(|(_, one), (_, other)| natural(one, other));
    Ok(named)
}

/// The files in a folder and in those within it.
///
/// # Errors
///
/// [`Error::Io`] naming what cannot be read, [`Error::Malformed`] naming a folder that is too deep within others, as where
/// a link leads back.
pub fn files(folder: &Path) -> Result<Vec<File>> {
    let mut files = Vec::new();
    collect(folder, "", DEEPEST, &mut files)?;
    files.sort_by(|one, other| natural(&one.name, &other.name));
    Ok(files)
}

fn collect(folder: &Path, prefix: &str, depth: usize, into: &mut Vec<File>) -> Result<()> {
    if depth == 0 {
        let expected = format!("at most {DEEPEST} folders within each other");
        return Err(Error::malformed(folder, "folder", expected, "more"));
    }
    for entry in entries(folder)? {
        let path = entry.path();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if is_folder(&entry) {
            collect(&path, &format!("{name}/"), depth - 1, into)?;
            continue;
        }
        // Links are followed. Of other files the system is asked by their name in the folder, which is faster.
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        let metadata = if is_link { fs::metadata(&path) } else { entry.metadata() };
        let metadata = metadata.map_err(Error::io("read", &path))?;
        let (bytes, modified) = (metadata.len(), metadata.modified().ok());
        into.push(File { path, name, bytes, modified });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_in_natural_order_and_litter_is_none() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("b")).unwrap();
        for name in ["10.png", "9.png", ".hidden", "._9.png", "Thumbs.db", "b/1.png"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let files = files(folder.path()).unwrap();
        let names: Vec<&str> = files.iter().map(|file| &*file.name).collect();
        assert_eq!(names, ["9.png", "10.png", "b/1.png"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_leads_back_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("again")).unwrap();
        let line = files(folder.path()).err().unwrap().to_string();
        assert!(line.contains("at most 16 folders within each other"), "{line}");
    }
}
