//! The network on a device: the implementation of [`n2n::network::Train`].

mod training;

use std::collections::VecDeque;

use n2n::batch::Batch;
use n2n::neighbors::Neighbors;
use n2n::network::{
    self, CleanBatch, Denoise, LossFactors, Losses, Method, Sample, SampleKind, State, Train,
};
use n2n::unet::{Grid, UNet};
use n2n::weights::Weights;
use n2n::{Error, Result};

use crate::device::{Adapter, Device};
use crate::graph::{Graph, Id, Program};
use crate::layout::Layout;
use crate::passes::{self, Passes, Pixels, Shared, image_fours};
use crate::wgsl::Storage;

use self::training::{Kind, Training};

/// The network on a GPU.
///
/// Its results are close to those of [`n2n::cpu::CpuNetwork`], the definition of correct, and bit-identical from run
/// to run on the same device. Memory is kept between calls, for batches of the same size.
pub struct GpuNetwork {
    unet: UNet,
    layout: Layout,
    device: Device,
    buffers: Buffers,
    /// The contents of `step`.
    numbers: Step,
    /// Number of updates submitted.
    steps: u64,
    /// How steps estimate the gradient and update the weights.
    method: Method,
    has_average: bool,
    /// How pixels are stored between the layers in [`Denoise::denoise`].
    storage: Storage,
    /// λ1 and λ2 for the steps since the losses were last taken.
    lambdas: [f64; 2],
    inference: Option<Inference>,
    training: Option<Training>,
    averaging: Option<Program>,
    in_flight: VecDeque<wgpu::SubmissionIndex>,
}

/// The buffers that outlive every program. All but the last two have one value per parameter, including padding.
struct Buffers {
    parameters: wgpu::Buffer,
    gradients: wgpu::Buffer,
    first: wgpu::Buffer,
    second: wgpu::Buffer,
    average: wgpu::Buffer,
    /// The gradients of a step's batches so far.
    sums: wgpu::Buffer,
    losses: wgpu::Buffer,
    step: wgpu::Buffer,
}

/// The same buffers as a graph refers to them.
struct Given {
    parameters: Id,
    gradients: Id,
    first: Id,
    second: Id,
    average: Id,
    sums: Id,
    shared: Shared,
}

impl Buffers {
    fn name(graph: &mut Graph) -> Given {
        let mut index = 0..;
        let mut next = || graph.given(index.next().expect("numbers without end"));
        Given {
            parameters: next(),
            gradients: next(),
            first: next(),
            second: next(),
            average: next(),
            sums: next(),
            shared: Shared {
                losses: next(),
                step: next(),
            },
        }
    }

    fn list(&self) -> [&wgpu::Buffer; 8] {
        [
            &self.parameters,
            &self.gradients,
            &self.first,
            &self.second,
            &self.average,
            &self.sums,
            &self.losses,
            &self.step,
        ]
    }
}

/// `Step` in `wgsl/step.wgsl`.
#[derive(Debug, Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Step {
    seed: [u32; 2],
    lambda1: f32,
    lambda2: f32,
    lambda: f32,
    rate: f32,
    root: f32,
    share: f32,
    muon_rate: f32,
    turn: u32,
    batch: u32,
    weight: f32,
}

/// The forward pass for one batch size.
struct Inference {
    shape: [usize; 3],
    program: Program,
    image: Pixels,
    result: Pixels,
    passes: usize,
}

impl GpuNetwork {
    /// A network with the given weights; its sizes follow from their shapes and metadata.
    pub fn from_weights(adapter: &Adapter, weights: &Weights) -> Result<Self> {
        let unet = weights.architecture()?;
        let layout = Layout::new(&unet);
        let device = Device::open(adapter)?;
        let bytes = 4 * layout.len as u64;
        let sizes = [bytes, bytes, bytes, bytes, bytes, bytes, 16];
        let [parameters, gradients, first, second, average, sums, losses] =
            device.array(sizes, "the weights and the state of training")?;
        let step = device.uniform(size_of::<Step>() as u64);
        let mut network = Self {
            unet,
            layout,
            device,
            buffers: Buffers {
                parameters,
                gradients,
                first,
                second,
                average,
                sums,
                losses,
                step,
            },
            numbers: Step::default(),
            steps: 0,
            method: Method::default(),
            has_average: false,
            storage: Storage::F32,
            lambdas: [0.0; 2],
            inference: None,
            training: None,
            averaging: None,
            in_flight: VecDeque::new(),
        };
        network.set_weights(weights)?;
        Ok(network)
    }

