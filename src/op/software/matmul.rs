//! Matrix products for software adapters.
//!
//! Burn's own product takes more than twice as long on llvmpipe as `matmul_tiled.wgsl`: 6.7 ms for 128 x 512
//! times 512 x 512 on two cores, where that takes 1.7 now (2.8 then). It is also tuned while
//! it runs, so that another run may get other bits; here the kernel and the order of the additions
//! follow from the sizes alone. A single row is where Burn's is faster, 0.27 ms against 1.0.

use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use crate::mps::plan::SOFTWARE_LANES;
use crate::op::gpu::launch::{empty, launch, part, sum_rows_to};
use crate::op::gpu::params::{MatmulParams, MatmulTiledParams, count};
use crate::op::gpu::shader::{
    MATMUL_COLUMNS, MATMUL_I, MATMUL_J, MATMUL_ROWS, START_BIAS, START_OUTPUT, START_ZERO,
};

/// Longest sum of one launch: the next ones add to it. A sum of 47,040 terms in a row was off by 5.5e-6 of its norm, in pieces
/// of this length it is by 1.1e-6; and no driver ends a loop as long as this.
const LONGEST_SUM: usize = 2048;

/// A factor of a product: a contiguous tensor, whatever its shape, and whether the matrix lies in it
/// transposed.
#[derive(Debug, Clone, Copy)]
pub struct Operand<'a> {
    /// The buffer.
    pub tensor: &'a CubeTensor,
    /// Whether its columns are contiguous, not its rows.
    pub transposed: bool,
}

impl<'a> Operand<'a> {
    /// A matrix whose rows lie one after the other.
    pub fn rows(tensor: &'a CubeTensor) -> Self {
        Self { tensor, transposed: false }
    }

    /// The same numbers as the transposed matrix.
    fn transpose(self) -> Self {
        Self { transposed: !self.transposed, ..self }
    }
}

/// `C[i,j] = Σ_k A[i,k] B[k,j]`, plus `bias[j]`, into a new contiguous tensor `[rows, columns]`.
///
/// f32 operands of `sizes` rows, inner and columns, each at least 1. The same operands give the same bits.
///
/// # Panics
///
/// When an operand does not have as many elements as `sizes` say.
pub fn matmul(a: Operand, b: Operand, bias: Option<&CubeTensor>, sizes: [usize; 3]) -> CubeTensor {
    let [rows, _, columns] = sizes;
    let c = empty(a.tensor, [rows, columns]);
    matmul_to(a, b, bias, sizes, &c);
    c
}

/// The product of two matrices, each transposed first where `transposed` says so, plus `bias` in every row.
pub(crate) fn multiply(
    operands: [CubeTensor; 2],
    transposed: [bool; 2],
    bias: Option<&CubeTensor>,
) -> CubeTensor {
    let [a, b] = operands.map(into_contiguous);
    let bias = bias.map(|bias| into_contiguous(bias.clone()));
    let extents = |tensor: &CubeTensor, transposed| {
        let [rows, columns] = tensor.meta.shape().dims();
        if transposed { [columns, rows] } else { [rows, columns] }
    };
    let ([rows, inner], [_, columns]) = (extents(&a, transposed[0]), extents(&b, transposed[1]));
    let [a, b] = [(&a, transposed[0]), (&b, transposed[1])]
        .map(|(tensor, transposed)| Operand { tensor, transposed });
    matmul(a, b, bias.as_ref(), [rows, inner, columns])
}

/// The gradients of a dense layer in a row of `stride` numbers: of the weight, `Xᵀ grad_y`, and of the bias, the sums of
/// the columns of `grad_y`, from `bias` on.
pub(crate) fn grads(
    x: CubeTensor,
    grad_y: CubeTensor,
    bias: Option<usize>,
    stride: usize,
) -> CubeTensor {
    let [x, grad_y] = [x, grad_y].map(into_contiguous);
    let ([batch, inputs], [_, outputs]) = (x.meta.shape().dims(), grad_y.meta.shape().dims::<2>());
    let grads = empty(&x, [1, stride]);
    let transposed = Operand { tensor: &x, transposed: true };
    let of_weight = part(&grads, 0, [inputs, outputs]);
    matmul_to(transposed, Operand::rows(&grad_y), None, [inputs, batch, outputs], &of_weight);
    if let Some(begin) = bias {
        sum_rows_to(grad_y, [batch, outputs], &part(&grads, begin, [outputs]));
    }
    grads
}

