//! The criterion that compares candidates: a loss on held-out pixels.
//!
//! If the noise can be measured, the loss is the expected squared difference from another noisy image of the same scene
//! ([`NoiseVariance::prediction_errors`]); otherwise the Neighbor2Neighbor loss. Both are the sum of an error and the
//! noise of the target, which is the same for all candidates. But in the Neighbor2Neighbor loss, that error is the one
//! on half-size images, which does not reveal that the results on whole images are getting worse again.

use crate::batch::Batch;
use crate::error::Result;
use crate::neighbors::{Neighbors, Target};
use crate::network::Denoise;
use crate::train::dataset::Dataset;
use crate::train::random::{Purpose, stream};
use crate::train::risk::NoiseVariance;
use crate::train::spacing::Spacing;

/// The longest side of a crop in pixels, large enough that its edges affect few of its pixels.
pub(super) const LONGEST: usize = 256;
/// Maximum number of crops, and of pixels in all of them.
const MOST: (usize, usize) = (16, 4 * LONGEST * LONGEST);
/// Draws of neighbors per crop.
const DRAWS: usize = 4;
/// Side of the blocks, in pixels of the image, over which losses are averaged: differences between candidates are
/// nearly independent between blocks.
const BLOCK: usize = 16;

/// Crops of held-out images.
pub(super) struct HeldOut {
    parts: Vec<Batch>,
    draws: Vec<Neighbors>,
    noise: Option<NoiseVariance>,
    seed: u64,
}

/// The losses of a network, block by block.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Losses {
    blocks: Vec<f64>,
    /// How many of them are on the same block of an image.
    draws: usize,
}

impl HeldOut {
    /// Crops of the images, of pixels `spacing` apart; their sides are multiples of `unit`, because the network sees
    /// half-size images of them. `noise` is the variance of the noise, if it could be measured.
    pub fn new(
        images: &Dataset,
        spacing: Spacing,
        unit: usize,
        noise: Option<NoiseVariance>,
        seed: u64,
    ) -> Result<Self> {
        let longest = LONGEST.next_multiple_of(unit);
        let sides: Vec<_> = images
            .sizes()
            .map(|size| spacing.largest_part(size, unit, longest))
            .collect();
        let mut places = vec![];
        for (index, (height, width)) in images.sizes().enumerate() {
            let [rows, columns] = [sides[index][0] * spacing.y, sides[index][1] * spacing.x];
            let starts =
                |size: usize, part: usize| (0..(size / part).max(1)).map(move |i| i * part);
            for top in starts(height, rows) {
                places.extend(starts(width, columns).map(|left| (index, top, left)));
            }
        }
        let largest = sides.iter().map(|[height, width]| height * width).max();
        let fitting = MOST.1 / largest.unwrap_or(1);
        let count = places.len().min(MOST.0).min(fitting.max(1));
        let c = images.channels();
        let mut parts = Vec::with_capacity(count);
        for i in 0..count {
            let (index, top, left) = places[i * places.len() / count];
            let image = images.image(index)?;
            let [height, width] = sides[index];
            let mut part = Batch::zeros(1, height, width, c);
            spacing.cut([height, width], c, &mut part.data, |side, out| {
                image.crop(top, left, side, out);
            });
            parts.push(part);
        }
        let mut draws = vec![];
        for (i, part) in parts.iter().enumerate() {
            for draw in 0..DRAWS {
                let mut rng = stream(seed, Purpose::Adapt, 1, i * DRAWS + draw);
                draws.push(Neighbors::draw(part, &mut rng));
            }
        }
        Ok(Self {
            parts,
            draws,
            noise,
            seed,
        })
    }

    /// The losses of `network`, in the order of the blocks.
    pub fn losses(&self, network: &mut dyn Denoise) -> Result<Losses> {
        let Some(noise) = &self.noise else {
            return self.losses_on(DRAWS, network);
        };
        let mut blocks = vec![];
        for (i, part) in self.parts.iter().enumerate() {
            let mut rng = stream(self.seed, Purpose::Adapt, 2, i);
            let denoised = network.denoise(part)?;
            let errors = noise.prediction_errors(network, part, &denoised, &mut rng)?;
            blocks.extend(means(&errors, part, BLOCK));
        }
        Ok(Losses { blocks, draws: 1 })
    }

    /// The mean Neighbor2Neighbor loss of `network` on one draw per crop, in a fraction of the time. Comparable only
    /// with other results of this function.
    pub fn quick_loss(&self, network: &mut dyn Denoise) -> Result<f64> {
        Ok(self.losses_on(1, network)?.mean())
    }

    /// The Neighbor2Neighbor losses on the first `draws` draws of every crop.
    fn losses_on(&self, draws: usize, network: &mut dyn Denoise) -> Result<Losses> {
        let mut blocks = vec![];
        for (i, neighbors) in self.draws.iter().enumerate() {
            if i % DRAWS >= draws {
                continue;
            }
            let part = &self.parts[i / DRAWS];
            let (input, target) = neighbors.sub_sample_for(part, Target::Mean);
            let output = network.denoise(&input)?;
            let pairs = output.data.iter().zip(&target.data);
            let squares: Vec<f64> = pairs
                .map(|(&output, &target)| (f64::from(output) - f64::from(target)).powi(2))
                .collect();
            blocks.extend(means(&squares, &input, BLOCK / 2));
        }
        Ok(Losses { blocks, draws })
    }
}

