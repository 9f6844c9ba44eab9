//! The validation of a snapshot: the paper's evaluation on BSD300, with its first images written as pictures; or,
//! without clean images, the losses and the estimated error on held-out noisy images.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

use crate::batch::Batch;
use crate::denoise::{ModelRange, Range};
use crate::error::{Error, Result};
use crate::eval::report::SetScore;
use crate::eval::{self, Set};
use crate::image::{Depth, Image};
use crate::neighbors::Neighbors;
use crate::network::{Denoise, Losses};
use crate::train::config::Config;
use crate::train::dataset::Dataset;
use crate::train::event::{Collapse, Event};
use crate::train::folder::RunFolder;
use crate::train::frozen;
use crate::train::random::{Purpose, stream};
use crate::train::risk::NoiseVariance;
use crate::train::spacing::Spacing;

/// The set that runs are scored on, as in the reference.
const SET: Set = Set::Bsd300;

/// The name of the held-out images, as part of file names.
const HELD_OUT: &str = "held_out";

/// The longest side of the parts of images that are scored, in pixels: much larger than patches, so that edges affect
/// few pixels.
const LONGEST: usize = 512;

/// Maximum number of pixels of the held-out images that are scored, so that snapshots take a small part of a run.
const MOST: usize = 8 * LONGEST * LONGEST;

/// Maximum number of training images that are denoised as a whole and in parts after an epoch.
const COMPARED: usize = 4;

/// A network fails on whole images if their mean squared change is this many times that of parts. Usually it is smaller
/// than that of parts, which have more edges.
const FAILS: f64 = 1.1;

/// Number of images of a set that are written as pictures.
const PICTURES: usize = 5;

/// The evaluation at each snapshot.
#[derive(Debug)]
pub struct Validation {
    /// The paper's evaluation, if there is a set for it.
    scored: Option<eval::Config>,
    /// The images held out; possibly none.
    held_out: Dataset,
    /// The variance of their noise, if it is known.
    noise: Option<NoiseVariance>,
    config: Config,
}

/// The result of an evaluation.
#[derive(Debug, Default)]
pub struct Scores {
    /// The score on the set.
    pub set: Option<SetScore>,
    /// The losses on the held-out images.
    pub held_out: Option<Losses>,
    /// The estimated mean squared error of the denoised held-out images.
    pub sure: Option<f64>,
    /// How the network has collapsed, if it has.
    pub collapse: Option<Collapse>,
    /// The name of the set whose pictures were written.
    pub pictures: Option<&'static str>,
}

/// What snapshots are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Merit {
    /// PSNR on clean images.
    Psnr,
    /// The estimated error on held-out images.
    Sure,
    /// The loss on them.
    Loss,
}

/// A held-out image, and what the network makes of it.
#[derive(Debug)]
struct Trial {
    noisy: Batch,
    denoised: Batch,
    losses: Losses,
    /// The estimated mean squared error.
    risk: Option<f64>,
}

impl Scores {
    /// A single score, the higher the better, and what it is: PSNR if there are clean images, otherwise the negative
    /// estimated error or, if there is none, the negative loss. None if it is not a number.
    pub fn merit(&self) -> Option<(Merit, f64)> {
        let psnr = (self.set.as_ref()).map(|score| (Merit::Psnr, score.psnr_db));
        let sure = self.sure.map(|error| (Merit::Sure, -error));
        let loss = (self.held_out).map(|losses| (Merit::Loss, -losses.loss_full));
        let merit = psnr.or(sure).or(loss);
        merit.filter(|(_, score)| !score.is_nan())
    }
}

impl Validation {
    /// The folder of the images that runs are scored on.
    pub fn folder(config: &Config) -> Option<PathBuf> {
        config.val_dirs.as_deref().map(|sets| SET.folder(sets))
    }

    /// An evaluation with the run's noise. A folder that cannot be scored is an error now, not after the first epoch.
    pub fn new(config: &Config, held_out: Dataset, noise: Option<NoiseVariance>) -> Result<Self> {
        let settings = |val_dirs: &PathBuf| eval::Config {
            val_dirs: val_dirs.clone(),
            sets: vec![SET],
            repeats: None,
            noise: config.noise,
            ensemble: false,
            range: match config.range {
                Range::Between(low, high) => Some(ModelRange {
                    low,
                    high,
                    depth: Depth::U8,
                }),
                _ => None,
            },
        };
        let scored = config.val_dirs.as_ref().map(settings);
        scored.as_ref().map(eval::check).transpose()?;
        Ok(Self {
            scored,
            held_out,
            noise,
            config: config.clone(),
        })
    }

