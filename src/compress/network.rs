//! A layer of a trained network, replaced by one of fewer parameters.

use super::cores::check;
use super::{Cores, Moments, Nearest, fit, output_error};
use crate::mps::MpsSpec;
use crate::mps::chain::reference::matrix;
use crate::net::{Layer, Mps, Snapshot, features, pair_of};
use crate::{Error, Result};

/// The matrix and the bias of a layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    /// `[inputs, outputs]`, row-major.
    pub weight: Vec<f32>,
    /// One for each output, if the layer has a bias.
    pub bias: Option<Vec<f32>>,
    /// Number of inputs.
    pub inputs: usize,
    /// Number of outputs.
    pub outputs: usize,
}

impl Matrix {
    /// That of a layer with its weights, the cores of a tensor layer merged. None of a layer that has none.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] naming a core that has a number that is not finite.
    pub fn of(layer: &Layer, weights: &[Vec<f32>]) -> Result<Option<Self>> {
        Ok(match layer {
            Layer::Dense(dense) => {
                let outputs = dense.out;
                let (weight, bias) = (weights[0].clone(), weights.get(1).cloned());
                Some(Self { inputs: weight.len() / outputs, outputs, weight, bias })
            }
            Layer::Mps(mps) => {
                let chain = mps.chain();
                let merged = match chain.two_cores() {
                    Some(spec) => Cores::new(spec, &weights[0], &weights[1])?.matrix(),
                    None => {
                        let cores = &weights[..chain.cores()];
                        for (at, core) in cores.iter().enumerate() {
                            check("cores", core, chain.core_shape(at).iter().product())?;
                        }
                        matrix(&chain, cores)
                    }
                };
                Some(Self {
                    weight: merged.into_iter().map(|number| number as f32).collect(),
                    bias: weights.get(chain.cores()).cloned(),
                    inputs: chain.input(),
                    outputs: chain.output(),
                })
            }
            // A convolution's is one for every position.
            Layer::Conv2d(_) | Layer::MaxPool(_) | Layer::AvgPool(_) => None,
            Layer::Relu(_) | Layer::Gelu(_) | Layer::Dropout(_) => None,
        })
    }
}

/// How cores are found: [`Nearest`], or [`fit()`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum By {
    /// The nearest ones to the matrix.
    Weights,
    /// Those whose outputs are nearest to the matrix's over the inputs that the layer gets.
    Data,
}

/// A layer that can be compressed: its matrix, decomposed once for every bond.
#[derive(Debug)]
pub struct Candidate {
    /// Which layer of the network it is, counted from 0.
    pub at: usize,
    /// Its name: `dense1`.
    pub name: String,
    /// Extents, with a bond of 1.
    spec: MpsSpec,
    /// The bond of a tensor layer, unless its factors are others.
    bond: Option<usize>,
    matrix: Matrix,
    nearest: Nearest,
}

/// A layer in place of another.
#[derive(Debug, Clone, PartialEq)]
pub struct Compressed {
    /// The layer.
    pub layer: Mps,
    /// Its weights.
    pub weights: Vec<Vec<f32>>,
    /// `‖W - W'‖ / ‖W‖` in Frobenius' norm.
    pub weight_error: f64,
    /// [`output_error`] over the inputs, if they are known.
    pub output_error: Option<f64>,
    /// How often a fit computed both cores.
    pub sweeps: usize,
}

impl Candidate {
    /// The layer `at` of a network, with the factors of its inputs and outputs: by default those that a tensor layer has,
    /// else an image's height and width, and those closest to each other.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] naming the factors when their product is another than the layer has, or `layer` when there is no
    /// such layer, [`Error::Layer`] when it has no matrix.
    pub fn new(
        snapshot: &Snapshot,
        at: usize,
        in_factors: Option<[usize; 2]>,
        out_factors: Option<[usize; 2]>,
    ) -> Result<Self> {
        let placed = snapshot.stack().placed()?;
        let Some(placed) = placed.get(at) else {
            let problem = format!("{at}: expected less than {}, the layers", placed.len());
            return Err(Error::argument("layer", problem));
        };
        let Some(matrix) = Matrix::of(placed.layer, snapshot.of_layer(at)?)? else {
            let problem = "it has no matrix to compress".into();
            return Err(Error::Layer { layer: placed.name.clone(), problem });
        };
        let own = match placed.layer {
            Layer::Mps(mps) => mps.two_cores(),
            _ => None,
        };
        let of_image = || {
            let [channels, height, width] = placed.input;
            let image = [channels * height, width];
            if image.contains(&1) { pair_of(features(placed.input)) } else { image }
        };
        let inputs = in_factors.or(own.map(|own| [own.j, own.l])).unwrap_or_else(of_image);
        let outputs = out_factors
            .or(own.map(|own| [own.m, own.n]))
            .unwrap_or_else(|| pair_of(matrix.outputs));
        for (name, [one, other], width) in
            [("in_factors", inputs, matrix.inputs), ("out_factors", outputs, matrix.outputs)]
        {
            if one.checked_mul(other) != Some(width) {
                let problem =
                    format!("{one},{other}: expected a product of {width}, as {} has", placed.name);
                return Err(Error::argument(name, problem));
            }
        }
        let kept = own.filter(|own| [own.j, own.l] == inputs && [own.m, own.n] == outputs);
        Ok(Self {
            at,
            name: placed.name.clone(),
            spec: MpsSpec::new(inputs, outputs, 1)?,
            bond: kept.map(|own| own.k),
            nearest: Nearest::to_matrix(&matrix.weight, inputs, outputs)?,
            matrix,
        })
    }

