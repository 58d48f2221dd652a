//! Chains of cores as an operation: ways that agree, no bias, equal bits, operands that do not fit. The built-in cases of
//! `verify`, which `layer` tries on every device, compare each way with the f64 reference.

use burn::tensor::{DType, Device, Tensor};
use tnet_gpu::mps::chain::{ChainPlan, End, Way};
use tnet_gpu::mps::strategy::Target;
use tnet_gpu::mps::{Chain, MpsInit};
use tnet_gpu::net::{Kind, Layer, Mps, Network, Preset};
use tnet_gpu::op::chain::{mps_chain, mps_chain_by};

use crate::common::{largest_difference, numbers, tensor, values};

on_each_device!(
    it_needs_no_bias,
    the_same_inputs_give_the_same_bits,
    a_chain_used_twice_adds_up_its_gradients,
    operands_that_do_not_fit_are_named,
);

const BATCH: usize = 37;

fn chain() -> Chain {
    Chain::new(&[3, 5, 2, 4], &[4, 2, 3, 2], &[2, 5, 3]).unwrap()
}

/// Cores and input.
fn upload(device: &Device) -> (Vec<Tensor<4>>, Tensor<2>) {
    let chain = chain();
    let core = |core: usize| {
        let shape = chain.core_shape(core);
        tensor(&numbers(shape.iter().product(), core as u64), shape, device)
    };
    let x = tensor(&numbers(BATCH * chain.input(), 9), [BATCH, chain.input()], device);
    ((0..chain.cores()).map(core).collect(), x)
}

fn ways() -> Vec<Way> {
    let folds = (1..chain().cores()).map(|cut| Way::Folded { cut });
    folds.chain(End::BOTH.map(|from| Way::CoreByCore { from })).collect()
}

fn it_needs_no_bias(device: &Device) {
    let (cores, x) = upload(device);
    let outputs = chain().output();
    let zeros = || Some(tensor(&vec![0.0; outputs], [outputs], device));
    for way in ways() {
        let without = mps_chain_by(Some(way), x.clone(), &cores, None).unwrap();
        let with = mps_chain_by(Some(way), x.clone(), &cores, zeros()).unwrap();
        // A sum may begin with the bias, or end with it.
        let difference = largest_difference(&values(without), &values(with));
        assert!(difference < 1e-5, "{way}: {difference:e}");
    }
}

