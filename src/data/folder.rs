//! Finds the four files of a set where they lie as they were published or unpacked: in one folder,
//! each in a folder of its own, or beside other sets whose names have another prefix.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use super::kind;
use super::name::{NAMES, Name, either, full_name};
use crate::files::{is_litter, parent};
use crate::text::shown;
use crate::{Error, Result};

/// How many names a message lists.
const LISTED: usize = 6;

/// What is in the names of files that may be the ones looked for.
const WORDS: [&str; 8] = ["idx", "ubyte", "mnist", "train", "test", "t10k", "label", "image"];

/// How the names of archives and of other forms of a set end.
const ENDINGS: [&str; 12] = [
    ".zip", ".tar", ".tgz", ".tar.gz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".npz", ".csv",
    ".parquet",
];

/// The files of a set.
#[derive(Debug)]
pub struct Found {
    /// The path that leads to them, and to no other set beside them.
    pub folder: PathBuf,
    /// The files, in the order of [`NAMES`].
    pub paths: [PathBuf; 4],
}

/// The file of a canonical name in a folder, plain or compressed. Whatever else has that name, such
/// as a folder or a pipe, does not count.
pub fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    [folder.join(name), folder.join(format!("{name}.gz"))].into_iter().find(|path| path.is_file())
}

/// Finds the set that `given` names: the folder it is in, a folder and the prefix of its names
/// (`DIR/emnist-letters`), or one of its files.
///
/// # Errors
///
/// [`Error::Malformed`] naming the folder and what it has when the set is not complete, or when
/// there are several to choose from; [`Error::Io`] when there is no such path.
pub fn find_set(given: &Path) -> Result<Found> {
    // A folder need not be readable if its files have their canonical names.
    let [a, b, c, d] = NAMES.map(|name| find(given, name));
    if let (Some(a), Some(b), Some(c), Some(d)) = (a, b, c, d) {
        return Ok(Found { folder: given.to_path_buf(), paths: [a, b, c, d] });
    }
    match fs::metadata(given) {
        Ok(metadata) if metadata.is_dir() => in_folder(given),
        other => beside(given, other),
    }
}

/// The set in an existing folder.
fn in_folder(folder: &Path) -> Result<Found> {
    let listing = Listing::of(folder)?;
    let complete: Vec<_> = listing.complete().collect();
    match complete.as_slice() {
        [] => Err(listing.nothing_fits(None)),
        // One without a prefix comes first.
        [("", paths), ..] | [(_, paths)] => {
            Ok(Found { folder: folder.to_path_buf(), paths: paths.clone() })
        }
        [(_, paths), ..] => {
            // A folder of that name would be taken for what is meant.
            let named = complete.iter().map(|(prefix, _)| folder.join(prefix));
            let named = named.into_iter().find(|path| !path.is_dir());
            let named = shown(named.as_ref().unwrap_or(&paths[0]));
            let expected = format!("one set (name one as {named})");
            let prefixes = complete.iter().map(|(prefix, _)| (*prefix).to_owned()).collect();
            Err(Error::malformed(folder, "data set", expected, list(prefixes)))
        }
    }
}

/// The set of which `given`, no folder, is a file or the prefix.
fn beside(given: &Path, metadata: io::Result<Metadata>) -> Result<Found> {
    let name = given.file_name().and_then(OsStr::to_str);
    let is_file = metadata.as_ref().is_ok_and(Metadata::is_file);
    let mut folder = parent(given);
    let own = name.filter(|_| is_file).and_then(Name::parse);
    if let Some(own) = &own
        && own.is_of_same(folder.file_name())
    {
        // The file is in a folder of its own name.
        folder = parent(folder);
    }
    // A path that does not exist may have a parent that does not exist either.
    let listing = Listing::of(folder);
    if let (Some(prefix), Ok(listing)) = (own.as_ref().map(|own| own.prefix).or(name), &listing) {
        let set = listing.complete().find(|(found, _)| *found == prefix);
        if let Some((_, paths)) = set {
            let named = match &own {
                None => given.to_path_buf(),
                Some(_) if prefix.is_empty() => folder.to_path_buf(),
                Some(_) => Some(folder.join(prefix))
                    .filter(|path| !path.exists())
                    .unwrap_or_else(|| given.to_path_buf()),
            };
            return Ok(Found { folder: named, paths });
        }
        if listing.sets.contains_key(prefix) {
            return Err(listing.nothing_fits(Some(prefix)));
        }
    }
    match (metadata, listing) {
        (Err(error), _) => Err(Error::io("read", given)(error)),
        (Ok(_), Err(error)) if own.is_some() => Err(error),
        (Ok(_), _) => {
            let found = match is_file.then(|| kind::of_file(given)).flatten() {
                Some(kind) => kind,
                None if is_file => "a file",
                None => "neither a folder nor a file",
            };
            let expected = format!("a folder that has {}", either("", 0));
            Err(Error::malformed(given, "data set", expected, found))
        }
    }
}

