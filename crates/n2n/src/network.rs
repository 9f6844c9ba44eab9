//! The interface that a device implements: the boundary between the method and the arithmetic.
//!
//! Denoising uses [`Denoise`], the training loop uses [`Train`], and neither knows the device behind it. A second
//! device is therefore a second implementation; nothing else changes.

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::neighbors::{Neighbors, PAIRS, Target};
use crate::noise::Noise;
use crate::unet::{Grid, UNet};
use crate::weights::Weights;
use serde::{Deserialize, Serialize};

/// A network that denoises batches.
pub trait Denoise: Send {
    /// Channels of the images it takes.
    fn channels(&self) -> usize;

    /// Whether [`Self::denoise`] also takes batches of one channel: single channels then need not be repeated to make
    /// [`Self::channels`], which would give all of them the same noise.
    fn takes_gray(&self) -> bool {
        self.channels() == 1
    }

    /// The sizes it accepts, and where an image can be split into tiles without changing the result.
    fn grid(&self) -> Grid;

    /// Denoises a batch of any `n`; `h` and `w` must be multiples of [`Grid::multiple`].
    ///
    /// The result has the shape of `noisy` and is not clipped.
    fn denoise(&mut self, noisy: &Batch) -> Result<Batch>;

    /// Makes sure of the memory that [`Self::denoise`] takes for one image of `h` × `w` pixels, where a
    /// device can run out of it: [`Error::OutOfMemory`] here is none later,
    /// when a part of the result has been handed out.
    fn reserve(&mut self, h: usize, w: usize) -> Result<()> {
        let _ = (h, w);
        Ok(())
    }

    /// About how many bytes [`Self::denoise`] needs at once for one image of `h` × `w` pixels, beside the
    /// image and its result. What is planned by it should not exceed it. [`u64::MAX`] where no memory would
    /// do, for a device has other limits too; 0 where it is not known, and an image is to stay whole.
    fn working_bytes(&self, h: usize, w: usize) -> u64;

    /// What computes, in words: results are the same to the bit only on the same.
    fn device(&self) -> String;

    /// Another network with the same weights, and scratch memory of its own, so that both can denoise at the
    /// same time. `None` where calls have to wait for each other, as on a GPU.
    fn fork(&self) -> Option<Box<dyn Denoise>> {
        None
    }
}

/// A network that learns, and gives and takes named weights.
pub trait Train: Denoise {
    /// The architecture, hence the names and shapes of the weights.
    fn architecture(&self) -> UNet;

    /// The kind of samples that steps are best taken on. Every device takes [`Kind::Noisy`] ones.
    fn wants(&self) -> Kind {
        Kind::Noisy
    }

    /// Makes sure of the memory of a [`Self::step`] on `n` patches of `h` × `w` pixels, as
    /// [`Denoise::reserve`] does.
    fn reserve_step(&mut self, n: usize, h: usize, w: usize) -> Result<()> {
        let _ = (n, h, w);
        Ok(())
    }

    /// One training step of the paper (Algorithm 1): losses, gradients, one Adam update.
    ///
    /// `h` and `w` must be multiples of twice [`Grid::multiple`], for the network sees the
    /// half-size neighbors, and the neighbors a draw for the patches' size. With Λ = 0 the regularizer is 0 whatever
    /// the network gives on the whole image, so that forward pass is left out.
    ///
    /// Gives the losses before the update. When the loss or a gradient is not finite there is no update, and
    /// `loss_full` is not finite either. A device need not wait for the step to end: `None` leaves the losses to
    /// [`Self::take_losses`], and what went wrong may be told by a later call.
    fn step(
        &mut self,
        sample: &Sample,
        factors: LossFactors,
        learning_rate: f64,
    ) -> Result<Option<Losses>>;

    /// One step of plain regression: `loss1`, and with it `loss_full`, is the mean square of what the network makes of
    /// `noisy` minus `target`, two batches of the same size; `h` and `w` must be multiples of
    /// [`Grid::multiple`]. What becomes of the gradient, and of values that are not finite, is as with
    /// [`Self::step`].
    ///
    /// It is an error where the device cannot.
    fn step_towards(
        &mut self,
        noisy: &Batch,
        target: &Batch,
        learning_rate: f64,
    ) -> Result<Losses> {
        let _ = (noisy, target, learning_rate);
        let expected = "a device that can train with a teacher, such as the CPU";
        Err(Error::value("the device", expected, self.device()))
    }

    /// Waits for the steps taken, and gives the sums of the losses that they did not give themselves since the last
    /// call. When a loss or a gradient of a step was not finite, `loss_full` is not either, and the network is as it
    /// was before that step, whatever steps came after.
    fn take_losses(&mut self) -> Result<Losses> {
        Ok(Losses::default())
    }

