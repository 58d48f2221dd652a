//! Convolutions of samples side by side.

use pulp::{Arch, Simd, WithSimd};

use super::LANES;

/// Sums at the places of a tensor whose rows have [`LANES`] numbers, of which every term lies at its own offset: a convolution,
/// or a core that is contracted with one mode of a tensor.
///
/// ```text
/// out[i, place] = Σ_t left[t, i] · right[offsets[t] + place]
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
    /// The outer mode of the places.
    pub outer: Places,
    /// The inner one, of which a tile has two or four: the longer it is, the better.
    pub inner: Places,
}

/// A mode of places, and from one index to the next on both sides.
#[derive(Debug, Clone, Copy)]
pub struct Places {
    /// The extent.
    pub extent: usize,
    /// The stride in the right side.
    pub right: usize,
    /// The stride in the output.
    pub out: usize,
}

/// Sums that are held in registers at once, where a processor has 32 of them; half as many where it has 16.
const SUMS: usize = 24;

impl Gathered<'_> {
    /// Computes the sums into rows of `out` that are `stride` apart.
    pub fn into(self, out: &mut [f32], stride: usize, arch: Arch) {
        let Self { rows, left, offsets, right, outer, inner, .. } = self;
        if rows * outer.extent * inner.extent == 0 {
            return;
        }
        let last = |of: fn(Places) -> usize| {
            (outer.extent - 1) * of(outer) + (inner.extent - 1) * of(inner) + LANES
        };
        let farthest = offsets.iter().max().copied().unwrap_or_default();
        assert!(left.len() >= offsets.len() * rows, "{} terms, {rows} rows", offsets.len());
        assert!(right.len() >= farthest + last(|mode| mode.right), "{outer:?}, {inner:?}");
        assert!(out.len() >= (rows - 1) * stride + last(|mode| mode.out), "{outer:?}, {inner:?}");
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
        let Gathered { rows, outer, inner, .. } = self.gathered;
        let sums = if S::REGISTER_COUNT >= 32 { SUMS } else { SUMS / 2 };
        // Few rows leave room for more places, which share what is loaded of the left side.
        let wide = if rows * 4 <= sums { 4 } else { 2 };
        let tile = rows.div_ceil(rows.div_ceil(sums / wide));
        for group in 0..outer.extent {
            for row in (0..rows).step_by(tile) {
                let count = tile.min(rows - row);
                let mut place = 0;
                while place < inner.extent {
                    let width = match inner.extent - place {
                        4.. if wide == 4 => 4,
                        2.. => 2,
                        _ => 1,
                    };
                    let right = group * outer.right + place * inner.right;
                    let out = row * self.stride + group * outer.out + place * inner.out;
                    for lane in (0..LANES).step_by(S::F32_LANES) {
                        self.rows_of(simd, count, width, [row, right + lane, out + lane]);
                    }
                    place += width;
                }
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
        [row, right_begin, out_begin]: [usize; 3],
    ) {
        let Gathered { rows, left, offsets, right, inner, .. } = self.gathered;
        // SAFETY: `Gathered::into` has asserted that `[terms, rows]` numbers lie in the left side, that LANES numbers from every
        // offset and every place on lie in the right side, and as many in every row and place of the output; the tile's rows and
        // places are among these, and its lane plus a register's lanes is at most LANES. The output is borrowed mutably, so it
        // overlaps neither side.
        unsafe {
            let out = self.out.as_mut_ptr().add(out_begin);
            let mut sums = [[simd.splat_f32s(0.0); P]; R];
            let right = right.as_ptr().add(right_begin);
            let mut left = left.as_ptr().add(row);
            for &offset in offsets {
                let from = right.add(offset);
                let vectors: [S::f32s; P] = std::array::from_fn(|p| {
                    from.add(p * inner.right).cast::<S::f32s>().read_unaligned()
                });
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
                    let out = out.add(i * self.stride + p * inner.out);
                    out.cast::<S::f32s>().write_unaligned(*sum);
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
        let number = |at: usize| ((at * 7919) % 23) as f32 - 11.0;
        let offsets = [3, 0, 3 * LANES + 1, 40];
        for rows in 1..=25 {
            for (extents, rights, by_out) in [
                ([1, 1], [0, LANES], [0, LANES]),
                ([2, 7], [5, 2 * LANES], [8 * LANES, LANES]),
                ([3, 4], [LANES, 50], [LANES, 3 * LANES]),
            ] {
                let mode =
                    |at: usize| Places { extent: extents[at], right: rights[at], out: by_out[at] };
                let (outer, inner) = (mode(0), mode(1));
                let left: Vec<f32> = (0..4 * rows).map(number).collect();
                let right: Vec<f32> = (5..5 + 20 * LANES + 60).map(number).collect();
                let stride = 15 * LANES + 3;
                let before: Vec<f32> = (1..1 + rows * stride).map(number).collect();
                let mut expected = before.clone();
                for (row, out) in expected.chunks_exact_mut(stride).enumerate() {
                    let pairs = |to: usize| move |from: usize| (to, from);
                    for (group, place) in
                        (0..outer.extent).flat_map(|at| (0..inner.extent).map(pairs(at)))
                    {
                        let from = group * outer.right + place * inner.right;
                        let to = group * outer.out + place * inner.out;
                        for lane in 0..LANES {
                            let terms = offsets.iter().enumerate();
                            let terms =
                                terms.map(|(t, at)| left[t * rows + row] * right[at + from + lane]);
                            out[to + lane] = terms.sum();
                        }
                    }
                }
                for arch in [Arch::Scalar, Arch::new()] {
                    let mut out = before.clone();
                    let (left, offsets, right) = (&left[..], &offsets[..], &right[..]);
                    Gathered { rows, left, offsets, right, outer, inner }
                        .into(&mut out, stride, arch);
                    // Whole numbers below 2²⁴: exact in any order.
                    assert_eq!(out, expected, "{rows} rows, {outer:?}, {inner:?}, {arch:?}");
                }
            }
        }
    }
}
