//! The architecture as data, one row per layer. Names, shapes and parameter counts follow from these rows, and the
//! devices walk them; nothing else in the project describes the network.
//!
//! It is a small family of U-Nets. Its default is the network of the authors' code: 25 layers, each with weight and
//! bias; `LeakyReLU` 0.2 after every convolution but the last, none after the transposed ones; max-pooling on the way
//! down; on the way up the upsampled channels come first, then those of the skip connection.

use std::fmt;
use std::ops::Range;

use crate::error::{Error, Result};

/// Slope of the `LeakyReLU` for negative values.
pub const LEAKY_SLOPE: f32 = 0.2;

/// The reference's factor on Kaiming's initial weights. Through 25 layers, it gives outputs of about 1e-6, and even
/// smaller gradients in the deepest layers.
pub const INIT_SCALE: f64 = 0.1;

/// The sizes that define a network of the family; the defaults are the paper's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UNet {
    /// F, the channels of the first layer (48 in the paper).
    pub n_feature: usize,
    /// C, the channels of the image: 3 for RGB, 1 for gray.
    pub n_channel: usize,
    /// Number of 2×2 poolings (5 in the paper).
    pub n_depth: usize,
    /// Channels of the last layers, at full resolution (96 in the paper, regardless of F).
    pub head_width: usize,
    /// Factor r of a space-to-depth (pixel unshuffle) before the first layer, undone by a depth-to-space (pixel
    /// shuffle) after the last one; 1 for neither, as in the paper. The layers in between see each block of r × r pixels
    /// as one pixel with r²·C channels.
    pub pixel_shuffle: usize,
}

impl Default for UNet {
    fn default() -> Self {
        PAPER
    }
}

/// Named architectures: the paper's, and others that trade some of its quality for speed.
pub const ARCHITECTURES: [(&str, UNet); 4] = [
    ("paper", PAPER),
    ("fast", shuffled(48, 48)),
    ("faster", shuffled(32, 48)),
    ("fastest", shuffled(16, 32)),
];

const PAPER: UNet = UNet {
    n_feature: 48,
    n_channel: 3,
    n_depth: 5,
    head_width: 96,
    pixel_shuffle: 1,
};

/// A network at half the image's resolution. With one pooling fewer it has the same grid as the paper's.
const fn shuffled(n_feature: usize, head_width: usize) -> UNet {
    UNet {
        n_feature,
        n_depth: 4,
        head_width,
        pixel_shuffle: 2,
        ..PAPER
    }
}

/// The architecture with this name, for RGB images.
pub fn named(name: &str) -> Result<UNet> {
    let found = ARCHITECTURES.iter().find(|(known, _)| *known == name);
    found.map(|(_, unet)| *unet).ok_or_else(|| {
        let names = ARCHITECTURES.map(|(name, _)| name).join(", ");
        Error::value("architecture", format!("one of {names}"), name)
    })
}

impl fmt::Display for UNet {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let [n_feature, n_channel, ..] = self.sizes();
        let sizes = [n_feature, n_channel]
            .into_iter()
            .chain(self.non_default_sizes());
        let named: Vec<_> = sizes.map(|(name, size)| format!("{name} {size}")).collect();
        f.write_str(&named.join(", "))
    }
}

/// Where an image can be split into tiles that are denoised separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Side of the grid's cells in pixels. The height and width of a network's input must be multiples of it, and tiles
    /// must begin and end at multiples of it.
    pub multiple: usize,
    /// Pixels beyond each edge of a tile that its result depends on; a multiple of the cells' side.
    pub halo: usize,
}

impl Grid {
    /// The smallest grid whose cells and halo hold those of both.
    pub(crate) fn join(self, other: Self) -> Self {
        let (mut divisor, mut rest) = (self.multiple, other.multiple);
        while rest > 0 {
            (divisor, rest) = (rest, divisor % rest);
        }
        // Their least common multiple.
        let multiple = self.multiple / divisor * other.multiple;
        Self {
            multiple,
            halo: self.halo.max(other.halo).next_multiple_of(multiple),
        }
    }

