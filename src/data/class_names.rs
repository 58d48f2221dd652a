//! What the classes of a data set are called.

use std::collections::HashSet;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use crate::{Error, Result};

/// The file beside a set's that has a name for each class, a line each.
pub(super) const FILE: &str = "labels.txt";

/// Longest such file that is read, in bytes; a set has at most 256 classes.
const LONGEST: u64 = 1 << 16;

/// The test images of Fashion-MNIST: [`super::ImageSet::sha256`].
pub const TEST_SHA256: &str = "16f4e76ef93ed38c64319f5b7c3bba4b9e07a1e447a0f467e27a91ff30a18716";

/// Those of Fashion-MNIST, in the order of its labels.
const FASHION_MNIST: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

/// A name for each of so many classes: those of Fashion-MNIST where the test images are its own
/// ([`super::ImageSet::sha256`]), else numbers from 0.
pub fn class_names(test_sha256: Option<&str>, classes: usize) -> Vec<String> {
    match test_sha256 {
        Some(TEST_SHA256) if classes == FASHION_MNIST.len() => {
            FASHION_MNIST.map(str::to_owned).to_vec()
        }
        _ => (0..classes).map(|class| class.to_string()).collect(),
    }
}

/// The names in a folder's `labels.txt`, one for each of so many classes; none without that file.
pub(super) fn read(folder: &Path, classes: usize) -> Result<Option<Vec<String>>> {
    let path = folder.join(FILE);
    let file = match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file.map_err(Error::io("open", &path))?,
    };
    let mut text = String::new();
    file.take(LONGEST + 1).read_to_string(&mut text).map_err(Error::io("read", &path))?;
    if text.len() as u64 > LONGEST {
        let expected = format!("at most {LONGEST} bytes");
        return Err(Error::malformed(&path, "size", expected, "more"));
    }
    // Some editors begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).trim_end();
    let names: Vec<&str> = text.lines().map(str::trim).collect();
    if names.len() != classes {
        let expected = format!("{classes}, one for each class of the labels");
        return Err(Error::malformed(&path, "lines", expected, names.len()));
    }
    let mut seen = HashSet::new();
    for (at, name) in names.iter().enumerate() {
        if name.is_empty() || !seen.insert(name) {
            let found = if name.is_empty() { "none" } else { name };
            let line = format!("line {}", at + 1);
            return Err(Error::malformed(&path, line, "a name of its own", found));
        }
    }
    Ok(Some(names.into_iter().map(str::to_owned).collect()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn names_are_the_lines_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let write = |text: &str| fs::write(folder.path().join(FILE), text).unwrap();
        assert_eq!(read(folder.path(), 2).unwrap(), None);
        write("\u{feff}ankle boot\r\n été \n\n");
        assert_eq!(read(folder.path(), 2).unwrap().unwrap(), ["ankle boot", "été"]);
        for (text, classes, with) in [
            ("a\nb\n", 3, "lines: expected 3, one for each class of the labels, found 2"),
            ("a\n\nb", 3, "line 2: expected a name of its own, found none"),
            ("a\nb\na\n", 3, "line 3: expected a name of its own, found a"),
        ] {
            write(text);
            let line = read(folder.path(), classes).unwrap_err().to_string();
            assert!(line.ends_with(with), "{line}");
        }
        write(&"x\n".repeat(LONGEST as usize));
        assert!(read(folder.path(), 2).unwrap_err().to_string().contains("size: expected at most"));
    }

    #[test]
    fn fashion_mnist_is_known() {
        assert_eq!(class_names(Some(TEST_SHA256), 10)[9], "Ankle boot");
        assert_eq!(class_names(None, 3), ["0", "1", "2"]);
    }
}
