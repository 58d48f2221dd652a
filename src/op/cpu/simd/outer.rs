//! Products of two tensors of samples side by side, summed over places: gradients by weights.

use pulp::{Arch, Simd, WithSimd};

use super::LANES;

/// Sums `[i, j, lane]` of products of two tensors of samples side by side, one lane for each: what remains to be done is to
/// add up the lanes.
///
/// ```text
/// sums[i, j, lane] += Σ_{p,r} left[p, i, r, lane] · right[p, j, r, lane]
/// ```
///
/// where both sides are read through strides.
#[derive(Debug, Clone, Copy)]
pub struct Outer<'a> {
    /// The outer of the two modes that are summed over.
    pub p: usize,
    /// The inner one.
    pub r: usize,
    /// Number of rows `i`.
    pub rows: usize,
    /// Number of columns `j`.
    pub columns: usize,
    /// The left side.
    pub left: &'a [f32],
    /// Its strides `[i, p, r]`.
    pub left_strides: [usize; 3],
    /// The right side.
    pub right: &'a [f32],
    /// Its strides `[j, p, r]`.
    pub right_strides: [usize; 3],
}

/// Rows and columns of a tile of [`Outer`], whose sums are kept in registers: 16, and 8 operands.
const OUTER: usize = 4;

impl Outer<'_> {
    /// Adds the sums to those that are there.
    pub fn add_to(self, sums: &mut [f32], arch: Arch) {
        let Self { p, r, rows, columns, left, left_strides, right, right_strides } = self;
        if p * r * rows * columns == 0 {
            return;
        }
        let last = |extent: usize, [own, of_p, of_r]: [usize; 3]| {
            (extent - 1) * own + (p - 1) * of_p + (r - 1) * of_r + LANES
        };
        assert!(left.len() >= last(rows, left_strides), "{self:?}");
        assert!(right.len() >= last(columns, right_strides), "{self:?}");
        assert!(sums.len() >= rows * columns * LANES);
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
        let Outer { rows, columns, .. } = self.outer;
        for row in (0..rows).step_by(OUTER) {
            for column in (0..columns).step_by(OUTER) {
                for lane in (0..LANES).step_by(S::F32_LANES) {
                    let wide = columns - column >= OUTER;
                    let rest = if wide { column + 1 } else { columns };
                    for column in column..rest {
                        match (rows - row, wide) {
                            (1, true) => self.tile::<S, 1, OUTER>(simd, row, column, lane),
                            (2, true) => self.tile::<S, 2, OUTER>(simd, row, column, lane),
                            (3, true) => self.tile::<S, 3, OUTER>(simd, row, column, lane),
                            (_, true) => self.tile::<S, OUTER, OUTER>(simd, row, column, lane),
                            (1, false) => self.tile::<S, 1, 1>(simd, row, column, lane),
                            (2, false) => self.tile::<S, 2, 1>(simd, row, column, lane),
                            (3, false) => self.tile::<S, 3, 1>(simd, row, column, lane),
                            (_, false) => self.tile::<S, OUTER, 1>(simd, row, column, lane),
                        }
                    }
                }
            }
        }
    }
}

impl OuterKernel<'_, '_> {
    #[inline(always)]
    fn tile<S: Simd, const I: usize, const J: usize>(
        &mut self,
        simd: S,
        row: usize,
        column: usize,
        lane: usize,
    ) {
        let Outer { p, r, columns, left, left_strides, right, right_strides, .. } = self.outer;
        let ([of_i, left_p, left_r], [of_j, right_p, right_r]) = (left_strides, right_strides);
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
            let left = left.as_ptr().add(row * of_i + lane);
            let right = right.as_ptr().add(column * of_j + lane);
            for p in 0..p {
                let (left, right) = (left.add(p * left_p), right.add(p * right_p));
                for at in 0..r {
                    let (left, right) = (left.add(at * left_r), right.add(at * right_r));
                    let of = |side: *const f32| side.cast::<S::f32s>().read_unaligned();
                    let right: [S::f32s; J] = std::array::from_fn(|j| of(right.add(j * of_j)));
                    for (i, sums) in sums.iter_mut().enumerate() {
                        let left = of(left.add(i * of_i));
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
            [(1, 1, 1, 1), (3, 2, 4, 4), (2, 3, 9, 5), (1, 4, 3, 13), (2, 1, 2, 6)]
        {
            let numbers = |count: usize, first: usize| -> Vec<f32> {
                (first..first + count * LANES).map(|at| ((at * 7919) % 23) as f32 - 11.0).collect()
            };
            let (left, right) = (numbers(p * rows * r, 1), numbers(p * columns * r, 5));
            let before = numbers(rows * columns, 3);
            let strides = |extent: usize| [r * LANES, extent * r * LANES, LANES];
            let outer = Outer {
                p,
                r,
                rows,
                columns,
                left: &left,
                left_strides: strides(rows),
                right: &right,
                right_strides: strides(columns),
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
