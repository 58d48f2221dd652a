//! Convolutions and pooling on adapters.

use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::launch::{empty, launch};
use super::params::{PatchesGradParams, PatchesParams, PoolGradParams, PoolParams, count};
use crate::mps::conv::Window;
use crate::op::conv::{ConvKernels, Pool, PoolOps};

fn numbers(window: &Window) -> usize {
    window.input.iter().product()
}

impl ConvKernels for CubeBackend {
    fn patches(x: CubeTensor, window: &Window) -> CubeTensor {
        let x = into_contiguous(x);
        let [batch, _] = x.meta.shape().dims();
        let [rows, columns] = window.output();
        let patches = empty(&x, [batch * rows * columns, window.input[0] * window.taps()]);
        let written = patches.meta.shape().num_elements();
        let params = PatchesParams { count: count(written), window: window.into() };
        launch(written, &[&x], &patches, &params);
        patches
    }

    fn patches_grad(grad: CubeTensor, window: &Window, batch: usize) -> CubeTensor {
        let grad = into_contiguous(grad);
        let grad_x = empty(&grad, [batch, numbers(window)]);
        let written = batch * numbers(window);
        let params = PatchesGradParams { count: count(written), window: window.into() };
        launch(written, &[&grad], &grad_x, &params);
        grad_x
    }
}

impl PoolOps for CubeBackend {
    fn pool(x: CubeTensor, Pool { window, mean }: Pool) -> CubeTensor {
        let x = into_contiguous(x);
        let [batch, _] = x.meta.shape().dims();
        let [rows, columns] = window.output();
        let y = empty(&x, [batch, window.input[0] * rows * columns]);
        let written = y.meta.shape().num_elements();
        let params =
            PoolParams { count: count(written), window: (&window).into(), mean: u32::from(mean) };
        launch(written, &[&x], &y, &params);
        y
    }

    fn pool_grad(x: CubeTensor, grad_y: CubeTensor, Pool { window, mean }: Pool) -> CubeTensor {
        let [x, grad_y] = [x, grad_y].map(into_contiguous);
        let grad_x = empty(&x, x.meta.shape().clone());
        let written = grad_x.meta.shape().num_elements();
        let params = PoolGradParams {
            count: count(written),
            window: (&window).into(),
            mean: u32::from(mean),
        };
        launch(written, &[&x, &grad_y], &grad_x, &params);
        grad_x
    }
}
