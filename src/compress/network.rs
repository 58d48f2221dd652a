//! A layer of a trained network, replaced by one of fewer parameters.

use super::fit_chain::needed;
use super::folding::{Folded, Folding};
use super::{
    ChainCores, Cores, Fit, Matrix, Moments, Nearest, TtSvd, chain_output_error, fit, fit_chain,
    output_error,
};
use crate::mps::{Chain, MpsSpec};
use crate::net::{Mps, Snapshot};
use crate::{Error, Result};

/// How cores are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum By {
    /// Near to the matrix: [`Nearest`], or [`TtSvd`] for more than two cores.
    Weights,
    /// Those whose outputs are nearest to the matrix's over the inputs that the layer gets: [`fit()`], or [`fit_chain()`].
    Data,
}

/// A layer that can be compressed: its matrix, decomposed once for every bond.
#[derive(Debug)]
pub struct Candidate {
    /// Which layer of the network it is, counted from 0.
    pub at: usize,
    /// Its name: `dense1`.
    pub name: String,
    folded: Folded,
    matrix: Matrix,
    /// `matrix.weight`, padded.
    weight: Vec<f32>,
    split: Split,
}

/// The padded matrix, to be split into cores.
#[derive(Debug)]
enum Split {
    Two(Nearest),
    Chain(TtSvd),
}

/// Cores of either kind.
enum Found {
    Two(Cores),
    Chain(ChainCores),
}

impl Found {
    fn matrix(&self) -> Vec<f64> {
        match self {
            Self::Two(cores) => cores.matrix(),
            Self::Chain(cores) => cores.matrix(),
        }
    }

    fn weights(&self) -> Vec<Vec<f32>> {
        match self {
            Self::Two(cores) => vec![cores.a(), cores.c()],
            Self::Chain(cores) => cores.cores(),
        }
    }

    fn error(&self, weight: &[f32], covariance: &[f64]) -> Result<f64> {
        match self {
            Self::Two(cores) => output_error(weight, cores, covariance),
            Self::Chain(cores) => chain_output_error(weight, cores, covariance),
        }
    }

    fn fitted(self, weight: &[f32], covariance: &[f64]) -> Result<Fit<Self>> {
        Ok(match self {
            Self::Two(cores) => {
                let Fit { cores, error, sweeps } = fit(weight, cores, covariance)?;
                Fit { cores: Self::Two(cores), error, sweeps }
            }
            Self::Chain(cores) => {
                let Fit { cores, error, sweeps } = fit_chain(weight, cores, covariance)?;
                Fit { cores: Self::Chain(cores), error, sweeps }
            }
        })
    }
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
    /// How often a fit computed all cores.
    pub sweeps: usize,
}

impl Candidate {
    /// The layer `at` of a network, folded.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] naming the field of the folding that is not possible, or `layer` when there is no such layer,
    /// [`Error::Layer`] when it has no matrix.
    pub fn new(snapshot: &Snapshot, at: usize, folding: &Folding) -> Result<Self> {
        let placed = snapshot.stack().placed()?;
        let Some(placed) = placed.get(at) else {
            let problem = format!("{at}: expected less than {}, the layers", placed.len());
            return Err(Error::argument("layer", problem));
        };
        let Some(matrix) = Matrix::of(placed.layer, snapshot.of_layer(at)?)? else {
            let problem = "it has no matrix to compress".into();
            return Err(Error::Layer { layer: placed.name.clone(), problem });
        };
        let folded = folding.of(placed, matrix.outputs)?;
        let Folded { in_factors, out_factors, pad: [zeros, cut], bonds } = &folded;
        let weight = extended(&matrix.weight, [matrix.inputs, matrix.outputs], [*zeros, *cut]);
        let split = match (in_factors[..].try_into(), out_factors[..].try_into()) {
            (Ok(ins), Ok(outs)) => Split::Two(Nearest::to_matrix(&weight, ins, outs)?),
            _ => Split::Chain(TtSvd::new(&weight, in_factors, out_factors, bonds.as_deref())?),
        };
        Ok(Self { at, name: placed.name.clone(), folded, matrix, weight, split })
    }