    /// Chooses how the steps to come estimate the gradient and what they make of it; a network begins with
    /// [`Method::default`].
    ///
    /// It is an error where the device knows no other than the paper's.
    fn set_method(&mut self, method: Method) -> Result<()> {
        if method == Method::default() {
            return Ok(());
        }
        Err(Error::value(
            format!("the training method on {}", self.device()),
            "the paper's: Adam, the drawn target, all patches regularized",
            format!("{method:?}"),
        ))
    }

    /// A copy of the weights, in the order of [`UNet::tensors`].
    fn weights(&self) -> Result<Weights>;

    /// Replaces the weights; forgets the state of the optimizer and the running average.
    fn set_weights(&mut self, weights: &Weights) -> Result<()>;

    /// A copy of all that the next step depends on.
    fn state(&self) -> Result<State>;

    /// Goes on from a copied state: from here every step is, to the bit, what it would have been
    /// there.
    fn set_state(&mut self, state: &State) -> Result<()>;

    /// Moves the running average of the weights towards the weights: `decay · average +
    /// (1 − decay) · weights`, `decay` in 0..1. The first call takes the weights as they are.
    fn average(&mut self, decay: f64);

    /// Exchanges the weights with their running average, to use or score it; exchange them back
    /// before the next step. Does nothing without an average.
    fn swap_average(&mut self);
}

/// What a step is taken on.
#[derive(Debug, Clone, PartialEq)]
pub enum Sample {
    /// Noisy patches, `[n, side, side, channels]`, not clipped, and the neighbors drawn on them.
    Noisy(Batch, Neighbors),
    /// Clean patches, for a device that draws noise and neighbors itself.
    Clean(CleanBatch),
}

/// Which of the two a sample is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// [`Sample::Noisy`]
    Noisy,
    /// [`Sample::Clean`]
    Clean,
}

/// Clean patches, and what is to be drawn on them.
#[derive(Debug, Clone, PartialEq)]
pub struct CleanBatch {
    /// Number of patches.
    pub n: usize,
    /// Height and width of a patch in pixels.
    pub side: usize,
    /// Channels.
    pub c: usize,
    /// `n · side · side · c` values in the order patch, row, column, channel.
    pub pixels: Pixels,
    /// The noise to add. Training on images that are noisy already adds none.
    pub noise: Noise,
    /// Whether each patch is flipped and rotated at random.
    pub augment: bool,
    /// The key of everything that is drawn for this step; no two steps of a run share it.
    pub seed: u64,
}

/// The pixels of patches.
#[derive(Debug, Clone, PartialEq)]
pub enum Pixels {
    /// 255 is 1.0.
    U8(Vec<u8>),
    /// As they are.
    F32(Vec<f32>),
}

impl Pixels {
    /// The number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::F32(values) => values.len(),
        }
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How a step estimates the paper's gradient, and what it makes of it. All choices have the same expected
/// gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Method {
    /// What becomes of the gradient.
    pub optimizer: Optimizer,
    /// The network's target.
    pub target: Target,
    /// Patches of a batch, in turn, whose whole noisy image is denoised for the regularizer; they count for the
    /// others, too. `None`, or as many as there are, for all, as in the paper.
    ///
    /// `exp_diff` is a constant of the loss that the gradient is linear in, so that a sample of it gives the same
    /// expected gradient. `Loss2` is then the mean over these patches.
    pub regularized_patches: Option<usize>,
}

/// What becomes of a gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// Adam (Kingma and Ba, 2015), as in the paper.
    #[default]
    Adam,
    /// Muon (Jordan et al., 2024) for the weights of all layers but the first and the last, Adam for the others and
    /// all biases.
    Muon,
}

/// All that a network's next step depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// The weights.
    pub weights: Weights,
    /// Adam's first moments, named and shaped as the weights; of what Muon updates, its momentum.
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
    /// λ2, of the regularizer.
    pub lambda2: f64,
    /// Λ, which grows with the epoch: `epoch / n_epoch × increase_ratio`.
    pub lambda: f64,
}

/// The losses of one step, before its update.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Losses {
    /// `mean(diff²)`.
    pub loss1: f64,
    /// `Λ · mean((diff − exp_diff)²)`.
    pub loss2: f64,
    /// `λ1 · Loss1 + λ2 · Loss2`.
    pub loss_full: f64,
}

/// Refuses images that a network of this architecture cannot take.
pub fn check_images(unet: &UNet, images: &Batch) -> Result<()> {
    check_multiples(unet, images, unet.grid().multiple)
}

/// Refuses images that do not fit the architecture, or whose height or width is not a multiple of `multiple`.
fn check_multiples(unet: &UNet, images: &Batch, multiple: usize) -> Result<()> {
    let shape = [images.n, images.h, images.w, images.c];
    check_shape(unet, shape, multiple)?;
    check_values("values of the images", shape, images.data.len())
}

