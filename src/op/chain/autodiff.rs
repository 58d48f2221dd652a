//! The backward pass, registered with Burn's autodiff. The forward pass keeps the input and the weights.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, TensorMetadata};
use burn::tensor::Shape;

use super::{ChainLayer, ChainOps};

/// Backward step of the layer with parents `x` and `weights`.
#[derive(Debug)]
struct ChainBackward;

impl<B: ChainOps> Backward<B, 2> for ChainBackward {
    type State = (FloatTensor<B>, FloatTensor<B>, ChainLayer);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad_y = grads.consume::<B>(&ops.node);
        let (x, weights, layer) = ops.state;
        let [of_x, of_weights] = ops.parents;
        if let Some(node) = of_x {
            grads.register::<B>(
                node.id,
                B::chain_grad_x(weights.clone(), grad_y.clone(), layer.clone()),
            );
        }
        if let Some(node) = of_weights {
            let numbers = weights.shape().num_elements();
            let grad = B::chain_grads(x, weights, grad_y, layer);
            grads.register::<B>(node.id, B::float_reshape(grad, Shape::new([numbers])));
        }
    }
}

impl<B: ChainOps, C: CheckpointStrategy> ChainOps for Autodiff<B, C> {
    fn chain_linear(
        x: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        layer: ChainLayer,
    ) -> FloatTensor<Self> {
        let [(x, of_x), (weights, of_weights)] = [x, weights].map(|tensor| tensor.into_parts());
        let prepared = ChainBackward.prepare::<C>([of_x, of_weights]).compute_bound();
        match prepared.stateful() {
            OpsKind::Tracked(prepared) => {
                let y = B::chain_linear(x.clone(), weights.clone(), layer.clone());
                prepared.finish((x, weights, layer), y)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::chain_linear(x, weights, layer)),
        }
    }

    fn chain_grads(
        x: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        grad_y: FloatTensor<Self>,
        layer: ChainLayer,
    ) -> FloatTensor<Self> {
        let [x, weights, grad_y] = [x, weights, grad_y].map(|tensor| tensor.into_primitive());
        Self::from_inner(B::chain_grads(x, weights, grad_y, layer))
    }

    fn chain_grad_x(
        weights: FloatTensor<Self>,
        grad_y: FloatTensor<Self>,
        layer: ChainLayer,
    ) -> FloatTensor<Self> {
        let [weights, grad_y] = [weights, grad_y].map(|tensor| tensor.into_primitive());
        Self::from_inner(B::chain_grad_x(weights, grad_y, layer))
    }
}
