//! The names of data files, as those who publish them spell them.

use std::ffi::OsStr;

use crate::files::is_litter;

/// The canonical names: training images, training labels, test images, test labels.
pub const NAMES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];

/// What the name of a data file says.
#[derive(Debug, PartialEq, Eq)]
pub struct Name<'a> {
    /// What is in front of all four names of the set, without the separator: `emnist-letters`.
    pub prefix: &'a str,
    /// Which of the four files it is.
    pub role: usize,
    /// The name without `.gz`.
    pub stem: &'a str,
    /// Whether it ends in `.gz`.
    pub compressed: bool,
}

impl<'a> Name<'a> {
    /// `None` if it is not the name of a data file.
    pub fn parse(name: &'a str) -> Option<Self> {
        if is_litter(OsStr::new(name)) {
            return None;
        }
        let ending = name
            .len()
            .checked_sub(3)
            .filter(|&at| name.get(at..).is_some_and(|ending| ending.eq_ignore_ascii_case(".gz")));
        let stem = &name[..ending.unwrap_or(name.len())];
        // Every byte keeps its place.
        let spelled = stem.to_ascii_lowercase().replace(['.', '_'], "-");
        let (role, before) = NAMES.iter().enumerate().find_map(|(role, canonical)| {
            let as_test = canonical.replace("t10k", "test");
            let before = spelled.strip_suffix(canonical).or(spelled.strip_suffix(&as_test))?;
            Some((role, before))
        })?;
        let prefix = match before.strip_suffix('-') {
            // A hidden file, perhaps one that is being copied.
            Some("") => return None,
            Some(prefix) => &stem[..prefix.len()],
            None if before.is_empty() => "",
            None => return None,
        };
        Some(Self { prefix, role, stem, compressed: ending.is_some() })
    }

    /// Whether another file name is that of the same file, however it is spelled.
    pub fn is_of_same(&self, other: Option<&OsStr>) -> bool {
        let other = other.and_then(OsStr::to_str).and_then(Name::parse);
        other.is_some_and(|other| (other.prefix, other.role) == (self.prefix, self.role))
    }
}

/// The canonical name of a file of the set with this prefix.
pub fn full_name(prefix: &str, role: usize) -> String {
    let separator = if prefix.is_empty() { "" } else { "-" };
    format!("{prefix}{separator}{}", NAMES[role])
}

/// The names that a file of the set may have.
pub fn either(prefix: &str, role: usize) -> String {
    let name = full_name(prefix, role);
    format!("{name} or {name}.gz")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_which_file_of_which_set_it_is() {
        for (name, prefix, role, compressed) in [
            ("train-images-idx3-ubyte", "", 0, false),
            ("train-labels.idx1-ubyte", "", 1, false),
            ("T10K_images_idx3_ubyte.GZ", "", 2, true),
            ("test-labels-idx1-ubyte.gz", "", 3, true),
            ("emnist-letters-test-labels-idx1-ubyte.gz", "emnist-letters", 3, true),
            ("Größe.2_Train.Images.IDX3.ubyte", "Größe.2", 0, false),
        ] {
            let stem = if compressed { &name[..name.len() - 3] } else { name };
            assert_eq!(Name::parse(name), Some(Name { prefix, role, stem, compressed }));
        }
        for name in [
            "._train-images-idx3-ubyte",
            ".train-images-idx3-ubyte",
            "xtrain-images-idx3-ubyte",
            "train-images-idx1-ubyte",
            "train-images-idx3-ubyte-gz",
            "train-images-idx3-ubyte.zip",
            "train-images-idx3-ubyte.part",
            ".gz",
            "é",
            "",
        ] {
            assert_eq!(Name::parse(name), None, "{name}");
        }
    }
}
