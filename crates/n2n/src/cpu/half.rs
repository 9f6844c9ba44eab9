//! Inference in half precision: the layers of `unet` on the matrix units of `n2n_kernels::half`. The first two layers,
//! and the three of each level of the decoder, run in bands of rows through windows that slide down the image, so that
//! no tensor at the full size of the image is ever in memory as a whole. The neighborhoods of the image serve the first
//! convolution and the last skip; the chain of the last layers writes the result.

use n2n_kernels::half::{Conv, Source, Tensor, Units, UpConv, run_chain};
use n2n_kernels::pool;
use n2n_kernels::tensor::Shape;

use super::infer::doubled;
use super::shape;
use crate::batch::Batch;
use crate::unet::{Kind, LEAKY_SLOPE, Layer, Skip, UNet, layer_range};

/// Pixels of a band per thread.
const PIXELS: usize = 1 << 13;
/// Minimum rows of a band.
const MIN_ROWS: usize = 32;

/// The network, packed for matrix units.
pub(super) struct HalfNetwork {
    unet: UNet,
    /// The convolutions before the first upsampling. All but the first and the last are followed by a pooling.
    encoder: Vec<Conv>,
    /// From the lowest level up.
    decoder: Vec<Stage>,
    /// The 1×1 convolutions at the end.
    tail: Vec<Conv>,
}

/// A level of the decoder: an upsampling and two convolutions, the first of which reads a skip connection too.
struct Stage {
    up: UpConv,
    first: Conv,
    second: Conv,
    skip: Skip,
}