    /// The architecture.
    pub fn architecture(&self) -> UNet {
        self.unet
    }

    /// [`Train::step`] on noisy patches and the neighbors drawn on them; waits for the losses. These include the losses
    /// of earlier steps on clean patches that [`Train::take_losses`] has not returned yet.
    #[allow(clippy::missing_panics_doc, reason = "it never does")]
    pub fn step(
        &mut self,
        noisy: &Batch,
        neighbors: &Neighbors,
        factors: LossFactors,
        learning_rate: f64,
    ) -> Result<Losses> {
        network::check_step(&self.unet, noisy, neighbors)?;
        self.load_noisy(noisy, neighbors, false)?;
        self.send((0, 1), factors, learning_rate, 0)?;
        self.losses()
    }

    /// [`Train::step`] on clean patches; does not wait for the losses.
    pub fn step_on_clean(
        &mut self,
        clean: &CleanBatch,
        factors: LossFactors,
        learning_rate: f64,
    ) -> Result<()> {
        network::check_patches(&self.unet, clean)?;
        self.load(clean, false)?;
        self.send((0, 1), factors, learning_rate, clean.seed)
    }

    /// The gradients of the last step by tensor name, valid until anything other than a step or a read is done; all
    /// zero before the first step.
    pub fn gradients(&self) -> Result<Weights> {
        self.named(&self.buffers.gradients)
    }

    /// Sets whether [`Denoise::denoise`] keeps pixels between layers in half precision, which halves the memory and
    /// the memory traffic. With the shipped models, the RMS of the error is 1e-4 of the output's. Sums stay in `f32`,
    /// and so does all of training.
    pub fn set_half(&mut self, half: bool) {
        self.storage = if half { Storage::F16 } else { Storage::F32 };
        self.inference = None;
    }

    /// Limits the memory that the network uses for a batch, excluding weights, to this many bytes, however much the
    /// device has.
    pub fn set_max_bytes(&mut self, bytes: u64) {
        self.device.max_bytes = bytes;
        self.inference = None;
        self.training = None;
    }

    fn named(&self, buffer: &wgpu::Buffer) -> Result<Weights> {
        let values = self.device.read(buffer, self.layout.len)?;
        Ok(Weights::from_parameters(
            &self.unet,
            &self.layout.to_host(&values),
        ))
    }

    /// The values for the device, all checked before any of them is sent.
    fn values(&self, weights: &Weights) -> Result<Vec<f32>> {
        Ok(self.layout.to_device(&weights.to_parameters(&self.unet)?))
    }

    /// Clears the sums of the losses and the failure, and counts updates on from `steps`.
    fn restart(&mut self, steps: u64) {
        self.steps = steps;
        self.device
            .write(&self.buffers.losses, &[0, 0, 0, steps as u32]);
    }

