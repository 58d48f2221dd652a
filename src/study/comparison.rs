//! Groups of runs side by side: what each run came to, what its group came to, and both as a table, as Markdown, as CSV and
//! as a figure.

use std::fmt::Write as _;

use comfy_table::Table;
use serde::Serialize;

use super::{FinishedRun, Group, Spread};
use crate::report::bands::{self, Band, GroupCurves};
use crate::report::csv::field;
use crate::report::table::{self, thousands};
use crate::text::visible;
use crate::train::EpochMetrics;
use crate::{Error, Result};

/// Groups of runs, and what was measured of them.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// Of the program.
    pub version: &'static str,
    /// The device on which the time of one image was measured.
    pub device: String,
    /// The groups, in their order.
    pub groups: Vec<GroupFigures>,
}

/// What the runs of a group came to.
#[derive(Debug, Clone, Serialize)]
pub struct GroupFigures {
    /// The group's name.
    pub name: String,
    /// Of the network of each run; none where they differ.
    pub parameters: Option<usize>,
    /// Of the same network with dense layers; none where they differ.
    pub dense_parameters: Option<usize>,
    /// See [`RunFigures::test_accuracy`].
    pub test_accuracy: Spread,
    /// Over the runs that held images out, if any did.
    pub validation_accuracy: Option<Spread>,
    /// See [`RunFigures::seconds`].
    pub seconds: Spread,
    /// See [`RunFigures::step_us`].
    pub step_us: Spread,
    /// See [`RunFigures::latency_us`].
    pub latency_us: Spread,
    /// The runs.
    pub runs: Vec<RunFigures>,
}

/// What a run came to.
#[derive(Debug, Clone, Serialize)]
pub struct RunFigures {
    /// Its folder; U+FFFD in place of what is not UTF-8.
    pub run: String,
    /// Its seed.
    pub seed: u64,
    /// Of its network.
    pub parameters: usize,
    /// Of the same network with dense layers.
    pub dense_parameters: usize,
    /// The epoch whose network counts: the best on the held-out images, or the last.
    pub epoch: usize,
    /// The test accuracy of that network.
    pub test_accuracy: f64,
    /// Its accuracy on the held-out images, if there are any.
    pub validation_accuracy: Option<f64>,
    /// Seconds of all training steps, without evaluation.
    pub seconds: f64,
    /// Microseconds of one training step; NaN, which JSON has as null, where the run does not tell.
    pub step_us: f64,
    /// Microseconds from one image to its probabilities.
    pub latency_us: f64,
}

impl RunFigures {
    /// Of a run; `latency` is the time of one image in seconds.
    ///
    /// # Errors
    ///
    /// [`Error::Layer`] for an impossible network.
    pub fn new(run: &FinishedRun, latency: f64) -> Result<Self> {
        let network = &run.config.network;
        Ok(Self {
            run: run.folder.to_string_lossy().into_owned(),
            seed: run.config.seed,
            parameters: network.parameters()?,
            dense_parameters: network.dense().parameters()?,
            epoch: run.epoch(),
            test_accuracy: run.test_accuracy(),
            validation_accuracy: run.best.map(|(_, accuracy)| accuracy),
            seconds: run.seconds(),
            step_us: 1e6 * run.step_seconds(),
            latency_us: 1e6 * latency,
        })
    }
}

impl GroupFigures {
    /// Of the runs of a group.
    pub fn new(name: String, runs: Vec<RunFigures>) -> Self {
        let spread = |number: fn(&RunFigures) -> f64| Spread::of(runs.iter().map(number));
        let held_out = Spread::of(runs.iter().filter_map(|run| run.validation_accuracy));
        Self {
            parameters: if_equal(&runs, |run| run.parameters),
            dense_parameters: if_equal(&runs, |run| run.dense_parameters),
            test_accuracy: spread(|run| run.test_accuracy),
            validation_accuracy: Some(held_out).filter(|spread| spread.count > 0),
            seconds: spread(|run| run.seconds),
            step_us: spread(|run| run.step_us),
            latency_us: spread(|run| run.latency_us),
            name,
            runs,
        }
    }