    /// Scores the network after `epoch`, and writes pictures and scores to the run's folder, if there is one. Returns
    /// [`Error::Stopped`] when `stop` is set.
    pub fn score(
        &self,
        network: &mut dyn Denoise,
        epoch: usize,
        folder: Option<&RunFolder>,
        stop: &AtomicBool,
        observe: &mut dyn FnMut(&Event),
    ) -> Result<Scores> {
        let mut scores = Scores::default();
        let mut traits = Traits::default();
        if let Some(settings) = &self.scored {
            let mut report = eval::evaluate(network, settings, |scored| {
                go_on(stop)?;
                observe(&Event::Scored {
                    done: scored.done,
                    total: scored.total,
                });
                traits.add(scored.noisy, scored.denoised);
                if let Some(folder) = folder
                    && scored.score.repeat == 1
                    && scored.index < PICTURES
                {
                    let paths = folder.pictures(SET.name(), scored.index, epoch);
                    let images = [scored.clean, scored.noisy, scored.denoised];
                    for (image, path) in images.into_iter().zip(paths) {
                        image.write(&path)?;
                    }
                }
                Ok(())
            })?;
            let score = report.sets.swap_remove(0);
            if let Some(folder) = folder {
                folder.record_scores(&score, epoch)?;
            }
            scores.set = Some(score);
            scores.pictures = folder.is_some().then_some(SET.name());
        }
        if !self.held_out.is_empty() {
            let mut losses = vec![];
            let mut risks = vec![];
            for index in 0..self.held_out.len() {
                go_on(stop)?;
                let trial = self.try_on(network, index)?;
                let [noisy, denoised] = [trial.noisy, trial.denoised].map(Image::from_batch);
                traits.add(&noisy, &denoised);
                if let Some(folder) = folder
                    && self.scored.is_none()
                    && index < PICTURES
                {
                    let [_, noisy_path, denoised_path] = folder.pictures(HELD_OUT, index, epoch);
                    picture(noisy).write(&noisy_path)?;
                    picture(denoised).write(&denoised_path)?;
                    scores.pictures = Some(HELD_OUT);
                }
                losses.push(trial.losses);
                risks.extend(trial.risk);
            }
            let losses = mean(&losses);
            let sure = (!risks.is_empty()).then(|| risks.iter().sum::<f64>() / risks.len() as f64);
            if let Some(folder) = folder {
                folder.record_held_out(&losses, sure, epoch)?;
            }
            (scores.held_out, scores.sure) = (Some(losses), sure);
        }
        scores.collapse = traits.collapse();
        Ok(scores)
    }

    /// Denoises a held-out image (the middle of a large one), and computes the losses on it. Noise and neighbors are
    /// the same every time.
    fn try_on(&self, network: &mut dyn Denoise, index: usize) -> Result<Trial> {
        let config = &self.config;
        let spacing = config.neighbor_distance.spacing();
        let noisy = self.held_out(index, spacing)?;

        // Index 0 was used to draw the held-out images.
        let mut rng = stream(config.seed, Purpose::HoldOut, 0, index + 1);
        let neighbors = Neighbors::draw(&noisy, &mut rng);
        let (input, target) = neighbors.sub_sample(&noisy);
        let output = network.denoise(&input)?;
        let denoised = network.denoise(&noisy)?;
        let (expected1, expected2) = neighbors.sub_sample(&denoised);
        let (mut reconstruction, mut regularizer) = (0.0, 0.0);
        for i in 0..target.data.len() {
            let diff = f64::from(output.data[i]) - f64::from(target.data[i]);
            let expected = f64::from(expected1.data[i]) - f64::from(expected2.data[i]);
            reconstruction += diff * diff;
            regularizer += (diff - expected).powi(2);
        }
        let count = target.data.len() as f64;
        let loss1 = reconstruction / count;
        let loss2 = config.increase_ratio * regularizer / count;
        let losses = Losses {
            loss1,
            loss2,
            loss_full: config.lambda1 * loss1 + config.lambda2 * loss2,
        };
        let risk = match &self.noise {
            Some(noise) => Some(noise.risk(network, &noisy, &denoised, &mut rng)?),
            None => None,
        };
        let (noisy, denoised) = if spacing == Spacing::NONE {
            (noisy, denoised)
        } else {
            // The picture shows the image at its original scale.
            let noisy = self.held_out(index, Spacing::NONE)?;
            let denoised = network.denoise(&noisy)?;
            (noisy, denoised)
        };
        Ok(Trial {
            noisy,
            denoised,
            losses,
            risk,
        })
    }

