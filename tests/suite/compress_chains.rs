//! A matrix as a chain of cores: by TT-SVD, fitted to inputs, and with padded widths.

use burn::tensor::Device;
use proptest::prelude::*;
use tnet_gpu::compress::{
    By, Candidate, ChainCores, Cores, Folding, Moments, Nearest, TtSvd, chain_output_error, fit,
    fit_chain,
};
use tnet_gpu::mps::chain::reference::matrix;
use tnet_gpu::mps::{Chain, MpsInit};
use tnet_gpu::net::{Dense, Snapshot, Stack};

use crate::common::{largest_difference, numbers, open, tensor, values};

fn norm(numbers: impl Iterator<Item = f64>) -> f64 {
    numbers.map(|number| number * number).sum::<f64>().sqrt()
}

fn distance(weight: &[f32], other: &[f64]) -> f64 {
    norm(weight.iter().zip(other).map(|(weight, other)| f64::from(*weight) - other))
}

/// Cores of whole numbers from -2 to 2, whose matrix is exact in f32.
fn whole_numbers(chain: &Chain, seed: u64) -> Vec<Vec<f32>> {
    let core = |at: usize| {
        let count = chain.core_shape(at).iter().product();
        numbers(count, seed + at as u64).into_iter().map(|x| (2.5 * x).trunc()).collect()
    };
    (0..chain.cores()).map(core).collect()
}

/// The moments of inputs that vary in every direction.
fn moments(features: usize, seed: u64) -> Moments {
    let mut moments = Moments::new(features);
    moments.add(&numbers(20 * features * features, seed)).unwrap();
    moments
}

const CHAINS: [(&[usize], &[usize], &[usize]); 4] = [
    (&[2, 3, 2, 2], &[3, 2, 1, 4], &[3, 4, 3]),
    (&[1, 5, 2], &[4, 1, 3], &[2, 3]),
    (&[7, 1, 3], &[2, 1, 5], &[4, 4]),
    (&[3, 2], &[2, 4], &[3]),
];

/// The matrix is that of the reference, and one that is a chain's is found again. Sums of a few thousand products of whole
/// numbers in f64, divided by the norm: 1e-10 is far above their rounding.
#[test]
fn the_matrix_of_a_chain_is_found_again() {
    for (ins, outs, bonds) in CHAINS {
        let chain = Chain::new(ins, outs, bonds).unwrap();
        let cores = whole_numbers(&chain, 3);
        let expected = matrix(&chain, &cores);
        let own = ChainCores::new(chain.clone(), &cores).unwrap();
        assert_eq!((own.matrix(), own.cores()), (expected.clone(), cores), "{chain}");
        let weight: Vec<f32> = expected.iter().map(|number| *number as f32).collect();
        let whole = norm(expected.iter().copied());
        assert!(whole > 1.0, "{chain}");
        let split = TtSvd::new(&weight, ins, outs, None).unwrap();
        for bond in [*bonds.iter().max().unwrap(), 1000] {
            let found = split.cores(bond).unwrap();
            let capped: Vec<usize> =
                chain.full_bonds().iter().map(|full| bond.min(*full)).collect();
            assert_eq!(found.chain().bonds(), capped);
            let missed = distance(&weight, &found.matrix()) / whole;
            assert!(missed < 1e-10, "{chain}, {bond}: {missed}");
        }
        let kept = TtSvd::new(&weight, ins, outs, Some(bonds)).unwrap();
        assert_eq!(kept.cores(1000).unwrap().chain(), &chain);
        assert!(distance(&weight, &kept.cores(1).unwrap().matrix()) > 0.1 * whole);
    }
}

