//! The layer by way of `W`: rebuilt from the cores, then one matrix product, as a dense layer does it.
//!
//! `W[(j l),(m n)] = Σ_k A[m,k,j] C[l,k,n]` costs `J·L·M·N·K` multiply-adds once a batch, and a
//! product with it `J·L·M·N` a sample. Where the bond is large, that is less than both contractions
//! of every sample. Written once for every backend; the matrix product is the caller's.

use burn::backend::Backend;
use burn::backend::tensor::FloatTensor;
use burn::tensor::Shape;

use crate::mps::MpsSpec;

/// A product of two matrices.
pub type Product<B> = fn(FloatTensor<B>, FloatTensor<B>) -> FloatTensor<B>;

fn reshape<B: Backend, const D: usize>(
    tensor: FloatTensor<B>,
    shape: [usize; D],
) -> FloatTensor<B> {
    B::float_reshape(tensor, Shape::new(shape))
}

/// `A[(m j), k]`.
fn left<B: Backend>(a: FloatTensor<B>, spec: &MpsSpec) -> FloatTensor<B> {
    reshape::<B, 2>(B::float_swap_dims(a, 1, 2), [spec.m * spec.j, spec.k])
}

/// `C[k, (l n)]`.
fn right<B: Backend>(c: FloatTensor<B>, spec: &MpsSpec) -> FloatTensor<B> {
    reshape::<B, 2>(B::float_swap_dims(c, 0, 1), [spec.k, spec.l * spec.n])
}

/// `W[(j l), (m n)]`.
fn weight<B: Backend>(
    a: FloatTensor<B>,
    c: FloatTensor<B>,
    spec: &MpsSpec,
    matmul: Product<B>,
) -> FloatTensor<B> {
    let MpsSpec { m, n, j, l, .. } = *spec;
    let w = matmul(left::<B>(a, spec), right::<B>(c, spec));
    let w = B::float_permute(reshape::<B, 4>(w, [m, j, l, n]), &[1, 2, 0, 3]);
    reshape::<B, 2>(w, [j * l, m * n])
}

/// `Y = X W + B`.
pub fn forward<B: Backend>(
    x: FloatTensor<B>,
    a: FloatTensor<B>,
    c: FloatTensor<B>,
    bias: Option<FloatTensor<B>>,
    spec: &MpsSpec,
    batch: usize,
    matmul: Product<B>,
) -> FloatTensor<B> {
    let x = reshape::<B, 2>(x, [batch, spec.inputs()]);
    let y = matmul(x, weight::<B>(a, c, spec, matmul));
    let y = match bias {
        Some(bias) => B::float_add(y, reshape::<B, 2>(bias, [1, spec.outputs()])),
        None => y,
    };
    reshape::<B, 3>(y, [batch, spec.m, spec.n])
}

/// `grad_x = D Wᵀ`.
pub fn grad_x<B: Backend>(
    a: FloatTensor<B>,
    c: FloatTensor<B>,
    grad_y: FloatTensor<B>,
    spec: &MpsSpec,
    batch: usize,
    matmul: Product<B>,
) -> FloatTensor<B> {
    let d = reshape::<B, 2>(grad_y, [batch, spec.outputs()]);
    let grad_x = matmul(d, B::float_swap_dims(weight::<B>(a, c, spec, matmul), 0, 1));
    reshape::<B, 3>(grad_x, [batch, spec.j, spec.l])
}

/// `grad_W = Xᵀ D`, then `grad_A[m,k,j] = Σ_ln grad_W C` and `grad_C[l,k,n] = Σ_mj A grad_W`; and
/// `grad_bias = Σ_b D`.
pub fn grads<B: Backend>(
    x: FloatTensor<B>,
    a: FloatTensor<B>,
    c: FloatTensor<B>,
    grad_y: FloatTensor<B>,
    spec: &MpsSpec,
    batch: usize,
    matmul: Product<B>,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let MpsSpec { m, n, j, l, k } = *spec;
    let x = reshape::<B, 2>(x, [batch, j * l]);
    let d = reshape::<B, 2>(grad_y, [batch, m * n]);
    let grad_w = matmul(B::float_swap_dims(x, 0, 1), d.clone());
    // [j, l, m, n] as [(m j), (l n)]
    let grad_w = B::float_permute(reshape::<B, 4>(grad_w, [j, l, m, n]), &[2, 0, 1, 3]);
    let grad_w = reshape::<B, 2>(grad_w, [m * j, l * n]);
    let grad_a = matmul(grad_w.clone(), B::float_swap_dims(right::<B>(c, spec), 0, 1));
    let grad_a = B::float_swap_dims(reshape::<B, 3>(grad_a, [m, j, k]), 1, 2);
    let grad_c = matmul(B::float_swap_dims(left::<B>(a, spec), 0, 1), grad_w);
    let grad_c = B::float_swap_dims(reshape::<B, 3>(grad_c, [k, l, n]), 0, 1);
    let grad_bias = reshape::<B, 2>(B::float_sum_dim(d, 0), [m, n]);
    (grad_a, grad_c, grad_bias)
}