    /// The cells of its row, after the name.
    fn cells(&self, held_out: bool) -> Vec<String> {
        let share = |run: &RunFigures| {
            let share = 100.0 * run.parameters as f64 / run.dense_parameters as f64;
            format!("{share:.2} %")
        };
        let held_out = held_out
            .then(|| self.validation_accuracy.map_or_else(String::new, |spread| spread.text(4)));
        let before = [
            self.runs.len().to_string(),
            range(&self.runs, |run| thousands(run.parameters)),
            range(&self.runs, share),
            self.test_accuracy.text(4),
        ];
        let times = [self.seconds, self.step_us, self.latency_us].map(|spread| time(&spread));
        before.into_iter().chain(held_out).chain(times).collect()
    }
}

impl Comparison {
    /// Of these groups; the time of one image was measured on `device`.
    pub fn new(device: String, groups: Vec<GroupFigures>) -> Self {
        Self { version: env!("CARGO_PKG_VERSION"), device, groups }
    }

    /// A row for each group.
    pub fn table(&self) -> Table {
        self.table_of(visible)
    }

    fn table_of(&self, text: impl Fn(&str) -> String) -> Table {
        let held_out = self.groups.iter().any(|group| group.validation_accuracy.is_some());
        let header = ["group", "runs", "parameters", "of dense", "test accuracy"].into_iter();
        let header = header.chain(held_out.then_some("held-out accuracy"));
        let header: Vec<&str> =
            header.chain(["training, s", "step, µs", "one image, µs"]).collect();
        let mut table = table::new(&header, true);
        for group in &self.groups {
            let cells = group.cells(held_out).into_iter();
            table.add_row([text(&group.name)].into_iter().chain(cells));
        }
        table
    }

    /// How the table is read, a line each.
    pub fn notes(&self) -> Vec<String> {
        let runs = || self.groups.iter().flat_map(|group| &group.runs);
        let chosen = runs().filter(|run| run.validation_accuracy.is_some()).count();
        let epoch = match chosen {
            0 => "after the last epoch",
            _ if chosen == runs().count() => "of the epoch with the best held-out accuracy",
            _ => {
                "of the epoch with the best held-out accuracy, after the last epoch where no images are held out"
            }
        };
        let spread = "±: standard deviation over the runs of a group".to_owned();
        let is_spread = self.groups.iter().any(|group| group.runs.len() > 1);
        let accuracy = format!("test accuracy: {epoch}");
        let times = format!(
            "training: all steps, without evaluation; step: one batch; one image: measured now, on {}",
            visible(&self.device)
        );
        [accuracy].into_iter().chain(is_spread.then_some(spread)).chain([times]).collect()
    }

    /// The table and the notes in GitHub's Markdown.
    pub fn markdown(&self) -> String {
        format!("{}\n\n{}.\n", self.table_of(markdown_text), self.notes().join(". "))
    }

    /// A line for each run. Every number is read back as it was; one that there is not is left out.
    pub fn csv(&self) -> String {
        let mut text = String::from(
            "group,run,seed,parameters,dense_parameters,epoch,test_accuracy,validation_accuracy,seconds,step_us,latency_us\n",
        );
        for (group, run) in
            self.groups.iter().flat_map(|group| group.runs.iter().map(move |run| (group, run)))
        {
            let RunFigures { seed, parameters, dense_parameters, epoch, test_accuracy, .. } = run;
            let RunFigures { seconds, step_us, latency_us, .. } = run;
            let (name, folder) = (field(&group.name), field(&run.run));
            let held_out =
                run.validation_accuracy.map_or_else(String::new, |accuracy| accuracy.to_string());
            let step_us = if step_us.is_nan() { String::new() } else { step_us.to_string() };
            // Infallible: a String takes everything.
            let _ = writeln!(
                text,
                "{name},{folder},{seed},{parameters},{dense_parameters},{epoch},{test_accuracy},{held_out},{seconds},{step_us},{latency_us}"
            );
        }
        text
    }

