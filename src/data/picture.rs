//! One image file, PNG or JPEG, as the numbers that a network takes: decoded, turned as its EXIF data say, put on a
//! background where it is transparent, and, where asked for, made grey, resized and inverted.
//!
//! Files are not trusted: what an image would take is known from its header before anything is allocated for it.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use image::imageops::{self, FilterType};
use image::{DynamicImage, GrayImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};
use rayon::prelude::*;

use super::{ImageSet, kind, tree};
use crate::text::{bytes, excerpt, one_line};
use crate::{Error, Result};

/// Most pixels of an image: 67 million, 8192 x 8192. In 16 bits with transparency they take 512 MiB.
pub const MAX_PIXELS: u64 = 1 << 26;

/// Longest file that is read, in bytes.
const MAX_FILE: u64 = 1 << 28;

/// The largest value of a channel, and of opacity.
const FULL: u8 = u8::MAX;

/// What images of other formats begin with.
const FORMATS: [(usize, &[u8], &str); 9] = [
    (0, b"GIF8", "a GIF image; convert it to PNG"),
    (0, b"BM", "a BMP image; convert it to PNG"),
    (8, b"WEBP", "a WebP image; convert it to PNG"),
    (0, b"II*\0", "a TIFF image; convert it to PNG"),
    (0, b"MM\0*", "a TIFF image; convert it to PNG"),
    (4, b"ftypavif", "an AVIF image; convert it to PNG"),
    (4, b"ftyp", "a HEIC image or a film; convert it to JPEG"),
    (0, b"\0\0\x01\0", "an icon; convert it to PNG"),
    (0, b"%PDF", "a PDF file; convert it to PNG"),
];

/// What is made of an image file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Target {
    /// Height and width; none for the image's own. Its proportions are not kept.
    pub size: Option<[usize; 2]>,
    /// 1 for grey, or 3 for red, green and blue; none for 1 where every pixel is grey, else 3.
    pub channels: Option<usize>,
    /// Whether dark and bright change places, for ink on paper. Transparent parts are then white before, else black.
    pub invert: bool,
}

impl Target {
    /// Whether images of this shape are left as they are.
    pub(super) fn is_like(self, [channels, height, width]: [usize; 3]) -> bool {
        self.size.is_none_or(|size| size == [height, width])
            && self.channels.is_none_or(|wanted| wanted == channels)
    }
}

/// An image as numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Channels (1 or 3), height, width.
    pub shape: [usize; 3],
    /// Brightness from 0 to 255, `[channels, height, width]`.
    pub pixels: Vec<u8>,
}

/// Reads a file.
///
/// # Errors
///
/// [`Error::Io`] when it cannot be read, else as [`decode`].
pub fn read(path: &Path, target: Target) -> Result<Picture> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    read_with(path, file, target, length)
}

/// Reads an image to its end. Errors name `path`.
///
/// # Errors
///
/// As [`read`].
pub fn read_from(path: &Path, reader: impl Read, target: Target) -> Result<Picture> {
    read_with(path, reader, target, 0)
}

/// The same where so many bytes are expected, for which one call to the system is then enough.
fn read_with(path: &Path, reader: impl Read, target: Target, length: u64) -> Result<Picture> {
    let mut content = Vec::with_capacity(length.min(MAX_FILE) as usize + 1);
    reader.take(MAX_FILE + 1).read_to_end(&mut content).map_err(Error::io("read", path))?;
    decode(path, &content, target)
}

/// The files in a folder and in those within it, in the natural order of their paths; without hidden ones and those that
/// systems make unasked.
///
/// # Errors
///
/// [`Error::Io`] naming the folder that cannot be read, [`Error::Malformed`] where folders are too deep within each other.
pub fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let files = tree::files(folder)?;
    Ok(files.into_iter().map(|file| file.path).collect())
}

