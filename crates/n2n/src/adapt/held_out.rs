//! The criterion that compares ways to denoise: the Neighbor2Neighbor loss on held-out pixels.
//!
//! A neighbor's noise is independent of the network's input, so of two networks, the one with the lower loss has the
//! lower error on half-size images. The rest of the loss, the noise of the neighbors, is the same for both.

use crate::batch::Batch;
use crate::error::Result;
use crate::neighbors::{Neighbors, Target};
use crate::network::Denoise;
use crate::train::dataset::Dataset;
use crate::train::random::{Purpose, stream};
use crate::train::spacing::Spacing;

/// Maximum number of squares.
const SQUARES: usize = 16;
/// Draws of neighbors per square.
const DRAWS: usize = 4;
/// Side of the blocks, in cells, whose losses are added up: differences between ways to denoise are nearly independent
/// between blocks.
const BLOCK: usize = 8;

/// Squares of held-out images.
pub(super) struct HeldOut {
    squares: Vec<Batch>,
    draws: Vec<Neighbors>,
}

/// The losses of a network, block by block.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Losses(Vec<f64>);

impl HeldOut {
    /// Squares of `side` pixels, `spacing` apart; the network sees half of the side.
    pub fn new(images: &Dataset, spacing: Spacing, side: usize, seed: u64) -> Result<Self> {
        let mut places = vec![];
        let part = spacing.part(side);
        for (index, (height, width)) in images.sizes().enumerate() {
            let starts =
                |size: usize, part: usize| (0..(size / part).max(1)).map(move |i| i * part);
            for top in starts(height, part[0]) {
                places.extend(starts(width, part[1]).map(|left| (index, top, left)));
            }
        }
        let count = places.len().min(SQUARES);
        let c = images.channels();
        let mut squares = Vec::with_capacity(count);
        for i in 0..count {
            let (index, top, left) = places[i * places.len() / count];
            let image = images.image(index)?;
            let mut square = Batch::zeros(1, side, side, c);
            spacing.cut(side, c, &mut square.data, |large, out| {
                image.crop(top, left, large, out);
            });
            squares.push(square);
        }
        let mut draws = vec![];
        for (i, square) in squares.iter().enumerate() {
            for draw in 0..DRAWS {
                let mut rng = stream(seed, Purpose::Adapt, 1, i * DRAWS + draw);
                draws.push(Neighbors::draw(square, &mut rng));
            }
        }
        Ok(Self { squares, draws })
    }

    /// The losses of `network`, in the order of the blocks.
    pub fn losses(&self, network: &mut dyn Denoise) -> Result<Losses> {
        self.losses_on(DRAWS, network)
    }

    /// The mean loss of `network` on one draw per square, in a quarter of the time. Comparable only with
    /// other results of this function.
    pub fn quick_loss(&self, network: &mut dyn Denoise) -> Result<f64> {
        Ok(self.losses_on(1, network)?.mean())
    }

    /// The losses on the first `draws` draws of every square.
    fn losses_on(&self, draws: usize, network: &mut dyn Denoise) -> Result<Losses> {
        let mut losses = vec![];
        for (i, neighbors) in self.draws.iter().enumerate() {
            if i % DRAWS >= draws {
                continue;
            }
            let square = &self.squares[i / DRAWS];
            let (input, target) = neighbors.sub_sample_for(square, Target::Mean);
            let output = network.denoise(&input)?;
            let row = input.w * input.c;
            for rows in (0..input.h).step_by(BLOCK) {
                for columns in (0..input.w).step_by(BLOCK) {
                    let values = (rows..rows + BLOCK).flat_map(|y| {
                        let begin = y * row + columns * input.c;
                        begin..begin + BLOCK * input.c
                    });
                    let squares = values.map(|at| {
                        (f64::from(output.data[at]) - f64::from(target.data[at])).powi(2)
                    });
                    losses.push(squares.sum::<f64>() / (BLOCK * BLOCK * input.c) as f64);
                }
            }
        }
        Ok(Losses(losses))
    }
}

impl Losses {
    /// The mean.
    pub fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len() as f64
    }

    /// Whether these losses are lower than others by more than twice the standard error of the difference.
    pub fn are_less_than(&self, others: &Self) -> bool {
        let differences = || self.0.iter().zip(&others.0).map(|(a, b)| b - a);
        let count = self.0.len() as f64;
        let mean = differences().sum::<f64>() / count;
        let variance = differences().map(|d| (d - mean).powi(2)).sum::<f64>() / count;
        // The draws on a square are not independent of each other.
        let error = (variance / (count / DRAWS as f64)).sqrt();
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

    /// A flat image with independent noise.
    fn held_out() -> HeldOut {
        let mut state = 1_u32;
        let mut image = Image::from_u8(128, 256, 1, &vec![0; 128 * 256]).unwrap();
        image.data.fill_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            0.5 + 0.1 * ((state >> 8) as f32 / (1 << 24) as f32 - 0.5)
        });
        let images = Arc::new(Memory::from(&[image][..]));
        let dataset = Dataset::read(images, 1, 0, &mut |_| {});
        HeldOut::new(&dataset, Spacing::NONE, 128, 1).unwrap()
    }

    /// The mean of two neighbors has half of the variance of the noise, `0.1² / 12`; a network that gives back what it
    /// sees has the whole of it in addition. (The image is of bytes: that too is noise.)
    #[test]
    fn the_loss_is_the_error_and_the_noise_of_the_target() {
        let held_out = held_out();
        let noise = 0.1_f64.powi(2) / 12.0;
        let loss =
            |pixel: fn(f32) -> f32| held_out.losses(&mut Fake::new(1, pixel)).unwrap().mean();
        for (got, want) in [
            (loss(|_| 0.5), 0.5 * noise),
            (loss(|x| x), 1.5 * noise),
            (loss(|_| 0.6), 0.5 * noise + 0.01),
        ] {
            assert!((got / want - 1.0).abs() < 0.05, "{got} {want}");
        }
        let quick = held_out.quick_loss(&mut Fake::new(1, |x| x)).unwrap();
        assert!((quick / (1.5 * noise) - 1.0).abs() < 0.1, "{quick}");
    }

    #[test]
    fn less_is_what_chance_does_not_explain() {
        let held_out = held_out();
        let losses = |pixel: fn(f32) -> f32| held_out.losses(&mut Fake::new(1, pixel)).unwrap();
        let flat = losses(|_| 0.5);
        let same = losses(|x| x);
        assert!(flat.are_less_than(&same));
        assert!(!same.are_less_than(&flat));
        assert!(!flat.are_less_than(&flat));
        // As far from the middle as the mean of so many pixels may be.
        let near = losses(|_| 0.5001);
        assert!(!flat.are_less_than(&near) && !near.are_less_than(&flat));
        assert!(!losses(|_| f32::NAN).are_less_than(&flat));
    }
}
