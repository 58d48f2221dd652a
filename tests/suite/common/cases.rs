//! Cases of the layer: operands, and what must come out.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use tnet_gpu::mps::MpsSpec;
use tnet_gpu::mps::reference::Operands;
use tnet_gpu::verify::{self, Case};

use super::numbers;

/// The built-in cases of `verify`. Their f64 references take seconds, so all tests share them.
pub static CASES: LazyLock<Vec<Case>> = LazyLock::new(verify::built_in);

/// One of them, small and with extents that all differ.
pub fn primes() -> &'static Case {
    CASES.iter().find(|case| case.name.starts_with("primes")).unwrap()
}

/// Random operands of a layer.
pub fn operands(spec: MpsSpec, batch: usize) -> Operands {
    let of = |seed: u64, shape: &[usize]| numbers(shape.iter().product(), seed);
    let (x, y) = (batch * spec.inputs(), batch * spec.outputs());
    let (x, grad_y) = (of(1, &[x]), of(5, &[y]));
    let (a, c, bias) = (of(2, &spec.a_shape()), of(3, &spec.c_shape()), of(4, &spec.bias_shape()));
    Operands { spec, batch, x, a, c, bias, grad_y }
}

/// Writes a case as a reference file of `verify --cases`, its expected output off by `off` in one
/// element.
pub fn write_case(path: &Path, case: &Case, off: f64) {
    let Case { operands, expected, .. } = case;
    let (spec, batch) = (operands.spec, operands.batch);
    let (x, y) = (vec![batch, spec.j, spec.l], vec![batch, spec.m, spec.n]);
    let (a, c) = (spec.a_shape().to_vec(), spec.c_shape().to_vec());
    let bias = spec.bias_shape().to_vec();
    let mut expected_y = expected.y.clone();
    expected_y[0] += off;
    let single = |values| (Dtype::F32, bytemuck::cast_slice::<f32, u8>(values));
    let double = |values| (Dtype::F64, bytemuck::cast_slice::<f64, u8>(values));
    let tensors = [
        ("x", &x, single(&operands.x)),
        ("a", &a, single(&operands.a)),
        ("c", &c, single(&operands.c)),
        ("bias", &bias, single(&operands.bias)),
        ("dy", &y, single(&operands.grad_y)),
        ("y", &y, double(&expected_y)),
        ("da", &a, double(&expected.grad_a)),
        ("dc", &c, double(&expected.grad_c)),
        ("dbias", &bias, double(&expected.grad_bias)),
        ("dx", &x, double(&expected.grad_x)),
    ];
    let views = tensors.map(|(name, shape, (dtype, bytes))| {
        (name, TensorView::new(dtype, shape.clone(), bytes).unwrap())
    });
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// Writes every built-in case into a folder: a process that is given it need not compute the
/// references again.
pub fn write_cases(folder: &Path) {
    for (at, case) in CASES.iter().enumerate() {
        let title = case.name.split(':').next().unwrap();
        write_case(&folder.join(format!("{at:02} {title}.safetensors")), case, 0.0);
    }
}
