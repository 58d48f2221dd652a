//! A stack as a TOML file.
//!
//! ```toml
//! input = [1, 28, 28]
//!
//! [[layers]]
//! kind = "mps"
//! in = [28, 28]
//! out = [32, 16]
//! bond = 1
//!
//! [[layers]]
//! kind = "relu"
//!
//! [[layers]]
//! kind = "dense"
//! out = 10
//! ```

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use super::{Layer, Shape, Stack};
use crate::{Error, Result};

/// Longest file that is read, in bytes: some ten thousand layers.
const LONGEST: u64 = 1 << 20;

/// The file before its layers are looked at, so that an error can name the layer.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    input: Shape,
    layers: Vec<toml::Table>,
}

/// Reads a stack.
///
/// # Errors
///
/// [`Error::Io`] when the file cannot be read, [`Error::Malformed`] naming the line or the layer that is wrong.
pub fn read(path: &Path) -> Result<Stack> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let mut text = String::new();
    file.take(LONGEST + 1).read_to_string(&mut text).map_err(Error::io("read", path))?;
    parse(path, &text)
}

/// Reads a file's content. Errors name `path`.
///
/// # Errors
///
/// [`Error::Malformed`] naming the line or the layer that is wrong.
pub fn parse(path: &Path, text: &str) -> Result<Stack> {
    if text.len() as u64 > LONGEST {
        return Err(Error::malformed(path, "size", format!("at most {LONGEST} bytes"), "more"));
    }
    let raw: Raw =
        toml::from_str(text).map_err(|error| Error::toml(path, text, "a network", &error))?;
    let layers = raw.layers.into_iter().enumerate().map(|(at, table)| {
        let kind = table.get("kind").and_then(toml::Value::as_str).unwrap_or("layer ").to_owned();
        table.try_into::<Layer>().map_err(|error| {
            let name = format!("{kind}{}", at + 1);
            Error::malformed(path, name, "a layer", error.message())
        })
    });
    let stack = Stack { input: raw.input, layers: layers.collect::<Result<_>>()? };
    match stack.check() {
        Ok(()) => Ok(stack),
        Err(error) => Err(Error::Network { file: path.to_path_buf(), problem: error.to_string() }),
    }
}

/// The stack as the text of such a file.
///
/// # Errors
///
/// [`Error::Internal`] when it cannot be written, which no stack is known to cause.
pub fn write(stack: &Stack) -> Result<String> {
    toml::to_string(stack).map_err(|error| Error::internal("writing a network", error))
}
