//! Inference: the rows in order. Each tensor is returned to the arena as soon as nothing needs it, and rows are fused
//! wherever the tensors between them need not be stored. The first layers, at the full size of the image, run in bands,
//! and so do those of the last levels of the decoder, all together; a transposed convolution is merged with the convolution after it; poolings are computed on the way;
//! the 1×1 layers at the end run as one chain.

use std::sync::Arc;

use n2n_kernels::bands::{self, First, Layers, Small, Then, Up};
use n2n_kernels::conv;
use n2n_kernels::half::Units;
use n2n_kernels::pool;
use n2n_kernels::tensor::{Shape, Tensor};
use n2n_kernels::upconv;
use n2n_kernels::{Epilogue, Picks};

use super::{CpuNetwork, epilogue, shape};
use crate::batch::Batch;
use crate::neighbors::{Neighbors, PAIRS, Target};
use crate::unet::{Kind, LEAKY_SLOPE, Layer, Skip, UNet};

/// Maximum number of levels of the decoder that run in bands together. With three, a pixel takes a third of the memory,
/// but the network 1.08 to 1.2 times as long (decision 7).
const LEVELS: usize = 1;

impl CpuNetwork {
    /// Denoises a batch whose size the caller has checked.
    pub(super) fn infer(&mut self, noisy: &Batch) -> Batch {
        let output = self.infer_tensor(noisy, None);
        self.download(output)
    }

    /// [`CpuNetwork::infer`] in half precision.
    pub(super) fn infer_half(&mut self, units: Units, noisy: &Batch) -> Batch {
        let network = self.packed.half(&self.parameters);
        network.infer(units, &mut self.spare, noisy)
    }

    /// The neighbors of the denoised batch, `g1(f(y))` and `g2(f(y))`. They are half of its pixels, and where the last
    /// rows run in bands, only these go through the 1×1 layers.
    pub(super) fn infer_neighbors(
        &mut self,
        noisy: &Batch,
        neighbors: &Neighbors,
        target: Target,
    ) -> (Batch, Batch) {
        if let Some(units) = self.regularizer_half {
            return neighbors.sub_sample_for(&self.infer_half(units, noisy), target);
        }
        let are_pixels = self.unet.pixel_shuffle == 1;
        if target == Target::Mean || !are_pixels || !self.ends_in_bands(shape(noisy)) {
            return neighbors.sub_sample_for(&self.infer(noisy), target);
        }
        let pairs = neighbors.pairs.iter().map(|&pair| {
            let (first, second) = PAIRS[usize::from(pair)];
            [first, second]
        });
        let pairs: Vec<_> = pairs.collect();
        let picks = Picks::new(shape(noisy), &pairs);
        let output = self.infer_tensor(noisy, Some(picks));
        let both = self.download(output);
        let half = |begin: usize| {
            let pixels = both.data.chunks_exact(both.c);
            let values = pixels.flat_map(|pixel| &pixel[begin..][..noisy.c]).copied();
            Batch::new(both.n, both.h, both.w, noisy.c, values.collect())
        };
        (half(0), half(both.c / 2))
    }

    /// The network's output; with picks, that of the pixels picked, as
    /// [`PickedChain`](Then::PickedChain) lays them out: for images whose last rows run in bands.
    fn infer_tensor(&mut self, noisy: &Batch, picks: Option<Picks>) -> Tensor {
        let image = self.upload(noisy);
        // At the end only its side is read, which takes half of the memory.
        let side = self.ends_in_bands(image.shape()).then(|| {
            let up = self.last_up().expect("one of the rows that end in bands");
            self.side(up, pool::pooled(image.shape()), Some(&image))
        });
        let mut image = Some(image);
        let mut pools = vec![];
        let mut current: Option<Tensor> = None;
        let mut i = 0;
        while i < self.layers.len() {
            let main = current.as_ref().or(image.as_ref());
            let main = main.expect("the first rows read the image");
            let together = self.together(i, main.shape());
            // The poolings that these rows read are the last that are kept, the first of them the very last.
            let reads_pool = |layer: &&Layer| matches!(layer.skip, Some(Skip::Pool(_)));
            let read = self.layers[i..i + together].iter().filter(reads_pool);
            let skips: Vec<Tensor> = read.filter_map(|_| pools.pop()).collect();
            let inputs = Inputs {
                main,
                skips: &skips,
                image: image.as_ref(),
                side: side.as_ref(),
            };
            let output = self.run_rows(i, together, inputs, picks);
            if side.is_some()
                && let Some(image) = image.take()
            {
                self.arena.give(image);
            }
            // A pooling's output is kept for the decoder if the decoder reads it.
            match current.replace(output) {
                Some(used) if i > 0 && self.layers[i - 1].pool && self.is_skipped_to(i - 1) => {
                    pools.push(used);
                }
                Some(used) => self.arena.give(used),
                None => {}
            }
            for skip in skips {
                self.arena.give(skip);
            }
            i += together;
        }
        for tensor in [image, side].into_iter().flatten() {
            self.arena.give(tensor);
        }
        current.expect("the network has layers")
    }