/// The image in a file's content. Errors name `path`.
///
/// # Errors
///
/// [`Error::Malformed`] when it is neither PNG nor JPEG, is not whole, or has more than [`MAX_PIXELS`].
pub fn decode(path: &Path, content: &[u8], target: Target) -> Result<Picture> {
    if content.len() as u64 > MAX_FILE {
        return Err(Error::malformed(path, "file", format!("at most {}", bytes(MAX_FILE)), "more"));
    }
    let format = match image::guess_format(content) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg)) => format,
        _ => return Err(Error::malformed(path, "file", "a PNG or JPEG image", found(content))),
    };
    if format == ImageFormat::Jpeg && !has_end(content) {
        return Err(Error::malformed(
            path,
            "image",
            "one that is whole",
            "that its end is missing",
        ));
    }
    let damaged = |error| {
        let expected = "one that is whole and can be decoded";
        Error::malformed(path, "image", expected, one_line(error))
    };
    let mut reader = ImageReader::with_format(Cursor::new(content), format);
    let mut limits = Limits::no_limits();
    // For what the decoder needs besides the pixels, which are counted before they are decoded.
    limits.max_alloc = Some(8 * MAX_PIXELS);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        let expected = format!("at most {MAX_PIXELS} pixels");
        return Err(Error::malformed(path, "size", expected, format!("{height} x {width}")));
    }
    let orientation = decoder.orientation().map_err(damaged)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    image.apply_orientation(orientation);
    Ok(Picture::of(image, target))
}

/// Whether a JPEG file has a marker of its end. The decoder makes grey what a cut file lacks, and says nothing.
fn has_end(content: &[u8]) -> bool {
    let is_end = |pair: &[u8]| pair == [0xff, 0xd9];
    // Segments have a kind and a length; those before the image may hold a smaller one with its own end.
    let mut at = 2;
    while let Some(&[0xff, kind, high, low]) = content.get(at..at + 4) {
        match kind {
            // The coded image begins.
            0xda => break,
            0xff => at += 1,
            _ => at += 2 + usize::from(u16::from_be_bytes([high, low])),
        }
    }
    content.get(at..).unwrap_or_default().windows(2).any(is_end)
}

/// What a file is that is no image which can be read.
fn found(content: &[u8]) -> String {
    let known = FORMATS.iter().find(|(at, start, _)| {
        content.get(*at..).is_some_and(|content| content.starts_with(start))
    });
    let start = &content[..content.len().min(kind::START)];
    match known.map(|(.., name)| *name).or_else(|| kind::of(start)) {
        Some(kind) => kind.into(),
        None if content.is_empty() => "an empty file".into(),
        None => match std::str::from_utf8(&start[..start.len().min(16)]) {
            Ok(text) if !text.contains('\0') => format!("text: {}", excerpt(text.trim())),
            _ => {
                let start: Vec<String> =
                    start.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
                format!("a file that begins with 0x{}", start.concat())
            }
        },
    }
}

impl Picture {
    fn of(image: DynamicImage, target: Target) -> Self {
        let background = if target.invert { FULL } else { 0 };
        let mut picture = match image {
            DynamicImage::ImageLuma8(_) | DynamicImage::ImageLuma16(_) => {
                Self::grey(image.into_luma8(), target)
            }
            DynamicImage::ImageLumaA8(_) | DynamicImage::ImageLumaA16(_) => {
                let image = image.into_luma_alpha8();
                let (width, height) = image.dimensions();
                let on = |pixel: &[u8]| over(pixel[0], pixel[1], background);
                let pixels = image.as_raw().chunks_exact(2).map(on).collect();
                let grey = GrayImage::from_raw(width, height, pixels).unwrap_or_default();
                Self::grey(grey, target)
            }
            image if image.color().has_alpha() => {
                let image = image.into_rgba8();
                let (width, height) = image.dimensions();
                let mut pixels = Vec::with_capacity(3 * image.as_raw().len() / 4);
                for pixel in image.as_raw().chunks_exact(4) {
                    pixels
                        .extend(pixel[..3].iter().map(|&value| over(value, pixel[3], background)));
                }
                let image = RgbImage::from_raw(width, height, pixels).unwrap_or_default();
                Self::colour(image, target)
            }
            image => Self::colour(image.into_rgb8(), target),
        };
        if target.invert {
            picture.pixels.iter_mut().for_each(|value| *value = FULL - *value);
        }
        picture
    }

