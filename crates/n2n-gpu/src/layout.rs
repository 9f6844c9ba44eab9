//! The layout of the parameters on the device.
//!
//! Channels are stored in groups of four: every pixel and every row of a weight is a whole number of `vec4<f32>`,
//! padded with zeros. A layer is its weight as one matrix per tap, with inputs as rows and outputs as columns,
//! followed by its bias. A transposed 2×2 convolution is one tap with four times the outputs, for the four pixels it
//! produces from one. Padding has no gradient, so it stays zero.

use n2n::unet::{Kind, Layer, UNet};

/// Number of groups of four needed for `channels`.
pub fn fours(channels: usize) -> usize {
    channels.div_ceil(4)
}

/// The parameters of one layer. Offsets and widths are in units of four values.
#[derive(Debug, Clone)]
pub struct Place {
    /// Groups of four channels in the output of the row above, and in the skip connection, which may have none.
    pub inputs: [usize; 2],
    /// Groups of four channels in the output.
    pub outputs: usize,
    /// Groups of four in a row of the weight: the outputs; for a transposed convolution, four times as many.
    pub columns: usize,
    /// Offset of the weight.
    pub weight: usize,
    /// Offset of the bias.
    pub bias: usize,
    /// Length of the layer, weight and bias, in units of four.
    pub len: usize,
}

impl Place {
    /// Rows of the weight per tap.
    pub fn rows(&self) -> usize {
        4 * (self.inputs[0] + self.inputs[1])
    }
}

/// The positions of all layers, end to end, and of each parameter.
#[derive(Debug)]
pub struct Layout {
    pub places: Vec<Place>,
    /// The index on the device of each parameter, in the order of [`UNet::tensors`].
    indices: Vec<usize>,
    /// Number of values on the device, padding included.
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
                        // The skip's channels start a new group of four.
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

    /// Parameters in the device's layout.
    pub fn to_device(&self, parameters: &[f32]) -> Vec<f32> {
        let mut values = vec![0.0; self.len];
        for (&parameter, &index) in parameters.iter().zip(&self.indices) {
            values[index] = parameter;
        }
        values
    }

    /// Parameters in the order of [`UNet::tensors`].
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
