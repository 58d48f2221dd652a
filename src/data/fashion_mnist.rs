//! The four files of Fashion-MNIST (H. Xiao, K. Rasul, R. Vollgraf 2017), or of any data set in the
//! same form: where they are, and whether they belong together.

use std::path::{Path, PathBuf};

pub use super::class_names::TEST_SHA256;
use super::folder::{find, find_set};
#[cfg(feature = "cli")]
use super::idx;
use super::name::NAMES;
use super::set::read_set;
use super::{DataSet, Download};
#[cfg(feature = "cli")]
use crate::text::shown;
use crate::{Error, Result};

/// Where the set is published over HTTPS; its own page has HTTP only.
#[cfg(feature = "cli")]
const BASE_URL: &str =
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion";

/// Where Debian's package dataset-fashion-mnist puts it.
const SYSTEM: &str = "/usr/share/datasets/fashion-mnist";

/// The content of one file: its name, and the SHA-256 of the uncompressed data, which does not depend
/// on how it was compressed.
type Content = (&'static str, &'static str);

/// Training images, training labels, test images, test labels.
const FASHION_MNIST: [Content; 4] = [
    (NAMES[0], "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
    (NAMES[1], "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
    (NAMES[2], "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
    (NAMES[3], "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
];

/// Loads the set in `folder`, else in `$TNET_DATA`, else Fashion-MNIST from the user's cache folder,
/// else from Debian's package, else downloaded into the cache folder. `follow` is called as a
/// download proceeds; nothing is printed.
///
/// A folder given by `folder` or `$TNET_DATA` may hold another set; elsewhere the content must have
/// Fashion-MNIST's checksums. Files may be plain or end in `.gz`; if both exist, the plain one is
/// read. Without the feature `cli` nothing is downloaded.
///
/// In place of the folder, `folder` or `$TNET_DATA` may name one of the files, or, if all four names
/// have a common prefix, the folder and that prefix (`DIR/emnist-letters`). Names may be spelled as
/// other sites spell them: dots or underscores for dashes, any letter case, `test` for `t10k`; and a
/// file may be in a folder of its own name.
///
/// # Errors
///
/// [`Error::Malformed`] and [`Error::Io`] naming the file; [`Error::DataNotFound`] when the set is
/// nowhere and cannot be downloaded.
pub fn load(folder: Option<&Path>, follow: &mut dyn FnMut(Download<'_>)) -> Result<DataSet> {
    Places::of_user().load(folder, follow)
}

/// Whether [`load`] finds a set without a folder and without downloading anything.
pub fn is_here() -> bool {
    let places = Places::of_user();
    places.env.is_some() || places.complete().is_some()
}

/// The set that `$TNET_DATA` names.
pub(super) fn from_environment() -> Option<PathBuf> {
    std::env::var_os("TNET_DATA").filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

/// Where the set may be if no folder is given, and what must be in it.
struct Places {
    /// `$TNET_DATA`.
    env: Option<PathBuf>,
    cache: Option<PathBuf>,
    system: PathBuf,
    #[cfg(feature = "cli")]
    base_url: String,
    content: [Content; 4],
}

impl Places {
    fn of_user() -> Self {
        Self {
            env: from_environment(),
            cache: dirs::cache_dir().map(|cache| cache.join("tnet-gpu").join("fashion-mnist")),
            system: SYSTEM.into(),
            #[cfg(feature = "cli")]
            base_url: BASE_URL.into(),
            content: FASHION_MNIST,
        }
    }

    fn folders(&self) -> impl Iterator<Item = &PathBuf> {
        self.cache.iter().chain([&self.system])
    }

    /// A folder that has all four files.
    fn complete(&self) -> Option<&PathBuf> {
        let has_all =
            |folder: &Path| self.content.iter().all(|(name, _)| find(folder, name).is_some());
        self.folders().find(|folder| has_all(folder))
    }

    fn load(&self, folder: Option<&Path>, follow: &mut dyn FnMut(Download<'_>)) -> Result<DataSet> {
        if let Some(named) = folder.or(self.env.as_deref()) {
            return read_set(find_set(named)?, [None; 4]);
        }
        let looked = || self.folders().cloned().collect();
        let folder = match (self.complete(), &self.cache) {
            (Some(folder), _) => folder,
            (None, Some(cache)) => {
                self.download(cache, looked(), follow)?;
                cache
            }
            (None, None) => {
                let download = "there is no cache folder to download it into".into();
                return Err(Error::DataNotFound { looked: looked(), download });
            }
        };
        // Nothing but the canonical names is found there: those are complete.
        read_set(find_set(folder)?, self.content.map(|(_, sum)| Some(sum)))
    }

    /// Without the feature `cli` there is no HTTP client.
    #[cfg(not(feature = "cli"))]
    fn download(
        &self,
        _cache: &Path,
        looked: Vec<PathBuf>,
        _follow: &mut dyn FnMut(Download<'_>),
    ) -> Result<()> {
        let download = "this build cannot download it (feature `cli` is off)".into();
        Err(Error::DataNotFound { looked, download })
    }

    /// Downloads the files that are missing in `cache`.
    #[cfg(feature = "cli")]
    fn download(
        &self,
        cache: &Path,
        looked: Vec<PathBuf>,
        follow: &mut dyn FnMut(Download<'_>),
    ) -> Result<()> {
        std::fs::create_dir_all(cache).map_err(|reason| Error::DataNotFound {
            looked: looked.clone(),
            download: format!("{} could not be created ({reason})", shown(cache)),
        })?;
        let agent = super::download::agent();
        for (name, sum) in self.content {
            if find(cache, name).is_some() {
                continue;
            }
            let url = format!("{}/{name}.gz", self.base_url);
            tracing::info!(url, "downloading");
            let bytes = super::download::fetch(&agent, &url, follow).map_err(|reason| {
                Error::DataNotFound {
                    looked: looked.clone(),
                    download: format!("{url} could not be downloaded ({reason})"),
                }
            })?;
            let path = cache.join(format!("{name}.gz"));
            let held = match name.contains("idx3") {
                true => idx::read::<3>(&path, &bytes[..]).map(|images| images.sha256()),
                false => idx::read::<1>(&path, &bytes[..]).map(|labels| labels.sha256()),
            };
            if held.ok().as_deref() != Some(sum) {
                let download = format!("{url} is not the expected file (its SHA-256 differs)");
                return Err(Error::DataNotFound { looked, download });
            }
            crate::files::write_whole(&path, &bytes)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    #[cfg(feature = "cli")]
    use std::{io::Read, net::TcpListener};

    use tempfile::{TempDir, tempdir};

    use super::super::gzip;
    use super::*;

    fn load(folder: Option<&Path>) -> Result<DataSet> {
        super::load(folder, &mut |_| {})
    }

    impl Places {
        fn load_quietly(&self, folder: Option<&Path>) -> Result<DataSet> {
            self.load(folder, &mut |_| {})
        }
    }

    /// The four files of a set with these labels, all images 2 x 1.
    fn files(train: &[u8], test: &[u8]) -> [Vec<u8>; 4] {
        let images = |count: usize| {
            let header = [0, 0, 8, 3, 0, 0, 0, count as u8, 0, 0, 0, 2, 0, 0, 0, 1];
            [&header[..], &vec![7; count * 2]].concat()
        };
        let labels =
            |labels: &[u8]| [&[0, 0, 8, 1, 0, 0, 0, labels.len() as u8][..], labels].concat();
        [images(train.len()), labels(train), images(test.len()), labels(test)]
    }

    fn good() -> [Vec<u8>; 4] {
        files(&[0, 2, 1], &[1, 2])
    }

    fn write(folder: &Path, files: &[Vec<u8>; 4], compressed: bool) {
        fs::create_dir_all(folder).unwrap();
        for ((name, _), bytes) in FASHION_MNIST.iter().zip(files) {
            match compressed {
                true => fs::write(folder.join(format!("{name}.gz")), gzip(bytes)).unwrap(),
                false => fs::write(folder.join(name), bytes).unwrap(),
            }
        }
    }

    fn content() -> [Content; 4] {
        let [train_images, train_labels, test_images, test_labels] = good();
        let images = |bytes: &[u8]| idx::read::<3>(Path::new(""), bytes).unwrap().sha256();
        let labels = |bytes: &[u8]| idx::read::<1>(Path::new(""), bytes).unwrap().sha256();
        let sums = [
            images(&train_images),
            labels(&train_labels),
            images(&test_images),
            labels(&test_labels),
        ];
        let mut sums = sums.into_iter();
        FASHION_MNIST.map(|(name, _)| (name, &*sums.next().unwrap().leak()))
    }

    /// Answers a request for a file of `served` with status 200, or 404 if that is empty.
    #[cfg(feature = "cli")]
    fn serve(served: [Vec<u8>; 4], cut: bool) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = [0; 4096];
                let length = stream.read(&mut request).unwrap();
                let request = String::from_utf8_lossy(&request[..length]).into_owned();
                let at = FASHION_MNIST.iter().position(|(name, _)| request.contains(name)).unwrap();
                let body = gzip(&served[at]);
                let (status, sent) = match served[at].is_empty() {
                    true => ("404 Not Found", 0),
                    false if cut => ("200 OK", body.len() / 2),
                    false => ("200 OK", body.len()),
                };
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
                );
                stream.write_all(head.as_bytes()).unwrap();
                stream.write_all(&body[..sent]).unwrap();
            }
        });
        url
    }

    /// Empty folders to look in, and a server that does not answer.
    fn places(folder: &TempDir) -> Places {
        Places {
            env: None,
            cache: Some(folder.path().join("cache")),
            system: folder.path().join("system"),
            #[cfg(feature = "cli")]
            base_url: "http://127.0.0.1:9".into(),
            content: content(),
        }
    }

    #[test]
    fn a_named_folder_may_hold_any_set_plain_or_compressed() {
        let folder = tempdir().unwrap();
        for compressed in [true, false] {
            write(folder.path(), &files(&[0, 1, 4], &[3]), compressed);
            let set = load(Some(folder.path())).unwrap();
            assert_eq!((set.train.count, set.test.count, set.classes.len()), (3, 1, 5));
            assert_eq!(set.train.shape, [1, 2, 1]);
            assert_eq!(set.folder, folder.path());
        }
    }

    #[test]
    fn a_prefix_that_is_named_is_that_of_the_files_read() {
        let folder = tempdir().unwrap();
        for (prefix, labels) in [("emnist-letters", [0, 1, 4]), ("emnist-digits", [0, 1, 2])] {
            for ((name, _), bytes) in FASHION_MNIST.iter().zip(files(&labels, &[1])) {
                let name = format!("{prefix}-{}.gz", name.replace("t10k", "test"));
                fs::write(folder.path().join(name), gzip(&bytes)).unwrap();
            }
        }
        for (prefix, classes) in [("emnist-letters", 5), ("emnist-digits", 3)] {
            let named = folder.path().join(prefix);
            let set = load(Some(&named)).unwrap();
            assert_eq!((set.classes.len(), set.folder), (classes, named));
        }
    }

    #[test]
    fn files_that_do_not_fit_each_other_are_named() {
        let [images, labels, test_images, test_labels] = good();
        let mut wide = test_images.clone();
        // 1 x 2 pixels instead of 2 x 1.
        wide[8..16].copy_from_slice(&[0, 0, 0, 1, 0, 0, 0, 2]);
        let [.., beyond] = files(&[0], &[1, 3]);
        let [_, fewer, ..] = files(&[0, 2], &[1]);
        for (set, named, with) in [
            (
                [images.clone(), fewer, test_images.clone(), test_labels.clone()],
                1,
                "expected 3, one",
            ),
            ([images.clone(), labels.clone(), wide, test_labels.clone()], 2, "found 1 x 2 pixels"),
            ([images, labels, test_images, beyond], 3, "label 1: expected less than 3"),
        ] {
            let folder = tempdir().unwrap();
            write(folder.path(), &set, false);
            let message = load(Some(folder.path())).unwrap_err().to_string();
            let path = folder.path().join(FASHION_MNIST[named].0).display().to_string();
            assert!(message.starts_with(&path) && message.contains(with), "{message}");
        }
        let folder = tempdir().unwrap();
        let message = load(Some(folder.path())).unwrap_err().to_string();
        assert!(message.contains("train-images-idx3-ubyte.gz, found an empty folder"), "{message}");
    }

    #[test]
    fn the_cache_comes_before_the_system_and_the_system_before_the_network() {
        let folder = tempdir().unwrap();
        let mut places = places(&folder);
        let error = places.load_quietly(None).unwrap_err();
        assert!(matches!(error, Error::DataNotFound { .. }), "{error}");
        let message = error.to_string();
        let download = if cfg!(feature = "cli") { "127.0.0.1:9" } else { "cannot download" };
        for text in ["cache", "system", download] {
            assert!(message.contains(text), "{text} in {message}");
        }
        assert_eq!(message.lines().count(), 1);

        write(&places.system, &good(), true);
        assert_eq!(places.load_quietly(None).unwrap().folder, places.system);
        let cache = places.cache.clone().unwrap();
        write(&cache, &good(), true);
        assert_eq!(places.load_quietly(None).unwrap().folder, cache);
        places.cache = None;
        assert_eq!(places.load_quietly(None).unwrap().folder, places.system);
    }

    #[test]
    fn a_folder_that_is_named_is_the_only_one_looked_into() {
        let folder = tempdir().unwrap();
        let mut places = places(&folder);
        write(&places.system, &good(), true);
        let [option, env] = ["option", "env"].map(|name| folder.path().join(name));
        places.env = Some(env.clone());
        for existing in [false, true] {
            for named in [Some(option.as_path()), None] {
                let message = places.load_quietly(named).unwrap_err().to_string();
                let path = named.unwrap_or(&env).display();
                let start =
                    if existing { format!("{path}: ") } else { format!("cannot read {path}: ") };
                assert!(message.starts_with(&start), "{message}");
            }
            for folder in [&option, &env] {
                fs::create_dir_all(folder).unwrap();
            }
        }
        // Neither need be Fashion-MNIST, and the option comes before the variable.
        write(&env, &files(&[0, 1], &[1]), true);
        write(&option, &files(&[0, 1, 4], &[3]), true);
        assert_eq!(places.load_quietly(None).unwrap().folder, env);
        assert_eq!(places.load_quietly(Some(&option)).unwrap().folder, option);
    }

    #[cfg(feature = "cli")]
    #[test]
    fn a_cache_that_cannot_be_created_is_named() {
        let folder = tempdir().unwrap();
        fs::write(folder.path().join("taken"), "").unwrap();
        let cache = Some(folder.path().join("taken").join("cache"));
        let error = Places { cache, ..places(&folder) }.load_quietly(None).unwrap_err();
        assert!(matches!(error, Error::DataNotFound { .. }), "{error}");
        assert!(error.to_string().contains("could not be created"), "{error}");
    }

    /// Checks the checksums above against the real files, where Debian's package is installed.
    #[test]
    fn fashion_mnist_itself_is_known() {
        let places = Places { env: None, cache: None, ..Places::of_user() };
        if !FASHION_MNIST.iter().all(|(name, _)| find(&places.system, name).is_some()) {
            eprintln!("SKIPPED, FASHION-MNIST WAS NOT READ: {SYSTEM} does not hold it");
            return;
        }
        let set = places.load_quietly(None).unwrap();
        assert_eq!((set.train.count, set.test.count, set.classes.len()), (60_000, 10_000, 10));
        assert_eq!(set.train.shape, [1, 28, 28]);
        #[cfg(feature = "cli")]
        assert_eq!(set.test.sha256(), TEST_SHA256);
    }

    #[test]
    fn another_set_outside_a_named_folder_is_refused() {
        let folder = tempdir().unwrap();
        let places = places(&folder);
        write(&places.system, &files(&[0, 1, 1], &[1, 1]), true);
        let message = places.load_quietly(None).unwrap_err().to_string();
        assert!(
            message.contains("train-labels-idx1-ubyte.gz: content: expected SHA-256"),
            "{message}"
        );
    }

    #[cfg(feature = "cli")]
    #[test]
    fn a_download_is_kept_when_it_is_whole_and_right() {
        let folder = tempdir().unwrap();
        let mut places = places(&folder);
        places.base_url = serve(good(), false);
        let mut reports: Vec<(String, u64, Option<u64>)> = Vec::new();
        let mut follow = |download: Download<'_>| {
            reports.push((download.url.to_owned(), download.bytes, download.length));
        };
        let set = places.load(None, &mut follow).unwrap();
        assert_eq!((set.train.count, Some(set.folder)), (3, places.cache.clone()));
        // Each file is reported when it starts and when all of it has arrived.
        for (name, _) in FASHION_MNIST {
            let of_file = reports.iter().filter(|(url, ..)| url.contains(name));
            let bytes: Vec<_> = of_file.map(|&(_, bytes, length)| (bytes, length)).collect();
            assert_eq!(bytes[0].0, 0, "{name}: {bytes:?}");
            assert_eq!(Some(bytes.last().unwrap().0), bytes[0].1, "{name}: {bytes:?}");
        }
        // The next time needs no network, and no temporary file is left.
        places.base_url = "http://127.0.0.1:9".into();
        places.load_quietly(None).unwrap();
        assert_eq!(fs::read_dir(places.cache.unwrap()).unwrap().count(), 4);
    }

    #[cfg(feature = "cli")]
    #[test]
    fn a_download_that_is_not_whole_or_not_right_is_not_kept() {
        let [images, labels, test_images, _] = good();
        let [.., other] = files(&[0], &[2, 2]);
        for (served, cut, with) in [
            (good(), true, "could not be downloaded"),
            (
                [images.clone(), labels.clone(), test_images.clone(), other],
                false,
                "SHA-256 differs",
            ),
            ([images, labels, test_images, Vec::new()], false, "404"),
        ] {
            let folder = tempdir().unwrap();
            let places = Places { base_url: serve(served, cut), ..places(&folder) };
            let error = places.load_quietly(None).unwrap_err();
            assert!(matches!(error, Error::DataNotFound { .. }), "{error}");
            assert!(error.to_string().contains(with), "{error}");
            let cache = places.cache.clone().unwrap();
            assert!(find(&cache, FASHION_MNIST[3].0).is_none(), "a wrong file was kept");
        }
    }
}