#[test]
fn what_is_no_chain_is_refused() {
    let weight = numbers(24, 1);
    let error = |found: Option<tnet_gpu::Error>| found.unwrap().to_string();
    let line = error(TtSvd::new(&weight, &[2, 3], &[2, 3], None).err());
    assert!(line.starts_with("weight: 24 numbers: expected 36"), "{line}");
    let line = error(TtSvd::new(&weight, &[2, 3], &[4], None).err());
    assert!(line.starts_with("out_factors: 4: "), "{line}");
    let split = TtSvd::new(&weight, &[2, 3, 1], &[2, 1, 2], None).unwrap();
    assert!(error(split.cores(0).err()).starts_with("bond: 0,0: "));
    let chain = Chain::new(&[2, 2], &[1, 1], &[3]).unwrap();
    let cores = ChainCores::new(chain.clone(), &[numbers(6, 1), numbers(6, 2)]).unwrap();
    let line = error(fit_chain(&numbers(4, 1), cores, &[0.0; 16]).err());
    assert!(line.starts_with("bond: 2x2 -> 1x1, bond 3: expected none larger than 2"), "{line}");
    let line = error(ChainCores::new(chain, &[numbers(6, 1)]).err());
    assert!(line.starts_with("cores: 1 cores: expected 2"), "{line}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Oseledets' bounds (theorem 2.2) at every bond, extents of 1 included; 1e-12 of the norm is for rounding. By data the outputs
    /// are never further off than by weights, whatever the inputs are.
    #[test]
    fn the_error_is_within_its_bounds(
        extents in proptest::collection::vec((1..4_usize, 1..4_usize), 2..5),
        count in 1..30_usize, constant in 0..8_usize, seed in 0..1000_u64,
    ) {
        let (ins, outs): (Vec<usize>, Vec<usize>) = extents.into_iter().unzip();
        let [inputs, outputs] = [&ins, &outs].map(|of| of.iter().product::<usize>());
        let weight = numbers(inputs * outputs, seed);
        let mut samples = numbers(count * inputs, seed + 1);
        for row in samples.chunks_mut(inputs) {
            row.iter_mut().take(constant).for_each(|number| *number = 0.5);
        }
        let mut moments = Moments::new(inputs);
        moments.add(&samples).unwrap();
        let covariance = moments.covariance().unwrap();
        let split = TtSvd::new(&weight, &ins, &outs, None).unwrap();
        let rounding = 1e-12 * norm(weight.iter().map(|x| f64::from(*x)));
        let values = split.singular_values().unwrap();
        for bond in 1..=split.largest_bond() {
            let cores = split.cores(bond).unwrap();
            let missed = distance(&weight, &cores.matrix());
            let cuts = values.iter().map(|values| {
                norm(values.get(bond..).unwrap_or_default().iter().copied())
            });
            let cuts: Vec<f64> = cuts.collect();
            prop_assert!(missed <= norm(cuts.iter().copied()) + rounding, "{bond}: {missed}, {cuts:?}");
            prop_assert!(cuts.iter().all(|cut| missed >= cut - rounding), "{bond}: {missed}, {cuts:?}");
            let before = chain_output_error(&weight, &cores, &covariance).unwrap();
            let fitted = fit_chain(&weight, cores, &covariance).unwrap();
            prop_assert!(fitted.error <= before, "{bond}: {} after {before}", fitted.error);
            prop_assert!(fitted.cores.cores().iter().flatten().all(|x| x.is_finite()));
        }
    }
}

/// Two cores are fitted by another algorithm, which a plain solver confirms (`compress`): after as many sweeps the matrices
/// agree. Both solve systems as conditioned as the inputs, in f64.
#[test]
fn a_chain_of_two_cores_is_fitted_like_two_cores() {
    for (ins, outs, bond) in [([2, 3], [3, 2], 2), ([3, 2], [2, 4], 1), ([4, 2], [2, 3], 3)] {
        let [inputs, outputs] = [ins, outs].map(|of| of.iter().product::<usize>());
        let weight = numbers(inputs * outputs, 11);
        let covariance = moments(inputs, 13).covariance().unwrap();
        let two: Cores = Nearest::to_matrix(&weight, ins, outs).unwrap().cores(bond).unwrap();
        let two = fit(&weight, two, &covariance).unwrap();
        let chain = TtSvd::new(&weight, &ins, &outs, None).unwrap().cores(bond).unwrap();
        let chain = fit_chain(&weight, chain, &covariance).unwrap();
        assert_eq!(two.sweeps, chain.sweeps);
        assert!((two.error - chain.error).abs() < 1e-8, "{} {}", two.error, chain.error);
        for (one, other) in two.cores.matrix().iter().zip(chain.cores.matrix()) {
            assert!((one - other).abs() < 1e-6, "{one} {other}");
        }
    }
}

/// From cores that are a tenth off, those of a chain are found again: an error below 1e-6 is f32's rounding of the start's
/// cores, and a fit ends there or where a sweep gains less than 1 %.
#[test]
fn a_fit_finds_a_chain_again() {
    let (ins, outs, bonds) = CHAINS[0];
    let chain = Chain::new(ins, outs, bonds).unwrap();
    let cores = whole_numbers(&chain, 5);
    let weight: Vec<f32> = matrix(&chain, &cores).iter().map(|x| *x as f32).collect();
    let off = |(at, core): (usize, &Vec<f32>)| {
        let noise = numbers(core.len(), 50 + at as u64);
        core.iter().zip(noise).map(|(number, noise)| number + 0.1 * noise).collect()
    };
    let start: Vec<Vec<f32>> = cores.iter().enumerate().map(off).collect();
    let start = ChainCores::new(chain, &start).unwrap();
    let covariance = moments(ins.iter().product(), 7).covariance().unwrap();
    let before = chain_output_error(&weight, &start, &covariance).unwrap();
    let fitted = fit_chain(&weight, start, &covariance).unwrap();
    assert!(before > 0.03 && fitted.error < 1e-6, "{} from {before}", fitted.error);
    let own = chain_output_error(&weight, &fitted.cores, &covariance).unwrap();
    assert!((own - fitted.error).abs() < 1e-9, "the cores are balanced to another matrix");
}

/// At its full rank a padded layer computes what the dense one does, to f32's rounding in its sums.
fn a_padded_layer_is_the_dense_one(device: &Device) {
    let layers = vec![Dense { out: 11, bias: true }.into()];
    let stack = Stack { input: [1, 1, 13], layers };
    let mut weights = stack.draw(MpsInit::He, 1).unwrap();
    weights[1] = numbers(11, 2);
    let snapshot = Snapshot::new(stack, weights).unwrap();
    let x = numbers(5 * 13, 3);
    let logits = |snapshot: &Snapshot| {
        let x = tensor(&x, [5, 13], device);
        values(snapshot.on(device).unwrap().logits(x).unwrap())
    };
    for cores in [2, 3, 4] {
        let folding = Folding { cores, is_auto: true, ..Folding::default() };
        let candidate = Candidate::new(&snapshot, 0, &folding).unwrap();
        let bond = candidate.largest_bond();
        let mut inputs = Moments::new(13);
        inputs.add(&x).unwrap();
        for by in [By::Weights, By::Data] {
            let whole = candidate.compressed(bond, by, Some(&inputs)).unwrap();
            assert!(whole.layer.pad != [0, 0] && whole.weight_error < 1e-10, "{whole:?}");
            let whole = whole.into_place(&snapshot, 0).unwrap();
            let off = largest_difference(&logits(&snapshot), &logits(&whole));
            assert!(off < 2e-6, "{cores} cores: {off}");
        }
        // The error is that of what is kept.
        let small = candidate.compressed(1, By::Weights, None).unwrap();
        let (error, small) = (small.weight_error, small.into_place(&snapshot, 0).unwrap());
        let basis: Vec<f32> = (0..169).map(|at| f32::from(u8::from(at / 13 == at % 13))).collect();
        let rows = |snapshot: &Snapshot| {
            let rows = tensor(&basis, [13, 13], device);
            values(snapshot.on(device).unwrap().logits(rows).unwrap())
        };
        let weight = &snapshot.weights()[0];
        let off: Vec<f32> =
            rows(&snapshot).iter().zip(rows(&small)).map(|(one, other)| one - other).collect();
        let off = norm(off.into_iter().map(f64::from))
            / norm(weight.iter().map(|number| f64::from(*number)));
        assert!((off - error).abs() < 1e-6, "{cores} cores: {off} and {error}");
    }
}

#[test]
fn a_padded_layer_is_the_dense_one_on_the_cpu() {
    a_padded_layer_is_the_dense_one(&open("cpu").unwrap().device);
}
