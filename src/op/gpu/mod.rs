//! The layer on adapters.
//!
//! [`shader`] is the table of all WGSL kernels, [`params`] what each takes, `launch` how one is started. A GPU gets the
//! kernels of `tiled` and `matmul`, a software adapter those of [`super::software`]; those of `plain` compute what
//! neither takes.

mod burn_matmul;
pub(crate) mod chain;
mod conv;
pub(crate) mod launch;
pub(crate) mod matmul;
pub mod params;
pub(crate) mod plain;
pub mod shader;
pub(crate) mod target;
mod tiled;
mod training;

use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::ir::attributes::BufferIOAttr::{ReadOnly, WriteOnly};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::activation::Activation;
use super::choice::{Product, products};
use super::kernels::{LayerOps, Operands, Updated};
use super::layer::activate;
use super::software::{self, padding};
use crate::mps::Order;
use crate::mps::plan::{Contraction, Gradients, Plan};
use crate::mps::strategy::{Strategy, Target};
use launch::{Active, empty, launch_elements, part};
use params::{SumRowsParams, count};

impl LayerOps for CubeBackend {
    fn target(tensor: &CubeTensor) -> Target {
        target::target(&tensor.device)
    }

    fn resize<const D: usize>(tensor: CubeTensor, shape: [usize; D]) -> CubeTensor {
        padding::resize(tensor, shape)
    }

    fn biased_product(x: CubeTensor, weight: CubeTensor, bias: Option<CubeTensor>) -> CubeTensor {
        match (Self::target(&x), products()) {
            (Target::Gpu, Product::Own) => {
                matmul::multiply([x, weight], [false; 2], bias.as_ref(), None)
            }
            (Target::Gpu, Product::Burn(kernel)) => {
                let y = burn_matmul::multiply([x, weight], [false; 2], kernel);
                match bias {
                    None => y,
                    Some(bias) => matmul::finished(y, &into_contiguous(bias), Active::NONE),
                }
            }
            _ => software::matmul::multiply([x, weight], [false; 2], bias.as_ref()),
        }
    }

    fn contract(
        plan: &Plan<Contraction>,
        x: CubeTensor,
        [a, c]: [CubeTensor; 2],
        bias: Option<CubeTensor>,
        active: Option<(CubeTensor, Activation)>,
        shape: [usize; 3],
    ) -> CubeTensor {
        let [x, a, c] = [x, a, c].map(into_contiguous);
        let bias = bias.map(into_contiguous);
        let operands = match plan.order {
            Order::CFirst => [&x, &c, &a],
            Order::AFirst => [&x, &a, &c],
        };
        let bias = bias.as_ref();
        let y = match (plan.strategy, Self::target(&x)) {
            (Strategy::Tiled, Target::Gpu) => {
                return tiled::contract(&plan.pass.view, operands, bias, active, shape);
            }
            (Strategy::Tiled, _) => software::tiled::contract(&plan.pass, operands, bias, shape),
            _ => plain::contract(&plan.pass, operands, bias, shape),
        };
        activate::<Self>(y, active)
    }

    fn grads(
        plan: &Plan<Gradients>,
        x: CubeTensor,
        [a, c]: [CubeTensor; 2],
        grad_y: CubeTensor,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let [x, a, c, grad_y] = [x, a, c, grad_y].map(into_contiguous);
        match (plan.strategy, Self::target(&x)) {
            (Strategy::Tiled, Target::Gpu) => tiled::grads(plan, x, [a, c], grad_y),
            (Strategy::Tiled, _) => {
                software::tiled::grads(&plan.pass.partials, &x, [&a, &c], grad_y)
            }
            _ => plain::grads(&plan.pass, &x, [&a, &c], grad_y),
        }
    }

    fn update(
        plan: &Plan<Gradients>,
        operands: Operands<Self>,
        wants_x: bool,
    ) -> Result<Updated<Self>, Operands<Self>> {
        match (plan.strategy, Self::target(&operands.x)) {
            (Strategy::Tiled, Target::Gpu) => Ok(tiled::update(plan, operands, wants_x)),
            (Strategy::Tiled, _) if plan.layer == operands.update.spec => {
                Ok(software::tiled::update(plan, operands, wants_x))
            }
            _ => Err(operands),
        }
    }

    fn side_by_side(grads: Vec<(CubeTensor, usize)>, stride: usize) -> CubeTensor {
        let row = empty(&grads[0].0, [1, stride]);
        for (grad, begin) in grads {
            let grad = into_contiguous(grad);
            let numbers = grad.meta.shape().num_elements();
            let to = part(&row, begin, [numbers]);
            // The sum of one row.
            let params =
                SumRowsParams { rows: 1, columns: count(numbers), groups: 1, group_size: 1 };
            launch_elements(false, numbers, &[(&grad, ReadOnly), (&to, WriteOnly)], &params);
        }
        row
    }
}
