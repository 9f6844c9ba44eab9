//! Training: one step of Neighbor2Neighbor. A forward pass that keeps what the gradients need (the
//! tape), the gradients from the last row to the first, one Adam update.

use n2n_kernels::Epilogue;
use n2n_kernels::adam::Adam;
use n2n_kernels::conv::{self, Conv};
use n2n_kernels::pool;
use n2n_kernels::tensor::Tensor;
use n2n_kernels::upsample::{self, InputGradient};

use super::packed::{input_channels, layer_range, size};
use super::{CpuNetwork, Learning};
use crate::batch::Batch;
use crate::neighbors::Neighbors;
use crate::network::{LossFactors, Losses};
use crate::unet::{Kind, LEAKY_SLOPE, Skip};

/// What a forward pass leaves for the gradients.
struct Tape {
    image: Tensor,
    /// The output of each layer, before pooling.
    outputs: Vec<Tensor>,
    /// The output of each pooling.
    pools: Vec<Tensor>,
}

impl CpuNetwork {
    /// One step on a batch whose size the caller has checked.
    pub(super) fn learn(
        &mut self,
        noisy: &Batch,
        neighbors: &Neighbors,
        factors: LossFactors,
        learning_rate: f64,
    ) -> Losses {
        let (input, target) = neighbors.sub_sample(noisy);
        let (expected1, expected2) = if factors.lambda == 0.0 {
            // Nothing of the second forward pass would be left in the loss.
            (target.clone(), target.clone())
        } else {
            let expected = self.infer(noisy);
            neighbors.sub_sample(&expected)
        };

        let tape = self.forward(&input);
        let output = tape.outputs.last().expect("the network has layers");
        let mut denoised = Batch::zeros(input.n, input.h, input.w, input.c);
        output.copy_to(&mut denoised.data);

        // diff = f(g1(y)) − g2(y) and exp_diff = g1(f(y)) − g2(f(y)), pixel by pixel.
        let count = denoised.data.len() as f64;
        let (mut reconstruction, mut regulariser) = (0.0, 0.0);
        let mut gradient = denoised;
        let expected = expected1.data.iter().zip(&expected2.data);
        for ((value, &target), (&first, &second)) in
            gradient.data.iter_mut().zip(&target.data).zip(expected)
        {
            let diff = f64::from(*value) - f64::from(target);
            let gap = diff - (f64::from(first) - f64::from(second));
            reconstruction += diff * diff;
            regulariser += gap * gap;
            let slope = factors.lambda1 * diff + factors.lambda2 * factors.lambda * gap;
            *value = (2.0 * slope / count) as f32;
        }
        let loss1 = reconstruction / count;
        let loss2 = factors.lambda * (regulariser / count);
        let loss_full = factors.lambda1 * loss1 + factors.lambda2 * loss2;
        let mut losses = Losses {
            loss1,
            loss2,
            loss_full,
        };

        if loss_full.is_finite() {
            let gradient = self.upload(&gradient);
            if self.backward(tape, gradient) {
                self.update(learning_rate);
            } else {
                losses.loss_full = f64::NAN;
            }
        }
        losses
    }

    fn forward(&mut self, input: &Batch) -> Tape {
        let mut tape = Tape {
            image: self.upload(input),
            outputs: vec![],
            pools: vec![],
        };
        for i in 0..self.layers.len() {
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

    /// The input tensors of layer `i`: the row above (pooled, if it pools), then the skip.
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

    /// Poolings in the rows before row `i`.
    fn pools_before(&self, i: usize) -> usize {
        self.layers[..i].iter().filter(|layer| layer.pool).count()
    }

    /// Fills the gradients of all parameters from that of the network's output; tells whether all
    /// are finite, and their squares too, which the optimiser sums in f32.
    fn backward(&mut self, tape: Tape, output_gradient: Tensor) -> bool {
        let mut gradients = match &mut self.learning {
            Some(learning) => std::mem::take(&mut learning.gradients),
            None => vec![0.0; self.parameters.len()],
        };
        // Gradients of the poolings' outputs, from the decoder rows that read them.
        let mut skipped: Vec<Option<Tensor>> = tape.pools.iter().map(|_| None).collect();
        // The gradient of the row's output before its activation.
        let mut gradient = output_gradient;
        for i in (0..self.layers.len()).rev() {
            let layer = self.layers[i];
            let inputs = self.inputs(&tape, i);
            let channels = input_channels(&self.unet, &layer);
            let (weight, bias) = layer_range(&self.layers, i);
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
                conv::weight_gradient(self.level, size(layer.kind), &inputs, &gradient, to);
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
        let finite = gradients
            .iter()
            .all(|gradient| (gradient * gradient).is_finite());
        let parameters = self.parameters.len();
        self.learning
            .get_or_insert_with(|| Learning {
                adam: Adam::new(parameters),
                gradients: vec![],
            })
            .gradients = gradients;
        finite
    }

    /// One Adam update from the gradients of [`Self::backward`].
    fn update(&mut self, learning_rate: f64) {
        let learning = self.learning.as_mut().expect("gradients before the update");
        learning.adam.step(
            self.level,
            &mut self.parameters,
            &learning.gradients,
            learning_rate,
        );
        self.forget_packed();
    }
}