fn the_same_inputs_give_the_same_bits(device: &Device) {
    let run = |way| {
        let device = device.clone().autodiff();
        let (cores, x) = upload(&device);
        let cores: Vec<Tensor<4>> = cores.into_iter().map(Tensor::require_grad).collect();
        let x = x.require_grad();
        let y = mps_chain_by(Some(way), x.clone(), &cores, None).unwrap();
        let grads = y.clone().square().sum().backward();
        let mut bits = values(y);
        bits.extend(values(x.grad(&grads).unwrap()));
        cores.iter().for_each(|core| bits.extend(values(core.grad(&grads).unwrap())));
        bits.into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    for way in ways() {
        assert!(run(way) == run(way), "{way}");
    }
}

fn a_chain_used_twice_adds_up_its_gradients(device: &Device) {
    let device = device.clone().autodiff();
    let (cores, x) = upload(&device);
    let cores: Vec<Tensor<4>> = cores.into_iter().map(Tensor::require_grad).collect();
    let once = mps_chain(x.clone(), &cores, None).unwrap().sum();
    let twice = mps_chain(x.clone(), &cores, None).unwrap().sum()
        + mps_chain(x, &cores, None).unwrap().sum();
    let (once, twice) = (once.backward(), twice.backward());
    for core in &cores {
        let [once, twice] = [&once, &twice].map(|grads| values(core.grad(grads).unwrap()));
        let doubled: Vec<f32> = once.iter().map(|number| 2.0 * number).collect();
        assert!(largest_difference(&twice, &doubled) < 1e-3);
    }
}

fn operands_that_do_not_fit_are_named(device: &Device) {
    let (cores, x) = upload(device);
    let outputs = chain().output();
    let bias = |count: usize| Some(tensor(&vec![0.0; count], [count], device));
    let line = |x: &Tensor<2>, cores: &[Tensor<4>], bias| {
        mps_chain(x.clone(), cores, bias).unwrap_err().to_string()
    };
    let narrow = x.clone().slice([0..BATCH, 0..7]);
    assert!(line(&narrow, &cores, None).starts_with("x: expected shape [37, 120]"));
    assert!(line(&x, &cores[..3], None).starts_with("cores: expected shape [5, O, I, 1]"));
    assert!(line(&x, &cores[1..], None).starts_with("cores: expected shape [1, O, I, K]"));
    assert!(line(&x, &[], None).starts_with("in_factors: "));
    assert!(line(&x, &cores, bias(outputs + 1)).starts_with("bias: expected shape [48]"));
    let mut halves = cores.clone();
    halves[2] = halves[2].clone().cast(DType::F64);
    let error = line(&x, &halves, None);
    assert!(error.starts_with("cores: ") && error.contains("f32"), "{error}");
    let error = mps_chain_by(Some(Way::Folded { cut: 4 }), x, &cores, None).unwrap_err();
    assert!(error.to_string().starts_with("way: folded after core 4: expected a cut from 1 to 3"));
}

/// Two cores of a chain are the layer of two cores, with the same weights and bits.
#[test]
fn two_cores_stay_what_they_were() {
    let layer = Mps::new([28, 28], [32, 16], 3);
    let names: Vec<String> =
        layer.weights([1, 28, 28]).into_iter().map(|weight| weight.name).collect();
    assert_eq!(names, ["a", "c", "bias"]);
    let text = toml::to_string(&layer).unwrap();
    assert_eq!(text, "in = [28, 28]\nout = [32, 16]\nbond = 3\nbias = true\n");
    assert_eq!(toml::from_str::<Mps>(&text.replace("bond = 3", "bond = [3]")).unwrap(), layer);
    let chain = Mps::new([4, 7, 28], [8, 8, 8], vec![2, 3]);
    let text = toml::to_string(&chain).unwrap();
    assert!(text.contains("bond = [2, 3]"), "{text}");
    assert_eq!(toml::from_str::<Mps>(&text).unwrap(), chain);
    let names: Vec<String> =
        chain.weights([1, 28, 28]).into_iter().map(|weight| weight.name).collect();
    assert_eq!(names, ["g1", "g2", "g3", "bias"]);
}

/// The variance of the outputs of a layer that is followed by ReLU is twice the mean square of its inputs, whatever the number
/// of cores and the bonds.
#[test]
fn initial_cores_keep_the_scale() {
    let device = Device::flex();
    for (cores, bond) in [(2, 1), (2, 7), (3, 2), (4, 1), (4, 6), (6, 3)] {
        let preset = Preset { cores: Some(cores), bond: vec![bond], ..Preset::default() };
        let mut stack = preset.stack([1, 28, 28], 10).unwrap();
        stack.layers.truncate(1);
        let Layer::Mps(layer) = &stack.layers[0] else { panic!("{stack:?}") };
        assert_eq!(layer.in_factors.len(), cores);
        // The variance over cores that are drawn is what is kept; few cores of few numbers deviate from it.
        let draws = 40;
        let squares = (0..draws).map(|seed| {
            let weights = stack.draw(MpsInit::He, seed).unwrap();
            let network = Network::new(&stack, &weights, &device).unwrap();
            let y = network.logits(tensor(&numbers(8 * 784, seed), [8, 784], &device)).unwrap();
            let y = values(y);
            y.iter().map(|y| f64::from(y * y)).sum::<f64>() / y.len() as f64
        });
        let mean = squares.sum::<f64>() / draws as f64;
        // Inputs uniform in [-1, 1) have a mean square of 1/3.
        let ratio = mean / (2.0 / 3.0);
        assert!((0.5..2.0).contains(&ratio), "{cores} cores, bond {bond}: {ratio}");
    }
}

/// As measured: see `Costs` in src/mps/chain/plan.rs.
#[test]
fn the_plan_takes_the_way_with_less_work() {
    let way_of = |batch, inputs: &[usize], outputs: &[usize], bonds: &[usize]| {
        let chain = Chain::new(inputs, outputs, bonds).unwrap();
        let all = ChainPlan::all(&chain, batch, Target::Cpu);
        assert_eq!(all.len(), chain.cores() + 1);
        let taken = ChainPlan::of(&chain, batch, Target::Cpu);
        assert!(all.iter().all(|plan| plan.work >= taken.work), "{all:?}");
        taken.way
    };
    let way =
        |inputs: &[usize], outputs: &[usize], bonds: &[usize]| way_of(128, inputs, outputs, bonds);
    assert_eq!(way(&[28, 28, 1], &[32, 16, 1], &[2, 1]), Way::Folded { cut: 1 });
    let article = |bonds: &[usize]| way(&[4, 7, 4, 7], &[8, 4, 4, 4], bonds);
    assert_eq!(article(&[2, 2, 2]), Way::CoreByCore { from: End::Right });
    assert_eq!(article(&[8, 8, 8]), Way::Folded { cut: 2 });
    assert_eq!(article(&[4, 8, 4]), Way::CoreByCore { from: End::Right });
    assert_eq!(way(&[4, 7, 28], &[8, 8, 8], &[4, 4]), Way::CoreByCore { from: End::Right });
    assert_eq!(way(&[2, 2, 7, 7, 2, 2], &[4, 2, 4, 2, 4, 2], &[4; 5]), Way::Folded { cut: 3 });
    // One sample takes all lanes.
    let few = [1, 2, 16].map(|batch| way_of(batch, &[4, 7, 4, 7], &[8, 4, 4, 4], &[4, 8, 4]));
    assert_eq!(few, [Way::CoreByCore { from: End::Right }; 3]);
    let one = way_of(1, &[4, 7, 4, 7], &[8, 4, 4, 4], &[24; 3]);
    assert_eq!(one, Way::Folded { cut: 2 });
}