    /// A held-out image, or the middle of a large one.
    fn held_out(&self, index: usize, spacing: Spacing) -> Result<Batch> {
        let longest = (MOST / self.held_out.len()).isqrt().min(LONGEST);
        self.noisy(&self.held_out, index, spacing, longest)
    }

    /// The noisy image, or the middle of one whose sides are longer than about `longest`. The noise is the same every
    /// time.
    fn noisy(
        &self,
        images: &Dataset,
        index: usize,
        spacing: Spacing,
        longest: usize,
    ) -> Result<Batch> {
        let config = &self.config;
        let image = images.image(index)?;
        let (height, width, c) = (image.height(), image.width(), images.channels());
        let unit = 2 * config.unet()?.grid().multiple;
        let longest = longest.next_multiple_of(unit);
        let sides = spacing.largest_part((height, width), unit, longest);
        let place = (
            height.saturating_sub(sides[0] * spacing.y) / 2,
            width.saturating_sub(sides[1] * spacing.x) / 2,
        );
        let mut noisy = Batch::zeros(1, sides[0], sides[1], c);
        let named = (images.name(index), &image);
        spacing.cut(sides, c, &mut noisy.data, |side, out| {
            frozen::crop(config.noise, config.seed, named, place, side, out);
        });
        Ok(noisy)
    }

    /// Compares what the network makes of whole images and of parts of the size that it is trained on, for some of the
    /// images that it is trained on, different ones in each epoch. Returns the root mean squares of its changes if they
    /// are clearly greater on whole images.
    ///
    /// A network that was trained on patches too small for its deepest layers may fail on whole images, and a few
    /// held-out ones may not reveal it.
    pub fn fails_on_whole(
        &self,
        network: &mut dyn Denoise,
        images: &Dataset,
        epoch: usize,
        stop: &AtomicBool,
    ) -> Result<Option<[f64; 2]>> {
        let side = self.config.patchsize / 2;
        let count = images.len().min(COMPARED);
        let (mut changes, mut values) = ([0.0; 2], 0);
        for i in 0..count {
            go_on(stop)?;
            let index = (i * images.len() / count + epoch) % images.len();
            let noisy = self.noisy(images, index, Spacing::NONE, LONGEST)?;
            let sides = [noisy.h.min(side), noisy.w.min(side)];
            if sides == [noisy.h, noisy.w] {
                continue;
            }
            let denoised = network.denoise(&noisy)?;
            for top in (0..=noisy.h - sides[0]).step_by(sides[0]) {
                for left in (0..=noisy.w - sides[1]).step_by(sides[1]) {
                    let part = |batch: &Batch| part_of(batch, [top, left], sides);
                    let noisy = part(&noisy);
                    let alone = network.denoise(&noisy)?;
                    for (sum, denoised) in changes.iter_mut().zip([part(&denoised), alone]) {
                        *sum += squared_distance(&denoised, &noisy);
                    }
                    values += noisy.data.len();
                }
            }
        }
        let [whole, parts] = changes;
        let rms = changes.map(|sum| (sum / values.max(1) as f64).sqrt());
        Ok((whole.is_nan() || whole > FAILS * parts).then_some(rms))
    }
}

/// The part of a batch's image that begins at a row and a column.
fn part_of(batch: &Batch, [top, left]: [usize; 2], [height, width]: [usize; 2]) -> Batch {
    let row = batch.w * batch.c;
    let rows = batch.data.chunks_exact(row).skip(top).take(height);
    let data = rows.flat_map(|row| &row[left * batch.c..(left + width) * batch.c]);
    Batch::new(1, height, width, batch.c, data.copied().collect())
}

fn squared_distance(a: &Batch, b: &Batch) -> f64 {
    let pairs = a.data.iter().zip(&b.data);
    pairs
        .map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2))
        .sum()
}

/// The part of an image that can be shown: only the first channel if the channels are not colors.
fn picture(image: Image) -> Image {
    match image.channels {
        1 | 3 => image,
        _ => image.channel(0),
    }
}

fn go_on(stop: &AtomicBool) -> Result<()> {
    if stop.load(Relaxed) {
        Err(Error::Stopped)
    } else {
        Ok(())
    }
}

fn mean(losses: &[Losses]) -> Losses {
    let mean =
        |part: fn(&Losses) -> f64| losses.iter().map(part).sum::<f64>() / losses.len() as f64;
    Losses {
        loss1: mean(|losses| losses.loss1),
        loss2: mean(|losses| losses.loss2),
        loss_full: mean(|losses| losses.loss_full),
    }
}

