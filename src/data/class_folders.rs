//! Class folders: `train/NAME/*.png` and `test/NAME/*.png`, or `NAME/*.png` for a set that is not divided. Images are PNG or
//! JPEG files; they are decoded on all cores, and kept in a cache.
//!
//! Classes are in the natural order of the names of their folders (2 before 10), or in that of `labels.txt`. Images are in
//! the natural order of their own names, whatever their class, so that the first ones are of all classes.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::image_cache::Place;
use super::options::{LoadOptions, Loading, test_part};
use super::picture::{self, Picture, Target};
use super::tree::{self, File, entries, folders};
use super::{DataSet, ImageSet, class_names};
use crate::memory;
use crate::text::{excerpt, natural, shown};
use crate::{Error, Result};

/// Most classes: a label is a byte.
const MOST_CLASSES: usize = 1 << u8::BITS;

/// How names of image files end; those that cannot be read are told apart there.
const ENDINGS: [&str; 10] =
    ["png", "jpg", "jpeg", "jfif", "gif", "bmp", "webp", "tif", "tiff", "heic"];

/// What folders of test images are called.
const TEST: [&str; 4] = ["test", "val", "valid", "validation"];

/// Most image files, and bytes of them, that are decoded between two reports of progress, but [`LEAST`] for each thread in
/// any case: some 0.1 s of small images, and less than a second of photos.
const TOGETHER: (usize, u64) = (4096, 16 << 20);
const LEAST: usize = 16;

/// An image file.
struct Item {
    /// Its name is the path within the folder of its class.
    file: File,
    class: u8,
}

/// The files of a set.
struct Listing {
    /// The names of the folders.
    classes: Vec<String>,
    /// Of the training images.
    train: Vec<Item>,
    /// Of the test images.
    test: Vec<Item>,
    remarks: Vec<String>,
}

/// Whether a folder has class folders with an image, or files that look like one.
pub fn are_in(folder: &Path) -> bool {
    let has_image = |folder: &PathBuf| {
        entries(folder).unwrap_or_default().iter().any(|entry| looks_like_image(&entry.path()))
    };
    let within = |folder: &Path| folders(folder).unwrap_or_default();
    let parts = ["train"].into_iter().chain(TEST).map(|part| folder.join(part));
    let parts: Vec<PathBuf> = parts.filter(|part| part.is_dir()).collect();
    let classes = parts.iter().flat_map(|part| within(part)).chain(within(folder));
    classes.take(MOST_CLASSES + 1).any(|(path, _)| {
        has_image(&path) || within(&path).iter().any(|(inner, _)| has_image(inner))
    })
}