    /// Its extents as a tensor layer of a bond; a cut has no larger one than makes sense.
    pub fn chain(&self, bond: usize) -> Chain {
        let Folded { in_factors, out_factors, .. } = &self.folded;
        match &self.split {
            Split::Two(_) => Chain::checked(in_factors.clone(), out_factors.clone(), vec![bond]),
            Split::Chain(split) => split.chain(bond),
        }
    }

    /// How it is folded: `dense1: 784 inputs as 4 x 7 x 4 x 7, 509 outputs as 8 x 4 x 4 x 4 (3 zeros)`.
    pub fn folding(&self) -> String {
        let Folded { in_factors, out_factors, pad, .. } = &self.folded;
        let Matrix { inputs, outputs, .. } = self.matrix;
        let side = |width: usize, of: &str, factors: &[usize], pad: usize| {
            let factors: Vec<String> = factors.iter().map(usize::to_string).collect();
            let zeros = match pad {
                0 => String::new(),
                1 => " (1 zero)".into(),
                _ => format!(" ({pad} zeros)"),
            };
            format!("{width} {of} as {}{zeros}", factors.join(" x "))
        };
        let input = side(inputs, "inputs", in_factors, pad[0]);
        format!("{}: {input}, {}", self.name, side(outputs, "outputs", out_factors, pad[1]))
    }

    /// The tensor layer of a bond. By data it always has a bias.
    pub fn layer(&self, bond: usize, by: By) -> Mps {
        let chain = self.chain(bond);
        let bias = self.matrix.bias.is_some() || by == By::Data;
        let layer = Mps::new(chain.in_factors(), chain.out_factors(), chain.bonds().to_vec());
        Mps { bias, pad: self.folded.pad, ..layer }
    }

    /// The largest bond that makes sense: a tensor layer's own, else the one at which nothing is lost.
    pub fn largest_bond(&self) -> usize {
        match &self.split {
            Split::Two(split) => self.own_bond().unwrap_or(split.full_bond()),
            Split::Chain(split) => split.largest_bond(),
        }
    }

    /// The bond from which on nothing is lost, of a chain's longest cut; a chain of cores whose bonds are kept has no more.
    pub fn full_bond(&self) -> usize {
        match &self.split {
            Split::Two(split) => split.full_bond(),
            Split::Chain(split) => split.largest_bond(),
        }
    }

    /// The largest bond of a tensor layer, unless its factors are others.
    fn own_bond(&self) -> Option<usize> {
        self.folded.bonds.as_ref().and_then(|bonds| bonds.iter().copied().max())
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
        let most = match self.own_bond() {
            Some(_) => format!("{most}, which {name} has"),
            None => format!("{most}, at which {name} loses nothing"),
        };
        Err(Error::argument("bond", format!("{bond}: expected 1 to {most}")))
    }

    /// Bytes that a fit of this bond needs at its peak, besides the matrix and the covariance: of two cores the larger normal
    /// matrix and its decomposition, in f64; of more the same, as far as it is built. At the full bond nothing is fitted.
    pub fn needed(&self, bond: usize) -> u64 {
        let chain = self.chain(bond);
        if chain.bonds() == chain.full_bonds() {
            return 0;
        }
        let Some(MpsSpec { j, l, .. }) = chain.two_cores() else { return needed(&chain) };
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
        let start = match &self.split {
            Split::Two(split) => Found::Two(split.cores(bond)?),
            Split::Chain(split) => Found::Chain(split.cores(bond)?),
        };
        let covariance = inputs.map(|inputs| self.covariance(inputs)).transpose()?;
        let (cores, output_error, sweeps, bias) = match (by, inputs, &covariance) {
            (By::Data, Some(inputs), Some(covariance)) => {
                let Fit { cores, error, sweeps } = start.fitted(&self.weight, covariance)?;
                let bias = bias.clone().unwrap_or_else(|| vec![0.0; *outputs]);
                let bias = inputs.corrected_bias(&bias, weight, &self.cut(cores.matrix()))?;
                (cores, Some(error), sweeps, Some(bias))
            }
            (By::Data, ..) => {
                return Err(Error::argument("inputs", "none: fitting by data needs them"));
            }
            (By::Weights, _, covariance) => {
                let error = covariance
                    .as_ref()
                    .map(|covariance| start.error(&self.weight, covariance))
                    .transpose()?;
                (start, error, 0, bias.clone())
            }
        };
        let weight_error = match (by, &self.split, self.folded.pad) {
            (By::Weights, Split::Two(split), [0, 0]) => split.error(bond),
            _ => distance(weight, &self.cut(cores.matrix())),
        };
        let bias = bias.map(|bias| extended(&bias, [1, *outputs], [0, self.folded.pad[1]]));
        let weights = cores.weights().into_iter().chain(bias).collect();
        Ok(Compressed { layer: self.layer(bond, by), weights, weight_error, output_error, sweeps })
    }

