//! One array of a NumPy archive: whole numbers, as bytes.
//!
//! Its header is read here (NumPy's NEP 1): the crates that do it bring fourteen others, among them a parser generator and
//! assembler code, for a line of three fields.

use std::io::Read;
use std::path::Path;

use super::idx::MAX_BYTES;
use crate::text::{excerpt, one_line};
use crate::{Error, Result, memory};

/// Longest header, in bytes; NumPy's own have some 120.
const LONGEST_HEADER: usize = 4096;

/// How an array begins.
const MAGIC: &[u8] = b"\x93NUMPY";

/// Most dimensions.
const DIMENSIONS: usize = 4;

/// An array that cannot be read, or decompressed, to its end.
pub fn damaged(path: &Path, name: &str, error: impl ToString) -> Error {
    Error::malformed(path, name, "a whole array", one_line(error))
}

/// The type of an array's numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Numbers {
    /// Bytes of each.
    size: usize,
    big_endian: bool,
    signed: bool,
}

/// An array, its content as it lies in the file.
pub struct Array<'a> {
    name: &'a str,
    shape: Vec<usize>,
    numbers: Numbers,
    /// Whether the first index varies fastest.
    fortran: bool,
    content: Vec<u8>,
}

impl<'a> Array<'a> {
    /// Reads an array to its end. Errors name `path` and `name`.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when it is no array of whole numbers or not whole, [`Error::Memory`] where there is too little
    /// for it.
    pub fn read(path: &Path, name: &'a str, mut reader: impl Read) -> Result<Self> {
        let (shape, numbers, fortran) = header(path, name, &mut reader)?;
        let count = shape.iter().try_fold(1_usize, |count, &extent| count.checked_mul(extent));
        let claimed = count.filter(|&count| count <= MAX_BYTES).ok_or_else(|| {
            let expected = format!("at most {MAX_BYTES} numbers");
            Error::malformed(path, name, expected, format!("{shape:?}"))
        })?;
        if claimed == 0 {
            return Err(Error::malformed(path, name, "numbers", format!("none: {shape:?}")));
        }
        let bytes = claimed * numbers.size;
        // As they are read, and once more in another order.
        memory::check("reading this archive", 2 * bytes as u64)?;
        let mut content = Vec::new();
        let read = reader.take(bytes as u64 + 1).read_to_end(&mut content);
        read.map_err(|error| damaged(path, name, error))?;
        if content.len() != bytes {
            let found =
                if content.len() > bytes { "more".into() } else { content.len().to_string() };
            let expected = format!("{bytes} bytes, as its header says");
            return Err(Error::malformed(path, name, expected, found));
        }
        Ok(Self { name, shape, numbers, fortran, content })
    }

    /// The extents, the slowest-varying first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number and shape of the images, and whether the channels are behind height and width.
    pub fn images(&self, path: &Path) -> Result<(usize, [usize; 3], bool)> {
        Ok(match self.shape[..] {
            [count, height, width] => (count, [1, height, width], false),
            [count, height, width, channels @ (1 | 3)] => (count, [channels, height, width], true),
            [count, channels @ (1 | 3), height, width] => (count, [channels, height, width], false),
            _ => {
                let expected = "images [count, height, width], or with 1 or 3 channels at the end";
                return Err(Error::malformed(
                    path,
                    self.name,
                    expected,
                    format!("{:?}", self.shape),
                ));
            }
        })
    }

    /// The numbers, in which the last index varies fastest, as bytes.
    pub fn bytes(self, path: &Path) -> Result<Vec<u8>> {
        let Self { name, shape, numbers, fortran, content } = self;
        let bytes = match numbers {
            Numbers { size: 1, signed: false, .. } => content,
            Numbers { size, big_endian, signed } => {
                let mut bytes = Vec::with_capacity(content.len() / size);
                for (at, number) in content.chunks_exact(size).enumerate() {
                    let digit = |at: &usize| number[if big_endian { *at } else { size - 1 - at }];
                    let sign = if signed && digit(&0) >= 0x80 { -1_i64 } else { 0 };
                    let value =
                        (0..size).fold(sign, |value, at| value << 8 | i64::from(digit(&at)));
                    let Ok(byte) = u8::try_from(value) else {
                        let what = format!("{name}: number {at}");
                        return Err(Error::malformed(path, what, "0 to 255", value));
                    };
                    bytes.push(byte);
                }
                bytes
            }
        };
        if !fortran || shape.len() < 2 {
            return Ok(bytes);
        }
        // The place of every element of the result, step by step.
        let mut strides = vec![1; shape.len()];
        for at in 1..shape.len() {
            strides[at] = strides[at - 1] * shape[at - 1];
        }
        let mut index = vec![0; shape.len()];
        let mut ordered = Vec::with_capacity(bytes.len());
        for _ in 0..bytes.len() {
            ordered.push(
                bytes[index
                    .iter()
                    .zip(&strides)
                    .map(|(index, stride)| index * stride)
                    .sum::<usize>()],
            );
            for at in (0..shape.len()).rev() {
                index[at] += 1;
                if index[at] < shape[at] {
                    break;
                }
                index[at] = 0;
            }
        }
        Ok(ordered)
    }
}

