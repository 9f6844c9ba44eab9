//! Runs pictures through an exported model as the Paddle port's inference script does: resized, corrupted, denoised in
//! batches, written and scored, with the time of each stage.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::batch::Batch;
use crate::denoise::{ModelRange, Options, Scale, denoise_in_tiles};
use crate::error::{Error, Result};
use crate::eval::psnr::psnr_db;
use crate::eval::ssim::{self, ssim};
use crate::image::Image;
use crate::network::Denoise;
use crate::noise::Noise;

/// The side, in pixels, that the Paddle port resizes to.
pub const REFERENCE_SIDE: usize = 256;

/// What to denoise, and how.
#[derive(Debug, Clone)]
pub struct Config {
    /// Each image, and the path of its result.
    pub images: Vec<(PathBuf, PathBuf)>,
    /// Images per batch, at least 1.
    pub batch_size: usize,
    /// Height and width that every image is resized to; if `None`, each keeps its own.
    pub size: Option<(usize, usize)>,
    /// Noise to add.
    pub noise: Noise,
    /// Seed of the noise. An image's noise depends on its position in the list, not on the batch size.
    pub seed: u64,
    /// The range that the model was trained on, if it states one. Noise is added and results are scored on the scale
    /// that maps this range to 0..1.
    pub range: Option<ModelRange>,
}

/// The results.
#[derive(Debug, Clone, Default)]
pub struct Inference {
    /// The images, in the order given.
    pub images: Vec<Denoised>,
    /// The total time of each stage.
    pub times: Times,
}

/// The time of the stages, excluding scoring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// Reading, decoding, resizing, noise.
    pub preprocess: Duration,
    /// The engine.
    pub inference: Duration,
    /// Clipping, rounding, encoding, writing.
    pub postprocess: Duration,
}

/// A denoised image.
#[derive(Debug, Clone, PartialEq)]
pub struct Denoised {
    /// The path of the image.
    pub input: PathBuf,
    /// The path of the result.
    pub output: PathBuf,
    /// The result against the engine's input, which is what the Paddle port prints.
    pub against_noisy: Score,
    /// The result against the image before noise was added; `None` if none was.
    pub against_clean: Option<Score>,
}

/// The similarity of two images, compared as 8-bit integers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// PSNR in dB; infinite if they are equal.
    pub psnr_db: f64,
    /// Structural similarity; `None` for images smaller than its window, [`ssim::WINDOW`].
    pub ssim: Option<f64>,
}

impl Score {
    /// Scores two images of the same size.
    fn of(a: &Image, b: &Image) -> Result<Self> {
        let (bytes, others) = (a.to_bytes(), b.to_bytes());
        let ssim = if a.height.min(a.width) < ssim::WINDOW {
            None
        } else {
            Some(ssim(&bytes, &others, a.height, a.width, a.channels)?)
        };
        Ok(Self {
            psnr_db: psnr_db(&bytes, &others),
            ssim,
        })
    }
}

/// Denoises the images of `config` and writes the results. `on_image` is called for each one written.
///
/// Images are converted to the channels of the engine, and written with those, at the depth of their file. A batch
/// contains consecutive images of one size; the last may be smaller, as may one before an image of a different size.
/// An image that cannot be read or written ends the work, as does a model for images other than gray or RGB.
///
/// # Panics
/// If the batch size is 0.
pub fn infer(
    engine: &mut dyn Denoise,
    config: &Config,
    mut on_image: impl FnMut(&Denoised),
) -> Result<Inference> {
    assert!(config.batch_size > 0, "images per batch");
    let channels = engine.channels();
    if !matches!(channels, 1 | 3) {
        let expected = "1 (gray) or 3 (RGB)";
        return Err(Error::value("channels of the model", expected, channels));
    }
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    let mut done = Inference::default();
    let mut waiting = Vec::new();
    for (input, output) in &config.images {
        let picture = timed(&mut done.times.preprocess, || {
            let mut clean = Image::read(input)?.with_channels(channels);
            if let Some((height, width)) = config.size {
                clean = clean.resized(height, width);
            }
            let scale = config.range.map(|range| range.scale(clean.depth));
            let in_range = Image {
                data: in_range(&clean.data, scale),
                ..clean
            };
            let noisy = config
                .noise
                .corrupt(&in_range.clone().into_batch(), &mut rng);
            Ok(Picture {
                input: input.clone(),
                output: output.clone(),
                clean: in_range,
                noisy: noisy.data,
                scale,
            })
        })?;
        let other_size = |first: &Picture| {
            (first.clean.height, first.clean.width) != (picture.clean.height, picture.clean.width)
        };
        if waiting.first().is_some_and(other_size) {
            run_batch(engine, config, &mut waiting, &mut done, &mut on_image)?;
        }
        waiting.push(picture);
        if waiting.len() == config.batch_size {
            run_batch(engine, config, &mut waiting, &mut done, &mut on_image)?;
        }
    }
    run_batch(engine, config, &mut waiting, &mut done, &mut on_image)?;
    Ok(done)
}

