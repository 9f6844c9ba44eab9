//! Inference in half precision: the rows of `unet` on the matrix units of `n2n_kernels::half`, layer by layer, from the
//! first convolution, whose neighborhoods of the image serve the last skip too, to the chain of the last layers.

use n2n_kernels::half::{Conv, Source, Tensor, Units, UpConv, run_chain};
use n2n_kernels::pool;
use n2n_kernels::tensor::Shape;

use super::packed::layer_range;
use super::shape;
use crate::batch::Batch;
use crate::unet::{Kind, LEAKY_SLOPE, Layer, Skip, UNet};

/// The network, packed for matrix units.
pub(super) struct HalfNetwork {
    unet: UNet,
    rows: Vec<(Layer, Packed)>,
    /// The 1×1 convolutions at the end.
    tail: Vec<Conv>,
}

enum Packed {
    Conv(Conv),
    Up(Box<UpConv>),
}

/// Tensors that are not in use.
#[derive(Default)]
pub(super) struct Spare(Vec<Tensor>);

impl Spare {
    /// A tensor whose border is zero.
    fn take(&mut self, shape: Shape) -> Tensor {
        let len = Tensor::len_of(shape);
        let smallest_of = |spare: &[Tensor], sizes: std::ops::Range<usize>| {
            let fitting = spare.iter().enumerate();
            let fitting = fitting.filter(|(_, tensor)| sizes.contains(&tensor.capacity()));
            let smallest = fitting.min_by_key(|(_, tensor)| tensor.capacity());
            smallest.map(|(at, _)| at)
        };
        if let Some(at) = smallest_of(&self.0, len..2 * len + 1) {
            let tensor = self.0.swap_remove(at);
            return if tensor.shape() == shape {
                tensor
            } else {
                tensor.reshaped(shape)
            };
        }
        // The new one replaces one that is too small, so that memory does not hold both.
        if let Some(at) = smallest_of(&self.0, len / 2..len) {
            self.0.swap_remove(at);
        }
        Tensor::zeros(shape)
    }

    fn give(&mut self, tensor: Tensor) {
        self.0.push(tensor);
    }

    /// Frees them.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

impl HalfNetwork {
    /// Packs the parameters, laid out as [`UNet::tensors`] says.
    pub fn new(unet: UNet, parameters: &[f32]) -> Self {
        let layers = unet.layers();
        let tail = layers.iter().rev();
        let tail = layers.len() - tail.take_while(|layer| layer.kind == Kind::Conv1x1).count();
        let of = |i: usize| {
            let (weight, bias) = layer_range(&layers, i);
            (&parameters[weight], &parameters[bias])
        };
        let rows = (0..tail).map(|i| {
            let (weight, bias) = of(i);
            let packed = match layers[i].kind {
                Kind::Up2x2 => Packed::Up(Box::new(up(&layers[i], weight, bias))),
                _ => Packed::Conv(conv(&unet, &layers, i, weight, bias)),
            };
            (layers[i], packed)
        });
        let tail = (tail..layers.len()).map(|i| {
            let (weight, bias) = of(i);
            conv(&unet, &layers, i, weight, bias)
        });
        Self {
            unet,
            rows: rows.collect(),
            tail: tail.collect(),
        }
    }

