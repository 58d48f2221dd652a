//! Cases of the layer: operands, and what must come out.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use tnet_gpu::mps::MpsSpec;
use tnet_gpu::mps::reference::Operands;
use tnet_gpu::verify::{self, Case, chains, convolutions, two_cores};

use super::numbers;

/// The built-in cases of `verify`. Their f64 references take seconds, so all tests share them.
pub static CASES: LazyLock<Vec<Case>> = LazyLock::new(verify::built_in);

/// One of them, small and with extents that all differ.
pub fn primes() -> &'static two_cores::Case {
    let named = |case: &'static Case| match case {
        Case::TwoCores(case) if case.name.starts_with("primes") => Some(case),
        _ => None,
    };
    CASES.iter().find_map(named).unwrap()
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
pub fn write_case(path: &Path, case: &two_cores::Case, off: f64) {
    let two_cores::Case { operands, expected, .. } = case;
    let (spec, batch) = (operands.spec, operands.batch);
    let (x, y) = (vec![batch, spec.j, spec.l], vec![batch, spec.m, spec.n]);
    let (a, c) = (spec.a_shape().to_vec(), spec.c_shape().to_vec());
    let bias = spec.bias_shape().to_vec();
    let singles = [
        ("x", &x, &operands.x),
        ("a", &a, &operands.a),
        ("c", &c, &operands.c),
        ("bias", &bias, &operands.bias),
        ("dy", &y, &operands.grad_y),
    ];
    let doubles = [
        ("y", &y, &expected.y),
        ("da", &a, &expected.grad_a),
        ("dc", &c, &expected.grad_c),
        ("dbias", &bias, &expected.grad_bias),
        ("dx", &x, &expected.grad_x),
    ];
    let named = |name: &str| name.to_owned();
    write(
        path,
        singles.map(|(name, shape, numbers)| (named(name), shape.clone(), numbers.clone())).into(),
        doubles.map(|(name, shape, numbers)| (named(name), shape.clone(), numbers.clone())).into(),
        off,
    );
}

/// The same of a chain.
pub fn write_chain(path: &Path, case: &chains::Case, off: f64) {
    let chains::Case { operands, expected, .. } = case;
    let (chain, batch) = (&operands.chain, operands.batch);
    let of_batch = |factors: &[usize]| [&[batch], factors].concat();
    let (x, y) = (of_batch(chain.in_factors()), of_batch(chain.out_factors()));
    let bias = chain.out_factors().to_vec();
    let core = |at: usize| (format!("g{}", at + 1), chain.core_shape(at).to_vec());
    let mut singles = vec![
        ("x".to_owned(), x.clone(), operands.x.clone()),
        ("bias".to_owned(), bias.clone(), operands.bias.clone()),
        ("dy".to_owned(), y.clone(), operands.grad_y.clone()),
    ];
    let mut doubles = vec![
        ("y".to_owned(), y, expected.y.clone()),
        ("dbias".to_owned(), bias, expected.grad_bias.clone()),
        ("dx".to_owned(), x, expected.grad_x.clone()),
    ];
    for (at, (numbers, grad)) in operands.cores.iter().zip(&expected.grad_cores).enumerate() {
        let (name, shape) = core(at);
        doubles.push((format!("d{name}"), shape.clone(), grad.clone()));
        singles.push((name, shape, numbers.clone()));
    }
    write(path, singles, doubles, off);
}

/// The same of a convolution.
pub fn write_convolution(path: &Path, case: &convolutions::Case, off: f64) {
    let convolutions::Case { operands, expected, .. } = case;
    let (spec, window, batch) = (operands.spec, operands.window, operands.batch);
    let ([channels, height, width], [rows, columns]) = (window.input, window.output());
    let (x, y) = ([batch, channels, height, width], [batch, spec.outputs(), rows, columns]);
    let (a, c, bias) =
        (spec.a_shape().to_vec(), spec.c_shape().to_vec(), spec.bias_shape().to_vec());
    let named = |name: &str| name.to_owned();
    let singles = vec![
        (named("x"), x.to_vec(), operands.x.clone()),
        (named("a"), a.clone(), operands.a.clone()),
        (named("c"), c.clone(), operands.c.clone()),
        (named("bias"), bias.clone(), operands.bias.clone()),
        (named("dy"), y.to_vec(), operands.grad_y.clone()),
    ];
    let doubles = vec![
        (named("y"), y.to_vec(), expected.y.clone()),
        (named("da"), a, expected.grad_a.clone()),
        (named("dc"), c, expected.grad_c.clone()),
        (named("dbias"), bias, expected.grad_bias.clone()),
        (named("dx"), x.to_vec(), expected.grad_x.clone()),
    ];
    let [kernel_rows, kernel_columns] = window.kernel;
    let metadata = [
        ("kernel", format!("{kernel_rows},{kernel_columns}")),
        ("stride", window.stride.to_string()),
        ("padding", window.padding.to_string()),
    ];
    let metadata = metadata.map(|(name, text)| (name.to_owned(), text));
    write_with(path, singles, doubles, off, Some(metadata.into()));
}

type Named<T> = (String, Vec<usize>, Vec<T>);

fn write(path: &Path, singles: Vec<Named<f32>>, doubles: Vec<Named<f64>>, off: f64) {
    write_with(path, singles, doubles, off, None);
}

fn write_with(
    path: &Path,
    singles: Vec<Named<f32>>,
    mut doubles: Vec<Named<f64>>,
    off: f64,
    metadata: Option<HashMap<String, String>>,
) {
    doubles[0].2[0] += off;
    let views = singles
        .iter()
        .map(|(name, shape, numbers)| (name, Dtype::F32, shape, bytemuck::cast_slice(numbers)));
    let views = views.chain(doubles.iter().map(|(name, shape, numbers)| {
        (name, Dtype::F64, shape, bytemuck::cast_slice::<f64, u8>(numbers))
    }));
    let views = views.map(|(name, dtype, shape, bytes)| {
        (name.as_str(), TensorView::new(dtype, shape.clone(), bytes).unwrap())
    });
    fs::write(path, safetensors::serialize(views, metadata).unwrap()).unwrap();
}

/// Writes every built-in case into a folder: a process that is given it need not compute the
/// references again.
pub fn write_cases(folder: &Path) {
    for (at, case) in CASES.iter().enumerate() {
        let title = case.name().split(':').next().unwrap();
        let file = folder.join(format!("{at:02} {title}.safetensors"));
        match case {
            Case::TwoCores(case) => write_case(&file, case, 0.0),
            Case::Chain(case) => write_chain(&file, case, 0.0),
            Case::Convolution(case) => write_convolution(&file, case, 0.0),
        }
    }
}
