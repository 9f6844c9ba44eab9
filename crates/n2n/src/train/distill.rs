//! Knowledge distillation (Hinton et al., 2015): a network that learns from another's results instead of neighbors.

use rand::{Rng, RngExt};

use crate::batch::Batch;
use crate::dihedral::Dihedral;
use crate::error::{Error, Result};
use crate::network::{self, Denoise, LossFactors, Losses, Method, Sample, State, Train};
use crate::train::random::{Purpose, stream};
use crate::unet::{Grid, UNet};
use crate::weights::Weights;

/// A student that learns to reproduce a teacher's results on the same noisy images.
///
/// The teacher sees each patch flipped and rotated at random, and its result is flipped and rotated back, so that the
/// student learns the mean over all eight variants: a converged student reproduces the teacher's ensemble in one pass.
/// No clean image is involved. Λ and the other factors of the paper's loss have no effect.
pub struct Distillation {
    student: Box<dyn Train>,
    teacher: Box<dyn Denoise>,
    seed: u64,
    steps: u64,
}

impl Distillation {
    /// A student and a teacher, which must have the same number of channels.
    ///
    /// # Errors
    /// If they do not.
    pub fn new(student: Box<dyn Train>, teacher: Box<dyn Denoise>, seed: u64) -> Result<Self> {
        let (expected, found) = (student.channels(), teacher.channels());
        if expected != found {
            return Err(Error::value("channels of the teacher", expected, found));
        }
        Ok(Self {
            student,
            teacher,
            seed,
            steps: 0,
        })
    }

    /// The teacher's results for square patches, each flipped and rotated at random.
    fn taught(&mut self, noisy: &Batch, rng: &mut impl Rng) -> Result<Batch> {
        let ways: Vec<_> = (0..noisy.n)
            .map(|_| Dihedral(rng.random_range(0..8)))
            .collect();
        let laid = laid(noisy, ways.iter().copied());
        let denoised = self.teacher.denoise(&laid)?;
        Ok(self::laid(&denoised, ways.iter().map(|way| way.inverse())))
    }
}

/// The square images of a batch, each flipped and rotated in its own way.
fn laid(batch: &Batch, ways: impl Iterator<Item = Dihedral>) -> Batch {
    let size = (batch.h, batch.w);
    let images = ways.enumerate();
    let data = images.flat_map(|(i, way)| way.apply(batch.image(i), size));
    Batch::new(batch.n, batch.h, batch.w, batch.c, data.collect())
}

impl Denoise for Distillation {
    fn channels(&self) -> usize {
        self.student.channels()
    }

    fn grid(&self) -> Grid {
        self.student.grid()
    }

    fn denoise(&mut self, noisy: &Batch) -> Result<Batch> {
        self.student.denoise(noisy)
    }

    fn reserve(&mut self, h: usize, w: usize) -> Result<()> {
        self.student.reserve(h, w)
    }

    fn working_bytes(&self, h: usize, w: usize) -> u64 {
        self.student.working_bytes(h, w)
    }

    fn device(&self) -> String {
        self.student.device()
    }

    fn fork(&self) -> Option<Box<dyn Denoise>> {
        self.student.fork()
    }
}

impl Train for Distillation {
    fn architecture(&self) -> UNet {
        self.student.architecture()
    }

    fn reserve_step(&mut self, n: usize, h: usize, w: usize) -> Result<()> {
        self.student.reserve_step(n, h, w)
    }

    /// `Loss1` is the mean squared difference from the teacher.
    fn step(
        &mut self,
        samples: &[Sample],
        _: LossFactors,
        learning_rate: f64,
    ) -> Result<Option<Losses>> {
        network::check_samples(samples)?;
        let mut rng = stream(self.seed, Purpose::Teacher, 0, self.steps as usize);
        let taught = samples.iter().map(|sample| {
            let Sample::Noisy(noisy, _) = sample else {
                let what = "patches of a step with a teacher";
                return Err(Error::value(what, "noisy ones", "clean ones"));
            };
            Ok((noisy.clone(), self.taught(noisy, &mut rng)?))
        });
        let taught: Vec<_> = taught.collect::<Result<_>>()?;
        let losses = self.student.step_towards(&taught, learning_rate)?;
        self.steps += 1;
        Ok(Some(losses))
    }

