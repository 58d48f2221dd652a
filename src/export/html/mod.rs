//! A trained network as a web page: one file that holds the weights, the kernels and all that computes and shows them, and
//! asks nothing of any server.
//!
//! ```text
//! Snapshot ─ Lowered ─▶ launches ─┐
//! shaders/ ────────────▶ kernels ─┼─▶ JSON in the page ◀─ compute.js, picture.js, page.js, page.css (assets/page/)
//! test images, their logits ──────┘
//! ```
//!
//! The page runs the launches on a GPU through WebGPU, or the same launches in JavaScript.

mod halved;
mod lowered;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use serde_json::{Map, Value};

pub use halved::Halved;
pub use lowered::{Buffer, Launch, Lowered, written};

use crate::data::ImageSet;
use crate::net::{Snapshot, Stack};
use crate::op::gpu::params::Member;
use crate::op::gpu::shader::{Kernel, Shader};
use crate::report::table::thousands;
use crate::text::visible;
use crate::{Error, Result};

/// Test images that a page has.
pub const SAMPLES: usize = 16;

/// Bytes of a file that browsers open at once on any machine; larger ones deserve a word.
pub const LARGE: usize = 16 << 20;

/// A network, and how its weights are written.
#[derive(Debug, Clone, Copy)]
pub enum Weights<'a> {
    /// As numbers of 32 bits.
    Whole(&'a Snapshot),
    /// As numbers of 16 bits.
    Half(&'a Halved),
}

impl<'a> Weights<'a> {
    /// The network that the page computes.
    pub fn snapshot(self) -> &'a Snapshot {
        match self {
            Self::Whole(snapshot) => snapshot,
            Self::Half(halved) => halved.snapshot(),
        }
    }

    /// The bytes of each weight.
    fn bytes(self) -> Vec<Vec<u8>> {
        let bytes =
            |numbers: &Vec<f32>| numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        match self {
            Self::Whole(snapshot) => snapshot.weights().iter().map(bytes).collect(),
            Self::Half(halved) => halved.weights().to_vec(),
        }
    }

    /// Of how many weights side by side the integers count in one step, where they are such.
    fn block(self) -> Option<usize> {
        match self {
            Self::Whole(_) => None,
            Self::Half(_) => Some(halved::BLOCK),
        }
    }
}

/// What is shown and computed.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// The network.
    pub weights: Weights<'a>,
    /// A name for each class.
    pub classes: &'a [String],
    /// The mean brightness of the outermost pixels of the images that it was trained on, if it is known: the paper on which
    /// is drawn.
    pub border: Option<u8>,
    /// Images to try, and to test the page with.
    pub samples: &'a ImageSet,
    /// What the network answers to each.
    pub logits: &'a [Vec<f32>],
}

/// The first images of every class in turn, as many as there are up to [`SAMPLES`].
pub fn samples(set: &ImageSet, classes: usize) -> ImageSet {
    let mut by_class = vec![Vec::new(); classes];
    for (at, &label) in set.labels.iter().enumerate() {
        if let Some(of_class) = by_class.get_mut(usize::from(label)) {
            of_class.push(at);
        }
    }
    let turns = by_class.iter().map(Vec::len).max().unwrap_or_default();
    let in_turn = (0..turns).flat_map(|turn| by_class.iter().filter_map(move |of| of.get(turn)));
    let chosen: Vec<usize> = in_turn.copied().take(SAMPLES).collect();
    let image = |&at: &usize| &set.pixels[at * set.size()..][..set.size()];
    ImageSet {
        count: chosen.len(),
        shape: set.shape,
        pixels: chosen.iter().flat_map(image).copied().collect(),
        labels: chosen.iter().map(|&at| set.labels[at]).collect(),
    }
}

impl Page<'_> {
    /// The file.
    ///
    /// # Errors
    ///
    /// As [`Lowered::new`].
    pub fn text(&self) -> Result<String> {
        let network = serde_json::to_string(&self.network()?)
            .map_err(|error| Error::internal("writing a page", error))?;
        // In a script element, `<` could end it.
        let network = network.replace('<', "\\u003c");
        let title = escaped(&self.weights.snapshot().stack().title()?);
        let parts = [
            ("{{title}}", title.as_str()),
            ("{{style}}", include_str!("../../../assets/page/page.css")),
            ("{{picture}}", include_str!("../../../assets/page/picture.js")),
            ("{{compute}}", include_str!("../../../assets/page/compute.js")),
            ("{{page}}", include_str!("../../../assets/page/page.js")),
            // Last: what it holds is the user's, and nothing is put into it.
            ("{{network}}", network.as_str()),
        ];
        let page = include_str!("../../../assets/page/page.html").to_owned();
        Ok(parts
            .into_iter()
            .fold(page, |page, (name, part)| page.replacen(name, part.trim_end(), 1)))
    }

    fn network(&self) -> Result<Network<'_>> {
        let Self { weights, classes, border, samples, logits } = *self;
        let stack = weights.snapshot().stack();
        let lowered = Lowered::new(stack)?;
        let shaders = lowered.shaders();
        let kernels =
            shaders.iter().map(|&shader| KernelText::of(shader)).collect::<Result<_>>()?;
        let bytes = weights.bytes();
        let begins: Vec<usize> = bytes
            .iter()
            .scan(0, |end, weight| Some(std::mem::replace(end, *end + weight.len())))
            .collect();
        let buffers = lowered.buffers.iter().map(|buffer| BufferText {
            numbers: buffer.numbers,
            begin: buffer.weight.map(|weight| begins[weight]),
        });
        let launches = lowered.launches.iter().map(|launch| LaunchText {
            stage: launch.stage.clone(),
            kernel: shaders.iter().position(|shader| *shader == launch.shader).unwrap_or_default(),
            params: values(launch.shader.facts().params, &launch.params),
            buffers: launch.buffers.clone(),
            workgroups: launch.workgroups,
        });
        Ok(Network {
            title: stack.title()?,
            input: stack.input,
            classes: classes.iter().map(|name| visible(name)).collect(),
            border,
            parameters: stack.parameters()?,
            dense_parameters: stack.dense().parameters()?,
            layers: layers(stack)?,
            kernels,
            buffers: buffers.collect(),
            launches: launches.collect(),
            logits: lowered.logits,
            block: weights.block(),
            weights: BASE64_STANDARD.encode(bytes.concat()),
            samples: Samples {
                pixels: BASE64_STANDARD.encode(&samples.pixels),
                labels: &samples.labels,
                logits,
            },
        })
    }
}

