//! The finished runs that a command takes, alone or under a name, in the order in which they were typed.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};

use super::say;
use crate::study::FinishedRun;
use crate::text::shown;
use crate::train::run;
use crate::{Error, Result};

/// Ids of the arguments.
const RUNS: &str = "runs";
const GROUP: &str = "group";

/// Which runs are read. Written out, since clap's derived parsers do not tell in which order two arguments were typed.
#[derive(Debug)]
pub struct RunsArgs {
    /// The path of each run, with the name under which it was given, if any.
    typed: Vec<(Option<String>, PathBuf)>,
}

/// The value of `--group`.
#[derive(Debug, Clone, PartialEq)]
struct Named {
    name: String,
    runs: Vec<PathBuf>,
}

impl Args for RunsArgs {
    fn augment_args(command: Command) -> Command {
        let runs = Arg::new(RUNS)
            .value_name("RUN")
            .num_args(1..)
            .action(ArgAction::Append)
            .value_parser(value_parser!(PathBuf))
            .required_unless_present(GROUP)
            .help(
                "Finished runs: their folders, or a file of each. Those that differ only in the seed are a group",
            );
        let group = Arg::new(GROUP)
            .long(GROUP)
            .value_name("NAME=RUN,…")
            .action(ArgAction::Append)
            .value_parser(OsStringValueParser::new().try_map(|text| Named::parse(&text)))
            .help("Make a group of these runs, whatever they differ in; may be repeated");
        command.arg(runs).arg(group)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for RunsArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let places = |id| matches.indices_of(id).into_iter().flatten();
        let runs = matches.get_many::<PathBuf>(RUNS).into_iter().flatten();
        let runs = runs.map(|run| (None, std::slice::from_ref(run)));
        let named = matches.get_many::<Named>(GROUP).into_iter().flatten();
        let named = named.map(|named| (Some(&named.name), named.runs.as_slice()));
        let mut placed: Vec<_> = places(RUNS).zip(runs).chain(places(GROUP).zip(named)).collect();
        placed.sort_by_key(|(place, _)| *place);
        let typed = placed
            .into_iter()
            .flat_map(|(_, (name, runs))| runs.iter().map(move |run| (name.cloned(), run.clone())));
        Ok(Self { typed: typed.collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Named {
    /// Reads `NAME=RUN,RUN`. A path is taken as it is, whatever its bytes; one with a comma can be given without a name.
    fn parse(text: &OsStr) -> Result<Self, String> {
        let wrong = || "expected NAME=RUN,RUN,…".to_owned();
        let bytes = text.as_encoded_bytes();
        let end = bytes.iter().position(|&byte| byte == b'=').ok_or_else(wrong)?;
        let name = str::from_utf8(&bytes[..end]).map_err(|_| wrong())?.trim();
        let runs: Vec<PathBuf> =
            bytes[end + 1..].split(|&byte| byte == b',').map(|part| path(part).into()).collect();
        if name.is_empty() || runs.iter().any(|run| run.as_os_str().is_empty()) {
            return Err(wrong());
        }
        Ok(Self { name: name.to_owned(), runs })
    }
}

/// A part of an argument, between two of its ASCII characters.
fn path(part: &[u8]) -> OsString {
    // SAFETY: the bytes are those of an `OsStr`, split right before and after an ASCII character.
    unsafe { OsStr::from_encoded_bytes_unchecked(part) }.to_owned()
}

impl RunsArgs {
    /// Reads the runs, each with its name if it was given one, and checks that they may be compared.
    pub fn read(&self) -> Result<Vec<(Option<String>, FinishedRun)>> {
        let mut folders: Vec<(PathBuf, &Path)> = Vec::new();
        let mut runs: Vec<(Option<String>, FinishedRun)> = Vec::new();
        for (name, typed) in &self.typed {
            let folder = run::to_study(typed)?;
            // Of a folder that is not there, the error is that of reading it.
            let whole = fs::canonicalize(&folder).unwrap_or_else(|_| folder.clone());
            if let Some((_, first)) = folders.iter().find(|(other, _)| *other == whole) {
                return Err(Error::SameRun { run: first.to_path_buf(), again: typed.clone() });
            }
            folders.push((whole, typed));
            runs.push((name.clone(), FinishedRun::read(&folder)?));
        }
        check_test_images(&runs)?;
        Ok(runs)
    }
}

/// Checks that all runs were measured on the same images, as far as they tell.
fn check_test_images(runs: &[(Option<String>, FinishedRun)]) -> Result<()> {
    let runs = || runs.iter().map(|(_, run)| run);
    let mut known = runs().filter_map(|run| Some((run, run.test.as_ref()?)));
    if let Some((first, test)) = known.next()
        && let Some((other, _)) = known.find(|(_, other)| *other != test)
    {
        let (run, other) = (first.folder.clone(), other.folder.clone());
        return Err(Error::OtherTest { run, other });
    }
    for run in runs().filter(|run| run.test.is_none()) {
        say!("{} is of an earlier version and does not tell its test images", shown(&run.folder));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_group_is_a_name_and_runs() {
        let named = Named::parse(OsStr::new("tensor network = a,runs/b=c")).unwrap();
        assert_eq!(named.name, "tensor network");
        assert_eq!(named.runs, [Path::new(" a"), Path::new("runs/b=c")]);
        for wrong in ["", "x", "=a", "x=", "x=a,,b", " =a", "x=a,"] {
            let error = Named::parse(OsStr::new(wrong)).unwrap_err();
            assert!(error.contains("NAME=RUN"), "{wrong}: {error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_path_in_a_group_may_have_any_bytes() {
        use std::os::unix::ffi::OsStrExt;
        let bytes = |bytes| OsStr::from_bytes(bytes);
        let named = Named::parse(bytes(b"x=caf\xe9,\xff")).unwrap();
        assert_eq!(named.runs, [Path::new(bytes(b"caf\xe9")), Path::new(bytes(b"\xff"))]);
        assert!(Named::parse(bytes(b"\xff=a")).is_err());
    }

    #[test]
    fn the_order_is_that_of_typing() {
        let parse = |arguments: &[&str]| {
            let command = RunsArgs::augment_args(Command::new("compare"));
            let matches = command.try_get_matches_from([&["compare"], arguments].concat()).unwrap();
            let typed = RunsArgs::from_arg_matches(&matches).unwrap().typed.into_iter();
            let texts = typed.map(|(name, run)| (name, run.to_str().unwrap().to_owned()));
            texts.map(|(name, run)| name.unwrap_or_default() + ":" + &run).collect::<Vec<_>>()
        };
        assert_eq!(
            parse(&["a", "b", "--group", "x=c,d", "e", "--group=y=f", "--group", "x=g", "h"]),
            [":a", ":b", "x:c", "x:d", ":e", "y:f", "x:g", ":h"]
        );
        assert_eq!(parse(&["--group", "x=c", "a"]), ["x:c", ":a"]);
    }
}
