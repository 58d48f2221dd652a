//! The matrix products for software adapters: checked against a loop in f64 in every layout; the same
//! bits every time.

use burn::backend::DispatchDevice;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::TensorData;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeDevice};
use tnet_gpu::mps::reference::relative_error;
use tnet_gpu::op::software::matmul::{Operand, matmul};

use crate::common::{self, numbers};

/// Calls a test with the Vulkan adapter, where there is one.
fn on_the_adapter(test: impl Fn(&CubeDevice)) {
    let Some(opened) = common::open("vulkan") else { return };
    match opened.device.as_dispatch() {
        DispatchDevice::Cube(device) => test(device),
        other => panic!("{other:?} is no GPU"),
    }
}

fn upload(values: &[f32], device: &CubeDevice) -> CubeTensor {
    CubeBackend::float_from_data(TensorData::new(values.to_vec(), [values.len()]), device)
}

/// A product, with or without a bias.
struct Case {
    sizes: [usize; 3],
    /// Of A and B.
    transposed: [bool; 2],
    biased: bool,
}

impl Case {
    /// `A[i,k]`, `B[k,j]` and `bias[j]` as they are stored.
    fn operands(&self) -> [Vec<f32>; 3] {
        let [rows, inner, columns] = self.sizes;
        [numbers(rows * inner, 1), numbers(inner * columns, 2), numbers(columns, 3)]
    }

    fn compute(&self, device: &CubeDevice) -> Vec<f32> {
        let [a, b, bias] = self.operands().map(|values| upload(&values, device));
        let [a_transposed, b_transposed] = self.transposed;
        let c = matmul(
            Operand { tensor: &a, transposed: a_transposed },
            Operand { tensor: &b, transposed: b_transposed },
            self.biased.then_some(&bias),
            self.sizes,
        );
        let data = burn::tensor::read_sync(CubeBackend::float_into_data(c)).unwrap();
        assert_eq!(data.shape()[..], [self.sizes[0], self.sizes[2]]);
        data.try_to_vec().unwrap()
    }

    fn expected(&self) -> Vec<f64> {
        let [rows, inner, columns] = self.sizes;
        let [a, b, bias] =
            self.operands().map(|values| values.into_iter().map(f64::from).collect::<Vec<_>>());
        let [a_transposed, b_transposed] = self.transposed;
        let at = |transposed, row, column, [rows, columns]: [usize; 2]| match transposed {
            true => column * rows + row,
            false => row * columns + column,
        };
        let element = |i, j| {
            let term = |k| {
                a[at(a_transposed, i, k, [rows, inner])]
                    * b[at(b_transposed, k, j, [inner, columns])]
            };
            (0..inner).map(term).sum::<f64>() + if self.biased { bias[j] } else { 0.0 }
        };
        (0..rows * columns).map(|index| element(index / columns, index % columns)).collect()
    }

    /// A sum of `n` products of numbers in [-1, 1) is about √n, and each of its additions in f32 errs by
    /// at most 6e-8 of the sum so far; these errors mostly cancel too. So the largest error, relative to
    /// the largest sum, stays below 1e-6 · √n. A term that is missing or taken twice changes the sum by
    /// about 1 / √n of itself, 10⁶ / n times the bound: a thousand times for the products of the network,
    /// 4 times for the longest sum here.
    fn check(&self, device: &CubeDevice) {
        let (got, expected) = (self.compute(device), self.expected());
        let tolerance = 1e-6 * (self.sizes[1] as f64).sqrt();
        let distance = relative_error(&got, &expected);
        let Self { sizes, transposed, biased } = self;
        assert!(distance <= tolerance, "{sizes:?} {transposed:?} {biased}: {distance:e}");
    }
}

fn check_layouts(sizes: [usize; 3], device: &CubeDevice) {
    for layout in 0..8 {
        let [a, b, biased] = [1, 2, 4].map(|bit| layout & bit != 0);
        Case { sizes, transposed: [a, b], biased }.check(device);
    }
}

#[test]
fn products_of_the_network_are_right() {
    on_the_adapter(|device| {
        for (sizes, transposed, biased) in [
            ([128, 784, 512], [false, false], true),
            ([96, 512, 512], [false, false], true),
            ([1000, 512, 512], [false, false], true),
            ([128, 512, 512], [false, true], false),
            ([512, 128, 512], [true, false], false),
            ([784, 96, 512], [true, false], false),
            ([128, 512, 10], [false, false], true),
            ([128, 10, 512], [false, true], false),
            ([512, 128, 10], [true, false], false),
        ] {
            Case { sizes, transposed, biased }.check(device);
        }
    });
}

#[test]
fn every_size_is_right_in_every_layout() {
    on_the_adapter(|device| {
        for sizes in [
            [1, 1, 1],
            [1, 7, 13],
            [13, 1, 1],
            [2, 3, 512],
            [37, 53, 41],
            [127, 16, 17],
            [129, 15, 11],
            [33, 31, 13],
            // Multiples of 4, and one extent off by one: the tiled kernel with overlapping blocks.
            [4, 4, 4],
            [124, 12, 20],
            [132, 28, 12],
            [8, 20, 260],
            [5, 8, 132],
            [130, 8, 16],
            [128, 9, 16],
            [16, 7, 128],
        ] {
            check_layouts(sizes, device);
        }
    });
}

/// llvmpipe ends a loop after 65,535 iterations: a longer sum takes several launches.
#[test]
fn long_sums_are_right() {
    on_the_adapter(|device| {
        for inner in [65_537, 65_600, 240_004] {
            for biased in [false, true] {
                Case { sizes: [4, inner, 4], transposed: [true, false], biased }.check(device);
            }
        }
    });
}

#[test]
fn the_same_operands_give_the_same_bits() {
    on_the_adapter(|device| {
        for sizes in [[128, 784, 512], [512, 128, 10], [130, 96, 64]] {
            let case = Case { sizes, transposed: [true, false], biased: true };
            let bits = || case.compute(device).into_iter().map(f32::to_bits).collect::<Vec<_>>();
            let first = bits();
            for _ in 0..3 {
                assert!(bits() == first, "{sizes:?}");
            }
        }
    });
}