/// The same as [`matmul`] into a contiguous tensor.
fn matmul_to(a: Operand, b: Operand, bias: Option<&CubeTensor>, sizes: [usize; 3], c: &CubeTensor) {
    let [rows, inner, columns] = sizes;
    let holds = |tensor: &CubeTensor, count| tensor.meta.shape().num_elements() == count;
    assert!(
        holds(a.tensor, rows * inner)
            && holds(b.tensor, inner * columns)
            && bias.is_none_or(|bias| holds(bias, columns)),
        "operands of a product of {rows} x {inner} times {inner} x {columns}"
    );
    // The binding needs a buffer even where it is not read.
    let bias_or_any = bias.unwrap_or(a.tensor);
    let mut start = if bias.is_some() { START_BIAS } else { START_ZERO };
    let tiled = can_tile(a, b, sizes);
    let (lanes, uniform) = match tiled {
        true => (MATMUL_I * SOFTWARE_LANES, MATMUL_J),
        false => (MATMUL_ROWS * SOFTWARE_LANES, MATMUL_COLUMNS),
    };
    // Workgroups with the lanes along `p`. Where fewer are needed with the lanes along the columns, the
    // transposed product is taken: Cᵀ = Bᵀ Aᵀ.
    let workgroups = |p: usize, q: usize| p.div_ceil(lanes as usize) * q.div_ceil(uniform as usize);
    let transposed = workgroups(columns, rows) < workgroups(rows, columns);
    let ([a, b], [p, q]) = match transposed {
        true => ([b, a].map(Operand::transpose), [columns, rows]),
        false => ([a, b], [rows, columns]),
    };
    let inputs = [a.tensor, b.tensor, bias_or_any];
    let invocations = workgroups(p, q) * SOFTWARE_LANES as usize;
    let pieces =
        (0..inner).step_by(LONGEST_SUM).map(|begin| [begin, inner.min(begin + LONGEST_SUM)]);

    if tiled {
        for [begin, end] in pieces {
            let params = MatmulTiledParams {
                rows: count(p),
                inner: count(inner),
                columns: count(q),
                a_transposed: u32::from(a.transposed),
                b_transposed: u32::from(b.transposed),
                c_transposed: u32::from(transposed),
                start,
                k_begin: count(begin),
                k_end: count(end),
            };
            launch(invocations, &inputs, c, &params);
            start = START_OUTPUT;
        }
        return;
    }
    let strides = |transposed, [rows, columns]: [usize; 2]| match transposed {
        true => [1, count(rows)],
        false => [count(columns), 1],
    };
    let [a_i, a_k] = strides(a.transposed, [p, inner]);
    let [b_k, b_j] = strides(b.transposed, [inner, q]);
    let [c_i, c_j] = strides(transposed, [p, q]);
    let [bias_i, bias_j] = if transposed { [1, 0] } else { [0, 1] };
    for [begin, end] in pieces {
        let params = MatmulParams {
            rows: count(p),
            columns: count(q),
            a_i,
            a_k,
            b_k,
            b_j,
            c_i,
            c_j,
            bias_i,
            bias_j,
            start,
            k_begin: count(begin),
            k_end: count(end),
        };
        launch(invocations, &inputs, c, &params);
        start = START_OUTPUT;
    }
}

/// Whether `matmul_tiled.wgsl` can compute this: vec4 along what is contiguous, a block of 4 along what is
/// not.
fn can_tile(a: Operand, b: Operand, [rows, inner, columns]: [usize; 3]) -> bool {
    let contiguous = [
        if a.transposed { rows } else { inner },
        if b.transposed { inner } else { columns },
        columns,
    ];
    contiguous.iter().all(|extent| extent.is_multiple_of(4)) && rows.min(inner).min(columns) >= 4
}
