//! `tnet-gpu devices`: all adapters, and which one `auto` selects and why.

use clap::Args;

use super::{drivers, json, out};
use crate::Result;
use crate::device::{Adapter, Automatic};
use crate::report::table;

/// Options of `devices`.
#[derive(Debug, Args)]
#[command(after_help = super::examples![
    "tnet-gpu devices",
    "tnet-gpu devices --json",
])]
pub struct DevicesArgs {
    /// Print one JSON object per adapter instead of a table
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &DevicesArgs) -> Result<()> {
    let (adapters, Automatic { adapter, reason, passed_over }) = drivers::survey();
    if args.json {
        for adapter in &adapters {
            out(&json(adapter)?)?;
        }
        return Ok(());
    }

    let mut table = table::new(&["--device", "adapter", "kind", "driver", "limits"], false);
    let threads = rayon::current_num_threads();
    table.add_row(["cpu", "this machine's processor", "CPU", "", &format!("{threads} threads")]);
    for adapter in &adapters {
        table.add_row([
            adapter.id(),
            adapter.name.clone(),
            adapter.kind.to_string(),
            adapter.driver.clone(),
            limits(adapter),
        ]);
    }
    out(&table.to_string())?;
    for over in passed_over {
        out(&format!("auto passes over {over}"))?;
    }
    let id = adapter.map_or_else(|| "cpu".into(), |adapter| adapter.id());
    out(&format!("auto takes {id}: {reason}"))
}

fn limits(adapter: &Adapter) -> String {
    if let Some(problem) = adapter.problem() {
        return format!("cannot be used: {problem}");
    }
    let limits = &adapter.limits;
    format!(
        "buffers of {} MiB, {} per kernel; {} invocations and {} KiB per workgroup",
        limits.storage_buffer_bytes >> 20,
        limits.storage_buffers,
        limits.workgroup_invocations,
        limits.workgroup_memory_bytes >> 10
    )
}