/// A file that may be read as one of the four. The least is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    /// Whether it is in a folder of its own name.
    nested: bool,
    /// Whether its name is spelled in another way than the canonical one.
    other_spelling: bool,
    stem: String,
    compressed: bool,
    path: PathBuf,
}

/// What is in a folder.
struct Listing {
    folder: PathBuf,
    /// All names, sorted, without litter.
    names: Vec<String>,
    /// Files that are of a set, by their prefix, in the order of [`NAMES`].
    sets: BTreeMap<String, [Option<Candidate>; 4]>,
}

impl Listing {
    fn of(folder: &Path) -> Result<Self> {
        let mut listing =
            Self { folder: folder.to_path_buf(), names: Vec::new(), sets: BTreeMap::new() };
        for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
            let entry = entry.map_err(Error::io("read", folder))?;
            let (name, path) = (entry.file_name(), entry.path());
            if is_litter(&name) {
                continue;
            }
            listing.names.push(name.to_string_lossy().into_owned());
            let Some(name) = name.to_str().and_then(Name::parse) else { continue };
            if path.is_dir() {
                // As Kaggle's archives are unpacked: a file in a folder of its own name.
                for inner in fs::read_dir(&path).into_iter().flatten().flatten() {
                    if name.is_of_same(Some(&inner.file_name())) {
                        listing.add(&inner.file_name(), inner.path(), true);
                    }
                }
            } else {
                listing.add(&entry.file_name(), path, false);
            }
        }
        listing.names.sort_unstable();
        Ok(listing)
    }

    /// Takes a file into its set, unless a better one is there.
    fn add(&mut self, name: &OsStr, path: PathBuf, nested: bool) {
        let Some(name) = name.to_str().and_then(Name::parse).filter(|_| path.is_file()) else {
            return;
        };
        let candidate = Candidate {
            nested,
            other_spelling: name.stem != full_name(name.prefix, name.role),
            stem: name.stem.to_owned(),
            compressed: name.compressed,
            path,
        };
        let set = self.sets.entry(name.prefix.to_owned()).or_default();
        let best = set[name.role].take().map_or(candidate.clone(), |best| best.min(candidate));
        set[name.role] = Some(best);
    }

    /// The complete sets, by their prefix.
    fn complete(&self) -> impl Iterator<Item = (&str, [PathBuf; 4])> {
        self.sets.iter().filter_map(|(prefix, files)| {
            let [Some(a), Some(b), Some(c), Some(d)] = files else { return None };
            Some((prefix.as_str(), [a, b, c, d].map(|file| file.path.clone())))
        })
    }

    /// The error where no set is complete; it is about the one with this prefix, else about the one
    /// that lacks least.
    fn nothing_fits(&self, prefix: Option<&str>) -> Error {
        let held = |files: &[Option<Candidate>; 4]| files.iter().flatten().count();
        // The last of several, in reverse order, is the first.
        let most = self.sets.iter().rev().max_by_key(|(_, files)| held(files));
        let prefix = prefix.or(most.map(|(prefix, _)| prefix.as_str())).unwrap_or_default();
        let missing = self.sets.get(prefix).and_then(|set| set.iter().position(Option::is_none));
        let expected = either(prefix, missing.unwrap_or_default());
        Error::malformed(&self.folder, "data set", expected, self.similar())
    }

    /// What is in the folder that may be the set.
    fn similar(&self) -> String {
        let folders = self.names.iter().filter(|name| self.folder.join(name).is_dir());
        let (complete, _): (Vec<_>, Vec<_>) =
            folders.partition(|name| is_set(&self.folder.join(name)));
        let similar = self.names.iter().filter(|name| {
            let lower = name.to_lowercase();
            WORDS.iter().any(|word| lower.contains(word))
                || ENDINGS.iter().any(|ending| lower.ends_with(ending))
        });
        let similar: Vec<String> = similar
            .filter(|name| !complete.contains(name))
            .map(|name| described(&self.folder.join(name), name))
            .collect();
        let there = match complete.len() {
            0 if self.names.is_empty() => return "an empty folder".into(),
            0 if similar.is_empty() => return "nothing like it".into(),
            0 => return list(similar),
            1 => format!("that the folder {}/ has them", complete[0]),
            _ => {
                let folders = complete.iter().map(|name| format!("{name}/")).collect();
                format!("that the folders {} have them", list(folders))
            }
        };
        if similar.is_empty() { there } else { format!("{there}, and {}", list(similar)) }
    }
}

