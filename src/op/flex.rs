//! The layer on the CPU: matrix products over blocks of samples, on all cores.
//!
//! The batch is cut into blocks of [`BLOCK`] samples, whatever the number of cores, and sums over
//! the blocks are taken in their order, so the same inputs give the same bits on any number of
//! threads. In the letters of [`crate::mps::plan`], a block of samples is
//!
//! ```text
//! U[s, k v] = X[s, r] · F[r, k v]              one product for all samples of a block (C first)
//! Y[w, v]   = G[w, s k] · U[s k, v]            one product a sample
//! ```
//!
//! with the cores packed so that `k v` and `s k` are each one index. The products are those of the
//! `gemm` crate, which Burn's CPU backend runs on too.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::TensorData;
use rayon::prelude::*;

use super::{MpsOps, spec_of};
use crate::mps::plan::View;
use crate::mps::{MpsSpec, Order};

/// Samples a block: large enough for the first product to pay (28 · 16 rows), small enough for a
/// batch of 128 to occupy eight cores.
const BLOCK: usize = 16;

/// Most partial sums that a sum over the batch keeps: a bound on memory, and work for 64 cores.
const MAX_PARTIALS: usize = 64;

/// A matrix inside a slice: where it begins, its extents and its strides.
#[derive(Debug, Clone, Copy)]
struct Matrix {
    start: usize,
    rows: usize,
    columns: usize,
    /// Strides `[row, column]`.
    strides: [usize; 2],
}

impl Matrix {
    fn row_major(start: usize, rows: usize, columns: usize) -> Self {
        Self { start, rows, columns, strides: [columns, 1] }
    }

    fn turned(self) -> Self {
        let Self { start, rows, columns, strides: [row, column] } = self;
        Self { start, rows: columns, columns: rows, strides: [column, row] }
    }

    /// One past the last element that the matrix reaches.
    fn end(&self) -> usize {
        let [row, column] = self.strides;
        self.start + (self.rows - 1) * row + (self.columns - 1) * column + 1
    }
}