    /// That of the padded inputs, whose zeros do not vary.
    fn covariance(&self, inputs: &Moments) -> Result<Vec<f64>> {
        let zeros = self.folded.pad[0];
        let features = inputs.features();
        Ok(extended(&inputs.covariance()?, [features; 2], [zeros; 2]))
    }

    /// What the layer keeps of a padded matrix.
    fn cut(&self, padded: Vec<f64>) -> Vec<f64> {
        let [_, cut] = self.folded.pad;
        let Matrix { inputs, outputs, .. } = self.matrix;
        let rows = padded.chunks_exact(outputs + cut).take(inputs);
        rows.flat_map(|row| row[..outputs].iter().copied()).collect()
    }

    /// The layer with the smallest bond whose error is at most this share: of the matrix by weights, of the outputs by
    /// data. `allowed` is asked before each fit, of which there is one for each halving of the possible bonds, and before
    /// every chain that is made by weights.
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
        let is_padded = self.folded.pad != [0, 0];
        match (by, &self.split) {
            (By::Weights, Split::Two(split)) if !is_padded => {
                return compressed(split.bond_for(error).min(self.largest_bond()));
            }
            // The error of what is kept of a padded matrix, or of a chain of four cores or more, may grow with the bond: none
            // is passed over.
            (By::Weights, split) => {
                let least = match split {
                    Split::Chain(split) if !is_padded => split.least_bond(error)?,
                    _ => 1,
                };
                for bond in least..self.largest_bond() {
                    allowed(bond)?;
                    if self.compressed(bond, by, None)?.weight_error <= error {
                        return self.compressed(bond, by, inputs);
                    }
                }
                return compressed(self.largest_bond());
            }
            (By::Data, _) => {}
        }
        // The bond lies above `low`, and not above that of `best`.
        let (mut low, mut high) = (0, self.largest_bond());
        let mut best = compressed(high)?;
        while low + 1 < high {
            let middle = usize::midpoint(low, high);
            let found = compressed(middle)?;
            match found.output_error {
                Some(missed) if missed <= error => (best, high) = (found, middle),
                _ => low = middle,
            }
        }
        Ok(best)
    }
}

impl Compressed {
    /// The bond of its layer, the largest of a chain.
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

/// A row-major matrix with zeros after its rows and columns.
fn extended<T: Copy + Default>(
    matrix: &[T],
    [rows, columns]: [usize; 2],
    [below, right]: [usize; 2],
) -> Vec<T> {
    let mut extended = Vec::with_capacity((rows + below) * (columns + right));
    for row in matrix.chunks_exact(columns) {
        extended.extend_from_slice(row);
        extended.resize(extended.len() + right, T::default());
    }
    extended.resize((rows + below) * (columns + right), T::default());
    extended
}

/// `‖W - W'‖ / ‖W‖`; 0 of a matrix of zeros.
fn distance(weight: &[f32], other: &[f64]) -> f64 {
    let squares = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|x| x * x).sum::<f64>();
    let whole = squares(&mut weight.iter().copied().map(f64::from));
    let missed = squares(&mut weight.iter().zip(other).map(|(w, other)| f64::from(*w) - other));
    if whole == 0.0 { 0.0 } else { (missed / whole).sqrt() }
}