    /// Denoises a batch whose size the caller has checked.
    pub fn infer(&self, units: Units, spare: &mut Spare, noisy: &Batch) -> Batch {
        let block = self.unet.pixel_shuffle;
        let blocks;
        let images = if block == 1 {
            noisy
        } else {
            blocks = noisy.space_to_depth(block);
            &blocks
        };
        let mut image = spare.take(Tensor::of_neighborhoods(shape(images)));
        image.fill_from_neighborhoods(&images.data, shape(images));
        let mut output = Batch::zeros(noisy.n, noisy.h, noisy.w, noisy.c);
        let mut pools: Vec<Tensor> = vec![];
        let mut current = None;
        for (i, (layer, packed)) in self.rows.iter().enumerate() {
            let main = current.as_ref().unwrap_or(&image);
            let skip = match layer.skip {
                Some(Skip::Pool(_)) => pools.pop(),
                _ => None,
            };
            let mut inputs = vec![main];
            inputs.extend(skip.as_ref());
            if layer.skip == Some(Skip::Image) {
                inputs.push(&image);
            }
            let is_last = i + 1 == self.rows.len();
            let next = match packed {
                Packed::Conv(conv) if is_last => {
                    run_chain(units, conv, &inputs, &self.tail, &mut output.data, block);
                    None
                }
                Packed::Conv(conv) => {
                    let c = layer.outputs;
                    let mut full = spare.take(Shape { c, ..main.shape() });
                    conv.run(units, &inputs, &mut full);
                    Some(if layer.pool {
                        let mut pooled = spare.take(pool::pooled(full.shape()));
                        pooled.fill_from_max_pool(&full);
                        spare.give(full);
                        pooled
                    } else {
                        full
                    })
                }
                Packed::Up(up) => {
                    let mut doubled = spare.take(super::infer::doubled(main.shape()));
                    up.run(units, main, &mut doubled);
                    Some(doubled)
                }
            };
            if let Some(skip) = skip {
                spare.give(skip);
            }
            let used = std::mem::replace(&mut current, next);
            let pool = i.checked_sub(1).map(|above| self.rows[above].0.pool);
            match used {
                // A pooling's output is kept for the decoder, unless it is the deepest.
                Some(used) if pool == Some(true) && layer.pool => pools.push(used),
                Some(used) => spare.give(used),
                None => {}
            }
        }
        spare.give(image);
        output
    }
}

/// Bytes that [`HalfNetwork::infer`] needs for an image of `h` × `w` pixels, the packed weights included.
pub(super) fn working_bytes(unet: &UNet, h: usize, w: usize) -> u64 {
    let block = unet.pixel_shuffle;
    let padded = |channels: usize| channels.next_multiple_of(32);
    let image = unet.block_channels();
    // At the resolution of the first layer: image and result in `f32`, the image once more in blocks; the neighborhoods;
    // what is upsampled, and the layer after it. At half of it: the layers before, and a kept pooling.
    let widest = padded(2 * unet.n_feature).max(padded(unet.head_width));
    let floats = 4 * 3 * image;
    let halves = 2 * (padded(9 * image) + 2 * widest + (2 * widest + padded(unet.n_feature)) / 4);
    let pixels = (h / block + 2) * (w / block + 2);
    (pixels * (floats + halves) + 4 * 2 * unet.parameters() + (16 << 20)) as u64
}

/// Row `i`, a convolution.
fn conv(unet: &UNet, layers: &[Layer], i: usize, weight: &[f32], bias: &[f32]) -> Conv {
    let layer = &layers[i];
    let slope = if layer.activation { LEAKY_SLOPE } else { 1.0 };
    let inputs = layer.inputs;
    if layer.kind == Kind::Conv1x1 {
        return Conv::new(&[Source::Pixel(inputs)], bias, slope, |_, _, c, o| {
            weight[o * inputs + c]
        });
    }
    let at = |c: usize, tap: usize, o: usize| weight[(o * inputs + c) * 9 + tap];
    // In the tensor of the image's neighborhoods, all nine taps are channels of one pixel.
    let image = unet.block_channels();
    let of_image = move |first: usize, k: usize, o: usize| at(first + k % image, k / image, o);
    let neighborhoods = Source::Pixel(9 * image);
    if i == 0 {
        return Conv::new(&[neighborhoods], bias, slope, |_, _, k, o| {
            of_image(0, k, o)
        });
    }
    let skip = layer.skip.map_or(0, |skip| unet.skip_channels(skip));
    let main = inputs - skip;
    let mut sources = vec![Source::Neighborhood(main)];
    sources.extend(layer.skip.map(|skip| match skip {
        Skip::Image => neighborhoods,
        Skip::Pool(_) => Source::Neighborhood(unet.skip_channels(skip)),
    }));
    let is_image = layer.skip == Some(Skip::Image);
    Conv::new(&sources, bias, slope, |s, tap, c, o| match s {
        0 => at(c, tap, o),
        _ if is_image => of_image(main, c, o),
        _ => at(main + c, tap, o),
    })
}

fn up(layer: &Layer, weight: &[f32], bias: &[f32]) -> UpConv {
    UpConv::new(layer.inputs, bias, |i, j, c, o| {
        weight[((c * layer.outputs + o) * 2 + i) * 2 + j]
    })
}