/// An image being processed.
struct Picture {
    input: PathBuf,
    output: PathBuf,
    /// On the scale that maps the model's range to 0..1, as is `noisy`.
    clean: Image,
    noisy: Vec<f32>,
    scale: Option<Scale>,
}

/// Values on the scale that maps the model's range to 0..1.
fn in_range(values: &[f32], scale: Option<Scale>) -> Vec<f32> {
    match scale {
        None => values.to_vec(),
        Some(Scale { low, high, .. }) => values.iter().map(|x| (x - low) / (high - low)).collect(),
    }
}

/// The inverse of [`in_range`].
fn in_file(values: &[f32], scale: Option<Scale>) -> Vec<f32> {
    match scale {
        None => values.to_vec(),
        Some(Scale { low, high, .. }) => values.iter().map(|x| low + x * (high - low)).collect(),
    }
}

/// Denoises, writes and scores the pictures, which all have the same size, and empties the list.
fn run_batch(
    engine: &mut dyn Denoise,
    config: &Config,
    pictures: &mut Vec<Picture>,
    done: &mut Inference,
    on_image: &mut impl FnMut(&Denoised),
) -> Result<()> {
    let Some(first) = pictures.first() else {
        return Ok(());
    };
    let (n, h, w, c) = (
        pictures.len(),
        first.clean.height,
        first.clean.width,
        first.clean.channels,
    );
    let noisy = timed(&mut done.times.preprocess, || {
        let values = pictures.iter().flat_map(|picture| &picture.noisy);
        Ok(Batch::new(n, h, w, c, values.copied().collect()))
    })?;
    let denoised = timed(&mut done.times.inference, || {
        denoise_in_tiles(engine, &noisy, Options::default().max_bytes)
    })?;
    for (i, picture) in pictures.drain(..).enumerate() {
        let like_clean = |data: Vec<f32>| Image {
            data,
            ..picture.clean
        };
        let result = timed(&mut done.times.postprocess, || {
            let result = denoised.image(i).to_vec();
            like_clean(in_file(&result, picture.scale)).write(&picture.output)?;
            Ok(like_clean(result))
        })?;
        let image = Denoised {
            against_noisy: Score::of(&result, &like_clean(picture.noisy))?,
            against_clean: match config.noise {
                Noise::NONE => None,
                _ => Some(Score::of(&result, &picture.clean)?),
            },
            input: picture.input,
            output: picture.output,
        };
        on_image(&image);
        done.images.push(image);
    }
    Ok(())
}

