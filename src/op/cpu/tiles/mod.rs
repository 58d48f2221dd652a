//! The layer on the CPU by [`Product`]s that keep their sums in registers, a few samples at a time,
//! so that what lies between the contractions stays in the cache.
//!
//! In the letters of [`crate::mps::view`], with `v` and `w` padded to whole rows of [`LANES`]:
//!
//! ```text
//! forward, one sample:    U[s k, v] = Σ_r X[s,r] F[r, k v]        Y[w, v]   = Σ_sk G[s k, w] U[s k, v]
//! backward, some samples: U as above, over (b v)                  grad_G[s k, w] += Σ_bv U[s k, b v] D[b v, w]
//!                         V[b s k, v] = Σ_w G[s k, w] D[w, v]     grad_F[r, k v] += Σ_bs X[b s, r] V[b s, k v]
//! ```
//!
//! In the same pass, the forward one applies the activation after the layer while a sample's output is in the first-level
//! cache, the backward one takes it back, and computes `grad_X[b s, r] = Σ_kv V[b s, k v] F[r, k v]` where that is wanted.
//!
//! A library's matrix product packs both operands before it begins; with 28 to 32 rows and terms
//! that costs as much as the product. Here the cores are packed once for the whole batch.

mod into_x;

use std::borrow::Cow;
use std::mem::MaybeUninit;

use pulp::Arch;

use super::activation::{Active, Pass, ReluGrad};
use super::simd::{LANES, Product, Transpose, add};
use super::{Grads, filled, pack, pool, samples_per_partial};
use crate::mps::{Order, View};
use into_x::IntoX;

/// Most numbers of `U`, and of `V`, that are kept for a block of samples: 128 KiB each, so that both
/// fit into the second-level cache together with the packed cores.
const MOST_BETWEEN: usize = 1 << 15;

/// Samples that one task of the forward pass computes.
const SAMPLES_PER_TASK: usize = 8;

/// Most samples per block.
const MOST_SAMPLES: usize = 16;

/// One contraction with its cores packed and padded.
pub struct Tiles<'a> {
    view: View,
    order: Order,
    arch: Arch,
    /// `F[r, k, v]`, `v` padded.
    f: Cow<'a, [f32]>,
    /// `G[s, k, w]`.
    g: Cow<'a, [f32]>,
    /// `v` rounded up to whole rows.
    padded_v: usize,
    /// `w` rounded up to whole rows.
    padded_w: usize,
}

/// `[d0, d1, d2]`, read through `strides`, in row-major order with rows of `padded` numbers, the rest of each
/// row being 0; a copy unless it already lies so.
fn pack_padded(
    from: &[f32],
    extents: [usize; 3],
    strides: [usize; 3],
    padded: usize,
) -> Cow<'_, [f32]> {
    let [d0, d1, d2] = extents;
    if padded == d2 && strides == [d1 * d2, d2, 1] {
        return Cow::Borrowed(from);
    }
    let mut packed = vec![0.0; d0 * d1 * padded];
    for (at, row) in packed.chunks_exact_mut(padded).enumerate() {
        let begin = at / d1 * strides[0] + at % d1 * strides[1];
        copy_strided(&mut row[..d2], &from[begin..], strides[2]);
    }
    Cow::Owned(packed)
}

fn copy_strided(to: &mut [f32], from: &[f32], stride: usize) {
    if stride == 1 {
        to.copy_from_slice(&from[..to.len()]);
    } else {
        for (to, from) in to.iter_mut().zip(from.iter().step_by(stride)) {
            *to = *from;
        }
    }
}

impl<'a> Tiles<'a> {
    /// Packs the cores.
    pub fn new(view: View, order: Order, a: &'a [f32], c: &'a [f32]) -> Self {
        let (f, g) = match order {
            Order::CFirst => (c, a),
            Order::AFirst => (a, c),
        };
        let View { s, r, v, w, k, .. } = view;
        let padded_v = v.next_multiple_of(LANES);
        let [g_w, g_k, g_s] = view.g;
        Self {
            view,
            order,
            arch: Arch::new(),
            f: pack_padded(f, [r, k, v], view.f, padded_v),
            g: pack_padded(g, [s, k, w], [g_s, g_k, g_w], w),
            padded_v,
            padded_w: w.next_multiple_of(LANES),
        }
    }

    fn inputs(&self) -> usize {
        self.view.s * self.view.r
    }

    fn outputs(&self) -> usize {
        self.view.w * self.view.v
    }

