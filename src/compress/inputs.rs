//! What inputs a layer of a network gets.

use burn::tensor::{Device, Tensor};

use super::Moments;
use crate::data::{Resident, resident};
use crate::net::{Network, Snapshot, features};
use crate::{Error, Result};

/// Images whose inputs are read from the device together.
const TOGETHER: usize = 1000;

/// The moments of the inputs that a layer of a network, counted from 0, gets from `images` on a device, where nothing is
/// dropped. Asks `go_on` once in a while.
///
/// # Errors
///
/// [`Error::Shape`] when the images are not of the network's size, [`Error::Compute`] when the device fails,
/// [`Error::Argument`] naming `inputs` when a number is not finite, or `layer` when there is none, and that of `go_on`.
pub fn inputs(
    snapshot: &Snapshot,
    layer: usize,
    images: &Resident,
    device: &Device,
    go_on: &dyn Fn() -> Result<()>,
) -> Result<Moments> {
    let before = snapshot.before(layer)?;
    let before: Option<Network> = before.map(|before| before.on(device)).transpose()?;
    let placed = snapshot.stack().placed()?;
    let Some(placed) = placed.get(layer) else {
        let problem = format!("{layer}: expected less than {}, the layers", placed.len());
        return Err(Error::argument("layer", problem));
    };
    let mut moments = Moments::new(features(placed.input));
    let indices: Vec<u32> = (0..images.count as u32).collect();
    for indices in indices.chunks(TOGETHER) {
        go_on()?;
        let some: Tensor<2> = images.gather(resident::order(indices, device))?;
        let inputs = match &before {
            Some(before) => before.logits(some)?,
            None => some,
        };
        let inputs = inputs.try_to_vec_as::<f32>();
        let inputs = inputs.map_err(|error| Error::compute("reading a layer's inputs", error))?;
        moments.add(&inputs)?;
    }
    Ok(moments)
}
