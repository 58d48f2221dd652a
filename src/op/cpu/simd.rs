//! The one loop that every contraction of the tiled CPU kernels comes down to: a matrix product whose
//! right side and output have rows of [`LANES`] numbers, accumulated in registers.
//!
//! `pulp` picks the widest registers of the processor at run time (AVX-512, AVX2, NEON, …).

use std::mem::MaybeUninit;

use pulp::{Arch, Simd, WithSimd};

/// Numbers in a row: one register of AVX-512, two of AVX2, four of NEON.
pub const LANES: usize = 16;

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
                    match (rows - row < OUTER, columns - column < OUTER) {
                        (false, false) => self.tile::<S, OUTER, OUTER>(simd, row, column, lane),
                        (false, true) => (column..columns)
                            .for_each(|column| self.tile::<S, OUTER, 1>(simd, row, column, lane)),
                        (true, false) => (row..rows)
                            .for_each(|row| self.tile::<S, 1, OUTER>(simd, row, column, lane)),
                        (true, true) => {
                            for row in row..rows {
                                for column in column..columns {
                                    self.tile::<S, 1, 1>(simd, row, column, lane);
                                }
                            }
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

/// Adds `terms` to `sum`, element by element.
pub fn add(sum: &mut [f32], terms: &[f32]) {
    struct Add<'a>(&'a mut [f32], &'a [f32]);

    impl WithSimd for Add<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, _simd: S) {
            self.0.iter_mut().zip(self.1).for_each(|(sum, term)| *sum += term);
        }
    }

    Arch::new().dispatch(Add(sum, terms));
}

/// A row-major matrix in rows that are `stride` apart, to be transposed.
#[derive(Debug, Clone, Copy)]
pub struct Transpose<'a> {
    /// Its elements.
    pub elements: &'a [f32],
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub columns: usize,
    /// From one row to the next.
    pub stride: usize,
}

impl Transpose<'_> {
    /// Writes the columns as rows of `out` that are `stride` apart. What lies between them is left.
    pub fn into_uninit(self, out: &mut [MaybeUninit<f32>], stride: usize, arch: Arch) {
        let Self { elements, rows, columns, stride: from } = self;
        assert!(from >= columns && stride >= rows, "{rows} x {columns} of {from} to {stride}");
        for (block, row) in (0..rows).step_by(LANES).enumerate() {
            let height = LANES.min(rows - row);
            for column in (0..columns).step_by(LANES) {
                let width = LANES.min(columns - column);
                let source = &elements[row * from + column..];
                let target = &mut out[column * stride + block * LANES..];
                #[cfg(target_arch = "x86_64")]
                if let (Arch::V4(_), LANES, LANES) = (arch, height, width) {
                    // SAFETY: `V4` is there where the processor has AVX-512F.
                    unsafe { transpose_block(source, from, target, stride) };
                    continue;
                }
                for row in 0..height {
                    for column in 0..width {
                        target[column * stride + row].write(source[row * from + column]);
                    }
                }
            }
        }
    }

    /// The same over what has values.
    pub fn into(self, out: &mut [f32], stride: usize, arch: Arch) {
        let pointer = out.as_mut_ptr().cast::<MaybeUninit<f32>>();
        // SAFETY: the same elements, and only values are written.
        let out = unsafe { std::slice::from_raw_parts_mut(pointer, out.len()) };
        self.into_uninit(out, stride, arch);
    }
}

/// Writes the columns of a block of 16 x 16 as rows, by shuffles: 0.06 ns per element, where loops take 0.45.
///
/// One function with the feature of its instructions, and loops where closures would be passed on: what the compiler
/// does not inline has no such registers, and took a sixth off the speed of training when that happened.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn transpose_block(source: &[f32], from: usize, target: &mut [MaybeUninit<f32>], to: usize) {
    use std::arch::x86_64::{
        __m512, _mm512_castpd_ps, _mm512_castps_pd, _mm512_loadu_ps, _mm512_setzero_ps,
        _mm512_shuffle_f32x4, _mm512_storeu_ps, _mm512_unpackhi_pd, _mm512_unpackhi_ps,
        _mm512_unpacklo_pd, _mm512_unpacklo_ps,
    };
    assert!(source.len() >= (LANES - 1) * from + LANES);
    assert!(target.len() >= (LANES - 1) * to + LANES);
    let pair = |a, b| (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    let double = |a: __m512, b: __m512| {
        let (a, b) = (_mm512_castps_pd(a), _mm512_castps_pd(b));
        (_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)))
    };
    let quarters = |a, b| (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));

    let mut rows = [_mm512_setzero_ps(); LANES];
    for (row, register) in rows.iter_mut().enumerate() {
        // SAFETY: LANES numbers from the beginning of each row lie in the slice, as asserted.
        *register = unsafe { _mm512_loadu_ps(source.as_ptr().add(row * from)) };
    }
    // In each quarter of a register 4 x 4 are transposed: `transposed[i][c]` holds, in its quarter q, column
    // 4 q + c of rows 4 i to 4 i + 3.
    let mut transposed = [[_mm512_setzero_ps(); 4]; 4];
    for i in 0..4 {
        let (ab, ab_high) = pair(rows[4 * i], rows[4 * i + 1]);
        let (cd, cd_high) = pair(rows[4 * i + 2], rows[4 * i + 3]);
        let ((c0, c1), (c2, c3)) = (double(ab, cd), double(ab_high, cd_high));
        transposed[i] = [c0, c1, c2, c3];
    }
    // Then the quarters of four registers are transposed.
    for c in 0..4 {
        let (top_even, top_odd) = quarters(transposed[0][c], transposed[1][c]);
        let (low_even, low_odd) = quarters(transposed[2][c], transposed[3][c]);
        let ((q0, q2), (q1, q3)) = (quarters(top_even, low_even), quarters(top_odd, low_odd));
        for (q, column) in [q0, q1, q2, q3].into_iter().enumerate() {
            let at = target[(4 * q + c) * to..].as_mut_ptr();
            // SAFETY: LANES numbers from the beginning of each row lie in the slice, as asserted.
            unsafe { _mm512_storeu_ps(at.cast(), column) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows and columns of whole blocks and more, with gaps, which stay as they were.
    #[test]
    fn it_is_transposed() {
        for (rows, columns) in [(1, 1), (16, 16), (32, 16), (17, 47), (5, 40), (48, 33)] {
            let (from, to) = (columns + 3, rows + 2);
            let elements: Vec<f32> = (0..rows * from).map(|at| at as f32).collect();
            for arch in [Arch::Scalar, Arch::new()] {
                let mut out = vec![-1.0; columns * to];
                Transpose { elements: &elements, rows, columns, stride: from }
                    .into(&mut out, to, arch);
                for (at, got) in out.iter().enumerate() {
                    let (column, row) = (at / to, at % to);
                    let expected = if row < rows { (row * from + column) as f32 } else { -1.0 };
                    assert_eq!(*got, expected, "{rows} x {columns}: {row}, {column}, {arch:?}");
                }
            }
        }
    }

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

    /// Whole tiles and parts of one, against the sums as they are written.
    #[test]
    fn it_is_the_outer_product() {
        for (p, r, rows, columns) in [(1, 1, 1, 1), (3, 2, 4, 4), (2, 3, 9, 5), (1, 4, 3, 13)] {
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
