//! Where the parameters lie on the device.
//!
//! Channels there come in fours: every pixel, and every row of a weight, is a whole number of
//! `vec4<f32>`, padded with zeros. A layer is its weight as a matrix for each tap, inputs down and
//! outputs across, then its bias. A transposed 2×2 convolution is one tap with four times the outputs,
//! for the four pixels it makes of one. Padding has no gradient, so it stays zero.

use n2n::unet::{Kind, Layer, UNet};

/// Fours of channels that hold `channels`.
pub fn fours(channels: usize) -> usize {
    channels.div_ceil(4)
}

/// The parameters of one layer. Offsets and widths are in fours of values.
#[derive(Debug, Clone)]
pub struct Place {
    /// Fours of channels of the row above's output, and of the skip, which may be none.
    pub inputs: [usize; 2],
    /// Fours of channels of the output.
    pub outputs: usize,
    /// Fours in a row of the weight: the outputs, of a transposed convolution four times.
    pub columns: usize,
    /// Offset of the weight.
    pub weight: usize,
    /// Offset of the bias.
    pub bias: usize,
    /// Fours of the layer, weight and bias.
    pub len: usize,
}

impl Place {
    /// Rows of the weight for each tap.
    pub fn rows(&self) -> usize {
        4 * (self.inputs[0] + self.inputs[1])
    }
}

/// The places of all layers, end to end, and where each parameter lies.
#[derive(Debug)]
pub struct Layout {
    pub places: Vec<Place>,
    /// For each parameter, as [`UNet::tensors`] lays them out, its index on the device.
    indices: Vec<usize>,
    /// Values on the device, padding included.
    pub len: usize,
}

impl Layout {
    pub fn new(unet: &UNet) -> Self {
        let mut offset = 0;
        let mut indices = Vec::with_capacity(unet.parameters());
        let mut places = vec![];
        for layer in unet.layers() {
            let skip = layer.skip.map_or(0, |skip| unet.skip_channels(skip));
            let place = place(&layer, skip, offset);
            let main = layer.inputs - skip;
            let [first, second, height, width] = layer.weight_shape();
            for a in 0..first {
                for b in 0..second {
                    for tap in 0..height * width {
                        let up = layer.kind == Kind::Up2x2;
                        let (output, input) = if up { (b, a) } else { (a, b) };
                        // The skip's channels begin a new four.
                        let row = if input < main {
                            input
                        } else {
                            4 * place.inputs[0] + input - main
                        };
                        let (tap, column) = if up {
                            (0, 4 * place.outputs * tap + output)
                        } else {
                            (tap, output)
                        };
                        let at = (tap * place.rows() + row) * place.columns;
                        indices.push(4 * (place.weight + at) + column);
                    }
                }
            }
            indices.extend((0..layer.outputs).map(|output| 4 * place.bias + output));
            offset += place.len;
            places.push(place);
        }
        Self {
            places,
            indices,
            len: 4 * offset,
        }
    }

    /// Parameters as they lie on the device.
    pub fn to_device(&self, parameters: &[f32]) -> Vec<f32> {
        let mut values = vec![0.0; self.len];
        for (&parameter, &index) in parameters.iter().zip(&self.indices) {
            values[index] = parameter;
        }
        values
    }

    /// Parameters as [`UNet::tensors`] lays them out.
    pub fn to_host(&self, values: &[f32]) -> Vec<f32> {
        self.indices.iter().map(|&index| values[index]).collect()
    }
}

fn place(layer: &Layer, skip: usize, weight: usize) -> Place {
    let inputs = [fours(layer.inputs - skip), fours(skip)];
    let outputs = fours(layer.outputs);
    let (columns, taps) = match layer.kind {
        Kind::Conv3x3 => (outputs, 9),
        Kind::Conv1x1 => (outputs, 1),
        Kind::Up2x2 => (4 * outputs, 1),
    };
    let bias = weight + 4 * (inputs[0] + inputs[1]) * taps * columns;
    Place {
        inputs,
        outputs,
        columns,
        weight,
        bias,
        len: bias + outputs - weight,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_come_back_and_the_rest_is_zero() {
        for (f, c) in [(48, 3), (1, 1), (5, 4)] {
            let unet = UNet::new(f, c).unwrap();
            let layout = Layout::new(&unet);
            let parameters: Vec<f32> = (1..=unet.parameters()).map(|i| i as f32).collect();
            let values = layout.to_device(&parameters);
            assert_eq!(layout.to_host(&values), parameters);
            let nonzero = values.iter().filter(|&&value| value != 0.0).count();
            assert_eq!(nonzero, parameters.len(), "F = {f}, C = {c}");
        }
    }
}
