//! A step of Adam, with and without weight decay, and the mean of the weights.

use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Tensor};
use tnet_gpu::op::state::{AdamStep, Betas, Layout};
use tnet_gpu::op::training;
use tnet_gpu::op::words::StepWords;

use crate::common::{largest_difference, numbers, tensor, values};

const BETAS: Betas = [0.9, 0.999];

on_each_device!(adam_is_that_of_burn, a_mean_of_weights_forgets);

fn adam_is_that_of_burn(device: &Device) {
    for decay in [0.0, 0.3] {
        adam_that_decays_is_that_of_burn(device, decay);
    }
}

fn adam_that_decays_is_that_of_burn(device: &Device, decay: f32) {
    let count = 1000;
    let autodiff = Device::flex().autodiff();
    // A module with one weight: its gradient is what the loss multiplies it by.
    let mut burn = burn::nn::LinearConfig::new(count, 1).with_bias(false).init(&autodiff);
    let mut optimizer = AdamWConfig::new().with_epsilon(1e-7).with_weight_decay(decay).init();
    let start = values(burn.weight.val());
    let layout = Layout::new([count]);
    let zeros = vec![0.0; count];
    let state = layout.state([vec![&start], vec![&zeros], vec![&zeros]]);
    let mut ours = Tensor::<1>::from_data(&state[..], device);
    for step in 1..=5 {
        let grad = numbers(count, 10 + step);
        let loss = (burn.weight.val() * tensor(&grad, [count, 1], &autodiff)).sum();
        let grads = GradientsParams::from_grads(loss.backward(), &burn);
        burn = optimizer.step(1e-2, burn, grads);
        // In two rows of partial sums.
        let mut rows = vec![0.0; 2 * layout.stride];
        for (at, grad) in grad.iter().enumerate() {
            rows[at] = 0.25 * grad;
            rows[layout.stride + at] = 0.75 * grad;
        }
        let grads = tensor(&rows, [2, layout.stride], device);
        let step = AdamStep::new(1e-2, BETAS, 1e-7, step).decaying(1e-2, f64::from(decay));
        let words = StepWords::new(&step, &[], device);
        ours = training::adam(ours, grads, &words, BETAS).unwrap();
    }
    let ours = values(training::weight(&ours, &layout, 0, [count]).unwrap());
    // Burn computes `1 - 0.999ᵗ` in f32, which errs by 6e-8, 6e-5 of 0.001, and its root by half of that:
    // five steps of 1e-2 differ by up to 1.5e-6, with weights of 0.08 at most.
    let off = largest_difference(&ours, &values(burn.weight.val()));
    assert!(off < 2e-5, "{off}");
    assert!(largest_difference(&ours, &start) > 1e-2);
}

/// Of a layer of two weights, in place; what lies between and behind the weights of the state is not looked at.
fn a_mean_of_weights_forgets(device: &Device) {
    let layout = Layout::new([5, 70]);
    let state = numbers(3 * layout.stride, 4);
    let mut expected = numbers(layout.stride, 5);
    let mut mean = tensor(&expected, [layout.stride], device);
    let on_device = tensor(&state, [state.len()], device);
    for step in [1, 2, 1000] {
        let step = AdamStep::new(0.1, BETAS, 1e-7, step).averaging(0.9, step);
        assert!(step.inertia <= 0.9 && step.inertia > 0.1, "{step:?}");
        mean = training::average(mean, &on_device, &StepWords::new(&step, &[], device)).unwrap();
        for (mean, value) in expected.iter_mut().zip(&state) {
            *mean = step.inertia * *mean + (1.0 - step.inertia) * value;
        }
    }
    // A GPU may fuse the multiply-add: a unit in the last place each step.
    assert!(largest_difference(&values(mean.clone()), &expected) < 1e-6);
    assert_eq!(values(on_device), state);
    // Shared, it is not written to.
    let words = StepWords::new(&AdamStep::new(0.1, BETAS, 1e-7, 1), &[], device);
    let next = training::average(mean.clone(), &tensor(&state, [state.len()], device), &words);
    assert_eq!(
        values(next.unwrap())[..],
        state[..layout.stride],
        "without inertia it is the state"
    );
    assert!(largest_difference(&values(mean), &expected) < 1e-6);
}
