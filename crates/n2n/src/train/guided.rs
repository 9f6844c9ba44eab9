//! A network that learns with the help of another one, whose weights stay as they are.

use rand::RngExt;

use crate::batch::Batch;
use crate::dihedral::Dihedral;
use crate::error::{Error, Result};
use crate::neighbors::{Neighbors, Target};
use crate::network::{Denoise, LossFactors, Losses, Method, Sample, State, Train};
use crate::train::random::{Purpose, stream};
use crate::unet::{Grid, UNet};
use crate::weights::Weights;

/// A network that learns from the results of another one, its guide, on the same noisy images.
///
/// The guide sees each patch flipped and rotated at random, and its result is flipped and rotated back, so that what is
/// learned comes from the mean over all eight variants. No clean image is involved.
///
/// `Loss1` is the mean squared difference from the target, and `Loss2` is 0.
pub struct Guided {
    network: Box<dyn Train>,
    guide: Box<dyn Denoise>,
    role: Role,
    seed: u64,
    steps: u64,
    target: Target,
}

/// What a guide's results are used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Teacher,
    Corrector,
}

impl Guided {
    /// A network that learns to reproduce a teacher's results (knowledge distillation; Hinton et al., 2015), in place
    /// of the neighbors. Once converged, it reproduces the teacher's ensemble in one pass. Λ and the other factors of
    /// the paper's loss have no effect.
    ///
    /// # Errors
    /// A teacher with a different number of channels.
    pub fn by_teacher(
        network: Box<dyn Train>,
        teacher: Box<dyn Denoise>,
        seed: u64,
    ) -> Result<Self> {
        Self::new(network, teacher, Role::Teacher, seed)
    }

    /// A network that learns from neighbors, with the paper's loss (equation 6), in which another model computes the
    /// regularizer's `g1(f(y)) − g2(f(y))`, for every patch.
    ///
    /// This estimates how the two neighbors differ without noise. If `f` removed all the noise that can be removed from
    /// `y`, it would be right on average. But `f` learns from `g1(y)`, half the size of `y`, whose detail is sharper, so
    /// that it leaves more noise in `y` than necessary, and part of that noise is learned. A corrector is trained on
    /// images at the scale of `y`.
    ///
    /// The loss is that of a single target, `g2(y)` plus the fraction `λ2 Λ / (λ1 + λ2 Λ)` of that difference, and has
    /// the gradient of the paper's up to the factor `λ1 + λ2 Λ`.
    ///
    /// # Errors
    /// A corrector with a different number of channels.
    pub fn by_corrector(
        network: Box<dyn Train>,
        corrector: Box<dyn Denoise>,
        seed: u64,
    ) -> Result<Self> {
        Self::new(network, corrector, Role::Corrector, seed)
    }

    fn new(
        network: Box<dyn Train>,
        guide: Box<dyn Denoise>,
        role: Role,
        seed: u64,
    ) -> Result<Self> {
        let (expected, found) = (network.channels(), guide.channels());
        if expected != found {
            let what = match role {
                Role::Teacher => "channels of the teacher",
                Role::Corrector => "channels of the corrector",
            };
            return Err(Error::value(what, expected, found));
        }
        Ok(Self {
            network,
            guide,
            role,
            seed,
            steps: 0,
            target: Target::default(),
        })
    }

    /// The guide's results for square patches, each flipped and rotated at random.
    fn guidance(&mut self, noisy: &Batch) -> Result<Batch> {
        let mut rng = stream(self.seed, Purpose::Teacher, 0, self.steps as usize);
        let ways: Vec<_> = (0..noisy.n)
            .map(|_| Dihedral(rng.random_range(0..8)))
            .collect();
        let laid = laid(noisy, ways.iter().copied());
        let denoised = self.guide.denoise(&laid)?;
        Ok(self::laid(&denoised, ways.iter().map(|way| way.inverse())))
    }

    /// The first neighbors of noisy patches, and the second ones plus `fraction` of how the two differ without noise.
    fn corrected(
        &mut self,
        noisy: &Batch,
        neighbors: &Neighbors,
        fraction: f64,
    ) -> Result<(Batch, Batch)> {
        let (input, mut target) = neighbors.sub_sample_for(noisy, self.target);
        if fraction > 0.0 {
            let denoised = self.guidance(noisy)?;
            let (first, second) = neighbors.sub_sample_for(&denoised, self.target);
            let differences = first.data.iter().zip(&second.data);
            for (target, (first, second)) in target.data.iter_mut().zip(differences) {
                *target += fraction as f32 * (first - second);
            }
        }
        Ok((input, target))
    }
}

