//! Where the numbers of an image lie, with sixteen samples side by side, and the sums over the taps of a kernel.

use pulp::Arch;

use crate::mps::conv::Window;
use crate::op::cpu::chain::into_lanes;
use crate::op::cpu::simd::{Gathered, LANES, Outer, Places};

/// Planes of a block of samples: one for each channel, of rows and columns.
#[derive(Clone, Copy)]
pub(super) struct Planes {
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl Planes {
    /// Numbers of a plane, for all lanes.
    pub(super) fn plane(self) -> usize {
        self.rows * self.columns * LANES
    }

    /// Where a place lies in a plane.
    pub(super) fn at(self, row: usize, column: usize) -> usize {
        (row * self.columns + column) * LANES
    }
}

/// What every block needs to know.
pub(super) struct Grid {
    pub(super) window: Window,
    /// The image.
    pub(super) image: Planes,
    /// The image with its padding.
    pub(super) padded: Planes,
    /// The output.
    pub(super) output: Planes,
    /// The gradient by the output as the gradient by the image reads it: as far apart as the stride, with a border of one
    /// kernel less one, so that it is a convolution of stride 1 with the kernel turned around.
    pub(super) spread: Planes,
    pub(super) arch: Arch,
}

impl Grid {
    pub(super) fn new(window: Window) -> Self {
        let ([_, height, width], [kernel_rows, kernel_columns]) = (window.input, window.kernel);
        let (padding, [rows, columns]) = (2 * window.padding, window.output());
        Self {
            window,
            image: Planes { rows: height, columns: width },
            padded: Planes { rows: height + padding, columns: width + padding },
            output: Planes { rows, columns },
            spread: Planes { rows: height + kernel_rows - 1, columns: width + kernel_columns - 1 },
            arch: Arch::new(),
        }
    }

    /// Rows and columns of all taps.
    pub(super) fn taps(&self) -> impl Iterator<Item = [usize; 2]> + use<> {
        let columns = self.window.kernel[1];
        (0..self.window.taps()).map(move |tap| [tap / columns, tap % columns])
    }

    /// The offsets of `count` planes' taps in padded planes, plane by plane.
    pub(super) fn forward_offsets(&self, count: usize) -> Vec<usize> {
        let of_plane = |plane: usize| {
            self.taps()
                .map(move |[row, column]| plane * self.padded.plane() + self.padded.at(row, column))
        };
        (0..count).flat_map(of_plane).collect()
    }

    /// The same of the kernel turned around, in spread planes.
    pub(super) fn backward_offsets(&self, count: usize) -> Vec<usize> {
        let [rows, columns] = self.window.kernel;
        let of_plane = |plane: usize| {
            self.taps().map(move |[row, column]| {
                plane * self.spread.plane() + self.spread.at(rows - 1 - row, columns - 1 - column)
            })
        };
        (0..count).flat_map(of_plane).collect()
    }

    /// A convolution: `out[i, position] = Σ_t left[t, i] planes[offsets[t] + position]`.
    pub(super) fn forward(
        &self,
        left: &[f32],
        offsets: &[usize],
        planes: &[f32],
        rows: usize,
        out: &mut [f32],
    ) {
        let stride = self.window.stride;
        let mode = |extent, right, out| Places { extent, right, out };
        let outer = mode(self.output.rows, self.padded.at(stride, 0), self.output.at(1, 0));
        let inner = mode(self.output.columns, stride * LANES, LANES);
        Gathered { rows, left, offsets, right: planes, outer, inner }.into(
            out,
            self.output.plane(),
            self.arch,
        );
    }

    /// Its transpose: `out[i, place] = Σ_t left[t, i] spread[offsets[t] + place]`, into planes of the image.
    pub(super) fn backward(
        &self,
        left: &[f32],
        offsets: &[usize],
        spread: &[f32],
        rows: usize,
        out: &mut [f32],
    ) {
        let mode = |extent, right, out| Places { extent, right, out };
        let outer = mode(self.image.rows, self.spread.at(1, 0), self.image.at(1, 0));
        let inner = mode(self.image.columns, LANES, LANES);
        Gathered { rows, left, offsets, right: spread, outer, inner }.into(
            out,
            self.image.plane(),
            self.arch,
        );
    }

    /// Adds the gradients by the weights of all taps, the rows `(plane, tap)` as [`Grid::forward_offsets`] has them:
    /// `sums[row, j, lane] += Σ_position planes[position + row] d[j, position]`.
    pub(super) fn tap_grads(
        &self,
        (planes, offsets): (&[f32], &[usize]),
        (d, columns): (&[f32], usize),
        sums: &mut [f32],
    ) {
        let stride = self.window.stride;
        Outer {
            p: self.output.rows,
            r: self.output.columns,
            columns,
            left: planes,
            offsets,
            left_strides: [self.padded.at(stride, 0), stride * LANES],
            right: d,
            right_strides: [self.output.plane(), self.output.at(1, 0), LANES],
        }
        .add_to(sums, self.arch);
    }

    /// Copies planes into larger ones, from a place on, so far apart; what lies between is left.
    fn copy(
        (from, small): (&[f32], Planes),
        (to, large): (&mut [f32], Planes),
        [row, column]: [usize; 2],
        stride: usize,
    ) {
        for (from, to) in from.chunks_exact(small.plane()).zip(to.chunks_exact_mut(large.plane())) {
            for (at, from) in from.chunks_exact(small.at(1, 0)).enumerate() {
                let to = &mut to[large.at(row + at * stride, column)..];
                if stride == 1 {
                    to[..from.len()].copy_from_slice(from);
                    continue;
                }
                let places = to.chunks_mut(stride * LANES).zip(from.chunks_exact(LANES));
                places.for_each(|(to, from)| to[..LANES].copy_from_slice(from));
            }
        }
    }

    /// The images of a block with their padding, which is there from the beginning.
    pub(super) fn pad(&self, x: &[f32], flat: &mut [f32], padded: &mut [f32]) {
        let numbers = self.window.input.iter().product();
        into_lanes(x, numbers, flat, self.arch);
        let padding = self.window.padding;
        let flat = &flat[..numbers * LANES];
        Self::copy((flat, self.image), (padded, self.padded), [padding, padding], 1);
    }

    /// The gradient by the output as [`Grid::backward`] reads it; what lies between is 0 from the beginning.
    pub(super) fn spread(&self, d: &[f32], spread: &mut [f32]) {
        let ([rows, columns], padding) = (self.window.kernel, self.window.padding);
        let begin = [rows - 1 - padding, columns - 1 - padding];
        Self::copy((d, self.output), (spread, self.spread), begin, self.window.stride);
    }
}
