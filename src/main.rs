//! The command line: parse, run, and turn the outcome into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    tnet_gpu::cli::main()
}
