//! Another program's safetensors file, as a stack of dense layers with ReLU between them.
//!
//! A matrix is a tensor of two dimensions whose name ends as programs name them, and its bias one of the same name up to
//! there. The layers are taken in the natural order of their names or, where that makes no chain, in the only order that
//! makes one. Whether matrices are `[out, in]` (PyTorch) or `[in,
//! out]` (Keras, Flax, Burn) follows from their biases and from which of the two makes a chain.

use std::path::Path;

use burn::tensor::{bf16, f16};
use safetensors::tensor::{Dtype, TensorInfo};

use crate::net::{Dense, Dropout, Relu, Shape, Snapshot, Stack};
use crate::tensor_file::{Header, finite};
use crate::text::{excerpt, natural};
use crate::{Error, Result};

/// How names of matrices end, and those of the biases that belong to them.
const ENDINGS: [[&str; 2]; 4] =
    [["weight", "bias"], ["kernel:0", "bias:0"], ["kernel", "bias"], ["vars/0", "vars/1"]];

/// The rate of dropout that is taken where a file seems to have one: this program's default.
const DROPOUT: f64 = 0.2;

/// In which order the dimensions of a matrix are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Layout {
    /// `[out, in]`.
    Pytorch,
    /// `[in, out]`.
    Keras,
}

impl Layout {
    const BOTH: [Self; 2] = [Self::Pytorch, Self::Keras];

    /// Number of inputs and outputs of a matrix.
    fn of(self, [rows, columns]: [usize; 2]) -> [usize; 2] {
        match self {
            Self::Pytorch => [columns, rows],
            Self::Keras => [rows, columns],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Pytorch => "pytorch",
            Self::Keras => "keras",
        }
    }

    /// As messages say it.
    fn order(self) -> &'static str {
        match self {
            Self::Pytorch => "[out, in], as PyTorch has them",
            Self::Keras => "[in, out], as Keras has them",
        }
    }
}

/// A matrix and its bias in a file.
#[derive(Debug, Clone, PartialEq)]
struct Found {
    /// What the two names have in common.
    stem: String,
    weight: String,
    shape: [usize; 2],
    /// Its name and length.
    bias: Option<(String, usize)>,
}

/// What is read from a file, checked by its header alone.
#[derive(Debug)]
pub struct Plan {
    stack: Stack,
    layers: Vec<Found>,
    layout: Layout,
    remarks: Vec<String>,
}

impl Plan {
    /// From a header.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when the tensors are no stack of dense layers; [`Error::Argument`] naming `layout` where it
    /// must be known, or is not the file's.
    pub fn new(path: &Path, header: &Header, layout: Option<Layout>) -> Result<Self> {
        let (layers, left_over) = found(path, header)?;
        let layers = rearranged(&layers).unwrap_or(layers);
        let layout = layout_of(path, &layers, layout)?;
        let widths: Vec<[usize; 2]> = layers.iter().map(|layer| layout.of(layer.shape)).collect();
        let inputs = widths[0][0];
        let input = image(inputs);
        let drops = has_dropout(&layers);
        let mut stack = Stack { input, layers: Vec::new() };
        for (at, (found, [_, out])) in layers.iter().zip(&widths).enumerate() {
            stack.layers.push(Dense { out: *out, bias: found.bias.is_some() }.into());
            if at + 1 < layers.len() {
                stack.layers.push(Relu {}.into());
                if drops {
                    stack.layers.push(Dropout { rate: DROPOUT }.into());
                }
            }
        }
        stack
            .check()
            .map_err(|error| Error::malformed(path, "network", "a possible one", error))?;

        let mut remarks = vec![assumed(&layers, &widths, layout, input, drops)];
        if !left_over.is_empty() {
            remarks.push(format!("left over, not part of the network: {}", list(&left_over)));
        }
        Ok(Self { stack, layers, layout, remarks })
    }

