//! The layer by way of `W`: rebuilt from the cores, then one matrix product, as a dense layer does it.
//!
//! `W[(j l),(m n)] = Σ_k A[m,k,j] C[l,k,n]` costs `J·L·M·N·K` multiply-adds once per batch, and a
//! product with it `J·L·M·N` per sample. Where the bond is large, that is less than both contractions
//! of every sample. Written once for every backend, in the products of its dense layers.

use burn::backend::tensor::FloatTensor;
use burn::tensor::Shape;

use super::kernels::LayerOps;
use super::training::TrainingOps;
use crate::mps::MpsSpec;

fn reshape<B: TrainingOps, const D: usize>(
    tensor: FloatTensor<B>,
    shape: [usize; D],
) -> FloatTensor<B> {
    B::float_reshape(tensor, Shape::new(shape))
}

/// `A[(m j), k]`.
fn left<B: TrainingOps>(a: FloatTensor<B>, spec: &MpsSpec) -> FloatTensor<B> {
    reshape::<B, 2>(B::float_swap_dims(a, 1, 2), [spec.m * spec.j, spec.k])
}

/// `C[k, (l n)]`.
fn right<B: TrainingOps>(c: FloatTensor<B>, spec: &MpsSpec) -> FloatTensor<B> {
    reshape::<B, 2>(B::float_swap_dims(c, 0, 1), [spec.k, spec.l * spec.n])
}

/// `W[(j l), (m n)]`.
fn weight<B: TrainingOps>(a: FloatTensor<B>, c: FloatTensor<B>, spec: &MpsSpec) -> FloatTensor<B> {
    let MpsSpec { m, n, j, l, .. } = *spec;
    let w = B::matmul(left::<B>(a, spec), right::<B>(c, spec), [false, false]);
    let w = B::float_permute(reshape::<B, 4>(w, [m, j, l, n]), &[1, 2, 0, 3]);
    reshape::<B, 2>(w, [j * l, m * n])
}

/// `Y = X W + B`.
pub fn forward<B: LayerOps>(
    x: FloatTensor<B>,
    a: FloatTensor<B>,
    c: FloatTensor<B>,
    bias: Option<FloatTensor<B>>,
    spec: &MpsSpec,
    batch: usize,
) -> FloatTensor<B> {
    let x = reshape::<B, 2>(x, [batch, spec.inputs()]);
    let w = weight::<B>(a, c, spec);
    let bias = bias.map(|bias| reshape::<B, 1>(bias, [spec.outputs()]));
    let y = B::biased_product(x, w, bias);
    reshape::<B, 3>(y, [batch, spec.m, spec.n])
}

/// `grad_x = D Wᵀ`.
pub fn grad_x<B: TrainingOps>(
    a: FloatTensor<B>,
    c: FloatTensor<B>,
    grad_y: FloatTensor<B>,
    spec: &MpsSpec,
    batch: usize,
) -> FloatTensor<B> {
    let d = reshape::<B, 2>(grad_y, [batch, spec.outputs()]);
    let grad_x = B::matmul(d, weight::<B>(a, c, spec), [false, true]);
    reshape::<B, 3>(grad_x, [batch, spec.j, spec.l])
}

/// `grad_W = Xᵀ D`, then `grad_A[m,k,j] = Σ_ln grad_W C` and `grad_C[l,k,n] = Σ_mj A grad_W`; and
/// `grad_bias = Σ_b D`.
pub fn grads<B: TrainingOps>(
    x: FloatTensor<B>,
    a: FloatTensor<B>,
    c: FloatTensor<B>,
    grad_y: FloatTensor<B>,
    spec: &MpsSpec,
    batch: usize,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let MpsSpec { m, n, j, l, k } = *spec;
    let x = reshape::<B, 2>(x, [batch, j * l]);
    let d = reshape::<B, 2>(grad_y, [batch, m * n]);
    let grad_bias = B::column_sums(d.clone());
    let grad_w = B::matmul(x, d, [true, false]);
    // [j, l, m, n] as [(m j), (l n)]
    let grad_w = B::float_permute(reshape::<B, 4>(grad_w, [j, l, m, n]), &[2, 0, 1, 3]);
    let grad_w = reshape::<B, 2>(grad_w, [m * j, l * n]);
    let grad_a = B::matmul(grad_w.clone(), right::<B>(c, spec), [false, true]);
    let grad_c = B::matmul(left::<B>(a, spec), grad_w, [true, false]);
    let grad_a = B::float_swap_dims(reshape::<B, 3>(grad_a, [m, j, k]), 1, 2);
    let grad_c = B::float_swap_dims(reshape::<B, 3>(grad_c, [k, l, n]), 0, 1);
    let grad_bias = reshape::<B, 2>(grad_bias, [m, n]);
    (grad_a, grad_c, grad_bias)
}
