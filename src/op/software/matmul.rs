//! Matrix products for software adapters.
//!
//! Burn's own product takes more than twice as long on llvmpipe as `matmul_tiled.wgsl`: 6.7 ms for 128 x 512
//! times 512 x 512 on two cores, where that takes 1.7 now (2.8 then). It is also tuned while
//! it runs, so that another run may get other bits; here the kernel and the order of the additions
//! follow from the sizes alone. A single row is where Burn's is faster, 0.27 ms against 1.0.

use burn_cubecl::tensor::CubeTensor;

use crate::op::gpu::launch::{MAX_ITERATIONS, empty, launch};
use crate::op::gpu::shader::{
    MATMUL_COLUMNS, MATMUL_I, MATMUL_J, MATMUL_ROWS, START_BIAS, START_Y, START_ZERO, Shader,
};

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

    /// A matrix whose columns lie one after the other.
    pub fn columns(tensor: &'a CubeTensor) -> Self {
        Self { tensor, transposed: true }
    }
}

/// `C[i,j] = Σ_k A[i,k] B[k,j]`, plus `bias[j]`, into a new contiguous tensor `[rows, columns]`.
///
/// f32 operands of `sizes` rows, inner and columns, each at least 1: nothing is checked here. The same
/// operands give the same bits.
pub fn matmul(a: Operand, b: Operand, bias: Option<&CubeTensor>, sizes: [usize; 3]) -> CubeTensor {
    let [rows, inner, columns] = sizes;
    let c = empty(a.tensor, [rows, columns]);
    // The binding needs a buffer even where it is not read.
    let inputs = |first: Operand<'_>, second: Operand<'_>| {
        [first.tensor.clone(), second.tensor.clone(), bias.unwrap_or(a.tensor).clone()]
    };
    let tiled = can_tile(a, b, sizes);
    let (lanes, uniform) = match tiled {
        true => (MATMUL_I * Shader::MatmulTiled.workgroup_size(), MATMUL_J),
        false => (MATMUL_ROWS * Shader::Matmul.workgroup_size(), MATMUL_COLUMNS),
    };
    // Workgroups with the lanes along `p`. Where fewer are needed with the lanes along the columns, the
    // transposed product is taken: Cᵀ = Bᵀ Aᵀ.
    let workgroups = |p: usize, q: usize| p.div_ceil(lanes as usize) * q.div_ceil(uniform as usize);
    let turned = workgroups(columns, rows) < workgroups(rows, columns);
    let [a, b] = match turned {
        true => [b, a].map(|operand| Operand { transposed: !operand.transposed, ..operand }),
        false => [a, b],
    };
    let [p, q] = if turned { [columns, rows] } else { [rows, columns] };
    let inputs = inputs(a, b);
    let inputs = inputs.each_ref();
    let start = if bias.is_some() { START_BIAS } else { START_ZERO };

    if tiled {
        let turned = [a.transposed, b.transposed, turned].map(usize::from);
        let params = [&[p, inner, q], &turned[..], &[start]].concat();
        let lanes = workgroups(p, q) * Shader::MatmulTiled.workgroup_size() as usize;
        launch(Shader::MatmulTiled, lanes, &inputs, &c, &params);
        return c;
    }
    let strides = |transposed, [rows, columns]: [usize; 2]| match transposed {
        true => [1, rows],
        false => [columns, 1],
    };
    let layout = [
        strides(a.transposed, [p, inner]),
        strides(b.transposed, [inner, q]),
        strides(turned, [p, q]),
        if turned { [1, 0] } else { [0, 1] },
    ];
    let lanes = workgroups(p, q) * Shader::Matmul.workgroup_size() as usize;
    let mut start = start;
    for begin in (0..inner).step_by(MAX_ITERATIONS) {
        let end = inner.min(begin + MAX_ITERATIONS);
        let params = [&[p, q], layout.as_flattened(), &[start, begin, end]].concat();
        launch(Shader::Matmul, lanes, &inputs, &c, &params);
        start = START_Y;
    }
    c
}

/// Whether `matmul_tiled.wgsl` can compute this: vec4 along what is contiguous, a block of 4 along what is
/// not, and a loop that no driver ends.
fn can_tile(a: Operand, b: Operand, [rows, inner, columns]: [usize; 3]) -> bool {
    let contiguous = [
        if a.transposed { rows } else { inner },
        if b.transposed { inner } else { columns },
        columns,
    ];
    contiguous.iter().all(|extent| extent.is_multiple_of(4))
        && rows.min(inner).min(columns) >= 4
        && inner.div_ceil(4) <= MAX_ITERATIONS
}
