//! Batches of patches: each epoch goes through the images in a new order and cuts one patch from
//! each, at a place drawn uniformly.

use std::sync::Arc;

use rand::RngExt;
use rand::seq::SliceRandom;

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::train::config::Config;
use crate::train::dataset::Dataset;
use crate::train::prefetch::Prefetch;
use crate::train::random::{Purpose, stream};

/// Cuts the batches of every epoch from a set of images, ahead of time and in threads of its own.
#[derive(Debug)]
pub struct Loader {
    cutter: Arc<Cutter>,
    threads: usize,
}

impl Loader {
    /// A loader for at least as many images as a batch takes.
    pub fn new(dataset: Dataset, config: &Config) -> Result<Self> {
        let Config {
            seed,
            batchsize,
            patchsize,
            ..
        } = *config;
        if dataset.len() < batchsize {
            return Err(Error::value(
                format!("usable images in {}", config.data_dir.display()),
                format!("at least {batchsize}, the batch size"),
                dataset.len(),
            ));
        }
        Ok(Self {
            cutter: Arc::new(Cutter {
                dataset,
                seed,
                batchsize,
                patchsize,
            }),
            threads: config.loader_threads,
        })
    }

    /// The number of images.
    pub fn samples(&self) -> usize {
        self.cutter.dataset.len()
    }

    /// Batches in an epoch; images that do not fill a last one are left for another epoch.
    pub fn iterations(&self) -> usize {
        self.samples() / self.cutter.batchsize
    }

    /// The number of images smaller than a patch in height or width; they are padded by reflection
    /// at the bottom and the right.
    pub fn padded(&self) -> usize {
        let side = self.cutter.patchsize;
        let sizes = self.cutter.dataset.sizes();
        sizes.filter(|&(h, w)| h < side || w < side).count()
    }

    /// The batches of an epoch, `[batchsize, patchsize, patchsize, channels]`, clean, 0..1.
    ///
    /// They depend on the images, the seed and the epoch, and on nothing else.
    pub fn epoch(&self, epoch: usize) -> Result<Prefetch<Batch>> {
        let cutter = Arc::clone(&self.cutter);
        let order = cutter.order(epoch);
        Prefetch::start(self.threads, self.iterations(), move |iteration| {
            cutter.batch(&order, epoch, iteration)
        })
    }
}

#[derive(Debug)]
struct Cutter {
    dataset: Dataset,
    seed: u64,
    batchsize: usize,
    patchsize: usize,
}

impl Cutter {
    /// The order of the images in an epoch.
    fn order(&self, epoch: usize) -> Vec<usize> {
        let mut order: Vec<_> = (0..self.dataset.len()).collect();
        order.shuffle(&mut stream(self.seed, Purpose::Shuffle, epoch, 0));
        order
    }

    /// One batch; `iteration` counts from 0.
    fn batch(&self, order: &[usize], epoch: usize, iteration: usize) -> Result<Batch> {
        let side = self.patchsize;
        let mut batch = Batch::zeros(self.batchsize, side, side, self.dataset.channels());
        for patch in 0..self.batchsize {
            let position = iteration * self.batchsize + patch;
            let image = self.dataset.image(order[position])?;
            let mut rng = stream(self.seed, Purpose::Crop, epoch, position);
            let top = rng.random_range(0..=image.height().saturating_sub(side));
            let left = rng.random_range(0..=image.width().saturating_sub(side));
            image.crop(top, left, side, batch.image_mut(patch));
        }
        Ok(batch)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::image::{Depth, Image};

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
            ..Config::default()
        };
        change(&mut config);
        let dataset = Dataset::open(folder, &[], 3, config.cache_bytes, &mut |_| {}).unwrap();
        Loader::new(dataset, &config).unwrap()
    }

    fn batches(loader: &Loader, epoch: usize) -> Vec<Batch> {
        loader.epoch(epoch).unwrap().map(Result::unwrap).collect()
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
        let expected = batches(&loader(folder.path(), |c| c.loader_threads = 1), 1);
        for threads in [2, 5] {
            for cache_bytes in [0, 1 << 30] {
                let loader = loader(folder.path(), |c| {
                    c.loader_threads = threads;
                    c.cache_bytes = cache_bytes;
                });
                assert!(batches(&loader, 1) == expected, "{threads} threads");
            }
        }
    }

    #[test]
    fn an_epoch_cuts_one_patch_from_each_image_and_drops_the_last_short_batch() {
        let folder = tempfile::tempdir().unwrap();
        write_images(folder.path(), 11);
        let loader = loader(folder.path(), |_| {});
        assert_eq!((loader.samples(), loader.iterations()), (11, 3));
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
    fn fewer_images_than_a_batch_are_an_error() {
        let folder = tempfile::tempdir().unwrap();
        write_images(folder.path(), 2);
        let config = Config {
            batchsize: 3,
            ..Config::default()
        };
        let dataset = Dataset::open(folder.path(), &[], 3, 0, &mut |_| {}).unwrap();
        let error = Loader::new(dataset, &config).unwrap_err().to_string();
        assert!(
            error.contains("at least 3") && error.contains("got 2"),
            "{error}"
        );
    }

    #[test]
    fn an_image_lost_during_training_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        write_images(folder.path(), 3);
        let loader = loader(folder.path(), |c| c.cache_bytes = 0);
        std::fs::remove_file(folder.path().join("01.png")).unwrap();
        let error = loader.epoch(1).unwrap().find_map(Result::err).unwrap();
        assert!(error.to_string().contains("01.png"), "{error}");
    }
}
