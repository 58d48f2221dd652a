//! The layer on the CPU by a library's matrix products, a block of samples at a time. This is the
//! plain implementation, and the one for shapes that would leave [`super::tiles`]' rows half empty.
//!
//! In the letters of [`crate::mps::plan`], a block of samples is
//!
//! ```text
//! U[s, k v] = X[s, r] · F[r, k v]              one product for all samples of a block (C first)
//! Y[w, v]   = G[w, s k] · U[s k, v]            one product a sample
//! ```
//!
//! with the cores packed so that `k v` and `s k` are each one index. The products are those of the
//! `gemm` crate, which Burn's CPU backend runs on too.

use super::{BLOCK, Grads, add, pack, pool, samples_a_partial, sum_of_samples};
use crate::mps::Order;
use crate::mps::plan::View;

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

/// One contraction with its cores packed.
pub struct Blocks {
    view: View,
    order: Order,
    /// `F[r, k, v]`.
    f: Vec<f32>,
    /// `G[w, s, k]`.
    g: Vec<f32>,
}

impl Blocks {
    /// Packs the cores.
    pub fn new(view: View, order: Order, a: &[f32], c: &[f32]) -> Self {
        let (f, g) = match order {
            Order::CFirst => (c, a),
            Order::AFirst => (a, c),
        };
        let View { s, r, v, w, k, .. } = view;
        let [g_w, g_k, g_s] = view.g;
        Self { view, order, f: pack(f, [r, k, v], view.f), g: pack(g, [w, s, k], [g_w, g_s, g_k]) }
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
    pub fn forward(&self, x: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        let mut y = vec![0.0; x.len() / self.inputs() * self.outputs()];
        pool::for_each(
            x.chunks(BLOCK * self.inputs()).zip(y.chunks_mut(BLOCK * self.outputs())),
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

    /// The gradients by both cores and the bias: `grad_G = Σ_b D Uᵀ`, `V = Gᵀ D` and
    /// `grad_F = Σ_b Xᵀ V`.
    pub fn grads(&self, x: &[f32], grad_y: &[f32]) -> Grads {
        let group = samples_a_partial(x.len() / self.inputs());
        let groups = x.chunks(group * self.inputs()).zip(grad_y.chunks(group * self.outputs()));
        let partials = pool::map(groups, |(x, grad_y)| {
            let mut sums = (vec![0.0; self.g.len()], vec![0.0; self.f.len()]);
            x.chunks(BLOCK * self.inputs())
                .zip(grad_y.chunks(BLOCK * self.outputs()))
                .for_each(|(x, grad_y)| self.add_grad_cores(x, grad_y, &mut sums));
            (sums, sum_of_samples(grad_y, self.outputs()))
        });
        let (mut sum_g, mut sum_f) = (vec![0.0; self.g.len()], vec![0.0; self.f.len()]);
        let mut bias = vec![0.0; self.outputs()];
        for ((grad_g, grad_f), grad_bias) in &partials {
            add(&mut sum_g, grad_g);
            add(&mut sum_f, grad_f);
            add(&mut bias, grad_bias);
        }
        let View { s, r, v, w, k, .. } = self.view;
        // The packed cores are `F[r,k,v]` and `G[w,s,k]`; unpack them to `A[m,k,j]`, `C[l,k,n]`.
        let (a, c) = match self.order {
            Order::CFirst => (pack(&sum_g, [w, k, s], [s * k, 1, k]), sum_f),
            Order::AFirst => {
                (pack(&sum_f, [v, k, r], [1, v, k * v]), pack(&sum_g, [s, k, w], [k, 1, s * k]))
            }
        };
        Grads { a, c, bias }
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
