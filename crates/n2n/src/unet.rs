//! The architecture as data: one row a layer. Names, shapes and parameter counts follow from here,
//! and the devices walk these rows; nothing else in the project describes the network.
//!
//! It is the U-Net of the authors' code: 25 layers, each with weight and bias; `LeakyReLU` 0.2 after
//! every convolution but the last, none after the transposed ones; max-pooling on the way down; on
//! the way up the upsampled channels first, then those of the skip.

use crate::error::{Error, Result};

/// Slope of the `LeakyReLU` for negative values.
pub const LEAKY_SLOPE: f32 = 0.2;

/// The reference's factor on Kaiming's initial weights. Through 25 layers it makes outputs of about
/// 1e-6, and the gradients of the deepest layers tinier still.
pub const INIT_SCALE: f64 = 0.1;

/// The network's two free sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UNet {
    /// F, the channels of the first layer (48 in the paper).
    pub n_feature: usize,
    /// C, the channels of the image: 3 for RGB, 1 for grey.
    pub n_channel: usize,
}

impl Default for UNet {
    fn default() -> Self {
        Self {
            n_feature: 48,
            n_channel: 3,
        }
    }
}

/// The arithmetic of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 3×3 convolution, zero padding 1. Weight `[out, in, 3, 3]`.
    Conv3x3,
    /// 1×1 convolution. Weight `[out, in, 1, 1]`.
    Conv1x1,
    /// Transposed 2×2 convolution, stride 2: doubles height and width. Weight `[in, out, 2, 2]`.
    Up2x2,
}

/// What is concatenated after the layer before, to make a layer's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// The output of the `k`-th max-pooling, counted from 1.
    Pool(usize),
    /// The image itself.
    Image,
}

/// One layer. Its input is the output of the row above (after pooling, if it pools), followed by
/// the channels of `skip`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// Its name in every weight file.
    pub name: &'static str,
    /// Its arithmetic.
    pub kind: Kind,
    /// Input channels, those of the skip included.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
    /// What is concatenated to its input.
    pub skip: Option<Skip>,
    /// Whether a `LeakyReLU` follows.
    pub activation: bool,
    /// Whether a 2×2 max-pooling follows the activation.
    pub pool: bool,
    /// The output's height and width before pooling are the image's, divided by this.
    pub scale: usize,
}

/// The place of one named tensor in the flat vector of all parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// `<layer>.weight` or `<layer>.bias`.
    pub name: String,
    /// Its shape in PyTorch's order.
    pub shape: Vec<usize>,
    /// Index of its first value.
    pub offset: usize,
}

impl TensorSpec {
    /// The number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it holds no value; a tensor of the network always holds one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl UNet {
    /// Height and width of the network's input must be multiples of this: five poolings by two.
    pub const SIZE_MULTIPLE: usize = 32;
    /// Layers of the network.
    pub const LAYERS: usize = 25;
    /// Largest F accepted: keeps a hostile weight file from asking for more memory than there is.
    pub const MAX_FEATURE: usize = 1024;
    /// Largest C accepted.
    pub const MAX_CHANNEL: usize = 64;

    /// The network for `n_feature` and `n_channel`, both at least 1.
    pub fn new(n_feature: usize, n_channel: usize) -> Result<Self> {
        let check = |what, max, got| {
            if (1..=max).contains(&got) {
                Ok(())
            } else {
                Err(Error::value(what, format!("1 to {max}"), got))
            }
        };
        check("n_feature", Self::MAX_FEATURE, n_feature)?;
        check("n_channel", Self::MAX_CHANNEL, n_channel)?;
        Ok(Self {
            n_feature,
            n_channel,
        })
    }

    /// The rows of the table, in the order of computation.
    pub fn layers(&self) -> [Layer; Self::LAYERS] {
        use Kind::{Conv1x1, Conv3x3, Up2x2};
        let (f, c) = (self.n_feature, self.n_channel);
        let (f2, f3) = (2 * f, 3 * f);
        // The width of the last layers is fixed in the authors' code, whatever F is.
        let head = 96;
        let row = |name, kind, inputs, outputs, scale| Layer {
            name,
            kind,
            inputs,
            outputs,
            skip: None,
            activation: kind != Up2x2,
            pool: false,
            scale,
        };
        let pooled = |layer: Layer| Layer {
            pool: true,
            ..layer
        };
        let joined = |layer: Layer, skip| Layer {
            skip: Some(skip),
            ..layer
        };
        [
            row("enc_conv0", Conv3x3, c, f, 1),
            pooled(row("enc_conv1", Conv3x3, f, f, 1)),
            pooled(row("enc_conv2", Conv3x3, f, f, 2)),
            pooled(row("enc_conv3", Conv3x3, f, f, 4)),
            pooled(row("enc_conv4", Conv3x3, f, f, 8)),
            pooled(row("enc_conv5", Conv3x3, f, f, 16)),
            row("enc_conv6", Conv3x3, f, f, 32),
            row("up5.deconv", Up2x2, f, f, 16),
            joined(row("dec_conv5a", Conv3x3, f2, f2, 16), Skip::Pool(4)),
            row("dec_conv5b", Conv3x3, f2, f2, 16),
            row("up4.deconv", Up2x2, f2, f2, 8),
            joined(row("dec_conv4a", Conv3x3, f3, f2, 8), Skip::Pool(3)),
            row("dec_conv4b", Conv3x3, f2, f2, 8),
            row("up3.deconv", Up2x2, f2, f2, 4),
            joined(row("dec_conv3a", Conv3x3, f3, f2, 4), Skip::Pool(2)),
            row("dec_conv3b", Conv3x3, f2, f2, 4),
            row("up2.deconv", Up2x2, f2, f2, 2),
            joined(row("dec_conv2a", Conv3x3, f3, f2, 2), Skip::Pool(1)),
            row("dec_conv2b", Conv3x3, f2, f2, 2),
            row("up1.deconv", Up2x2, f2, f2, 1),
            joined(row("dec_conv1a", Conv3x3, f2 + c, head, 1), Skip::Image),
            row("dec_conv1b", Conv3x3, head, head, 1),
            row("nin_a", Conv1x1, head, head, 1),
            row("nin_b", Conv1x1, head, head, 1),
            Layer {
                activation: false,
                ..row("nin_c", Conv1x1, head, c, 1)
            },
        ]
    }

