//! Stand-ins for devices, which record what they are asked.

use super::*;

/// Stands in for a device: records what it is asked, and has one number for all its weights, which every step
/// changes.
pub(super) struct Recording {
    pub(super) weight: f32,
    pub(super) steps: Vec<Asked>,
    pub(super) fail_at: Option<usize>,
    pub(super) lost_at: Option<usize>,
    /// The reconstruction loss of each step, counted from 1.
    pub(super) loss: fn(usize) -> f64,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Asked {
    pub(super) noisy: Batch,
    pub(super) neighbors: Neighbors,
    pub(super) factors: LossFactors,
    pub(super) learning_rate: f64,
}

impl Recording {
    pub(super) fn new() -> Self {
        Self {
            weight: 1.0,
            steps: vec![],
            fail_at: None,
            lost_at: None,
            loss: |_| 0.25,
        }
    }
}

impl Denoise for Recording {
    fn channels(&self) -> usize {
        1
    }

    fn grid(&self) -> Grid {
        self.architecture().grid()
    }

    fn denoise(&mut self, noisy: &Batch) -> Result<Batch> {
        Ok(noisy.clone())
    }

    fn working_bytes(&self, _: usize, _: usize) -> u64 {
        0
    }

    fn device(&self) -> String {
        "a test".into()
    }
}

impl Train for Recording {
    fn architecture(&self) -> UNet {
        UNet::new(1, 1).unwrap()
    }

    fn step(
        &mut self,
        samples: &[Sample],
        factors: LossFactors,
        learning_rate: f64,
    ) -> Result<Option<Losses>> {
        let [Sample::Noisy(noisy, neighbors)] = samples else {
            panic!("clean patches are not wanted");
        };
        self.steps.push(Asked {
            noisy: noisy.clone(),
            neighbors: neighbors.clone(),
            factors,
            learning_rate,
        });
        if self.lost_at == Some(self.steps.len()) {
            return Err(lost());
        }
        self.weight = self.weight * 0.9 + noisy.data[0];
        let failed = self.fail_at == Some(self.steps.len());
        Ok(Some(Losses {
            loss1: (self.loss)(self.steps.len()),
            loss2: 0.5 * factors.lambda,
            loss_full: if failed { f64::NAN } else { 0.75 },
        }))
    }

    fn weights(&self) -> Result<Weights> {
        let tensors = self.architecture().tensors().into_iter().map(|spec| {
            let data = vec![self.weight; spec.len()];
            let shape = spec.shape;
            (spec.name, Tensor { shape, data })
        });
        Ok(Weights {
            tensors: tensors.collect(),
            ..Weights::default()
        })
    }

    fn set_weights(&mut self, _: &Weights) -> Result<()> {
        unreachable!("training starts from the weights it is given")
    }

    fn state(&self) -> Result<State> {
        Ok(State {
            weights: self.weights()?,
            first: self.weights()?,
            second: self.weights()?,
            steps: 0,
            average: None,
        })
    }

    fn set_state(&mut self, state: &State) -> Result<()> {
        self.weight = state.weights.tensors["nin_c.bias"].data[0];
        Ok(())
    }

    fn average(&mut self, _: f64) {}

    fn swap_average(&mut self) {}
}

fn lost() -> Error {
    Error::Device {
        device: "a test".into(),
        reason: "it was unplugged".into(),
    }
}

fn no_memory() -> Error {
    Error::OutOfMemory {
        device: "a test".into(),
        asked: "a step".into(),
        fits: None,
    }
}

/// Stands in for a device that draws noise and neighbors itself, and reports losses only when asked.
pub(super) struct Drawer {
    pub(super) network: CpuNetwork,
    /// The losses of each step, and its seed.
    pub(super) steps: Vec<(Losses, u64)>,
    /// The number of steps taken, each time that the losses were asked for.
    pub(super) told: Vec<usize>,
    /// The number of steps whose noise was drawn elsewhere.
    pub(super) noisy: usize,
    pub(super) fail_at: Option<usize>,
    pub(super) has_failed: bool,
    pub(super) lost_at: Option<usize>,
    pub(super) full_at: Option<usize>,
}

impl Drawer {
    pub(super) fn new(config: &Config) -> Self {
        let unet = config.unet().unwrap();
        Self {
            network: CpuNetwork::initial_scaled(unet, config.init_scale, config.seed),
            steps: vec![],
            told: vec![],
            noisy: 0,
            fail_at: None,
            has_failed: false,
            lost_at: None,
            full_at: None,
        }
    }
}

impl Denoise for Drawer {
    fn channels(&self) -> usize {
        self.network.channels()
    }

