//! The backward pass, registered with Burn's autodiff.
//!
//! The forward pass keeps the input and the cores, not the intermediate `U`: recomputing it is
//! cheaper than keeping `J·K·N` numbers per sample. `grad_x` is computed only where something upstream
//! asks for it; in a first layer nothing does.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend};

use super::MpsOps;

/// Backward step of the layer with parents `x, a, c` and, where `N` is 4, `bias`.
#[derive(Debug)]
struct MpsBackward;

impl<B: MpsOps, const N: usize> Backward<B, N> for MpsBackward {
    /// `x`, `a`, `c`.
    type State = [FloatTensor<B>; 3];

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad_y = grads.consume::<B>(&ops.node);
        let [x, a, c] = ops.state;
        let mut parents = ops.parents.into_iter();
        let [of_x, of_a, of_c, of_bias] = std::array::from_fn(|_| parents.next().flatten());

        if let Some(node) = of_x {
            grads.register::<B>(node.id, B::mps_grad_x(a.clone(), c.clone(), grad_y.clone()));
        }
        if of_a.is_some() || of_c.is_some() {
            // The bias adds next to nothing: its gradient is the sum of `grad_y`, which is read anyway.
            let (grad_a, grad_c, grad_bias) = B::mps_grads(x, a, c, grad_y);
            let of = [(of_a, grad_a), (of_c, grad_c), (of_bias, grad_bias)];
            for (node, grad) in of {
                if let Some(node) = node {
                    grads.register::<B>(node.id, grad);
                }
            }
        } else if let Some(node) = of_bias {
            grads.register::<B>(node.id, B::mps_grad_bias(grad_y));
        }
    }
}

impl<B: MpsOps, C: CheckpointStrategy> MpsOps for Autodiff<B, C> {
    fn mps_linear(
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        c: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let [(x, of_x), (a, of_a), (c, of_c), (bias, of_bias)] =
            [x, a, c, bias].map(|tensor| tensor.into_parts());
        let prepared = MpsBackward.prepare::<C>([of_x, of_a, of_c, of_bias]).compute_bound();
        match prepared.stateful() {
            OpsKind::Tracked(prepared) => {
                let y = B::mps_linear(x.clone(), a.clone(), c.clone(), bias);
                prepared.finish([x, a, c], y)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::mps_linear(x, a, c, bias)),
        }
    }

    fn mps_contract(
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        c: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let [(x, of_x), (a, of_a), (c, of_c)] = [x, a, c].map(|tensor| tensor.into_parts());
        let prepared = MpsBackward.prepare::<C>([of_x, of_a, of_c]).compute_bound();
        match prepared.stateful() {
            OpsKind::Tracked(prepared) => {
                let y = B::mps_contract(x.clone(), a.clone(), c.clone());
                prepared.finish([x, a, c], y)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::mps_contract(x, a, c)),
        }
    }

    // The gradients are not differentiated again: Burn's autodiff is first order, and these run
    // on the backend beneath it.

    fn mps_grads(
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        c: FloatTensor<Self>,
        grad_y: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let [x, a, c, grad_y] = [x, a, c, grad_y].map(|tensor| tensor.into_primitive());
        let (grad_a, grad_c, grad_bias) = B::mps_grads(x, a, c, grad_y);
        (Self::from_inner(grad_a), Self::from_inner(grad_c), Self::from_inner(grad_bias))
    }

    fn mps_grad_bias(grad_y: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::from_inner(B::mps_grad_bias(grad_y.into_primitive()))
    }

    fn mps_grad_x(
        a: FloatTensor<Self>,
        c: FloatTensor<Self>,
        grad_y: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let [a, c, grad_y] = [a, c, grad_y].map(|tensor| tensor.into_primitive());
        Self::from_inner(B::mps_grad_x(a, c, grad_y))
    }
}
