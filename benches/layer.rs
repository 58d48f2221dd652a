//! The layer on one device, for developers' own comparisons: forward, and forward + backward with
//! the gradients of both cores and the bias, at the article's size and batch 128.
//!
//! `TNET_BENCH_DEVICE=vulkan cargo bench` measures a GPU; without it, the CPU.

#![expect(clippy::expect_used, reason = "a benchmark that cannot run ends by panicking")]

use std::hint::black_box;

use burn::tensor::{Device, Distribution, Tensor};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tnet_gpu::device::{self, DeviceChoice};
use tnet_gpu::mps::MpsSpec;
use tnet_gpu::op::mps_linear;

const BATCH: usize = 128;

struct Operands {
    x: Tensor<3>,
    a: Tensor<3>,
    c: Tensor<3>,
    bias: Tensor<2>,
}

impl Operands {
    fn new(spec: &MpsSpec, device: &Device) -> Self {
        let random = Distribution::Normal(0.0, 1.0);
        Self {
            x: Tensor::random([BATCH, spec.j, spec.l], random, device),
            a: Tensor::random(spec.a_shape(), random, device),
            c: Tensor::random(spec.c_shape(), random, device),
            bias: Tensor::random(spec.bias_shape(), random, device),
        }
    }

    fn forward(&self) -> Tensor<3> {
        let Self { x, a, c, bias } = self;
        mps_linear(x.clone(), a.clone(), c.clone(), Some(bias.clone())).expect("shapes that fit")
    }
}

fn layer(criterion: &mut Criterion) {
    let choice = std::env::var("TNET_BENCH_DEVICE").unwrap_or_else(|_| "cpu".into());
    let choice: DeviceChoice = choice.parse().expect("TNET_BENCH_DEVICE");
    let opened = device::open(choice).expect("TNET_BENCH_DEVICE");
    let device = opened.device;
    let sync = |device: &Device| device.sync().expect("a device that answers");

    for bond in [1, 4, 16] {
        let spec = MpsSpec::new([28, 28], [32, 16], bond).expect("the article's extents");
        let mut group = criterion.benchmark_group(format!("layer on {choice}, batch {BATCH}"));
        group.throughput(Throughput::Elements(BATCH as u64));

        let operands = Operands::new(&spec, &device);
        group.bench_function(BenchmarkId::new("forward", bond), |bencher| {
            bencher.iter(|| {
                drop(black_box(operands.forward()));
                sync(&device);
            });
        });

        let autodiff = device.clone().autodiff();
        let mut operands = Operands::new(&spec, &autodiff);
        operands.a = operands.a.require_grad();
        operands.c = operands.c.require_grad();
        operands.bias = operands.bias.require_grad();
        let grad_y = Tensor::ones([BATCH, spec.m, spec.n], &autodiff);
        group.bench_function(BenchmarkId::new("forward and backward", bond), |bencher| {
            bencher.iter(|| {
                let grads = (operands.forward() * grad_y.clone()).sum().backward();
                let gradient = |got: Option<Tensor<3>>| got.expect("a gradient");
                black_box((gradient(operands.a.grad(&grads)), gradient(operands.c.grad(&grads))));
                sync(&device);
            });
        });
    }
}

criterion_group!(benches, layer);
criterion_main!(benches);