    /// Rounds a side up to whole cells.
    pub fn up(&self, side: usize) -> usize {
        side.next_multiple_of(self.multiple)
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

/// What is appended to the channels of the previous layer's output to form a layer's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// The output of the `k`-th max-pooling, counted from 1.
    Pool(usize),
    /// The first layer's input.
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

    /// Whether it holds no value; a tensor of the network always holds at least one.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Names of the encoder's layers, from full resolution down.
const ENCODER: [&str; UNet::MAX_DEPTH + 2] = [
    "enc_conv0",
    "enc_conv1",
    "enc_conv2",
    "enc_conv3",
    "enc_conv4",
    "enc_conv5",
    "enc_conv6",
];

/// Names of the decoder's layers for each resolution, from full resolution down: upsampling and two convolutions.
const DECODER: [[&str; 3]; UNet::MAX_DEPTH] = [
    ["up1.deconv", "dec_conv1a", "dec_conv1b"],
    ["up2.deconv", "dec_conv2a", "dec_conv2b"],
    ["up3.deconv", "dec_conv3a", "dec_conv3b"],
    ["up4.deconv", "dec_conv4a", "dec_conv4b"],
    ["up5.deconv", "dec_conv5a", "dec_conv5b"],
];

impl UNet {
    /// Maximum F: keeps a hostile weight file from requesting more memory than there is.
    pub const MAX_FEATURE: usize = 1024;
    /// Maximum C.
    pub const MAX_CHANNEL: usize = 64;
    /// Maximum number of poolings.
    pub const MAX_DEPTH: usize = 5;
    /// Maximum number of channels of the last layers.
    pub const MAX_HEAD: usize = 1024;
    /// Maximum factor of space-to-depth.
    pub const MAX_PIXEL_SHUFFLE: usize = 4;

    /// The paper's network for `n_feature` and `n_channel`, both at least 1.
    pub fn new(n_feature: usize, n_channel: usize) -> Result<Self> {
        let unet = Self {
            n_feature,
            n_channel,
            ..Self::default()
        };
        unet.check()?;
        Ok(unet)
    }

    /// Rejects sizes that are out of range.
    pub fn check(&self) -> Result<()> {
        let most = [
            Self::MAX_FEATURE,
            Self::MAX_CHANNEL,
            Self::MAX_DEPTH,
            Self::MAX_HEAD,
            Self::MAX_PIXEL_SHUFFLE,
        ];
        for ((what, got), max) in self.sizes().into_iter().zip(most) {
            if !(1..=max).contains(&got) {
                return Err(Error::value(what, format!("1 to {max}"), got));
            }
        }
        Ok(())
    }

    /// The sizes by their names in settings and files.
    pub fn sizes(&self) -> [(&'static str, usize); 5] {
        [
            ("n_feature", self.n_feature),
            ("n_channel", self.n_channel),
            ("n_depth", self.n_depth),
            ("head_width", self.head_width),
            ("pixel_shuffle", self.pixel_shuffle),
        ]
    }

    /// The sizes other than F and C that differ from the paper's. Weight files record them, because the shapes of the
    /// tensors do not determine all of them.
    pub fn non_default_sizes(&self) -> impl Iterator<Item = (&'static str, usize)> + use<> {
        let sizes = self.sizes().into_iter().zip(Self::default().sizes());
        sizes
            .skip(2)
            .filter(|(own, papers)| own != papers)
            .map(|(own, _)| own)
    }

    /// The grid on which images can be split for this network.
    pub fn grid(&self) -> Grid {
        let multiple = self.pixel_shuffle << self.n_depth;
        Grid {
            multiple,
            // What the convolutions at all resolutions add up to, from the edge of a cell; exact for two poolings or
            // more.
            halo: 4 * multiple,
        }
    }

    /// Channels of the first layer's input, r²·C.
    pub fn block_channels(&self) -> usize {
        self.n_channel * self.pixel_shuffle * self.pixel_shuffle
    }

    /// The rows of the table, in the order of computation.
    pub fn layers(&self) -> Vec<Layer> {
        use Kind::{Conv1x1, Conv3x3, Up2x2};
        let (f, c, head) = (self.n_feature, self.block_channels(), self.head_width);
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
        let scale = |pools: usize| self.pixel_shuffle << pools;

        let mut layers = vec![row(ENCODER[0], Conv3x3, c, f, scale(0))];
        for (k, name) in ENCODER.iter().enumerate().skip(1).take(self.n_depth) {
            layers.push(pooled(row(name, Conv3x3, f, f, scale(k - 1))));
        }
        let bottom = self.n_depth + 1;
        layers.push(row(ENCODER[bottom], Conv3x3, f, f, scale(self.n_depth)));
        let mut below = f;
        for k in (1..=self.n_depth).rev() {
            let [up, first, second] = DECODER[k - 1];
            let (skip, width) = match k {
                1 => (Skip::Image, head),
                _ => (Skip::Pool(k - 1), 2 * f),
            };
            let inputs = below + self.skip_channels(skip);
            let at = scale(k - 1);
            layers.extend([
                row(up, Up2x2, below, below, at),
                joined(row(first, Conv3x3, inputs, width, at), skip),
                row(second, Conv3x3, width, width, at),
            ]);
            below = width;
        }
        layers.extend([
            row("nin_a", Conv1x1, head, head, scale(0)),
            row("nin_b", Conv1x1, head, head, scale(0)),
            Layer {
                activation: false,
                ..row("nin_c", Conv1x1, head, c, scale(0))
            },
        ]);
        layers
    }

    /// Channels of the widest layer at full resolution, which determines how much memory is needed.
    pub fn widest(&self) -> usize {
        self.n_feature.max(self.head_width)
    }

    /// Channels a skip adds to a layer's input.
    pub fn skip_channels(&self, skip: Skip) -> usize {
        match skip {
            Skip::Pool(_) => self.n_feature,
            Skip::Image => self.block_channels(),
        }
    }

    /// Every tensor of the network: weight, then bias, layer by layer, laid end to end.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let mut offset = 0;
        let mut tensors = vec![];
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

    /// Multiply-adds per pixel of the image if every layer is computed directly.
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

/// Weight and bias of the layer at `i` in the flat vector of all parameters.
pub(crate) fn layer_range(layers: &[Layer], i: usize) -> (Range<usize>, Range<usize>) {
    let weights = |layer: &Layer| layer.weight_shape().iter().product::<usize>();
    let before = layers[..i].iter();
    let begin: usize = before.map(|layer| weights(layer) + layer.outputs).sum();
    let bias = begin + weights(&layers[i]);
    (begin..bias, bias..bias + layers[i].outputs)
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
        let small = |n_depth, head_width, pixel_shuffle| UNet {
            n_depth,
            head_width,
            pixel_shuffle,
            ..UNet::new(7, 4).unwrap()
        };
        for unet in [
            UNet::default(),
            UNet::new(1, 1).unwrap(),
            small(5, 96, 1),
            small(4, 10, 2),
            small(1, 3, 3),
        ] {
            let (c, r) = (
                unet.n_channel * unet.pixel_shuffle.pow(2),
                unet.pixel_shuffle,
            );
            let mut channels = c;
            let mut scale = r;
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
            assert_eq!((channels, scale), (c, r));
            assert_eq!(r << pools.len(), unet.grid().multiple);
        }
    }

    #[test]
    fn sizes_out_of_range_are_refused() {
        assert!(UNet::new(0, 3).is_err());
        assert!(UNet::new(48, 0).is_err());
        assert!(UNet::new(usize::MAX, 3).is_err());
        for (n_depth, head_width, pixel_shuffle) in [(6, 96, 1), (5, 0, 1), (5, 96, usize::MAX)] {
            let unet = UNet {
                n_depth,
                head_width,
                pixel_shuffle,
                ..UNet::default()
            };
            assert!(unet.check().is_err());
        }
    }

    #[test]
    fn besides_features_and_channels_only_what_is_not_the_papers_is_said() {
        assert_eq!(
            UNet::new(7, 1).unwrap().to_string(),
            "n_feature 7, n_channel 1"
        );
        let fast = UNet {
            n_depth: 4,
            pixel_shuffle: 2,
            ..UNet::default()
        };
        let said = "n_feature 48, n_channel 3, n_depth 4, pixel_shuffle 2";
        assert_eq!(fast.to_string(), said);
    }
}
