//! Paths of any bytes: as the word of a shell command, in `config.toml`, and in JSON.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::text::visible;

/// A path as one word of a shell command, on one line.
pub fn quoted(path: &Path) -> String {
    // A word that begins with a dash would be read as an option.
    let path = match path.as_os_str().as_encoded_bytes().first() {
        Some(b'-') => Path::new(".").join(path),
        _ => path.to_path_buf(),
    };
    let plain = |character: char| {
        character.is_alphanumeric()
            || "/._-+".contains(character)
            || (cfg!(windows) && "\\:".contains(character))
    };
    match path.to_str() {
        Some(text) if !text.is_empty() && text.chars().all(plain) => text.to_owned(),
        Some(text) if cfg!(windows) => format!("\"{text}\""),
        Some(text) if visible(text) == text => format!("'{}'", text.replace('\'', r"'\''")),
        _ => escaped(path.as_os_str().as_encoded_bytes()),
    }
}

/// `$'…'`, which bash, zsh and ksh read: the only way to write some bytes without breaking the line.
fn escaped(bytes: &[u8]) -> String {
    let mut word = String::from("$'");
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\'' | '\\' => word.extend(['\\', character]),
                '\n' => word.push_str("\\n"),
                _ if visible(character.encode_utf8(&mut [0; 4])).starts_with('\\') => {
                    let mut buffer = [0; 4];
                    hex(character.encode_utf8(&mut buffer).as_bytes(), &mut word);
                }
                _ => word.push(character),
            }
        }
        hex(chunk.invalid(), &mut word);
    }
    word + "'"
}

fn hex(bytes: &[u8], word: &mut String) {
    word.extend(bytes.iter().map(|byte| format!("\\x{byte:02x}")));
}

/// For `#[serde(with = "…")]`: a path as text or, if it is not UTF-8, as `{ bytes = […] }`.
pub mod stored {
    use super::*;

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Stored {
        Text(String),
        Bytes { bytes: Vec<u8> },
    }

    /// Writes a path.
    pub fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        let stored = match path.to_str() {
            Some(text) => Stored::Text(text.to_owned()),
            None => Stored::Bytes { bytes: path.as_os_str().as_encoded_bytes().to_vec() },
        };
        stored.serialize(serializer)
    }

    /// Reads a path.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        Ok(match Stored::deserialize(deserializer)? {
            Stored::Text(text) => text.into(),
            Stored::Bytes { bytes } => of_bytes(bytes),
        })
    }

    #[cfg(unix)]
    fn of_bytes(bytes: Vec<u8>) -> PathBuf {
        use std::os::unix::ffi::OsStringExt;
        std::ffi::OsString::from_vec(bytes).into()
    }

    /// A run from a system whose paths this one cannot have; none is found there.
    #[cfg(not(unix))]
    fn of_bytes(bytes: Vec<u8>) -> PathBuf {
        String::from_utf8_lossy(&bytes).into_owned().into()
    }
}

/// For `#[serde(serialize_with = "…")]`: a path as the text that JSON can hold, U+FFFD in place of what is not UTF-8.
pub fn lossy<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    path.to_string_lossy().serialize(serializer)
}

/// The same for a path that may be missing.
pub fn lossy_if_any<S: Serializer>(path: &Option<&Path>, serializer: S) -> Result<S::Ok, S::Error> {
    path.map(Path::to_string_lossy).serialize(serializer)
}

#[cfg(all(test, unix))]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::process::Command;

    use super::*;

    fn paths() -> impl Iterator<Item = &'static Path> {
        let bytes: [&[u8]; 12] = [
            b"runs/mps-bond1-1",
            b"my runs/it's",
            b"a\\b",
            b"a\nb",
            b"caf\xe9",
            b"\xff'\\\n$x`y`\"",
            b"-x",
            b"--out",
            b"~",
            b"$HOME",
            "été\u{202e}x".as_bytes(),
            b"\x1bf",
        ];
        bytes.into_iter().map(|bytes| Path::new(OsStr::from_bytes(bytes)))
    }

    #[test]
    fn a_shell_reads_a_quoted_path_back() {
        for path in paths() {
            let word = quoted(path);
            assert_eq!(word.lines().count(), 1, "{word}");
            let output = Command::new("bash").args(["-c", &format!("printf %s {word}")]).output();
            let Ok(output) = output else { return };
            let read = Path::new(OsStr::from_bytes(&output.stdout));
            let of_option = Path::new(".").join(path);
            assert!(read == path || read == of_option, "{word} is read as {read:?}");
            assert!(!word.starts_with('-'), "{word}");
        }
        assert_eq!(quoted(Path::new("runs/mps-bond1-1")), "runs/mps-bond1-1");
        assert_eq!(quoted(Path::new("my runs/it's")), r"'my runs/it'\''s'");
        assert_eq!(quoted(Path::new("-x")), "./-x");
    }

    #[test]
    fn a_stored_path_comes_back() {
        #[derive(Serialize, Deserialize)]
        struct Config {
            #[serde(with = "stored")]
            data: PathBuf,
        }
        for path in paths() {
            let text = toml::to_string(&Config { data: path.to_path_buf() }).unwrap();
            let config: Config = toml::from_str(&text).unwrap();
            assert_eq!(config.data, path, "{text}");
        }
    }
}