/// Whether a folder has a complete set.
pub fn is_set(folder: &Path) -> bool {
    Listing::of(folder).is_ok_and(|listing| listing.complete().next().is_some())
}

/// A name, and what it is the name of if that is no file.
fn described(path: &Path, name: &str) -> String {
    if path.is_dir() {
        format!("{name}/")
    } else if path.is_file() {
        name.to_owned()
    } else if path.is_symlink() {
        format!("{name} (a broken link)")
    } else {
        format!("{name} (no regular file)")
    }
}

/// The first of these names, and how many there are beside them.
fn list(mut names: Vec<String>) -> String {
    let more = names.len().saturating_sub(LISTED);
    names.truncate(LISTED);
    let listed = names.join(", ");
    if more == 0 { listed } else { format!("{listed} and {more} more") }
}

#[cfg(test)]
mod tests {
    #[cfg(unix)]
    use std::os::unix::{fs::symlink, net::UnixListener};

    use tempfile::{TempDir, tempdir};

    use super::*;

    /// A folder with empty files of these names; a name that ends with a slash is a folder.
    fn folder<S: AsRef<str>>(names: &[S]) -> TempDir {
        let folder = tempdir().unwrap();
        add(folder.path(), names);
        folder
    }

    fn add<S: AsRef<str>>(folder: &Path, names: &[S]) {
        for name in names.iter().map(AsRef::as_ref) {
            let path = folder.join(name);
            fs::create_dir_all(if name.ends_with('/') { &path } else { parent(&path) }).unwrap();
            if !name.ends_with('/') {
                fs::write(path, "").unwrap();
            }
        }
    }

    /// The names of a set, changed.
    fn names(change: impl Fn(&str) -> String) -> [String; 4] {
        NAMES.map(change)
    }

    fn with_prefix(prefix: &str) -> [String; 4] {
        names(|name| format!("{prefix}-{}.gz", name.replace("t10k", "test")))
    }

    /// Where the set is found, and as what files, relative to the folder.
    #[track_caller]
    fn found(folder: &TempDir, given: &str) -> (String, [String; 4]) {
        let given = if given.is_empty() { folder.path() } else { &folder.path().join(given) };
        let Found { folder: named, paths } = find_set(given).unwrap();
        let relative = |path: &Path| {
            path.strip_prefix(folder.path()).unwrap().to_str().unwrap().replace('\\', "/")
        };
        (relative(&named), paths.map(|path| relative(&path)))
    }

    /// The error, without the folder.
    #[track_caller]
    fn refused(folder: &TempDir, given: &str) -> String {
        let given = if given.is_empty() { folder.path() } else { &folder.path().join(given) };
        let message = find_set(given).unwrap_err().to_string();
        assert_eq!(message.lines().count(), 1, "{message}");
        let name = format!("{}", folder.path().display());
        assert!(message.contains(&name), "{message}");
        message.replace(&name, "DIR")
    }

    const FIRST: &str = "train-images-idx3-ubyte or train-images-idx3-ubyte.gz";

