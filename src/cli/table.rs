//! `tnet-gpu table`: tensor networks beside dense ones at equal numbers of parameters.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::progress::load;
use super::signals::listen;
use super::study::{Material, Runs, StudyArgs, write_results};
use super::{at_least_one, drivers, json, out, say};
use crate::files::write_whole;
use crate::report::table::{self, thousands};
use crate::study::families::{self, Family};
use crate::study::{Images, Summary, summaries};
use crate::text::shown;
use crate::train::{RecipeChoice, RecipeName};
use crate::{Error, Result, op};

/// Options of `table`.
#[derive(Debug, Args)]
#[command(after_help = super::examples![
    "tnet-gpu table --quick --parameters 5000,10000 --out table",
    "tnet-gpu table --quick --families dense,chains --parameters 5000 --out table",
    "tnet-gpu table --quick --parameters 5000,10000 --out table --json",
])]
pub struct TableArgs {
    /// Numbers of parameters; of each family the widest network that has no more is trained
    #[arg(
        long,
        value_name = "N,…",
        value_delimiter = ',',
        default_value = "5000,10000,20000,50000",
        value_parser = at_least_one()
    )]
    parameters: Vec<usize>,

    /// Families of networks: dense (narrow layers), low-rank, kronecker (tensor layers of bond 1), mps-all (of bond 3) and
    /// chains (of four cores) [default: all]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    families: Vec<Family>,

    /// Train for 5 epochs and with one seed, to see in minutes what the table looks like
    #[arg(long)]
    quick: bool,

    #[command(flatten)]
    how: StudyArgs,

    /// Folder of the table; one that holds runs of it goes on where they stand
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Print one JSON object at the end instead of lines
    #[arg(long)]
    json: bool,
}

/// The text of a cell.
type Text = fn(&Summary) -> String;

/// A cell of the table: a family's network of a size.
#[derive(Debug, Serialize)]
struct Cell<'a> {
    family: &'static str,
    budget: usize,
    #[serde(flatten)]
    summary: &'a Summary,
}

/// Runs the command; `given` are the ids of the options that were typed.
pub fn run(args: &TableArgs, given: &[&str]) -> Result<()> {
    let opened = drivers::open(args.how.on.device)?;
    op::choose(op::Choices::default());
    let load_options = args.how.on.data.options(None, None);
    let data = load(args.how.on.data.path(), &load_options)?;
    let count = args.how.on.train_images.unwrap_or(data.train.count).min(data.train.count);
    let images = Images { input: data.train.shape, classes: data.classes.len(), count };

    let (recipe, seeds) = choice(args, given);
    let seeds = args.how.first_seeds(seeds);
    let families = if args.families.is_empty() { &Family::ALL[..] } else { &args.families };
    let planned = families::runs(families, &args.parameters, images, &recipe, &seeds)?;
    let runs = Runs { folder: args.out.join("runs"), planned, opened };
    runs.check(Some((&data, count)))?;
    std::fs::create_dir_all(&args.out).map_err(Error::io("create the folder", &args.out))?;
    let train_images = count;
    let material = Material { data, images: load_options, train_images, stop: listen()? };
    let outcomes = runs.train_all(&material, None, "table", &args.out)?;

    let (rows, missing) = runs.rows(&outcomes)?;
    write_results(&args.out, &rows)?;
    if missing > 0 {
        say!("{missing} of {} runs are not over: another process trains them", runs.planned.len());
    }
    let summaries = summaries(&rows);
    let cells = cells(&args.parameters, &summaries);
    let markdown = markdown(&args.parameters, &cells, &runs.opened.description);
    write_whole(&args.out.join("table.md"), markdown.as_bytes())?;
    let text = json(&cells)?;
    write_whole(&args.out.join("table.json"), text.as_bytes())?;
    if args.json {
        return out(&text);
    }
    print(&args.parameters, &cells)?;
    out(&format!("table: {}", shown(&args.out)))
}

