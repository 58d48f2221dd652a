//! The loss, its gradient and the number of images that are classified right.

use burn::nn::loss::CrossEntropyLossConfig;
use burn::tensor::{Device, Tensor};
use tnet_gpu::op::training;

use crate::common::{integers, largest_difference, numbers, tensor, values};

on_each_device!(
    the_loss_and_its_gradient_are_those_of_burn,
    smoothed_labels_are_those_of_the_formula,
    many_images_are_summed,
);

fn the_loss_and_its_gradient_are_those_of_burn(device: &Device) {
    for (batch, classes) in [(1, 2), (5, 10), (128, 10), (300, 3), (257, 256)] {
        let logits: Vec<f32> = numbers(batch * classes, 8).iter().map(|x| 20.0 * x).collect();
        let labels: Vec<i32> = (0..batch).map(|b| (b * 7 % classes) as i32).collect();
        // The order reverses the batch, so that a label must be looked up through it.
        let order: Vec<i32> = (0..batch as i32).rev().collect();
        let (grad, sums) = training::softmax_cross_entropy(
            tensor(&logits, [batch, classes], device),
            integers(&labels, device),
            integers(&order, device),
            0.0,
        )
        .unwrap();

        let flex = Device::flex().autodiff();
        let burn = tensor(&logits, [batch, classes], &flex).require_grad();
        let reversed: Vec<i32> = labels.iter().rev().copied().collect();
        let targets = integers(&reversed, &flex);
        let loss = CrossEntropyLossConfig::new().init(&flex).forward(burn.clone(), targets);
        let expected = values(burn.grad(&loss.backward()).unwrap());
        let off = largest_difference(&values(grad), &expected);
        // Exponentials that differ by up to e⁴⁰, each right to a few units in the last place.
        assert!(off < 5e-6, "{batch} x {classes}: gradient off by {off}");
        let mean = loss.into_scalar::<f32>();
        let right = logits
            .chunks(classes)
            .zip(&reversed)
            .filter(|(row, label)| row.iter().all(|logit| *logit <= row[**label as usize]))
            .count();
        let sums = totals(sums);
        // A unit in the last place of logits up to 20 is 2e-6.
        let off = (sums[0] / batch as f32 - mean).abs() / (1.0 + mean);
        assert!(off < 5e-6, "{batch} x {classes}: loss off by {off}");
        assert_eq!(sums[1], right as f32);
    }
}

/// Losses, and images classified right, of all rows.
fn totals(sums: Tensor<2>) -> [f32; 2] {
    let sums = values(sums);
    [0, 1].map(|column| sums.iter().skip(column).step_by(2).sum())
}

/// Against the definition in f64: a cross entropy with the target `(1 - s) [c = label] + s / classes`.
fn smoothed_labels_are_those_of_the_formula(device: &Device) {
    for (batch, classes, smoothing) in [(5, 10, 0.05), (130, 3, 0.3), (1, 2, 0.9)] {
        let logits: Vec<f32> = numbers(batch * classes, 8).iter().map(|x| 6.0 * x).collect();
        let labels: Vec<i32> = (0..batch).map(|b| (b * 7 % classes) as i32).collect();
        let order: Vec<i32> = (0..batch as i32).collect();
        let (grad, sums) = training::softmax_cross_entropy(
            tensor(&logits, [batch, classes], device),
            integers(&labels, device),
            integers(&order, device),
            smoothing,
        )
        .unwrap();
        let (mut losses, mut expected) = (0.0, Vec::new());
        for (row, label) in logits.chunks(classes).zip(&labels) {
            let row: Vec<f64> = row.iter().copied().map(f64::from).collect();
            let total = row.iter().map(|logit| logit.exp()).sum::<f64>();
            for (class, logit) in row.iter().enumerate() {
                let own = if class == *label as usize { 1.0 - f64::from(smoothing) } else { 0.0 };
                let target = own + f64::from(smoothing) / classes as f64;
                losses -= target * (logit - total.ln());
                expected.push(((logit.exp() / total - target) / batch as f64) as f32);
            }
        }
        // As without smoothing; a target that is wrong is off by a hundredth or more.
        let off = largest_difference(&values(grad), &expected);
        assert!(off < 5e-6, "{batch} x {classes}: gradient off by {off}");
        let off = (f64::from(totals(sums)[0]) / losses - 1.0).abs();
        assert!(off < 5e-6, "{batch} x {classes}: loss off by {off}");
    }
}

/// Many more images than one workgroup sums.
fn many_images_are_summed(device: &Device) {
    let batch = 20_001;
    let logits = Tensor::<2>::zeros([batch, 2], device);
    let labels: Vec<i32> = (0..batch).map(|b| b % 2).collect();
    let order: Vec<i32> = (0..batch).collect();
    let (_, sums) = training::softmax_cross_entropy(
        logits,
        integers(&labels, device),
        integers(&order, device),
        0.0,
    )
    .unwrap();
    let sums = totals(sums);
    assert!((sums[0] / (batch as f32 * 2.0_f32.ln()) - 1.0).abs() < 1e-5, "{sums:?}");
    assert_eq!(sums[1], 10_001.0, "of equal logits the first counts");
}