    /// `U[s k, v] = Σ_r X[s,r] F[r, k v]` of one sample; the row of `(s, k)` begins at
    /// `(s K + k) · stride` of `u`.
    fn u_of(&self, x: &[f32], u: &mut [f32], stride: usize) {
        let View { s, r, k, x: [x_s, x_r], .. } = self.view;
        for bond in 0..k {
            for column in (0..self.padded_v).step_by(LANES) {
                let product = Product {
                    terms: r,
                    rows: s,
                    left: x,
                    left_strides: [x_r, x_s],
                    right: &self.f[bond * self.padded_v + column..],
                    right_stride: k * self.padded_v,
                    add: false,
                };
                product.into(&mut u[bond * stride + column..], k * stride, self.arch);
            }
        }
    }

    /// `Y = G U`, plus the bias where there is one, and then the activation, for the whole batch.
    pub fn forward(&self, x: &[f32], bias: Option<&[f32]>, active: Active) -> Vec<f32> {
        let View { s, w, k, y: [y_w, y_v], .. } = self.view;
        let (inputs, outputs) = (self.inputs(), self.outputs());
        // Whole rows of `v` can be written where they belong.
        let direct = [y_w, y_v] == [self.padded_v, 1];
        let scratch = || {
            let rows = (!direct).then(|| vec![0.0; w * self.padded_v]);
            (vec![0.0; s * k * self.padded_v], rows)
        };
        let bias = match bias {
            Some(bias) => bias,
            None => &vec![0.0; outputs],
        };
        assert!(bias.len() == outputs);
        let all = |y: &mut [MaybeUninit<f32>]| {
            // Several samples per task: one takes about a microsecond, as long as passing it to a thread.
            let tasks =
                x.chunks(SAMPLES_PER_TASK * inputs).zip(y.chunks_mut(SAMPLES_PER_TASK * outputs));
            pool::for_each_with(tasks.enumerate(), scratch, |(u, rows), (task, (x, y))| {
                let samples = x.chunks_exact(inputs).zip(y.chunks_exact_mut(outputs));
                for (sample, (x, y)) in samples.enumerate() {
                    let y = y.write_copy_of_slice(bias);
                    self.forward_of(x, y, u, rows.as_mut());
                    let begin = (task * SAMPLES_PER_TASK + sample) * outputs;
                    active.apply_to(begin, y, self.arch);
                }
            });
        };
        // SAFETY: every sample's output begins with the bias.
        unsafe { filled(x.len() / inputs * outputs, all) }
    }

    /// Adds one sample's output to `y`, by way of `rows` where its rows are not whole.
    fn forward_of(&self, x: &[f32], y: &mut [f32], u: &mut [f32], mut rows: Option<&mut Vec<f32>>) {
        let View { s, v, w, k, y: [y_w, y_v], .. } = self.view;
        self.u_of(x, u, self.padded_v);
        for column in (0..self.padded_v).step_by(LANES) {
            let product = Product {
                terms: s * k,
                rows: w,
                left: &self.g,
                left_strides: [w, 1],
                right: &u[column..],
                right_stride: self.padded_v,
                add: rows.is_none(),
            };
            let out = rows.as_deref_mut().map_or(&mut *y, Vec::as_mut_slice);
            product.into(&mut out[column..], self.padded_v, self.arch);
        }
        let Some(rows) = rows else { return };
        for (at, row) in rows.chunks_exact(self.padded_v).enumerate() {
            if y_v == 1 {
                add(&mut y[at * y_w..][..v], &row[..v]);
                continue;
            }
            for (column, value) in row[..v].iter().enumerate() {
                y[at * y_w + column * y_v] += value;
            }
        }
    }

