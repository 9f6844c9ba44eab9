//! The network on the CPU: the layers of [`UNet`] on the kernels of `n2n-kernels`.

mod device;
mod half;
mod image_gradient;
mod infer;
mod learn;
mod packed;

use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use n2n_kernels::Epilogue;
use n2n_kernels::adam::Adam;
use n2n_kernels::arena::Arena;
use n2n_kernels::half::Units;
use n2n_kernels::pool;
use n2n_kernels::tensor::{Shape, Tensor};
pub use n2n_kernels::{Level, LevelError};

use self::packed::Packed;
use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::neighbors::Neighbors;
use crate::network::{self, LossFactors, Losses, Method, State};
use crate::unet::{INIT_SCALE, Kind, LEAKY_SLOPE, Layer, UNet};
use crate::weights::Weights;

/// The minimum number of input pixels for which merging an upsampling with the next layer pays. The merged filter is
/// larger than the two it replaces, is read once for every few hundred pixels, and in training is packed again for
/// every step (decision 10).
const MERGED_PIXELS: usize = 1 << 12;

/// The minimum number of pixels for which the layers of a middle level of the decoder run in bands, as those at full
/// size always do. It saves memory, of which small images need little.
const BANDED_PIXELS: usize = 1 << 18;

/// The network on the CPU.
///
/// It runs on the threads of the rayon pool that it is called in; its results do not depend on their number. Memory is
/// kept between calls, until a batch is larger than those before or less than an eighth as large.
pub struct CpuNetwork {
    unet: UNet,
    layers: Arc<[Layer]>,
    level: Level,
    /// All weights and biases, laid out as [`UNet::tensors`] says. Shared between [forks](network::Denoise::fork).
    parameters: Arc<Vec<f32>>,
    /// The layers as the kernels take them, packed from the current parameters.
    packed: Arc<Packed>,
    /// The matrix units on which images are denoised in half precision, if they are.
    half: Option<Units>,
    /// Those for the regularizer's pass, likewise.
    regularizer_half: Option<Units>,
    /// See [`MERGED_PIXELS`].
    merged_pixels: usize,
    /// See [`BANDED_PIXELS`].
    banded_pixels: usize,
    arena: Arena,
    spare: half::Spare,
    /// Pixels of the batches that the arena's memory is for.
    kept_for: usize,
    /// The state of training, created by the first step.
    learning: Option<Learning>,
    /// How steps estimate the gradient and update the weights.
    method: Method,
    /// The running average of the parameters, once there is one.
    average: Option<Vec<f32>>,
}

/// The state of training, other than the weights.
struct Learning {
    adam: Adam,
    /// The gradients of the last step whose losses were finite, laid out as the parameters.
    gradients: Vec<f32>,
}

impl Learning {
    /// Nothing learned yet.
    fn new(parameters: usize) -> Self {
        Self {
            adam: Adam::new(parameters),
            gradients: vec![0.0; parameters],
        }
    }
}

impl CpuNetwork {
    /// A network with the reference's initial weights: Kaiming normal (fan-in, a = 0) times
    /// [`INIT_SCALE`], biases zero.
    pub fn initial(unet: UNet, seed: u64) -> Self {
        Self::initial_scaled(unet, INIT_SCALE, seed)
    }

    /// [`CpuNetwork::initial`] with a factor other than the reference's.
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

    /// A network with the given weights; its sizes follow from their shapes and metadata.
    pub fn from_weights(weights: &Weights) -> Result<Self> {
        let unet = weights.architecture()?;
        Ok(Self::new(unet, weights.to_parameters(&unet)?))
    }

    fn new(unet: UNet, parameters: Vec<f32>) -> Self {
        let level = Level::detect();
        let layers: Arc<[Layer]> = unet.layers().into();
        Self {
            unet,
            level,
            parameters: Arc::new(parameters),
            packed: Arc::new(Packed::new(unet, &layers, level)),
            layers,
            half: None,
            regularizer_half: None,
            merged_pixels: MERGED_PIXELS,
            banded_pixels: BANDED_PIXELS,
            arena: Arena::default(),
            spare: half::Spare::default(),
            kept_for: 0,
            learning: None,
            method: Method::default(),
            average: None,
        }
    }

    /// The architecture.
    pub fn architecture(&self) -> UNet {
        self.unet
    }

    /// [`Train::step`](network::Train::step) on noisy patches and the neighbors drawn on them.
    pub fn step(
        &mut self,
        noisy: &Batch,
        neighbors: &Neighbors,
        factors: LossFactors,
        learning_rate: f64,
    ) -> Result<Losses> {
        self.step_on(&[(noisy, neighbors)], factors, learning_rate)
    }

    /// [`Self::step`] with the mean gradient of several batches.
    fn step_on(
        &mut self,
        batches: &[(&Batch, &Neighbors)],
        factors: LossFactors,
        learning_rate: f64,
    ) -> Result<Losses> {
        network::check_count(batches.len())?;
        for (noisy, neighbors) in batches {
            network::check_step(&self.unet, noisy, neighbors)?;
            self.keep_memory_for(noisy);
        }
        Ok(in_pool(|| self.learn(batches, factors, learning_rate)))
    }

    /// [`Train::step_towards`](network::Train::step_towards)
    pub fn step_towards(
        &mut self,
        noisy: &Batch,
        target: &Batch,
        learning_rate: f64,
    ) -> Result<Losses> {
        self.step_on_targets(&[(noisy, target)], learning_rate)
    }

