//! What a device must offer: the edge between the method and the arithmetic.
//!
//! The training loop and the denoiser know this trait and nothing of the device behind it, so that
//! a second device is a second implementation and nothing else changes.

use crate::batch::Batch;
use crate::error::Result;
use crate::neighbors::Neighbors;
use crate::unet::UNet;
use crate::weights::Weights;

/// A network that denoises batches, learns from noisy ones, and gives and takes named weights.
pub trait Network: Send {
    /// The architecture, hence the names and shapes of the weights.
    fn architecture(&self) -> UNet;

    /// Denoises a batch of any `n`; `h` and `w` must be multiples of [`UNet::SIZE_MULTIPLE`].
    ///
    /// The result has the shape of `noisy` and is not clipped.
    fn denoise(&mut self, noisy: &Batch) -> Result<Batch>;

    /// About how many bytes [`Self::denoise`] needs at once for one image of `h` × `w` pixels, beside the
    /// image and its result. What is planned by it should not exceed it.
    fn working_bytes(&self, h: usize, w: usize) -> u64;

    /// One training step of the paper (Algorithm 1): losses, gradients, one Adam update.
    ///
    /// `h` and `w` must be multiples of twice [`UNet::SIZE_MULTIPLE`], for the network sees the
    /// half-size neighbours, and `neighbors` a draw for `noisy`'s size. The losses are those before
    /// the update. When the loss or a gradient is not finite there is no update, and `loss_full` is
    /// not finite either.
    ///
    /// With Λ = 0 the regulariser is 0 whatever the network gives on the whole image, so that
    /// forward pass is left out.
    fn step(
        &mut self,
        noisy: &Batch,
        neighbors: &Neighbors,
        factors: LossFactors,
        learning_rate: f64,
    ) -> Result<Losses>;

    /// A copy of the weights, in the order of [`UNet::tensors`].
    fn weights(&self) -> Weights;

    /// Replaces the weights; forgets the state of the optimiser and the running average.
    fn set_weights(&mut self, weights: &Weights) -> Result<()>;

    /// A copy of all that the next step depends on.
    fn state(&self) -> State;

    /// Goes on from a copied state: from here every step is, to the bit, what it would have been
    /// there.
    fn set_state(&mut self, state: &State) -> Result<()>;

    /// Moves the running average of the weights towards the weights: `decay · average +
    /// (1 − decay) · weights`, `decay` in 0..1. The first call takes the weights as they are.
    fn average(&mut self, decay: f64);

    /// Exchanges the weights with their running average, to use or score it; exchange them back
    /// before the next step. Does nothing without an average.
    fn swap_average(&mut self);

    /// What computes, in words: results are the same to the bit only on the same.
    fn device(&self) -> String;
}

/// All that a network's next step depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// The weights.
    pub weights: Weights,
    /// Adam's first moments, named and shaped as the weights.
    pub first: Weights,
    /// Adam's second moments, likewise.
    pub second: Weights,
    /// Updates taken.
    pub steps: u64,
    /// The running average of the weights, if there is one.
    pub average: Option<Weights>,
}

/// The factors of the loss: `λ1 · Loss1 + λ2 · Loss2`, with `Λ` inside `Loss2`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossFactors {
    /// λ1, of the reconstruction term.
    pub lambda1: f64,
    /// λ2, of the regulariser.
    pub lambda2: f64,
    /// Λ, which grows with the epoch: `epoch / n_epoch × increase_ratio`.
    pub lambda: f64,
}

/// The losses of one step, before its update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Losses {
    /// `mean(diff²)`.
    pub loss1: f64,
    /// `Λ · mean((diff − exp_diff)²)`.
    pub loss2: f64,
    /// `λ1 · Loss1 + λ2 · Loss2`.
    pub loss_full: f64,
}

/// Networks of a line, for the tests of what is built on the trait.
#[cfg(test)]
pub(crate) mod fake {
    use super::*;

    /// A network that applies a function to each value and notes the sizes it saw.
    pub struct Fake {
        n_channel: usize,
        pixel: fn(f32) -> f32,
        /// The `(n, h, w, c)` of each batch, in order.
        pub seen: Vec<(usize, usize, usize, usize)>,
    }

    impl Fake {
        /// A network that returns its input.
        pub fn identity(n_channel: usize) -> Self {
            Self::new(n_channel, |x| x)
        }

        /// A network that applies `pixel` to each value.
        pub fn new(n_channel: usize, pixel: fn(f32) -> f32) -> Self {
            Self {
                n_channel,
                pixel,
                seen: Vec::new(),
            }
        }
    }

    impl Network for Fake {
        fn architecture(&self) -> UNet {
            UNet::new(1, self.n_channel).expect("a valid architecture")
        }

        fn denoise(&mut self, noisy: &Batch) -> Result<Batch> {
            assert_eq!(noisy.h % UNet::SIZE_MULTIPLE, 0);
            assert_eq!(noisy.w % UNet::SIZE_MULTIPLE, 0);
            self.seen.push((noisy.n, noisy.h, noisy.w, noisy.c));
            let mut denoised = noisy.clone();
            for value in &mut denoised.data {
                *value = (self.pixel)(*value);
            }
            Ok(denoised)
        }

        fn working_bytes(&self, h: usize, w: usize) -> u64 {
            (h * w * 10_000) as u64
        }

        fn step(&mut self, _: &Batch, _: &Neighbors, _: LossFactors, _: f64) -> Result<Losses> {
            unimplemented!("the tests with this network do not train")
        }

        fn weights(&self) -> Weights {
            unimplemented!("this network has no weights")
        }

        fn set_weights(&mut self, _: &Weights) -> Result<()> {
            unimplemented!("this network has no weights")
        }

        fn state(&self) -> State {
            unimplemented!("this network has no weights")
        }

        fn set_state(&mut self, _: &State) -> Result<()> {
            unimplemented!("this network has no weights")
        }

        fn average(&mut self, _: f64) {
            unimplemented!("this network has no weights")
        }

        fn swap_average(&mut self) {
            unimplemented!("this network has no weights")
        }

        fn device(&self) -> String {
            "a function".into()
        }
    }
}
