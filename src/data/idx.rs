//! The IDX format, in which MNIST and similar data sets are published, plain or compressed with gzip.
//!
//! Two zero bytes, the element type, the number of extents, each extent as a big-endian u32, then
//! the elements in row-major order (Y. LeCun, C. Cortes, C. Burges, "The MNIST database"). Files are
//! not trusted: memory grows with the data that is really there, not with what the header claims.

use std::io::{self, BufRead, BufReader, Chain, ErrorKind, Read};
use std::path::Path;

use flate2::bufread::GzDecoder;
use sha2::{Digest, Sha256};

use super::kind::{self, START};
use crate::{Error, Result, hex};

/// Largest number of elements that a header may claim: 2³⁰, 20 times the training images of
/// Fashion-MNIST.
pub const MAX_BYTES: usize = 1 << 30;

/// The element type of images and labels: unsigned bytes.
const UNSIGNED_BYTE: u8 = 0x08;

/// The first two bytes of a gzip file.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Unsigned bytes in row-major order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idx<const RANK: usize> {
    /// The extents, the slowest-varying first. None is 0.
    pub extents: [usize; RANK],
    /// The elements; their number is the product of the extents.
    pub bytes: Vec<u8>,
}

impl<const RANK: usize> Idx<RANK> {
    /// SHA-256 of the uncompressed file, as hexadecimal digits.
    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        hash.update([0, 0, UNSIGNED_BYTE, RANK as u8]);
        for &extent in &self.extents {
            hash.update((extent as u32).to_be_bytes());
        }
        hash.update(&self.bytes);
        hex(&hash.finalize())
    }
}

/// Reads a file of `RANK` extents to its end. Errors name `path`.
///
/// # Errors
///
/// [`Error::Malformed`] when magic number, element type, rank or extents are wrong, when a byte is
/// missing or left over, or when the compressed data is damaged; [`Error::Io`] when reading fails.
pub fn read<const RANK: usize>(path: &Path, mut reader: impl Read) -> Result<Idx<RANK>> {
    // The first two bytes tell the kinds of file apart; a single read may return only one.
    let mut start = Vec::new();
    reader.by_ref().take(2).read_to_end(&mut start).map_err(Error::io("read", path))?;
    if start != GZIP {
        return read_plain(path, &mut BufReader::new(start.as_slice().chain(reader)));
    }
    let mut members = Members::new(BufReader::new(reader));
    // Reading to the end, it checks gzip's own checksums.
    let idx = read_plain(path, &mut members);
    // If there is less than the header claims, what follows the compressed data is the reason.
    if members.garbage { Err(left_over(path, "after the compressed data")) } else { idx }
}

/// The content of a gzip file: of all its members, one after the other, as gunzip reads it.
///
/// A file may have several: `cat a.gz b.gz`, bgzip and pigz make them. Zero bytes after the last
/// one only fill the file up, on tapes and block devices.
struct Members<R> {
    /// Decodes the current member. `None`: the last one has ended.
    decoder: Option<GzDecoder<Chain<&'static [u8], R>>>,
    /// Something follows that is neither a member nor filling.
    garbage: bool,
}

impl<R: BufRead> Members<R> {
    /// For a reader of which [`GZIP`] has been read.
    fn new(reader: R) -> Self {
        Self { decoder: Some(member(reader)), garbage: false }
    }

    /// Goes on to the next member if there is one.
    fn next(&mut self) -> io::Result<()> {
        let Some(decoder) = self.decoder.take() else { return Ok(()) };
        let (_, mut reader) = decoder.into_inner().into_inner();
        let mut start = Vec::new();
        reader.by_ref().take(GZIP.len() as u64).read_to_end(&mut start)?;
        if start == GZIP {
            self.decoder = Some(member(reader));
        } else {
            self.garbage = start.iter().any(|&byte| byte != 0) || !only_zeros(&mut reader)?;
        }
        Ok(())
    }
}

/// A decoder of one member, whose [`GZIP`] has been read.
fn member<R: BufRead>(reader: R) -> GzDecoder<Chain<&'static [u8], R>> {
    GzDecoder::new(GZIP.as_slice().chain(reader))
}