/// Sums over images and pixels that reveal a network that has learned nothing.
#[derive(Debug, Default)]
struct Traits {
    /// Sum of the squares of the network's changes.
    changed: f64,
    /// Sum of the squares of the differences between neighbors in a noisy row, halved: for pure noise, its variance.
    rough: f64,
    /// Sums of the squared deviations from the image's mean, in the noisy and in the denoised image.
    spread: [f64; 2],
}

impl Traits {
    /// Fractions of `rough` and of the noisy spread below which the network counts as changing nothing, and as showing
    /// nothing.
    const LITTLE: [f64; 2] = [1e-3, 1e-4];

    fn add(&mut self, noisy: &Image, denoised: &Image) {
        let square = |x: f32| f64::from(x) * f64::from(x);
        let pairs = noisy.data.iter().zip(&denoised.data);
        self.changed += pairs
            .map(|(noisy, denoised)| square(noisy - denoised))
            .sum::<f64>();
        for row in noisy
            .data
            .chunks_exact((noisy.width * noisy.channels).max(1))
        {
            let right = row.iter().skip(noisy.channels);
            self.rough += row
                .iter()
                .zip(right)
                .map(|(a, b)| square(a - b) / 2.0)
                .sum::<f64>();
        }
        for (spread, image) in self.spread.iter_mut().zip([noisy, denoised]) {
            let values = || image.data.iter().map(|&x| f64::from(x));
            let mean = values().sum::<f64>() / image.data.len().max(1) as f64;
            *spread += values().map(|x| (x - mean).powi(2)).sum::<f64>();
        }
    }

