//! The interface that a device implements: the boundary between the method and the arithmetic.
//!
//! Denoising uses [`Denoise`], the training loop uses [`Train`], and neither knows the device behind it. A second
//! device is therefore a second implementation; nothing else changes.

use std::fmt::{self, Display};
use std::ops::{Add, Mul};

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::neighbors::{Neighbors, PAIRS, Target};
use crate::noise::Noise;
use crate::unet::{Grid, UNet};
use crate::weights::Weights;
use crate::words::counted;
use serde::{Deserialize, Serialize};

/// A network that denoises batches.
pub trait Denoise: Send {
    /// Channels of the images that it processes.
    fn channels(&self) -> usize;

    /// Whether [`Self::denoise`] also accepts batches of one channel. Otherwise, single channels are repeated to fill
    /// [`Self::channels`], and all of these have the same noise.
    fn takes_gray(&self) -> bool {
        self.channels() == 1
    }

    /// The sizes it accepts, and where an image can be split into tiles without changing the result.
    fn grid(&self) -> Grid;

    /// Denoises a batch of any `n`; `h` and `w` must be multiples of [`Grid::multiple`].
    ///
    /// The result has the shape of `noisy` and is not clipped.
    fn denoise(&mut self, noisy: &Batch) -> Result<Batch>;

    /// Reserves the memory that [`Self::denoise`] needs for one image of `h` × `w` pixels, on a device that can run out
    /// of it. It is better to return [`Error::OutOfMemory`] here than later, when part of the result has been passed
    /// on.
    fn reserve(&mut self, h: usize, w: usize) -> Result<()> {
        let _ = (h, w);
        Ok(())
    }

    /// The approximate number of bytes that [`Self::denoise`] needs at once for one image of `h` × `w` pixels, in
    /// addition to the image and its result. The actual use should not exceed it. [`u64::MAX`] if the device cannot
    /// process this size, whatever its memory; 0 if the number is unknown and images should not be split.
    fn working_bytes(&self, h: usize, w: usize) -> u64;

    /// A description of the device. Results are bit-identical only on the same device.
    fn device(&self) -> String;

    /// A second network that shares the weights but has its own scratch memory, so that both can denoise at the same
    /// time. `None` if calls have to wait for each other, as on a GPU.
    fn fork(&self) -> Option<Box<dyn Denoise>> {
        None
    }
}

/// A network that can be trained, and whose named weights can be read and replaced.
pub trait Train: Denoise {
    /// The architecture, hence the names and shapes of the weights.
    fn architecture(&self) -> UNet;

    /// The preferred kind of samples for steps. Every device accepts [`SampleKind::Noisy`].
    fn wants(&self) -> SampleKind {
        SampleKind::Noisy
    }

    /// Reserves the memory for a [`Self::step`] on samples of `n` patches of `h` × `w` pixels, as [`Denoise::reserve`]
    /// does.
    fn reserve_step(&mut self, n: usize, h: usize, w: usize) -> Result<()> {
        let _ = (n, h, w);
        Ok(())
    }

    /// One training step of the paper (Algorithm 1): losses, gradients, one update by the optimizer. With several
    /// samples, the gradient is the mean of theirs; they are processed one after the other, so that the network needs
    /// memory for one only. All must be of the same kind and size, and there must be at least one.
    ///
    /// `h` and `w` must be multiples of twice [`Grid::multiple`], because the network sees the half-size neighbors; the
    /// neighbors must have been drawn for the size of the patches. With Λ = 0, the regularizer is 0 whatever the
    /// network's output for the whole image is, and the forward pass for that output is skipped.
    ///
    /// Returns the losses before the update, means over the samples. If a loss or a gradient is not finite, there is no
    /// update, and `loss_full` is not finite either. A device need not wait for the step to finish: `None` leaves the
    /// losses to [`Self::take_losses`], and errors may be returned by a later call.
    fn step(
        &mut self,
        samples: &[Sample],
        factors: LossFactors,
        learning_rate: f64,
    ) -> Result<Option<Losses>>;

    /// One step of plain regression: `loss1`, and with it `loss_full`, is the mean squared difference between the
    /// network's output for noisy images and their targets, two batches of the same size; `h` and `w` must be multiples
    /// of [`Grid::multiple`]. Several pairs, updates and non-finite values are treated as in [`Self::step`].
    ///
    /// An error if the device does not support it.
    fn step_towards(
        &mut self,
        noisy_and_targets: &[(Batch, Batch)],
        learning_rate: f64,
    ) -> Result<Losses> {
        let _ = (noisy_and_targets, learning_rate);
        let expected = "a device that can train with a teacher, such as the CPU";
        Err(Error::value("the device", expected, self.device()))
    }

    /// Waits for the steps taken so far, and returns the sums of the losses of those since the last call whose losses
    /// [`Self::step`] did not return. If a loss or a gradient of a step was not finite, `loss_full` is not finite
    /// either, and the network is in its state before that step, whatever steps followed.
    fn take_losses(&mut self) -> Result<Losses> {
        Ok(Losses::default())
    }