/// How the networks are trained, and the number of seeds: as typed, else as for small networks, or quickly.
fn choice(args: &TableArgs, given: &[&str]) -> (RecipeChoice, usize) {
    const QUICK_EPOCHS: usize = 5;
    let typed = args.how.recipe.choice(given);
    let named = given.contains(&"recipe");
    let recipe = RecipeChoice {
        recipe: if named { typed.recipe } else { RecipeName::Small },
        epochs: typed.epochs.or(args.quick.then_some(QUICK_EPOCHS)),
        ..typed
    };
    let one = args.quick && !given.contains(&"seeds");
    (recipe, if one { 1 } else { args.how.seeds })
}

/// In the order of the families, then of the sizes.
fn cells<'a>(budgets: &[usize], summaries: &'a [Summary]) -> Vec<Cell<'a>> {
    let of = |family: Family, budget: usize| {
        let name = families::name(family, budget);
        let summary = summaries.iter().find(|summary| summary.point.network == name)?;
        Some(Cell { family: family.name(), budget, summary })
    };
    let all = Family::ALL
        .into_iter()
        .flat_map(|family| budgets.iter().map(move |&budget| (family, budget)));
    all.filter_map(|(family, budget)| of(family, budget)).collect()
}

/// A row of texts for each family, one for each size.
fn rows_of(
    budgets: &[usize],
    cells: &[Cell<'_>],
    text: impl Fn(&Summary) -> String,
) -> Vec<Vec<String>> {
    let row = |family: Family| {
        let of = |budget: usize| {
            let of_cell = |cell: &&Cell<'_>| cell.family == family.name() && cell.budget == budget;
            cells.iter().find(of_cell).map_or_else(String::new, |cell| text(cell.summary))
        };
        let texts = budgets.iter().map(|&budget| of(budget));
        [family.name().to_owned()].into_iter().chain(texts).collect()
    };
    let is_there = |family: &Family| cells.iter().any(|cell| cell.family == family.name());
    Family::ALL.into_iter().filter(is_there).map(row).collect()
}

fn header(first: &str, budgets: &[usize]) -> Vec<String> {
    let sizes = budgets.iter().map(|&budget| thousands(budget));
    [first.to_owned()].into_iter().chain(sizes).collect()
}

/// `431 / 12`: a step, and one image, in microseconds.
fn times(summary: &Summary) -> String {
    format!("{} / {}", summary.step_us.rounded(), summary.latency_us.rounded())
}

fn accuracy(summary: &Summary) -> String {
    summary.test_accuracy.text(4)
}

/// Prints both tables for people.
fn print(budgets: &[usize], cells: &[Cell<'_>]) -> Result<()> {
    let parts: [(&str, Text); 2] = [("test accuracy", accuracy), ("step / image (µs)", times)];
    for (name, text) in parts {
        let header = header(name, budgets);
        let header: Vec<&str> = header.iter().map(String::as_str).collect();
        let mut table = table::new(&header, true);
        for row in rows_of(budgets, cells, text) {
            table.add_row(row);
        }
        out(&table.to_string())?;
    }
    Ok(())
}

/// `table.md`.
fn markdown(budgets: &[usize], cells: &[Cell<'_>], device: &str) -> String {
    let mut text = String::from("# Accuracy at equal numbers of parameters\n");
    let parts: [(&str, Text); 3] = [
        ("test accuracy", accuracy),
        ("parameters", |summary| thousands(summary.parameters)),
        ("step / image (µs)", times),
    ];
    for (name, of) in parts {
        let line = |texts: Vec<String>| format!("| {} |\n", texts.join(" | "));
        text += "\n";
        text += &line(header(name, budgets));
        text += &format!("|---|{}\n", "--:|".repeat(budgets.len()));
        for row in rows_of(budgets, cells, of) {
            text += &line(row);
        }
    }
    let seeds = cells.iter().map(|cell| cell.summary.test_accuracy.count).max().unwrap_or_default();
    // Infallible: a String takes everything.
    let _ = write!(
        text,
        "\nOf each family the widest network with at most so many parameters. Test accuracy is the mean over {seeds} \
         seed{} ± standard deviation; the epoch of each run was chosen on held-out images. Times of a training step and of \
         one image, on {device}.\n",
        if seeds == 1 { "" } else { "s" }
    );
    text
}
