//! Batches for the network. Each epoch goes through the images in a new order and cuts one patch from each, at a
//! uniformly drawn position. Noise and neighbors are drawn here, or on a device that draws both itself.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use rand::seq::SliceRandom;
use rand::{Rng, RngExt};

use crate::batch::Batch;
use crate::dihedral::Dihedral;
use crate::error::{Error, Result};
use crate::neighbors::Neighbors;
use crate::network::{CleanBatch, Pixels, Sample, SampleKind};
use crate::train::config::Config;
use crate::train::dataset::{Dataset, Scaled};
use crate::train::frozen;
use crate::train::prefetch::Prefetch;
use crate::train::random::{Purpose, stream};

/// Makes the batches of a run ahead of time, in its own threads.
#[derive(Debug)]
pub struct Loader {
    cutter: Arc<Cutter>,
}

impl Loader {
    /// A loader for at least one image. If there are fewer images than patches in a step, several patches are taken
    /// from each.
    ///
    /// # Errors
    /// A data set without images.
    pub fn new(dataset: Dataset, config: &Config) -> Result<Self> {
        if dataset.is_empty() {
            return Err(Error::value(
                format!("images to train on, from {}", dataset.description()),
                "at least one that is not held out",
                "none",
            ));
        }
        Ok(Self {
            cutter: Arc::new(Cutter {
                iterations: config.iterations(dataset.len()),
                dataset,
                config: config.clone(),
                order: Mutex::default(),
            }),
        })
    }

    /// The number of images.
    pub fn images(&self) -> usize {
        self.dataset().len()
    }

    /// The images.
    pub fn dataset(&self) -> &Dataset {
        &self.cutter.dataset
    }

    /// The names of the images that the patches of a step are taken from; `iteration` counts from 0.
    pub fn names(&self, epoch: usize, iteration: usize) -> Vec<&str> {
        let cutter = &self.cutter;
        let images = cutter
            .batches(iteration)
            .flat_map(|batch| cutter.images(epoch, batch));
        images.map(|image| cutter.dataset.name(image)).collect()
    }

    /// Steps per epoch. By default, images that do not fill the batches of a last step are left for another epoch.
    pub fn iterations(&self) -> usize {
        self.cutter.iterations
    }

    /// The number of images that are smaller in height or width than the area that a patch covers; they are padded by
    /// reflection at the bottom and the right.
    pub fn padded(&self) -> usize {
        let config = &self.cutter.config;
        let [height, width] = config.neighbor_distance.spacing().part(config.patchsize);
        let sizes = self.cutter.dataset.sizes();
        sizes.filter(|&(h, w)| h < height || w < width).count()
    }

    /// The samples of each step from `iteration` of `epoch` on, up to the end of `last_epoch`; `iteration` counts from
    /// 0, epochs from 1. A step has one sample for each batch ([`Config::accumulate`]).
    ///
    /// A sample depends only on its kind, the images, the settings, the epoch and the number of its batch.
    ///
    /// # Errors
    /// A thread that cannot be started.
    pub fn samples(
        &self,
        kind: SampleKind,
        epoch: usize,
        iteration: usize,
        last_epoch: usize,
    ) -> Result<Prefetch<Vec<Sample>>> {
        let cutter = Arc::clone(&self.cutter);
        let first = (epoch - 1) * cutter.iterations + iteration;
        let end = last_epoch.saturating_mul(cutter.iterations);
        let threads = cutter.config.loader_threads;
        Prefetch::start(threads, end.saturating_sub(first), move |index| {
            let index = first + index;
            let (epoch, iteration) = (1 + index / cutter.iterations, index % cutter.iterations);
            let samples = cutter.batches(iteration).map(|batch| match kind {
                SampleKind::Noisy => cutter.noisy(epoch, batch),
                SampleKind::Clean => cutter.clean(epoch, batch),
            });
            samples.collect()
        })
    }
}

#[derive(Debug)]
struct Cutter {
    dataset: Dataset,
    config: Config,
    iterations: usize,
    /// The most recent round, by its epoch and number, and its order.
    order: Mutex<([usize; 2], Arc<[usize]>)>,
}

impl Cutter {
    /// The images in the order of a round: an epoch goes through all of them as often as its iterations need.
    fn order(&self, epoch: usize, round: usize) -> Arc<[usize]> {
        // The guarded data is consistent wherever a thread could panic.
        let mut last = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0 != [epoch, round] {
            let mut images: Vec<_> = (0..self.dataset.len()).collect();
            let mut rng = stream(self.config.seed, Purpose::Shuffle, epoch, round);
            images.shuffle(&mut rng);
            *last = ([epoch, round], images.into());
        }
        Arc::clone(&last.1)
    }