    /// Reads the numbers: the network, and what was assumed of it.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`] when one is not finite.
    pub fn read(
        self,
        path: &Path,
        header: &Header,
        bytes: &[u8],
    ) -> Result<(Snapshot, Vec<String>)> {
        let Self { stack, layers, layout, remarks } = self;
        let mut weights = Vec::new();
        for layer in &layers {
            let [rows, columns] = layer.shape;
            let matrix = numbers(path, header, &layer.weight, bytes)?;
            weights.push(match layout {
                Layout::Keras => matrix,
                Layout::Pytorch => {
                    let number = |at: usize| matrix[at % rows * columns + at / rows];
                    (0..matrix.len()).map(number).collect()
                }
            });
            if let Some((bias, _)) = &layer.bias {
                weights.push(numbers(path, header, bias, bytes)?);
            }
        }
        Ok((Snapshot::new(stack, weights)?, remarks))
    }
}

/// The matrices in the order of their names, and the names of what belongs to none.
fn found(path: &Path, header: &Header) -> Result<(Vec<Found>, Vec<String>)> {
    let tensors = header.tensors();
    let mut names = tensors.offset_keys();
    names.sort_by(|one, other| natural(one, other));
    let info = |name: &str| tensors.info(name);
    let mut layers: Vec<Found> = Vec::new();
    for name in &names {
        let Some((stem, bias)) = parts(name) else { continue };
        let Some([rows, columns]) = info(name).and_then(|info| info.shape.as_array()) else {
            continue;
        };
        if [*rows, *columns].contains(&0) {
            let found = format!("{:?}", [rows, columns]);
            return Err(Error::malformed(path, tensor(name), "a matrix with elements", found));
        }
        let bias = info(&bias).map(|info| (bias, info));
        let bias = bias.and_then(|(bias, info)| Some((bias, *info.shape.as_array::<1>()?)));
        layers.push(Found {
            stem: stem.to_owned(),
            weight: name.clone(),
            shape: [*rows, *columns],
            bias: bias.map(|(bias, [length])| (bias, length)),
        });
    }
    let used = |name: &String| {
        let bias = |found: &Found| found.bias.as_ref().is_some_and(|(bias, _)| bias == name);
        layers.iter().any(|found| found.weight == *name || bias(found))
    };
    if layers.is_empty() {
        let expected = "dense layers: matrices NAME.weight or NAME.kernel with NAME.bias";
        let found = match names.is_empty() {
            true => "none".to_owned(),
            false => list(&names),
        };
        return Err(Error::malformed(path, "tensors", expected, found));
    }
    for name in names.iter().filter(|name| used(name)) {
        let dtype = info(name).map(|info| info.dtype);
        if !matches!(dtype, Some(Dtype::F32 | Dtype::F16 | Dtype::BF16)) {
            let found = dtype.map_or_else(String::new, |dtype| dtype.to_string());
            return Err(Error::malformed(path, tensor(name), "F32, F16 or BF16", found));
        }
    }
    let left_over = names.iter().filter(|name| !used(name)).cloned().collect();
    Ok((layers, left_over))
}

fn tensor(name: &str) -> String {
    format!("tensor '{}'", excerpt(name))
}

/// What a matrix's name begins with, and the name that its bias has.
fn parts(name: &str) -> Option<(&str, String)> {
    ENDINGS.iter().find_map(|[weight, bias]| {
        let stem = name.strip_suffix(weight)?;
        let separated = stem.is_empty() || stem.ends_with(['.', '/']);
        separated.then(|| (stem, format!("{stem}{bias}")))
    })
}

/// The layers in the only order in which they make a chain, if theirs makes none.
fn rearranged(layers: &[Found]) -> Option<Vec<Found>> {
    let makes_chain = |layout: &Layout| fits(layers, *layout).is_ok();
    if Layout::BOTH.iter().any(makes_chain) {
        return None;
    }
    let mut chains = Vec::new();
    for layout in Layout::BOTH {
        let mut search = Search { layers, layout, steps: SEARCHED, chain: Vec::new() };
        search.extend(&mut chains);
    }
    match &chains[..] {
        [only] => Some(only.iter().map(|&at| layers[at].clone()).collect()),
        _ => None,
    }
}