/// `out = lhs · rhs`, or `out += lhs · rhs` where `add` is set.
fn multiply(
    (out, at_out): (&mut [f32], Matrix),
    (lhs, at_lhs): (&[f32], Matrix),
    (rhs, at_rhs): (&[f32], Matrix),
    add: bool,
) {
    assert!(at_lhs.columns == at_rhs.rows, "{at_lhs:?} · {at_rhs:?}");
    assert!(at_out.rows == at_lhs.rows && at_out.columns == at_rhs.columns, "{at_out:?}");
    assert!(
        at_out.end() <= out.len() && at_lhs.end() <= lhs.len() && at_rhs.end() <= rhs.len(),
        "{at_out:?} = {at_lhs:?} · {at_rhs:?}"
    );
    let [out_rs, out_cs] = at_out.strides.map(|stride| stride as isize);
    let [lhs_rs, lhs_cs] = at_lhs.strides.map(|stride| stride as isize);
    let [rhs_rs, rhs_cs] = at_rhs.strides.map(|stride| stride as isize);
    // SAFETY: the extents agree and each matrix lies inside its slice, as asserted above; `out`
    // is borrowed mutably, so it overlaps neither operand. No two elements of `out` coincide:
    // every caller's strides are those of a dense tensor.
    unsafe {
        gemm::gemm(
            at_out.rows,
            at_out.columns,
            at_lhs.columns,
            out.as_mut_ptr().add(at_out.start),
            out_cs,
            out_rs,
            add,
            lhs.as_ptr().add(at_lhs.start),
            lhs_cs,
            lhs_rs,
            rhs.as_ptr().add(at_rhs.start),
            rhs_cs,
            rhs_rs,
            1.0_f32,
            1.0_f32,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// Copies a core with three modes into row-major order of `extents`, read through `strides`.
fn pack(core: &[f32], extents: [usize; 3], strides: [usize; 3]) -> Vec<f32> {
    let [e0, e1, e2] = extents;
    let mut packed = Vec::with_capacity(e0 * e1 * e2);
    for i in 0..e0 {
        for j in 0..e1 {
            let at = i * strides[0] + j * strides[1];
            packed.extend((0..e2).map(|k| core[at + k * strides[2]]));
        }
    }
    packed
}

/// One contraction with its cores packed.
struct Contraction {
    view: View,
    /// `F[r, k, v]`.
    f: Vec<f32>,
    /// `G[w, s, k]`.
    g: Vec<f32>,
}

impl Contraction {
    fn new(view: View, order: Order, a: &[f32], c: &[f32]) -> Self {
        let (f, g) = match order {
            Order::CFirst => (c, a),
            Order::AFirst => (a, c),
        };
        let View { s, r, v, w, k, .. } = view;
        let [g_w, g_k, g_s] = view.g;
        Self { view, f: pack(f, [r, k, v], view.f), g: pack(g, [w, s, k], [g_w, g_s, g_k]) }
    }

    fn inputs(&self) -> usize {
        self.view.s * self.view.r
    }

    fn outputs(&self) -> usize {
        self.view.w * self.view.v
    }

    /// Elements of `U` (and of `V`) a sample.
    fn between(&self) -> usize {
        self.view.s * self.view.k * self.view.v
    }

    /// The samples' inputs as matrices `[rows, r]` with the matching start in `U[rows, k v]`: one
    /// for the whole block where `s` is the outer mode of `X`, one a sample where it is not.
    fn inputs_of(&self, samples: usize) -> impl Iterator<Item = (Matrix, Matrix)> + use<> {
        let View { s, r, v, k, x, .. } = self.view;
        let (count, rows) = if x == [r, 1] { (1, samples * s) } else { (samples, s) };
        (0..count).map(move |i| {
            let input = Matrix { start: i * s * r, rows, columns: r, strides: x };
            (input, Matrix::row_major(i * s * k * v, rows, k * v))
        })
    }

    fn f(&self) -> (&[f32], Matrix) {
        let View { r, v, k, .. } = self.view;
        (&self.f, Matrix::row_major(0, r, k * v))
    }

    fn g(&self) -> (&[f32], Matrix) {
        let View { s, w, k, .. } = self.view;
        (&self.g, Matrix::row_major(0, w, s * k))
    }

    /// Sample `i` of `U` as `[s k, v]`.
    fn u_of(&self, i: usize) -> Matrix {
        let View { s, v, k, .. } = self.view;
        Matrix::row_major(i * self.between(), s * k, v)
    }

    /// Sample `i` of `Y` (or of its gradient) as `[w, v]`.
    fn y_of(&self, i: usize) -> Matrix {
        let View { v, w, y, .. } = self.view;
        Matrix { start: i * self.outputs(), rows: w, columns: v, strides: y }
    }

    /// `U = X F` of a block.
    fn first(&self, x: &[f32]) -> Vec<f32> {
        let samples = x.len() / self.inputs();
        let mut u = vec![0.0; samples * self.between()];
        for (input, between) in self.inputs_of(samples) {
            multiply((&mut u, between), (x, input), self.f(), false);
        }
        u
    }

    /// `Y = G U`, plus the bias where there is one, for the whole batch.
    fn forward(&self, x: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        let mut y = vec![0.0; x.len() / self.inputs() * self.outputs()];
        x.par_chunks(BLOCK * self.inputs()).zip(y.par_chunks_mut(BLOCK * self.outputs())).for_each(
            |(x, y)| {
                let u = self.first(x);
                if let Some(bias) = bias {
                    y.chunks_exact_mut(self.outputs()).for_each(|y| y.copy_from_slice(bias));
                }
                for i in 0..x.len() / self.inputs() {
                    multiply((y, self.y_of(i)), self.g(), (&u, self.u_of(i)), bias.is_some());
                }
            },
        );
        y
    }

    /// `grad_G = Σ_b D Uᵀ`, `V = Gᵀ D` and `grad_F = Σ_b Xᵀ V`; returned packed as `G` and `F` are.
    fn grad_cores(&self, x: &[f32], grad_y: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let group = samples_a_partial(x.len() / self.inputs());
        let partials: Vec<_> = x
            .par_chunks(group * self.inputs())
            .zip(grad_y.par_chunks(group * self.outputs()))
            .map(|(x, grad_y)| {
                let mut sums = (vec![0.0; self.g.len()], vec![0.0; self.f.len()]);
                x.chunks(BLOCK * self.inputs())
                    .zip(grad_y.chunks(BLOCK * self.outputs()))
                    .for_each(|(x, grad_y)| self.add_grad_cores(x, grad_y, &mut sums));
                sums
            })
            .collect();
        let mut sums = (vec![0.0; self.g.len()], vec![0.0; self.f.len()]);
        for (grad_g, grad_f) in partials {
            add(&mut sums.0, &grad_g);
            add(&mut sums.1, &grad_f);
        }
        sums
    }

    /// Adds one block's part of both gradients.
    fn add_grad_cores(
        &self,
        x: &[f32],
        grad_y: &[f32],
        (grad_g, grad_f): &mut (Vec<f32>, Vec<f32>),
    ) {
        let samples = x.len() / self.inputs();
        let u = self.first(x);
        let mut v = vec![0.0; u.len()];
        let (g, at_g) = self.g();
        for i in 0..samples {
            let d = (grad_y, self.y_of(i));
            multiply((grad_g, at_g), d, (&u, self.u_of(i).turned()), true);
            multiply((&mut v, self.u_of(i)), (g, at_g.turned()), d, false);
        }
        let (_, at_f) = self.f();
        for (input, between) in self.inputs_of(samples) {
            multiply((grad_f, at_f), (x, input.turned()), (&v, between), true);
        }
    }
}

fn add(sum: &mut [f32], terms: &[f32]) {
    for (sum, term) in sum.iter_mut().zip(terms) {
        *sum += term;
    }
}

/// Samples that go into one partial sum: whole blocks, at most [`MAX_PARTIALS`] partial sums.
fn samples_a_partial(batch: usize) -> usize {
    BLOCK * batch.div_ceil(BLOCK * MAX_PARTIALS)
}

/// The elements in row-major order, of a tensor that `to_contiguous` returned.
#[expect(clippy::expect_used, reason = "`mps_linear` admits f32 alone, callers make it contiguous")]
fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("a contiguous tensor of f32")
}

fn tensor(values: Vec<f32>, shape: impl Into<burn::tensor::Shape>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape.into()))
}

