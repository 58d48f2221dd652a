//! Pooling on the CPU: channel by channel, with [`LANES`] samples side by side, so that any kernel and any stride is a pass over
//! whole registers.

use std::mem::MaybeUninit;

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use pulp::{Arch, Simd, WithSimd};

use crate::mps::conv::Window;
use crate::op::conv::{Pool, PoolOps};
use crate::op::cpu::simd::{LANES, Transpose};
use crate::op::cpu::{contiguous, filled, pool as threads, tensor, values};

/// The numbers of one register's worth of samples.
type Lanes = [f32; LANES];

/// Where the numbers under a kernel lie in a channel.
pub(super) struct Grid {
    window: Window,
    mean: bool,
    /// The offset of each tap.
    offsets: Vec<usize>,
    /// Where the kernel begins, at every position.
    begins: Vec<usize>,
    /// Whether every number of the image lies under the kernel once.
    divides: bool,
    arch: Arch,
}

impl Grid {
    pub(super) fn new(Pool { window, mean }: Pool) -> Self {
        let ([_, _, width], [rows, columns]) = (window.input, window.output());
        let [kernel_rows, kernel_columns] = window.kernel;
        let places = |rows: usize, columns: usize, step: usize| {
            let row = move |row| (0..columns).map(move |column| (row * width + column) * step);
            (0..rows).flat_map(row).collect()
        };
        let offsets = places(kernel_rows, kernel_columns, 1);
        let begins = places(rows, columns, window.stride);
        let divides = window.kernel == [window.stride; 2]
            && window.input[1..] == [rows, columns].map(|extent| extent * window.stride);
        Self { window, mean, offsets, begins, divides, arch: Arch::new() }
    }

    fn channels(&self) -> usize {
        self.window.input[0]
    }

    /// Numbers of a channel of the input.
    fn plane(&self) -> usize {
        let [_, height, width] = self.window.input;
        height * width
    }

    /// Numbers of a sample: of the input, and of the output.
    fn numbers(&self) -> [usize; 2] {
        [self.plane(), self.begins.len()].map(|of_channel| self.channels() * of_channel)
    }

    /// What is taken of all channels of [`LANES`] samples side by side.
    pub(super) fn forward(&self, x: &[f32], y: &mut [f32]) {
        let [plane, positions] = [self.plane(), self.begins.len()].map(|count| count * LANES);
        for (x, y) in x.chunks_exact(plane).zip(y.chunks_exact_mut(positions)) {
            let (x, y) = (x.as_chunks().0, y.as_chunks_mut().0);
            self.arch.dispatch(Forward { grid: self, x, y });
        }
    }

    /// Its gradient.
    pub(super) fn backward(&self, x: &[f32], grad_y: &[f32], grad_x: &mut [f32]) {
        let [plane, positions] = [self.plane(), self.begins.len()].map(|count| count * LANES);
        let of_y = grad_y.chunks_exact(positions);
        for ((x, grad_y), grad_x) in
            x.chunks_exact(plane).zip(of_y).zip(grad_x.chunks_exact_mut(plane))
        {
            let (x, grad_y, grad_x) =
                (x.as_chunks().0, grad_y.as_chunks().0, grad_x.as_chunks_mut().0);
            self.arch.dispatch(Backward { grid: self, x, grad_y, grad_x });
        }
    }

    /// A channel of some samples, side by side; what lies in the lanes of no sample is never looked at.
    fn load(&self, rows: &[f32], channel: usize, lanes: &mut [Lanes]) {
        let (columns, stride) = (lanes.len(), self.channels() * lanes.len());
        Transpose {
            elements: &rows[channel * columns..],
            rows: rows.len() / stride,
            columns,
            stride,
        }
        .into(lanes.as_flattened_mut(), LANES, self.arch);
    }

    /// Puts a channel where it belongs in the rows of some samples.
    fn store(&self, lanes: &[Lanes], channel: usize, rows: &mut [MaybeUninit<f32>]) {
        let (count, stride) = (lanes.len(), self.channels() * lanes.len());
        let columns = rows.len() / stride;
        Transpose { elements: lanes.as_flattened(), rows: count, columns, stride: LANES }
            .into_uninit(&mut rows[channel * count..], stride, self.arch);
    }
}

/// A channel of [`LANES`] samples.
struct Forward<'a> {
    grid: &'a Grid,
    x: &'a [Lanes],
    y: &'a mut [Lanes],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let Self { grid: Grid { mean, offsets, begins, .. }, x, y } = self;
        let scale = 1.0 / offsets.len() as f32;
        for (y, &begin) in y.iter_mut().zip(begins) {
            let mut taken = x[begin];
            for offset in &offsets[1..] {
                for (taken, number) in taken.iter_mut().zip(&x[begin + offset]) {
                    *taken = match *mean {
                        true => *taken + number,
                        false if *number > *taken => *number,
                        false => *taken,
                    };
                }
            }
            if *mean {
                taken.iter_mut().for_each(|sum| *sum *= scale);
            }
            *y = taken;
        }
    }
}

