//! Images of a data set as PNG.

use std::io::Cursor;

use image::{ImageFormat, Rgb, RgbImage};

use crate::data::ImageSet;
use crate::{Error, Result};

/// The image with this position in a set, in its own size. Of more than one channel the first three are red, green and
/// blue.
pub fn of(set: &ImageSet, image: usize) -> RgbImage {
    let [channels, height, width] = set.shape;
    let size = height * width;
    let pixels = &set.pixels[image * set.size()..][..set.size()];
    RgbImage::from_fn(width as u32, height as u32, |x, y| {
        let at = y as usize * width + x as usize;
        let channel = |number: usize| pixels[if channels < 3 { at } else { number * size + at }];
        Rgb([channel(0), channel(1), channel(2)])
    })
}

/// Encodes a picture.
///
/// # Errors
///
/// [`Error::Internal`] when the encoder fails.
pub fn png(picture: &RgbImage) -> Result<Vec<u8>> {
    let mut bytes = Cursor::new(Vec::new());
    picture
        .write_to(&mut bytes, ImageFormat::Png)
        .map_err(|error| Error::internal("writing a PNG", error))?;
    Ok(bytes.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_planes_and_grey_has_one() {
        let pixels = (0..24).collect::<Vec<u8>>();
        let color =
            ImageSet { count: 2, shape: [3, 2, 2], pixels: pixels.clone(), labels: vec![0; 2] };
        // The second image begins at 12, its planes are 4 long; x goes to the right.
        assert_eq!(of(&color, 1).get_pixel(1, 0), &Rgb([13, 17, 21]));
        assert_eq!(of(&color, 0).get_pixel(0, 1), &Rgb([2, 6, 10]));
        let grey = ImageSet { count: 4, shape: [1, 2, 3], pixels, labels: vec![0; 4] };
        assert_eq!(of(&grey, 1).dimensions(), (3, 2));
        assert_eq!(of(&grey, 1).get_pixel(2, 1), &Rgb([11; 3]));
    }

    #[test]
    fn a_png_is_read_back_as_it_was() {
        let picture = RgbImage::from_fn(5, 3, |x, y| Rgb([x as u8, y as u8, 200]));
        let read = image::load_from_memory(&png(&picture).unwrap()).unwrap();
        assert_eq!(read.to_rgb8(), picture);
    }
}