/// What a level reads in addition to the output of the one below it.
enum Beside<'a> {
    Pool(&'a Tensor),
    /// Images in the layout of the first layer's input.
    Images(&'a Batch),
}

/// What becomes of a level's output.
enum To<'a> {
    Tensor(&'a mut Tensor),
    /// It goes through the 1×1 convolutions.
    Result(&'a mut Batch),
}

/// Tensors that are not in use.
#[derive(Default)]
pub(super) struct Spare(Vec<Tensor>);

impl Spare {
    /// A tensor whose border is zero.
    fn take(&mut self, shape: Shape) -> Tensor {
        self.window(shape, shape.h)
    }

    /// A window onto the first `rows` rows, with a border of zeros.
    fn window(&mut self, shape: Shape, rows: usize) -> Tensor {
        let len = Tensor::len_of(shape, rows);
        let smallest_of = |spare: &[Tensor], sizes: std::ops::Range<usize>| {
            let fitting = spare.iter().enumerate();
            let fitting = fitting.filter(|(_, tensor)| sizes.contains(&tensor.capacity()));
            let smallest = fitting.min_by_key(|(_, tensor)| tensor.capacity());
            smallest.map(|(at, _)| at)
        };
        if let Some(at) = smallest_of(&self.0, len..2 * len + 1) {
            return self.0.swap_remove(at).reshaped(shape, rows);
        }
        // The new one replaces one that is too small, so that memory does not hold both.
        if let Some(at) = smallest_of(&self.0, len / 2..len) {
            self.0.swap_remove(at);
        }
        Tensor::window(shape, rows)
    }

    fn give(&mut self, tensor: Tensor) {
        self.0.push(tensor);
    }

    /// Frees them.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Bytes of all of them.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(|tensor| 2 * tensor.capacity()).sum()
    }
}

impl HalfNetwork {
    /// Packs the parameters, laid out as [`UNet::tensors`] says.
    pub fn new(unet: UNet, parameters: &[f32]) -> Self {
        let layers = unet.layers();
        let is_up = |layer: &Layer| layer.kind == Kind::Up2x2;
        let is_tail = |layer: &Layer| layer.kind == Kind::Conv1x1;
        let decoder = layers.iter().position(is_up).unwrap_or(layers.len());
        let tail = layers.iter().position(is_tail).unwrap_or(layers.len());
        let of = |i: usize| {
            let (weight, bias) = layer_range(&layers, i);
            (&parameters[weight], &parameters[bias])
        };
        let conv = |i: usize| {
            let (weight, bias) = of(i);
            conv(&unet, &layers, i, weight, bias)
        };
        let stage = |i: usize| {
            let (weight, bias) = of(i);
            Stage {
                up: up(&layers[i], weight, bias),
                first: conv(i + 1),
                second: conv(i + 2),
                skip: layers[i + 1].skip.expect("every level has a skip"),
            }
        };
        Self {
            unet,
            encoder: (0..decoder).map(conv).collect(),
            decoder: (decoder..tail).step_by(3).map(stage).collect(),
            tail: (tail..layers.len()).map(conv).collect(),
        }
    }

    /// Denoises a batch whose size the caller has checked.
    pub fn infer(&self, units: Units, spare: &mut Spare, noisy: &Batch) -> Batch {
        let blocks;
        let images = match self.unet.pixel_shuffle {
            1 => noisy,
            block => {
                blocks = noisy.space_to_depth(block);
                &blocks
            }
        };
        let mut current = self.top(units, spare, images);
        let mut pools: Vec<Tensor> = vec![];
        for (k, conv) in self.encoder.iter().enumerate().skip(2) {
            let of = current.shape();
            let mut output = spare.take(Shape {
                c: conv.outputs(),
                ..of
            });
            conv.run(units, &[&current], &mut output, 0..of.h);
            if k + 1 == self.encoder.len() {
                spare.give(std::mem::replace(&mut current, output));
            } else {
                let mut pooled = spare.take(pool::pooled(output.shape()));
                let rows = 0..pooled.shape().h;
                pooled.fill_from_max_pool(&output, rows);
                spare.give(output);
                pools.push(std::mem::replace(&mut current, pooled));
            }
        }
        let mut result = Batch::zeros(noisy.n, noisy.h, noisy.w, noisy.c);
        for stage in &self.decoder {
            match stage.skip {
                Skip::Pool(_) => {
                    let pool = pools.pop().expect("one for every level but the last");
                    let mut output = spare.take(Shape {
                        c: stage.second.outputs(),
                        ..doubled(current.shape())
                    });
                    let (beside, to) = (Beside::Pool(&pool), To::Tensor(&mut output));
                    self.climb(units, spare, stage, &current, &beside, to);
                    spare.give(pool);
                    spare.give(std::mem::replace(&mut current, output));
                }
                Skip::Image => {
                    let (beside, to) = (Beside::Images(images), To::Result(&mut result));
                    self.climb(units, spare, stage, &current, &beside, to);
                }
            }
        }
        spare.give(current);
        result
    }

    /// The pooling of the first two layers' output.
    fn top(&self, units: Units, spare: &mut Spare, images: &Batch) -> Tensor {
        let [first, second] = [&self.encoder[0], &self.encoder[1]];
        let image = shape(images);
        let (h, band) = (image.h, band_rows(image));
        let of = |c| Shape { c, ..image };
        let mut pooled = spare.take(pool::pooled(of(second.outputs())));
        let mut neighborhoods = spare.window(Tensor::of_neighborhoods(image), band);
        let mut ahead = spare.window(of(first.outputs()), band + 3);
        let mut behind = spare.window(of(second.outputs()), band + 2);
        // Rows of each layer that have been computed.
        let (mut ready, mut done) = (0, 0);
        while done < h {
            let begin = ready;
            ready = (ready + band).min(h);
            neighborhoods.slide(begin..begin);
            neighborhoods.fill_from_neighborhoods(&images.data, image, begin..ready);
            first.run(units, &[&neighborhoods], &mut ahead, begin..ready);
            let begin = done;
            done = if ready == h { h } else { (ready - 1) / 2 * 2 };
            behind.slide(begin..begin);
            second.run(units, &[&ahead], &mut behind, begin..done);
            pooled.fill_from_max_pool(&behind, begin / 2..done / 2);
            if done < h {
                ahead.slide(done - 1..ready);
            }
        }
        for window in [neighborhoods, ahead, behind] {
            spare.give(window);
        }
        pooled
    }

    /// Runs a level of the decoder on the output of the one below.
    fn climb(
        &self,
        units: Units,
        spare: &mut Spare,
        stage: &Stage,
        below: &Tensor,
        beside: &Beside,
        mut to: To,
    ) {
        let full = doubled(below.shape());
        let (h, band) = (full.h, band_rows(full));
        let mut ahead = spare.window(full, band + 2);
        let mut behind = spare.window(
            Shape {
                c: stage.first.outputs(),
                ..full
            },
            band + 3,
        );
        let mut neighborhoods = match beside {
            Beside::Pool(_) => None,
            Beside::Images(images) => {
                Some(spare.window(Tensor::of_neighborhoods(shape(images)), band + 1))
            }
        };
        // A row of a convolution reads the one below it.
        let above = |ready: usize| if ready == h { h } else { ready - 1 };
        // Rows of each layer that have been computed.
        let (mut up, mut first, mut done) = (0, 0, 0);
        while done < h {
            let begin = up;
            up = (up + band).min(h);
            stage.up.run(units, below, &mut ahead, begin..up);
            let begin = first;
            first = above(up);
            let beside = match (beside, &mut neighborhoods) {
                (Beside::Images(images), Some(neighborhoods)) => {
                    neighborhoods.slide(begin..begin);
                    let of = shape(images);
                    neighborhoods.fill_from_neighborhoods(&images.data, of, begin..first);
                    neighborhoods
                }
                (Beside::Pool(pool), _) => *pool,
                (Beside::Images(_), None) => unreachable!("made above"),
            };
            let inputs = [&ahead, beside];
            stage.first.run(units, &inputs, &mut behind, begin..first);
            let begin = done;
            done = above(first);
            match &mut to {
                To::Tensor(output) => stage.second.run(units, &[&behind], output, begin..done),
                To::Result(result) => run_chain(
                    units,
                    (&stage.second, &self.tail),
                    &[&behind],
                    &mut result.data,
                    self.unet.pixel_shuffle,
                    begin..done,
                ),
            }
            if done < h {
                ahead.slide(first - 1..up);
                behind.slide(done - 1..first);
            }
        }
        for window in [Some(ahead), Some(behind), neighborhoods] {
            spare.0.extend(window);
        }
    }
}

/// Rows of a band of images of this shape; an even number.
fn band_rows(images: Shape) -> usize {
    let rows = PIXELS * rayon::current_num_threads() / (images.n * images.w).max(1);
    rows.max(MIN_ROWS).min(images.h).next_multiple_of(2)
}

/// Bytes that [`HalfNetwork::infer`] needs for an image of `h` × `w` pixels in addition to the image and its result,
/// including the packed weights.
pub(super) fn working_bytes(unet: &UNet, h: usize, w: usize) -> u64 {
    let UNet {
        n_feature,
        head_width,
        pixel_shuffle: block,
        ..
    } = *unet;
    let padded = |channels: usize| channels.next_multiple_of(32);
    let (kept, wide) = (padded(n_feature), padded(2 * n_feature));
    let image = unet.block_channels();
    let (h, w) = (h / block, w / block);
    // At half the resolution of the first layer, a kept pooling and the output of that level are held whole. Everything
    // below takes less than half as much.
    let halves = 2 * (kept + wide) / 4;
    let blocks = if block == 1 { 0 } else { 4 * image };
    let whole = (h + 2) * (w + 2) * (halves + halves / 2 + blocks);
    // The windows of the last level.
    let shape = Shape {
        n: 1,
        h,
        w,
        c: image,
    };
    let windows = padded(9 * image) + wide.max(kept) + padded(head_width);
    let windows = 2 * (band_rows(shape) + 3 + 2) * (w + 2) * windows;
    (whole + windows + 4 * 2 * unet.parameters() + (16 << 20)) as u64
}

/// Layer `i`, a convolution.
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
