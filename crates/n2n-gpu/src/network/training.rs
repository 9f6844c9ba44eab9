//! A training step: its recorded program, and the batches that are sent through it.

use std::ops::Range;

use n2n::batch::Batch;
use n2n::neighbors::Neighbors;
use n2n::network::{CleanBatch, LossFactors, Losses, Pixels as CleanPixels};
use n2n::{Error, Result};
use n2n_kernels::adam::{BETA1, BETA2};

use super::{Buffers, GpuNetwork, Step};
use crate::graph::{Graph, Id, Program};
use crate::optimizer;
use crate::passes::{self, Pixels, image_fours};
use crate::wgsl::Storage;

/// Maximum number of batches in flight on the device.
const IN_FLIGHT: usize = 3;

/// A training step for one batch size.
pub(super) struct Training {
    kind: Kind,
    pub(super) program: Program,
    pub(super) noisy: Pixels,
    pub(super) pairs: Id,
    clean: Option<Id>,
    pub(super) draw: Range<usize>,
    whole: Range<usize>,
    learn: Range<usize>,
    /// Adds the gradients to those of the step's earlier batches.
    add: Range<usize>,
    update: Range<usize>,
}

/// The samples that a [`Training`] handles.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Kind {
    pub(super) shape: [usize; 3],
    /// Clean patches without their pixels, if noise is drawn on the device.
    pub(super) clean: Option<CleanBatch>,
    /// Whether steps have several batches.
    pub(super) accumulates: bool,
}

impl GpuNetwork {
    pub(super) fn prepare_training(&mut self, kind: &Kind) -> Result<()> {
        if self
            .training
            .as_ref()
            .is_some_and(|kept| kept.kind == *kind)
        {
            return Ok(());
        }
        self.forget_training()?;
        let mut training = self.training(kind);
        if let Err(Error::OutOfMemory { .. }) = training
            && self.inference.take().is_some()
        {
            training = self.training(kind);
        }
        self.training = Some(training.map_err(|error| match error {
            Error::OutOfMemory { device, asked, .. } => {
                let fits = self.largest_batch(kind);
                Error::OutOfMemory {
                    device,
                    asked,
                    fits: fits.map(|n| format!("a batch of {n}")),
                }
            }
            error => error,
        })?);
        Ok(())
    }

    /// Frees the memory of training once the steps in flight no longer need it.
    pub(super) fn forget_training(&mut self) -> Result<()> {
        if let Some(last) = self.in_flight.pop_back() {
            self.device.wait(last)?;
            self.in_flight.clear();
        }
        self.training = None;
        Ok(())
    }

    /// The largest batch of such patches for which a step fits into memory, if any.
    fn largest_batch(&self, kind: &Kind) -> Option<usize> {
        let fits = |n: usize| {
            let mut kind = kind.clone();
            kind.shape[0] = n;
            if let Some(clean) = &mut kind.clean {
                clean.n = n;
            }
            self.training(&kind).is_ok()
        };
        let (mut most, mut least) = (kind.shape[0], 0);
        while least + 1 < most {
            let middle = least.midpoint(most);
            if fits(middle) {
                least = middle;
            } else {
                most = middle;
            }
        }
        (least > 0).then_some(least)
    }

    fn training(&self, kind: &Kind) -> Result<Training> {
        let [n, h, w] = kind.shape;
        let mut graph = Graph::default();
        let given = Buffers::name(&mut graph);
        let network = self.passes(given.parameters, Storage::F32);
        let fours = image_fours(&self.unet);
        let noisy = Pixels::kept(&mut graph, n, h, w, fours);
        let pairs = graph.kept((n * h * w) as u64);
        let clean = kind.clean.as_ref().map(|batch| {
            let values = n * h * w * batch.c;
            let clean = graph.kept(match batch.pixels {
                CleanPixels::U8(_) => values.next_multiple_of(4) as u64,
                CleanPixels::F32(_) => 4 * values as u64,
            });
            passes::draw(&mut graph, given.shared, batch, clean, (noisy, pairs));
            clean
        });
        let drawn = graph.len();
        let turns = self.regularized(n);
        let denoised = Pixels::kept(&mut graph, turns, h, w, fours);
        let mut regularized = noisy;
        if turns < n {
            regularized = Pixels::kept(&mut graph, turns, h, w, fours);
            passes::take_patches(&mut graph, given.shared, noisy, regularized);
        }
        network.denoise(&mut graph, regularized, denoised);
        let expected = graph.len();
        let input = passes::sub_sample(&mut graph, noisy, pairs);
        let blocks = network.to_blocks(&mut graph, input);
        let tape = network.forward(&mut graph, blocks, None);
        let output = network.to_pixels(&mut graph, tape.output());
        let images = (noisy, denoised, pairs);
        let of = (self.unet.n_channel, self.method.target);
        let gradient = passes::loss(&mut graph, given.shared, output, of, images);
        let gradient = network.to_blocks(&mut graph, gradient);
        let to = (given.gradients, given.shared.losses);
        network.backward(&mut graph, &tape, gradient, to);
        let learned = graph.len();
        if kind.accumulates {
            let buffers = vec![given.shared.step, given.gradients, given.sums];
            let source = include_str!("../wgsl/add_gradients.wgsl");
            passes::over_parameters(&mut graph, &self.layout, source, buffers);
        }
        let added = graph.len();
        let state = optimizer::State {
            parameters: given.parameters,
            gradients: given.gradients,
            first: given.first,
            second: given.second,
        };
        let of = (&self.unet, &self.layout);
        optimizer::update(&mut graph, self.method.optimizer, of, state, given.shared);
        let asked = format!("a training step on {n}x{h}x{w} pixels");
        Ok(Training {
            kind: kind.clone(),
            program: graph.compile(&self.device, &self.buffers.list(), &asked)?,
            noisy,
            pairs,
            clean,
            draw: 0..drawn,
            whole: drawn..expected,
            learn: expected..learned,
            add: learned..added,
            update: added..graph.len(),
        })
    }

