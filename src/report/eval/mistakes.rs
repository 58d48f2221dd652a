//! `mistakes.png`: the worst mistakes, each with its image and what it was taken for.

use std::convert::Infallible;

use embedded_graphics::draw_target::DrawTarget;
use embedded_graphics::geometry::{OriginDimensions, Point, Size};
use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::iso_8859_1::FONT_6X13;
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};
use embedded_graphics::text::{Baseline, Text};
use embedded_graphics::{Drawable, Pixel};
use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};

use super::super::classification::{Classification, Mistake};
use super::super::table::thousands;
use super::picture;
use crate::Result;
use crate::data::ImageSet;

/// Most mistakes that are shown.
pub const SHOWN: usize = 40;

const COLUMNS: usize = 8;

/// Width and height of a letter.
const LETTER: [usize; 2] = [6, 13];

/// Letters in a line below an image.
const LETTERS: usize = 26;

/// Lines below an image.
const LINES: usize = 3;

/// Distance of two images, and of an image from its text.
const GAP: usize = 14;
const TEXT_GAP: usize = 4;

/// Images grow to at most [`GROWN`] pixels, by whole factors; those beyond [`LARGE`] shrink to it.
const GROWN: usize = 112;
const LARGE: usize = 224;

/// The sheet: black letters on white paper.
struct Sheet(RgbImage);

impl OriginDimensions for Sheet {
    fn size(&self) -> Size {
        Size::new(self.0.width(), self.0.height())
    }
}

impl DrawTarget for Sheet {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<Pixels>(&mut self, pixels: Pixels) -> Result<(), Infallible>
    where
        Pixels: IntoIterator<Item = Pixel<Rgb888>>,
    {
        for Pixel(Point { x, y }, color) in pixels {
            let place = u32::try_from(x).ok().zip(u32::try_from(y).ok());
            if let Some(pixel) = place.and_then(|(x, y)| self.0.get_pixel_mut_checked(x, y)) {
                *pixel = Rgb([color.r(), color.g(), color.b()]);
            }
        }
        Ok(())
    }
}

impl Sheet {
    fn write(&mut self, text: &str, [x, y]: [usize; 2]) {
        let style = MonoTextStyle::new(&FONT_6X13, Rgb888::BLACK);
        let text = Text::with_baseline(text, Point::new(x as i32, y as i32), style, Baseline::Top);
        let Ok(_) = text.draw(self);
    }
}

/// Draws the sheet and encodes it as PNG.
///
/// # Errors
///
/// [`crate::Error::Internal`] when it cannot be encoded.
pub fn sheet(names: &[String], set: &ImageSet, found: &Classification) -> Result<Vec<u8>> {
    let all = found.mistakes.len();
    let shown = &found.mistakes[..all.min(SHOWN)];
    let heading = match all {
        0 => "no image was taken for another class".to_owned(),
        _ => format!(
            "{} of {} mistakes: wrong answers with the highest probability",
            shown.len(),
            thousands(all)
        ),
    };
    let [width, height] = size(set.shape);
    let cell_width = width.max(LETTERS * LETTER[0]) + GAP;
    let cell_height = height + TEXT_GAP + LINES * LETTER[1] + GAP;
    let columns = shown.len().clamp(1, COLUMNS);
    let top = 2 * GAP + LETTER[1];
    let sheet_width = (GAP + columns * cell_width).max(2 * GAP + heading.len() * LETTER[0]);
    let sheet_height = top + shown.len().div_ceil(COLUMNS) * cell_height;
    let paper = RgbImage::from_pixel(sheet_width as u32, sheet_height as u32, Rgb([255; 3]));
    let mut sheet = Sheet(paper);
    sheet.write(&heading, [GAP, GAP]);
    for (at, mistake) in shown.iter().enumerate() {
        let x = GAP + at % COLUMNS * cell_width;
        let y = top + at / COLUMNS * cell_height;
        let small = picture::of(set, mistake.image);
        let large = imageops::resize(&small, width as u32, height as u32, FilterType::Nearest);
        imageops::replace(&mut sheet.0, &large, x as i64, y as i64);
        for (line, text) in lines(names, mistake).iter().enumerate() {
            sheet.write(text, [x, y + height + TEXT_GAP + line * LETTER[1]]);
        }
    }
    picture::png(&sheet.0)
}

/// Width and height at which an image is shown.
fn size([_, height, width]: [usize; 3]) -> [usize; 2] {
    let longest = width.max(height).max(1);
    [width, height].map(|extent| match longest {
        _ if longest <= GROWN => extent * (GROWN / longest),
        _ if longest <= LARGE => extent,
        _ => (extent * LARGE / longest).max(1),
    })
}

/// What is written below an image.
fn lines(names: &[String], mistake: &Mistake) -> [String; LINES] {
    let Mistake { image, class, predicted, probability } = *mistake;
    [
        fitted(&format!("#{image}  {probability:.4}")),
        fitted(&format!("true: {}", latin(&names[class], class))),
        fitted(&format!("pred: {}", latin(&names[predicted], predicted))),
    ]
}

