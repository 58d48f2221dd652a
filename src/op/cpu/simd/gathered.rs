//! Convolutions of samples side by side.

use pulp::{Arch, Simd, WithSimd};

use super::LANES;

/// Sums at neighbouring places of a tensor whose rows have [`LANES`] numbers: a convolution, of which every term lies at its own
/// offset.
///
/// ```text
/// out[i, place] = start + Σ_t left[t, i] · right[offsets[t] + place · step]
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Gathered<'a> {
    /// Number of rows `i`.
    pub rows: usize,
    /// The left side, `[t, i]`, row-major.
    pub left: &'a [f32],
    /// Where the terms lie for the first place.
    pub offsets: &'a [usize],
    /// The right side.
    pub right: &'a [f32],
    /// From one place to the next in the right side.
    pub step: usize,
    /// Number of places.
    pub places: usize,
    /// Whether the sums begin with what the output holds, or with nothing.
    pub add: bool,
}

/// Sums that are held in registers at once, where a processor has 32 of them; half as many where it has 16.
const SUMS: usize = 24;

impl Gathered<'_> {
    /// Computes the sums into rows of `out` that are `stride` apart; its places follow each other.
    pub fn into(self, out: &mut [f32], stride: usize, arch: Arch) {
        let Self { rows, left, offsets, right, step, places, .. } = self;
        if rows == 0 || places == 0 {
            return;
        }
        let farthest = offsets.iter().max().copied().unwrap_or_default();
        assert!(left.len() >= offsets.len() * rows, "{} terms, {rows} rows", offsets.len());
        assert!(right.len() >= farthest + (places - 1) * step + LANES, "{farthest} + {places}");
        assert!(out.len() >= (rows - 1) * stride + places * LANES && stride >= places * LANES);
        arch.dispatch(GatheredKernel { gathered: self, out, stride });
    }
}

struct GatheredKernel<'a, 'b> {
    gathered: Gathered<'a>,
    out: &'b mut [f32],
    stride: usize,
}

impl WithSimd for GatheredKernel<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        let Gathered { rows, places, .. } = self.gathered;
        let sums = if S::REGISTER_COUNT >= 32 { SUMS } else { SUMS / 2 };
        // Few rows leave room for more places, which share what is loaded of the left side.
        let wide = if rows * 4 <= sums { 4 } else { 2 };
        let tile = rows.div_ceil(rows.div_ceil(sums / wide));
        for row in (0..rows).step_by(tile) {
            let count = tile.min(rows - row);
            let mut place = 0;
            while place < places {
                let width = match places - place {
                    4.. if wide == 4 => 4,
                    2.. => 2,
                    _ => 1,
                };
                for lane in (0..LANES).step_by(S::F32_LANES) {
                    self.rows_of(simd, count, width, [row, place, lane]);
                }
                place += width;
            }
        }
    }
}

impl GatheredKernel<'_, '_> {
    #[inline(always)]
    fn rows_of<S: Simd>(&mut self, simd: S, rows: usize, width: usize, at: [usize; 3]) {
        macro_rules! cases {
            ($($rows:literal)*) => {
                match (rows, width) {
                    $(
                        ($rows, 1) => self.tile::<S, $rows, 1>(simd, at),
                        ($rows, 2) => self.tile::<S, $rows, 2>(simd, at),
                    )*
                    (1, 4) => self.tile::<S, 1, 4>(simd, at),
                    (2, 4) => self.tile::<S, 2, 4>(simd, at),
                    (3, 4) => self.tile::<S, 3, 4>(simd, at),
                    (4, 4) => self.tile::<S, 4, 4>(simd, at),
                    (5, 4) => self.tile::<S, 5, 4>(simd, at),
                    (6, 4) => self.tile::<S, 6, 4>(simd, at),
                    _ => unreachable!("a tile has at most {SUMS} sums"),
                }
            };
        }
        cases!(1 2 3 4 5 6 7 8 9 10 11 12);
    }

