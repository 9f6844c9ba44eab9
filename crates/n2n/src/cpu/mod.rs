//! The network on the CPU: the rows of [`UNet`] on the kernels of `n2n-kernels`.

mod infer;
mod learn;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use rayon::prelude::*;

use n2n_kernels::Epilogue;
pub use n2n_kernels::Level;
use n2n_kernels::adam::Adam;
use n2n_kernels::conv::{Conv, Size};
use n2n_kernels::pool;
use n2n_kernels::tensor::{Arena, Shape, Tensor};
use n2n_kernels::upsample::Upsample;

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::neighbors::Neighbors;
use crate::network::{LossFactors, Losses, Network};
use crate::unet::{INIT_SCALE, Kind, LEAKY_SLOPE, Layer, UNet};
use crate::weights::Weights;

/// The network on the CPU.
///
/// It runs on the threads of the rayon pool it is called in; its results do not depend on their
/// number. Memory is kept from call to call, for batches of about one size.
pub struct CpuNetwork {
    unet: UNet,
    layers: [Layer; UNet::LAYERS],
    level: Level,
    /// All weights and biases, laid out as [`UNet::tensors`] says.
    parameters: Vec<f32>,
    /// The layers as the kernels take them; made from the parameters when first needed.
    packed: Option<Vec<Packed>>,
    arena: Arena,
    /// Pixels of the batches that the arena's memory is for.
    kept_for: usize,
    /// What training needs; made by the first step.
    learning: Option<Learning>,
}

/// A layer packed for its forward computation.
#[allow(clippy::large_enum_variant, reason = "there are 25 of them")]
enum Packed {
    Conv(Conv),
    Up(Upsample),
}

/// What training needs beside the weights.
struct Learning {
    adam: Adam,
    /// The gradients of the last step, laid out as the parameters.
    gradients: Vec<f32>,
}

impl CpuNetwork {
    /// A network with the reference's initial weights: Kaiming normal (fan-in, a = 0) times
    /// [`INIT_SCALE`], biases zero.
    pub fn initial(unet: UNet, seed: u64) -> Self {
        Self::initial_scaled(unet, INIT_SCALE, seed)
    }

    /// [`CpuNetwork::initial`] with another factor than the reference's.
    pub fn initial_scaled(unet: UNet, scale: f64, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut parameters = Vec::with_capacity(unet.parameters());
        for layer in unet.layers() {
            let weights: usize = layer.weight_shape().iter().product();
            let deviation = scale * (2.0 / layer.fan_in() as f64).sqrt();
            let normal = || deviation * rng.sample::<f64, _>(StandardNormal);
            parameters.extend(
                std::iter::repeat_with(normal)
                    .take(weights)
                    .map(|w| w as f32),
            );
            parameters.extend((0..layer.outputs).map(|_| 0.0));
        }
        Self::new(unet, parameters)
    }

    /// A network with given weights; its sizes follow from their shapes.
    pub fn from_weights(weights: &Weights) -> Result<Self> {
        let unet = weights.architecture()?;
        Ok(Self::new(unet, weights.to_parameters(&unet)?))
    }

    fn new(unet: UNet, parameters: Vec<f32>) -> Self {
        Self {
            unet,
            layers: unet.layers(),
            level: Level::detect(),
            parameters,
            packed: None,
            arena: Arena::default(),
            kept_for: 0,
            learning: None,
        }
    }

    /// The processor level the kernels run at.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Runs the kernels at another level from now on.
    pub fn set_level(&mut self, level: Level) {
        self.level = level;
    }

    /// The gradients of the last step by tensor name; all zero before the first.
    pub fn gradients(&self) -> Weights {
        let zeros;
        let gradients = if let Some(learning) = &self.learning {
            &learning.gradients
        } else {
            zeros = vec![0.0; self.parameters.len()];
            &zeros
        };
        Weights::from_parameters(&self.unet, gradients)
    }

    /// Weight and bias of layer `i` in a vector laid out as the parameters.
    fn layer_ranges(&self) -> Vec<(std::ops::Range<usize>, std::ops::Range<usize>)> {
        let mut offset = 0;
        self.layers
            .iter()
            .map(|layer| {
                let bias = offset + layer.weight_shape().iter().product::<usize>();
                let end = bias + layer.outputs;
                let ranges = (offset..bias, bias..end);
                offset = end;
                ranges
            })
            .collect()
    }

    /// Packs the layers if the parameters have changed since.
    fn pack(&mut self) {
        if self.packed.is_some() {
            return;
        }
        let ranges = self.layer_ranges();
        let pack = |(layer, (weight, bias)): (&Layer, _)| {
            let (weight, bias): (&[f32], &[f32]) =
                (&self.parameters[weight], &self.parameters[bias]);
            match layer.kind {
                Kind::Up2x2 => Packed::Up(Upsample::forward(layer.inputs, weight, bias)),
                Kind::Conv3x3 | Kind::Conv1x1 => {
                    let channels = self.input_channels(layer);
                    Packed::Conv(Conv::forward(size(layer.kind), &channels, weight, bias))
                }
            }
        };
        let packed = self.layers.par_iter().zip(ranges).map(pack).collect();
        self.packed = Some(packed);
    }

    /// Channels of the row above, then those of the skip if there is one.
    fn input_channels(&self, layer: &Layer) -> Vec<usize> {
        match layer.skip {
            None => vec![layer.inputs],
            Some(skip) => {
                let second = self.unet.skip_channels(skip);
                vec![layer.inputs - second, second]
            }
        }
    }