    /// How many rows, starting with row `i` with an input of this shape, are computed together.
    fn together(&self, i: usize, input: Shape) -> usize {
        let chained = |from: usize| {
            let rows = self.layers[from..].iter();
            rows.take_while(|layer| layer.kind == Kind::Conv1x1).count()
        };
        let rows = &self.layers[i..];
        match rows {
            [first, second, ..]
                if i == 0 && second.pool && self.in_bands(first, second, i + 1, input) =>
            {
                2
            }
            [up, first, second, next, ..]
                if up.kind == Kind::Up2x2 && input.n * input.h * input.w >= self.merged_pixels =>
            {
                let full = doubled(input);
                let to_the_end = match next.kind {
                    Kind::Conv1x1 => 3 + chained(i + 3),
                    _ if self.skip_is_by_winograd(i, full) => 3 + self.together(i + 3, full),
                    _ => 0,
                };
                let levels = rows.iter().filter(|row| row.kind == Kind::Up2x2).count();
                let in_bands = levels <= LEVELS && self.in_bands(first, second, i + 2, full);
                if in_bands && to_the_end == rows.len() {
                    to_the_end
                } else {
                    2
                }
            }
            _ => chained(i).max(1),
        }
    }

    /// The last transposed convolution.
    fn last_up(&self) -> Option<usize> {
        let mut rows = self.layers.iter();
        rows.rposition(|row| row.kind == Kind::Up2x2)
    }

    /// Whether the last rows run in bands at images of this shape.
    pub(super) fn ends_in_bands(&self, image: Shape) -> bool {
        let is_all = |up| self.together(up, pool::pooled(image)) == self.layers.len() - up;
        self.last_up().is_some_and(is_all)
    }

    /// Whether row `i`, merged with the next, adds to a convolution by Winograd's algorithm at images of this shape.
    fn skip_is_by_winograd(&self, i: usize, image: Shape) -> bool {
        let merged = self.packed.merged(&self.parameters, i);
        let skip = merged.skip.as_ref();
        skip.is_some_and(|conv| conv.is_by_winograd(image))
    }

    /// Bytes that the arena needs for an image of `h` × `w` pixels.
    pub(super) fn arena_bytes(&self, h: usize, w: usize) -> usize {
        let UNet {
            n_feature,
            pixel_shuffle: block,
            ..
        } = self.unet;
        let (h, w) = (h / block, w / block);
        // Whole, in vectors of eight channels: at the resolution of the first layer the image, the result, and the borders
        // of all that follows; at half of it the image's side, a pooling, and the input and output of a layer.
        let padded = |channels: usize| channels.next_multiple_of(8);
        let image = self.unet.block_channels();
        let layer = 2 * padded(2 * n_feature);
        let at_half = padded(upconv::side_channels(image)) + padded(n_feature) + layer;
        let per_pixel = 3 * padded(image) + at_half / 4;
        let image = Shape {
            n: 1,
            h,
            w,
            c: self.unet.widest(),
        };
        let windows = bands::window_floats(image, LEVELS, 2 * n_feature);
        4 * ((h + 2) * (w + 2) * per_pixel + windows)
    }

    /// Whether two 3×3 layers, the second being row `i`, can run in bands at images of this shape.
    fn in_bands(&self, first: &Layer, second: &Layer, i: usize, image: Shape) -> bool {
        [first, second]
            .iter()
            .all(|layer| layer.kind == Kind::Conv3x3)
            && second.skip.is_none()
            && self.packed.conv(&self.parameters, i).is_by_winograd(image)
    }

    /// Runs rows that [`Self::together`] counted.
    fn run_rows(&mut self, i: usize, count: usize, inputs: Inputs, picks: Option<Picks>) -> Tensor {
        let layers = Arc::clone(&self.layers);
        let input = inputs.main;
        match &layers[i..i + count] {
            [layer] => {
                let skip = match layer.skip {
                    Some(Skip::Image) => inputs.image,
                    _ => inputs.skips.first(),
                };
                let inputs: Vec<&Tensor> = std::iter::once(input).chain(skip).collect();
                self.run_layer(i, &inputs, layer.pool)
            }
            [up, _] if up.kind == Kind::Up2x2 => self.run_merged(i, inputs),
            [up, ..] if up.kind == Kind::Up2x2 => self.run_last(i, inputs, picks),
            [first, second] if first.kind == Kind::Conv3x3 => {
                let mut output = self.arena.take(Shape {
                    c: second.outputs,
                    ..pool::pooled(input.shape())
                });
                let conv = |i| self.packed.conv(&self.parameters, i);
                let layers = Layers {
                    first: (First::Conv(conv(i), input), epilogue(first)),
                    second: (conv(i + 1), epilogue(second)),
                };
                let arena = &mut self.arena;
                bands::run(self.level, &layers, Then::Pool, &mut output, arena);
                output
            }
            chain => {
                let mut output = self.arena.take(Shape {
                    c: chain[count - 1].outputs,
                    ..input.shape()
                });
                let convs: Vec<_> = (i..i + count)
                    .map(|i| (self.packed.conv(&self.parameters, i), epilogue(&layers[i])))
                    .collect();
                conv::run_chain(self.level, &convs, input, &mut output);
                output
            }
        }
    }