/// The means of values for an image over square blocks; the last ones may be smaller.
fn means(values: &[f64], image: &Batch, side: usize) -> Vec<f64> {
    let (row, side) = (image.w * image.c, side * image.c);
    let mut blocks = vec![];
    for rows in values.chunks(side * image.w) {
        for left in (0..row).step_by(side) {
            let right = row.min(left + side);
            let block = rows.chunks_exact(row).flat_map(|row| &row[left..right]);
            let count = rows.len() / row * (right - left);
            blocks.push(block.sum::<f64>() / count as f64);
        }
    }
    blocks
}

impl Losses {
    /// The mean.
    pub fn mean(&self) -> f64 {
        self.blocks.iter().sum::<f64>() / self.blocks.len() as f64
    }

    /// Whether these losses are lower than others by more than twice the standard error of the difference.
    pub fn are_significantly_lower_than(&self, others: &Self) -> bool {
        let differences = || self.blocks.iter().zip(&others.blocks).map(|(a, b)| b - a);
        let count = self.blocks.len() as f64;
        let mean = differences().sum::<f64>() / count;
        let variance = differences().map(|d| (d - mean).powi(2)).sum::<f64>() / count;
        // The draws on a crop are not independent of each other.
        let error = (variance / (count / self.draws as f64)).sqrt();
        mean.is_finite() && mean > 2.0 * error
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::image::Image;
    use crate::network::fake::Fake;
    use crate::train::source::Memory;

    /// A flat image with independent noise of known variance, which is passed on or withheld.
    fn held_out(is_known: bool) -> (HeldOut, f64) {
        let variance = 0.1_f64.powi(2) / 12.0;
        let mut state = 1_u32;
        let mut image = Image::from_u8(128, 256, 1, &vec![0; 128 * 256]).unwrap();
        image.data.fill_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            0.5 + 0.1 * ((state >> 8) as f32 / (1 << 24) as f32 - 0.5)
        });
        let images = Arc::new(Memory::from(&[image][..]));
        let dataset = Dataset::read(images, 1, 0, &mut |_| {});
        let noise = is_known.then(|| NoiseVariance::constant(variance));
        let held_out = HeldOut::new(&dataset, Spacing::NONE, 64, noise, 1).unwrap();
        (held_out, variance)
    }

    #[test]
    fn parts_are_large_and_few() {
        let seen = |count: usize, height: usize, width: usize, spacing: Spacing| {
            let image = Image::from_u8(height, width, 1, &vec![0; height * width]).unwrap();
            let images = Arc::new(Memory::from(&vec![image; count][..]));
            let dataset = Dataset::read(images, 1, 0, &mut |_| {});
            let held_out = HeldOut::new(&dataset, spacing, 64, None, 1).unwrap();
            let sides: Vec<_> = held_out.parts.iter().map(|part| (part.h, part.w)).collect();
            assert!(sides.iter().all(|side| *side == sides[0]), "{sides:?}");
            (sides.len(), sides[0])
        };
        let none = Spacing::NONE;
        assert_eq!(seen(1, 128, 512, none), (2, (128, 256)));
        assert_eq!(seen(32, 2000, 1000, none), (4, (256, 256)));
        assert_eq!(seen(32, 100, 70, none), (16, (64, 64)));
        assert_eq!(seen(1, 20, 20, none), (1, (64, 64)));
        let wide = Spacing { x: 4, y: 1 };
        assert_eq!(seen(1, 256, 512, wide), (1, (256, 128)));
    }

    /// If the target is the mean of two neighbors, its noise has half the variance; if it is another image, the full
    /// variance. A network that returns its input adds the full variance once more. (Rounding to bytes adds some.)
    #[test]
    fn the_loss_is_the_error_and_the_noise_of_the_target() {
        for (is_known, part) in [(false, 0.5), (true, 1.0)] {
            let (held_out, noise) = held_out(is_known);
            let loss =
                |pixel: fn(f32) -> f32| held_out.losses(&mut Fake::new(1, pixel)).unwrap().mean();
            for (got, want) in [
                (loss(|_| 0.5), part * noise),
                (loss(|x| x), (part + 1.0) * noise),
                (loss(|_| 0.6), part * noise + 0.01),
            ] {
                assert!((got / want - 1.0).abs() < 0.05, "{got} {want}");
            }
            let quick = held_out.quick_loss(&mut Fake::new(1, |x| x)).unwrap();
            assert!((quick / (1.5 * noise) - 1.0).abs() < 0.1, "{quick}");
        }
    }

    /// Images of networks with few levels need not be multiples of a block.
    #[test]
    fn blocks_need_not_divide_an_image() {
        let values: Vec<f64> = (0..12 * 10 * 3).map(|i| (i % 30 / 24) as f64).collect();
        let image = Batch::zeros(1, 12, 10, 3);
        assert_eq!(means(&values, &image, 8), [0.0, 1.0, 0.0, 1.0]);
    }

    #[test]
    fn losses_are_lower_only_if_chance_does_not_explain_it() {
        for is_known in [false, true] {
            let (held_out, _) = held_out(is_known);
            let losses = |pixel: fn(f32) -> f32| held_out.losses(&mut Fake::new(1, pixel)).unwrap();
            let flat = losses(|_| 0.5);
            let same = losses(|x| x);
            assert!(flat.are_significantly_lower_than(&same));
            assert!(!same.are_significantly_lower_than(&flat));
            assert!(!flat.are_significantly_lower_than(&flat));
            // As far from the middle as the mean of so many pixels may be.
            let near = losses(|_| 0.5001);
            assert!(
                !flat.are_significantly_lower_than(&near)
                    && !near.are_significantly_lower_than(&flat)
            );
            assert!(!losses(|_| f32::NAN).are_significantly_lower_than(&flat));
        }
    }
}
