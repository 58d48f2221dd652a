//! A convolution whose weights are two cores (T. Garipov et al. 2016): the extents of its layer, and what follows from them.
//!
//! At every position of the output, the patch of the image under the kernel is a matrix `[channels, taps]`, and the layer of
//! two cores is applied to it:
//!
//! ```text
//! Y[(m n), y, x] = Σ_{j,k,l} A[m,k,j] C[l,k,n] X[j, y·stride + l_y - padding, x·stride + l_x - padding] + B[m,n]
//! ```
//!
//! where `l = (l_y, l_x)` counts the taps row by row, and `X` is 0 outside the image. A dense convolution has one matrix
//! `W[(m n), j, l]` in place of the cores.

pub mod reference;

use serde::{Deserialize, Serialize};

use super::MpsSpec;
use crate::{Error, Result};

/// What is convolved with what, whatever the weights are. All but the padding are at least 1; [`Window::new`] checks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Window {
    /// Shape `[channels, height, width]` of an image.
    pub input: [usize; 3],
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// From one position of the kernel to the next, along both.
    pub stride: usize,
    /// Rows and columns of zeros around the image.
    pub padding: usize,
}

impl Window {
    /// A kernel that fits into the padded image.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] naming `kernel`, `stride` or `padding`.
    pub fn new(
        input: [usize; 3],
        kernel: [usize; 2],
        stride: usize,
        padding: usize,
    ) -> Result<Self> {
        let [_, height, width] = input;
        let [rows, columns] = kernel;
        if kernel.contains(&0) {
            return Err(Error::argument(
                "kernel",
                format!("{rows},{columns}: both must be at least 1"),
            ));
        }
        if stride == 0 {
            return Err(Error::argument("stride", "0: expected at least 1"));
        }
        // A position that sees nothing but zeros is none that anyone wants.
        if padding >= rows.min(columns) {
            let problem = format!(
                "{padding}: expected less than {}, the kernel's smaller side",
                rows.min(columns)
            );
            return Err(Error::argument("padding", problem));
        }
        if rows > height + 2 * padding || columns > width + 2 * padding {
            let problem = format!(
                "{rows},{columns}: expected at most {},{}, the image with its padding",
                height + 2 * padding,
                width + 2 * padding
            );
            return Err(Error::argument("kernel", problem));
        }
        Ok(Self { input, kernel, stride, padding })
    }

    /// Number of taps of the kernel.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Height and width of the output.
    pub fn output(&self) -> [usize; 2] {
        let [_, height, width] = self.input;
        let positions =
            |extent: usize, kernel: usize| (extent + 2 * self.padding - kernel) / self.stride + 1;
        [positions(height, self.kernel[0]), positions(width, self.kernel[1])]
    }

    /// The layer of two cores that is applied to every patch.
    ///
    /// # Errors
    ///
    /// As [`MpsSpec::new`].
    pub fn two_cores(&self, out_factors: [usize; 2], bond: usize) -> Result<MpsSpec> {
        MpsSpec::new([self.input[0], self.taps()], out_factors, bond)
    }

    /// Row and column of the image under a tap, at a position of the output; none outside the image.
    pub fn under(&self, [row, column]: [usize; 2], tap: usize) -> Option<[usize; 2]> {
        let [_, height, width] = self.input;
        let [tap_row, tap_column] = [tap / self.kernel[1], tap % self.kernel[1]];
        let along = |at: usize, tap: usize, extent: usize| {
            (at * self.stride + tap).checked_sub(self.padding).filter(|at| *at < extent)
        };
        Some([along(row, tap_row, height)?, along(column, tap_column, width)?])
    }
}

/// `3x3, stride 1, padding 1`.
impl std::fmt::Display for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ([rows, columns], Self { stride, padding, .. }) = (self.kernel, self);
        write!(f, "{rows}x{columns}, stride {stride}, padding {padding}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_and_taps_are_those_of_the_image() {
        let window = Window::new([8, 14, 10], [3, 5], 1, 1).unwrap();
        assert_eq!((window.output(), window.taps()), ([14, 8], 15));
        assert_eq!(window.under([0, 0], 0), None);
        assert_eq!(window.under([0, 0], 6), Some([0, 0]));
        assert_eq!(window.under([13, 7], 14), None);
        assert_eq!(window.under([13, 7], 8), Some([13, 9]));
        let strided = Window::new([1, 28, 28], [5, 5], 2, 2).unwrap();
        assert_eq!(strided.output(), [14, 14]);
        assert_eq!(strided.under([13, 13], 12), Some([26, 26]));
    }

    #[test]
    fn impossible_windows_name_the_parameter() {
        for (kernel, stride, padding, name) in [
            ([0, 3], 1, 0, "kernel: 0,3: "),
            ([3, 3], 0, 0, "stride: 0: "),
            ([3, 3], 1, 3, "padding: 3: expected less than 3"),
            ([11, 3], 1, 1, "kernel: 11,3: expected at most 10,10"),
        ] {
            let line = Window::new([1, 8, 8], kernel, stride, padding).unwrap_err().to_string();
            assert!(line.starts_with(name), "{line}");
        }
    }
}
