//! The one loop that every contraction of the tiled CPU kernels comes down to: a matrix product whose
//! right side and output have rows of [`LANES`] numbers, accumulated in registers.

use pulp::{Arch, Simd, WithSimd};

use super::LANES;

/// Rows of the output held in registers at once; the largest of [`Product::rows_of`]'s cases.
const MOST_ROWS: usize = 16;

/// Rows of the left side that are addressed from one pointer: as many as an x86 address reaches with the stride, scaled, in
/// one register and three times the stride in another.
const ROWS_PER_BASE: usize = 4;

/// Pointers into the left side.
const BASES: usize = MOST_ROWS / ROWS_PER_BASE;

/// `out[i][..] = start + Σ_p left[p, i] · right[p][..]`, each row of [`LANES`] numbers.
#[derive(Debug, Clone, Copy)]
pub struct Product<'a> {
    /// Number of terms `p`.
    pub terms: usize,
    /// Number of rows `i`.
    pub rows: usize,
    /// The left side's elements.
    pub left: &'a [f32],
    /// Its strides `[p, i]`.
    pub left_strides: [usize; 2],
    /// The right side's rows.
    pub right: &'a [f32],
    /// From one of its rows to the next.
    pub right_stride: usize,
    /// Whether the sums begin with what the output holds, or with nothing.
    pub add: bool,
}

impl Product<'_> {
    /// Computes the product into rows of `out` that are `stride` apart.
    pub fn into(self, out: &mut [f32], stride: usize, arch: Arch) {
        let Self { terms, rows, left, left_strides: [p, i], right, right_stride, .. } = self;
        if rows == 0 || terms == 0 {
            return;
        }
        // The kernel reads and writes through pointers; this is what makes that sound.
        assert!(left.len() > (terms - 1) * p + (rows - 1) * i, "{self:?}");
        assert!(right.len() >= (terms - 1) * right_stride + LANES, "{self:?}");
        assert!(out.len() >= (rows - 1) * stride + LANES && stride >= LANES, "{self:?}");
        arch.dispatch(Kernel { product: self, out, stride });
    }
}

struct Kernel<'a, 'b> {
    product: Product<'a>,
    out: &'b mut [f32],
    stride: usize,
}

impl WithSimd for Kernel<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let rows = self.product.rows;
        // One register holds a row of the right side, one a number of the left.
        let most = MOST_ROWS.min(S::REGISTER_COUNT - 3);
        let tile = rows.div_ceil(rows.div_ceil(most));
        let mut row = 0;
        while row < rows {
            let count = tile.min(rows - row);
            for column in (0..LANES).step_by(S::F32_LANES) {
                self.rows_of(simd, count, row, column);
            }
            row += count;
        }
    }
}

impl Kernel<'_, '_> {
    /// `count` rows from `row` on, as many columns from `column` on as a register has lanes.
    #[inline(always)]
    fn rows_of<S: Simd>(&mut self, simd: S, count: usize, row: usize, column: usize) {
        macro_rules! cases {
            ($($rows:literal)*) => {
                match count {
                    $($rows => self.tile::<S, $rows>(simd, row, column),)*
                    _ => unreachable!("a tile has 1 to {MOST_ROWS} rows"),
                }
            };
        }
        cases!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16);
    }

    #[inline(always)]
    fn tile<S: Simd, const R: usize>(&mut self, simd: S, row: usize, column: usize) {
        let Product { terms, left, left_strides: [p, i], right, right_stride, add, .. } =
            self.product;
        // SAFETY: `Product::into` has asserted that every `left[p, i]`, and LANES numbers from the
        // beginning of every row of `right` and `out`, lie inside their slices; `row + R` is at
        // most the number of rows, and `column` plus a register's lanes at most LANES. `out` is
        // borrowed mutably, so it overlaps neither side.
        unsafe {
            let out = self.out.as_mut_ptr().add(row * self.stride + column);
            let mut sums = [simd.splat_f32s(0.0); R];
            if add {
                for (at, sum) in sums.iter_mut().enumerate() {
                    *sum = out.add(at * self.stride).cast::<S::f32s>().read_unaligned();
                }
            }
            let left = left.as_ptr().add(row * i);
            let mut bases =
                std::array::from_fn::<_, BASES, _>(|at| left.wrapping_add(at * ROWS_PER_BASE * i));
            let mut right = right.as_ptr().add(column);
            for _ in 0..terms {
                let vector = right.cast::<S::f32s>().read_unaligned();
                for (at, sum) in sums.iter_mut().enumerate() {
                    let number = *bases[at / ROWS_PER_BASE].add(at % ROWS_PER_BASE * i);
                    *sum = simd.mul_add_e_f32s(simd.splat_f32s(number), vector, *sum);
                }
                for base in &mut bases {
                    *base = opaque(base.wrapping_add(p));
                }
                right = right.wrapping_add(right_stride);
            }
            for (at, sum) in sums.iter().enumerate() {
                out.add(at * self.stride).cast::<S::f32s>().write_unaligned(*sum);
            }
        }
    }
}

/// The same pointer, about which the compiler knows nothing.
///
/// Otherwise it derives all rows from one pointer: by a chain of additions, which takes as many cycles per term as there
/// are rows, where the products take half, or by offsets of which most are spilled. With a chain, training of `mps-all`
/// at bond 4 was 1.35 times slower on two cores of a Xeon with AVX-512 (medians of three rounds in turn).
#[inline(always)]
fn opaque(pointer: *const f32) -> *const f32 {
    #[cfg(target_arch = "x86_64")]
    {
        let mut pointer = pointer;
        #[expect(clippy::pointers_in_nomem_asm_block, reason = "there is no instruction in it")]
        // SAFETY: no instruction.
        unsafe {
            std::arch::asm!("/* {0} */", inout(reg) pointer, options(pure, nomem, nostack, preserves_flags));
        }
        pointer
    }
    #[cfg(not(target_arch = "x86_64"))]
    pointer
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the sum as it is written, for every number of rows and on every kind of register
    /// that this processor has.
    #[test]
    fn it_is_the_product() {
        for rows in 1..=40 {
            for (terms, p, i, add) in [(1, 1, 1, false), (5, 1, 9, true), (28, 45, 1, false)] {
                let number = |at: usize| ((at * 7919) % 23) as f32 - 11.0;
                let left: Vec<f32> =
                    (0..(terms - 1) * p + (rows - 1) * i + 1).map(number).collect();
                let right: Vec<f32> = (3..3 + terms * 20).map(number).collect();
                let before: Vec<f32> = (1..1 + rows * 19).map(number).collect();
                let product = Product {
                    terms,
                    rows,
                    left: &left,
                    left_strides: [p, i],
                    right: &right,
                    right_stride: 20,
                    add,
                };
                for arch in [Arch::Scalar, Arch::new()] {
                    let mut out = before.clone();
                    product.into(&mut out, 19, arch);
                    for (at, (got, before)) in out.iter().zip(&before).enumerate() {
                        let (row, lane) = (at / 19, at % 19);
                        let terms =
                            (0..terms).map(|t| left[t * p + row * i] * right[t * 20 + lane]);
                        let expected = match (lane < LANES, add) {
                            (true, true) => before + terms.sum::<f32>(),
                            (true, false) => terms.sum(),
                            (false, _) => *before,
                        };
                        // Whole numbers below 2²⁴: exact in any order.
                        assert_eq!(*got, expected, "{rows} rows, row {row}, lane {lane}, {arch:?}");
                    }
                }
            }
        }
    }
}