/// Whether a reader has nothing but zeros up to its end.
fn only_zeros(reader: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let bytes = match reader.fill_buf() {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            bytes => bytes?,
        };
        if bytes.is_empty() {
            return Ok(true);
        }
        if bytes.iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
        let length = bytes.len();
        reader.consume(length);
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        while let Some(decoder) = &mut self.decoder {
            let count = decoder.read(into)?;
            if count > 0 {
                return Ok(count);
            }
            self.next()?;
        }
        Ok(0)
    }
}

fn read_plain<const RANK: usize>(path: &Path, reader: &mut impl Read) -> Result<Idx<RANK>> {
    let extents = header(path, reader)?;
    let claimed = extents.iter().try_fold(1_usize, |product, &extent| product.checked_mul(extent));
    let claimed = claimed.filter(|&count| count <= MAX_BYTES).ok_or_else(|| {
        Error::malformed(
            path,
            "extents",
            format!("at most {MAX_BYTES} elements"),
            extents.map(|extent| extent.to_string()).join(" x "),
        )
    })?;
    let mut bytes = Vec::new();
    reader.by_ref().take(claimed as u64).read_to_end(&mut bytes).map_err(damaged(path))?;
    if bytes.len() < claimed {
        return Err(Error::malformed(
            path,
            "length",
            format!("{claimed} elements, as the header says"),
            bytes.len(),
        ));
    }
    end(path, reader)?;
    Ok(Idx { extents, bytes })
}

fn header<const RANK: usize>(path: &Path, reader: &mut impl Read) -> Result<[usize; RANK]> {
    let mut magic = [0; 4];
    fill(path, reader, &mut magic, "magic number")?;
    let [zero0, zero1, element, rank] = magic;
    if [zero0, zero1] != [0, 0] {
        let mut start = magic.to_vec();
        // What cannot be read is not needed: the file is refused all the same.
        drop(reader.take((START - magic.len()) as u64).read_to_end(&mut start));
        let kind = kind::of(&start).map_or_else(String::new, |kind| format!(" ({kind})"));
        let found = format!("{:#010x}{kind}", u32::from_be_bytes(magic));
        return Err(Error::malformed(path, "magic number", "an IDX file's 0x0000....", found));
    }
    if element != UNSIGNED_BYTE {
        let expected = "0x08 (unsigned bytes)";
        return Err(Error::malformed(path, "element type", expected, element_name(element)));
    }
    if usize::from(rank) != RANK {
        let found = format!("{rank}{}", holds(rank.into()));
        let expected = format!("{RANK}{}", holds(RANK));
        return Err(Error::malformed(path, "number of extents", expected, found));
    }
    let mut extents = [0; RANK];
    for extent in &mut extents {
        let mut bytes = [0; 4];
        fill(path, reader, &mut bytes, "extents")?;
        *extent = u32::from_be_bytes(bytes) as usize;
    }
    if extents.contains(&0) {
        let found = extents.map(|extent| extent.to_string()).join(" x ");
        return Err(Error::malformed(path, "extents", "none that is 0", found));
    }
    Ok(extents)
}

/// What a file of this rank contains, in the data sets that this program reads.
fn holds(rank: usize) -> &'static str {
    match rank {
        1 => " (labels)",
        3 => " (images)",
        _ => "",
    }
}

fn element_name(element: u8) -> String {
    let name = match element {
        0x09 => " (signed bytes)",
        0x0b => " (16-bit integers)",
        0x0c => " (32-bit integers)",
        0x0d => " (32-bit floats)",
        0x0e => " (64-bit floats)",
        _ => "",
    };
    format!("{element:#04x}{name}")
}

fn fill(path: &Path, reader: &mut impl Read, bytes: &mut [u8], what: &str) -> Result<()> {
    reader.read_exact(bytes).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => {
            Error::malformed(path, what, "an IDX file", "the end of the file")
        }
        _ => damaged(path)(error),
    })
}

