//! The network on the CPU: the rows of [`UNet`] on the kernels of `n2n-kernels`.

mod image_gradient;
mod infer;
mod learn;
mod packed;

use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use rayon::prelude::*;

use n2n_kernels::Epilogue;
use n2n_kernels::adam::Adam;
use n2n_kernels::bands;
use n2n_kernels::pool;
use n2n_kernels::tensor::{Arena, Shape, Tensor};
pub use n2n_kernels::{Level, LevelError};

use self::packed::Packed;
use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::neighbors::Neighbors;
use crate::network::{self, Denoise, LossFactors, Losses, Method, Sample, State, Train};
use crate::unet::{Grid, INIT_SCALE, Kind, LEAKY_SLOPE, Layer, UNet};
use crate::weights::Weights;

/// The network on the CPU.
///
/// It runs on the threads of the rayon pool it is called in; its results do not depend on their
/// number. Memory is kept from call to call, for batches of about one size.
pub struct CpuNetwork {
    unet: UNet,
    layers: Arc<[Layer]>,
    level: Level,
    /// All weights and biases, laid out as [`UNet::tensors`] says. Shared between [forks](Denoise::fork).
    parameters: Arc<Vec<f32>>,
    /// The layers as the kernels take them, packed from the parameters as they are.
    packed: Arc<Packed>,
    /// See [`infer::MERGED_PIXELS`].
    merged_pixels: usize,
    arena: Arena,
    /// Pixels of the batches that the arena's memory is for.
    kept_for: usize,
    /// What training needs; made by the first step.
    learning: Option<Learning>,
    /// How steps are taken.
    method: Method,
    /// The running average of the parameters, once there is one.
    average: Option<Vec<f32>>,
}