    /// The gradients by both cores and the bias, summed over the batch, and by the input where it is wanted; of the layer
    /// and the ReLU after it, if there is one.
    pub fn grads(
        &self,
        x: &[f32],
        relu: Option<&ReluGrad>,
        grad_y: &[f32],
        wants_x: bool,
    ) -> Grads {
        let View { s, k, .. } = self.view;
        let (inputs, outputs) = (self.inputs(), self.outputs());
        let group = samples_per_partial(x.len() / inputs);
        let block = (MOST_BETWEEN / (s * k * self.padded_v)).clamp(1, MOST_SAMPLES);
        let into_x = wants_x.then(|| IntoX::new(self));
        let all = |grad_x: Option<&mut [MaybeUninit<f32>]>| {
            let groups = x.chunks(group * inputs).zip(grad_y.chunks(group * outputs));
            let mut grad_x = grad_x.map(|grad_x| grad_x.chunks_mut(group * inputs));
            let parts = std::iter::from_fn(|| Some(grad_x.as_mut().and_then(Iterator::next)));
            let scratch = || Scratch::new(self, block.min(group), relu.is_some(), wants_x);
            let groups = groups.zip(parts).enumerate();
            pool::map_with(groups, scratch, |scratch, (at, ((x, grad_y), mut grad_x))| {
                let mut sums = self.sums();
                let blocks = x.chunks(block * inputs).zip(grad_y.chunks(block * outputs));
                for (number, (x, grad_y)) in blocks.enumerate() {
                    let begin = (at * group + number * block) * outputs;
                    let Scratch { inner, before, rows_x } = scratch;
                    let grad_y = match relu {
                        Some(relu) => before_relu(relu, begin, grad_y, before, self.arch),
                        None => grad_y,
                    };
                    self.add_grads(x, grad_y, inner, &mut sums);
                    if let (Some(into_x), Some(grad_x)) = (&into_x, &mut grad_x) {
                        let grad_x = &mut grad_x[number * block * inputs..][..x.len()];
                        into_x.write(self, &inner.between, rows_x, grad_x);
                    }
                }
                sums
            })
        };
        let mut partials = Vec::new();
        let grad_x = match wants_x {
            // SAFETY: every block writes the gradient by its own input.
            true => Some(unsafe { filled(x.len(), |grad_x| partials = all(Some(grad_x))) }),
            false => {
                partials = all(None);
                None
            }
        };
        let mut sums = self.sums();
        for partial in &partials {
            add(&mut sums.g, &partial.g);
            add(&mut sums.f, &partial.f);
            add(&mut sums.bias, &partial.bias);
        }
        let View { r, v, w, .. } = self.view;
        let (wide_f, wide_g) = (self.padded_v, self.padded_w);
        // `F[r,k,v]` and `G[s,k,w]` back to `A[m,k,j]` and `C[l,k,n]`.
        let (a, c) = match self.order {
            Order::CFirst => (
                pack(&sums.g, [w, k, s], [1, wide_g, k * wide_g]),
                pack(&sums.f, [r, k, v], [k * wide_f, wide_f, 1]),
            ),
            Order::AFirst => (
                pack(&sums.f, [v, k, r], [1, wide_f, k * wide_f]),
                pack(&sums.g, [s, k, w], [k * wide_g, wide_g, 1]),
            ),
        };
        Grads { x: grad_x, a, c, bias: sums.bias }
    }

    fn sums(&self) -> Sums {
        let View { s, k, .. } = self.view;
        Sums {
            g: vec![0.0; s * k * self.padded_w],
            f: vec![0.0; self.f.len()],
            bias: vec![0.0; self.outputs()],
        }
    }

    /// Adds the gradients of a block of samples.
    fn add_grads(&self, x: &[f32], grad_y: &[f32], scratch: &mut Block, sums: &mut Sums) {
        let View { s, r, v, w, k, x: [x_s, x_r], y, .. } = self.view;
        let (wide_v, wide_w) = (self.padded_v, self.padded_w);
        let samples = x.len() / self.inputs();
        let Block { u, between, rows_w, rows_v } = scratch;
        // `D` as it is, where it lies in whole rows.
        let whole_w = y == [wide_v, 1];
        let whole_v = y == [1, wide_w] && v == wide_v;

        for (b, (x, d)) in
            x.chunks_exact(self.inputs()).zip(grad_y.chunks_exact(self.outputs())).enumerate()
        {
            add(&mut sums.bias, d);
            self.u_of(x, &mut u[b * wide_v..], samples * wide_v);
            if !whole_v {
                self.rows_v(d, &mut rows_v[b * wide_v * wide_w..][..wide_v * wide_w]);
            }
            if !whole_w {
                self.rows_w(d, rows_w);
            }
            let rows_w = if whole_w { d } else { &rows_w[..] };
            for column in (0..wide_v).step_by(LANES) {
                let product = Product {
                    terms: w,
                    rows: s * k,
                    left: &self.g,
                    left_strides: [1, w],
                    right: &rows_w[column..],
                    right_stride: wide_v,
                    add: false,
                };
                let out = &mut between[b * s * k * wide_v + column..];
                product.into(out, wide_v, self.arch);
            }
        }

        let rows_v = if whole_v { grad_y } else { &rows_v[..] };
        for column in (0..wide_w).step_by(LANES) {
            let product = Product {
                terms: samples * wide_v,
                rows: s * k,
                left: u,
                left_strides: [1, samples * wide_v],
                right: &rows_v[column..],
                right_stride: wide_w,
                add: true,
            };
            product.into(&mut sums.g[column..], wide_w, self.arch);
        }

        // Where `s` is the outer mode of `X`, `(b s)` is one index of a constant stride.
        let (times, terms) = if x_s == r { (1, samples * s) } else { (samples, s) };
        for time in 0..times {
            for bond in 0..k {
                for column in (0..wide_v).step_by(LANES) {
                    let at = bond * wide_v + column;
                    let product = Product {
                        terms,
                        rows: r,
                        left: &x[time * self.inputs()..],
                        left_strides: [x_s, x_r],
                        right: &between[time * s * k * wide_v + at..],
                        right_stride: k * wide_v,
                        add: true,
                    };
                    product.into(&mut sums.f[at..], k * wide_v, self.arch);
                }
            }
        }
    }