/// What the page reads.
#[derive(Serialize)]
struct Network<'a> {
    title: String,
    input: [usize; 3],
    classes: Vec<String>,
    border: Option<u8>,
    parameters: usize,
    dense_parameters: usize,
    layers: Vec<LayerText>,
    kernels: Vec<KernelText>,
    buffers: Vec<BufferText>,
    launches: Vec<LaunchText>,
    /// Which of the buffers has them in the end.
    logits: usize,
    /// Of how many weights side by side the integers, of 16 bits, count in one step, f32, which stands before them; where weights
    /// are no such blocks, they are f32.
    #[serde(skip_serializing_if = "Option::is_none")]
    block: Option<usize>,
    /// Base64 of all weights side by side, little endian.
    weights: String,
    samples: Samples<'a>,
}

#[derive(Serialize)]
struct LayerText {
    name: String,
    summary: String,
    parameters: String,
    dense: String,
}

#[derive(Serialize)]
struct KernelText {
    file: &'static str,
    /// Of its bindings, the one that it writes to.
    written: usize,
    /// The members of its parameters in their order, each with its type or its own members.
    members: Value,
    text: String,
}

#[derive(Serialize)]
struct BufferText {
    numbers: usize,
    /// The byte at which it begins among the weights, if it holds one.
    #[serde(skip_serializing_if = "Option::is_none")]
    begin: Option<usize>,
}

#[derive(Serialize)]
struct LaunchText {
    stage: String,
    kernel: usize,
    params: Value,
    buffers: Vec<usize>,
    workgroups: [u32; 2],
}

#[derive(Serialize)]
struct Samples<'a> {
    /// Base64 of the images side by side.
    pixels: String,
    labels: &'a [u8],
    logits: &'a [Vec<f32>],
}

/// The layers that have weights.
fn layers(stack: &Stack) -> Result<Vec<LayerText>> {
    let placed = stack.placed()?;
    let weighted = placed.iter().filter(|placed| placed.parameters() > 0);
    let layers = weighted.map(|placed| LayerText {
        name: placed.name.clone(),
        summary: placed.layer.kind().summary(placed.input),
        parameters: thousands(placed.parameters()),
        dense: thousands(placed.dense_parameters()),
    });
    Ok(layers.collect())
}

impl KernelText {
    /// A kernel as browsers take it. In the program every binding is read_write; here only the one that is written to, since
    /// WebGPU allows one buffer for several bindings only where all of them are read.
    fn of(shader: Shader) -> Result<Self> {
        let facts = shader.facts();
        let lost = || {
            Error::internal("writing a page", format!("{}: its bindings are not known", facts.file))
        };
        let name = written(shader).ok_or_else(lost)?;
        let mut text = Kernel::plain(shader).text();
        for binding in facts.bindings.iter().filter(|binding| **binding != name) {
            let [as_it_is, as_read] =
                ["read_write", "read"].map(|access| format!("var<storage, {access}> {binding}:"));
            if !text.contains(&as_it_is) {
                return Err(lost());
            }
            text = text.replacen(&as_it_is, &as_read, 1);
        }
        let written =
            facts.bindings.iter().position(|binding| *binding == name).ok_or_else(lost)?;
        Ok(Self { file: facts.file, written, members: members(facts.params), text })
    }
}

/// `[name, type]` of each member, or `[name, members]` of one that is a struct.
fn members(of: &[Member]) -> Value {
    let member = |member: &Member| {
        let kind = member.members().map_or_else(|| member.kind.into(), members);
        Value::Array(vec![member.name.into(), kind])
    };
    of.iter().map(member).collect()
}

/// The values of these members by name, from a struct's bytes.
fn values(of: &[Member], bytes: &[u8]) -> Value {
    let mut values = Map::new();
    for member in of {
        let own = &bytes[member.offset..];
        let word = [own[0], own[1], own[2], own[3]];
        let value = match (member.members(), member.kind) {
            (Some(members), _) => self::values(members, own),
            (None, "f32") => f32::from_le_bytes(word).into(),
            (None, _) => u32::from_le_bytes(word).into(),
        };
        values.insert(member.name.into(), value);
    }
    Value::Object(values)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