    /// [`Self::step_towards`] with the mean gradient of several batches.
    fn step_on_targets(
        &mut self,
        batches: &[(&Batch, &Batch)],
        learning_rate: f64,
    ) -> Result<Losses> {
        network::check_count(batches.len())?;
        for (noisy, target) in batches {
            network::check_targets(&self.unet, noisy, target)?;
            self.keep_memory_for(noisy);
        }
        Ok(in_pool(|| self.learn_towards(batches, learning_rate)))
    }

    /// The processor level the kernels run at.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Sets the level that the kernels run at.
    pub fn set_level(&mut self, level: Level) {
        self.level = level;
        self.forget_packed();
    }

    /// Sets whether [`Denoise::denoise`](network::Denoise::denoise) computes in half precision, on matrix units for
    /// bfloat16 (AMX, on Intel's servers since Sapphire Rapids), which is about twice as fast. Each layer then rounds
    /// to about one part in 500. Steps of training are not affected: see [`Method::half`].
    ///
    /// # Errors
    /// If the processor has no such units, or the system does not allow their use.
    pub fn set_half(&mut self, half: bool) -> Result<()> {
        self.half = half.then(units).transpose()?;
        Ok(())
    }

    /// The name of the processor's matrix units, if [`CpuNetwork::set_half`] can use them.
    pub fn matrix_units() -> Option<&'static str> {
        Units::detect().map(Units::name)
    }

    /// A copy of the weights; here it cannot fail.
    pub fn weights(&self) -> Weights {
        Weights::from_parameters(&self.unet, &self.parameters)
    }

    /// A copy of everything that the next step depends on; here it cannot fail.
    pub fn state(&self) -> State {
        let named = |values: &[f32]| Weights::from_parameters(&self.unet, values);
        let fresh;
        let adam = if let Some(learning) = &self.learning {
            &learning.adam
        } else {
            fresh = Adam::new(self.parameters.len());
            &fresh
        };
        State {
            weights: self.weights(),
            first: named(&adam.first),
            second: named(&adam.second),
            steps: adam.steps,
            average: self.average.as_deref().map(named),
        }
    }

    /// The gradients of the last step whose losses were finite, by tensor name; all zero before the first.
    ///
    /// They may be non-finite themselves: that step then reported NaN and changed nothing else, and they show where it
    /// went wrong.
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

    /// Discards the packed layers, because the parameters have changed.
    fn forget_packed(&mut self) {
        self.packed = Arc::new(Packed::new(self.unet, &self.layers, self.level));
    }

    /// Frees memory that was kept for smaller batches, which is too small, or for batches more than eight times as
    /// large, most of which this size does not need.
    fn keep_memory_for(&mut self, batch: &Batch) {
        self.arena.follow(None);
        let pixels = batch.n * batch.h * batch.w;
        if pixels > self.kept_for || 8 * pixels < self.kept_for {
            self.arena.clear();
            self.spare.clear();
            self.kept_for = pixels;
        }
    }

    /// The images in the layout of the first layer's input.
    fn in_blocks(&self, images: Batch) -> Batch {
        match self.unet.pixel_shuffle {
            1 => images,
            block => images.space_to_depth(block),
        }
    }

    /// The images in the kernels' layout.
    fn upload(&mut self, batch: &Batch) -> Tensor {
        let block = self.unet.pixel_shuffle;
        let mut tensor = self.arena.take(Shape {
            n: batch.n,
            h: batch.h / block,
            w: batch.w / block,
            c: self.unet.block_channels(),
        });
        tensor.fill_from_blocks(&batch.data, block);
        tensor
    }

    /// The images in their original layout, from a tensor that is no longer needed.
    fn download(&mut self, tensor: Tensor) -> Batch {
        let Shape { n, h, w, c } = tensor.shape();
        let block = self.unet.pixel_shuffle;
        let mut batch = Batch::zeros(n, block * h, block * w, c / (block * block));
        tensor.copy_to_blocks(&mut batch.data, block);
        self.arena.give(tensor);
        batch
    }

    /// Runs layer `i` on its inputs; with `pooled`, its pooling too.
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
        if layer.kind == Kind::Up2x2 {
            let up = self.packed.upsample(&self.parameters, i);
            up.run(self.level, inputs[0], &mut output);
            return output;
        }
        let conv = self.packed.conv(&self.parameters, i);
        if pooled {
            let arena = &mut self.arena;
            conv.run_pooled(self.level, inputs, &mut output, epilogue(layer), arena);
        } else {
            conv.run(self.level, inputs, &mut output, epilogue(layer));
        }
        output
    }
}

/// The shape of a batch.
fn shape(batch: &Batch) -> Shape {
    Shape {
        n: batch.n,
        h: batch.h,
        w: batch.w,
        c: batch.c,
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

/// The processor's matrix units.
fn units() -> Result<Units> {
    let expected = "a processor with matrix units for bfloat16 (AMX)";
    Units::detect().ok_or_else(|| Error::value("half precision", expected, "none"))
}

/// Runs `run` on a thread of the pool. If it ran on a thread outside, each of about a hundred layers and parts of
/// layers would put that thread to sleep and wake it again.
///
/// A thread of the pool that waits for a layer of one network may begin with `run` of another, and finishes it
/// first.
fn in_pool<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    rayon::scope(|_| run())
}

#[cfg(test)]
pub(crate) mod tests;