    fn grid(&self) -> Grid {
        self.network.grid()
    }

    fn denoise(&mut self, noisy: &Batch) -> Result<Batch> {
        self.network.denoise(noisy)
    }

    fn working_bytes(&self, h: usize, w: usize) -> u64 {
        self.network.working_bytes(h, w)
    }

    fn device(&self) -> String {
        "a test that draws".into()
    }
}

impl Train for Drawer {
    fn architecture(&self) -> UNet {
        self.network.architecture()
    }

    fn wants(&self) -> SampleKind {
        SampleKind::Clean
    }

    fn reserve_step(&mut self, _: usize, _: usize, _: usize) -> Result<()> {
        match self.full_at {
            Some(0) => Err(no_memory()),
            _ => Ok(()),
        }
    }

    fn step(
        &mut self,
        samples: &[Sample],
        factors: LossFactors,
        rate: f64,
    ) -> Result<Option<Losses>> {
        let [sample] = samples else {
            panic!("one batch per step is expected");
        };
        let clean = match sample {
            Sample::Noisy(noisy, neighbors) => {
                self.noisy += 1;
                return self.network.step(noisy, neighbors, factors, rate).map(Some);
            }
            Sample::Clean(clean) => clean,
        };
        let at = self.steps.len() + 1;
        if self.lost_at == Some(at) {
            return Err(lost());
        }
        self.has_failed |= self.fail_at == Some(at);
        let mut losses = Losses {
            loss1: 0.0,
            loss2: 0.0,
            loss_full: f64::NAN,
        };
        if !self.has_failed {
            let pixels = match &clean.pixels {
                Pixels::U8(bytes) => bytes.iter().map(|&x| f32::from(x) / 255.0).collect(),
                Pixels::F32(floats) => floats.clone(),
            };
            let mut noisy = Batch::new(clean.n, clean.side, clean.side, clean.c, pixels);
            let mut rng = stream(clean.seed, Purpose::Noise, 0, 0);
            clean.noise.corrupt_in_place(&mut noisy, &mut rng);
            let neighbors = Neighbors::draw(&noisy, &mut rng);
            losses = self.network.step(&noisy, &neighbors, factors, rate)?;
        }
        self.steps.push((losses, clean.seed));
        Ok(None)
    }

    fn take_losses(&mut self) -> Result<Losses> {
        if self.full_at.is_some_and(|at| at <= self.steps.len()) {
            return Err(no_memory());
        }
        let before = self.told.last().copied().unwrap_or(0);
        self.told.push(self.steps.len());
        let sum = |part: fn(&Losses) -> f64| {
            let untold = self.steps[before..].iter();
            untold.map(|(losses, _)| part(losses)).sum()
        };
        Ok(Losses {
            loss1: sum(|losses| losses.loss1),
            loss2: sum(|losses| losses.loss2),
            loss_full: sum(|losses| losses.loss_full),
        })
    }

    fn weights(&self) -> Result<Weights> {
        Train::weights(&self.network)
    }

    fn set_weights(&mut self, weights: &Weights) -> Result<()> {
        self.network.set_weights(weights)
    }

    fn state(&self) -> Result<State> {
        Train::state(&self.network)
    }

    fn set_state(&mut self, state: &State) -> Result<()> {
        self.network.set_state(state)
    }

    fn average(&mut self, decay: f64) {
        if !self.has_failed {
            self.network.average(decay);
        }
    }

    fn swap_average(&mut self) {
        self.network.swap_average();
    }
}