    fn grey(image: GrayImage, target: Target) -> Self {
        let [height, width] = size(target, image.height(), image.width());
        let image = match image.dimensions() == (width, height) {
            true => image,
            false => imageops::resize(&image, width, height, FilterType::Triangle),
        };
        let shape = [1, height as usize, width as usize];
        let picture = Self { shape, pixels: image.into_raw() };
        picture.with_channels(target.channels.unwrap_or(1))
    }

    fn colour(image: RgbImage, target: Target) -> Self {
        if target.channels != Some(3) {
            let is_grey = |pixel: &[u8]| pixel[0] == pixel[1] && pixel[0] == pixel[2];
            if image.as_raw().chunks_exact(3).all(is_grey) {
                let grey = image.as_raw().iter().step_by(3).copied().collect();
                let grey = GrayImage::from_raw(image.width(), image.height(), grey);
                return Self::grey(grey.unwrap_or_default(), target);
            }
            if target.channels == Some(1) {
                return Self::grey(DynamicImage::ImageRgb8(image).into_luma8(), target);
            }
        }
        let [height, width] = size(target, image.height(), image.width());
        let image = match image.dimensions() == (width, height) {
            true => image,
            false => imageops::resize(&image, width, height, FilterType::Triangle),
        };
        let raw = image.as_raw();
        let channel = |channel: usize| raw.iter().skip(channel).step_by(3).copied();
        let pixels = (0..3).flat_map(channel).collect();
        Self { shape: [3, height as usize, width as usize], pixels }
    }

    /// The mean brightness of its outermost pixels, from 0 to 255.
    pub fn border(&self) -> u8 {
        super::border(&self.pixels, self.shape)
    }

    /// The same in so many channels: a grey image may have three that are equal.
    pub fn with_channels(self, channels: usize) -> Self {
        let [own, height, width] = self.shape;
        if own != 1 || channels == 1 {
            return self;
        }
        Self { shape: [channels, height, width], pixels: self.pixels.repeat(channels) }
    }
}

/// The same images in a size and channels that may be others.
pub(super) fn set(set: ImageSet, target: Target) -> ImageSet {
    if target.is_like(set.shape) {
        return set;
    }
    let [channels, height, width] = set.shape;
    let target = Target { channels: target.channels.or(Some(channels)), ..target };
    let [rows, columns] = [height, width].map(|extent| extent as u32);
    let pictures = set.pixels.par_chunks_exact(set.size()).map(|image| {
        let image = match channels {
            1 => GrayImage::from_raw(columns, rows, image.to_vec()).map(DynamicImage::from),
            _ => {
                let plane = height * width;
                let pixel = |at: usize| [0, 1, 2].map(|channel| image[channel * plane + at]);
                let pixels = (0..plane).flat_map(pixel).collect();
                RgbImage::from_raw(columns, rows, pixels).map(DynamicImage::from)
            }
        };
        Picture::of(image.unwrap_or_default(), target)
    });
    let pictures: Vec<Picture> = pictures.collect();
    let shape = pictures.first().map_or(set.shape, |picture| picture.shape);
    let pixels = pictures.into_iter().flat_map(|picture| picture.pixels).collect();
    ImageSet { shape, pixels, ..set }
}

/// A value of this opacity on a background.
fn over(value: u8, opacity: u8, background: u8) -> u8 {
    let full = u32::from(FULL);
    let [value, opacity, background] = [value, opacity, background].map(u32::from);
    ((value * opacity + background * (full - opacity) + full / 2) / full) as u8
}

