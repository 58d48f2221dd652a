//! The options that say which images are used, and how they are taken.

use std::path::{Path, PathBuf};

use clap::Args;

use super::factors;
use super::network::kept;
use crate::Result;
use crate::data::LoadOptions;
use crate::net::Shape;

/// Options of the data set.
#[derive(Debug, Args)]
pub struct DataArgs {
    /// Data set: a folder with the four IDX files, or with a folder of PNG or JPEG images for each class (in train/ and
    /// test/, or undivided), or a NumPy archive [default: that of the run, if there is one; else $TNET_DATA, or
    /// Fashion-MNIST from the cache folder, from Debian's package or downloaded]
    #[arg(id = "data", long = "data", value_name = "PATH")]
    path: Option<PathBuf>,

    /// Height and width to which images are resized, without keeping their proportions [default: those of a trained
    /// network or of a --network file, else the images' own]
    #[arg(long, value_name = "H,W", value_parser = factors)]
    size: Option<[usize; 2]>,

    /// 1 for grey images, 3 for colour [default: those of such a network, else 1 if all pixels of all images are grey, else
    /// 3]
    #[arg(long, value_name = "1|3")]
    channels: Option<usize>,

    /// Share of each class's images that become test images, if the data set has none [default: 0.2]
    #[arg(long, value_name = "SHARE")]
    test_share: Option<f64>,

    /// Seed of the choice of these test images, which does not depend on --seed [default: 0]
    #[arg(long, value_name = "SEED")]
    split_seed: Option<u64>,

    /// Decode image files anew, and do not keep the decoded images in the cache folder
    #[arg(long)]
    no_cache: bool,
}

impl DataArgs {
    /// The data set that was typed.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// How images are taken: as typed, else as a run has it, else as a network needs them.
    pub fn options(&self, run: Option<&LoadOptions>, like: Option<Shape>) -> LoadOptions {
        let run = run.cloned().unwrap_or_default();
        LoadOptions {
            size: self.size.or(run.size),
            channels: self.channels.or(run.channels),
            test_share: self.test_share.unwrap_or(run.test_share),
            split_seed: self.split_seed.unwrap_or(run.split_seed),
            like,
            cache: !self.no_cache,
        }
    }

    /// The options as they were typed, but for the data set.
    pub fn typed(&self) -> Vec<String> {
        let size = self.size.map(|[height, width]| format!("{height},{width}"));
        let options = [
            ("--size", size),
            ("--channels", self.channels.map(|channels| channels.to_string())),
            ("--test-share", self.test_share.map(|share| share.to_string())),
            ("--split-seed", self.split_seed.map(|seed| seed.to_string())),
        ];
        let typed = options.into_iter().filter_map(|(id, text)| Some([id.to_owned(), text?]));
        typed.flatten().chain(self.no_cache.then(|| "--no-cache".to_owned())).collect()
    }

    /// Refuses options that would change the images of a run.
    pub fn check_kept(&self, given: &[&str], run: &LoadOptions) -> Result<()> {
        let texts = |options: &LoadOptions| {
            let size = options.size.map(|[height, width]| format!("{height},{width}"));
            let channels = options.channels.map(|channels| channels.to_string());
            [
                ("size", size.unwrap_or_else(|| "the images' own".into())),
                ("channels", channels.unwrap_or_else(|| "the images' own".into())),
                ("test_share", options.test_share.to_string()),
                ("split_seed", options.split_seed.to_string()),
            ]
        };
        let typed = texts(&self.options(Some(run), None));
        let options = typed.into_iter().zip(texts(run));
        kept(given, options.map(|((id, typed), (_, run))| (id, typed, run)))
    }
}
