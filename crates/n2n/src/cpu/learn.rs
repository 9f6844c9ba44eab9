//! Training: one step of Neighbor2Neighbor. A forward pass that keeps what the gradients need (the tape), the gradients
//! from the last layer to the first, and one update by the optimizer.

use std::sync::Arc;

use n2n_kernels::Epilogue;
use n2n_kernels::conv::{self, Conv, Gradients, Pointwise, Position, Size};
use n2n_kernels::muon::{self, Matrix};
use n2n_kernels::pool;
use n2n_kernels::tensor::{Shape, Tensor};
use n2n_kernels::upconv::{self, UpConv};
use n2n_kernels::upsample::{self, InputGradient};

use super::infer::doubled;
use super::packed::{input_channels, size};
use super::{CpuNetwork, Learning, epilogue, shape};
use crate::batch::Batch;
use crate::neighbors::{Neighbors, Target};
use crate::network::{LossFactors, Losses, Optimizer};
use crate::unet::{Kind, LEAKY_SLOPE, Layer, Skip, layer_range};

/// What a forward pass keeps for the gradients.
pub(super) struct Tape {
    image: Tensor,
    /// The output of each layer before [`CpuNetwork::head`], before pooling. The last of these outputs is taken out,
    /// and its memory used for its gradient. For a transposed convolution that is merged with the next layer, the
    /// [side](upconv::side) of both.
    pub(super) outputs: Vec<Tensor>,
    /// The output of each pooling.
    pools: Vec<Tensor>,
}