    #[test]
    fn every_spelling_is_found_and_the_canonical_one_first() {
        let canonical = names(str::to_owned);
        let compressed = names(|name| format!("{name}.gz"));
        let dots = names(|name| name.replace("-idx", ".idx"));
        let upper = names(|name| format!("{}.GZ", name.to_uppercase().replace('-', "_")));
        let test = names(|name| name.replace("t10k", "test"));
        let nested = names(|name| format!("{name}.gz/{name}.gz"));
        let deep = names(|name| format!("{name}/{}", name.replace('-', "_")));
        for set in [&canonical, &compressed, &dots, &upper, &test, &nested, &deep] {
            assert_eq!(found(&folder(set), ""), (String::new(), set.clone()));
        }
        let all = folder(&[&upper[..], &dots, &deep].concat());
        assert_eq!(found(&all, "").1, upper);
        add(all.path(), &compressed);
        assert_eq!(found(&all, "").1, compressed);
        fs::rename(all.path().join(&deep[0]), all.path().join("away")).unwrap();
        for (name, folder) in canonical.iter().zip(&deep) {
            fs::remove_dir_all(all.path().join(folder).parent().unwrap()).unwrap();
            add(all.path(), &[name]);
        }
        assert_eq!(found(&all, "").1, canonical);
        // Plain before compressed, under other names too; files before folders of their name.
        let both = names(|name| format!("{}.gz", name.replace("-idx", ".idx")));
        assert_eq!(found(&folder(&[&both[..], &dots].concat()), "").1, dots);
        assert_eq!(found(&folder(&[&deep[..], &both].concat()), "").1, both);
    }

    #[test]
    fn folders_and_litter_of_the_same_names_are_passed_over() {
        let compressed = names(|name| format!("{name}.gz"));
        let beside = folder(&names(|name| format!("{name}/")));
        add(beside.path(), &compressed);
        add(beside.path(), &["train-images-idx3-ubyte/._train-images-idx3-ubyte"]);
        assert_eq!(found(&beside, "").1, compressed);
        let litter = folder(&names(|name| format!("._{name}")));
        assert_eq!(
            refused(&litter, ""),
            format!("DIR: data set: expected {FIRST}, found an empty folder")
        );
        add(litter.path(), &names(|name| format!("{name}.gz/")));
        add(litter.path(), &names(str::to_owned));
        assert_eq!(found(&litter, "").1, names(str::to_owned));
    }

    #[test]
    fn one_of_several_sets_is_chosen_by_its_prefix() {
        let letters = with_prefix("emnist-letters");
        let several = folder(&letters);
        // Alone, it needs no name.
        assert_eq!(found(&several, ""), (String::new(), letters.clone()));
        add(several.path(), &with_prefix("emnist-digits"));
        add(several.path(), &with_prefix("emnist-mnist")[..3]);
        assert_eq!(
            refused(&several, ""),
            "DIR: data set: expected one set (name one as DIR/emnist-digits), found emnist-digits, \
             emnist-letters"
        );
        let named = ("emnist-letters".to_owned(), letters.clone());
        for given in ["emnist-letters", "emnist-letters/", &letters[2]] {
            assert_eq!(found(&several, given), named);
        }
        assert_eq!(
            refused(&several, "emnist-mnist"),
            "DIR: data set: expected emnist-mnist-t10k-labels-idx1-ubyte or \
             emnist-mnist-t10k-labels-idx1-ubyte.gz, found \
             emnist-digits-test-images-idx3-ubyte.gz, emnist-digits-test-labels-idx1-ubyte.gz, \
             emnist-digits-train-images-idx3-ubyte.gz, emnist-digits-train-labels-idx1-ubyte.gz, \
             emnist-letters-test-images-idx3-ubyte.gz, emnist-letters-test-labels-idx1-ubyte.gz \
             and 5 more"
        );
        let message = refused(&several, "emnist-leters");
        assert!(message.starts_with("cannot read DIR/emnist-leters: "), "{message}");
        // A set without a prefix is what the folder alone names.
        add(several.path(), &NAMES);
        assert_eq!(found(&several, ""), (String::new(), names(str::to_owned)));
        assert_eq!(found(&several, "emnist-letters"), named);
        // A folder that has the name of a prefix hides it; a file of the set still names it.
        add(several.path(), &["emnist-letters/"]);
        assert_eq!(
            refused(&several, "emnist-letters"),
            format!("DIR/emnist-letters: data set: expected {FIRST}, found an empty folder")
        );
        assert_eq!(found(&several, &letters[2]), (letters[2].clone(), letters));
    }

