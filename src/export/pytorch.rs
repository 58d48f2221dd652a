//! A network's matrices under the names and in the layout that PyTorch gives them in an `nn.Sequential` of the same layers:
//! the first layer's are `0.weight` of shape `[out, in]` and `0.bias`, of a convolution `[out, in, height, width]`. A tensor
//! layer's cores are merged into its matrix. Where images become features, before the first matrix after a convolution or
//! pooling, there is an `nn.Flatten`, which counts.
//!
//! `load_state_dict(safetensors.torch.load_file(FILE), strict=True)` reads it into such a model, in which every layer here
//! is one module: `nn.Linear` for `dense` and `mps`, `nn.Conv2d`, `nn.MaxPool2d`, `nn.AvgPool2d`, `nn.ReLU`, `nn.GELU`, `nn.Dropout`.

use std::collections::HashMap;

use crate::Result;
use crate::compress::Matrix;
use crate::net::{Layer, Snapshot};
use crate::tensor_file;

/// The bytes of the file.
///
/// # Errors
///
/// [`crate::Error::Argument`] when a core has a number that is not finite, which no file that was read has.
pub fn to_bytes(snapshot: &Snapshot) -> Result<Vec<u8>> {
    let mut tensors: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
    let (mut on_images, mut flattened) = (false, 0);
    for (at, placed) in snapshot.stack().placed()?.iter().enumerate() {
        let weights = snapshot.of_layer(at)?;
        on_images |=
            matches!(placed.layer, Layer::Conv2d(_) | Layer::MaxPool(_) | Layer::AvgPool(_));
        if let Layer::Conv2d(layer) = placed.layer {
            let (window, matrix) = layer.merged(placed.input, weights)?;
            let ([rows, columns], [outputs, ..]) = (window.kernel, placed.output);
            let inputs = matrix.len() / outputs;
            let number = |at: usize| matrix[at % inputs * outputs + at / inputs];
            let turned = (0..matrix.len()).map(number).collect();
            let (at, shape) = (at + flattened, vec![outputs, placed.input[0], rows, columns]);
            tensors.push((format!("{at}.weight"), shape, turned));
            let bias = layer.bias.then(|| weights[weights.len() - 1].clone());
            tensors.extend(bias.map(|bias| (format!("{at}.bias"), vec![outputs], bias)));
            continue;
        }
        let Some(Matrix { weight, bias, inputs, outputs }) = Matrix::of(placed.layer, weights)?
        else {
            continue;
        };
        flattened += usize::from(std::mem::take(&mut on_images));
        let at = at + flattened;
        let number = |at: usize| weight[at % inputs * outputs + at / inputs];
        let turned = (0..weight.len()).map(number).collect();
        tensors.push((format!("{at}.weight"), vec![outputs, inputs], turned));
        tensors.extend(bias.map(|bias| (format!("{at}.bias"), vec![outputs], bias)));
    }
    // What tells other programs that the layout is PyTorch's.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let tensors = tensors.iter();
    let tensors = tensors.map(|(name, shape, numbers)| (name.clone(), shape.clone(), &numbers[..]));
    tensor_file::to_bytes(tensors, metadata)
}
