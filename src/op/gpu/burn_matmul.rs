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

/// The product of two matrices, each transposed first where `transposed` says so. Where the device cannot run the kernel,
/// by Burn's naive one, which runs everywhere: a measurement then finds it slow, and leaves it.
#[expect(clippy::panic, reason = "a backend's operations cannot return errors; Burn's panic too")]
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
    let launch = |strategy: Strategy| {
        let mut types = MatmulElems::from_single_dtype(float);
        let (left, right, to) = (left.clone(), right.clone(), product.clone().binding());
        launch_ref(&strategy.into(), &client, left, right, to, &mut types)
    };
    let launched = launch(strategy).or_else(|error| {
        tracing::debug!("{kernel:?} cannot run here, the naive kernel does: {error:?}");
        launch(Strategy::Naive)
    });
    launched.unwrap_or_else(|error| panic!("a product of Burn's: {error:?}"));
    product
}
