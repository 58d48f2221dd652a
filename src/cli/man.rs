//! `tnet-gpu man`: manual pages, made from the same text as `--help`.

use std::fs;
use std::io;
use std::path::PathBuf;

use clap::builder::Resettable;
use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::{Cli, NAME, out, out_bytes};
use crate::files::write_whole;
use crate::text::shown;
use crate::{Error, Result};

/// Options of `man`.
#[derive(Debug, Args)]
#[command(after_help = super::examples![
    "tnet-gpu man > tnet-gpu.1",
    "tnet-gpu man ~/.local/share/man/man1",
])]
pub struct ManArgs {
    /// Write the pages of the program and of each command into this folder, and print their paths [default: print the
    /// program's page]
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &ManArgs) -> Result<()> {
    // Without the command `help`, of which there is nothing to tell.
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    let Some(folder) = &args.folder else { return out_bytes(page(&program)?.as_bytes()) };
    fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    for command in std::iter::once(&program).chain(program.get_subcommands()) {
        let path = folder.join(format!("{}.1", name(command)));
        write_whole(&path, page(command)?.as_bytes())?;
        out(&shown(&path).to_string())?;
    }
    Ok(())
}

/// `tnet-gpu-train`.
fn name(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

/// The page in roff.
fn page(command: &Command) -> Result<String> {
    let failed = |error: io::Error| Error::internal("writing a manual page", error);
    let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let mut page = Vec::new();
    // `Man` would fill the lines of the examples as one paragraph.
    Man::new(command.clone().after_help(Resettable::Reset))
        // Without a date, written so that it is not left out and the next argument taken for it.
        .date("\"\"")
        .source(concat!("tnet-gpu ", env!("CARGO_PKG_VERSION")))
        .manual("User Commands")
        .render(&mut page)
        .map_err(failed)?;

    let mut rest = Roff::new();
    rest.control("SH", ["EXAMPLES"]).control("nf", []);
    for example in examples.lines().skip(1) {
        rest.text([roman(example.trim_start())]);
    }
    rest.control("fi", []);
    if !command.has_subcommands() {
        rest.control("SH", ["SEE ALSO"]).text([bold(NAME), roman("(1)")]);
    }
    rest.to_writer(&mut page).map_err(failed)?;
    Ok(escaped(&String::from_utf8_lossy(&page)))
}

/// The page with escapes for what roff would print as something else: it takes its input for Latin-1 unless it is told
/// otherwise, and has accents and quotation marks in place of three characters of ASCII, which could not be pasted.
fn escaped(page: &str) -> String {
    let escape = |character: char| match character {
        '~' => r"\(ti".to_owned(),
        '^' => r"\(ha".to_owned(),
        '`' => r"\(ga".to_owned(),
        _ if character.is_ascii() => character.to_string(),
        _ => format!("\\[u{:04X}]", u32::from(character)),
    };
    page.chars().map(escape).collect()
}