/// The square images of a batch, each flipped and rotated in its own way.
fn laid(batch: &Batch, ways: impl Iterator<Item = Dihedral>) -> Batch {
    let size = (batch.h, batch.w);
    let images = ways.enumerate();
    let data = images.flat_map(|(i, way)| way.apply(batch.image(i), size));
    Batch::new(batch.n, batch.h, batch.w, batch.c, data.collect())
}

impl Denoise for Guided {
    fn channels(&self) -> usize {
        self.network.channels()
    }

    fn grid(&self) -> Grid {
        self.network.grid()
    }

    fn denoise(&mut self, noisy: &Batch) -> Result<Batch> {
        self.network.denoise(noisy)
    }

    fn reserve(&mut self, h: usize, w: usize) -> Result<()> {
        self.network.reserve(h, w)
    }

    fn working_bytes(&self, h: usize, w: usize) -> u64 {
        self.network.working_bytes(h, w)
    }

    fn device(&self) -> String {
        self.network.device()
    }

    fn fork(&self) -> Option<Box<dyn Denoise>> {
        self.network.fork()
    }
}

impl Train for Guided {
    fn architecture(&self) -> UNet {
        self.network.architecture()
    }

    fn reserve_step(&mut self, n: usize, h: usize, w: usize) -> Result<()> {
        self.network.reserve_step(n, h, w)
    }

    fn step(
        &mut self,
        sample: &Sample,
        factors: LossFactors,
        learning_rate: f64,
    ) -> Result<Option<Losses>> {
        let Sample::Noisy(noisy, neighbors) = sample else {
            let what = "patches of a step with a teacher or a corrector";
            return Err(Error::value(what, "noisy ones", "clean ones"));
        };
        let losses = match self.role {
            Role::Teacher => {
                let target = self.guidance(noisy)?;
                self.network.step_towards(noisy, &target, learning_rate)?
            }
            Role::Corrector => {
                let regularizer = factors.lambda2 * factors.lambda;
                let fraction = regularizer / (factors.lambda1 + regularizer);
                let (input, target) = self.corrected(noisy, neighbors, fraction)?;
                self.network.step_towards(&input, &target, learning_rate)?
            }
        };
        self.steps += 1;
        Ok(Some(losses))
    }

    fn set_method(&mut self, method: Method) -> Result<()> {
        self.target = method.target;
        self.network.set_method(method)
    }

    fn weights(&self) -> Result<Weights> {
        self.network.weights()
    }

    fn set_weights(&mut self, weights: &Weights) -> Result<()> {
        self.steps = 0;
        self.network.set_weights(weights)
    }

    fn state(&self) -> Result<State> {
        self.network.state()
    }

    fn set_state(&mut self, state: &State) -> Result<()> {
        self.steps = state.steps;
        self.network.set_state(state)
    }

    fn average(&mut self, decay: f64) {
        self.network.average(decay);
    }