    /// The whole as one JSON object.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] when it cannot be written, which no comparison is known to cause.
    pub fn json(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self);
        Ok(text.map_err(|error| Error::internal("writing JSON", error))? + "\n")
    }
}

/// `curves.svg`: accuracy by epoch. The lines of a group end with the shortest of its runs.
///
/// # Errors
///
/// [`Error::Internal`] when it cannot be drawn.
pub fn figure(groups: &[Group]) -> Result<String> {
    let curves = groups.iter().map(|group| GroupCurves {
        name: group.name.clone(),
        test: band(&group.runs, |metrics| metrics.test_accuracy),
        training: band(&group.runs, |metrics| metrics.train_accuracy),
    });
    bands::accuracy("Accuracy by epoch", &curves.collect::<Vec<_>>())
}

fn band(runs: &[FinishedRun], accuracy: fn(&EpochMetrics) -> f64) -> Band {
    let epochs = runs.iter().map(|run| run.history.len()).min().unwrap_or_default();
    let of_epoch = |at| Spread::of(runs.iter().map(|run| accuracy(&run.history[at])));
    let spreads: Vec<Spread> = (0..epochs).map(of_epoch).collect();
    let deviation = || spreads.iter().map(|spread| spread.sd).collect();
    Band {
        mean: spreads.iter().map(|spread| spread.mean).collect(),
        deviation: (runs.len() > 1).then(deviation),
    }
}

/// What all runs have; none if they differ.
fn if_equal(runs: &[RunFigures], number: fn(&RunFigures) -> usize) -> Option<usize> {
    let first = runs.first().map(number)?;
    runs.iter().all(|run| number(run) == first).then_some(first)
}

/// The text of all runs, or of the runs with the fewest and the most parameters: `1,000 to 2,000`.
fn range(runs: &[RunFigures], text: impl Fn(&RunFigures) -> String) -> String {
    let least = runs.iter().min_by_key(|run| run.parameters).map(&text).unwrap_or_default();
    let most = runs.iter().max_by_key(|run| run.parameters).map(&text).unwrap_or_default();
    if least == most { least } else { format!("{least} to {most}") }
}

/// A mean with three significant digits or more, but three decimals at most, and its deviation with as many decimals.
fn time(spread: &Spread) -> String {
    let magnitude = spread.mean.abs().max(1e-3).log10().floor();
    spread.text((2.0 - magnitude).clamp(0.0, 3.0) as usize)
}