/// Runs `stage` and adds its time to `total`.
fn timed<T>(total: &mut Duration, stage: impl FnOnce() -> Result<T>) -> Result<T> {
    let began = Instant::now();
    let made = stage();
    *total += began.elapsed();
    made
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::image::Depth;
    use crate::unet::{Grid, UNet};

    /// Adds 0.5 to each value, and records the batches it saw.
    struct Brighter {
        channels: usize,
        seen: Vec<Batch>,
    }

    impl Denoise for Brighter {
        fn channels(&self) -> usize {
            self.channels
        }

        fn grid(&self) -> Grid {
            UNet::default().grid()
        }

        fn denoise(&mut self, noisy: &Batch) -> Result<Batch> {
            self.seen.push(noisy.clone());
            let mut denoised = noisy.clone();
            denoised.data.iter_mut().for_each(|x| *x += 0.5);
            Ok(denoised)
        }

        fn working_bytes(&self, _: usize, _: usize) -> u64 {
            0
        }

        fn device(&self) -> String {
            "a function".into()
        }
    }

    fn brighter(channels: usize) -> Brighter {
        Brighter {
            channels,
            seen: vec![],
        }
    }

    /// Writes a gray picture of each size, to be denoised at its own size, one by one.
    fn pictures(folder: &TempDir, sizes: &[(usize, usize)]) -> Config {
        let path = |name: String| folder.path().join(name);
        let mut images = vec![];
        for (i, &(height, width)) in sizes.iter().enumerate() {
            let bytes: Vec<u8> = (0..height * width)
                .map(|k| (10 * i + k % 60) as u8)
                .collect();
            let input = path(format!("{i}.png"));
            Image::from_bytes(height, width, 1, &bytes)
                .write(&input)
                .unwrap();
            images.push((input, path(format!("out/{i}.png"))));
        }
        Config {
            images,
            batch_size: 1,
            size: None,
            noise: Noise::NONE,
            seed: 0,
            range: None,
        }
    }

    fn gauss25() -> Noise {
        "gauss25".parse().unwrap()
    }

    /// `n`, `h` and `w` of the batches, padded.
    fn shapes(engine: &Brighter) -> Vec<(usize, usize, usize)> {
        engine
            .seen
            .iter()
            .map(|batch| (batch.n, batch.h, batch.w))
            .collect()
    }

    #[test]
    fn a_batch_is_full_or_the_last_of_its_size() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = ((12, 13), (13, 12));
        let config = Config {
            batch_size: 2,
            ..pictures(&folder, &[a, a, a, b, b, a])
        };
        let mut engine = brighter(1);
        let mut watched = vec![];
        let done = infer(&mut engine, &config, |image| watched.push(image.clone())).unwrap();
        let want = [(2, 32, 32), (1, 32, 32), (2, 32, 32), (1, 32, 32)];
        assert_eq!(shapes(&engine), want);
        assert_eq!(done.images, watched);
        for (image, (input, output)) in done.images.iter().zip(&config.images) {
            assert_eq!((&image.input, &image.output), (input, output));
            let (from, to) = (Image::read(input).unwrap(), Image::read(output).unwrap());
            let brighter: Vec<u8> = from.to_bytes().iter().map(|byte| byte + 128).collect();
            assert_eq!(to.to_bytes(), brighter, "{}", output.display());
            assert_eq!(to.depth, Depth::U8);
        }
    }

    #[test]
    fn images_are_resized_into_the_engines_channels() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            batch_size: 3,
            size: Some((64, 32)),
            ..pictures(&folder, &[(12, 13), (90, 40)])
        };
        let mut engine = brighter(3);
        infer(&mut engine, &config, |_| ()).unwrap();
        assert_eq!(shapes(&engine), [(2, 64, 32)]);
        let written = Image::read(&config.images[1].1).unwrap();
        let shape = (written.height, written.width, written.channels);
        assert_eq!(shape, (64, 32, 3));
    }

    #[test]
    fn the_noise_is_the_seeds_whatever_the_batches() {
        let folder = tempfile::tempdir().unwrap();
        let one = Config {
            noise: gauss25(),
            ..pictures(&folder, &[(40, 50); 3])
        };
        let noisy = |config: &Config| {
            let mut engine = brighter(1);
            infer(&mut engine, config, |_| ()).unwrap();
            let batches: Vec<Vec<f32>> = engine.seen.into_iter().map(|batch| batch.data).collect();
            batches.concat()
        };
        let all = Config {
            batch_size: 3,
            ..one.clone()
        };
        assert_eq!(noisy(&one), noisy(&all));
        let other = Config {
            seed: 1,
            ..one.clone()
        };
        assert_ne!(noisy(&one), noisy(&other));

        let clean = Config {
            noise: Noise::NONE,
            ..one.clone()
        };
        let (noisy, clean) = (noisy(&one), noisy(&clean));
        let pairs = noisy.iter().zip(&clean);
        let count = noisy.len() as f64;
        let variance = pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>() / count;
        // Six thousand draws: the standard deviation is off by about a percent.
        assert!((255.0 * variance.sqrt() - 25.0).abs() < 1.25, "{variance}");
    }

    #[test]
    fn each_score_is_against_what_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let clean = pictures(&folder, &[(40, 50)]);
        let noisy = Config {
            noise: gauss25(),
            ..clean.clone()
        };
        let score = |config: &Config| {
            let done = infer(&mut brighter(1), config, |_| ()).unwrap();
            done.images[0].clone()
        };
        // Without noise and clipping, every byte is off by 128.
        let psnr_db = 20.0 * (255.0_f64 / 128.0).log10();
        let image = score(&clean);
        assert!((image.against_noisy.psnr_db - psnr_db).abs() < 1e-5);
        assert!(image.against_noisy.ssim.unwrap() < 0.9);
        assert_eq!(image.against_clean, None);

        // The result contains the noise, so it does not differ from the noisy input by it.
        let image = score(&noisy);
        let against_clean = image.against_clean.unwrap();
        assert!(against_clean.psnr_db < image.against_noisy.psnr_db - 0.05);
        assert!(against_clean.ssim.unwrap() < image.against_noisy.ssim.unwrap());
    }

    /// `pictures` have bytes from 0 to 59, which map to 0..1 for a model trained on such images.
    #[test]
    fn an_engine_is_given_the_range_that_it_was_trained_on() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            range: Some(ModelRange {
                low: 0.0,
                high: 60.0,
                depth: Depth::U8,
            }),
            ..pictures(&folder, &[(32, 32)])
        };
        let mut engine = brighter(1);
        infer(&mut engine, &config, |_| ()).unwrap();
        let (input, output) = &config.images[0];
        let (from, to) = (Image::read(input).unwrap(), Image::read(output).unwrap());
        for ((byte, seen), result) in
            (from.to_bytes().iter().zip(&engine.seen[0].data)).zip(to.to_bytes())
        {
            assert!((f32::from(*byte) / 60.0 - seen).abs() < 1e-6);
            assert_eq!(result, byte + 30);
        }
    }

    #[test]
    fn an_image_too_small_for_ssim_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let config = pictures(&folder, &[(10, 40)]);
        let done = infer(&mut brighter(1), &config, |_| ()).unwrap();
        assert_eq!(done.images[0].against_noisy.ssim, None);
    }

    #[test]
    fn the_stages_are_timed() {
        let folder = tempfile::tempdir().unwrap();
        let config = pictures(&folder, &[(40, 50)]);
        let times = infer(&mut brighter(1), &config, |_| ()).unwrap().times;
        for stage in [times.preprocess, times.inference, times.postprocess] {
            assert!(stage > Duration::ZERO && stage < Duration::from_mins(1));
        }
    }

    #[test]
    fn a_model_that_is_neither_gray_nor_rgb_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let config = pictures(&folder, &[(12, 13)]);
        let error = infer(&mut brighter(4), &config, |_| ()).unwrap_err();
        let want = "channels of the model: expected 1 (gray) or 3 (RGB), found 4";
        assert_eq!(error.to_string(), want);
    }

    #[test]
    fn a_broken_image_ends_the_work_and_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let config = pictures(&folder, &[(12, 13); 3]);
        fs::write(&config.images[1].0, "no image").unwrap();
        let error = infer(&mut brighter(1), &config, |_| ()).unwrap_err();
        assert!(matches!(error, Error::Image { path, .. } if path == config.images[1].0));
        assert!(config.images[0].1.exists() && !config.images[2].1.exists());
    }
}