    /// Sets how future steps estimate the gradient and update the weights; the initial setting is [`Method::default`].
    ///
    /// An error if the device does not support it.
    fn set_method(&mut self, method: Method) -> Result<()> {
        if method == Method::default() {
            return Ok(());
        }
        Err(Error::value(
            format!("the training method on {}", self.device()),
            format!("the paper's ({})", Method::default()),
            method,
        ))
    }

    /// A copy of the weights.
    fn weights(&self) -> Result<Weights>;

    /// Replaces the weights, and discards the state of the optimizer and the running average.
    fn set_weights(&mut self, weights: &Weights) -> Result<()>;

    /// A copy of everything that the next step depends on.
    fn state(&self) -> Result<State>;

    /// Restores a copied state. The following steps are bit-identical to those that the original network would have
    /// taken.
    fn set_state(&mut self, state: &State) -> Result<()>;

    /// Updates the running average of the weights: `decay · average + (1 − decay) · weights`, `decay` in 0..1. The
    /// first call copies the weights.
    fn average(&mut self, decay: f64);

    /// Swaps the weights and their running average, to use or score the average; swap back before the next step. Does
    /// nothing if there is no average.
    fn swap_average(&mut self);
}

/// The input of a training step.
#[derive(Debug, Clone, PartialEq)]
pub enum Sample {
    /// Noisy patches, `[n, side, side, channels]`, not clipped, and the neighbors drawn on them.
    Noisy(Batch, Neighbors),
    /// Clean patches, for a device that draws noise and neighbors itself.
    Clean(CleanBatch),
}

impl Sample {
    /// Its kind and size: `4 noisy patches of 256x256x3`.
    fn describe(&self) -> String {
        let (kind, n, [h, w, c]) = match self {
            Self::Noisy(noisy, _) => ("noisy", noisy.n, [noisy.h, noisy.w, noisy.c]),
            Self::Clean(clean) => ("clean", clean.n, [clean.side, clean.side, clean.c]),
        };
        format!("{} of {h}x{w}x{c}", counted(n, &format!("{kind} patch")))
    }
}

/// The kind of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SampleKind {
    /// [`Sample::Noisy`]
    Noisy,
    /// [`Sample::Clean`]
    Clean,
}

/// Clean patches, and the parameters of the random draws on them.
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
    /// The noise to add; none for images that are already noisy.
    pub noise: Noise,
    /// Whether each patch is flipped and rotated at random.
    pub augment: bool,
    /// The key of all random draws of this step, unique within a run.
    pub seed: u64,
}

/// The pixels of patches.
#[derive(Debug, Clone, PartialEq)]
pub enum Pixels {
    /// 255 is 1.0.
    U8(Vec<u8>),
    /// Floats.
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

/// How a step estimates the paper's gradient, and how it updates the weights. The expected gradient is the same for all
/// choices, up to the rounding of [`Self::half`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Method {
    /// The optimizer.
    pub optimizer: Optimizer,
    /// The network's target.
    pub target: Target,
    /// Number of patches per batch, in rotation, on which the regularizer is computed; they stand for all. `None`, or
    /// the batch size, means all of them, as in the paper.
    ///
    /// `exp_diff` (see [`Losses`]) is a constant in the loss, and the gradient is linear in it, so a sample of the
    /// patches gives the same expected gradient. `Loss2` is then the mean over these patches.
    pub regularized_patches: Option<usize>,
    /// Whether the pass for `exp_diff`, which keeps nothing for gradients, may round like [`Denoise::denoise`] in half
    /// precision, on a device where that is faster.
    pub half: bool,
}

impl Display for Method {
    /// In words: `Muon, the mean target, 1 patch regularized`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let optimizer = match self.optimizer {
            Optimizer::Adam => "Adam",
            Optimizer::Muon => "Muon",
        };
        let target = match self.target {
            Target::Drawn => "drawn",
            Target::Mean => "mean",
        };
        write!(f, "{optimizer}, the {target} target, ")?;
        match self.regularized_patches {
            None => f.write_str("all patches regularized")?,
            Some(count) => write!(f, "{} regularized", counted(count, "patch"))?,
        }
        f.write_str(if self.half { ", half precision" } else { "" })
    }
}

/// The optimizer: how a gradient updates the weights.
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

/// Everything that a network's next step depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// The weights.
    pub weights: Weights,
    /// Adam's first moments, with the names and shapes of the weights; for weights that Muon updates, its momentum.
    pub first: Weights,
    /// Adam's second moments, likewise.
    pub second: Weights,
    /// Number of updates.
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
    /// Λ. As in the paper, it grows with the epoch, `epoch / n_epoch × increase_ratio`, unless the settings say
    /// otherwise.
    pub lambda: f64,
}

