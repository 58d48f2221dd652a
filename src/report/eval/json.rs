//! `report.json`: the whole report except the probabilities of every class, which `predictions.csv` has.

use std::borrow::Cow;

use serde::Serialize;

use super::EvalReport;
use crate::report::classification::{Averages, Bin, Mistake, Scores};
use crate::report::table::ParameterRow;
use crate::{Error, Result};

#[derive(Serialize)]
struct Document<'a> {
    version: &'static str,
    model: String,
    epoch: Option<usize>,
    data: String,
    own_data: Option<bool>,
    images: usize,
    /// Channels, height, width.
    shape: [usize; 3],
    accuracy: f64,
    loss: f64,
    ece: f64,
    bins: &'a [Bin],
    /// Rows are true classes.
    confusion: &'a [Vec<usize>],
    classes: Vec<Class<'a>>,
    averages: &'a Averages,
    mistakes: Vec<Wrong<'a>>,
    parameters: &'a [ParameterRow],
}

#[derive(Serialize)]
struct Class<'a> {
    class: usize,
    name: &'a str,
    #[serde(flatten)]
    scores: Scores,
}

#[derive(Serialize)]
struct Wrong<'a> {
    #[serde(flatten)]
    mistake: &'a Mistake,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<Cow<'a, str>>,
}

/// The report as one JSON object.
///
/// # Errors
///
/// [`Error::Internal`] when it cannot be encoded.
pub fn text(report: &EvalReport) -> Result<String> {
    let found = &report.classification;
    let named = report.names.iter().zip(&found.classes).enumerate();
    let classes = named.map(|(class, (name, &scores))| Class { class, name, scores });
    let mistakes = found.mistakes.iter().map(|mistake| Wrong {
        mistake,
        file: report.files.get(mistake.image).map(|file| file.to_string_lossy()),
    });
    let document = Document {
        version: env!("CARGO_PKG_VERSION"),
        model: report.model.to_string_lossy().into_owned(),
        epoch: report.epoch,
        data: report.data.to_string_lossy().into_owned(),
        own_data: report.own_data,
        images: found.images,
        shape: report.set.shape,
        accuracy: report.accuracy,
        loss: report.loss,
        ece: found.ece,
        bins: &found.bins,
        confusion: &found.confusion,
        classes: classes.collect(),
        averages: &found.averages,
        mistakes: mistakes.collect(),
        parameters: &report.parameters,
    };
    let text = serde_json::to_string(&document);
    text.map(|text| text + "\n").map_err(|error| Error::internal("writing JSON", error))
}
