//! `tnet-gpu completions`: scripts with which shells complete commands, options, values and files.

use clap::builder::PossibleValuesParser;
use clap::{Arg, Args, Command, CommandFactory, ValueHint};
use clap_complete::Shell;

use super::{Cli, NAME, out_bytes};
use crate::Result;

/// What is offered for `--device`. Any adapter can be named, but asking the drivers for them takes too long.
const DEVICES: [&str; 6] = ["auto", "cpu", "vulkan", "metal", "dx12", "gl"];

/// Options of `completions`.
#[derive(Debug, Args)]
#[command(after_help = super::examples![
    "echo 'source <(tnet-gpu completions bash)' >> ~/.bashrc",
    "echo 'source <(tnet-gpu completions zsh)' >> ~/.zshrc",
])]
pub struct CompletionsArgs {
    /// The shell that is to read the script; zsh must have run compinit before
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Runs the command.
pub fn run(args: &CompletionsArgs) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut hinted(Cli::command()), NAME, &mut script);
    out_bytes(&script)
}

/// The command with hints for shells. By default they offer files for every option that takes a value.
fn hinted(command: Command) -> Command {
    command.mut_args(hint).mut_subcommands(hinted)
}

fn hint(argument: Arg) -> Arg {
    if argument.get_id() == "device" {
        return argument.value_parser(PossibleValuesParser::new(DEVICES));
    }
    let has_values = !argument.get_possible_values().is_empty();
    match argument.get_value_hint() {
        // So that bash puts a slash after a folder and a backslash before a space; folders are offered too.
        ValueHint::AnyPath => argument.value_hint(ValueHint::FilePath),
        ValueHint::Unknown if argument.get_action().takes_values() && !has_values => {
            argument.value_hint(ValueHint::Other)
        }
        _ => argument,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DeviceChoice;

    #[test]
    fn devices_that_are_offered_can_be_named() {
        for name in DEVICES {
            assert!(name.parse::<DeviceChoice>().is_ok(), "{name}");
        }
    }
}
