//! A network as an ONNX file (onnx.ai, "Open Neural Network Exchange"): opset 17, so that most runtimes read it.
//!
//! | | name | shape | |
//! |---|---|---|---|
//! | input | `images` | `[batch, channels, height, width]` | f32 from 0 to 1 |
//! | output | `logits` | `[batch, classes]` | f32, before softmax |
//!
//! The batch may be of any size. The names of the classes are in the model's metadata under `classes`, as a list in JSON.
//! A tensor layer of two cores is two matrix products, in the order that takes fewer multiply-adds, a longer chain one for each
//! core; its matrix is never built. A convolution of two cores is one, with its matrix.

use super::protobuf::Message;
use crate::mps::chain::End;
use crate::mps::conv::Window;
use crate::mps::{Chain, MpsSpec, Order};
use crate::net::{Conv2d, Layer, Mps, Placed, Snapshot, features};
use crate::{Error, Result};

/// The version of ONNX's operators.
const OPSET: u64 = 17;

/// The version of the format that goes with it.
const IR_VERSION: u64 = 8;

/// Most bytes of a message of Protocol Buffers.
const MOST_BYTES: u64 = (1 << 31) - 1;

/// Types of elements, by ONNX's numbers.
const FLOAT: u64 = 1;
const INT64: u64 = 7;

/// The type of an attribute that is a list of whole numbers.
const INTS: u64 = 7;

/// An operation on values that are known by their names.
struct Node {
    operator: &'static str,
    inputs: Vec<String>,
    output: String,
    /// Names and whole numbers.
    attributes: Vec<(&'static str, Vec<u64>)>,
}

/// A graph under construction.
#[derive(Default)]
struct Graph {
    nodes: Vec<Node>,
    /// Messages `TensorProto`.
    constants: Vec<Message>,
}

impl Graph {
    /// Adds an operation; returns the name of what it gives.
    fn node(&mut self, operator: &'static str, inputs: &[&str], output: String) -> String {
        let inputs = inputs.iter().map(|&input| input.to_owned()).collect();
        self.nodes.push(Node { operator, inputs, output: output.clone(), attributes: Vec::new() });
        output
    }

    fn constant(&mut self, name: &str, shape: &[usize], of: u64, bytes: &[u8]) -> String {
        let dims = shape
            .iter()
            .fold(Message::default(), |tensor, &extent| tensor.number(1, extent as u64));
        self.constants.push(dims.number(2, of).text(8, name).bytes(9, bytes));
        name.to_owned()
    }

    fn floats(&mut self, name: &str, shape: &[usize], numbers: &[f32]) -> String {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.constant(name, shape, FLOAT, &bytes)
    }

    fn integers(&mut self, name: &str, numbers: &[i64]) -> String {
        let bytes: Vec<u8> = numbers.iter().copied().flat_map(i64::to_le_bytes).collect();
        self.constant(name, &[numbers.len()], INT64, &bytes)
    }

    /// Gives a value another shape; its first extent follows from the others.
    fn reshape(&mut self, value: &str, rest: &[usize], name: &str) -> String {
        let shape = std::iter::once(-1).chain(rest.iter().map(|&extent| extent as i64));
        let shape = self.integers(&format!("{name}.shape"), &shape.collect::<Vec<_>>());
        self.node("Reshape", &[value, &shape], name.to_owned())
    }

