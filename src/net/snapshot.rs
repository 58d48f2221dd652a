//! A network and its weights, on the host.

use std::ops::Range;

use burn::tensor::Device;

use super::{Layer, Network, Stack};
use crate::{Error, Result};

/// A network and its weights, each flat, in the order of [`Stack::weights`].
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    stack: Stack,
    weights: Vec<Vec<f32>>,
}

impl Snapshot {
    /// A network with these weights.
    ///
    /// # Errors
    ///
    /// As [`Stack::placed`]; [`Error::Argument`] naming `weights` when they are not as many, or of other sizes, than the
    /// network has.
    pub fn new(stack: Stack, weights: Vec<Vec<f32>>) -> Result<Self> {
        stack.check_weights(&weights)?;
        Ok(Self { stack, weights })
    }

    /// The network.
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// Its weights.
    pub fn weights(&self) -> &[Vec<f32>] {
        &self.weights
    }

    /// The weights of a layer, which is counted from 0.
    ///
    /// # Errors
    ///
    /// As [`Stack::placed`].
    pub fn of_layer(&self, layer: usize) -> Result<&[Vec<f32>]> {
        Ok(&self.weights[self.range(layer)?])
    }

    /// Which of the weights are those of a layer; none of one that is not there.
    fn range(&self, layer: usize) -> Result<Range<usize>> {
        let placed = self.stack.placed()?;
        let begin = placed.iter().take(layer).map(|placed| placed.weights().len()).sum();
        Ok(begin..begin + placed.get(layer).map_or(0, |placed| placed.weights().len()))
    }

    /// The same with another layer, and its weights, in place of one.
    ///
    /// # Errors
    ///
    /// As [`Snapshot::new`]; [`Error::Argument`] naming `at` when there is no such layer.
    pub fn with_layer(&self, at: usize, layer: Layer, weights: Vec<Vec<f32>>) -> Result<Self> {
        let mut changed = self.clone();
        changed.weights.splice(self.range(at)?, weights);
        let Some(place) = changed.stack.layers.get_mut(at) else {
            let problem =
                format!("{at}: expected less than {}, the layers", self.stack.layers.len());
            return Err(Error::argument("at", problem));
        };
        *place = layer;
        Self::new(changed.stack, changed.weights)
    }

    /// What comes before a layer: a network whose outputs are that layer's inputs. None before the first one.
    ///
    /// # Errors
    ///
    /// As [`Stack::placed`].
    pub fn before(&self, layer: usize) -> Result<Option<Self>> {
        if layer == 0 {
            return Ok(None);
        }
        let weights = self.weights[..self.range(layer)?.start].to_vec();
        let layers = self.stack.layers.iter().take(layer).cloned().collect();
        Ok(Some(Self { stack: Stack { input: self.stack.input, layers }, weights }))
    }

    /// The network on a device.
    ///
    /// # Errors
    ///
    /// As [`Stack::placed`].
    pub fn on(&self, device: &Device) -> Result<Network> {
        Network::new(&self.stack, &self.weights, device)
    }
}