/// Its gradient. The first of the largest numbers gets that of a maximum.
struct Backward<'a> {
    grid: &'a Grid,
    x: &'a [Lanes],
    grad_y: &'a [Lanes],
    grad_x: &'a mut [Lanes],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { grid: Grid { mean, offsets, begins, divides, .. }, x, grad_y, grad_x } = self;
        let scale = 1.0 / offsets.len() as f32;
        // Where each number has one gradient, that is written and not added.
        let only = *divides && !mean;
        if !only {
            grad_x.fill([0.0; LANES]);
        }
        for (grad_y, &begin) in grad_y.iter().zip(begins) {
            if *mean {
                for offset in offsets {
                    let to = grad_x[begin + offset].iter_mut().zip(grad_y);
                    to.for_each(|(to, grad)| *to += grad * scale);
                }
                continue;
            }
            // Written with the registers by name: the compiler makes no vectors of comparisons that choose numbers, and took
            // seven times as long.
            for at in 0..LANES / S::F32_LANES {
                let of = |lanes: &Lanes| S::as_simd_f32s(lanes).0[at];
                let (mut largest, mut first) = (of(&x[begin]), simd.splat_f32s(0.0));
                for (tap, offset) in offsets.iter().enumerate().skip(1) {
                    let number = of(&x[begin + offset]);
                    let larger = simd.greater_than_f32s(number, largest);
                    largest = simd.select_f32s(larger, number, largest);
                    first = simd.select_f32s(larger, simd.splat_f32s(tap as f32), first);
                }
                for (tap, offset) in offsets.iter().enumerate() {
                    let to = &mut S::as_mut_simd_f32s(&mut grad_x[begin + offset]).0[at];
                    let is_first = simd.equal_f32s(first, simd.splat_f32s(tap as f32));
                    let grad = simd.select_f32s(is_first, of(grad_y), simd.splat_f32s(0.0));
                    *to = if only { grad } else { simd.add_f32s(*to, grad) };
                }
            }
        }
    }
}

impl PoolOps for Flex {
    fn pool(x: FlexTensor, pool: Pool) -> FlexTensor {
        let x = contiguous(x);
        let (x, grid) = (values::<f32>(&x), Grid::new(pool));
        let [inputs, outputs] = grid.numbers();
        let batch = x.len() / inputs;
        let all = |y: &mut [MaybeUninit<f32>]| {
            let blocks = x.chunks(LANES * inputs).zip(y.chunks_mut(LANES * outputs));
            let lanes = || [grid.plane(), grid.begins.len()].map(|count| vec![[0.0; LANES]; count]);
            threads::for_each_with(blocks, lanes, |[of_x, of_y], (x, y)| {
                for channel in 0..grid.channels() {
                    grid.load(x, channel, of_x);
                    grid.arch.dispatch(Forward { grid: &grid, x: of_x, y: of_y });
                    grid.store(of_y, channel, y);
                }
            });
        };
        // SAFETY: every block is written whole, a channel after the other.
        tensor(unsafe { filled(batch * outputs, all) }, [batch, outputs])
    }

    fn pool_grad(x: FlexTensor, grad_y: FlexTensor, pool: Pool) -> FlexTensor {
        let [x, grad_y] = [x, grad_y].map(contiguous);
        let [x, grad_y] = [&x, &grad_y].map(values::<f32>);
        let grid = Grid::new(pool);
        let [inputs, outputs] = grid.numbers();
        let batch = x.len() / inputs;
        let all = |grad_x: &mut [MaybeUninit<f32>]| {
            let blocks = x
                .chunks(LANES * inputs)
                .zip(grad_y.chunks(LANES * outputs))
                .zip(grad_x.chunks_mut(LANES * inputs));
            let lanes = || {
                let (plane, positions) = (grid.plane(), grid.begins.len());
                [plane, positions, plane].map(|count| vec![[0.0; LANES]; count])
            };
            threads::for_each_with(blocks, lanes, |[of_x, of_y, to], ((x, grad_y), grad_x)| {
                for channel in 0..grid.channels() {
                    grid.load(x, channel, of_x);
                    grid.load(grad_y, channel, of_y);
                    let (grid, x, grad_y) = (&grid, &of_x[..], &of_y[..]);
                    grid.arch.dispatch(Backward { grid, x, grad_y, grad_x: to });
                    grid.store(to, channel, grad_x);
                }
            });
        };
        // SAFETY: every block is written whole, a channel after the other.
        tensor(unsafe { filled(batch * inputs, all) }, [batch, inputs])
    }
}