    /// Its extents as a tensor layer of a bond.
    pub fn spec(&self, bond: usize) -> MpsSpec {
        MpsSpec { k: bond, ..self.spec }
    }

    /// The tensor layer of a bond. By data it always has a bias.
    pub fn layer(&self, bond: usize, by: By) -> Mps {
        let MpsSpec { m, n, j, l, .. } = self.spec;
        let bias = self.matrix.bias.is_some() || by == By::Data;
        Mps { bias, ..Mps::new([j, l], [m, n], bond) }
    }

    /// The largest bond that makes sense: a tensor layer's own, else the one at which nothing is lost.
    pub fn largest_bond(&self) -> usize {
        self.bond.unwrap_or(self.nearest.full_bond())
    }

    /// Checks a bond.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] naming `bond` when it is 0 or above [`Candidate::largest_bond`].
    pub fn check_bond(&self, bond: usize) -> Result<()> {
        let most = self.largest_bond();
        if (1..=most).contains(&bond) {
            return Ok(());
        }
        let Self { name, .. } = self;
        let most = match self.bond {
            Some(own) => format!("{own}, which {name} has"),
            None => format!("{most}, at which {name} loses nothing"),
        };
        Err(Error::argument("bond", format!("{bond}: expected 1 to {most}")))
    }

    /// Bytes that a fit of this bond needs at its peak, besides the matrix and the covariance: the larger normal matrix and
    /// its decomposition, in f64. At the full bond nothing is fitted.
    pub fn needed(&self, bond: usize) -> u64 {
        if bond >= self.nearest.full_bond() {
            return 0;
        }
        let MpsSpec { j, l, .. } = self.spec;
        let size = (j.max(l) as u64).saturating_mul(bond as u64);
        size.saturating_mul(size).saturating_mul(2 * size_of::<f64>() as u64)
    }

    /// The layer with a smaller bond. By data, `inputs` are those that the layer gets in the network in which it will be;
    /// by weights they only tell the error of the outputs.
    ///
    /// # Errors
    ///
    /// As [`Candidate::check_bond`] and [`fit()`]; [`Error::Argument`] naming `inputs` when they are missing or others.
    pub fn compressed(&self, bond: usize, by: By, inputs: Option<&Moments>) -> Result<Compressed> {
        self.check_bond(bond)?;
        let Matrix { weight, bias, outputs, .. } = &self.matrix;
        let start = self.nearest.cores(bond)?;
        let covariance = inputs.map(Moments::covariance).transpose()?;
        let (cores, output_error, sweeps, bias) = match (by, inputs, &covariance) {
            (By::Data, Some(inputs), Some(covariance)) => {
                let fitted = fit(weight, start, covariance)?;
                let bias = bias.clone().unwrap_or_else(|| vec![0.0; *outputs]);
                let bias = inputs.corrected_bias(&bias, weight, &fitted.cores.matrix())?;
                (fitted.cores, Some(fitted.error), fitted.sweeps, Some(bias))
            }
            (By::Data, ..) => {
                return Err(Error::argument("inputs", "none: fitting by data needs them"));
            }
            (By::Weights, _, covariance) => {
                let error =
                    covariance.as_ref().map(|covariance| output_error(weight, &start, covariance));
                (start, error.transpose()?, 0, bias.clone())
            }
        };
        let weight_error = match by {
            By::Weights => self.nearest.error(bond),
            By::Data => distance(weight, &cores.matrix()),
        };
        let layer = self.layer(bond, by);
        let weights = [cores.a(), cores.c()].into_iter().chain(bias).collect();
        Ok(Compressed { layer, weights, weight_error, output_error, sweeps })
    }

    /// The layer with the smallest bond whose error is at most this share: of the matrix by weights, of the outputs by
    /// data. `allowed` is asked before each fit, of which there is one for each halving of the possible bonds.
    ///
    /// # Errors
    ///
    /// As [`Candidate::compressed`], and that of `allowed`.
    pub fn within(
        &self,
        error: f64,
        by: By,
        inputs: Option<&Moments>,
        allowed: &dyn Fn(usize) -> Result<()>,
    ) -> Result<Compressed> {
        let compressed = |bond: usize| {
            allowed(bond)?;
            self.compressed(bond, by, inputs)
        };
        if by == By::Weights {
            return compressed(self.nearest.bond_for(error).min(self.largest_bond()));
        }
        // The bond lies above `low`, and not above that of `best`.
        let mut low = 0;
        let mut best = compressed(self.largest_bond())?;
        while low + 1 < best.bond() {
            let middle = compressed(usize::midpoint(low, best.bond()))?;
            match middle.output_error {
                Some(missed) if missed <= error => best = middle,
                _ => low = middle.bond(),
            }
        }
        Ok(best)
    }
}

impl Compressed {
    /// The bond of its layer.
    pub fn bond(&self) -> usize {
        self.layer.bond.largest()
    }

    /// The network with this layer in the place of the one that was compressed.
    ///
    /// # Errors
    ///
    /// As [`Snapshot::with_layer`].
    pub fn into_place(self, snapshot: &Snapshot, at: usize) -> Result<Snapshot> {
        snapshot.with_layer(at, self.layer.into(), self.weights)
    }
}

/// `‖W - W'‖ / ‖W‖`; 0 of a matrix of zeros.
fn distance(weight: &[f32], other: &[f64]) -> f64 {
    let squares = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|x| x * x).sum::<f64>();
    let whole = squares(&mut weight.iter().copied().map(f64::from));
    let missed = squares(&mut weight.iter().zip(other).map(|(w, other)| f64::from(*w) - other));
    if whole == 0.0 { 0.0 } else { (missed / whole).sqrt() }
}