/// The losses of one step, before its update. With the network `f` and the neighbors `g1` and `g2` of a noisy patch
/// `y`, `diff = f(g1(y)) − g2(y)` and `exp_diff = g1(f(y)) − g2(f(y))`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Losses {
    /// `mean(diff²)`.
    pub loss1: f64,
    /// `Λ · mean((diff − exp_diff)²)`.
    pub loss2: f64,
    /// `λ1 · Loss1 + λ2 · Loss2`.
    pub loss_full: f64,
}

impl Add for Losses {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            loss1: self.loss1 + other.loss1,
            loss2: self.loss2 + other.loss2,
            loss_full: self.loss_full + other.loss_full,
        }
    }
}

impl Mul<Losses> for f64 {
    type Output = Losses;

    fn mul(self, losses: Losses) -> Losses {
        Losses {
            loss1: self * losses.loss1,
            loss2: self * losses.loss2,
            loss_full: self * losses.loss_full,
        }
    }
}

/// Rejects images that a network of this architecture does not accept.
pub fn check_images(unet: &UNet, images: &Batch) -> Result<()> {
    check_multiples(unet, images, unet.grid().multiple)
}

/// Rejects images that do not fit the architecture, or whose height or width is not a multiple of `multiple`.
fn check_multiples(unet: &UNet, images: &Batch, multiple: usize) -> Result<()> {
    let shape = [images.n, images.h, images.w, images.c];
    check_shape(unet, shape, multiple)?;
    check_values("values of the images", shape, images.data.len())
}

/// Rejects a step on no batch at all.
pub fn check_count(batches: usize) -> Result<()> {
    if batches == 0 {
        return Err(Error::value("batches of a step", "at least one", "none"));
    }
    Ok(())
}

/// Rejects samples of different kinds or sizes, or none, which [`Train::step`] does not accept.
pub fn check_samples(samples: &[Sample]) -> Result<()> {
    check_count(samples.len())?;
    let first = samples[0].describe();
    match samples
        .iter()
        .map(Sample::describe)
        .find(|other| *other != first)
    {
        Some(other) => Err(Error::value("batches of a step", first, other)),
        None => Ok(()),
    }
}

/// Rejects noisy patches that [`Train::step`] does not accept.
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
        let expected = format!("{count} numbers below {}", PAIRS.len());
        let got = match pairs.iter().max() {
            Some(largest) => format!("{} numbers, the largest {largest}", pairs.len()),
            None => "none".into(),
        };
        return Err(Error::value(what, expected, got));
    }
    Ok(())
}

/// Rejects noisy images and targets that [`Train::step_towards`] does not accept.
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

/// Rejects clean patches that [`Train::step`] does not accept.
pub fn check_patches(unet: &UNet, clean: &CleanBatch) -> Result<()> {
    let shape = [clean.n, clean.side, clean.side, clean.c];
    check_shape(unet, shape, 2 * unet.grid().multiple)?;
    check_values("values of the patches", shape, clean.pixels.len())
}

/// Rejects a number of values that does not match a shape, even a shape too large to count.
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

/// One-line networks, for the tests of what is built on the trait.
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
        /// Added to each value of images of more than 64 rows.
        pub in_large: f32,
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
                in_large: 0.0,
                seen: Vec::new(),
            }
        }
    }

    /// What a device says that does not have the memory for an image.
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
            let more = if noisy.h > 64 { self.in_large } else { 0.0 };
            for value in &mut denoised.data {
                *value = (self.pixel)(*value) + more;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_that_are_too_few_or_too_large_are_counted() {
        let unet = UNet::new(2, 1).unwrap();
        let noisy = Batch::zeros(1, 64, 64, 1);
        let refused = |pairs: Vec<u8>| {
            let neighbors = Neighbors {
                n: 1,
                h: 32,
                w: 32,
                pairs,
            };
            let error = check_step(&unet, &noisy, &neighbors)
                .unwrap_err()
                .to_string();
            let rest = error.strip_prefix(
                "pairs of the drawn neighbors: expected 1024 numbers below 8, found ",
            );
            rest.map(str::to_owned).ok_or(error).unwrap()
        };
        assert_eq!(refused(vec![9; 1024]), "1024 numbers, the largest 9");
        assert_eq!(refused(vec![7; 1023]), "1023 numbers, the largest 7");
        assert_eq!(refused(vec![]), "none");
    }

    #[test]
    fn a_method_is_said_in_words() {
        let papers = "Adam, the drawn target, all patches regularized";
        assert_eq!(Method::default().to_string(), papers);
        let fast = Method {
            optimizer: Optimizer::Muon,
            target: Target::Mean,
            regularized_patches: Some(1),
            half: true,
        };
        let words = "Muon, the mean target, 1 patch regularized, half precision";
        assert_eq!(fast.to_string(), words);
        let regularized_patches = Some(2);
        let two = Method {
            regularized_patches,
            ..Method::default()
        };
        assert!(two.to_string().ends_with(", 2 patches regularized"));
    }
}