/// Reads a set.
///
/// # Errors
///
/// [`Error::Malformed`] naming the folder that is not as it should be, [`Error::Images`] with every image that cannot be
/// read, [`Error::Argument`] naming `size` where images differ in theirs, [`Error::Memory`] before too many are read.
pub fn read(
    folder: &Path,
    options: &LoadOptions,
    follow: &mut dyn FnMut(Loading<'_>),
) -> Result<DataSet> {
    let Listing { classes, train, test, mut remarks } = Listing::of(folder, options)?;
    let like = options.like;
    let target = Target {
        size: options.size.or(like.map(|[_, height, width]| [height, width])),
        channels: options.channels.or(like.map(|[channels, ..]| channels)),
        invert: false,
    };
    let items: Vec<&File> = train.iter().chain(&test).map(|item| &item.file).collect();
    let place = |target| options.cache.then(|| Place::of(&items, target)).flatten();
    let cache = place(target);
    let kept = cache.as_ref().and_then(|cache| cache.get(items.len()));
    // Those of a run that asked for no size, where its network is measured: it has the images' own.
    let own = || {
        let (shape, pixels) = place(Target::default())?.get(items.len())?;
        (like == Some(shape) && target.is_like(shape)).then_some((shape, pixels))
    };
    let (shape, mut pixels) = match kept.or_else(own) {
        Some(images) => images,
        None => {
            let (shape, pixels) = decoded(folder, &items, target, follow)?;
            if let Some(error) =
                cache.and_then(|cache| cache.put(shape, items.len(), &pixels).err())
            {
                remarks.push(format!("the decoded images are not kept for the next time: {error}"));
            }
            (shape, pixels)
        }
    };
    let size: usize = shape.iter().product();
    let test_pixels = pixels.split_off(train.len() * size);
    let set = |items: &[Item], pixels| {
        let labels = items.iter().map(|item| item.class).collect();
        ImageSet { count: items.len(), shape, pixels, labels }
    };
    let test_files = test.iter().map(|item| item.file.path.clone()).collect();
    let (train, test) = (set(&train, pixels), set(&test, test_pixels));
    // Folders that are called 0, 1, 2, … say nothing of the classes.
    let are_numbers = classes.iter().enumerate().all(|(at, name)| *name == at.to_string());
    let classes = match are_numbers {
        true => class_names(Some(&test.sha256()), classes.len()),
        false => classes,
    };
    Ok(DataSet { train, test, classes, folder: folder.to_path_buf(), test_files, remarks })
}

impl Listing {
    fn of(folder: &Path, options: &LoadOptions) -> Result<Self> {
        let mut remarks = Vec::new();
        // A folder of that name without folders may be that of a class.
        let is_part = |path: &PathBuf| folders(path).is_ok_and(|within| !within.is_empty());
        let train_folder = folder.join("train");
        let tests: Vec<PathBuf> =
            TEST.iter().map(|name| folder.join(name)).filter(is_part).collect();
        let is_divided = is_part(&train_folder);
        if !is_divided && let Some(test) = tests.first() {
            let found = format!("{} alone", shown(test));
            return Err(Error::malformed(folder, "data set", "a folder train as well", found));
        }
        let root = if is_divided { train_folder } else { folder.to_path_buf() };
        let names = class_names_of(folder, &root)?;
        let train = items(&root, &names, &mut remarks)?;
        if train.is_empty() {
            let expected = "folders of PNG or JPEG images, one for each class";
            return Err(Error::malformed(&root, "data set", expected, "no images"));
        }
        let (train, test) = match tests.split_first() {
            Some((used, others)) if is_divided => {
                (train, test_items(folder, used, others, &names, &mut remarks)?)
            }
            _ => divided(folder, train, options)?,
        };
        Ok(Self { classes: names, train, test, remarks })
    }
}

/// The images of a folder of test images, beside which there may be others.
fn test_items(
    folder: &Path,
    used: &Path,
    others: &[PathBuf],
    classes: &[String],
    remarks: &mut Vec<String>,
) -> Result<Vec<Item>> {
    for (path, name) in folders(used)? {
        if !classes.contains(&name) {
            let expected = "a class of the training images";
            return Err(Error::malformed(used, "class folder", expected, shown(&path)));
        }
    }
    let test = items(used, classes, remarks)?;
    if test.is_empty() {
        return Err(Error::malformed(used, "test images", "at least one", "none"));
    }
    if used != folder.join(TEST[0]) {
        remarks.push(format!("the test images are those of {}", shown(used)));
    }
    if !others.is_empty() {
        let others: Vec<String> = others.iter().map(|path| shown(path)).collect();
        remarks.push(format!("not used: {}", others.join(", ")));
    }
    Ok(test)
}

/// Training and test images of a set that is not divided. It is done before anything is decoded, so that no pixels are
/// copied for it.
fn divided(folder: &Path, all: Vec<Item>, options: &LoadOptions) -> Result<(Vec<Item>, Vec<Item>)> {
    let labels: Vec<u8> = all.iter().map(|item| item.class).collect();
    let mut part = test_part(folder, &labels, options)?.into_iter().peekable();
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for (at, item) in (0..).zip(all) {
        let of = if part.next_if_eq(&at).is_some() { &mut test } else { &mut train };
        of.push(item);
    }
    Ok((train, test))
}

/// The names of the class folders in a folder, in the order of the classes; `labels.txt` in the folder of the set may give
/// another.
fn class_names_of(folder: &Path, root: &Path) -> Result<Vec<String>> {
    let names: Vec<String> = folders(root)?.into_iter().map(|(_, name)| name).collect();
    if names.is_empty() || names.len() > MOST_CLASSES {
        let expected = format!("1 to {MOST_CLASSES}, one for each class");
        return Err(Error::malformed(root, "folders", expected, names.len()));
    }
    let Some(ordered) = class_names::read(folder, names.len())? else { return Ok(names) };
    if let Some(other) = ordered.iter().find(|name| !names.contains(name)) {
        let expected = format!("the names of the folders in {}", shown(root));
        let found = excerpt(other);
        return Err(Error::malformed(folder.join(class_names::FILE), "names", expected, found));
    }
    Ok(ordered)
}

fn looks_like_image(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| ENDINGS.iter().any(|image| ending.eq_ignore_ascii_case(image)))
}

