//! Draws the test accuracy of several runs in one figure, like the one in the README:
//!
//! ```text
//! cargo run --release --example figure -- \
//!     "tensor network, bond 1=runs/mps-bond1-1" "dense=runs/dense-1" > assets/article.svg
//! ```

#![expect(clippy::print_stdout, reason = "the figure goes to standard output")]

use std::error::Error;
use std::path::Path;

use tnet_gpu::report::curves::{self, Curve};

fn main() -> Result<(), Box<dyn Error>> {
    let curves: Vec<Curve> =
        std::env::args().skip(1).map(|argument| curve(&argument)).collect::<Result<_, _>>()?;
    print!("{}", curves::accuracy("test accuracy on Fashion-MNIST", &curves)?);
    Ok(())
}

/// The column `test_accuracy` of a run's metrics, from an argument `NAME=RUN`.
fn curve(argument: &str) -> Result<Curve, Box<dyn Error>> {
    let (name, run) = argument.split_once('=').ok_or("expected NAME=RUN")?;
    let metrics = std::fs::read_to_string(Path::new(run).join("metrics.csv"))?;
    let mut lines = metrics.lines().map(|line| line.split(','));
    let column = lines.next().and_then(|mut names| names.position(|name| name == "test_accuracy"));
    let column = column.ok_or("metrics.csv has no column test_accuracy")?;
    let mut accuracy = Vec::new();
    for mut line in lines {
        accuracy.push(line.nth(column).ok_or("metrics.csv: a line is too short")?.parse()?);
    }
    Ok(Curve { name: name.into(), accuracy })
}