/// Most layers that are tried in places where they may not belong.
const SEARCHED: usize = 10_000;

/// A search for chains of all layers.
struct Search<'a> {
    layers: &'a [Found],
    layout: Layout,
    /// How many more layers are tried.
    steps: usize,
    /// The layers of a chain so far.
    chain: Vec<usize>,
}

impl Search<'_> {
    /// Adds to `chains` those that begin as this one does, until there are two.
    fn extend(&mut self, chains: &mut Vec<Vec<usize>>) {
        if self.chain.len() == self.layers.len() {
            return chains.push(self.chain.clone());
        }
        for next in 0..self.layers.len() {
            if self.steps == 0 || chains.len() > 1 {
                return;
            }
            if self.chain.contains(&next) {
                continue;
            }
            self.steps -= 1;
            let pair = self.chain.last().into_iter().chain([&next]);
            let pair: Vec<Found> = pair.map(|&at| self.layers[at].clone()).collect();
            if fits(&pair, self.layout).is_ok() {
                self.chain.push(next);
                self.extend(chains);
                self.chain.pop();
            }
        }
    }
}

/// The layout of a file: the one with which biases and chain agree.
fn layout_of(path: &Path, layers: &[Found], given: Option<Layout>) -> Result<Layout> {
    let mut fitting = Layout::BOTH.into_iter().filter(|layout| fits(layers, *layout).is_ok());
    match (fitting.next(), fitting.next(), given) {
        (Some(one), None, None) => Ok(one),
        (Some(_), Some(_), None) => {
            let problem = format!(
                "the matrices of {} fit as [out, in] and as [in, out]: expected {} or {}",
                excerpt(&path.display().to_string()),
                Layout::Pytorch.name(),
                Layout::Keras.name()
            );
            Err(Error::argument("layout", problem))
        }
        (Some(one), None, Some(given)) if one != given => {
            let problem = format!("{}: the matrices are {}", given.name(), one.order());
            Err(Error::argument("layout", problem))
        }
        (Some(_), _, Some(given)) => Ok(given),
        // Neither: what is wrong is told by the layout that comes further, or by PyTorch's.
        (None, ..) => {
            let wrong = Layout::BOTH.into_iter().rev();
            let wrong = wrong.filter_map(|layout| fits(layers, layout).err());
            let furthest = wrong.max_by_key(|wrong| wrong.at);
            let Some(Misfit { what, expected, found, .. }) = furthest else {
                return Err(Error::internal("reading a network", "it has no layout"));
            };
            Err(Error::malformed(path, what, expected, found))
        }
    }
}

/// Why a layout is not the one of a file.
struct Misfit {
    /// How many tensors fit before that.
    at: usize,
    what: String,
    expected: String,
    found: String,
}

/// Whether every bias has a number for each output, and every layer takes as many inputs as the one before has outputs.
fn fits(layers: &[Found], layout: Layout) -> Result<(), Misfit> {
    let mut before: Option<(&Found, usize)> = None;
    for (at, layer) in layers.iter().enumerate() {
        let [inputs, outputs] = layout.of(layer.shape);
        if let Some((last, width)) = before
            && width != inputs
        {
            let found = format!("{:?}, which takes {inputs}", layer.shape);
            let expected = format!(
                "{width} inputs, the outputs of '{}' of shape {:?}",
                excerpt(&last.weight),
                last.shape
            );
            return Err(Misfit { at: 2 * at, what: tensor(&layer.weight), expected, found });
        }
        if let Some((bias, length)) = &layer.bias
            && *length != outputs
        {
            let expected = format!("[{outputs}], the outputs of '{}'", excerpt(&layer.weight));
            let found = format!("[{length}]");
            return Err(Misfit { at: 2 * at + 1, what: tensor(bias), expected, found });
        }
        before = Some((layer, outputs));
    }
    Ok(())
}