/// Nothing may follow. One byte is enough to know, so no more is read.
fn end(path: &Path, reader: &mut impl Read) -> Result<()> {
    let mut more = Vec::new();
    reader.take(1).read_to_end(&mut more).map_err(damaged(path))?;
    if more.is_empty() { Ok(()) } else { Err(left_over(path, "after the last element")) }
}

fn left_over(path: &Path, place: &str) -> Error {
    Error::malformed(path, "length", format!("nothing {place}"), "more bytes")
}

/// A decoder reports damage as a read error; errors of the operating system are passed on.
fn damaged(path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |error| match error.kind() {
        ErrorKind::InvalidInput | ErrorKind::InvalidData | ErrorKind::UnexpectedEof => {
            Error::malformed(path, "compressed data", "a whole gzip file", error)
        }
        _ => Error::io("read", path)(error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::gzip;
    use super::*;

    /// A file with this header and these elements.
    fn file(element: u8, extents: &[u32], elements: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, element, extents.len() as u8];
        bytes.extend(extents.iter().flat_map(|extent| extent.to_be_bytes()));
        bytes.extend(elements);
        bytes
    }

    fn images(bytes: &[u8]) -> Result<Idx<3>> {
        read(Path::new("images"), bytes)
    }

    fn refused(bytes: &[u8], with: &str) {
        let message = images(bytes).unwrap_err().to_string();
        assert!(message.starts_with("images: "), "{message}");
        assert!(message.contains(with), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }

    #[test]
    fn a_whole_file_is_read_plain_and_compressed() {
        let plain = file(8, &[2, 1, 3], &[1, 2, 3, 4, 5, 6]);
        let expected = Idx { extents: [2, 1, 3], bytes: vec![1, 2, 3, 4, 5, 6] };
        assert_eq!(images(&plain).unwrap(), expected);
        assert_eq!(images(&gzip(&plain)).unwrap(), expected);
        let labels = read::<1>(Path::new("labels"), &file(8, &[2], &[7, 9])[..]).unwrap();
        assert_eq!(labels, Idx { extents: [2], bytes: vec![7, 9] });
    }

    #[test]
    fn a_reader_may_give_one_byte_at_a_time() {
        struct Dripping<'a>(&'a [u8]);
        impl Read for Dripping<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let length = buffer.len().min(1);
                self.0.read(&mut buffer[..length])
            }
        }
        let plain = file(8, &[1, 1, 3], b"abc");
        for whole in [&plain, &gzip(&plain)] {
            let idx = read::<3>(Path::new("images"), Dripping(whole)).unwrap();
            assert_eq!(idx.bytes, b"abc");
        }
    }

    #[test]
    fn the_checksum_is_that_of_the_uncompressed_file() {
        let plain = file(8, &[1, 1, 3], b"abc");
        let sum: String = Sha256::digest(&plain).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(images(&plain).unwrap().sha256(), sum);
        assert_eq!(images(&gzip(&plain)).unwrap().sha256(), sum);
    }

    #[test]
    fn every_wrong_field_is_named() {
        refused(&[], "magic number");
        refused(&[1, 0, 8, 3], "0x01000803");
        refused(&file(0x0d, &[1, 1, 1], &[0; 4]), "0x0d (32-bit floats)");
        refused(&file(8, &[4], &[0; 4]), "found 1 (labels)");
        refused(&file(8, &[1, 1], &[0]), "number of extents");
        refused(&file(8, &[1, 0, 5], &[]), "1 x 0 x 5");
        refused(&file(8, &[u32::MAX; 3], &[0; 9]), "at most 1073741824 elements");
        refused(&file(8, &[1 << 15, 1 << 15, 2], &[0; 9]), "at most 1073741824 elements");
        // 2⁶⁴ elements would be 0 if the product wrapped.
        refused(&file(8, &[1 << 31, 1 << 31, 4], &[]), "at most 1073741824 elements");
    }

    #[test]
    fn every_length_but_the_right_one_is_refused() {
        let plain = file(8, &[2, 2, 2], &[1; 8]);
        let compressed = gzip(&plain);
        for whole in [&plain, &compressed] {
            for length in 0..whole.len() {
                images(&whole[..length]).unwrap_err();
            }
        }
        for long in [
            [plain.as_slice(), &[0]].concat(),
            gzip(&[plain.as_slice(), &[0]].concat()),
            // The byte too many is in a member of its own, as made by `cat a.gz b.gz`.
            [compressed.as_slice(), &gzip(&[0])].concat(),
        ] {
            refused(&long, "length: expected nothing after the last element, found more bytes");
        }
    }

    #[test]
    fn the_members_of_a_gzip_file_are_read_as_one() {
        let plain = file(8, &[2, 2, 2], &[1, 2, 3, 4, 5, 6, 7, 8]);
        let expected = images(&plain).unwrap();
        // Every size from a member per byte, so that the header is cut too, to all in one.
        for size in 1..=plain.len() {
            let members: Vec<Vec<u8>> = plain.chunks(size).map(gzip).collect();
            let whole = members.concat();
            assert_eq!(images(&whole).unwrap(), expected, "members of {size} bytes");
            // bgzip writes an empty one last.
            let ended = [whole.as_slice(), &gzip(&[])].concat();
            assert_eq!(images(&ended).unwrap(), expected, "an empty member after {size} bytes");
            let between = members.join(gzip(&[]).as_slice());
            assert_eq!(images(&between).unwrap(), expected, "empty members between {size} bytes");
            for length in 0..whole.len() {
                images(&whole[..length]).unwrap_err();
            }
        }
    }

    #[test]
    fn only_zeros_may_follow_the_last_member() {
        let plain = file(8, &[1, 1, 3], b"abc");
        let (first, second) = plain.split_at(9);
        for whole in [gzip(&plain), [gzip(first), gzip(second)].concat()] {
            let with = |more: &[u8]| [whole.as_slice(), more].concat();
            // More than a buffer of the reader holds.
            for zeros in [1, 2, 3, 20_000] {
                let filled = with(&vec![0; zeros]);
                assert_eq!(images(&filled).unwrap().bytes, b"abc", "{zeros} zeros");
                let member = gzip(&[]);
                for more in [&b"x"[..], &GZIP, &member] {
                    refused(&[&filled, more].concat(), "nothing after the compressed data");
                }
            }
            for garbage in [&b"x"[..], b"\0x", &GZIP[..1], b"\x1f\0", b"\x8b\x1f"] {
                refused(&with(garbage), "nothing after the compressed data");
            }
            // The start of a member is one that is cut.
            refused(&with(&GZIP), "compressed data");
        }
        // The rest of the elements is in a member that cannot be seen.
        refused(&[gzip(first).as_slice(), &[0], &gzip(second)].concat(), "after the compressed");
    }

    #[test]
    fn what_a_header_claims_costs_no_memory() {
        // 1 GiB claimed, 9 bytes there.
        refused(&file(8, &[1 << 14, 1 << 8, 1 << 8], &[0; 9]), "found 9");
        refused(&gzip(&file(8, &[1 << 14, 1 << 8, 1 << 8], &[0; 9])), "found 9");
        // 1 byte claimed, 64 MiB compressed to 64 KiB: decoding stops after the second byte.
        refused(&gzip(&file(8, &[1, 1, 1], &vec![0; 1 << 26])), "after the last element");
    }

    #[test]
    fn a_flipped_bit_is_found_or_changes_nothing() {
        let plain = file(8, &[3, 2, 2], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        let expected = images(&plain).unwrap();
        let (first, second) = plain.split_at(20);
        for members in [vec![gzip(&plain)], vec![gzip(first), gzip(second)]] {
            let whole = members.concat();
            let mut refused = 0;
            for bit in 0..whole.len() * 8 {
                let mut damaged = whole.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                match images(&damaged) {
                    Ok(idx) => assert_eq!(idx, expected, "bit {bit}"),
                    Err(_) => refused += 1,
                }
            }
            // Eight bytes of a member's header (time, flags, system) do not affect the content.
            let least = (whole.len() - 8 * members.len()) * 8;
            assert!(refused >= least, "{refused} of {}", whole.len() * 8);
        }
    }
}