/// What a backward pass computes.
pub(super) enum Wanted<'a> {
    /// The gradients of the layers before [`CpuNetwork::head`], laid out as the parameters.
    Parameters(&'a mut [f32]),
    /// The gradient of the image.
    Image(&'a mut Tensor),
}

/// `g1(f(y))` and `g2(f(y))` of some patches of a batch.
struct Expected {
    /// For each patch of the batch, its index among these, if it is one of them.
    place: Vec<Option<usize>>,
    /// How many patches each of these stands for.
    share: f64,
    first: Batch,
    second: Batch,
}

impl Expected {
    /// The neighbors of the patches with the indices `turn`, out of `n` patches.
    fn new(n: usize, turn: Vec<usize>, first: Batch, second: Batch) -> Self {
        let mut place = vec![None; n];
        let share = n as f64 / turn.len().max(1) as f64;
        for (i, patch) in turn.into_iter().enumerate() {
            place[patch] = Some(i);
        }
        Self {
            place,
            share,
            first,
            second,
        }
    }

    /// Those of none of `n` patches.
    fn none(n: usize) -> Self {
        let empty = || Batch::zeros(0, 0, 0, 0);
        Self::new(n, vec![], empty(), empty())
    }

    /// Those of a patch, if it is one of these.
    fn of(&self, patch: usize) -> Option<(&[f32], &[f32])> {
        let i = self.place[patch]?;
        Some((self.first.image(i), self.second.image(i)))
    }
}

/// The weights of all layers but the first and the last as matrices, outputs by inputs; of transposed convolutions
/// as they lie, inputs by outputs.
fn hidden_weights(layers: &[Layer]) -> Vec<Matrix> {
    let hidden = 1..layers.len().saturating_sub(1);
    hidden
        .map(|i| Matrix {
            at: layer_range(layers, i).0,
            rows: layers[i].weight_shape()[0],
        })
        .collect()
}

impl CpuNetwork {
    /// One step on batches whose sizes the caller has checked.
    pub(super) fn learn(
        &mut self,
        batches: &[(&Batch, &Neighbors)],
        factors: LossFactors,
        learning_rate: f64,
    ) -> Losses {
        self.descend(batches.len(), learning_rate, |network, i| {
            let (noisy, neighbors) = batches[i];
            let (input, target) = neighbors.sub_sample_for(noisy, network.method.target);
            let turn = network.updates() + i as u64;
            let expected = network.expected(noisy, neighbors, factors.lambda, turn);
            network.differentiate(&input, &target, &expected, factors)
        })
    }

    /// One step toward given targets, whose sizes the caller has checked.
    pub(super) fn learn_towards(
        &mut self,
        batches: &[(&Batch, &Batch)],
        learning_rate: f64,
    ) -> Losses {
        let factors = LossFactors {
            lambda1: 1.0,
            lambda2: 0.0,
            lambda: 0.0,
        };
        self.descend(batches.len(), learning_rate, |network, i| {
            let (noisy, target) = batches[i];
            let expected = Expected::none(noisy.n);
            network.differentiate(noisy, target, &expected, factors)
        })
    }

    /// Number of updates so far.
    fn updates(&self) -> u64 {
        self.learning
            .as_ref()
            .map_or(0, |learning| learning.adam.steps)
    }

    /// One update with the mean gradient of `batches` batches, each of whose losses and gradients `differentiate`
    /// computes; returns the mean losses. There is no update if any of these values is not finite.
    fn descend(
        &mut self,
        batches: usize,
        learning_rate: f64,
        differentiate: impl Fn(&mut Self, usize) -> Losses,
    ) -> Losses {
        let mut mean = Losses::default();
        if batches == 1 {
            mean = differentiate(self, 0);
        } else {
            let share = 1.0 / batches as f64;
            let before = self.learning().gradients.clone();
            let mut sum = vec![0.0; before.len()];
            for i in 0..batches {
                mean = mean + share * differentiate(self, i);
                if !mean.loss_full.is_finite() {
                    self.learning().gradients = before;
                    return mean;
                }
                for (sum, gradient) in sum.iter_mut().zip(&self.learning().gradients) {
                    *sum += gradient;
                }
            }
            let share = share as f32;
            for sum in &mut sum {
                *sum *= share;
            }
            self.learning().gradients = sum;
        }
        if mean.loss_full.is_finite() && !self.update(learning_rate) {
            mean.loss_full = f64::NAN;
        }
        mean
    }

    /// One update with the gradients, unless one is not finite; returns whether there was one.
    fn update(&mut self, learning_rate: f64) -> bool {
        self.learning();
        let learning = self.learning.as_mut().expect("made by the line above");
        // Their squares too, which the optimizer sums in f32.
        let finite = |gradient: &f32| (gradient * gradient).is_finite();
        if !learning.gradients.iter().all(finite) {
            return false;
        }
        let Learning { adam, gradients } = learning;
        let parameters = Arc::make_mut(&mut self.parameters);
        match self.method.optimizer {
            Optimizer::Adam => adam.step(self.level, parameters, gradients, learning_rate),
            Optimizer::Muon => {
                let (level, matrices) = (self.level, hidden_weights(&self.layers));
                muon::step(level, adam, &matrices, parameters, gradients, learning_rate);
            }
        }
        self.forget_packed();
        true
    }

    /// The state of learning, new if there is none yet.
    fn learning(&mut self) -> &mut Learning {
        let parameters = self.parameters.len();
        self.learning
            .get_or_insert_with(|| Learning::new(parameters))
    }

    /// Computes the losses of the network's output for `input` and, if they are finite, the gradients.
    fn differentiate(
        &mut self,
        input: &Batch,
        target: &Batch,
        expected: &Expected,
        factors: LossFactors,
    ) -> Losses {
        let blocks;
        let target = match self.unet.pixel_shuffle {
            1 => target,
            block => {
                blocks = target.space_to_depth(block);
                &blocks
            }
        };
        let mut tape = self.forward(input);
        let mut pixels = tape.outputs.pop().expect("layers before the 1×1 layers");
        // diff = f(g1(y)) − g2(y) and exp_diff = g1(f(y)) − g2(f(y)), pixel by pixel.
        let count = target.data.len() as f64;
        let share = expected.share;
        let c = target.c;
        let stride = shape(target).pixel_stride();
        let (of_head, [reconstruction, regularizer]) =
            self.learn_head(&mut pixels, |Position { n, y, x }, outputs| {
                let inside = (y * target.w + x) * c;
                let begin = n * target.image_len() + inside;
                let expected = expected.of(n);
                let (mut reconstruction, mut regularizer) = (0.0, 0.0);
                for (i, pixel) in outputs.chunks_exact_mut(stride).enumerate() {
                    let at = begin + i * c;
                    for (k, value) in pixel[..c].iter_mut().enumerate() {
                        let diff = f64::from(*value) - f64::from(target.data[at + k]);
                        reconstruction += diff * diff;
                        // diff − exp_diff for the gradient: exp_diff of the regularized patches stands for that of all.
                        let mut gap = diff;
                        if let Some((first, second)) = expected {
                            let at = inside + i * c + k;
                            let exp_diff = f64::from(first[at]) - f64::from(second[at]);
                            regularizer += (diff - exp_diff).powi(2);
                            gap -= exp_diff * share;
                        }
                        let slope = factors.lambda1 * diff + factors.lambda2 * factors.lambda * gap;
                        *value = (2.0 * slope / count) as f32;
                    }
                }
                [reconstruction, regularizer]
            });
        let loss1 = reconstruction / count;
        let loss2 = factors.lambda * (regularizer * share / count);
        let loss_full = factors.lambda1 * loss1 + factors.lambda2 * loss2;
        // If the loss is not finite, no gradient is written, so that all are always those of one batch.
        if loss_full.is_finite() {
            let mut gradients = std::mem::take(&mut self.learning().gradients);
            for (i, row) in (self.head()..).zip(of_head) {
                let (weight, bias) = layer_range(&self.layers, i);
                gradients[weight].copy_from_slice(&row.weight);
                gradients[bias].copy_from_slice(&row.bias);
            }
            self.backward(tape, pixels, Wanted::Parameters(&mut gradients));
            self.learning().gradients = gradients;
        }
        Losses {
            loss1,
            loss2,
            loss_full,
        }
    }

    /// The neighbors of the denoised patches that the regularizer is computed on in turn number `turn`.
    fn expected(
        &mut self,
        noisy: &Batch,
        neighbors: &Neighbors,
        lambda: f64,
        turn: u64,
    ) -> Expected {
        let patches = self.method.regularized_patches;
        let patches = match lambda {
            // Nothing of the second forward pass would be left in the loss.
            0.0 => 0,
            _ => patches.map_or(noisy.n, |patches| patches.clamp(1, noisy.n)),
        };
        let target = self.method.target;
        if patches == noisy.n {
            let (first, second) = self.expected_neighbors(noisy, neighbors, target);
            return Expected::new(noisy.n, (0..noisy.n).collect(), first, second);
        }
        let first = (turn % noisy.n as u64) as usize * patches;
        let turn: Vec<usize> = (first..first + patches).map(|i| i % noisy.n).collect();
        if turn.is_empty() {
            return Expected::none(noisy.n);
        }
        let cells = neighbors.h * neighbors.w;
        let images: Vec<f32> = turn.iter().flat_map(|&i| noisy.image(i)).copied().collect();
        let pairs = turn
            .iter()
            .flat_map(|&i| &neighbors.pairs[i * cells..][..cells]);
        let drawn = Neighbors {
            n: patches,
            pairs: pairs.copied().collect(),
            ..*neighbors
        };
        let part = Batch::new(patches, noisy.h, noisy.w, noisy.c, images);
        let (first, second) = self.expected_neighbors(&part, &drawn, target);
        Expected::new(noisy.n, turn, first, second)
    }

    /// The neighbors of the denoised patches, in the layout of the last layer's output.
    fn expected_neighbors(
        &mut self,
        noisy: &Batch,
        neighbors: &Neighbors,
        target: Target,
    ) -> (Batch, Batch) {
        let (first, second) = self.infer_neighbors(noisy, neighbors, target);
        (self.in_blocks(first), self.in_blocks(second))
    }

    /// The first of the 1×1 layers at the end, through which output, loss and gradients go together.
    pub(super) fn head(&self) -> usize {
        let rows = self.layers.iter().rev();
        self.layers.len() - rows.take_while(|row| row.kind == Kind::Conv1x1).count()
    }

    /// The 1×1 layers at the end, forward and backward: turns the output of the layer before them into the
    /// gradient of that layer's sums, and returns the gradients of each layer's parameters and the sums of `loss`.
    pub(super) fn learn_head(
        &self,
        pixels: &mut Tensor,
        loss: impl Fn(Position, &mut [f32]) -> [f64; 2] + Sync,
    ) -> (Vec<Gradients>, [f64; 2]) {
        let rows = self.head()..self.layers.len();
        let backward: Vec<Conv> = rows
            .clone()
            .map(|i| {
                let Layer {
                    inputs, outputs, ..
                } = self.layers[i];
                let weight = &self.parameters[layer_range(&self.layers, i).0];
                Conv::input_gradient(Size::One, outputs, inputs, 0..inputs, weight)
            })
            .collect();
        let layers: Vec<_> = rows
            .zip(&backward)
            .map(|(i, backward)| Pointwise {
                forward: self.packed.conv(&self.parameters, i),
                backward,
                slope: self.layers[i].activation.then_some(LEAKY_SLOPE),
            })
            .collect();
        conv::learn_chain(self.level, &layers, pixels, LEAKY_SLOPE, loss)
    }

    /// The layers before [`Self::head`].
    pub(super) fn forward(&mut self, input: &Batch) -> Tape {
        let mut tape = Tape {
            image: self.upload(input),
            outputs: vec![],
            pools: vec![],
        };
        while tape.outputs.len() < self.head() {
            let i = tape.outputs.len();
            if self.is_merged(&tape, i) {
                let image = &tape.image;
                let input = &tape.outputs[i - 1];
                let side = self.side(i, input.shape(), image);
                let layer = &self.layers[i + 1];
                let mut output = self.arena.take(Shape {
                    c: layer.outputs,
                    ..doubled(input.shape())
                });
                let pair = &self.packed.merged(&self.parameters, i).upconv;
                pair.run(self.level, input, &side, &mut output, epilogue(layer));
                tape.outputs.extend([side, output]);
                continue;
            }
            let output = self.run_layer(i, &self.inputs(&tape, i), false);
            if self.layers[i].pool {
                let mut pooled = self.arena.take(pool::pooled(output.shape()));
                pool::max_pool(&output, &mut pooled);
                tape.pools.push(pooled);
            }
            tape.outputs.push(output);
        }
        tape
    }

    /// Whether layer `i` is a transposed convolution that is merged with the next, whose inputs are the doubled
    /// tensor and at most the image.
    fn is_merged(&self, tape: &Tape, i: usize) -> bool {
        let Some(above) = i.checked_sub(1) else {
            return false;
        };
        let [up, next, ..] = &self.layers[i..self.head()] else {
            return false;
        };
        let pools = self.layers[above].pool || matches!(next.skip, Some(Skip::Pool(_)));
        if up.kind != Kind::Up2x2 || pools {
            return false;
        }
        let Shape { n, h, w, .. } = tape.outputs[above].shape();
        n * h * w >= self.merged_pixels
    }

    /// The input tensors of layer `i`: the layer above (pooled, if it pools), then the skip.
    fn inputs<'a>(&self, tape: &'a Tape, i: usize) -> Vec<&'a Tensor> {
        let main = match i.checked_sub(1) {
            None => &tape.image,
            Some(above) if self.layers[above].pool => &tape.pools[self.pools_before(i) - 1],
            Some(above) => &tape.outputs[above],
        };
        let skip = self.layers[i].skip.map(|skip| match skip {
            Skip::Pool(k) => &tape.pools[k - 1],
            Skip::Image => &tape.image,
        });
        std::iter::once(main).chain(skip).collect()
    }

    /// Poolings in the layers before layer `i`.
    fn pools_before(&self, i: usize) -> usize {
        self.layers[..i].iter().filter(|layer| layer.pool).count()
    }

    /// Computes `wanted`, given the gradient of the sums of the last layer before [`Self::head`].
    pub(super) fn backward(&mut self, tape: Tape, last: Tensor, mut wanted: Wanted) {
        // Gradients of the poolings' outputs, from the decoder layers that read them.
        let mut skipped: Vec<Option<Tensor>> = tape.pools.iter().map(|_| None).collect();
        // The gradient of the layer's output before its activation.
        let mut gradient = last;
        let mut rows = (0..self.head()).rev();
        while let Some(i) = rows.next() {
            if let Wanted::Image(to) = &mut wanted {
                self.add_image_gradient(i, &gradient, to);
            }
            if i > 0 && self.is_merged(&tape, i - 1) {
                let to = self.backward_merged(&tape, i - 1, &gradient, &mut wanted);
                self.arena.give(std::mem::replace(&mut gradient, to));
                rows.next();
                continue;
            }
            let layer = self.layers[i];
            let inputs = self.inputs(&tape, i);
            let channels = input_channels(&self.unet, &layer);
            let (weight, bias) = layer_range(&self.layers, i);
            if let Wanted::Parameters(gradients) = &mut wanted {
                conv::bias_gradient(&gradient, &mut gradients[bias]);
                let to = &mut gradients[weight.clone()];
                if layer.kind == Kind::Up2x2 {
                    upsample::weight_gradient(self.level, inputs[0], &gradient, to);
                } else {
                    let inputs: Vec<_> = inputs
                        .iter()
                        .copied()
                        .zip(channels.iter().copied())
                        .collect();
                    conv::weight_gradient(
                        self.level,
                        &mut self.arena,
                        size(layer.kind),
                        &inputs,
                        &gradient,
                        to,
                    );
                }
            }
            let Some(above) = i.checked_sub(1) else { break };

            let weight = &self.parameters[weight];
            let part = |of| {
                Conv::input_gradient(size(layer.kind), layer.outputs, layer.inputs, of, weight)
            };
            if let Some(Skip::Pool(k)) = layer.skip {
                let mut to = self.arena.take(inputs[1].shape());
                part(channels[0]..layer.inputs).run(
                    self.level,
                    &[&gradient],
                    &mut to,
                    Epilogue::Store,
                );
                skipped[k - 1] = Some(to);
            }
            let pooled = self.layers[above].pool.then(|| self.pools_before(i) - 1);
            let (mut to, epilogue) = match pooled.and_then(|k| skipped[k].take()) {
                Some(to) => (to, Epilogue::Add),
                None => (
                    self.arena.take(inputs[0].shape()),
                    if pooled.is_none() && self.layers[above].activation {
                        Epilogue::Slope(inputs[0], LEAKY_SLOPE)
                    } else {
                        Epilogue::Store
                    },
                ),
            };
            if layer.kind == Kind::Up2x2 {
                InputGradient::new(layer.inputs, layer.outputs, weight)
                    .run(self.level, &gradient, &mut to, epilogue);
            } else {
                part(0..channels[0]).run(self.level, &[&gradient], &mut to, epilogue);
            }
            if pooled.is_some() {
                let activation = &tape.outputs[above];
                let mut before = self.arena.take(activation.shape());
                pool::max_pool_gradient(self.level, activation, &to, LEAKY_SLOPE, &mut before);
                self.arena.give(std::mem::replace(&mut to, before));
            }
            self.arena.give(std::mem::replace(&mut gradient, to));
        }
        self.arena.give(gradient);
        let Tape {
            image,
            outputs,
            pools,
        } = tape;
        for tensor in outputs.into_iter().chain(pools).chain([image]) {
            self.arena.give(tensor);
        }
    }

    /// Adds the contribution of layer `i`, whose sums have the given gradient, to the gradient of the image.
    fn add_image_gradient(&self, i: usize, gradient: &Tensor, to: &mut Tensor) {
        let layer = &self.layers[i];
        let image = match layer.skip {
            Some(Skip::Image) => layer.inputs - self.unet.skip_channels(Skip::Image)..layer.inputs,
            _ if i == 0 => 0..layer.inputs,
            _ => return,
        };
        let weight = &self.parameters[layer_range(&self.layers, i).0];
        Conv::input_gradient(size(layer.kind), layer.outputs, layer.inputs, image, weight).run(
            self.level,
            &[gradient],
            to,
            Epilogue::Add,
        );
    }

    /// Computes the parts of `wanted` that belong to layer `up`, which is merged with the next layer, and to that next
    /// layer, whose sums have the given gradient; returns the gradient of the sums of the layer above both.
    fn backward_merged(
        &mut self,
        tape: &Tape,
        up: usize,
        gradient: &Tensor,
        wanted: &mut Wanted,
    ) -> Tensor {
        let (input, side) = (&tape.outputs[up - 1], &tape.outputs[up]);
        if let Wanted::Parameters(gradients) = wanted {
            let (up_weight, up_bias) = layer_range(&self.layers, up);
            let (weight, bias) = layer_range(&self.layers, up + 1);
            // The parameters of the two layers follow one another.
            let (of_up_weight, rest) =
                gradients[up_weight.start..bias.end].split_at_mut(up_weight.len());
            let (of_up_bias, rest) = rest.split_at_mut(up_bias.len());
            let (of_weight, of_bias) = rest.split_at_mut(weight.len());
            conv::bias_gradient(gradient, of_bias);
            let layers = self.packed.pair(&self.parameters, up);
            let to = upconv::Gradients {
                up_weight: of_up_weight,
                up_bias: of_up_bias,
                weight: of_weight,
            };
            UpConv::weight_gradient(
                self.level,
                &mut self.arena,
                layers,
                input,
                side,
                gradient,
                to,
            );
        }

        let mut to = self.arena.take(input.shape());
        let epilogue = if self.layers[up - 1].activation {
            Epilogue::Slope(input, LEAKY_SLOPE)
        } else {
            Epilogue::Store
        };
        let pair = &self.packed.merged(&self.parameters, up).upconv;
        pair.input_gradient(self.level, gradient, &mut to, epilogue);
        to
    }
}