/// A name that the letters of the sheet, those of ISO 8859-1, can write; the number of the class for others.
fn latin(name: &str, class: usize) -> String {
    let is_known = |character: char| matches!(character, ' '..='~' | '\u{a1}'..='\u{ff}');
    match name.chars().all(|character| is_known(character) && character != '\u{ad}') {
        true => name.to_owned(),
        false => format!("class {class}"),
    }
}

/// A text in one line below an image: what is too long ends with two dots, since the letters have no ellipsis.
fn fitted(text: &str) -> String {
    if text.chars().count() <= LETTERS {
        return text.to_owned();
    }
    let begin: String = text.chars().take(LETTERS - 2).collect();
    format!("{}..", begin.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Prediction;

    #[test]
    fn images_grow_by_whole_factors_and_large_ones_shrink() {
        for (shape, expected) in [
            ([1, 28, 28], [112, 112]),
            ([1, 8, 8], [112, 112]),
            ([3, 32, 24], [72, 96]),
            ([1, 200, 100], [100, 200]),
            ([3, 448, 448], [224, 224]),
            ([1, 1, 784], [224, 1]),
        ] {
            assert_eq!(size(shape), expected, "{shape:?}");
        }
    }

    #[test]
    fn a_line_fits_below_its_image() {
        let names = ["Trouser", "a rather long name of a class", "Größe", "猫", "soft\u{ad}"]
            .map(str::to_owned);
        let of = |class, predicted| {
            lines(&names, &Mistake { image: 9999, class, predicted, probability: 0.99996 })
        };
        assert_eq!(of(0, 1), ["#9999  1.0000", "true: Trouser", "pred: a rather long name.."]);
        assert_eq!(of(2, 3)[1..], ["true: Größe", "pred: class 3"]);
        assert_eq!(of(4, 0)[1], "true: class 4");
        assert!(of(1, 1).iter().all(|line| line.chars().count() <= LETTERS));
    }

    /// The sheet of nine mistakes, decoded: the first image stands where it should in whole squares, its text is below it,
    /// and the gap between two cells is white.
    #[test]
    fn a_sheet_has_its_images_and_texts_in_their_places() {
        let pixels: Vec<u8> = (0..10 * 784).map(|at| (at % 251) as u8).collect();
        let set = ImageSet { count: 10, shape: [1, 28, 28], pixels, labels: vec![0; 10] };
        let answers: Vec<Prediction> = (0..10)
            .map(|image| Prediction { class: usize::from(image != 4), probability: 0.5 })
            .collect();
        let found = Classification::new(&set.labels, &answers, 2).unwrap();
        let long = "a name of a class that is longer than its image is wide".to_owned();
        let png = sheet(&[long.clone(), long], &set, &found).unwrap();
        let sheet = image::load_from_memory(&png).unwrap().to_rgb8();
        let (cell_width, cell_height) = (170, 112 + 4 + 39 + 14);
        assert_eq!(sheet.dimensions(), (14 + 8 * cell_width, 41 + 2 * cell_height));
        for (x, y) in [(0, 0), (27, 27), (13, 5)] {
            let grey = set.pixels[y * 28 + x];
            for (dx, dy) in [(0, 0), (3, 3)] {
                let place = [14 + 4 * x + dx, 41 + 4 * y + dy].map(|place| place as u32);
                assert_eq!(sheet.get_pixel(place[0], place[1]), &Rgb([grey; 3]));
            }
        }
        let dark = |x: std::ops::Range<u32>, y: std::ops::Range<u32>| {
            let pixels = x.flat_map(|x| y.clone().map(move |y| (x, y)));
            pixels.filter(|&(x, y)| sheet.get_pixel(x, y)[0] < 128).count()
        };
        for line in 0..3 {
            let top = 41 + 112 + 4 + 13 * line;
            assert!(dark(14..14 + 156, top..top + 13) > 20, "line {line} is empty");
        }
        assert_eq!(dark(14 + 156..14 + cell_width, 41..41 + cell_height), 0);
        assert_eq!(dark(14..14 + cell_width, 41 + cell_height - 14..41 + cell_height), 0);
        // The ninth begins the second row, which has no second cell.
        assert!(dark(14..126, 41 + cell_height..41 + cell_height + 112) > 100);
        assert_eq!(
            dark(14 + cell_width..14 + 2 * cell_width, 41 + cell_height..41 + 2 * cell_height),
            0
        );
    }

    #[test]
    fn no_mistake_is_a_sheet_too() {
        let set = ImageSet { count: 1, shape: [1, 2, 2], pixels: vec![0; 4], labels: vec![0] };
        let answer = Prediction { class: 0, probability: 1.0 };
        let found = Classification::new(&set.labels, &[answer], 1).unwrap();
        let png = sheet(&["a".to_owned()], &set, &found).unwrap();
        let sheet = image::load_from_memory(&png).unwrap();
        assert_eq!((sheet.width(), sheet.height()), (28 + 36 * 6, 41));
    }
}
