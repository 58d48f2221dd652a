//! The report of an evaluation: what a network answers to every test image, as a page, tables and figures.
//!
//! ```text
//! labels, predictions ─ classification ─┬─▶ predictions.csv, confusion.csv, classes.csv (csv), report.json (json)
//!                                       ├─▶ confusion.svg, classes.svg, reliability.svg (of one name; svg, plot, style)
//! images ───────────────────────────────┼─▶ mistakes.png (mistakes, picture)
//! curves of the run, parameters ────────┴─▶ report.html (html), which has all of them
//! ```

mod classes;
mod confusion;
mod csv;
mod curves;
mod html;
mod json;
mod mistakes;
mod picture;
mod plot;
mod reliability;
mod style;
mod svg;
mod text;

use std::path::{Path, PathBuf};

use super::classification::Classification;
use super::curves::Curve;
use super::table::ParameterRow;
use crate::Result;
use crate::data::ImageSet;
use crate::net::Prediction;

/// The files of a report, by name. [`EvalReport::files`] has their content in this order.
pub const FILES: [&str; 9] = [
    "predictions.csv",
    "confusion.csv",
    "confusion.svg",
    "classes.csv",
    "classes.svg",
    "reliability.svg",
    "mistakes.png",
    "report.json",
    "report.html",
];

/// The page among them.
pub const PAGE: &str = FILES[8];

/// What is reported.
#[derive(Debug)]
pub struct EvalReport<'a> {
    /// The network's file.
    pub model: &'a Path,
    /// Finished epochs, of a training run's network.
    pub epoch: Option<usize>,
    /// Where the data is.
    pub data: &'a Path,
    /// Whether the test images are those of the run, where that is known.
    pub own_data: Option<bool>,
    /// The test images.
    pub set: &'a ImageSet,
    /// The file of each, where it has one; else none.
    pub files: &'a [PathBuf],
    /// A name for each class.
    pub names: &'a [String],
    /// Fraction of images classified correctly.
    pub accuracy: f64,
    /// Mean cross entropy, in nats.
    pub loss: f64,
    /// What each image was taken for.
    pub predictions: &'a [Prediction],
    /// The probability of every class, for each image.
    pub probabilities: &'a [Vec<f32>],
    /// What follows from labels and predictions.
    pub classification: Classification,
    /// Training and test accuracy by epoch, of a network in its run's folder.
    pub curves: Option<[Curve; 2]>,
    /// Numbers of parameters.
    pub parameters: Vec<ParameterRow>,
}

impl EvalReport<'_> {
    /// The contents of [`FILES`].
    ///
    /// # Errors
    ///
    /// [`crate::Error::Internal`] when an image or JSON cannot be encoded.
    pub fn files(&self) -> Result<[Vec<u8>; FILES.len()]> {
        let Self { set, names, classification: found, .. } = self;
        let predictions =
            csv::predictions(names, &set.labels, self.predictions, self.probabilities, self.files);
        Ok([
            predictions.into_bytes(),
            csv::confusion(names, &found.confusion).into_bytes(),
            confusion::figure(names, &found.confusion).file().into_bytes(),
            csv::classes(names, found).into_bytes(),
            classes::figure(names, found).file().into_bytes(),
            reliability::figure(found).file().into_bytes(),
            mistakes::sheet(names, set, found)?,
            json::text(self)?.into_bytes(),
            html::page(self)?.into_bytes(),
        ])
    }
}
