//! A data set that stays on the device, so that a training step copies nothing there.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use super::ImageSet;
use crate::Result;
use crate::op::training::{PIXELS_A_WORD, gather_images, integers_of};

/// The images, four numbers per word, and the labels of an [`ImageSet`] on a device.
#[derive(Debug)]
pub struct Resident {
    /// Number of images.
    pub count: usize,
    /// Numbers of one image, those of all channels.
    pub pixels: usize,
    images: Tensor<2, Int>,
    labels: Tensor<1, Int>,
}

impl Resident {
    /// Copies a set to `device`.
    pub fn new(set: &ImageSet, device: &Device) -> Self {
        let (count, pixels) = (set.count, set.size());
        let words = pixels.div_ceil(PIXELS_A_WORD);
        let mut images = Vec::with_capacity(count * words);
        for image in set.pixels.chunks_exact(pixels) {
            images.extend(image.chunks(PIXELS_A_WORD).map(|grey| {
                let mut word = [0; PIXELS_A_WORD];
                word[..grey.len()].copy_from_slice(grey);
                i32::from_le_bytes(word)
            }));
        }
        let labels: Vec<i32> = set.labels.iter().map(|&label| label.into()).collect();
        Self {
            count,
            pixels,
            images: integers(images, [count, words], device),
            labels: integers(labels, [count], device),
        }
    }

    /// The images `[batch, pixels]` with these indices, scaled to `[0, 1]`.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Shape`] or [`crate::Error::ElementType`] when `order` holds no i32 numbers.
    pub fn gather(&self, order: Tensor<1, Int>) -> Result<Tensor<2>> {
        gather_images(self.images.clone(), order, self.pixels)
    }

    /// The label of every image.
    pub fn labels(&self) -> Tensor<1, Int> {
        self.labels.clone()
    }
}

/// Image indices as a tensor on the device, the form that [`Resident::gather`] takes.
pub fn order(indices: &[u32], device: &Device) -> Tensor<1, Int> {
    let indices: Vec<i32> = indices.iter().map(|&index| index as i32).collect();
    let count = indices.len();
    integers(indices, [count], device)
}

/// `count` whole numbers of a tensor from `begin` on, which are not copied.
///
/// # Errors
///
/// [`crate::Error::Shape`] when there are not as many.
pub fn part(numbers: &Tensor<1, Int>, begin: usize, count: usize) -> Result<Tensor<1, Int>> {
    integers_of(numbers, begin, count)
}

fn integers<const D: usize>(
    values: Vec<i32>,
    shape: [usize; D],
    device: &Device,
) -> Tensor<D, Int> {
    Tensor::from_data(TensorData::new(values, shape), (device, DType::I32))
}
