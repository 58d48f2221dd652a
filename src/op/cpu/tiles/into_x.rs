//! The gradient by the input, from what the gradients by the cores have in between.

use std::mem::MaybeUninit;

use super::Tiles;
use crate::mps::View;
use crate::op::cpu::simd::{LANES, Product, Transpose};

/// `F` as the right side of `grad_X[s, r] = Σ_kv V[s, k v] F[k v, r]`.
pub(super) struct IntoX {
    /// `F[k v, r]`, `v` and `r` padded.
    f: Vec<f32>,
    padded_r: usize,
    /// Whether whole rows of `r` can be written where they belong.
    direct: bool,
}

impl IntoX {
    pub(super) fn new(tiles: &Tiles) -> Self {
        let View { r, v, k, x, .. } = tiles.view;
        let padded_r = r.next_multiple_of(LANES);
        let wide = k * tiles.padded_v;
        let mut f = vec![0.0; wide * padded_r];
        for (row, from) in tiles.f.chunks_exact(wide).enumerate() {
            for bond in 0..k {
                for column in 0..v {
                    let at = bond * tiles.padded_v + column;
                    f[at * padded_r + row] = from[at];
                }
            }
        }
        Self { f, padded_r, direct: x == [padded_r, 1] }
    }

    /// Writes the gradient by the inputs of a block of samples, from its `V[b, s k, v]`.
    pub(super) fn write(
        &self,
        tiles: &Tiles,
        between: &[f32],
        rows: &mut [f32],
        grad_x: &mut [MaybeUninit<f32>],
    ) {
        let View { s, r, k, x: [x_s, x_r], .. } = tiles.view;
        let wide = k * tiles.padded_v;
        for (v, grad_x) in between.chunks_exact(s * wide).zip(grad_x.chunks_exact_mut(s * r)) {
            for column in (0..self.padded_r).step_by(LANES) {
                let product = Product {
                    terms: wide,
                    rows: s,
                    left: v,
                    left_strides: [1, wide],
                    right: &self.f[column..],
                    right_stride: self.padded_r,
                    add: false,
                };
                product.into(&mut rows[column..], self.padded_r, tiles.arch);
            }
            if self.direct {
                grad_x.write_copy_of_slice(rows);
            } else if x_r == 1 {
                for (at, row) in rows.chunks_exact(self.padded_r).enumerate() {
                    grad_x[at * x_s..][..r].write_copy_of_slice(&row[..r]);
                }
            } else {
                let by_r = Transpose { elements: rows, rows: s, columns: r, stride: self.padded_r };
                by_r.into_uninit(grad_x, x_r, tiles.arch);
            }
        }
    }
}
