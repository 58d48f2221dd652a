//! Products of two tensors of samples side by side, summed over places: gradients by weights.

use pulp::{Arch, Simd, WithSimd};

use super::LANES;

/// Sums `[i, j, lane]` of products of two tensors of samples side by side, one lane for each: what remains to be done is to
/// add up the lanes.
///
/// ```text
/// sums[i, j, lane] += Σ_{p,r} left[offsets[i], p, r, lane] · right[p, j, r, lane]
/// ```
///
/// where both sides are read through strides.
#[derive(Debug, Clone, Copy)]
pub struct Outer<'a> {
    /// The outer of the two modes that are summed over.
    pub p: usize,
    /// The inner one.
    pub r: usize,
    /// Number of columns `j`.
    pub columns: usize,
    /// The left side.
    pub left: &'a [f32],
    /// Where each of its rows `i` begins. Rows that share cache lines, as the taps of a channel do, belong side by side:
    /// a tile then reads few new ones, and new ones come from the second-level cache, which is what bounds these sums.
    pub offsets: &'a [usize],
    /// The left side's strides `[p, r]`.
    pub left_strides: [usize; 2],
    /// The right side.
    pub right: &'a [f32],
    /// Its strides `[j, p, r]`.
    pub right_strides: [usize; 3],
}

/// Rows of the largest tile, where a processor has 32 registers (24 sums and 5 operands), and where it has 16 (8 and 5).
const ROWS: [usize; 2] = [6, 2];

/// Columns of a tile.
const COLUMNS: usize = 4;

impl Outer<'_> {
    /// Adds the sums to those that are there.
    pub fn add_to(self, sums: &mut [f32], arch: Arch) {
        let Self { p, r, columns, left, offsets, left_strides, right, right_strides } = self;
        let Some(farthest) = offsets.iter().max() else { return };
        if p * r * columns == 0 {
            return;
        }
        let within = |[of_p, of_r]: [usize; 2]| (p - 1) * of_p + (r - 1) * of_r + LANES;
        let [of_j, of_p, of_r] = right_strides;
        assert!(left.len() >= farthest + within(left_strides), "{self:?}");
        assert!(right.len() >= (columns - 1) * of_j + within([of_p, of_r]), "{self:?}");
        assert!(sums.len() >= offsets.len() * columns * LANES);
        arch.dispatch(OuterKernel { outer: self, sums });
    }
}

struct OuterKernel<'a, 'b> {
    outer: Outer<'a>,
    sums: &'b mut [f32],
}

impl WithSimd for OuterKernel<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let rows = self.outer.offsets.len();
        let tile = rows.div_ceil(rows.div_ceil(ROWS[usize::from(S::REGISTER_COUNT < 32)]));
        for row in (0..rows).step_by(tile) {
            match tile.min(rows - row) {
                1 => self.rows::<S, 1>(simd, row),
                2 => self.rows::<S, 2>(simd, row),
                3 => self.rows::<S, 3>(simd, row),
                4 => self.rows::<S, 4>(simd, row),
                5 => self.rows::<S, 5>(simd, row),
                _ => self.rows::<S, 6>(simd, row),
            }
        }
    }
}

impl OuterKernel<'_, '_> {
    /// The tiles of `I` rows.
    #[inline(always)]
    fn rows<S: Simd, const I: usize>(&mut self, simd: S, row: usize) {
        let columns = self.outer.columns;
        for lane in (0..LANES).step_by(S::F32_LANES) {
            for column in (0..columns).step_by(COLUMNS) {
                if columns - column >= COLUMNS {
                    self.tile::<S, I, COLUMNS>(simd, row, column, lane);
                } else {
                    (column..columns).for_each(|column| {
                        self.tile::<S, I, 1>(simd, row, column, lane);
                    });
                }
            }
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const I: usize, const J: usize>(
        &mut self,
        simd: S,
        row: usize,
        column: usize,
        lane: usize,
    ) {
        let Outer { p, r, columns, left, offsets, left_strides, right, right_strides } = self.outer;
        let ([left_p, left_r], [of_j, right_p, right_r]) = (left_strides, right_strides);
        // SAFETY: `Outer::add_to` has asserted that LANES numbers from every index on lie in the two sides, and `[rows, columns]`
        // times LANES in the sums; `row + I` and `column + J` are at most the rows and columns, and `lane` plus a register's
        // lanes at most LANES. The sums are borrowed mutably, so they overlap neither side.
        unsafe {
            let out = self.sums.as_mut_ptr().add((row * columns + column) * LANES + lane);
            let mut sums = [[simd.splat_f32s(0.0); J]; I];
            for (i, sums) in sums.iter_mut().enumerate() {
                for (j, sum) in sums.iter_mut().enumerate() {
                    *sum = out.add((i * columns + j) * LANES).cast::<S::f32s>().read_unaligned();
                }
            }
            let left: [*const f32; I] =
                std::array::from_fn(|i| left.as_ptr().add(offsets[row + i] + lane));
            let right = right.as_ptr().add(column * of_j + lane);
            for p in 0..p {
                for at in 0..r {
                    let right = right.add(p * right_p + at * right_r);
                    let of = |side: *const f32| side.cast::<S::f32s>().read_unaligned();
                    let right: [S::f32s; J] = std::array::from_fn(|j| of(right.add(j * of_j)));
                    for (left, sums) in left.iter().zip(&mut sums) {
                        let left = of(left.add(p * left_p + at * left_r));
                        for (sum, right) in sums.iter_mut().zip(right) {
                            *sum = simd.mul_add_e_f32s(left, right, *sum);
                        }
                    }
                }
            }
            for (i, sums) in sums.iter().enumerate() {
                for (j, sum) in sums.iter().enumerate() {
                    out.add((i * columns + j) * LANES).cast::<S::f32s>().write_unaligned(*sum);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whole tiles and parts of one, against the sums as they are written.
    #[test]
    fn it_is_the_outer_product() {
        for (p, r, rows, columns) in
            [(1, 1, 1, 1), (3, 2, 6, 4), (2, 3, 9, 5), (1, 4, 3, 13), (2, 1, 11, 6)]
        {
            let numbers = |count: usize, first: usize| -> Vec<f32> {
                (first..first + count * LANES).map(|at| ((at * 7919) % 23) as f32 - 11.0).collect()
            };
            let (left, right) = (numbers(p * rows * r, 1), numbers(p * columns * r, 5));
            let before = numbers(rows * columns, 3);
            let offsets: Vec<usize> = (0..rows).map(|row| row * r * LANES).collect();
            let outer = Outer {
                p,
                r,
                columns,
                left: &left,
                offsets: &offsets,
                left_strides: [rows * r * LANES, LANES],
                right: &right,
                right_strides: [r * LANES, columns * r * LANES, LANES],
            };
            for arch in [Arch::Scalar, Arch::new()] {
                let mut sums = before.clone();
                outer.add_to(&mut sums, arch);
                for (at, (got, before)) in sums.iter().zip(&before).enumerate() {
                    let (i, j, lane) = (at / LANES / columns, at / LANES % columns, at % LANES);
                    let mut expected = *before;
                    for p in 0..p {
                        for at in 0..r {
                            expected += left[((p * rows + i) * r + at) * LANES + lane]
                                * right[((p * columns + j) * r + at) * LANES + lane];
                        }
                    }
                    // Whole numbers below 2²⁴: exact in any order.
                    assert_eq!(*got, expected, "{rows} x {columns}: {i}, {j}, {lane}, {arch:?}");
                }
            }
        }
    }
}