    /// The number of patches in a batch of `n` that the regularizer is computed on.
    fn regularized(&self, n: usize) -> usize {
        let patches = self.method.regularized_patches;
        patches.map_or(n, |patches| patches.clamp(1, n))
    }

    /// Prepares a step on noisy patches that have been checked, and uploads them.
    pub(super) fn load_noisy(
        &mut self,
        noisy: &Batch,
        neighbors: &Neighbors,
        accumulates: bool,
    ) -> Result<()> {
        self.prepare_training(&Kind {
            shape: [noisy.n, noisy.h, noisy.w],
            clean: None,
            accumulates,
        })?;
        let values = self.padded(noisy);
        let pairs: Vec<u32> = neighbors.pairs.iter().map(|&pair| pair.into()).collect();
        let ready = self.training.as_ref().expect("made ready");
        self.device
            .write(ready.program.buffer(ready.noisy.id), &values);
        self.device.write(ready.program.buffer(ready.pairs), &pairs);
        Ok(())
    }

    /// Prepares a step on clean patches that have been checked, and uploads them.
    pub(super) fn load(&mut self, clean: &CleanBatch, accumulates: bool) -> Result<()> {
        self.prepare_training(&Kind {
            shape: [clean.n, clean.side, clean.side],
            clean: Some(CleanBatch {
                pixels: match clean.pixels {
                    CleanPixels::U8(_) => CleanPixels::U8(vec![]),
                    CleanPixels::F32(_) => CleanPixels::F32(vec![]),
                },
                seed: 0,
                ..*clean
            }),
            accumulates,
        })?;
        let ready = self.training.as_ref().expect("made ready");
        let to = ready.program.buffer(ready.clean.expect("of clean patches"));
        match &clean.pixels {
            CleanPixels::F32(values) => self.device.write(to, values),
            CleanPixels::U8(bytes) if bytes.len() % 4 == 0 => self.device.write(to, bytes),
            CleanPixels::U8(bytes) => {
                let mut bytes = bytes.clone();
                bytes.resize(bytes.len().next_multiple_of(4), 0);
                self.device.write(to, &bytes);
            }
        }
        Ok(())
    }

    /// Submits a batch of a step, whose images are on the device; with the last of its batches, the update.
    pub(super) fn send(
        &mut self,
        (batch, batches): (usize, usize),
        factors: LossFactors,
        learning_rate: f64,
        seed: u64,
    ) -> Result<()> {
        let updates = (self.steps + 1) as f64;
        self.lambdas = [factors.lambda1, factors.lambda2];
        let training = self.training.as_ref().expect("made ready before");
        let n = training.kind.shape[0];
        let turn = (self.steps + batch as u64) % n as u64;
        self.numbers = Step {
            seed: [seed as u32, (seed >> 32) as u32],
            lambda1: factors.lambda1 as f32,
            lambda2: factors.lambda2 as f32,
            lambda: factors.lambda as f32,
            rate: (learning_rate / (1.0 - BETA1.powf(updates))) as f32,
            root: (1.0 / (1.0 - BETA2.powf(updates)).sqrt()) as f32,
            share: self.numbers.share,
            muon_rate: learning_rate as f32,
            turn: (turn as usize * self.regularized(n) % n) as u32,
            batch: batch as u32,
            weight: 1.0 / batches as f32,
        };
        self.device.write(&self.buffers.step, &[self.numbers]);
        let is_last = batch + 1 == batches;
        let ticket = self.device.submit(|encoder| {
            training.program.encode(encoder, training.draw.clone());
            if factors.lambda != 0.0 {
                training.program.encode(encoder, training.whole.clone());
            }
            training.program.encode(encoder, training.learn.clone());
            training.program.encode(encoder, training.add.clone());
            if is_last {
                training.program.encode(encoder, training.update.clone());
            }
        })?;
        self.steps += u64::from(is_last);
        self.in_flight.push_back(ticket);
        if self.in_flight.len() > IN_FLIGHT {
            let first = self.in_flight.pop_front().expect("more than none");
            self.device.wait(first)?;
        }
        Ok(())
    }

    /// The sums of the losses since the last call. Sets them to zero and clears a failure, so that training can
    /// continue.
    pub(super) fn losses(&mut self) -> Result<Losses> {
        let words: Vec<u32> = self.device.read(&self.buffers.losses, 4)?;
        self.in_flight.clear();
        self.restart(words[3].into());
        let [loss1, loss2] = [words[0], words[1]].map(|word| f64::from(f32::from_bits(word)));
        let [lambda1, lambda2] = self.lambdas;
        let failed = words[2] != 0;
        Ok(Losses {
            loss1,
            loss2,
            loss_full: if failed {
                f64::NAN
            } else {
                lambda1 * loss1 + lambda2 * loss2
            },
        })
    }
}