    fn collapse(&self) -> Option<Collapse> {
        let [changed, shown] = Self::LITTLE;
        let [noisy, denoised] = self.spread;
        if denoised < shown * noisy {
            Some(Collapse::Constant)
        } else if self.changed < changed * self.rough {
            Some(Collapse::Identity)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::network::fake::Fake;
    use crate::train::source::Memory;

    /// Stripes under pseudo-random noise.
    fn images() -> (Image, Image) {
        let image = |noise: f32| {
            let mut batch = Batch::zeros(1, 32, 32, 1);
            for (i, x) in batch.data.iter_mut().enumerate() {
                let random = (i * 7919 % 101) as f32 / 101.0 - 0.5;
                *x = 0.2 + 0.5 * f32::from(i / 32 % 8 > 3) + noise * random;
            }
            Image::from_batch(batch)
        };
        (image(0.4), image(0.0))
    }

    fn collapse(change: impl Fn(f32, f32) -> f32) -> Option<Collapse> {
        let (noisy, clean) = images();
        let mut denoised = clean.clone();
        for (x, noisy) in denoised.data.iter_mut().zip(&noisy.data) {
            *x = change(*x, *noisy);
        }
        let mut traits = Traits::default();
        traits.add(&noisy, &denoised);
        traits.collapse()
    }

    #[test]
    fn a_network_that_has_learned_nothing_is_told_from_one_that_has_learned_something() {
        assert_eq!(collapse(|clean, _| clean), None);
        assert_eq!(collapse(|clean, noisy| 0.8 * noisy + 0.2 * clean), None);
        assert_eq!(collapse(|_, noisy| noisy), Some(Collapse::Identity));
        let nearly = |_: f32, noisy: f32| noisy * 1.001;
        assert_eq!(collapse(nearly), Some(Collapse::Identity));
        assert_eq!(collapse(|_, _| 0.3), Some(Collapse::Constant));
        let nearly = |clean: f32, _: f32| 0.3 + clean * 1e-4;
        assert_eq!(collapse(nearly), Some(Collapse::Constant));
    }

    #[test]
    fn a_score_that_is_not_a_number_is_none() {
        let scores = |sure| Scores {
            sure,
            held_out: Some(Losses {
                loss1: 1.0,
                loss2: 1.0,
                loss_full: 2.0,
            }),
            ..Scores::default()
        };
        assert_eq!(scores(None).merit(), Some((Merit::Loss, -2.0)));
        assert_eq!(scores(Some(0.5)).merit(), Some((Merit::Sure, -0.5)));
        assert_eq!(scores(Some(f64::NAN)).merit(), None);
    }

    /// The identity returns the first neighbor, so `diff = g1 − g2`, and its result for the whole image
    /// leaves nothing for the regularizer.
    #[test]
    fn the_held_out_losses_of_the_identity_are_those_of_the_neighbors() {
        let folder = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..70 * 80).map(|i| (i * 31 % 251) as u8).collect();
        for name in ["a.png", "b.png"] {
            let image = Image::from_bytes(70, 80, 1, &bytes);
            image.write(&folder.path().join(name)).unwrap();
        }
        let config = Config {
            n_channel: 1,
            patchsize: 64,
            ..Config::default()
        };
        let held_out = Dataset::open(folder.path(), &[], 1, 0, &mut |_| {}).unwrap();
        let validation = Validation::new(&config, held_out, None).unwrap();
        let mut network = Fake::identity(1);
        let Trial {
            noisy,
            denoised,
            losses,
            ..
        } = validation.try_on(&mut network, 0).unwrap();
        assert_eq!(noisy, denoised);
        let mut rng = stream(config.seed, Purpose::HoldOut, 0, 1);
        let (a, b) = Neighbors::draw(&noisy, &mut rng).sub_sample(&noisy);
        let squares = a
            .data
            .iter()
            .zip(&b.data)
            .map(|(a, b)| f64::from(a - b).powi(2));
        let expected = squares.sum::<f64>() / a.data.len() as f64;
        assert!((losses.loss1 - expected).abs() < 1e-6 * expected);
        assert_eq!(losses.loss2, 0.0);
        // The same again, and something else for another image.
        let mut noisy_of = |index| validation.try_on(&mut network, index).unwrap().noisy;
        assert_eq!(noisy_of(0), noisy);
        assert_ne!(noisy_of(1), noisy);
    }

    #[test]
    fn a_network_that_fails_on_whole_images_is_found() {
        // Noise around the middle of the range.
        let bytes: Vec<u8> = (0..300 * 400).map(|i| (i * 31 % 251) as u8).collect();
        let images = vec![Image::from_bytes(300, 400, 1, &bytes); 9];
        let images = Dataset::read(Arc::new(Memory::from(&images[..])), 1, 0, &mut |_| {});
        let compared = |patchsize: usize, in_large: f32| {
            let config = Config {
                n_channel: 1,
                patchsize,
                ..Config::default()
            };
            let nothing = Arc::new(Memory::default());
            let held_out = Dataset::read(nothing, 1, 0, &mut |_| {});
            let mut network = Fake::new(1, |_| 0.5);
            network.in_large = in_large;
            let validation = Validation::new(&config, held_out, None).unwrap();
            let never = AtomicBool::new(false);
            let failed = validation.fails_on_whole(&mut network, &images, 7, &never);
            (failed.unwrap(), network.seen)
        };
        let (failed, seen) = compared(128, 0.2);
        let sizes: Vec<_> = seen.iter().map(|&(_, h, w, _)| (h, w)).collect();
        assert_eq!(sizes.len(), 4 * (1 + 4 * 6));
        assert_eq!(sizes[0], (256, 384));
        assert_eq!(sizes[1..25], [(64, 64); 24]);
        let [whole, parts] = failed.unwrap();
        let more = whole.powi(2) - parts.powi(2);
        assert!((more - 0.04).abs() < 0.005, "{whole} {parts}");
        assert_eq!(compared(128, 0.0).0, None);
        // Images no larger than the patches leave nothing to compare.
        let (failed, seen) = compared(1024, 0.2);
        assert_eq!((failed, seen.len()), (None, 0));
    }

    #[test]
    fn held_out_images_of_any_size_can_be_scored_at_any_distance() {
        for (height, width) in [(70, 80), (192, 192), (40, 300), (300, 40), (3, 5), (1, 1)] {
            let folder = tempfile::tempdir().unwrap();
            let bytes: Vec<u8> = (0..height * width).map(|i| (i * 31 % 251) as u8).collect();
            let image = Image::from_bytes(height, width, 1, &bytes);
            image.write(&folder.path().join("a.png")).unwrap();
            for distance in ["1", "2", "3x1", "1x3", "8x2", "2x8"] {
                let config = Config {
                    n_channel: 1,
                    patchsize: 64,
                    neighbor_distance: distance.parse().unwrap(),
                    ..Config::default()
                };
                let held_out = Dataset::open(folder.path(), &[], 1, 0, &mut |_| {}).unwrap();
                let validation = Validation::new(&config, held_out, None).unwrap();
                let trial = validation.try_on(&mut Fake::identity(1), 0).unwrap();
                assert!(trial.losses.loss1 >= 0.0, "{height}x{width} {distance}");
            }
        }
    }
}