    fn passes(&self, parameters: Id, storage: Storage) -> Passes<'_> {
        Passes {
            unet: self.unet,
            layout: &self.layout,
            parameters,
            storage,
        }
    }

    /// The graph of the forward pass, with its input and its result.
    fn infer_graph(&self, [n, h, w]: [usize; 3]) -> (Graph, Pixels, Pixels) {
        let mut graph = Graph::default();
        let given = Buffers::name(&mut graph);
        let fours = image_fours(&self.unet);
        let image = Pixels::kept(&mut graph, n, h, w, fours);
        let result = Pixels::kept(&mut graph, n, h, w, fours);
        self.passes(given.parameters, self.storage)
            .denoise(&mut graph, image, result);
        (graph, image, result)
    }

    fn prepare_inference(&mut self, shape: [usize; 3]) -> Result<&Inference> {
        if self
            .inference
            .as_ref()
            .is_none_or(|kept| kept.shape != shape)
        {
            let (graph, image, result) = self.infer_graph(shape);
            let [n, h, w] = shape;
            let images = if n == 1 { "image" } else { "images" };
            let asked = format!("{n} {images} of {h}x{w} pixels");
            // Free this program's memory first, and that of training if both do not fit.
            self.inference = None;
            let compile =
                |network: &Self| graph.compile(&network.device, &network.buffers.list(), &asked);
            let program = match compile(self) {
                Err(Error::OutOfMemory { .. }) if self.training.is_some() => {
                    self.forget_training()?;
                    compile(self)?
                }
                program => program?,
            };
            self.inference = Some(Inference {
                shape,
                program,
                image,
                result,
                passes: graph.len(),
            });
        }
        Ok(self.inference.as_ref().expect("made if it was missing"))
    }

    /// The values of an image in the device's layout, with channels padded to groups of four.
    fn padded(&self, batch: &Batch) -> Vec<f32> {
        let padded = 4 * image_fours(&self.unet);
        let mut values = vec![0.0; batch.data.len() / batch.c * padded];
        for (to, pixel) in values
            .chunks_exact_mut(padded)
            .zip(batch.data.chunks_exact(batch.c))
        {
            to[..batch.c].copy_from_slice(pixel);
        }
        values
    }

    fn unpadded(&self, values: &[f32], [n, h, w]: [usize; 3]) -> Batch {
        let c = self.unet.n_channel;
        let pixels = values.chunks_exact(4 * image_fours(&self.unet));
        Batch::new(
            n,
            h,
            w,
            c,
            pixels.flat_map(|pixel| &pixel[..c]).copied().collect(),
        )
    }
}

impl Denoise for GpuNetwork {
    fn channels(&self) -> usize {
        self.unet.n_channel
    }

    fn grid(&self) -> Grid {
        self.unet.grid()
    }

    fn denoise(&mut self, noisy: &Batch) -> Result<Batch> {
        network::check_images(&self.unet, noisy)?;
        let shape = [noisy.n, noisy.h, noisy.w];
        let values = self.padded(noisy);
        self.prepare_inference(shape)?;
        let ready = self.inference.as_ref().expect("made ready");
        let device = &self.device;
        device.write(ready.program.buffer(ready.image.id), &values);
        device.submit(|encoder| ready.program.encode(encoder, 0..ready.passes))?;
        let values = device.read(ready.program.buffer(ready.result.id), ready.result.len())?;
        Ok(self.unpadded(&values, shape))
    }

    fn reserve(&mut self, h: usize, w: usize) -> Result<()> {
        self.prepare_inference([1, h, w]).map(|_| ())
    }

    fn working_bytes(&self, h: usize, w: usize) -> u64 {
        let pieces = self.infer_graph([1, h, w]).0.pieces();
        if pieces.iter().any(|&bytes| bytes > self.device.largest()) {
            return u64::MAX;
        }
        pieces.iter().sum()
    }

    fn device(&self) -> String {
        match self.storage {
            Storage::F32 => format!("gpu {}", self.device.name),
            Storage::F16 => format!("gpu {}, half precision", self.device.name),
        }
    }
}

impl Train for GpuNetwork {
    fn architecture(&self) -> UNet {
        self.unet
    }

    fn wants(&self) -> SampleKind {
        SampleKind::Clean
    }

    fn reserve_step(&mut self, n: usize, h: usize, w: usize) -> Result<()> {
        self.prepare_training(&Kind {
            shape: [n, h, w],
            clean: None,
            accumulates: false,
        })
    }

    fn step(
        &mut self,
        samples: &[Sample],
        factors: LossFactors,
        learning_rate: f64,
    ) -> Result<Option<Losses>> {
        network::check_samples(samples)?;
        // All of them first: a step that cannot be completed is not begun.
        for sample in samples {
            match sample {
                Sample::Noisy(noisy, neighbors) => {
                    network::check_step(&self.unet, noisy, neighbors)?;
                }
                Sample::Clean(clean) => network::check_patches(&self.unet, clean)?,
            }
        }
        let accumulates = samples.len() > 1;
        for (i, sample) in samples.iter().enumerate() {
            let seed = match sample {
                Sample::Noisy(noisy, neighbors) => {
                    self.load_noisy(noisy, neighbors, accumulates)?;
                    0
                }
                Sample::Clean(clean) => {
                    self.load(clean, accumulates)?;
                    clean.seed
                }
            };
            self.send((i, samples.len()), factors, learning_rate, seed)?;
        }
        match samples[0] {
            Sample::Noisy(..) => self.losses().map(Some),
            Sample::Clean(_) => Ok(None),
        }
    }