/// The shape of an image of so many features: square, in grey or three colours, if it can be.
fn image(inputs: usize) -> Shape {
    for channels in [1, 3] {
        let side = (inputs / channels).isqrt();
        if channels * side * side == inputs {
            return [channels, side, side];
        }
    }
    [inputs, 1, 1]
}

/// Whether the names are positions in PyTorch's `nn.Sequential` with two modules after every layer: ReLU and dropout.
fn has_dropout(layers: &[Found]) -> bool {
    let position = |found: &Found| -> Option<usize> {
        found.stem.trim_end_matches('.').rsplit('.').next()?.parse().ok()
    };
    let positions: Option<Vec<usize>> = layers.iter().map(position).collect();
    positions.is_some_and(|positions| {
        positions.len() > 1 && positions.windows(2).all(|pair| pair[1] == pair[0].saturating_add(3))
    })
}

/// What was assumed, in a line.
fn assumed(
    layers: &[Found],
    widths: &[[usize; 2]],
    layout: Layout,
    input: Shape,
    drops: bool,
) -> String {
    let chain: Vec<String> = layers
        .iter()
        .zip(widths)
        .map(|(layer, [inputs, outputs])| {
            format!("{} {inputs} -> {outputs}", excerpt(&layer.weight))
        })
        .collect();
    let [channels, height, width] = input;
    let between = match (layers.len(), drops) {
        (1, _) => String::new(),
        (_, false) => ", ReLU between the layers".into(),
        (_, true) => format!(", ReLU and dropout (rate {DROPOUT}) between the layers"),
    };
    format!(
        "assumed: matrices {}: {}{between}, images of {channels} x {height} x {width} with values from 0 to 1",
        layout.order(),
        list(&chain)
    )
}

/// The first of some names.
fn list(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let mut shown: Vec<String> = names.iter().take(SHOWN).map(|name| excerpt(name)).collect();
    if names.len() > SHOWN {
        shown.push(format!("{} more", names.len() - SHOWN));
    }
    shown.join(", ")
}

/// Reads a tensor of any of the types.
fn numbers(path: &Path, header: &Header, name: &str, file: &[u8]) -> Result<Vec<f32>> {
    let bytes = header.bytes(name, file);
    let halves = || bytes.chunks_exact(2).map(|half| [half[0], half[1]]);
    let numbers = match header.tensors().info(name).map(|info: &TensorInfo| info.dtype) {
        Some(Dtype::F16) => halves().map(|half| f16::from_le_bytes(half).to_f32()).collect(),
        Some(Dtype::BF16) => halves().map(|half| bf16::from_le_bytes(half).to_f32()).collect(),
        _ => bytes
            .chunks_exact(4)
            .map(|number| f32::from_le_bytes([number[0], number[1], number[2], number[3]]))
            .collect(),
    };
    finite(path, name, numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ordered_by_the_numbers_in_them() {
        let mut names =
            ["fc10.weight", "fc2.weight", "fc1.weight", "fc02.weight", "fc.weight", "10", "9"];
        names.sort_by(|one, other| natural(one, other));
        let expected =
            ["9", "10", "fc.weight", "fc1.weight", "fc2.weight", "fc02.weight", "fc10.weight"];
        assert_eq!(names, expected);
    }

    #[test]
    fn keras_begins_with_the_name_without_a_number() {
        let mut names =
            ["dense_1/kernel:0", "dense/kernel:0", "dense_10/kernel:0", "dense_2/kernel:0"];
        names.sort_by(|one, other| natural(one, other));
        assert_eq!(names[0], "dense/kernel:0");
        assert_eq!(names[3], "dense_10/kernel:0");
    }

    #[test]
    fn images_are_square_where_they_can_be() {
        assert_eq!(image(784), [1, 28, 28]);
        assert_eq!(image(3072), [3, 32, 32]);
        assert_eq!(image(100), [1, 10, 10]);
        assert_eq!(image(30), [30, 1, 1]);
    }
}