    fn dense(&mut self, name: &str, x: &str, widths: [usize; 2], weights: &[Vec<f32>]) -> String {
        let mut inputs = vec![x.to_owned()];
        inputs.push(self.floats(&format!("{name}.weight"), &widths, &weights[0]));
        if let Some(bias) = weights.get(1) {
            inputs.push(self.floats(&format!("{name}.bias"), &[bias.len()], bias));
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        self.node("Gemm", &inputs, name.to_owned())
    }

    /// A layer of cores, with the zeros that extend its input and without the outputs that it cuts off.
    fn tensor_layer(&mut self, name: &str, x: &str, layer: &Mps, weights: &[Vec<f32>]) -> String {
        let chain = layer.chain();
        let [zeros, cut] = layer.pad;
        let x = match zeros {
            0 => x.to_owned(),
            _ => {
                let pads = self.integers(&format!("{name}.zeros"), &[0, 0, 0, zeros as i64]);
                self.node("Pad", &[x, &pads], format!("{name}.extended"))
            }
        };
        let whole = if cut == 0 { name.to_owned() } else { format!("{name}.whole") };
        let y = match chain.two_cores() {
            Some(spec) => self.mps(&whole, &x, &spec, weights),
            None => self.chain(&whole, &x, &chain, weights),
        };
        if cut == 0 {
            return y;
        }
        let numbers = [("begin", 0), ("end", layer.outputs() as i64), ("axis", 1)];
        let [begin, end, axis] =
            numbers.map(|(of, number)| self.integers(&format!("{name}.{of}"), &[number]));
        self.node("Slice", &[&y, &begin, &end, &axis], name.to_owned())
    }

    fn mps(&mut self, name: &str, x: &str, spec: &MpsSpec, weights: &[Vec<f32>]) -> String {
        let MpsSpec { m, n, j, l, k } = *spec;
        let part = |of: &str| format!("{name}.{of}");
        let (a, c) = (&weights[0], &weights[1]);
        let y = match Order::cheaper(spec) {
            // U[(b j), (k n)], then Y[b, m, n] with the sum over (j k).
            Order::CFirst => {
                let x = self.reshape(x, &[l], &part("x"));
                let c = self.floats(&part("c"), &[l, k * n], c);
                let u = self.node("MatMul", &[&x, &c], part("u"));
                let u = self.reshape(&u, &[j * k, n], &part("u_of_image"));
                let a = self.floats(&part("a"), &[m, j * k], &swapped(a, [m, k, j, 1]));
                self.node("MatMul", &[&a, &u], part("y"))
            }
            // T[b, (m k), l], then Y[(b m), n] with the sum over (k l).
            Order::AFirst => {
                let x = self.reshape(x, &[j, l], &part("x"));
                let a = self.floats(&part("a"), &[m * k, j], a);
                let t = self.node("MatMul", &[&a, &x], part("t"));
                let t = self.reshape(&t, &[k * l], &part("t_of_mode"));
                let c = self.floats(&part("c"), &[k * l, n], &swapped(c, [1, l, k, n]));
                self.node("MatMul", &[&t, &c], part("y"))
            }
        };
        let Some(bias) = weights.get(2) else { return self.reshape(&y, &[m * n], name) };
        let y = self.reshape(&y, &[m * n], &part("y_of_image"));
        let bias = self.floats(&part("bias"), &[m * n], bias);
        self.node("Add", &[&y, &bias], name.to_owned())
    }

    /// One core after the other, from the right: `[(b p), s, r] = core[s, q] · [(b p), q, r]`.
    fn chain(&mut self, name: &str, x: &str, chain: &Chain, weights: &[Vec<f32>]) -> String {
        let part = |of: &str| format!("{name}.{of}");
        let mut value = x.to_owned();
        for step in chain.steps(End::Right) {
            let (core, own) = (format!("g{}", step.core + 1), &weights[step.core]);
            let x =
                self.reshape(&value, &[step.terms(), step.r.extent], &part(&format!("x_{core}")));
            let core_value = self.floats(&part(&core), &[step.sums(), step.terms()], own);
            value = self.node("MatMul", &[&core_value, &x], part(&format!("y_{core}")));
        }
        let outputs = chain.output();
        let Some(bias) = weights.get(chain.cores()) else {
            return self.reshape(&value, &[outputs], name);
        };
        let y = self.reshape(&value, &[outputs], &part("y"));
        let bias = self.floats(&part("bias"), &[outputs], bias);
        self.node("Add", &[&y, &bias], name.to_owned())
    }

    /// An operation on images `[batch, channels, height, width]`, whose numbers go in and come out in rows.
    fn on_images(
        &mut self,
        name: &str,
        (operator, x): (&'static str, &str),
        window: &Window,
        constants: &[String],
        channels: usize,
    ) -> String {
        let part = |of: &str| format!("{name}.{of}");
        let x = self.reshape(x, &window.input, &part("x"));
        let inputs: Vec<&str> = [&x].into_iter().chain(constants).map(String::as_str).collect();
        let y = self.node(operator, &inputs, part("y"));
        let pair = |number: usize| vec![number as u64; 2];
        if let Some(node) = self.nodes.last_mut() {
            let padding = vec![window.padding as u64; 4];
            node.attributes = vec![
                ("kernel_shape", window.kernel.map(|extent| extent as u64).into()),
                ("strides", pair(window.stride)),
                ("pads", padding),
            ];
        }
        let positions: usize = window.output().iter().product();
        self.reshape(&y, &[channels * positions], name)
    }

    fn conv2d(
        &mut self,
        name: &str,
        x: &str,
        (layer, placed): (&Conv2d, &Placed),
        weights: &[Vec<f32>],
    ) -> Result<String> {
        let (window, matrix) = layer.merged(placed.input, weights)?;
        let ([channels, ..], [outputs, ..]) = (placed.input, placed.output);
        let [rows, columns] = window.kernel;
        // [channels, taps, channels'] with the output's channels first.
        let turned = swapped(&matrix, [1, channels * window.taps(), outputs, 1]);
        let shape = [outputs, channels, rows, columns];
        let mut constants = vec![self.floats(&format!("{name}.weight"), &shape, &turned)];
        if layer.bias {
            let bias = &weights[weights.len() - 1];
            constants.push(self.floats(&format!("{name}.bias"), &[outputs], bias));
        }
        Ok(self.on_images(name, ("Conv", x), &window, &constants, outputs))
    }

    /// `x Φ(x)`: the operator of that name is of a later opset.
    fn gelu(&mut self, name: &str, x: &str) -> String {
        let part = |of: &str| format!("{name}.{of}");
        let constants = [("root", std::f32::consts::FRAC_1_SQRT_2), ("one", 1.0), ("half", 0.5)];
        let [root, one, half] =
            constants.map(|(of, number)| self.floats(&part(of), &[], &[number]));
        let scaled = self.node("Mul", &[x, &root], part("scaled"));
        let erf = self.node("Erf", &[&scaled], part("erf"));
        let sum = self.node("Add", &[&erf, &one], part("sum"));
        let product = self.node("Mul", &[x, &sum], part("product"));
        self.node("Mul", &[&product, &half], name.to_owned())
    }
}

/// `[p, q, r, s]` as `[p, r, q, s]`.
fn swapped(numbers: &[f32], [p, q, r, s]: [usize; 4]) -> Vec<f32> {
    let mut swapped = Vec::with_capacity(numbers.len());
    for at_p in 0..p {
        for at_r in 0..r {
            for at_q in 0..q {
                swapped.extend_from_slice(&numbers[((at_p * q + at_q) * r + at_r) * s..][..s]);
            }
        }
    }
    swapped
}

/// The bytes of the file; `classes` has a name for each class.
///
/// # Errors
///
/// [`Error::Argument`] naming `format` when the network is too large for such a file.
pub fn to_bytes(snapshot: &Snapshot, classes: &[String]) -> Result<Vec<u8>> {
    let stack = snapshot.stack();
    // What is added to the weights takes some hundred bytes a layer.
    let bytes = 4 * stack.parameters()? as u64 + 1024 * (1 + stack.layers.len() as u64);
    if bytes > MOST_BYTES {
        let problem = format!("onnx: expected at most {MOST_BYTES} bytes, found {bytes}");
        return Err(Error::argument("format", problem));
    }
    let mut graph = Graph::default();
    let mut value = graph.reshape("images", &[features(stack.input)], "images_flat");
    for (at, placed) in stack.placed()?.iter().enumerate() {
        let weights = snapshot.of_layer(at)?;
        let name = &placed.name;
        value = match placed.layer {
            Layer::Dense(layer) => {
                graph.dense(name, &value, [features(placed.input), layer.out], weights)
            }
            Layer::Mps(layer) => graph.tensor_layer(name, &value, layer, weights),
            Layer::Conv2d(layer) => graph.conv2d(name, &value, (layer, placed), weights)?,
            Layer::MaxPool(layer) => {
                let window = layer.window(placed.input)?;
                graph.on_images(name, ("MaxPool", &value), &window, &[], placed.output[0])
            }
            Layer::AvgPool(layer) => {
                let window = layer.window(placed.input)?;
                graph.on_images(name, ("AveragePool", &value), &window, &[], placed.output[0])
            }
            Layer::Relu(_) => graph.node("Relu", &[&value], name.clone()),
            Layer::Gelu(_) => graph.gelu(name, &value),
            // It acts in training only.
            Layer::Dropout(_) => value,
        };
    }
    if let Some(last) = graph.nodes.last_mut() {
        last.output = "logits".into();
    }

    let nodes = graph.nodes.iter().map(|node| {
        let inputs = node.inputs.iter().fold(Message::default(), |to, input| to.text(1, input));
        let node_of = inputs.text(2, &node.output).text(3, &node.output).text(4, node.operator);
        let attributes = node.attributes.iter().map(|(name, numbers)| {
            let named = Message::default().text(1, name);
            let numbered = numbers.iter().fold(named, |to, &number| to.number(8, number));
            numbered.number(20, INTS)
        });
        node_of.messages(5, attributes)
    });
    let [channels, height, width] = stack.input;
    let input = value_info("images", &[channels, height, width]);
    let output = value_info("logits", &[stack.outputs()?]);
    let of_graph = Message::default()
        .messages(1, nodes)
        .text(2, "tnet-gpu")
        .messages(5, graph.constants)
        .message(11, &input)
        .message(12, &output);

    let classes = serde_json::to_string(classes)
        .map_err(|error| Error::internal("writing the names of the classes", error))?;
    let model = Message::default()
        .number(1, IR_VERSION)
        .text(2, env!("CARGO_PKG_NAME"))
        .text(3, env!("CARGO_PKG_VERSION"))
        .message(7, &of_graph)
        .message(8, &Message::default().text(1, "").number(2, OPSET))
        .message(14, &Message::default().text(1, "classes").text(2, &classes));
    Ok(model.into_bytes())
}

/// Name, type and shape of an input or output, whose first extent is the batch.
fn value_info(name: &str, rest: &[usize]) -> Message {
    let batch = Message::default().text(2, "batch");
    let rest = rest.iter().map(|&extent| Message::default().number(1, extent as u64));
    let shape = Message::default().messages(1, std::iter::once(batch).chain(rest));
    let tensor = Message::default().number(1, FLOAT).message(2, &shape);
    let of = Message::default().message(1, &tensor);
    Message::default().text(1, name).message(2, &of)
}