/// Refuses noisy patches that [`Train::step`] cannot be taken on.
pub fn check_step(unet: &UNet, noisy: &Batch, neighbors: &Neighbors) -> Result<()> {
    check_multiples(unet, noisy, 2 * unet.grid().multiple)?;
    let cells = (noisy.n, noisy.h / 2, noisy.w / 2);
    let drawn = (neighbors.n, neighbors.h, neighbors.w);
    if drawn != cells {
        let what = "cells of the drawn neighbors";
        return Err(Error::value(
            what,
            format!("{cells:?}"),
            format!("{drawn:?}"),
        ));
    }
    let (count, pairs) = (cells.0 * cells.1 * cells.2, &neighbors.pairs);
    if pairs.len() != count || pairs.iter().any(|&pair| usize::from(pair) >= PAIRS.len()) {
        let what = "pairs of the drawn neighbors";
        let expected = format!("{count} below {}", PAIRS.len());
        let got = format!("{}, the largest {:?}", pairs.len(), pairs.iter().max());
        return Err(Error::value(what, expected, got));
    }
    Ok(())
}

/// Refuses noisy images and targets that [`Train::step_towards`] cannot be taken on.
pub fn check_targets(unet: &UNet, noisy: &Batch, target: &Batch) -> Result<()> {
    check_images(unet, noisy)?;
    let shape = |batch: &Batch| [batch.n, batch.h, batch.w, batch.c];
    if shape(noisy) != shape(target) {
        let (expected, found) = (shape(noisy), shape(target));
        return Err(Error::value(
            "shape of the targets",
            format!("{expected:?}"),
            format!("{found:?}"),
        ));
    }
    check_values("values of the targets", shape(target), target.data.len())
}

/// Refuses clean patches that [`Train::step`] cannot be taken on.
pub fn check_patches(unet: &UNet, clean: &CleanBatch) -> Result<()> {
    let shape = [clean.n, clean.side, clean.side, clean.c];
    check_shape(unet, shape, 2 * unet.grid().multiple)?;
    check_values("values of the patches", shape, clean.pixels.len())
}

/// Refuses another number of values than a shape has, be it more than can be counted.
fn check_values(what: &str, shape: [usize; 4], got: usize) -> Result<()> {
    let sizes = shape.iter();
    let expected = sizes.fold(1_usize, |count, &size| count.saturating_mul(size));
    if expected != got {
        return Err(Error::value(what, expected, got));
    }
    Ok(())
}

fn check_shape(unet: &UNet, [n, h, w, c]: [usize; 4], multiple: usize) -> Result<()> {
    if c != unet.n_channel {
        return Err(Error::value("channels of the image", unet.n_channel, c));
    }
    let fits = |size: usize| size > 0 && size.is_multiple_of(multiple);
    if n == 0 || !fits(h) || !fits(w) {
        let got = format!("{n} of {h}x{w}");
        let expected = format!("at least one, height and width multiples of {multiple}");
        return Err(Error::value("images for the network", expected, got));
    }
    Ok(())
}

/// Networks of a line, for the tests of what is built on the trait.
#[cfg(test)]
pub(crate) mod fake {
    use super::*;
    use crate::error::Error;

    /// A network that applies a function to each value and notes the sizes it saw.
    pub struct Fake {
        n_channel: usize,
        pixel: fn(f32) -> f32,
        /// The most pixels it has the memory for, and whether it says so beforehand.
        pub most: (usize, bool),
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
                most: (usize::MAX, true),
                seen: Vec::new(),
            }
        }
    }

    /// What a device says that has not the memory for an image.
    pub fn too_large(h: usize, w: usize) -> Error {
        Error::OutOfMemory {
            device: "a function".into(),
            asked: format!("{h}x{w} pixels"),
            fits: None,
        }
    }

    impl Denoise for Fake {
        fn channels(&self) -> usize {
            self.n_channel
        }

        fn grid(&self) -> Grid {
            UNet::default().grid()
        }

        fn denoise(&mut self, noisy: &Batch) -> Result<Batch> {
            let multiple = self.grid().multiple;
            assert_eq!((noisy.h % multiple, noisy.w % multiple), (0, 0));
            if noisy.n * noisy.h * noisy.w > self.most.0 {
                return Err(too_large(noisy.h, noisy.w));
            }
            self.seen.push((noisy.n, noisy.h, noisy.w, noisy.c));
            let mut denoised = noisy.clone();
            for value in &mut denoised.data {
                *value = (self.pixel)(*value);
            }
            Ok(denoised)
        }

        fn reserve(&mut self, h: usize, w: usize) -> Result<()> {
            if self.most.1 && h * w > self.most.0 {
                return Err(too_large(h, w));
            }
            Ok(())
        }

        fn working_bytes(&self, h: usize, w: usize) -> u64 {
            (h * w * 10_000) as u64
        }

        fn device(&self) -> String {
            "a function".into()
        }
    }
}
