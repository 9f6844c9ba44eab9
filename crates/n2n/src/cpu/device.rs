//! The network on the CPU as a device: its implementations of [`Denoise`] and [`Train`].

use std::sync::Arc;

use rayon::prelude::*;

use n2n_kernels::adam::Adam;
use n2n_kernels::arena::Arena;
use n2n_kernels::tensor::Shape;

use super::{CpuNetwork, Learning, half, in_pool, shape, units};
use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::network::{self, Denoise, LossFactors, Losses, Method, Sample, State, Train};
use crate::unet::{Grid, UNet};
use crate::weights::Weights;

/// Bytes for what all threads together keep.
const SCRATCH: usize = 16 << 20;

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
        Ok(in_pool(|| {
            if let Some(units) = self.half {
                return self.infer_half(units, noisy);
            }
            self.arena.follow(Some(self.plan(shape(noisy))));
            self.infer(noisy)
        }))
    }

    fn working_bytes(&self, h: usize, w: usize) -> u64 {
        if self.half.is_some() {
            return half::working_bytes(&self.unet, h, w);
        }
        // The weights, and their packed form, which for Winograd's algorithm is about eight times as large.
        let weights = 4 * 9 * self.parameters.len();
        let c = self.unet.n_channel;
        let tensors = self.plan(Shape { n: 1, h, w, c }).bytes();
        (tensors + weights + SCRATCH) as u64
    }

    fn device(&self) -> String {
        match self.half {
            Some(units) => format!("cpu {}, half precision", units.name()),
            None => format!("cpu {}", self.level),
        }
    }

    fn fork(&self) -> Option<Box<dyn Denoise>> {
        Some(Box::new(Self {
            unet: self.unet,
            layers: Arc::clone(&self.layers),
            level: self.level,
            parameters: Arc::clone(&self.parameters),
            packed: Arc::clone(&self.packed),
            half: self.half,
            regularizer_half: self.regularizer_half,
            merged_pixels: self.merged_pixels,
            banded_pixels: self.banded_pixels,
            arena: Arena::default(),
            spare: half::Spare::default(),
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
        samples: &[Sample],
        factors: LossFactors,
        learning_rate: f64,
    ) -> Result<Option<Losses>> {
        network::check_samples(samples)?;
        let noisy = samples.iter().map(|sample| match sample {
            Sample::Noisy(noisy, neighbors) => Ok((noisy, neighbors)),
            Sample::Clean(_) => Err(Error::value(
                "patches of a step on the CPU",
                "noisy patches with drawn neighbors",
                "clean patches",
            )),
        });
        let noisy: Vec<_> = noisy.collect::<Result<_>>()?;
        self.step_on(&noisy, factors, learning_rate).map(Some)
    }

    fn step_towards(
        &mut self,
        noisy_and_targets: &[(Batch, Batch)],
        learning_rate: f64,
    ) -> Result<Losses> {
        let pairs: Vec<_> = noisy_and_targets.iter().map(|(a, b)| (a, b)).collect();
        self.step_on_targets(&pairs, learning_rate)
    }

    fn set_method(&mut self, method: Method) -> Result<()> {
        self.regularizer_half = method.half.then(units).transpose()?;
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