    /// The numbers of the batches of a step.
    fn batches(&self, iteration: usize) -> Range<usize> {
        let per_step = self.config.accumulate;
        iteration * per_step..(iteration + 1) * per_step
    }

    /// The images of a batch; batches of an epoch are numbered from 0, here and below.
    fn images(&self, epoch: usize, batch: usize) -> Vec<usize> {
        let (n, all) = (self.config.batchsize, self.dataset.len());
        let places = batch * n..(batch + 1) * n;
        let image = |place| self.order(epoch, place / all)[place % all];
        places.map(image).collect()
    }

    /// Passes each image of a batch with the position of its patch. An image that is not kept in memory is decoded for
    /// this patch only, and dropped before the next.
    fn each_place(
        &self,
        epoch: usize,
        batch: usize,
        mut cut: impl FnMut(usize, (&str, &Scaled), (usize, usize)),
    ) -> Result<()> {
        let config = &self.config;
        let n = config.batchsize;
        let [height, width] = config.neighbor_distance.spacing().part(config.patchsize);
        for (patch, index) in self.images(epoch, batch).into_iter().enumerate() {
            let image = self.dataset.image(index)?;
            let mut rng = stream(config.seed, Purpose::Crop, epoch, batch * n + patch);
            let top = rng.random_range(0..=image.height().saturating_sub(height));
            let left = rng.random_range(0..=image.width().saturating_sub(width));
            cut(patch, (self.dataset.name(index), &image), (top, left));
        }
        Ok(())
    }

    /// A batch with its noise and its neighbors.
    fn noisy(&self, epoch: usize, batch: usize) -> Result<Sample> {
        let config = &self.config;
        let (n, side) = (config.batchsize, config.patchsize);
        let (c, spacing) = (self.dataset.channels(), config.neighbor_distance.spacing());
        let mut noisy = Batch::zeros(n, side, side, c);
        self.each_place(epoch, batch, |patch, image, (top, left)| {
            spacing.cut([side; 2], c, noisy.image_mut(patch), |side, out| {
                if config.frozen_noise {
                    frozen::crop(config.noise, config.seed, image, (top, left), side, out);
                } else {
                    image.1.crop(top, left, side, out);
                }
            });
        })?;
        // The streams of whole batches count from 1.
        let rng = |purpose| stream(config.seed, purpose, epoch, batch + 1);
        if !config.frozen_noise {
            config
                .noise
                .corrupt_in_place(&mut noisy, &mut rng(Purpose::Noise));
        }
        if config.augment {
            let mut rng = rng(Purpose::Augment);
            for patch in 0..n {
                let way = Dihedral(rng.random_range(0..8));
                let laid = way.apply(noisy.image(patch), (side, side));
                noisy.image_mut(patch).copy_from_slice(&laid);
            }
        }
        let neighbors = Neighbors::draw(&noisy, &mut rng(Purpose::Neighbors));
        Ok(Sample::Noisy(noisy, neighbors))
    }

