//! Inference: the layers in order. Each tensor is returned to the arena as soon as nothing needs it, and layers are
//! fused wherever the tensors between them need not be stored. The first and the last layers, at the full size of the
//! image, run in bands; a transposed convolution is merged with the convolution after it; poolings are computed on the
//! way; the 1×1 layers at the end run as one chain.

use std::sync::Arc;

use n2n_kernels::arena::{Plan, Planner};
use n2n_kernels::bands::{self, First, Then};
use n2n_kernels::conv;
use n2n_kernels::half::Units;
use n2n_kernels::pool;
use n2n_kernels::tensor::{Shape, Tensor};
use n2n_kernels::upconv;
use n2n_kernels::{Epilogue, Picks};

use super::{CpuNetwork, epilogue, shape};
use crate::batch::Batch;
use crate::neighbors::{Neighbors, PAIRS, Target};
use crate::unet::{Kind, LEAKY_SLOPE, Layer, Skip};

/// Layers that are computed together.
struct Step {
    /// The first layer, and how many there are.
    first: usize,
    count: usize,
    /// The shapes of their input, of their output before it is pooled (its channels aside), and of their output.
    input: Shape,
    full: Shape,
    output: Shape,
    /// Whether one of them reads a pooling: the last that was kept.
    reads_pool: bool,
    /// Whether their input is a pooling that is kept for the decoder.
    keeps_input: bool,
}

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
    /// layers run in bands, only these go through the 1×1 layers.
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

    /// The network's output; with picks, only that of the picked pixels, laid out as by
    /// [`PickedChain`](Then::PickedChain). Picks require that the last layers run in bands.
    fn infer_tensor(&mut self, noisy: &Batch, picks: Option<Picks>) -> Tensor {
        let image = self.upload(noisy);
        let mut pools = vec![];
        let mut current = None;
        for step in self.steps(image.shape()) {
            let main = current.as_ref().unwrap_or(&image);
            let skip = if step.reads_pool { pools.pop() } else { None };
            let output = self.run_rows(step.first, step.count, main, skip.as_ref(), &image, picks);
            match current.replace(output) {
                Some(used) if step.keeps_input => pools.push(used),
                Some(used) => self.arena.give(used),
                None => {}
            }
            if let Some(skip) = skip {
                self.arena.give(skip);
            }
        }
        self.arena.give(image);
        current.expect("the network has layers")
    }

    /// The layers in order, in groups that are computed together, for images of this shape.
    fn steps(&self, image: Shape) -> Vec<Step> {
        let mut steps = vec![];
        let (mut i, mut input) = (0, image);
        while i < self.layers.len() {
            let count = self.together(i, input);
            let rows = &self.layers[i..i + count];
            let full = match rows[0].kind {
                Kind::Up2x2 => doubled(input),
                _ => input,
            };
            let last = &rows[count - 1];
            let output = Shape {
                c: last.outputs,
                ..if last.pool { pool::pooled(full) } else { full }
            };
            let reads_pool = |row: &Layer| matches!(row.skip, Some(Skip::Pool(_)));
            steps.push(Step {
                first: i,
                count,
                input,
                full,
                output,
                reads_pool: rows.iter().any(reads_pool),
                keeps_input: i > 0 && self.layers[i - 1].pool && self.is_skipped_to(i - 1),
            });
            (i, input) = (i + count, output);
        }
        steps
    }

    /// How many layers, starting with layer `i` with an input of this shape, are computed together.
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
            [up, first, second, ..]
                if up.kind == Kind::Up2x2 && input.n * input.h * input.w >= self.merged_pixels =>
            {
                let tail = chained(i + 3);
                let full = doubled(input);
                let is_large = tail > 0 || full.n * full.h * full.w >= self.banded_pixels;
                if is_large && !second.pool && self.in_bands(first, second, i + 2, full) {
                    3 + tail
                } else {
                    2
                }
            }
            _ => chained(i).max(1),
        }
    }

    /// Whether the last layers run in bands for images of this shape.
    pub(super) fn ends_in_bands(&self, image: Shape) -> bool {
        let up = self.layers.iter().rposition(|row| row.kind == Kind::Up2x2);
        up.is_some_and(|up| self.together(up, pool::pooled(image)) == self.layers.len() - up)
    }

    /// The memory that [`Self::infer`] needs for images of this shape: what [`Self::infer_tensor`] takes and gives, in
    /// the same order.
    pub(super) fn plan(&self, images: Shape) -> Plan {
        let block = self.unet.pixel_shuffle;
        let mut memory = Planner::default();
        let image = Shape {
            n: images.n,
            h: images.h / block,
            w: images.w / block,
            c: self.unet.block_channels(),
        };
        memory.take(image);
        let mut pools = vec![];
        let mut current = None;
        for step in self.steps(image) {
            let Step { first: i, full, .. } = step;
            let rows = &self.layers[i..i + step.count];
            let is_up = rows[0].kind == Kind::Up2x2;
            let side =
                (is_up && rows.len() > 1).then(|| memory.take(self.side_shape(i, step.input)));
            let output = memory.take(step.output);
            let is_by_winograd = || self.packed.conv(&self.parameters, i).is_by_winograd(full);
            let between = match rows {
                [_, merged, _, ..] if is_up => Some((bands::window(full), merged.outputs)),
                [conv, next] if !is_up && next.kind == Kind::Conv3x3 => {
                    Some((bands::window(full), conv.outputs))
                }
                [layer] if layer.pool && !is_by_winograd() => Some((full, layer.outputs)),
                _ => None,
            };
            if let Some((shape, c)) = between {
                let between = memory.take(Shape { c, ..shape });
                memory.give(between);
            }
            if let Some(side) = side {
                memory.give(side);
            }
            let skip = if step.reads_pool { pools.pop() } else { None };
            match current.replace(output) {
                Some(used) if step.keeps_input => pools.push(used),
                Some(used) => memory.give(used),
                None => {}
            }
            if let Some(skip) = skip {
                memory.give(skip);
            }
        }
        memory.finish()
    }

    /// Whether two 3×3 layers, the second being layer `i`, can run in bands for images of this shape.
    fn in_bands(&self, first: &Layer, second: &Layer, i: usize, image: Shape) -> bool {
        [first, second]
            .iter()
            .all(|layer| layer.kind == Kind::Conv3x3)
            && second.skip.is_none()
            && self.packed.conv(&self.parameters, i).is_by_winograd(image)
    }

    /// Runs layers that [`Self::together`] counted.
    fn run_rows(
        &mut self,
        i: usize,
        count: usize,
        input: &Tensor,
        skip: Option<&Tensor>,
        image: &Tensor,
        picks: Option<Picks>,
    ) -> Tensor {
        let layers = Arc::clone(&self.layers);
        match &layers[i..i + count] {
            [layer] => {
                let inputs: Vec<&Tensor> = match layer.skip {
                    Some(Skip::Image) => vec![input, image],
                    _ => std::iter::once(input).chain(skip).collect(),
                };
                self.run_layer(i, &inputs, layer.pool)
            }
            [up, ..] if up.kind == Kind::Up2x2 => {
                self.run_merged(i, count, input, skip, image, picks)
            }
            [first, second] if first.kind == Kind::Conv3x3 => {
                let mut output = self.arena.take(Shape {
                    c: second.outputs,
                    ..pool::pooled(input.shape())
                });
                let conv = |i| self.packed.conv(&self.parameters, i);
                bands::run(
                    self.level,
                    (First::Conv(conv(i), input), epilogue(first)),
                    (conv(i + 1), epilogue(second)),
                    Then::Pool,
                    &mut output,
                    &mut self.arena,
                );
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

    /// Runs a transposed convolution merged with the layer after it, alone or in bands with the others
    /// up to the end.
    fn run_merged(
        &mut self,
        i: usize,
        count: usize,
        input: &Tensor,
        skip: Option<&Tensor>,
        image: &Tensor,
        picks: Option<Picks>,
    ) -> Tensor {
        let layers = Arc::clone(&self.layers);
        let first = &layers[i + 1];
        let side = self.side(i, input.shape(), image);
        let full = Shape {
            c: layers[i + count - 1].outputs,
            ..doubled(input.shape())
        };
        let picks = picks.filter(|_| count > 3);
        let mut output = self.arena.take(match picks {
            None => full,
            Some(_) => Shape {
                c: 2 * full.pixel_stride(),
                ..pool::pooled(full)
            },
        });
        let conv = |i| self.packed.conv(&self.parameters, i);
        let merged = self.packed.merged(&self.parameters, i);
        let plus = merged.skip.as_ref().zip(skip);
        let after = match plus {
            Some(_) => Epilogue::AddLeakyRelu(LEAKY_SLOPE),
            None => epilogue(first),
        };
        if count > 2 {
            let second = &layers[i + 2];
            let chain: Vec<_> = (i + 3..i + count)
                .map(|i| (conv(i), epilogue(&layers[i])))
                .collect();
            let upconv = match plus {
                Some(plus) => First::UpConvPlus(&merged.upconv, input, &side, plus),
                None => First::UpConv(&merged.upconv, input, &side),
            };
            bands::run(
                self.level,
                (upconv, after),
                (conv(i + 2), epilogue(second)),
                match picks {
                    _ if chain.is_empty() => Then::Store,
                    None => Then::Chain(&chain),
                    Some(picks) => Then::PickedChain(&chain, picks),
                },
                &mut output,
                &mut self.arena,
            );
        } else {
            if let Some((conv, skip)) = plus {
                conv.run(self.level, &[skip], &mut output, Epilogue::Store);
            }
            merged
                .upconv
                .run(self.level, input, &side, &mut output, after);
        }
        self.arena.give(side);
        output
    }

    /// What layer `i`, a transposed convolution merged with the next layer, reads in addition to its input of this
    /// shape.
    pub(super) fn side(&mut self, i: usize, input: Shape, image: &Tensor) -> Tensor {
        let image = (self.layers[i + 1].skip == Some(Skip::Image)).then_some(image);
        let mut side = self.arena.take(self.side_shape(i, input));
        upconv::side(image, &mut side);
        side
    }

    /// Its shape.
    fn side_shape(&self, i: usize, input: Shape) -> Shape {
        let reads_image = self.layers[i + 1].skip == Some(Skip::Image);
        let image = if reads_image {
            self.unet.block_channels()
        } else {
            0
        };
        Shape {
            c: upconv::side_channels(image),
            ..input
        }
    }

    /// Whether a later layer reads the pooling after layer `i`.
    fn is_skipped_to(&self, i: usize) -> bool {
        let pool = self.layers[..=i].iter().filter(|layer| layer.pool).count();
        self.layers
            .iter()
            .any(|layer| layer.skip == Some(Skip::Pool(pool)))
    }
}

/// Twice as high and wide.
pub(super) fn doubled(shape: Shape) -> Shape {
    Shape {
        h: 2 * shape.h,
        w: 2 * shape.w,
        ..shape
    }
}
