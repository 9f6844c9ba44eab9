//! The layers in the kernels' layout, each packed from the parameters when it is first needed.

use std::sync::{Arc, OnceLock};

use n2n_kernels::Level;
use n2n_kernels::conv::{Conv, Size};
use n2n_kernels::upconv::{self, UpConv};
use n2n_kernels::upsample::Upsample;

use super::half::HalfNetwork;
use crate::unet::{Kind, Layer, Skip, UNet, layer_range};

/// The packed layers of one set of parameters.
pub(super) struct Packed {
    unet: UNet,
    layers: Arc<[Layer]>,
    level: Level,
    convs: Vec<OnceLock<Conv>>,
    upsamples: Vec<OnceLock<Upsample>>,
    merged: Vec<OnceLock<Merged>>,
    half: OnceLock<HalfNetwork>,
}

/// A transposed convolution and the 3×3 convolution after it, as one.
pub(super) struct Merged {
    /// Both layers, applied to the tensor that is to be upsampled and, if the second reads it, to the image.
    pub upconv: UpConv,
    /// The second layer, applied to the pooling that it reads, if any; without its bias.
    pub skip: Option<Conv>,
}

impl Packed {
    /// Nothing packed yet, for kernels at this level.
    pub fn new(unet: UNet, layers: &Arc<[Layer]>, level: Level) -> Self {
        Self {
            unet,
            level,
            convs: unfilled(layers.len()),
            upsamples: unfilled(layers.len()),
            merged: unfilled(layers.len()),
            half: OnceLock::new(),
            layers: Arc::clone(layers),
        }
    }

    /// Layer `i`, a convolution.
    pub fn conv(&self, parameters: &[f32], i: usize) -> &Conv {
        once(&self.convs[i], || {
            let layer = &self.layers[i];
            let (weight, bias) = self.parameters(parameters, i);
            let channels = input_channels(&self.unet, layer);
            Conv::forward(size(layer.kind), &channels, weight, bias)
        })
    }

    /// Layer `i`, a transposed convolution.
    pub fn upsample(&self, parameters: &[f32], i: usize) -> &Upsample {
        once(&self.upsamples[i], || {
            let (weight, bias) = self.parameters(parameters, i);
            Upsample::forward(self.layers[i].inputs, weight, bias)
        })
    }

    /// Layer `i`, a transposed convolution, and the layer after it.
    pub fn merged(&self, parameters: &[f32], i: usize) -> &Merged {
        once(&self.merged[i], || {
            let layers = self.pair(parameters, i);
            let layer = &self.layers[i + 1];
            let skip = matches!(layer.skip, Some(Skip::Pool(_))).then_some(self.unet.n_feature);
            Merged {
                upconv: UpConv::new(self.level, layers),
                skip: skip.map(|channels| {
                    let filters = layers.weight.chunks_exact(9 * layer.inputs);
                    let part = filters.flat_map(|filter| &filter[9 * (layer.inputs - channels)..]);
                    let part: Vec<f32> = part.copied().collect();
                    let none = vec![0.0; layer.outputs];
                    Conv::forward(Size::Three, &[channels], &part, &none)
                }),
            }
        })
    }

    /// All layers, for matrix units.
    pub fn half(&self, parameters: &[f32]) -> &HalfNetwork {
        once(&self.half, || HalfNetwork::new(self.unet, parameters))
    }

    /// The parameters of layer `i`, a transposed convolution, and of the layer after it.
    pub fn pair<'a>(&self, parameters: &'a [f32], i: usize) -> upconv::Layers<'a> {
        let (up_weight, up_bias) = self.parameters(parameters, i);
        let (weight, bias) = self.parameters(parameters, i + 1);
        let reads_image = self.layers[i + 1].skip == Some(Skip::Image);
        upconv::Layers {
            up_weight,
            up_bias,
            weight,
            bias,
            image: if reads_image {
                self.unet.block_channels()
            } else {
                0
            },
        }
    }

    /// Weight and bias of layer `i`.
    fn parameters<'a>(&self, parameters: &'a [f32], i: usize) -> (&'a [f32], &'a [f32]) {
        let (weight, bias) = layer_range(&self.layers, i);
        (&parameters[weight], &parameters[bias])
    }
}

fn unfilled<T>(count: usize) -> Vec<OnceLock<T>> {
    std::iter::repeat_with(OnceLock::new).take(count).collect()
}

/// The cell's value, computed on first use.
///
/// Unlike `get_or_init`, this holds no lock while the value is computed: packing is parallel work, and a thread that
/// waits for it may start on another image, which needs the same cell.
fn once<T>(cell: &OnceLock<T>, make: impl FnOnce() -> T) -> &T {
    if cell.get().is_none() {
        // Two threads may both compute it, with the same result.
        let _ = cell.set(make());
    }
    cell.get().expect("set above")
}

/// Channels of the layer above, then those of the skip if there is one.
pub(super) fn input_channels(unet: &UNet, layer: &Layer) -> Vec<usize> {
    match layer.skip {
        None => vec![layer.inputs],
        Some(skip) => {
            let second = unet.skip_channels(skip);
            vec![layer.inputs - second, second]
        }
    }
}

/// The side of a convolution's kernel.
pub(super) fn size(kind: Kind) -> Size {
    match kind {
        Kind::Conv3x3 => Size::Three,
        Kind::Conv1x1 => Size::One,
        Kind::Up2x2 => unreachable!("a transposed convolution has kernels of its own"),
    }
}