    #[inline(always)]
    fn tile<S: Simd, const R: usize, const P: usize>(
        &mut self,
        simd: S,
        [row, place, lane]: [usize; 3],
    ) {
        let Gathered { rows, left, offsets, right, step, add, .. } = self.gathered;
        // SAFETY: `Gathered::into` has asserted that `[terms, rows]` numbers lie in the left side, that LANES numbers from every
        // offset and every place on lie in the right side, and as many in every row and place of the output; `row + R` and
        // `place + P` are at most the rows and places, and `lane` plus a register's lanes at most LANES. The output is borrowed
        // mutably, so it overlaps neither side.
        unsafe {
            let out = self.out.as_mut_ptr().add(row * self.stride + place * LANES + lane);
            let mut sums = [[simd.splat_f32s(0.0); P]; R];
            if add {
                for (i, sums) in sums.iter_mut().enumerate() {
                    for (p, sum) in sums.iter_mut().enumerate() {
                        *sum =
                            out.add(i * self.stride + p * LANES).cast::<S::f32s>().read_unaligned();
                    }
                }
            }
            let right = right.as_ptr().add(place * step + lane);
            let mut left = left.as_ptr().add(row);
            for &offset in offsets {
                let from = right.add(offset);
                let vectors: [S::f32s; P] =
                    std::array::from_fn(|p| from.add(p * step).cast::<S::f32s>().read_unaligned());
                for (i, sums) in sums.iter_mut().enumerate() {
                    let number = simd.splat_f32s(*left.add(i));
                    for (sum, vector) in sums.iter_mut().zip(vectors) {
                        *sum = simd.mul_add_e_f32s(number, vector, *sum);
                    }
                }
                left = left.wrapping_add(rows);
            }
            for (i, sums) in sums.iter().enumerate() {
                for (p, sum) in sums.iter().enumerate() {
                    out.add(i * self.stride + p * LANES).cast::<S::f32s>().write_unaligned(*sum);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every number of rows and of places, against the sums as they are written.
    #[test]
    fn gathered_sums_are_the_sums() {
        for (rows, places, step, add) in
            (1..=25).flat_map(|rows| [(rows, 1, LANES, false), (rows, 7, 2 * LANES, true)])
        {
            let number = |at: usize| ((at * 7919) % 23) as f32 - 11.0;
            let offsets = [3, 0, 3 * LANES + 1, 40];
            let left: Vec<f32> = (0..4 * rows).map(number).collect();
            let right: Vec<f32> = (5..5 + 3 * LANES + 1 + 6 * step + LANES).map(number).collect();
            let stride = places * LANES + 3;
            let before: Vec<f32> = (1..1 + rows * stride).map(number).collect();
            for arch in [Arch::Scalar, Arch::new()] {
                let mut out = before.clone();
                let (left, offsets, right) = (&left[..], &offsets[..], &right[..]);
                Gathered { rows, left, offsets, right, step, places, add }
                    .into(&mut out, stride, arch);
                for (at, (got, before)) in out.iter().zip(&before).enumerate() {
                    let (row, rest) = (at / stride, at % stride);
                    let (place, lane) = (rest / LANES, rest % LANES);
                    let terms = offsets.iter().enumerate();
                    let sum: f32 = terms
                        .map(|(t, offset)| {
                            left[t * rows + row]
                                * right
                                    .get(offset + place * step + lane)
                                    .copied()
                                    .unwrap_or_default()
                        })
                        .sum();
                    let expected = match (place < places, add) {
                        (true, true) => before + sum,
                        (true, false) => sum,
                        (false, _) => *before,
                    };
                    // Whole numbers below 2²⁴: exact in any order.
                    assert_eq!(*got, expected, "{rows} rows, {row}, {place}, {lane}, {arch:?}");
                }
            }
        }
    }
}