fn forward(x: FlexTensor, a: FlexTensor, c: FlexTensor, bias: Option<FlexTensor>) -> FlexTensor {
    let [x, a, c] = [x, a, c].map(|tensor| tensor.to_contiguous());
    let bias = bias.map(|tensor| tensor.to_contiguous());
    let (spec, batch) = spec_of(x.layout().shape(), a.layout().shape(), c.layout().shape());
    let order = Order::cheaper(&spec);
    let contraction = Contraction::new(View::forward(&spec, order), order, values(&a), values(&c));
    let y = contraction.forward(values(&x), bias.as_ref().map(values));
    tensor(y, [batch, spec.m, spec.n])
}

impl MpsOps for Flex {
    fn mps_linear(x: FlexTensor, a: FlexTensor, c: FlexTensor, bias: FlexTensor) -> FlexTensor {
        forward(x, a, c, Some(bias))
    }

    fn mps_contract(x: FlexTensor, a: FlexTensor, c: FlexTensor) -> FlexTensor {
        forward(x, a, c, None)
    }

    fn mps_grad_cores(
        x: FlexTensor,
        a: FlexTensor,
        c: FlexTensor,
        grad_y: FlexTensor,
    ) -> (FlexTensor, FlexTensor) {
        let [x, a, c, grad_y] = [x, a, c, grad_y].map(|tensor| tensor.to_contiguous());
        let (spec, _) = spec_of(x.layout().shape(), a.layout().shape(), c.layout().shape());
        let order = Order::cheaper(&spec);
        let contraction =
            Contraction::new(View::forward(&spec, order), order, values(&a), values(&c));
        let (grad_g, grad_f) = contraction.grad_cores(values(&x), values(&grad_y));
        let MpsSpec { m, n, j, l, k } = spec;
        // The packed cores are `F[r,k,v]` and `G[w,s,k]`; unpack them to `A[m,k,j]`, `C[l,k,n]`.
        let (grad_a, grad_c) = match order {
            Order::CFirst => (pack(&grad_g, [m, k, j], [j * k, 1, k]), grad_f),
            Order::AFirst => {
                (pack(&grad_f, [m, k, j], [1, m, k * m]), pack(&grad_g, [l, k, n], [k, 1, l * k]))
            }
        };
        (tensor(grad_a, spec.a_shape()), tensor(grad_c, spec.c_shape()))
    }

    fn mps_grad_bias(grad_y: FlexTensor) -> FlexTensor {
        let grad_y = grad_y.to_contiguous();
        let [batch, m, n] = grad_y.layout().shape().dims();
        let partials: Vec<_> = values(&grad_y)
            .par_chunks(samples_a_partial(batch) * m * n)
            .map(|samples| {
                let mut sum = vec![0.0; m * n];
                samples.chunks_exact(m * n).for_each(|sample| add(&mut sum, sample));
                sum
            })
            .collect();
        let mut grad_bias = vec![0.0; m * n];
        partials.iter().for_each(|partial| add(&mut grad_bias, partial));
        tensor(grad_bias, [m, n])
    }

    fn mps_grad_x(a: FlexTensor, c: FlexTensor, grad_y: FlexTensor) -> FlexTensor {
        let [a, c, grad_y] = [a, c, grad_y].map(|tensor| tensor.to_contiguous());
        let [batch, m, n] = grad_y.layout().shape().dims();
        let [_, k, j] = a.layout().shape().dims();
        let l = c.layout().shape()[0];
        let spec = MpsSpec { m, n, j, l, k };
        let order = Order::cheaper(&spec.transposed());
        let contraction =
            Contraction::new(View::transposed(&spec, order), order, values(&a), values(&c));
        tensor(contraction.forward(values(&grad_y), None), [batch, j, l])
    }
}