/// A text that is nothing but text in a cell of Markdown.
fn markdown_text(text: &str) -> String {
    let escape = |character: char| {
        let is_markup = r"\|<*`[".contains(character);
        is_markup.then_some('\\').into_iter().chain([character])
    };
    visible(text).chars().flat_map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(seed: u64, test_accuracy: f64, validation_accuracy: Option<f64>) -> RunFigures {
        RunFigures {
            run: format!("runs/a,b-{seed}"),
            seed,
            parameters: 1_000 * seed as usize,
            dense_parameters: 4_000,
            epoch: 7,
            test_accuracy,
            validation_accuracy,
            seconds: 40.0 + seed as f64,
            step_us: 1_700.25,
            latency_us: 25.5,
        }
    }

    fn comparison(groups: Vec<(&str, Vec<RunFigures>)>) -> Comparison {
        let groups = groups.into_iter().map(|(name, runs)| GroupFigures::new(name.into(), runs));
        Comparison::new("cpu, 2 threads".into(), groups.collect())
    }

    #[test]
    fn a_row_has_the_means_of_its_runs() {
        let same = RunFigures { parameters: 1_000, ..run(3, 0.92, None) };
        let found =
            comparison(vec![("x", vec![run(1, 0.9, None), same]), ("y", vec![run(2, 0.5, None)])]);
        let text = found.table().to_string();
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
            .collect();
        assert_eq!(
            rows[0],
            [
                "group",
                "runs",
                "parameters",
                "of dense",
                "test accuracy",
                "training, s",
                "step, µs",
                "one image, µs"
            ]
        );
        // A deviation over n - 1.
        assert_eq!(
            rows[2],
            [
                "x",
                "2",
                "1,000",
                "25.00 %",
                "0.9100 ± 0.0141",
                "42.0 ± 1.4",
                "1700 ± 0",
                "25.5 ± 0.0"
            ]
        );
        assert_eq!(rows[3], ["y", "1", "2,000", "50.00 %", "0.5000", "42.0", "1700", "25.5"]);
        assert_eq!(rows.len(), 4);
    }

    #[test]
    fn networks_of_other_sizes_are_a_range() {
        let found = comparison(vec![("x", vec![run(3, 0.9, None), run(1, 0.9, None)])]);
        let text = found.table().to_string();
        assert!(text.contains("| 1,000 to 3,000 | 25.00 % to 75.00 % |"), "{text}");
        assert_eq!(found.groups[0].parameters, None);
        assert_eq!(found.groups[0].dense_parameters, Some(4_000));
    }

    #[test]
    fn the_notes_say_which_epoch_counts() {
        let (held_out, last) = (run(1, 0.9, Some(0.8)), run(2, 0.9, None));
        for (runs, expected, spread) in [
            (vec![held_out.clone()], "of the epoch with the best held-out accuracy", false),
            (vec![last.clone()], "after the last epoch", false),
            (
                vec![last, held_out],
                "of the epoch with the best held-out accuracy, after the last epoch where",
                true,
            ),
        ] {
            let notes = comparison(vec![("x", runs)]).notes();
            assert!(notes[0].starts_with(&format!("test accuracy: {expected}")), "{notes:?}");
            assert_eq!(notes.iter().any(|note| note.contains('±')), spread, "{notes:?}");
            assert!(notes.last().unwrap().ends_with("cpu, 2 threads"));
        }
    }

    #[test]
    fn held_out_accuracy_is_a_column_where_there_is_any() {
        let found = comparison(vec![
            ("x", vec![run(1, 0.9, Some(0.8125))]),
            ("y", vec![run(2, 0.9, None)]),
        ]);
        let text = found.table().to_string();
        assert!(text.contains(" 0.9000 |            0.8125 |"), "{text}");
        assert!(text.contains(" 0.9000 |                   |"), "{text}");
        assert!(text.contains("held-out accuracy"), "{text}");
        assert_eq!(found.groups[1].validation_accuracy, None);
    }

    #[test]
    fn any_name_is_one_cell_of_markdown_and_one_field_of_csv() {
        let untimed = RunFigures { step_us: f64::NAN, ..run(2, 1.0 / 3.0, None) };
        let found = comparison(vec![("a|b, <c> \"d\"\n", vec![run(1, 0.1, Some(0.7)), untimed])]);
        let markdown = found.markdown();
        let lines: Vec<&str> = markdown.lines().collect();
        assert!(lines[2].starts_with(r#"| a\|b, \<c> "d"\\n "#), "{markdown}");
        assert_eq!((lines.len(), lines[3]), (5, ""), "{markdown}");
        let csv = found.csv();
        let (header, rows) = csv.split_once('\n').unwrap();
        assert_eq!(header.split(',').count(), 11);
        assert!(
            rows.starts_with(
                "\"a|b, <c> \"\"d\"\"\n\",\"runs/a,b-1\",1,1000,4000,7,0.1,0.7,41,1700.25,25.5\n"
            ),
            "{rows}"
        );
        assert!(
            rows.ends_with(",\"runs/a,b-2\",2,2000,4000,7,0.3333333333333333,,42,,25.5\n"),
            "{rows}"
        );
    }

    #[test]
    fn times_have_three_digits_or_more() {
        for (mean, text) in
            [(43.81, "43.8"), (4.381, "4.38"), (0.01234, "0.012"), (1703.4, "1703"), (0.0, "0.000")]
        {
            assert_eq!(time(&Spread::of([mean])), text);
        }
    }
}