    fn swap_average(&mut self) {
        self.network.swap_average();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::CpuNetwork;
    use crate::network::Optimizer;
    use crate::network::fake::Fake;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn sample(k: u64) -> Sample {
        let mut rng = ChaCha8Rng::seed_from_u64(k);
        let mut noisy = Batch::zeros(2, 64, 64, 1);
        noisy.data.fill_with(|| rng.random());
        let neighbors = Neighbors::draw(&noisy, &mut rng);
        Sample::Noisy(noisy, neighbors)
    }

    fn taught(student_seed: u64, pixel: fn(f32) -> f32) -> Guided {
        let unet = UNet::new(4, 1).unwrap();
        let student = CpuNetwork::initial_scaled(unet, 1.0, student_seed);
        let teacher = Box::new(Fake::new(1, pixel));
        let mut network = Guided::by_teacher(Box::new(student), teacher, 7).unwrap();
        let optimizer = Optimizer::Muon;
        let method = Method {
            optimizer,
            ..Method::default()
        };
        network.set_method(method).unwrap();
        network
    }

    fn step(network: &mut Guided, k: u64) -> f64 {
        let factors = LossFactors {
            lambda1: 1.0,
            lambda2: 1.0,
            lambda: 2.0,
        };
        let losses = network.step(&sample(k), factors, 3e-3).unwrap().unwrap();
        assert_eq!(losses.loss1, losses.loss_full);
        losses.loss_full
    }

    #[test]
    fn a_student_learns_what_its_teacher_does() {
        let mut network = taught(1, |x| 0.25 + 0.5 * x);
        let first = step(&mut network, 0);
        let last = (1..60).map(|k| step(&mut network, k)).last().unwrap();
        assert!(last < 0.2 * first, "{first} to {last}");
    }

    #[test]
    fn the_loss_is_the_mean_square_to_the_teacher() {
        let mut network = taught(1, |x| 2.0 * x);
        let Sample::Noisy(noisy, _) = sample(3) else {
            unreachable!()
        };
        let denoised = network.denoise(&noisy).unwrap();
        let squares = std::iter::zip(&denoised.data, &noisy.data)
            .map(|(&f, &y)| (f64::from(f) - 2.0 * f64::from(y)).powi(2));
        let expected = squares.sum::<f64>() / noisy.data.len() as f64;
        let loss = step(&mut network, 3);
        assert!(
            (loss - expected).abs() < 1e-6 * expected,
            "{loss} {expected}"
        );
    }

    #[test]
    fn each_patch_is_laid_back_as_it_was() {
        let mut network = taught(1, |x| x);
        for k in 0..8 {
            let Sample::Noisy(noisy, _) = sample(k) else {
                unreachable!()
            };
            network.steps = k;
            assert!(network.guidance(&noisy).unwrap() == noisy);
        }
    }

    #[test]
    fn the_loss_of_a_corrected_step_is_that_of_the_paper() {
        let unet = UNet::new(2, 1).unwrap();
        let network = || Box::new(CpuNetwork::initial_scaled(unet, 1.0, 3));
        let mut plain: Box<dyn Train> = network();
        let Sample::Noisy(noisy, _) = sample(5) else {
            unreachable!()
        };
        let noisy = Batch::new(1, 64, 64, 1, noisy.image(0).to_vec());
        let neighbors = Neighbors::draw(&noisy, &mut ChaCha8Rng::seed_from_u64(1));
        // A seed whose first draw leaves the patch as it is.
        let is_plain = |&seed: &u64| {
            let mut rng = stream(seed, Purpose::Teacher, 0, 0);
            rng.random_range(0..8) == 0
        };
        let seed = (0..1000).find(is_plain).unwrap();
        let mut corrected = Guided::by_corrector(network(), network(), seed).unwrap();
        let method = Method {
            target: Target::Mean,
            ..Method::default()
        };
        corrected.set_method(method).unwrap();
        plain.set_method(method).unwrap();

        let denoised = plain.denoise(&noisy).unwrap();
        let (first, second) = neighbors.sub_sample_for(&denoised, Target::Mean);
        let differences = std::iter::zip(&first.data, &second.data);
        let squares = differences.map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2));
        let squares = squares.sum::<f64>() / first.data.len() as f64;
        let sample = Sample::Noisy(noisy, neighbors);
        for (lambda1, lambda2, lambda) in [(1.0, 1.0, 2.0), (0.5, 1.0, 3.0), (1.0, 0.5, 0.0)] {
            let factors = LossFactors {
                lambda1,
                lambda2,
                lambda,
            };
            let rate = 0.0;
            let of_paper = plain.step(&sample, factors, rate).unwrap().unwrap();
            let losses = corrected.step(&sample, factors, rate).unwrap().unwrap();
            // λ1 a² + λ2 Λ (a − d)² as a square of a plus the rest, which does not depend on the network.
            let regularizer = lambda2 * lambda;
            let all = lambda1 + regularizer;
            let got = all * losses.loss_full + lambda1 * regularizer / all * squares;
            let expected = of_paper.loss_full;
            assert!((got - expected).abs() < 1e-5 * expected, "{got} {expected}");
        }
    }

    #[test]
    fn a_run_goes_on_from_its_state_to_the_bit() {
        // A teacher for which the orientation of an image matters: a network of random weights.
        let network = |seed| {
            let unet = UNet::new(2, 1).unwrap();
            let teacher = CpuNetwork::initial_scaled(unet, 1.0, 5);
            let student = CpuNetwork::initial_scaled(unet, 1.0, seed);
            Guided::by_teacher(Box::new(student), Box::new(teacher), 7).unwrap()
        };
        let mut whole = network(1);
        step(&mut whole, 0);
        let state = whole.state().unwrap();
        step(&mut whole, 1);
        let mut resumed = network(2);
        resumed.set_state(&state).unwrap();
        step(&mut resumed, 1);
        assert!(resumed.state().unwrap() == whole.state().unwrap());
    }

    #[test]
    fn a_teacher_of_other_channels_is_refused() {
        let student = CpuNetwork::initial(UNet::new(2, 1).unwrap(), 1);
        let teacher = Box::new(Fake::identity(3));
        let error = Guided::by_teacher(Box::new(student), teacher, 0)
            .err()
            .unwrap();
        assert!(error.to_string().contains("teacher"), "{error}");
    }
}