    /// Runs a transposed convolution merged with the layer after it.
    fn run_merged(&mut self, i: usize, inputs: Inputs) -> Tensor {
        let Inputs {
            main, skips, image, ..
        } = inputs;
        let first = &self.layers[i + 1];
        let mut after = epilogue(first);
        let full = Shape {
            c: first.outputs,
            ..doubled(main.shape())
        };
        let side = self.side(i, main.shape(), image);
        let mut output = self.arena.take(full);
        let merged = self.packed.merged(&self.parameters, i);
        if let (Some(conv), Some(skip)) = (&merged.skip, skips.first()) {
            conv.run(self.level, &[skip], &mut output, Epilogue::Store);
            after = Epilogue::AddLeakyRelu(LEAKY_SLOPE);
        }
        let conv = &merged.upconv;
        conv.run(self.level, main, &side, &mut output, after);
        self.arena.give(side);
        output
    }

    /// Runs the rows from `i`, a transposed convolution, to the end in bands: the last levels of the decoder.
    fn run_last(&mut self, i: usize, inputs: Inputs, picks: Option<Picks>) -> Tensor {
        let layers = Arc::clone(&self.layers);
        let last = self.last_up().expect("row `i`, or a later one");
        let ups = (i..=last).step_by(3);
        let mut shape = inputs.main.shape();
        let mut sides = vec![];
        for i in ups.clone().take_while(|&i| i < last) {
            sides.push(self.side(i, shape, None));
            shape = doubled(shape);
        }
        let output = Shape {
            c: layers[layers.len() - 1].outputs,
            ..doubled(shape)
        };
        let mut output = self.arena.take(match picks {
            None => output,
            Some(_) => Shape {
                c: 2 * output.pixel_stride(),
                ..pool::pooled(output)
            },
        });
        let conv = |i| self.packed.conv(&self.parameters, i);
        let side_of_image = inputs.side.expect("made for rows that end in bands");
        let mut sides_of = sides.iter().chain(std::iter::once(side_of_image));
        let mut skips = inputs.skips.iter();
        let mut level = |i: usize, small| {
            let merged = self.packed.merged(&self.parameters, i);
            let skip = merged.skip.as_ref();
            let skip = skip.map(|conv| (conv, skips.next().expect("a pooling that it reads")));
            let after = match skip {
                Some(_) => Epilogue::AddLeakyRelu(LEAKY_SLOPE),
                None => epilogue(&layers[i + 1]),
            };
            let up = Up {
                conv: &merged.upconv,
                small,
                side: sides_of.next().expect("one for each level"),
                skip,
            };
            Layers {
                first: (First::UpConv(up), after),
                second: (conv(i + 2), epilogue(&layers[i + 2])),
            }
        };
        let mut of_levels = level(i, Small::Stored(inputs.main));
        for i in ups.skip(1) {
            of_levels = level(i, Small::Layers(Box::new(of_levels)));
        }
        let chain: Vec<_> = (last + 3..layers.len())
            .map(|i| (conv(i), epilogue(&layers[i])))
            .collect();
        let then = match picks {
            None => Then::Chain(&chain),
            Some(picks) => Then::PickedChain(&chain, picks),
        };
        bands::run(self.level, &of_levels, then, &mut output, &mut self.arena);
        drop(of_levels);
        for side in sides {
            self.arena.give(side);
        }
        output
    }

    /// What row `i`, a transposed convolution, merged with the next reads beside its input of this shape.
    pub(super) fn side(&mut self, i: usize, input: Shape, image: Option<&Tensor>) -> Tensor {
        let reads_image = self.layers[i + 1].skip == Some(Skip::Image);
        let image = image.filter(|_| reads_image);
        let mut side = self.arena.take(Shape {
            c: upconv::side_channels(image.map_or(0, |image| image.shape().c)),
            ..input
        });
        upconv::side(image, &mut side);
        side
    }

    /// Whether a later row reads the pooling after row `i`.
    fn is_skipped_to(&self, i: usize) -> bool {
        let pool = self.layers[..=i].iter().filter(|layer| layer.pool).count();
        self.layers
            .iter()
            .any(|layer| layer.skip == Some(Skip::Pool(pool)))
    }
}

/// What rows may read.
#[derive(Clone, Copy)]
struct Inputs<'a> {
    /// The output of the row before.
    main: &'a Tensor,
    /// Poolings, in the order of the rows.
    skips: &'a [Tensor],
    /// The image, until only its side is read.
    image: Option<&'a Tensor>,
    /// The image's [side](upconv::side), if the last rows run in bands.
    side: Option<&'a Tensor>,
}

/// Twice as high and wide.
pub(super) fn doubled(shape: Shape) -> Shape {
    Shape {
        h: 2 * shape.h,
        w: 2 * shape.w,
        ..shape
    }
}