/// The size that is wanted, else the image's own.
fn size(target: Target, height: u32, width: u32) -> [u32; 2] {
    target.size.map_or([height, width], |size| size.map(|extent| extent as u32))
}

#[cfg(test)]
mod tests {
    use image::codecs::png::PngEncoder;
    use image::{ExtendedColorType, ImageEncoder, Rgb, codecs::jpeg::JpegEncoder};

    use super::*;

    fn png(pixels: &[u8], [height, width]: [u32; 2], color: ExtendedColorType) -> Vec<u8> {
        let mut file = Vec::new();
        PngEncoder::new(&mut file).write_image(pixels, width, height, color).unwrap();
        file
    }

    fn decoded(content: &[u8], target: Target) -> Picture {
        decode(Path::new("image"), content, target).unwrap()
    }

    #[track_caller]
    fn refused(content: &[u8], with: &str) {
        let line = decode(Path::new("image"), content, Target::default()).unwrap_err().to_string();
        assert!(line.starts_with("image: ") && line.contains(with), "{with} in {line}");
        assert_eq!(line.lines().count(), 1, "{line}");
    }

    #[test]
    fn grey_in_every_form_is_the_same_grey() {
        let grey = [0, 7, 128, 255, 90, 91];
        let expected = Picture { shape: [1, 2, 3], pixels: grey.into() };
        let repeated = |count: usize, opaque: bool| -> Vec<u8> {
            let pixel = |&grey: &u8| {
                let mut pixel = vec![grey; count];
                pixel.extend(opaque.then_some(255));
                pixel
            };
            grey.iter().flat_map(pixel).collect()
        };
        let sixteen: Vec<u8> = grey.iter().flat_map(|&grey| [grey, grey]).collect();
        for (pixels, color) in [
            (grey.to_vec(), ExtendedColorType::L8),
            (sixteen, ExtendedColorType::L16),
            (repeated(1, true), ExtendedColorType::La8),
            (repeated(3, false), ExtendedColorType::Rgb8),
            (repeated(3, true), ExtendedColorType::Rgba8),
        ] {
            let file = png(&pixels, [2, 3], color);
            assert_eq!(decoded(&file, Target::default()), expected, "{color:?}");
            let all = decoded(&file, Target { channels: Some(3), ..Target::default() });
            assert_eq!((all.shape, all.pixels), ([3, 2, 3], grey.repeat(3)), "{color:?}");
        }
    }

    #[test]
    fn colours_are_planes_and_their_luma_is_grey() {
        let file = png(&[255, 0, 0, 0, 255, 0, 0, 0, 255], [1, 3], ExtendedColorType::Rgb8);
        let picture = decoded(&file, Target::default());
        assert_eq!(picture.shape, [3, 1, 3]);
        assert_eq!(picture.pixels, [255, 0, 0, 0, 255, 0, 0, 0, 255]);
        // Rec. 709: 0.2126, 0.7152 and 0.0722 of the full brightness.
        let grey = decoded(&file, Target { channels: Some(1), ..Target::default() });
        for (value, expected) in grey.pixels.iter().zip([54.2, 182.4, 18.4]) {
            assert!((f64::from(*value) - expected).abs() <= 1.0, "{:?}", grey.pixels);
        }
    }

    #[test]
    fn what_is_transparent_is_background() {
        let file = png(&[200, 0, 200, 255, 200, 51], [1, 3], ExtendedColorType::La8);
        assert_eq!(decoded(&file, Target::default()).pixels, [0, 200, 40]);
        let inverted = decoded(&file, Target { invert: true, ..Target::default() });
        assert_eq!(inverted.pixels, [0, 55, 11]);
    }