    #[test]
    fn a_file_of_the_set_stands_for_its_folder() {
        let set = names(|name| format!("a/{name}.gz"));
        assert_eq!(found(&folder(&set), &set[3]), ("a".into(), set));
        let nested = names(|name| format!("a/{name}/{name}"));
        assert_eq!(found(&folder(&nested), &nested[1]), ("a".into(), nested));
        let alone = folder(&NAMES[..1]);
        assert_eq!(
            refused(&alone, NAMES[0]),
            format!(
                "DIR: data set: expected {0} or {0}.gz, found {1}",
                "train-labels-idx1-ubyte", NAMES[0]
            )
        );
        fs::write(alone.path().join("a.zip"), "PK\x03\x04").unwrap();
        for (file, kind) in [("a.zip", "a ZIP archive; unpack it"), ("b.txt", "a file")] {
            add(alone.path(), &["b.txt"]);
            assert_eq!(
                refused(&alone, file),
                format!("DIR/{file}: data set: expected a folder that has {FIRST}, found {kind}")
            );
        }
    }

    #[test]
    fn what_may_be_the_set_is_listed_where_it_is_not_complete() {
        for (names, listed) in [
            (&[][..], "an empty folder"),
            (&["a.txt", "b/"], "nothing like it"),
            (
                &["b.txt", "Train.csv", "mnist.npz", "test/", "x.TAR.gz"],
                "Train.csv, mnist.npz, test/, x.TAR.gz",
            ),
            (
                &["8.gz", "7.gz", "6.gz", "5.gz", "4.gz", "3.gz", "2.gz", "1.gz"],
                "1.gz, 2.gz, 3.gz, 4.gz, 5.gz, 6.gz and 2 more",
            ),
        ] {
            let message = refused(&folder(names), "");
            assert_eq!(message, format!("DIR: data set: expected {FIRST}, found {listed}"));
        }
        // As torchvision leaves it, and as EMNIST's archive is unpacked.
        let below = folder(&names(|name| format!("raw/{name}")));
        add(below.path(), &["processed/training.pt"]);
        assert!(refused(&below, "").ends_with(", found that the folder raw/ has them"));
        for prefix in ["emnist-letters", "emnist-digits"] {
            add(&below.path().join("gzip"), &with_prefix(prefix));
        }
        add(below.path(), &["a.zip", "training.pt"]);
        let listed = "found that the folders gzip/, raw/ have them, and a.zip, training.pt";
        assert!(refused(&below, "").ends_with(listed), "{}", refused(&below, ""));
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_broken_ones_are_named() {
        let set = folder(&NAMES[1..]);
        symlink("nowhere", set.path().join(NAMES[0])).unwrap();
        let message = refused(&set, "");
        assert!(message.contains("train-images-idx3-ubyte (a broken link)"), "{message}");
        fs::write(set.path().join("nowhere"), "").unwrap();
        assert_eq!(found(&set, "").1, names(str::to_owned));
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_regular_file_is_no_data() {
        let set = folder(&NAMES[..3]);
        // Of what may have the name, a socket is made most easily.
        let _socket = UnixListener::bind(set.path().join(NAMES[3])).unwrap();
        let message = refused(&set, "");
        assert!(message.contains("t10k-labels-idx1-ubyte (no regular file)"), "{message}");
        let message = refused(&set, NAMES[3]);
        assert!(message.contains("found neither a folder nor a file"), "{message}");
        add(set.path(), &["t10k-labels.idx1-ubyte", "t10k-labels-idx1-ubyte.gz"]);
        assert!(found(&set, "").1[3].ends_with("t10k-labels-idx1-ubyte.gz"));
    }
}