    /// Channels of the widest layer at the image's own size, which decide how much memory it takes.
    pub fn widest(&self) -> usize {
        let layers = self.layers();
        let full = layers.iter().filter(|layer| layer.scale == 1);
        full.map(|layer| layer.outputs).max().unwrap_or(1)
    }

    /// Channels a skip adds to a layer's input.
    pub fn skip_channels(&self, skip: Skip) -> usize {
        match skip {
            Skip::Pool(_) => self.n_feature,
            Skip::Image => self.n_channel,
        }
    }

    /// Every tensor of the network: weight, then bias, layer by layer, laid end to end.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let mut offset = 0;
        let mut tensors = Vec::with_capacity(2 * Self::LAYERS);
        for layer in self.layers() {
            for (part, shape) in [
                ("weight", layer.weight_shape().to_vec()),
                ("bias", vec![layer.outputs]),
            ] {
                let tensor = TensorSpec {
                    name: format!("{}.{part}", layer.name),
                    shape,
                    offset,
                };
                offset += tensor.len();
                tensors.push(tensor);
            }
        }
        tensors
    }

    /// The number of parameters; 1,259,475 for the paper's network.
    pub fn parameters(&self) -> usize {
        self.tensors().iter().map(TensorSpec::len).sum()
    }

    /// Multiply-adds a pixel of the image when every layer is computed directly.
    pub fn multiply_adds_per_pixel(&self) -> f64 {
        self.layers()
            .iter()
            .map(|layer| {
                // A transposed convolution gives each output pixel one of its four taps.
                let taps = match layer.kind {
                    Kind::Conv3x3 => 9,
                    Kind::Conv1x1 | Kind::Up2x2 => 1,
                };
                (layer.inputs * layer.outputs * taps) as f64 / (layer.scale * layer.scale) as f64
            })
            .sum()
    }
}

impl Layer {
    /// Shape of the weight in PyTorch's order.
    pub fn weight_shape(&self) -> [usize; 4] {
        match self.kind {
            Kind::Conv3x3 => [self.outputs, self.inputs, 3, 3],
            Kind::Conv1x1 => [self.outputs, self.inputs, 1, 1],
            Kind::Up2x2 => [self.inputs, self.outputs, 2, 2],
        }
    }

    /// Fan-in as PyTorch's `kaiming_normal_` counts it: the second dimension times the taps.
    pub fn fan_in(&self) -> usize {
        let [_, second, kh, kw] = self.weight_shape();
        second * kh * kw
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_papers_network_has_its_published_size() {
        let unet = UNet::default();
        assert_eq!(unet.parameters(), 1_259_475);
        assert_eq!(unet.tensors().len(), 50);
        assert_eq!(unet.multiply_adds_per_pixel().round(), 297_074.0);
    }

    #[test]
    fn every_layer_takes_what_the_rows_above_give() {
        for (f, c) in [(48, 3), (1, 1), (7, 4)] {
            let unet = UNet::new(f, c).unwrap();
            let mut channels = c;
            let mut scale = 1;
            let mut pools = vec![];
            for layer in unet.layers() {
                match layer.skip {
                    Some(Skip::Image) => channels += c,
                    Some(Skip::Pool(k)) => channels += pools[k - 1],
                    None => {}
                }
                if layer.kind == Kind::Up2x2 {
                    scale /= 2;
                }
                assert_eq!(
                    (layer.inputs, layer.scale),
                    (channels, scale),
                    "{}",
                    layer.name
                );
                channels = layer.outputs;
                if layer.pool {
                    scale *= 2;
                    pools.push(channels);
                }
            }
            assert_eq!((channels, scale), (c, 1));
        }
    }

    #[test]
    fn sizes_out_of_range_are_refused() {
        assert!(UNet::new(0, 3).is_err());
        assert!(UNet::new(48, 0).is_err());
        assert!(UNet::new(usize::MAX, 3).is_err());
    }
}