    /// A picture of two halves stays one when it is made smaller, and turning it is seen.
    #[test]
    fn images_are_resized() {
        let halves = |height: usize, width: usize| -> Vec<u8> {
            let dark = |at: usize| if at % width < width / 2 { 10 } else { 240 };
            (0..height * width).map(dark).collect()
        };
        let target = Target { size: Some([28, 28]), ..Target::default() };
        let large = png(&halves(200, 300), [200, 300], ExtendedColorType::L8);
        let small = decoded(&large, target);
        assert_eq!(small.shape, [1, 28, 28]);
        // The two columns in the middle may be mixed.
        let expected = halves(28, 28);
        let off = |(at, value): (usize, &u8)| {
            (at % 28 != 13 && at % 28 != 14) && value.abs_diff(expected[at]) > 1
        };
        assert!(!small.pixels.iter().enumerate().any(off), "{:?}", &small.pixels[..28]);
        let alike = png(&halves(28, 28), [28, 28], ExtendedColorType::L8);
        assert_eq!(decoded(&alike, target).pixels, expected);
    }

    fn jpeg(image: &RgbImage) -> Vec<u8> {
        let mut file = Vec::new();
        JpegEncoder::new_with_quality(&mut file, 95).encode_image(image).unwrap();
        file
    }

    #[test]
    fn a_photo_is_turned_as_its_exif_data_say() {
        let red_left = RgbImage::from_fn(32, 16, |x, _| match x < 16 {
            true => Rgb([220, 20, 20]),
            false => Rgb([20, 20, 220]),
        });
        let plain = jpeg(&red_left);
        // Orientation 6: the camera was turned; the left of the file is the top of the photo.
        let tiff = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        let mut turned = plain[..2].to_vec();
        turned.extend([0xff, 0xe1, 0, tiff.len() as u8 + 2]);
        turned.extend(tiff);
        turned.extend(&plain[2..]);
        let picture = decoded(&turned, Target::default());
        assert_eq!(picture.shape, [3, 32, 16]);
        let red = |row: usize| picture.pixels[row * 16 + 8];
        assert!(red(4) > 180 && red(28) < 60, "{} {}", red(4), red(28));
    }

    #[test]
    fn files_that_are_no_images_are_refused_in_one_line() {
        let whole = png(&[9; 64 * 64], [64, 64], ExtendedColorType::L8);
        let photo = jpeg(&RgbImage::from_fn(64, 64, |x, y| Rgb([x as u8, y as u8, 99])));
        refused(b"", "expected a PNG or JPEG image, found an empty file");
        refused(b"what is this?", "found text: what is this?");
        refused(b"\x01\x02\0\x04\x05", "a file that begins with 0x01020004");
        refused(b"GIF89a...", "a GIF image; convert it to PNG");
        refused(b"RIFF\0\0\0\0WEBPVP8 ", "a WebP image");
        refused(b"\0\0\0\x18ftypheic", "a HEIC image");
        refused(b"PK\x03\x04", "a ZIP archive");
        for cut in [9, 30, whole.len() / 2, whole.len() - 13] {
            refused(&whole[..cut], "image: expected one that is whole");
        }
        for cut in [3, 100, photo.len() / 2, photo.len() - 2] {
            refused(&photo[..cut], "image: expected one that is whole");
        }
        let mut flipped = whole.clone();
        flipped[45] ^= 0x55;
        refused(&flipped, "image: expected one that is whole");
        assert_eq!(decoded(&photo, Target::default()).shape, [3, 64, 64]);
    }

    /// Its header alone would make a decoder take 2.7 GB.
    #[test]
    fn an_image_that_is_too_large_is_refused_by_its_header() {
        let mut file = png(&[9; 16], [4, 4], ExtendedColorType::L8);
        file[16..24]
            .copy_from_slice(&[30_000_u32.to_be_bytes(), 30_000_u32.to_be_bytes()].concat());
        let checksum = crc32(&file[12..29]);
        file[29..33].copy_from_slice(&checksum.to_be_bytes());
        refused(&file, "size: expected at most 67108864 pixels, found 30000 x 30000");
    }

    /// The checksum of a chunk of a PNG file.
    fn crc32(bytes: &[u8]) -> u32 {
        let mut hash = flate2::Crc::new();
        hash.update(bytes);
        hash.sum()
    }
}
