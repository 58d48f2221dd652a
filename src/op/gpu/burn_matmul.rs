//! Burn's matrix products on GPUs, by the kernel that was chosen.
//!
//! Burn itself times its kernels while a program runs and takes the fastest, in the next process another one where their
//! times are close: a run that is resumed would not keep its bits. Here the tiles follow from sizes and device.

use burn_cubecl::cubecl::ir::{ElemType, FloatKind};
use burn_cubecl::tensor::CubeTensor;
use cubek::matmul::definition::MatmulElems;
use cubek::matmul::launch::launch_ref;
use cubek::matmul::multi_level::Strategy;
use cubek::std::InputBinding;

use super::launch::empty;
use crate::op::choice::BurnKernel;

#[expect(clippy::panic, reason = "a backend's operations cannot return errors; Burn's panic too")]
/// The product of two matrices, each transposed first where `transposed` says so.
pub fn multiply(
    operands: [CubeTensor; 2],
    transposed: [bool; 2],
    kernel: BurnKernel,
) -> CubeTensor {
    let [mut left, mut right] = operands;
    for (operand, transposed) in [(&mut left, transposed[0]), (&mut right, transposed[1])] {
        if transposed {
            operand.meta.swap(0, 1);
        }
    }
    let [[rows, _], [_, columns]] = [&left, &right].map(|operand| operand.meta.shape().dims());
    let product = empty(&left, [rows, columns]);
    let strategy = match kernel {
        BurnKernel::SimpleUnit => Strategy::SimpleUnit(Default::default()),
        BurnKernel::DoubleUnit => Strategy::DoubleUnit(Default::default()),
    };
    let float = ElemType::Float(FloatKind::F32);
    let client = left.client.clone();
    let [left, right] = [left, right].map(|operand| InputBinding::new(operand.binding(), float));
    let mut types = MatmulElems::from_single_dtype(float);
    let launched =
        launch_ref(&strategy.into(), &client, left, right, product.clone().binding(), &mut types);
    // Both kernels need no more than any device has, so that a refusal is a bug.
    launched.unwrap_or_else(|error| panic!("{kernel:?}, [{rows}, {columns}]: {error:?}"));
    product
}