    /// Copies `D` of one sample into rows of `v`, padded.
    fn rows_w(&self, d: &[f32], rows: &mut [f32]) {
        let View { v, w, y: [y_w, y_v], .. } = self.view;
        self.rows_of(d, [w, v], [y_w, y_v], rows, self.padded_v);
    }

    /// Copies `D` of one sample into rows of `w`, padded.
    fn rows_v(&self, d: &[f32], rows: &mut [f32]) {
        let View { v, w, y: [y_w, y_v], .. } = self.view;
        self.rows_of(d, [v, w], [y_v, y_w], rows, self.padded_w);
    }

    /// Copies a matrix, read through strides of which one is 1, into rows of `padded` numbers.
    fn rows_of(
        &self,
        from: &[f32],
        [rows, columns]: [usize; 2],
        strides: [usize; 2],
        to: &mut [f32],
        padded: usize,
    ) {
        let [stride, along] = strides;
        if along == 1 {
            for (row, to) in to.chunks_exact_mut(padded).take(rows).enumerate() {
                to[..columns].copy_from_slice(&from[row * stride..][..columns]);
            }
        } else {
            let transpose =
                Transpose { elements: from, rows: columns, columns: rows, stride: along };
            transpose.into(to, padded, self.arch);
        }
    }
}

/// Sums over samples, laid out as the packed cores are, `w` of `G` padded.
struct Sums {
    g: Vec<f32>,
    f: Vec<f32>,
    bias: Vec<f32>,
}

/// What a thread keeps from block to block.
struct Scratch {
    inner: Block,
    /// The gradient by the layer's output, where a ReLU follows it.
    before: Vec<f32>,
    /// `grad_X[s, r]` of one sample, `r` padded, where it is wanted.
    rows_x: Vec<f32>,
}

impl Scratch {
    fn new(tiles: &Tiles, samples: usize, relu: bool, wants_x: bool) -> Self {
        let View { s, r, .. } = tiles.view;
        let zeros = |count: usize, wanted: bool| vec![0.0; if wanted { count } else { 0 }];
        Self {
            inner: Block::new(tiles, samples),
            before: zeros(samples * tiles.outputs(), relu),
            rows_x: zeros(s * r.next_multiple_of(LANES), wants_x),
        }
    }
}

/// The gradient of a block before the ReLU, in `before`; its outputs begin at `begin`.
fn before_relu<'a>(
    relu: &ReluGrad,
    begin: usize,
    grad_y: &[f32],
    before: &'a mut [f32],
    arch: Arch,
) -> &'a [f32] {
    let before = &mut before[..grad_y.len()];
    before.copy_from_slice(grad_y);
    relu.on(begin, before, arch);
    before
}

/// Buffers for a block of samples, apart from its sums. Padding is 0 from the beginning and never overwritten.
struct Block {
    /// `U[s k, b v]`.
    u: Vec<f32>,
    /// `V[b, s k, v]`.
    between: Vec<f32>,
    /// `D[w, v]` of one sample.
    rows_w: Vec<f32>,
    /// `D[b v, w]`.
    rows_v: Vec<f32>,
}

impl Block {
    fn new(tiles: &Tiles, samples: usize) -> Self {
        let View { s, w, k, .. } = tiles.view;
        let zeros = |count: usize| vec![0.0; count];
        Self {
            u: zeros(samples * s * k * tiles.padded_v),
            between: zeros(samples * s * k * tiles.padded_v),
            rows_w: zeros(w * tiles.padded_v),
            rows_v: zeros(samples * tiles.padded_v * tiles.padded_w),
        }
    }
}