    /// Gives back memory that is for batches of quite another size: it would only lie beside what
    /// this size needs.
    fn keep_memory_for(&mut self, batch: &Batch) {
        let pixels = batch.n * batch.h * batch.w;
        if pixels > self.kept_for || 2 * pixels < self.kept_for {
            self.arena.clear();
            self.kept_for = pixels;
        }
    }

    /// The images as the kernels take them.
    fn upload(&mut self, batch: &Batch) -> Tensor {
        let shape = Shape {
            n: batch.n,
            h: batch.h,
            w: batch.w,
            c: batch.c,
        };
        let mut tensor = self.arena.take(shape);
        tensor.fill_from(&batch.data);
        tensor
    }

    /// Runs layer `i`, packed before, on its inputs; with `pooled`, its pooling too.
    fn run_layer(&mut self, i: usize, inputs: &[&Tensor], pooled: bool) -> Tensor {
        let layer = &self.layers[i];
        let from = inputs[0].shape();
        let grown = if layer.kind == Kind::Up2x2 { 2 } else { 1 };
        let full = Shape {
            n: from.n,
            h: grown * from.h,
            w: grown * from.w,
            c: layer.outputs,
        };
        let mut output = self
            .arena
            .take(if pooled { pool::pooled(full) } else { full });
        match &self
            .packed
            .as_ref()
            .expect("packed before the layers are run")[i]
        {
            Packed::Up(up) => up.run(self.level, inputs[0], &mut output),
            Packed::Conv(conv) if pooled => {
                let arena = &mut self.arena;
                conv.run_pooled(self.level, inputs, &mut output, epilogue(layer), arena);
            }
            Packed::Conv(conv) => conv.run(self.level, inputs, &mut output, epilogue(layer)),
        }
        output
    }

    /// Refuses images the network cannot take.
    fn check(&self, batch: &Batch, multiple: usize) -> Result<()> {
        if batch.c != self.unet.n_channel {
            return Err(Error::value(
                "channels of the image",
                self.unet.n_channel,
                batch.c,
            ));
        }
        let fits = |size: usize| size > 0 && size.is_multiple_of(multiple);
        if batch.n == 0 || !fits(batch.h) || !fits(batch.w) {
            let got = format!("{} of {}x{}", batch.n, batch.h, batch.w);
            let expected = format!("at least one, height and width multiples of {multiple}");
            return Err(Error::value("images for the network", expected, got));
        }
        Ok(())
    }
}

/// What follows a layer's sums.
fn epilogue(layer: &Layer) -> Epilogue<'static> {
    if layer.activation {
        Epilogue::LeakyRelu(LEAKY_SLOPE)
    } else {
        Epilogue::Store
    }
}

/// The side of a convolution's kernel.
fn size(kind: Kind) -> Size {
    match kind {
        Kind::Conv3x3 => Size::Three,
        Kind::Conv1x1 => Size::One,
        Kind::Up2x2 => unreachable!("a transposed convolution has kernels of its own"),
    }
}

impl Network for CpuNetwork {
    fn architecture(&self) -> UNet {
        self.unet
    }

    fn denoise(&mut self, noisy: &Batch) -> Result<Batch> {
        self.check(noisy, UNet::SIZE_MULTIPLE)?;
        self.keep_memory_for(noisy);
        Ok(self.infer(noisy))
    }

    fn step(
        &mut self,
        noisy: &Batch,
        neighbors: &Neighbors,
        factors: LossFactors,
        learning_rate: f64,
    ) -> Result<Losses> {
        self.check(noisy, 2 * UNet::SIZE_MULTIPLE)?;
        let cells = (noisy.n, noisy.h / 2, noisy.w / 2);
        if (neighbors.n, neighbors.h, neighbors.w) != cells {
            let got = format!("{:?}", (neighbors.n, neighbors.h, neighbors.w));
            return Err(Error::value(
                "cells of the neighbours' draw",
                format!("{cells:?}"),
                got,
            ));
        }
        self.keep_memory_for(noisy);
        Ok(self.learn(noisy, neighbors, factors, learning_rate))
    }

    fn weights(&self) -> Weights {
        Weights::from_parameters(&self.unet, &self.parameters)
    }

    fn set_weights(&mut self, weights: &Weights) -> Result<()> {
        self.parameters = weights.to_parameters(&self.unet)?;
        self.packed = None;
        self.learning = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initial_weights_have_the_references_spread() {
        let unet = UNet::default();
        let network = CpuNetwork::initial(unet, 1);
        for (layer, (weight, bias)) in unet.layers().iter().zip(network.layer_ranges()) {
            let weight = &network.parameters[weight];
            let n = weight.len() as f64;
            let square: f64 = weight.iter().map(|&w| f64::from(w).powi(2)).sum();
            let want = 0.1 * (2.0 / layer.fan_in() as f64).sqrt();
            // Six standard errors of the deviation of n normal draws.
            let bound = 6.0 * want / (2.0 * n).sqrt();
            assert!(((square / n).sqrt() - want).abs() < bound, "{}", layer.name);
            assert!(network.parameters[bias].iter().all(|&b| b == 0.0));
        }
    }

    #[test]
    fn images_the_network_cannot_take_are_refused() {
        let mut network = CpuNetwork::initial(UNet::new(2, 3).unwrap(), 1);
        for (n, h, w, c) in [
            (1, 33, 32, 3),
            (1, 0, 32, 3),
            (0, 32, 32, 3),
            (1, 32, 32, 1),
        ] {
            assert!(
                network.denoise(&Batch::zeros(n, h, w, c)).is_err(),
                "{n} {h} {w} {c}"
            );
        }
    }
}