/// The files in the folders of these classes, in the order of the set. Files beside these folders are no part of it, which
/// is remarked.
fn items(root: &Path, classes: &[String], remarks: &mut Vec<String>) -> Result<Vec<Item>> {
    let of_class = |(path, name): (PathBuf, String)| {
        let Some(class) = classes.iter().position(|class| *class == name) else {
            return Ok(Vec::new());
        };
        let files = tree::files(&path)?.into_iter();
        Ok(files.map(|file| Item { file, class: class as u8 }).collect())
    };
    let of_classes = folders(root)?.into_par_iter().map(of_class);
    let mut items: Vec<Item> =
        of_classes.collect::<Result<Vec<Vec<Item>>>>()?.into_iter().flatten().collect();
    let beside: Vec<String> = entries(root)?
        .iter()
        .map(|entry| entry.path())
        .filter(|path| looks_like_image(path) && !path.is_dir())
        .map(|path| shown(&path))
        .collect();
    if let Some(first) = beside.first() {
        remarks.push(match beside.len() {
            1 => format!("an image in no class folder is left out: {first}"),
            count => format!("{count} images in no class folder are left out: {first}, …"),
        });
    }
    items.par_sort_by(|one, other| {
        natural(&one.file.name, &other.file.name).then_with(|| one.class.cmp(&other.class))
    });
    Ok(items)
}

/// How many of these files are decoded before progress is reported again.
fn together(files: &[&File]) -> usize {
    let (most, most_bytes) = TOGETHER;
    let mut bytes = 0;
    let fits = |file: &&&File| {
        bytes += file.bytes;
        bytes <= most_bytes
    };
    let count = files.iter().take_while(fits).count().min(most);
    count.max(LEAST * rayon::current_num_threads()).min(files.len())
}

/// The shape of all images, and their pixels.
fn decoded(
    folder: &Path,
    items: &[&File],
    target: Target,
    follow: &mut dyn FnMut(Loading<'_>),
) -> Result<([usize; 3], Vec<u8>)> {
    let count = items.len();
    // If the first one cannot be read, that is found out again below.
    if let Some(Ok(Picture { shape, .. })) =
        items.first().map(|item| picture::read(&item.path, target))
    {
        // Once as they are decoded, once one after the other, and once in the cache's file.
        let needed = (count as u64).saturating_mul(3 * shape.iter().product::<usize>() as u64);
        memory::check("decoding these images", needed)?;
    }
    let mut pictures: Vec<Picture> = Vec::with_capacity(count);
    let mut problems = Vec::new();
    let mut rest = items;
    while !rest.is_empty() {
        follow(Loading::Images { done: count - rest.len(), count });
        let (together, later) = rest.split_at(together(rest));
        rest = later;
        let read: Vec<Result<Picture>> =
            together.par_iter().map(|item| picture::read(&item.path, target)).collect();
        for picture in read {
            match picture {
                Ok(picture) => pictures.push(picture),
                Err(error) => problems.push(error),
            }
        }
    }
    follow(Loading::Images { done: count, count });
    if problems.len() > 1 {
        return Err(Error::Images { folder: folder.to_path_buf(), problems, count });
    }
    if let Some(problem) = problems.pop() {
        return Err(problem);
    }
    let [_, height, width] = pictures.first().map_or([1, 0, 0], |first| first.shape);
    if let Some(at) = pictures.iter().position(|picture| picture.shape[1..] != [height, width]) {
        let [_, other_height, other_width] = pictures[at].shape;
        let problem = format!(
            "the images are of different sizes ({height} x {width} pixels in {}, {other_height} x {other_width} in {}): expected a height and a width for all",
            shown(&items[0].path),
            shown(&items[at].path)
        );
        return Err(Error::argument("size", problem));
    }
    let channels = pictures.iter().map(|picture| picture.shape[0]).max().unwrap_or(1);
    let size = channels * height * width;
    let mut pixels = vec![0; count * size];
    pixels.par_chunks_exact_mut(size.max(1)).zip(pictures).for_each(|(place, picture)| {
        place.copy_from_slice(&picture.with_channels(channels).pixels);
    });
    Ok(([channels, height, width], pixels))
}