/// What training needs beside the weights.
struct Learning {
    adam: Adam,
    /// The gradients of the last step whose losses, before their gradients, were finite, laid out as the parameters.
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
        let level = Level::detect();
        let layers: Arc<[Layer]> = unet.layers().into();
        Self {
            unet,
            level,
            parameters: Arc::new(parameters),
            packed: Arc::new(Packed::new(unet, &layers, level)),
            layers,
            merged_pixels: infer::MERGED_PIXELS,
            arena: Arena::default(),
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

    /// [`Train::step`] on noisy patches and the neighbors drawn on them.
    pub fn step(
        &mut self,
        noisy: &Batch,
        neighbors: &Neighbors,
        factors: LossFactors,
        learning_rate: f64,
    ) -> Result<Losses> {
        network::check_step(&self.unet, noisy, neighbors)?;
        self.keep_memory_for(noisy);
        Ok(in_pool(|| {
            self.learn(noisy, neighbors, factors, learning_rate)
        }))
    }

    /// [`Train::step_towards`]
    pub fn step_towards(
        &mut self,
        noisy: &Batch,
        target: &Batch,
        learning_rate: f64,
    ) -> Result<Losses> {
        network::check_targets(&self.unet, noisy, target)?;
        self.keep_memory_for(noisy);
        Ok(in_pool(|| self.learn_towards(noisy, target, learning_rate)))
    }

    /// The processor level the kernels run at.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Runs the kernels at another level from now on.
    pub fn set_level(&mut self, level: Level) {
        self.level = level;
        self.forget_packed();
    }

    /// A copy of the weights, in the order of [`UNet::tensors`]; here it cannot fail.
    pub fn weights(&self) -> Weights {
        Weights::from_parameters(&self.unet, &self.parameters)
    }

    /// A copy of all that the next step depends on; here it cannot fail.
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

    /// The gradients of the last step whose losses, before their gradients, were finite, by tensor name; all
    /// zero before the first.
    ///
    /// They need not be finite themselves: then that step has reported NaN and changed nothing else, and they
    /// tell where it went wrong.
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

    /// Has the layers packed again; for when what they were packed from has changed.
    fn forget_packed(&mut self) {
        self.packed = Arc::new(Packed::new(self.unet, &self.layers, self.level));
    }

    /// Gives back memory that is for batches of quite another size: it would only lie beside what
    /// this size needs.
    fn keep_memory_for(&mut self, batch: &Batch) {
        let pixels = batch.n * batch.h * batch.w;
        if pixels > self.kept_for || 8 * pixels < self.kept_for {
            self.arena.clear();
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

    /// The images as the kernels take them.
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

    /// The images as they came, from a tensor that is not needed any more.
    fn download(&mut self, tensor: Tensor) -> Batch {
        let Shape { n, h, w, c } = tensor.shape();
        let block = self.unet.pixel_shuffle;
        let mut batch = Batch::zeros(n, block * h, block * w, c / (block * block));
        tensor.copy_to_blocks(&mut batch.data, block);
        self.arena.give(tensor);
        batch
    }

    /// Runs row `i` on its inputs; with `pooled`, its pooling too.
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

/// Runs `run` on a thread of the pool. Called from a thread outside, each of some hundred layers and parts of
/// layers would put that to sleep and wake it again.
///
/// A thread of the pool that waits for a layer of one network may begin with `run` of another, and finishes it
/// first.
fn in_pool<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    rayon::scope(|_| run())
}

impl Denoise for CpuNetwork {
    fn channels(&self) -> usize {
        self.unet.n_channel
    }

    fn grid(&self) -> Grid {
        self.unet.grid()
    }

    fn denoise(&mut self, noisy: &Batch) -> Result<Batch> {
        network::check_images(&self.unet, noisy)?;
        self.keep_memory_for(noisy);
        Ok(in_pool(|| self.infer(noisy)))
    }

    fn working_bytes(&self, h: usize, w: usize) -> u64 {
        // At the resolution of the first layer only the image and the result are whole, in vectors of eight; the
        // layers of half its height and width weigh most: a kept pooling, and the input and output of
        // a layer.
        let UNet {
            n_feature,
            pixel_shuffle: block,
            ..
        } = self.unet;
        let (h, w) = (h / block, w / block);
        let image = self.unet.block_channels().next_multiple_of(8);
        let per_pixel = 4 * (4 * image + (n_feature + 2 * 2 * n_feature) / 4);
        let window = bands::window(Shape {
            n: 1,
            h,
            w,
            c: self.unet.widest(),
        });
        // The weights, and the same packed, of which Winograd's algorithm makes four times as many.
        let fixed = 4 * (window.h * window.w * window.c + 6 * self.parameters.len()) + (16 << 20);
        (h * w * per_pixel + fixed) as u64
    }

    fn device(&self) -> String {
        format!("cpu {}", self.level)
    }

    fn fork(&self) -> Option<Box<dyn Denoise>> {
        Some(Box::new(Self {
            unet: self.unet,
            layers: Arc::clone(&self.layers),
            level: self.level,
            parameters: Arc::clone(&self.parameters),
            packed: Arc::clone(&self.packed),
            merged_pixels: self.merged_pixels,
            arena: Arena::default(),
            kept_for: 0,
            learning: None,
            method: self.method,
            average: None,
        }))
    }
}

impl Train for CpuNetwork {
    fn architecture(&self) -> UNet {
        self.unet
    }

    fn step(
        &mut self,
        sample: &Sample,
        factors: LossFactors,
        learning_rate: f64,
    ) -> Result<Option<Losses>> {
        match sample {
            Sample::Noisy(noisy, neighbors) => self
                .step(noisy, neighbors, factors, learning_rate)
                .map(Some),
            Sample::Clean(_) => Err(Error::value(
                "patches of a step on the CPU",
                "noisy patches with drawn neighbors",
                "clean patches",
            )),
        }
    }

    fn step_towards(
        &mut self,
        noisy: &Batch,
        target: &Batch,
        learning_rate: f64,
    ) -> Result<Losses> {
        self.step_towards(noisy, target, learning_rate)
    }

    fn set_method(&mut self, method: Method) -> Result<()> {
        self.method = method;
        Ok(())
    }

    fn weights(&self) -> Result<Weights> {
        Ok(self.weights())
    }

    fn set_weights(&mut self, weights: &Weights) -> Result<()> {
        self.parameters = Arc::new(weights.to_parameters(&self.unet)?);
        self.forget_packed();
        self.learning = None;
        self.average = None;
        Ok(())
    }

    fn state(&self) -> Result<State> {
        Ok(self.state())
    }

    fn set_state(&mut self, state: &State) -> Result<()> {
        let flat = |weights: &Weights| weights.to_parameters(&self.unet);
        let parameters = flat(&state.weights)?;
        let adam = Adam {
            first: flat(&state.first)?,
            second: flat(&state.second)?,
            steps: state.steps,
        };
        let average = state.average.as_ref().map(flat).transpose()?;
        self.learning = Some(Learning {
            gradients: vec![0.0; parameters.len()],
            adam,
        });
        self.parameters = Arc::new(parameters);
        self.average = average;
        self.forget_packed();
        Ok(())
    }

    fn average(&mut self, decay: f64) {
        let Some(average) = &mut self.average else {
            self.average = Some(self.parameters.to_vec());
            return;
        };
        let share = (1.0 - decay) as f32;
        average
            .par_iter_mut()
            .with_min_len(1 << 14)
            .zip(&*self.parameters)
            .for_each(|(average, &parameter)| *average += share * (parameter - *average));
    }

    fn swap_average(&mut self) {
        if let Some(average) = &mut self.average {
            std::mem::swap(average, Arc::make_mut(&mut self.parameters));
            self.forget_packed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::neighbors::Target;

    #[test]
    fn initial_weights_have_the_references_spread() {
        let unet = UNet::default();
        let network = CpuNetwork::initial(unet, 1);
        for (i, layer) in unet.layers().iter().enumerate() {
            let (weight, bias) = packed::layer_range(&network.layers, i);
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

    #[test]
    fn batches_and_draws_that_contradict_themselves_are_refused() {
        let mut network = CpuNetwork::initial(UNet::new(2, 1).unwrap(), 1);
        let before = network.state();
        let (noisy, neighbors) = drawn(1);
        let mut short = noisy.clone();
        short.data.pop();
        assert!(network.denoise(&short).is_err());
        let mut few = neighbors.clone();
        few.pairs.pop();
        let mut wild = neighbors.clone();
        wild.pairs[0] = 8;
        for (noisy, neighbors) in [(&short, &neighbors), (&noisy, &few), (&noisy, &wild)] {
            let factors = factors(1.0, 1.0, 0.5);
            assert!(network.step(noisy, neighbors, factors, 1e-3).is_err());
        }
        assert!(network.state() == before);
    }

    /// A step on noise that follows from `k`.
    fn step(network: &mut CpuNetwork, k: u64, lambda: f64) -> Losses {
        let (noisy, neighbors) = drawn(k);
        let factors = factors(1.0, 1.0, lambda);
        network.step(&noisy, &neighbors, factors, 1e-3).unwrap()
    }

    fn factors(lambda1: f64, lambda2: f64, lambda: f64) -> LossFactors {
        LossFactors {
            lambda1,
            lambda2,
            lambda,
        }
    }

    /// Noise and neighbors that follow from `k`.
    fn drawn(k: u64) -> (Batch, Neighbors) {
        let mut rng = ChaCha8Rng::seed_from_u64(k);
        let mut noisy = Batch::zeros(1, 64, 64, 1);
        noisy.data.fill_with(|| rng.random());
        let neighbors = Neighbors::draw(&noisy, &mut rng);
        (noisy, neighbors)
    }

    #[test]
    fn merged_layers_learn_what_they_learn_one_after_the_other() {
        for (f, c) in [(2, 1), (5, 3), (24, 3)] {
            let mut rng = ChaCha8Rng::seed_from_u64(4);
            let mut noisy = Batch::zeros(2, 64, 128, c);
            noisy.data.fill_with(|| rng.random());
            let neighbors = Neighbors::draw(&noisy, &mut rng);
            let [merged, apart] = [0, usize::MAX].map(|pixels| {
                let unet = UNet::new(f, c).unwrap();
                let mut network = CpuNetwork::initial_scaled(unet, 1.0, 1);
                network.merged_pixels = pixels;
                let factors = factors(1.0, 1.0, 0.5);
                let losses = network.step(&noisy, &neighbors, factors, 1e-3).unwrap();
                (losses.loss_full, network.gradients())
            });
            assert!((merged.0 - apart.0).abs() < 1e-5 * apart.0);
            assert!(merged.1 != apart.1, "the same path");
            for (name, want) in &apart.1.tensors {
                let got = &merged.1.tensors[name];
                let squares = |values: &mut dyn Iterator<Item = f32>| {
                    values.map(|v| f64::from(v).powi(2)).sum::<f64>()
                };
                let gap = squares(&mut std::iter::zip(&got.data, &want.data).map(|(a, b)| a - b));
                let size = squares(&mut want.data.iter().copied());
                assert!(gap < 1e-10 * size, "{name}: {gap:e} of {size:e}");
            }
        }
    }

    /// Of three images, for in some rounding decides an activation or a pooling, and the gradient jumps.
    #[test]
    fn merged_layers_have_the_gradient_of_the_image_that_they_have_one_after_the_other() {
        for (f, c) in [(2, 1), (5, 3)] {
            let mut rng = ChaCha8Rng::seed_from_u64(4);
            let gaps = [(); 3].map(|()| {
                let mut images = Batch::zeros(1, 32, 64, c);
                images.data.fill_with(|| rng.random());
                let [merged, apart] = [0, usize::MAX].map(|pixels| {
                    let unet = UNet::new(f, c).unwrap();
                    let mut network = CpuNetwork::initial_scaled(unet, 1.0, 1);
                    network.merged_pixels = pixels;
                    let gradient = network.image_gradient(&images, Clone::clone);
                    gradient.unwrap().data
                });
                assert!(merged != apart, "the same path");
                let square = |x: f32| f64::from(x).powi(2);
                let gap = std::iter::zip(&merged, &apart).map(|(a, b)| square(a - b));
                gap.sum::<f64>() / apart.iter().map(|&v| square(v)).sum::<f64>()
            });
            assert!(gaps.iter().all(|&gap| gap < 1e-2), "{gaps:?}");
            assert!(gaps.iter().any(|&gap| gap < 1e-10), "{gaps:?}");
        }
    }

    #[test]
    fn a_network_goes_on_from_a_state_to_the_bit() {
        let unet = UNet::new(2, 1).unwrap();
        let mut network = CpuNetwork::initial(unet, 1);
        let advance = |network: &mut CpuNetwork, k| {
            step(network, k, 0.5);
            network.average(0.9);
        };
        let untrained = network.state();
        for k in 0..3 {
            advance(&mut network, k);
        }
        let state = network.state();
        assert_eq!(state.steps, 3);
        advance(&mut network, 3);
        let expected = network.state();
        assert_ne!(expected, state);

        // In another network, and in one that has gone astray.
        let mut another = CpuNetwork::initial(unet, 2);
        for other in [&mut another, &mut network] {
            other.set_state(&state).unwrap();
            assert_eq!(other.state(), state);
            advance(other, 3);
            assert!(other.state() == expected);
            other.set_state(&untrained).unwrap();
            assert!(other.state() == untrained);
        }
    }

    #[test]
    fn a_step_whose_loss_is_not_finite_leaves_no_trace() {
        let unet = UNet::new(2, 1).unwrap();
        let [mut network, mut twin] = [1, 1].map(|seed| CpuNetwork::initial(unet, seed));
        for network in [&mut network, &mut twin] {
            step(network, 0, 0.5);
        }
        let (state, gradients) = (network.state(), network.gradients());
        let (mut noisy, neighbors) = drawn(1);
        noisy.data[1000] = f32::NAN;
        let factors = factors(1.0, 1.0, 0.5);
        let losses = network.step(&noisy, &neighbors, factors, 1e-3).unwrap();
        assert!(losses.loss_full.is_nan());
        assert!(network.state() == state);
        assert!(network.gradients() == gradients);

        for network in [&mut network, &mut twin] {
            step(network, 2, 0.5);
        }
        assert!(network.state() == twin.state());
        assert!(network.gradients() == twin.gradients());
        assert!(network.gradients() != gradients);
    }

    /// The loss fits in f64, and its gradients do not in f32.
    #[test]
    fn a_step_whose_gradients_are_not_finite_shows_them_and_changes_nothing_else() {
        let unet = UNet::new(2, 1).unwrap();
        let [mut network, mut twin] = [1, 1].map(|seed| CpuNetwork::initial(unet, seed));
        for network in [&mut network, &mut twin] {
            step(network, 0, 0.5);
        }
        let state = network.state();
        let (noisy, neighbors) = drawn(1);
        let factors = factors(1e60, 1.0, 0.5);
        let losses = network.step(&noisy, &neighbors, factors, 1e-3).unwrap();
        assert!(losses.loss1.is_finite() && losses.loss_full.is_nan());
        assert!(network.state() == state);
        let gradients = network.gradients();
        for name in ["enc_conv0.weight", "nin_c.bias"] {
            let values = &gradients.tensors[name].data;
            assert!(values.iter().all(|value| !value.is_finite()), "{name}");
        }

        for network in [&mut network, &mut twin] {
            step(network, 2, 0.5);
        }
        assert!(network.state() == twin.state());
        assert!(network.gradients() == twin.gradients());
    }

    #[test]
    fn a_state_of_another_network_changes_nothing() {
        let mut network = CpuNetwork::initial(UNet::new(2, 1).unwrap(), 1);
        let before = network.state();
        let mut state = before.clone();
        state.second = CpuNetwork::initial(UNet::new(3, 1).unwrap(), 1).weights();
        assert!(network.set_state(&state).is_err());
        assert!(network.state() == before);
    }

    #[test]
    fn the_average_follows_the_weights_and_can_be_used_in_their_place() {
        let mut network = CpuNetwork::initial(UNet::new(2, 1).unwrap(), 1);
        network.swap_average();
        let mut expected: Option<Vec<f64>> = None;
        for k in 0..4 {
            step(&mut network, k, 0.5);
            network.average(0.75);
            let weights = network.parameters.iter().map(|&w| f64::from(w));
            expected = Some(match expected {
                None => weights.collect(),
                Some(average) => std::iter::zip(average, weights)
                    .map(|(average, w)| 0.75 * average + 0.25 * w)
                    .collect(),
            });
        }
        let raw = network.weights();
        let denoised = network.denoise(&Batch::zeros(1, 32, 32, 1)).unwrap();
        network.swap_average();
        for (got, want) in network.parameters.iter().zip(expected.unwrap()) {
            // Some roundings of f32, of weights that have moved by 1e-3 a step.
            assert!((f64::from(*got) - want).abs() <= 1e-6 * (want.abs() + 4e-3));
        }
        assert_ne!(
            network.denoise(&Batch::zeros(1, 32, 32, 1)).unwrap(),
            denoised
        );
        network.swap_average();
        assert_eq!(network.weights(), raw);
        assert_eq!(
            network.denoise(&Batch::zeros(1, 32, 32, 1)).unwrap(),
            denoised
        );
    }

    /// The last layers run in bands at the larger size and not at the smaller one; pixels of one vector and
    /// of several.
    #[test]
    fn the_neighbors_of_a_denoised_batch_are_picked_on_the_way() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for c in [1, 3, 9, 17] {
            let mut network = CpuNetwork::initial_scaled(UNet::new(2, c).unwrap(), 1.0, 1);
            for (n, h, w, in_bands) in [(1, 64, 32, false), (3, 96, 160, true)] {
                let mut noisy = Batch::zeros(n, h, w, c);
                noisy.data.fill_with(|| rng.random());
                assert_eq!(network.ends_in_bands(shape(&noisy)), in_bands);
                let neighbors = Neighbors::draw(&noisy, &mut rng);
                let whole = network.denoise(&noisy).unwrap();
                let picked = network.infer_neighbors(&noisy, &neighbors, Target::Drawn);
                assert!(picked == neighbors.sub_sample(&whole), "{n} of {h}x{w}x{c}");
            }
        }
    }

    /// The gradient of a step with a method, from the same weights whatever was learned before.
    fn gradient_of(
        method: Method,
        noisy: &Batch,
        neighbors: &Neighbors,
        steps: u64,
    ) -> (Losses, Weights) {
        let mut network = CpuNetwork::initial_scaled(UNet::new(4, noisy.c).unwrap(), 1.0, 1);
        let state = State {
            steps,
            ..network.state()
        };
        network.set_state(&state).unwrap();
        network.set_method(method).unwrap();
        let factors = factors(1.0, 1.0, 1.5);
        let losses = network.step(noisy, neighbors, factors, 1e-3).unwrap();
        (losses, network.gradients())
    }

    fn mean_of(gradients: &[Weights]) -> Vec<f64> {
        let all = |weights: &Weights| -> Vec<f32> {
            let tensors = weights.tensors.values();
            tensors.flat_map(|tensor| tensor.data.clone()).collect()
        };
        let mut mean = vec![0.0; all(&gradients[0]).len()];
        for gradient in gradients {
            for (mean, value) in mean.iter_mut().zip(all(gradient)) {
                *mean += f64::from(value) / gradients.len() as f64;
            }
        }
        mean
    }

    fn assert_same_gradient(got: &[f64], want: &[f64]) {
        let gap: f64 = got.iter().zip(want).map(|(g, w)| (g - w).powi(2)).sum();
        let size: f64 = want.iter().map(|w| w * w).sum();
        assert!(gap < 1e-10 * size, "{gap:e} of {size:e}");
    }

    /// `exp_diff` is a constant that the gradient is linear in: over the turns, what is left out is made up for.
    #[test]
    fn the_regularizer_of_some_patches_in_turn_has_the_papers_gradient_on_average() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut noisy = Batch::zeros(4, 64, 64, 1);
        noisy.data.fill_with(|| rng.random());
        let neighbors = Neighbors::draw(&noisy, &mut rng);
        let (paper, gradient) = gradient_of(Method::default(), &noisy, &neighbors, 0);
        let want = mean_of(&[gradient]);
        for patches in 1..=4 {
            let method = Method {
                regularized_patches: Some(patches),
                ..Method::default()
            };
            let turns: Vec<_> = (0..4)
                .map(|steps| gradient_of(method, &noisy, &neighbors, steps))
                .collect();
            let loss2 = turns.iter().map(|(losses, _)| losses.loss2).sum::<f64>() / 4.0;
            // Batches of other sizes go other ways through the kernels.
            assert!((loss2 - paper.loss2).abs() < 1e-5 * paper.loss2);
            assert!(turns.iter().all(|(losses, _)| losses.loss1 == paper.loss1));
            let gradients: Vec<_> = turns.into_iter().map(|(_, gradient)| gradient).collect();
            assert_same_gradient(&mean_of(&gradients), &want);
            if patches < 4 {
                assert!(gradients[0] != gradients[1]);
            } else {
                assert_same_gradient(&mean_of(&gradients[..1]), &want);
            }
        }
    }

    /// Pairs 0 and 1 have the same first pixel, and so on: the mean over two draws that differ in the second
    /// pixels alone, which are all that the other one leaves out.
    #[test]
    fn the_mean_target_has_the_papers_gradient_on_average() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut noisy = Batch::zeros(2, 64, 64, 2);
        noisy.data.fill_with(|| rng.random());
        let drawn = Neighbors::draw(&noisy, &mut rng);
        let mut other = drawn.clone();
        for pair in &mut other.pairs {
            let (first, second) = crate::neighbors::PAIRS[usize::from(*pair)];
            let at = crate::neighbors::PAIRS
                .iter()
                .position(|&pair| pair == (first, 3 - second));
            *pair = at.unwrap() as u8;
        }
        let paper = [&drawn, &other]
            .map(|neighbors| gradient_of(Method::default(), &noisy, neighbors, 0).1);
        let method = Method {
            target: Target::Mean,
            ..Method::default()
        };
        let (_, mean) = gradient_of(method, &noisy, &drawn, 0);
        assert_same_gradient(&mean_of(&[mean]), &mean_of(&paper));
    }

    #[test]
    fn muon_goes_on_from_a_state_to_the_bit_and_moves_what_adam_does_not() {
        let unet = UNet::new(4, 1).unwrap();
        let method = Method {
            optimizer: network::Optimizer::Muon,
            ..Method::default()
        };
        let mut one = CpuNetwork::initial(unet, 1);
        one.set_method(method).unwrap();
        let mut by_adam = CpuNetwork::initial(unet, 1);
        for k in 0..2 {
            step(&mut one, k, 0.5);
            step(&mut by_adam, k, 0.5);
        }
        let mut two = CpuNetwork::initial(unet, 2);
        two.set_method(method).unwrap();
        two.set_state(&one.state()).unwrap();
        step(&mut one, 2, 0.5);
        step(&mut two, 2, 0.5);
        assert!(one.state() == two.state());

        let mut start = CpuNetwork::initial(unet, 1);
        start.set_method(method).unwrap();
        let mut adam = CpuNetwork::initial(unet, 1);
        step(&mut start, 0, 0.5);
        step(&mut adam, 0, 0.5);
        let (muon, adam) = (start.weights(), adam.weights());
        for (name, tensor) in &muon.tensors {
            let hidden = name.ends_with(".weight")
                && !["enc_conv0.weight", "nin_c.weight"].contains(&name.as_str());
            assert_eq!(*tensor != adam.tensors[name], hidden, "{name}");
        }
    }

    #[test]
    fn a_step_towards_targets_compares_pixels_in_networks_of_blocks_too() {
        let unet = UNet {
            n_depth: 2,
            pixel_shuffle: 2,
            ..UNet::new(4, 3).unwrap()
        };
        let mut network = CpuNetwork::initial_scaled(unet, 1.0, 1);
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let [noisy, target] = [(); 2].map(|()| {
            let mut batch = Batch::zeros(2, 24, 16, 3);
            batch.data.fill_with(|| rng.random());
            batch
        });
        let denoised = network.denoise(&noisy).unwrap();
        let pairs = denoised.data.iter().zip(&target.data);
        let squares = pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
        let want = squares / target.data.len() as f64;
        let loss = network.step_towards(&noisy, &target, 1e-3).unwrap().loss1;
        assert!((loss - want).abs() < 1e-5 * want, "{loss} {want}");
    }

    /// A regularizer whose factor λ2 is 0 leaves the same gradients as one with Λ = 0; the first is
    /// computed with both forward passes.
    #[test]
    fn a_step_without_the_second_forward_is_that_of_a_regularizer_without_weight() {
        let unet = UNet::new(2, 1).unwrap();
        let (mut short, mut long) = (CpuNetwork::initial(unet, 1), CpuNetwork::initial(unet, 1));
        let (noisy, neighbors) = drawn(5);
        let step = |network: &mut CpuNetwork, lambda2, lambda| {
            let factors = factors(1.0, lambda2, lambda);
            network.step(&noisy, &neighbors, factors, 1e-3).unwrap()
        };
        let without = step(&mut short, 1.0, 0.0);
        let with = step(&mut long, 0.0, 1.0);
        assert_eq!((without.loss1, without.loss2), (with.loss1, 0.0));
        assert_eq!(without.loss_full, with.loss_full);
        assert!(with.loss2 > 0.0);
        assert!(short.state() == long.state());
    }
}
