//! The folder of a report: made before anything is computed, and filled afterwards.

use std::fs;
use std::path::{Path, PathBuf};

use crate::files::{self, Pending};
use crate::report::eval::{EvalReport, FILES, PAGE};
use crate::{Error, Result};

/// A folder whose files are open, so that nothing is computed for one that cannot be written.
#[derive(Debug)]
pub struct ReportFolder {
    path: PathBuf,
    /// In the order of [`FILES`].
    pending: Vec<Pending>,
    /// Whether this process made the folder.
    made: bool,
}

impl ReportFolder {
    /// Makes the folder if it is missing, and opens its files.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] naming the folder or the file that cannot be written.
    pub fn create(path: &Path) -> Result<Self> {
        let made = !path.exists();
        fs::create_dir_all(path).map_err(Error::io("create the report folder", path))?;
        // Those of a process that was killed; this one has none yet.
        files::remove_temporaries(path, &FILES)?;
        let mut folder = Self { path: path.to_path_buf(), pending: Vec::new(), made };
        for name in FILES {
            folder.pending.push(Pending::create(&path.join(name))?);
        }
        Ok(folder)
    }

    /// Writes all files and returns the path of the page. The old content of each is replaced by the whole new one.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] naming the file that cannot be written.
    pub fn write(mut self, report: &EvalReport) -> Result<PathBuf> {
        let contents = report.files()?;
        for (file, content) in self.pending.drain(..).zip(contents) {
            file.commit(&content)?;
        }
        Ok(self.path.join(PAGE))
    }
}

impl Drop for ReportFolder {
    fn drop(&mut self) {
        self.pending.clear();
        if self.made {
            // Of a folder that has files this does nothing.
            let _ = fs::remove_dir(&self.path);
        }
    }
}
