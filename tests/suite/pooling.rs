//! A convolution with the pooling after it in one pass gives what both give one after the other.

use burn::tensor::{Device, Tensor};
use tnet_gpu::mps::conv::Window;
use tnet_gpu::op::activation::Activation;
use tnet_gpu::op::conv::{ConvLayer, Kernel, Pool, conv_layer, conv_update, pooled, pooled_grad};
use tnet_gpu::op::state::Layout;
use tnet_gpu::op::words::StepWords;

use crate::common::{numbers, tensor, values};

on_each_device!(pooling_goes_with_a_convolution, pooling_over_another_image_is_refused);

/// Windows of a convolution, and of the pooling: without gaps, with gaps and a rest, and overlapping.
fn cases() -> Vec<([Window; 2], Kernel, bool)> {
    let window = |input, kernel, stride, padding| Window { input, kernel, stride, padding };
    let image = window([2, 8, 6], [3, 3], 1, 1);
    let cores = Kernel::TwoCores(image.two_cores([2, 2], 3).unwrap());
    let matrix = Kernel::Matrix { outputs: 4 };
    let over = |kernel, stride| window([4, 8, 6], kernel, stride, 0);
    let mut cases = Vec::new();
    for kernel in [matrix, cores] {
        for pool in [over([2, 2], 2), over([2, 2], 3), over([3, 2], 1)] {
            cases.extend([false, true].map(|mean| ([image, pool], kernel, mean)));
        }
    }
    cases
}

fn counts(kernel: &Kernel) -> Vec<usize> {
    match kernel {
        Kernel::Matrix { outputs } => vec![18 * outputs, *outputs],
        Kernel::TwoCores(spec) => {
            let count = |shape: &[usize]| shape.iter().product();
            vec![count(&spec.a_shape()), count(&spec.c_shape()), spec.outputs()]
        }
    }
}

fn pooling_goes_with_a_convolution(device: &Device) {
    // A block of samples of the CPU, and part of one.
    let batch = 19;
    let (words, betas) = (StepWords::none(device), [0.0; 2]);
    for ([window, over], kernel, mean) in cases() {
        let layout = Layout::new(counts(&kernel));
        let drawn: Vec<Vec<f32>> =
            counts(&kernel).iter().zip(1..).map(|(count, seed)| numbers(*count, seed)).collect();
        let zeros: Vec<Vec<f32>> = drawn.iter().map(|weight| vec![0.0; weight.len()]).collect();
        let [drawn, zeros] = [&drawn, &zeros].map(|of| of.iter().map(Vec::as_slice).collect());
        let (drawn, zeros): (Vec<&[f32]>, Vec<&[f32]>) = (drawn, zeros);
        let all = Tensor::<1>::from_data(&layout.values(drawn.clone())[..], device);
        let state = layout.state([drawn, zeros.clone(), zeros]);
        let state = || Tensor::<1>::from_data(&state[..], device);
        let pool = Pool { window: over, mean };
        let one = ConvLayer::new(window, kernel, &layout).unwrap();
        let both = one.clone().followed_by(pool).unwrap();
        let x = || tensor(&numbers(batch * 96, 7), [batch, 96], device);

        let between = conv_layer(x(), all.clone(), &one, Activation::NONE, &words).unwrap();
        let expected = pooled(between.clone(), pool).unwrap();
        let [_, outputs] = expected.dims();
        let y = conv_layer(x(), all, &both, Activation::NONE, &words).unwrap();
        // The same sums of the same numbers.
        assert_eq!(values(y), values(expected), "{pool:?}, {kernel:?}");

        let grad_y = || tensor(&numbers(batch * outputs, 9), [batch, outputs], device);
        let d = pooled_grad(between, grad_y(), pool).unwrap();
        let of_one = conv_update(state(), &one, x(), None, d, &words, betas, true).unwrap();
        let of_both =
            conv_update(state(), &both, x(), None, grad_y(), &words, betas, true).unwrap();
        // Between weights there is room, which has any numbers.
        let all = |(grad_x, state): (Option<Tensor<2>>, Tensor<1>)| {
            let state = values(state);
            let of_weight = |weight| layout.of_weight(&state, weight).concat();
            let weights: Vec<Vec<f32>> = (0..layout.weights.len()).map(of_weight).collect();
            (values(grad_x.unwrap()), weights)
        };
        assert_eq!(all(of_both), all(of_one), "{pool:?}, {kernel:?}");
    }
}

fn pooling_over_another_image_is_refused(_device: &Device) {
    let ([window, over], kernel, mean) = cases().swap_remove(0);
    let layer = ConvLayer::new(window, kernel, &Layout::new(counts(&kernel))).unwrap();
    let other = Window { input: [4, 8, 7], ..over };
    let error = layer.followed_by(Pool { window: other, mean }).unwrap_err().to_string();
    assert!(error.starts_with("pool: "), "{error}");
}
