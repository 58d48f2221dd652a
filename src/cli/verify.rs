//! `tnet-gpu verify`: the checks of [`crate::verify`], as a table or as JSON lines.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{drivers, introduce, json, out, say};
use crate::device::DeviceChoice;
use crate::report::table;
use crate::verify::{self, Distances, TOLERANCE};
use crate::{Error, Result};

/// Options of `verify`.
#[derive(Debug, Args)]
#[command(after_help = super::examples![
    "tnet-gpu verify",
    "tnet-gpu verify --device cpu --json",
])]
pub struct VerifyArgs {
    /// Device to check: auto, cpu, vulkan, metal, dx12 or gl; the last four also as NAME:N
    #[arg(long, default_value_t)]
    device: DeviceChoice,

    /// Check against the safetensors files in a folder, or one of them, instead of the built-in sizes
    #[arg(long, value_name = "DIR")]
    cases: Option<PathBuf>,

    /// Print one JSON object per case instead of a table
    #[arg(long)]
    json: bool,
}

/// The object that `--json` prints per case.
#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    #[serde(flatten)]
    distances: Distances,
    pass: bool,
}

/// Runs the command.
pub fn run(args: &VerifyArgs) -> Result<()> {
    let cases = match &args.cases {
        Some(folder) => verify::from_folder(folder)?,
        None => verify::built_in(),
    };
    let opened = drivers::open(args.device)?;
    introduce(&opened);

    let mut table = table::new(&["case", "y", "cores", "bias", "x", ""], true);
    let mut failed = 0;
    for case in &cases {
        let distances = case.run(&opened.device)?;
        let pass = distances.pass();
        failed += usize::from(!pass);
        if args.json {
            let line = Line { name: case.name(), distances, pass };
            out(&json(&line)?)?;
        } else {
            let largest = |of: fn(&str) -> bool| format!("{:.1e}", distances.largest(of));
            let is_core = |name: &str| !["y", "dbias", "dx"].contains(&name);
            let of_columns: [fn(&str) -> bool; 4] =
                [|name| name == "y", is_core, |name| name == "dbias", |name| name == "dx"];
            let mut row = vec![case.name().to_owned()];
            row.extend(of_columns.map(largest));
            row.push(if pass { "pass" } else { "FAIL" }.into());
            table.add_row(row);
        }
    }
    if !args.json {
        out(&table.to_string())?;
    }
    if failed > 0 {
        return Err(Error::Verify { failed, total: cases.len(), tolerance: TOLERANCE });
    }
    say!("all {} cases are within {TOLERANCE:e} of the f64 reference", cases.len());
    Ok(())
}