    fn set_method(&mut self, method: Method) -> Result<()> {
        if method.half {
            let what = format!("the training method on {}", self.device());
            return Err(Error::value(what, "one without half precision", method));
        }
        self.method = method;
        self.forget_training()
    }

    fn take_losses(&mut self) -> Result<Losses> {
        self.losses()
    }

    fn weights(&self) -> Result<Weights> {
        self.named(&self.buffers.parameters)
    }

    fn set_weights(&mut self, weights: &Weights) -> Result<()> {
        let values = self.values(weights)?;
        self.device.write(&self.buffers.parameters, &values);
        let zeros = vec![0.0f32; self.layout.len];
        let Buffers {
            gradients,
            first,
            second,
            ..
        } = &self.buffers;
        for buffer in [gradients, first, second] {
            self.device.write(buffer, &zeros);
        }
        self.has_average = false;
        self.restart(0);
        self.device.check()
    }

    fn state(&self) -> Result<State> {
        let average = || self.named(&self.buffers.average);
        let losses: Vec<u32> = self.device.read(&self.buffers.losses, 4)?;
        Ok(State {
            weights: self.weights()?,
            first: self.named(&self.buffers.first)?,
            second: self.named(&self.buffers.second)?,
            steps: losses[3].into(),
            average: self.has_average.then(average).transpose()?,
        })
    }

    fn set_state(&mut self, state: &State) -> Result<()> {
        let parameters = self.values(&state.weights)?;
        let first = self.values(&state.first)?;
        let second = self.values(&state.second)?;
        let average = state
            .average
            .as_ref()
            .map(|average| self.values(average))
            .transpose()?;
        self.device.write(&self.buffers.parameters, &parameters);
        self.device.write(&self.buffers.first, &first);
        self.device.write(&self.buffers.second, &second);
        self.has_average = average.is_some();
        if let Some(average) = average {
            self.device.write(&self.buffers.average, &average);
        }
        self.restart(state.steps);
        self.device.check()
    }

    fn average(&mut self, decay: f64) {
        let Buffers {
            parameters,
            average,
            ..
        } = &self.buffers;
        // If the device fails here, the next step reports it.
        if !self.has_average {
            let bytes = parameters.size();
            let _ = self.device.submit(|encoder| {
                encoder.copy_buffer_to_buffer(parameters, 0, average, 0, bytes);
            });
            self.has_average = true;
            return;
        }
        self.numbers.share = (1.0 - decay) as f32;
        self.device.write(&self.buffers.step, &[self.numbers]);
        if self.averaging.is_none() {
            let mut graph = Graph::default();
            let given = Buffers::name(&mut graph);
            let shared = given.shared;
            let buffers = vec![shared.step, given.parameters, given.average, shared.losses];
            let source = include_str!("wgsl/average.wgsl");
            passes::over_parameters(&mut graph, &self.layout, source, buffers);
            self.averaging = graph.compile(&self.device, &self.buffers.list(), "").ok();
        }
        if let Some(program) = &self.averaging {
            let _ = self.device.submit(|encoder| program.encode(encoder, 0..1));
        }
    }

    fn swap_average(&mut self) {
        if !self.has_average {
            return;
        }
        let Buffers {
            parameters,
            average,
            // Every step fills it before it is read.
            gradients,
            ..
        } = &self.buffers;
        let bytes = parameters.size();
        let _ = self.device.submit(|encoder| {
            for (from, to) in [
                (parameters, gradients),
                (average, parameters),
                (gradients, average),
            ] {
                encoder.copy_buffer_to_buffer(from, 0, to, 0, bytes);
            }
        });
    }
}

#[cfg(test)]
mod tests;