    fn set_method(&mut self, method: Method) -> Result<()> {
        self.student.set_method(method)
    }

    fn weights(&self) -> Result<Weights> {
        self.student.weights()
    }

    fn set_weights(&mut self, weights: &Weights) -> Result<()> {
        self.steps = 0;
        self.student.set_weights(weights)
    }

    fn state(&self) -> Result<State> {
        self.student.state()
    }

    fn set_state(&mut self, state: &State) -> Result<()> {
        self.steps = state.steps;
        self.student.set_state(state)
    }

    fn average(&mut self, decay: f64) {
        self.student.average(decay);
    }

    fn swap_average(&mut self) {
        self.student.swap_average();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::CpuNetwork;
    use crate::neighbors::Neighbors;
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

    fn distillation(student_seed: u64, pixel: fn(f32) -> f32) -> Distillation {
        let unet = UNet::new(4, 1).unwrap();
        let student = CpuNetwork::initial_scaled(unet, 1.0, student_seed);
        let teacher = Box::new(Fake::new(1, pixel));
        let mut network = Distillation::new(Box::new(student), teacher, 7).unwrap();
        let optimizer = Optimizer::Muon;
        let method = Method {
            optimizer,
            ..Method::default()
        };
        network.set_method(method).unwrap();
        network
    }

    fn step(network: &mut Distillation, k: u64) -> f64 {
        let factors = LossFactors {
            lambda1: 1.0,
            lambda2: 1.0,
            lambda: 2.0,
        };
        let losses = network.step(&[sample(k)], factors, 3e-3).unwrap().unwrap();
        assert_eq!(losses.loss1, losses.loss_full);
        losses.loss_full
    }

    #[test]
    fn a_student_learns_what_its_teacher_does() {
        let mut network = distillation(1, |x| 0.25 + 0.5 * x);
        let first = step(&mut network, 0);
        let last = (1..60).map(|k| step(&mut network, k)).last().unwrap();
        assert!(last < 0.2 * first, "{first} to {last}");
    }

    #[test]
    fn the_loss_is_the_mean_square_to_the_teacher() {
        let mut network = distillation(1, |x| 2.0 * x);
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
    fn each_patch_is_returned_in_its_original_orientation() {
        let mut network = distillation(1, |x| x);
        for k in 0..8 {
            let Sample::Noisy(noisy, _) = sample(k) else {
                unreachable!()
            };
            let mut rng = ChaCha8Rng::seed_from_u64(k);
            assert!(network.taught(&noisy, &mut rng).unwrap() == noisy);
        }
    }

    #[test]
    fn a_run_resumes_from_its_state_bit_for_bit() {
        // A teacher for which the orientation of an image matters: a network of random weights.
        let network = |seed| {
            let unet = UNet::new(2, 1).unwrap();
            let teacher = CpuNetwork::initial_scaled(unet, 1.0, 5);
            let student = CpuNetwork::initial_scaled(unet, 1.0, seed);
            Distillation::new(Box::new(student), Box::new(teacher), 7).unwrap()
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
    fn a_step_on_several_batches_has_their_mean_loss() {
        let losses = |samples: &[Sample]| {
            let mut network = distillation(1, |x| 0.25 + 0.5 * x);
            let factors = LossFactors {
                lambda1: 1.0,
                lambda2: 1.0,
                lambda: 2.0,
            };
            network.step(samples, factors, 3e-3).unwrap().unwrap().loss1
        };
        let alone = [losses(&[sample(1)]), losses(&[sample(2)])];
        let together = losses(&[sample(1), sample(2)]);
        let mean = f64::midpoint(alone[0], alone[1]);
        assert!(
            (together - mean).abs() < 1e-6 * mean,
            "{together} {alone:?}"
        );
    }

    #[test]
    fn a_teacher_of_other_channels_is_refused() {
        let student = CpuNetwork::initial(UNet::new(2, 1).unwrap(), 1);
        let teacher = Box::new(Fake::identity(3));
        let error = Distillation::new(Box::new(student), teacher, 0)
            .err()
            .unwrap();
        assert!(error.to_string().contains("teacher"), "{error}");
    }
}