/// Reads what precedes the numbers of an array: a dictionary as Python writes it, after its length.
fn header(path: &Path, name: &str, reader: &mut impl Read) -> Result<(Vec<usize>, Numbers, bool)> {
    let wrong = |what: &str, expected: &str, found: &dyn std::fmt::Display| {
        Error::malformed(path, format!("{name}: {what}"), expected, found)
    };
    let mut fill = |bytes: &mut [u8]| {
        reader.read_exact(bytes).map_err(|error| wrong("header", "a whole one", &one_line(error)))
    };
    let mut start = [0; 8];
    fill(&mut start)?;
    if !start.starts_with(MAGIC) {
        return Err(wrong("magic number", "that of a NumPy array", &"another"));
    }
    let mut length = [0; 4];
    // The length has two bytes in version 1, four in later ones.
    let digits = if start[6] == 1 { 2 } else { 4 };
    fill(&mut length[..digits])?;
    let length = u32::from_le_bytes(length) as usize;
    if length > LONGEST_HEADER {
        return Err(wrong("header", &format!("at most {LONGEST_HEADER} bytes"), &length));
    }
    let mut text = vec![0; length];
    fill(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    let field = |key: &str| {
        let (_, after) = text.split_once(&format!("'{key}'"))?;
        Some(after.trim_start().strip_prefix(':')?.trim_start())
    };
    let unclear = || wrong("header", "descr, fortran_order and shape", &excerpt(text.trim()));
    let described = field("descr").ok_or_else(unclear)?;
    let described = described.strip_prefix('\'').and_then(|text| text.split_once('\''));
    let described = described.map(|(name, _)| name).ok_or_else(unclear)?;
    let numbers = Numbers::parse(described).ok_or_else(|| {
        let expected = "whole numbers (as after .astype('uint8'))";
        let found = match described.as_bytes().get(1) {
            Some(b'f') => format!("fractions, '{}'", excerpt(described)),
            _ => format!("'{}'", excerpt(described)),
        };
        wrong("type", expected, &found)
    })?;
    let fortran = field("fortran_order").ok_or_else(unclear)?;
    let fortran = match (fortran.starts_with("True"), fortran.starts_with("False")) {
        (is_fortran, is_c) if is_fortran != is_c => is_fortran,
        _ => return Err(unclear()),
    };
    let shape = field("shape").and_then(|text| text.strip_prefix('(')?.split_once(')'));
    let (shape, _) = shape.ok_or_else(unclear)?;
    let extents = shape.split(',').map(str::trim).filter(|extent| !extent.is_empty());
    let extents: Option<Vec<usize>> = extents.map(|extent| extent.parse().ok()).collect();
    let extents = extents.filter(|extents| (1..=DIMENSIONS).contains(&extents.len()));
    let extents = extents.ok_or_else(|| {
        let expected = format!("1 to {DIMENSIONS} numbers");
        wrong("shape", &expected, &format!("({})", excerpt(shape)))
    })?;
    Ok((extents, numbers, fortran))
}

impl Numbers {
    /// From NumPy's name of a type: `|u1`, `<i8`.
    fn parse(name: &str) -> Option<Self> {
        let (order, kind, size) = match *name.as_bytes() {
            [order, kind, size] => (order, kind, size),
            _ => return None,
        };
        let big_endian = match order {
            b'<' | b'|' | b'=' => false,
            b'>' => true,
            _ => return None,
        };
        let signed = match kind {
            b'u' => false,
            b'i' => true,
            _ => return None,
        };
        let size = match size {
            b'1' | b'2' | b'4' | b'8' => usize::from(size - b'0'),
            _ => return None,
        };
        Some(Self { size, big_endian, signed })
    }
}