    /// A batch as stored in the files: as bytes, a quarter of the data to transfer, if all images are bytes.
    fn clean(&self, epoch: usize, batch: usize) -> Result<Sample> {
        let config = &self.config;
        let (n, side, c) = (config.batchsize, config.patchsize, self.dataset.channels());
        let spacing = config.neighbor_distance.spacing();
        let len = side * side * c;
        let mut pixels = Pixels::U8(vec![0; n * len]);
        self.each_place(epoch, batch, |patch, (_, image), (top, left)| {
            let packed = image.bytes();
            if packed.is_none()
                && let Pixels::U8(bytes) = &pixels
            {
                let floats = bytes.iter().map(|&byte| f32::from(byte) / 255.0);
                pixels = Pixels::F32(floats.collect());
            }
            let own = patch * len..(patch + 1) * len;
            match (&mut pixels, packed) {
                (Pixels::U8(bytes), Some(image)) => {
                    spacing.cut([side; 2], c, &mut bytes[own], |side, out| {
                        image.crop_bytes(top, left, side, out);
                    });
                }
                (Pixels::F32(floats), _) => {
                    spacing.cut([side; 2], c, &mut floats[own], |side, out| {
                        image.crop(top, left, side, out);
                    });
                }
                (Pixels::U8(_), None) => unreachable!("without a packed image, pixels are floats"),
            }
        })?;
        Ok(Sample::Clean(CleanBatch {
            n,
            side,
            c,
            pixels,
            noise: config.noise,
            augment: config.augment,
            seed: stream(config.seed, Purpose::Step, epoch, batch + 1).next_u64(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::image::{Depth, Image};
    use crate::noise::Noise;

    /// `count` images of 70×90: image `k` holds `k` in red, its rows in green, its columns in blue.
    fn write_images(folder: &Path, count: usize) {
        for k in 0..count {
            let mut data = vec![];
            for y in 0..70 {
                for x in 0..90 {
                    data.extend([k, y, x].map(|value| value as f32 / 255.0));
                }
            }
            let image = Image {
                height: 70,
                width: 90,
                channels: 3,
                data,
                depth: Depth::U8,
            };
            image.write(&folder.join(format!("{k:02}.png"))).unwrap();
        }
    }

    fn loader(folder: &Path, change: impl FnOnce(&mut Config)) -> Loader {
        let mut config = Config {
            data_dir: folder.into(),
            patchsize: 64,
            batchsize: 3,
            noise: Noise::NONE,
            ..Config::default()
        };
        change(&mut config);
        let dataset = Dataset::open(folder, &[], 3, config.cache_bytes(), &mut |_| {}).unwrap();
        // As the reference has them.
        let batches = dataset.len() / config.batchsize;
        config.steps_per_epoch.get_or_insert(batches.max(1));
        Loader::new(dataset, &config).unwrap()
    }

    fn samples(loader: &Loader, kind: SampleKind, epoch: usize) -> Vec<Sample> {
        let samples = loader.samples(kind, epoch, 0, epoch).unwrap();
        samples.flat_map(Result::unwrap).collect()
    }

    fn batches(loader: &Loader, epoch: usize) -> Vec<Batch> {
        let samples = samples(loader, SampleKind::Noisy, epoch).into_iter();
        let noisy = samples.map(|sample| match sample {
            Sample::Noisy(noisy, _) => noisy,
            Sample::Clean(_) => panic!("not what was asked for"),
        });
        noisy.collect()
    }

    fn clean_batches(loader: &Loader, epoch: usize) -> Vec<CleanBatch> {
        let samples = samples(loader, SampleKind::Clean, epoch).into_iter();
        let clean = samples.map(|sample| match sample {
            Sample::Noisy(..) => panic!("not what was asked for"),
            Sample::Clean(clean) => clean,
        });
        clean.collect()
    }

    /// Image, top and left of every patch.
    fn places(batches: &[Batch]) -> Vec<[usize; 3]> {
        let patches = batches
            .iter()
            .flat_map(|batch| (0..batch.n).map(|i| batch.image(i)));
        patches
            .map(|patch| [0, 1, 2].map(|c| (patch[c] * 255.0).round() as usize))
            .collect()
    }

    #[test]
    fn batches_do_not_depend_on_threads_or_cache() {
        let folder = tempfile::tempdir().unwrap();
        write_images(folder.path(), 10);
        for (frozen_noise, kind) in [
            (false, SampleKind::Noisy),
            (true, SampleKind::Noisy),
            (false, SampleKind::Clean),
        ] {
            let loader = |threads, cache_mb| {
                loader(folder.path(), |c| {
                    c.noise = "gauss5_50".parse().unwrap();
                    c.frozen_noise = frozen_noise;
                    c.augment = true;
                    c.loader_threads = threads;
                    c.cache_mb = cache_mb;
                })
            };
            let expected = samples(&loader(1, 1024), kind, 1);
            for threads in [2, 5] {
                for cache_mb in [0, 1024] {
                    let loader = loader(threads, cache_mb);
                    assert!(samples(&loader, kind, 1) == expected, "{threads} threads");
                }
            }
        }
    }

    #[test]
    fn batches_go_on_from_any_point_and_over_the_ends_of_epochs() {
        let folder = tempfile::tempdir().unwrap();
        write_images(folder.path(), 10);
        let loader = loader(folder.path(), |c| c.noise = "gauss25".parse().unwrap());
        for kind in [SampleKind::Noisy, SampleKind::Clean] {
            let expected: Vec<_> = (1..=3)
                .flat_map(|epoch| samples(&loader, kind, epoch))
                .collect();
            assert_eq!(expected.len(), 9);
            for (epoch, iteration) in [(1, 0), (1, 2), (2, 0), (2, 1), (3, 3)] {
                let rest = loader.samples(kind, epoch, iteration, 3).unwrap();
                let rest: Vec<_> = rest.flat_map(Result::unwrap).collect();
                assert!(rest == expected[(epoch - 1) * 3 + iteration..], "{epoch}");
            }
        }
    }

    #[test]
    fn a_device_gets_the_same_patches_clean_and_a_seed_of_its_own_for_each() {
        let folder = tempfile::tempdir().unwrap();
        write_images(folder.path(), 6);
        // Bytes would not do for batches that contain this image.
        let (words, mixed) = (folder.path().join("05.png"), 5.0 / 255.0);
        let mut image = Image::read(&words).unwrap();
        image.depth = Depth::U16;
        image.write(&words).unwrap();
        let loader = loader(folder.path(), |_| {});
        let mut seeds = std::collections::HashSet::new();
        let mut kinds = [0; 2];
        for epoch in 1..=4 {
            let clean = clean_batches(&loader, epoch);
            // These are without noise, flips and rotations.
            let noisy = batches(&loader, epoch);
            for (clean, noisy) in clean.iter().zip(&noisy) {
                assert_eq!((clean.n, clean.side, clean.c), (3, 64, 3));
                assert!(seeds.insert(clean.seed));
                let is_mixed = (0..3).any(|i| noisy.image(i)[0] == mixed);
                kinds[usize::from(is_mixed)] += 1;
                let floats = match &clean.pixels {
                    Pixels::U8(bytes) => {
                        bytes.iter().map(|&byte| f32::from(byte) / 255.0).collect()
                    }
                    Pixels::F32(floats) => floats.clone(),
                };
                assert_eq!(matches!(clean.pixels, Pixels::F32(_)), is_mixed);
                assert!(floats == noisy.data);
            }
        }
        assert_eq!(kinds, [4, 4]);
    }

    #[test]
    fn an_epoch_of_more_steps_than_batches_goes_round_the_images_evenly() {
        let folder = tempfile::tempdir().unwrap();
        write_images(folder.path(), 4);
        let loader = loader(folder.path(), |c| c.steps_per_epoch = Some(8));
        assert_eq!(loader.iterations(), 8);
        let batches = batches(&loader, 1);
        let images: Vec<_> = places(&batches).iter().map(|place| place[0]).collect();
        let names: Vec<_> = (0..8).flat_map(|i| loader.names(1, i)).collect();
        for (image, name) in images.iter().zip(names) {
            assert_eq!(name, format!("{image:02}.png"));
        }
        for round in images.chunks(4) {
            let mut round = round.to_vec();
            round.sort_unstable();
            assert_eq!(round, [0, 1, 2, 3]);
        }
        assert!(images.chunks(4).any(|round| round != &images[..4]));
    }

    #[test]
    fn a_step_of_several_batches_has_those_that_as_many_steps_would_have() {
        let folder = tempfile::tempdir().unwrap();
        write_images(folder.path(), 7);
        let loader = |accumulate, steps| {
            loader(folder.path(), |c| {
                c.accumulate = accumulate;
                c.steps_per_epoch = Some(steps);
            })
        };
        let (together, alone) = (loader(3, 4), loader(1, 12));
        for kind in [SampleKind::Noisy, SampleKind::Clean] {
            let expected = samples(&alone, kind, 2);
            let steps: Vec<_> = together
                .samples(kind, 2, 1, 2)
                .unwrap()
                .map(Result::unwrap)
                .collect();
            assert_eq!(steps.iter().map(Vec::len).collect::<Vec<_>>(), [3; 3]);
            assert!(steps.concat() == expected[3..]);
        }
        let names: Vec<_> = (3..6).flat_map(|i| alone.names(2, i)).collect();
        assert_eq!(together.names(2, 1), names);
    }

    #[test]
    fn an_epoch_of_billions_of_patches_takes_no_memory() {
        let folder = tempfile::tempdir().unwrap();
        write_images(folder.path(), 7);
        let steps = Config::MAX_PATCHES / 3 - 3;
        let loader = loader(folder.path(), |c| c.steps_per_epoch = Some(steps));
        // The last batch of an epoch, which straddles two rounds.
        let places = 3 * (steps - 1)..3 * steps;
        let expected = places.map(|place| {
            let mut round: Vec<_> = (0..7).collect();
            round.shuffle(&mut stream(0, Purpose::Shuffle, 2, place / 7));
            format!("{:02}.png", round[place % 7])
        });
        assert_eq!(loader.names(2, steps - 1), expected.collect::<Vec<_>>());
    }

    #[test]
    fn patches_are_turned_in_all_eight_ways_alike() {
        let patch: Vec<f32> = (0..3 * 3 * 2).map(|i| i as f32).collect();
        let turned: std::collections::BTreeSet<_> = (0..8)
            .map(|how| {
                let patch = Dihedral(how).apply(&patch, (3, 3));
                // The center stays, and the channels of a pixel stay together.
                assert_eq!(patch[8..10], [8.0, 9.0]);
                assert!(patch.chunks(2).all(|pixel| pixel[0] + 1.0 == pixel[1]));
                patch.iter().map(|&x| x as usize).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(turned.len(), 8);

        let folder = tempfile::tempdir().unwrap();
        write_images(folder.path(), 6);
        let loader = loader(folder.path(), |c| c.augment = true);
        // The last row and column of a patch, seen from its first pixel: down and across in green and blue, the other
        // way around in a patch whose rows and columns are exchanged.
        let mut ways = [0; 8];
        for epoch in 1..=40 {
            for batch in batches(&loader, epoch) {
                for i in 0..batch.n {
                    let patch = batch.image(i);
                    let (first, last, corner) = (0, 63 * 3, 63 * 64 * 3);
                    let across = patch[last + 2] - patch[first + 2];
                    let down = patch[corner + 1] - patch[first + 1];
                    let other = (
                        patch[last + 1] - patch[first + 1],
                        patch[corner + 2] - patch[first + 2],
                    );
                    let way = if across == 0.0 {
                        4 + usize::from(other.0 > 0.0) + 2 * usize::from(other.1 > 0.0)
                    } else {
                        usize::from(across > 0.0) + 2 * usize::from(down > 0.0)
                    };
                    ways[way] += 1;
                }
            }
        }
        // 240 patches, 30 of each way; standard deviation 5.1.
        assert!(
            ways.iter().all(|count| (10..=50).contains(count)),
            "{ways:?}"
        );
    }

    #[test]
    fn an_epoch_cuts_one_patch_from_each_image_and_drops_the_last_short_batch() {
        let folder = tempfile::tempdir().unwrap();
        write_images(folder.path(), 11);
        let loader = loader(folder.path(), |_| {});
        assert_eq!((loader.images(), loader.iterations()), (11, 3));
        assert_eq!(loader.padded(), 0);
        let batches = batches(&loader, 1);
        assert_eq!(batches.len(), 3);
        for batch in &batches {
            assert_eq!((batch.n, batch.h, batch.w, batch.c), (3, 64, 64, 3));
            for i in 0..batch.n {
                let patch = batch.image(i);
                let first = [patch[0], patch[1] * 255.0, patch[2] * 255.0];
                for (at, pixel) in patch.chunks(3).enumerate() {
                    assert_eq!(pixel[0], first[0]);
                    assert_eq!(
                        (pixel[1] * 255.0).round(),
                        first[1].round() + (at / 64) as f32
                    );
                    assert_eq!(
                        (pixel[2] * 255.0).round(),
                        first[2].round() + (at % 64) as f32
                    );
                }
            }
        }
        let mut images: Vec<_> = places(&batches).iter().map(|place| place[0]).collect();
        images.sort_unstable();
        images.dedup();
        assert_eq!(images.len(), 9);
    }

    #[test]
    fn epochs_and_seeds_draw_anew_and_uniformly() {
        let folder = tempfile::tempdir().unwrap();
        write_images(folder.path(), 6);
        let first = loader(folder.path(), |_| {});
        let second = loader(folder.path(), |c| c.seed = 1);
        assert_ne!(places(&batches(&first, 1)), places(&batches(&first, 2)));
        assert_ne!(places(&batches(&first, 1)), places(&batches(&second, 1)));

        // 70 - 64 leaves 7 places down: each expected 60 times in 420 draws, standard deviation 7.2.
        let mut tops = [0; 7];
        let mut firsts = [0; 6];
        for epoch in 1..=70 {
            let places = places(&batches(&first, epoch));
            for place in &places {
                tops[place[1]] += 1;
            }
            firsts[places[0][0]] += 1;
        }
        assert!(
            tops.iter().all(|count| (30..=90).contains(count)),
            "{tops:?}"
        );
        // Each image leads an epoch 11.7 times in 70 on average, standard deviation 3.1.
        assert!(
            firsts.iter().all(|count| (1..=25).contains(count)),
            "{firsts:?}"
        );
    }

    #[test]
    fn images_smaller_than_the_patch_are_reflected() {
        let folder = tempfile::tempdir().unwrap();
        write_images(folder.path(), 3);
        let loader = loader(folder.path(), |c| c.patchsize = 128);
        assert_eq!(loader.padded(), 3);
        let batch = &batches(&loader, 1)[0];
        let value =
            |y: usize, x: usize, c: usize| (batch.image(0)[(y * 128 + x) * 3 + c] * 255.0).round();
        assert_eq!(
            (value(69, 5, 1), value(70, 5, 1), value(127, 5, 1)),
            (69.0, 68.0, 11.0)
        );
        assert_eq!(
            (value(5, 89, 2), value(5, 90, 2), value(5, 127, 2)),
            (89.0, 88.0, 51.0)
        );
    }

    #[test]
    fn a_batch_of_more_patches_than_images_takes_several_of_each() {
        let folder = tempfile::tempdir().unwrap();
        write_images(folder.path(), 2);
        let loader = loader(folder.path(), |c| {
            c.batchsize = 5;
            c.steps_per_epoch = Some(40);
        });
        let (mut patches, batches) = ([0_u32; 2], batches(&loader, 1));
        for place in places(&batches) {
            patches[place[0]] += 1;
        }
        assert_eq!((batches.len(), patches), (40, [100, 100]));
    }

    #[test]
    fn no_image_at_all_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        write_images(folder.path(), 1);
        let mut dataset = Dataset::open(folder.path(), &[], 3, 0, &mut |_| {}).unwrap();
        drop(dataset.take(&[0]));
        let error = Loader::new(dataset, &Config::default()).unwrap_err();
        assert!(error.to_string().contains("at least one"), "{error}");
    }

    #[test]
    fn an_image_lost_during_training_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        write_images(folder.path(), 3);
        let loader = loader(folder.path(), |c| c.cache_mb = 0);
        std::fs::remove_file(folder.path().join("01.png")).unwrap();
        let error = loader
            .samples(SampleKind::Noisy, 1, 0, 1)
            .unwrap()
            .find_map(Result::err)
            .unwrap();
        assert!(error.to_string().contains("01.png"), "{error}");
    }

    #[test]
    fn patches_may_be_of_pixels_that_are_farther_apart() {
        let folder = tempfile::tempdir().unwrap();
        write_images(folder.path(), 3);
        for (kind, distance, x, y) in [
            (SampleKind::Noisy, "2", 2, 2),
            (SampleKind::Clean, "3x1", 3, 1),
            (SampleKind::Noisy, "1x2", 1, 2),
        ] {
            let loader = loader(folder.path(), |c| {
                c.neighbor_distance = distance.parse().unwrap();
            });
            // A patch of 64 pixels so far apart does not fit into 70 rows and 90 columns.
            assert_eq!(loader.padded(), 3);
            let patches: Vec<Vec<f32>> = match kind {
                SampleKind::Noisy => {
                    let batches = batches(&loader, 1);
                    batches
                        .iter()
                        .flat_map(|b| (0..b.n).map(|i| b.image(i).to_vec()))
                        .collect()
                }
                SampleKind::Clean => {
                    let floats = |clean: CleanBatch| match clean.pixels {
                        Pixels::U8(bytes) => bytes.iter().map(|&b| f32::from(b) / 255.0).collect(),
                        Pixels::F32(floats) => floats,
                    };
                    clean_batches(&loader, 1).into_iter().map(floats).collect()
                }
            };
            for patch in patches {
                let at = |row: usize, column: usize, channel: usize| {
                    (patch[(row * 64 + column) * 3 + channel] * 255.0).round() as usize
                };
                let (top, left) = (at(0, 0, 1), at(0, 0, 2));
                // What lies beyond the image is reflected.
                let last = (((69 - top) / y).min(63), ((89 - left) / x).min(63));
                for (row, column) in [(1, 1), (10, 20), last] {
                    assert_eq!(at(row, column, 1), top + row * y, "{distance}");
                    assert_eq!(at(row, column, 2), left + column * x, "{distance}");
                }
            }
        }
    }
}
