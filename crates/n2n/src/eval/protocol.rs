//! The paper's evaluation: synthetic noise on the images of the test sets, with several passes over each set, all
//! from one random stream with a fixed seed.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::mean::mean_f64;
use super::psnr::psnr_db;
use super::report::{ImageScore, Report, SetScore};
use super::set::Set;
use super::ssim::{check_size, ssim};
use crate::batch::Batch;
use crate::denoise::{ModelRange, Padding, Scale, denoise, denoise_ensemble};
use crate::error::{Error, Result};
use crate::image::{self, Depth, Image};
use crate::network::Denoise;
use crate::noise::Noise;
use crate::numpy::RandomState;

/// The seed of every evaluation.
pub const SEED: u32 = 101;

/// What to score on.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The folder that contains the sets; see [`Set::folder`].
    pub val_dirs: PathBuf,
    /// The sets, evaluated in this order with one random stream.
    pub sets: Vec<Set>,
    /// Passes over each set; by default [`Set::repeats`].
    pub repeats: Option<usize>,
    /// The noise to add.
    pub noise: Noise,
    /// Whether to score the mean over the eight flips and rotations of each noisy image. Neither the protocol nor any
    /// published score uses it.
    pub ensemble: bool,
    /// The range that the model was trained on, on the scale of 8-bit samples, unless it was 0..255.
    pub range: Option<ModelRange>,
}

/// One scored image, which [`evaluate`] passes to its callback.
#[derive(Debug)]
pub struct Scored<'a> {
    /// Images scored so far, including this one, over all sets and repeats.
    pub done: usize,
    /// Images to score, over all sets and repeats.
    pub total: usize,
    /// Index of the image in its set, from 0.
    pub index: usize,
    /// Its scores.
    pub score: &'a ImageScore,
    /// The image without noise.
    pub clean: &'a Image,
    /// The image with noise, not clipped.
    pub noisy: &'a Image,
    /// The network's output, not clipped.
    pub denoised: &'a Image,
}

/// Scores a network by the paper's protocol. Calls `on_image` for each image, in order; an error from it ends the
/// evaluation.
///
/// For each set, repeat and image, in this order: noise from NumPy's stream, seeded once with [`SEED`], is added to
/// the image's bytes / 255; the noisy image is denoised whole, padded to a square; its pixels, clipped and rounded to
/// bytes, are compared with the image's. The scores of a set are the means over all its images and repeats. The
/// images of a set are all files in its folder, except hidden ones, in byte order of their names; a file that is not
/// an image is an error.
///
/// A network with one channel is scored on the luma of the images, rounded to bytes before the noise is added; the
/// paper has no such score.
///
/// While the network denoises an image, the previous one is scored and the next one prepared.
///
/// # Errors
/// A network for images other than gray or RGB; those of [`check`]; a file whose pixels cannot be read; an error of the
/// network or of `on_image`.
pub fn evaluate(
    network: &mut dyn Denoise,
    config: &Config,
    mut on_image: impl FnMut(&Scored<'_>) -> Result<()>,
) -> Result<Report> {
    let start = Instant::now();
    let channels = network.channels();
    if channels != 1 && channels != 3 {
        return Err(Error::value("channels of the network", "1 or 3", channels));
    }
    let passes = passes(config)?;
    let total = passes
        .iter()
        .map(Pass::visits)
        .fold(0, usize::saturating_add);
    let scale = config.range.map(|range| range.scale(Depth::U8));
    let mut random = RandomState::new(SEED);
    let mut visits = passes.iter().flat_map(Pass::visit_all);
    let mut prepare = || {
        let visit = visits.next();
        visit
            .map(|visit| Prepared::new(visit, channels, config.noise, &mut random))
            .transpose()
    };

    let mut images = Vec::new();
    let mut current = prepare()?;
    let mut previous = None;
    while current.is_some() || previous.is_some() {
        let (denoised, (scored, next)) = rayon::join(
            || {
                current
                    .take()
                    .map(|image| image.denoise(network, config.ensemble, scale))
                    .transpose()
            },
            || (previous.take().map(Restored::score).transpose(), prepare()),
        );
        if let Some((image, score)) = scored? {
            images.push(score);
            on_image(&Scored {
                done: images.len(),
                total,
                index: image.visit.index,
                score: &images[images.len() - 1],
                clean: &image.clean,
                noisy: &image.noisy,
                denoised: &image.denoised,
            })?;
        }
        (current, previous) = (next?, denoised?);
    }

    let mut rest = images.as_slice();
    let mut sets = Vec::new();
    for pass in &passes {
        let (scores, later) = rest.split_at(pass.visits());
        sets.push(pass.mean(scores));
        rest = later;
    }
    Ok(Report {
        noise: config.noise.to_string(),
        ensemble: config.ensemble,
        seed: SEED,
        device: network.device(),
        cpu_level: None,
        sets,
        elapsed_s: start.elapsed().as_secs_f64(),
        images,
    })
}

/// Checks every folder and the header of every file, as [`evaluate`] does before it starts; for callers that evaluate
/// much later.
///
/// # Errors
/// No sets, or no passes over them; a folder that is missing or empty; a file that is not an image, or an image too small
/// for SSIM's window.
pub fn check(config: &Config) -> Result<()> {
    passes(config).map(drop)
}

/// A set, and the number of passes over it.
struct Pass {
    set: Set,
    paths: Vec<PathBuf>,
    repeats: usize,
}

/// The passes over the sets. All folders and file headers are checked before anything is scored, so that a long
/// evaluation does not fail at the last file.
fn passes(config: &Config) -> Result<Vec<Pass>> {
    if config.sets.is_empty() {
        return Err(Error::value("sets to score on", "at least one", "none"));
    }
    if config.repeats == Some(0) {
        return Err(Error::value("repeats", "at least 1", 0));
    }
    let pass = |&set: &Set| {
        let paths = list(set, &set.folder(&config.val_dirs))?;
        for path in &paths {
            let (width, height) = image::dimensions(path)?;
            check_size(height, width).map_err(in_file(path))?;
        }
        let repeats = config.repeats.unwrap_or(set.repeats());
        Ok(Pass {
            set,
            paths,
            repeats,
        })
    };
    config.sets.iter().map(pass).collect()
}

/// The files in a set's folder, except hidden ones, in byte order of their names.
fn list(set: Set, folder: &Path) -> Result<Vec<PathBuf>> {
    let nothing = |found: &str| Error::NoFiles {
        path: folder.to_path_buf(),
        expected: format!("expected the images of {set} here, found {found}"),
    };
    if !folder.is_dir() {
        return Err(nothing("no such folder"));
    }
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let entry = entry.map_err(Error::io(folder))?;
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if !hidden && entry.path().is_file() {
            paths.push(entry.path());
        }
    }
    if paths.is_empty() {
        return Err(nothing("no file"));
    }
    paths.sort();
    Ok(paths)
}

impl Pass {
    fn visits(&self) -> usize {
        self.repeats.saturating_mul(self.paths.len())
    }

    fn visit_all(&self) -> impl Iterator<Item = Visit<'_>> + Send {
        (1..=self.repeats).flat_map(move |repeat| {
            (self.paths.iter().enumerate()).map(move |(index, path)| Visit {
                set: self.set,
                repeat,
                index,
                path,
            })
        })
    }

    fn mean(&self, scores: &[ImageScore]) -> SetScore {
        let mean = |value: fn(&ImageScore) -> f64| {
            mean_f64(&scores.iter().map(value).collect::<Vec<f64>>())
        };
        SetScore {
            set: self.set,
            images: self.paths.len(),
            repeats: self.repeats,
            psnr_db: mean(|score| score.psnr_db),
            ssim: mean(|score| score.ssim),
        }
    }
}

/// One pass over one image.
struct Visit<'a> {
    set: Set,
    repeat: usize,
    index: usize,
    path: &'a Path,
}

/// An image with its noise.
struct Prepared<'a> {
    visit: Visit<'a>,
    clean: Image,
    noisy: Batch,
}

impl<'a> Prepared<'a> {
    fn new(
        visit: Visit<'a>,
        channels: usize,
        noise: Noise,
        random: &mut RandomState,
    ) -> Result<Self> {
        let read = Image::read(visit.path)?.with_channels(channels);
        // Converted through bytes, because a deeper file or a luma has values between them.
        let clean = Image::from_bytes(read.height, read.width, channels, &read.to_bytes());
        let noisy = noise.corrupt_as_numpy(&clean.data, random);
        let noisy = Batch::new(1, clean.height, clean.width, channels, noisy);
        Ok(Self {
            visit,
            clean,
            noisy,
        })
    }

    fn denoise(
        self,
        network: &mut dyn Denoise,
        ensemble: bool,
        scale: Option<Scale>,
    ) -> Result<Restored<'a>> {
        let run = if ensemble { denoise_ensemble } else { denoise };
        let denoised = match scale {
            None => run(network, &self.noisy, Padding::Square),
            Some(scale) => {
                let mut seen = self.noisy.clone();
                seen.data
                    .iter_mut()
                    .for_each(|value| *value = scale.to_network(*value));
                run(network, &seen, Padding::Square).map(|mut denoised| {
                    for (value, &from) in denoised.data.iter_mut().zip(&self.noisy.data) {
                        *value = scale.from_network(*value, from);
                    }
                    denoised
                })
            }
        };
        Ok(Restored {
            denoised: Image::from_batch(denoised.map_err(in_file(self.visit.path))?),
            noisy: Image::from_batch(self.noisy),
            clean: self.clean,
            visit: self.visit,
        })
    }
}

/// An image with noise, and after denoising.
struct Restored<'a> {
    visit: Visit<'a>,
    clean: Image,
    noisy: Image,
    denoised: Image,
}

impl Restored<'_> {
    fn score(self) -> Result<(Self, ImageScore)> {
        let (clean, denoised) = (self.clean.to_bytes(), self.denoised.to_bytes());
        let Image {
            height,
            width,
            channels,
            ..
        } = self.clean;
        let name = self.visit.path.file_name().unwrap_or_default();
        let score = ImageScore {
            set: self.visit.set,
            repeat: self.visit.repeat,
            name: name.to_string_lossy().into_owned(),
            psnr_db: psnr_db(&clean, &denoised),
            ssim: ssim(&clean, &denoised, height, width, channels)
                .map_err(in_file(self.visit.path))?,
        };
        Ok((self, score))
    }
}

/// Adds the file to an error.
fn in_file(path: &Path) -> impl FnOnce(Error) -> Error {
    move |error| Error::Image {
        path: path.to_path_buf(),
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::fake::Fake;
    use crate::numpy::golden::{self, f64_of};

    /// A folder with the pictures of the golden protocol, under names whose byte order differs from the order in
    /// which they are written.
    fn validation() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (set, name, (h, w, c)) in [
            (Set::Kodak, "b.png", (17, 17, 3)),
            (Set::Kodak, "a10.png", (13, 20, 3)),
            (Set::Kodak, "a9.png", (24, 11, 3)),
            (Set::Set14, "B.png", (15, 12, 3)),
        ] {
            let path = set.folder(root.path()).join(name);
            Image::from_bytes(h, w, c, &golden::picture(h, w, c))
                .write(&path)
                .unwrap();
        }
        root
    }

    fn config(root: &Path, noise: &str) -> Config {
        Config {
            val_dirs: root.to_path_buf(),
            sets: vec![Set::Kodak, Set::Set14],
            repeats: Some(2),
            noise: noise.parse().unwrap(),
            ensemble: false,
            range: None,
        }
    }

    /// The identity is its own ensemble, whatever the image's shape.
    #[test]
    fn an_ensemble_is_scored_on_all_flips_and_turns_of_the_same_noise() {
        let root = validation();
        let plain = config(root.path(), "gauss25");
        let ensemble = Config {
            ensemble: true,
            ..plain.clone()
        };
        let mut network = Fake::identity(3);
        let (report, once) = (run(&mut network, &ensemble).unwrap(), network.seen.len());
        assert!(report.ensemble);
        let expected = run(&mut Fake::identity(3), &plain).unwrap();
        assert!(!expected.ensemble);
        for (got, want) in report.images.iter().zip(&expected.images) {
            assert!((got.psnr_db - want.psnr_db).abs() < 1e-3, "{}", got.name);
        }
        assert_eq!(once, 8 * expected.images.len());
    }

    fn run(network: &mut Fake, config: &Config) -> Result<Report> {
        evaluate(network, config, |_| Ok(()))
    }

    #[test]
    fn scores_are_those_of_the_reference_evaluation() {
        let root = validation();
        let goldens = golden::values("protocol");
        for noise in ["gauss25", "gauss5_50", "poisson30", "poisson5_50"] {
            let report = run(&mut Fake::identity(3), &config(root.path(), noise)).unwrap();
            assert_eq!((report.noise.as_str(), report.seed), (noise, 101));
            let mut images = report.images.iter();
            for (set, golden) in report.sets.iter().zip(golden::list(&goldens[noise])) {
                assert_eq!(set.set.name(), golden["name"]);
                let same_psnr = |got: f64, want: f64| {
                    // The logarithm may come from a different library.
                    assert!(
                        (got - want).abs() <= 4.0 * f64::EPSILON * want,
                        "{got} is not {want}"
                    );
                };
                let same_ssim = |got: f64, want: f64| {
                    assert!((got - want).abs() < 1e-10, "{got} is not {want}");
                };
                let psnr = golden::list(&golden["psnr"]);
                for (psnr, ssim) in psnr.iter().zip(golden::list(&golden["ssim"])) {
                    let image = images.next().unwrap();
                    same_psnr(image.psnr_db, f64_of(psnr));
                    same_ssim(image.ssim, f64_of(ssim));
                }
                same_psnr(set.psnr_db, f64_of(&golden["mean_psnr"]));
                same_ssim(set.ssim, f64_of(&golden["mean_ssim"]));
            }
            assert!(images.next().is_none());
        }
    }

    #[test]
    fn the_caller_is_told_of_every_image_in_order() {
        let root = validation();
        std::fs::write(Set::Kodak.folder(root.path()).join(".hidden"), "").unwrap();
        std::fs::create_dir(Set::Kodak.folder(root.path()).join("folder")).unwrap();
        let mut network = Fake::new(3, |_| 0.5);
        let mut told = Vec::new();
        let report = evaluate(&mut network, &config(root.path(), "gauss25"), |scored| {
            assert_eq!((scored.done, scored.total), (told.len() + 1, 8));
            assert!(scored.denoised.data.iter().all(|&x| x == 0.5));
            assert!(scored.clean.data.iter().all(|&x| (0.0..=1.0).contains(&x)));
            assert_eq!(scored.noisy.data.len(), scored.clean.data.len());
            assert_ne!(scored.noisy.data, scored.clean.data);
            let score = scored.score;
            told.push((score.set, score.repeat, scored.index, score.name.clone()));
            Ok(())
        })
        .unwrap();
        let kodak = |repeat| {
            ["a10.png", "a9.png", "b.png"]
                .into_iter()
                .enumerate()
                .map(move |(i, name)| (Set::Kodak, repeat, i, name.to_string()))
        };
        let set14 = |repeat| (Set::Set14, repeat, 0, "B.png".to_string());
        let want: Vec<_> = kodak(1)
            .chain(kodak(2))
            .chain([set14(1), set14(2)])
            .collect();
        assert_eq!(told, want);
        assert_eq!(report.images.len(), 8);
        assert_eq!((report.sets[0].images, report.sets[0].repeats), (3, 2));
        // Every image is padded to a square.
        assert!(network.seen.iter().all(|&size| size == (1, 32, 32, 3)));
    }

    #[test]
    fn without_noise_the_identity_is_perfect_in_gray_too() {
        let root = validation();
        let report = run(&mut Fake::identity(1), &config(root.path(), "none")).unwrap();
        assert!(
            report
                .sets
                .iter()
                .all(|set| set.psnr_db == f64::INFINITY && set.ssim == 1.0)
        );
        let mut network = Fake::identity(1);
        run(&mut network, &config(root.path(), "gauss25")).unwrap();
        assert!(network.seen.iter().all(|&size| size == (1, 32, 32, 1)));
    }

    #[test]
    fn a_network_is_given_the_range_that_it_was_trained_on() {
        let root = validation();
        let range = ModelRange {
            low: 51.0,
            high: 102.0,
            depth: Depth::U8,
        };
        let config = Config {
            range: Some(range),
            ..config(root.path(), "none")
        };
        let report = run(&mut Fake::identity(3), &config).unwrap();
        assert!(report.sets.iter().all(|set| set.psnr_db == f64::INFINITY));
        // The network's 0.5 is the middle of the range; outliers that it does not see are kept.
        evaluate(&mut Fake::new(3, |_| 0.5), &config, |scored| {
            for (noisy, denoised) in scored.noisy.data.iter().zip(&scored.denoised.data) {
                let beyond = noisy - noisy.clamp(0.0, 0.6);
                assert!((denoised - 0.3 - beyond).abs() < 1e-6);
            }
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn the_papers_repeats_are_the_default() {
        let root = validation();
        let config = Config {
            repeats: None,
            ..config(root.path(), "none")
        };
        let report = run(&mut Fake::identity(3), &config).unwrap();
        let repeats: Vec<usize> = report.sets.iter().map(|set| set.repeats).collect();
        assert_eq!(repeats, [10, 20]);
        assert_eq!(report.images.len(), 3 * 10 + 20);
    }

    #[test]
    fn at_least_one_repeat_is_needed() {
        let root = validation();
        let config = Config {
            repeats: Some(0),
            ..config(root.path(), "none")
        };
        let error = run(&mut Fake::identity(3), &config).unwrap_err();
        assert_eq!(error.to_string(), "repeats: expected at least 1, found 0");
    }

    #[test]
    fn what_cannot_be_scored_is_named_before_anything_is() {
        let mut network = Fake::identity(3);
        let mut refused = |config: &Config| run(&mut network, config).unwrap_err().to_string();

        let root = validation();
        let mut config = config(root.path(), "gauss25");
        config.sets = vec![Set::Kodak, Set::Bsd300];
        let error = refused(&config);
        assert!(
            error.contains("BSD300") && error.contains("no such folder"),
            "{error}"
        );

        let folder = Set::Bsd300.folder(root.path());
        std::fs::create_dir_all(&folder).unwrap();
        let error = refused(&config);
        assert!(
            error.contains("images of BSD300 here, found no file"),
            "{error}"
        );

        let small = folder.join("small.png");
        Image::from_bytes(10, 40, 3, &[0; 1200])
            .write(&small)
            .unwrap();
        let error = refused(&config);
        assert!(
            error.contains("small.png") && error.contains("at least 11x11"),
            "{error}"
        );
        std::fs::remove_file(small).unwrap();

        std::fs::write(folder.join("readme.txt"), "no image").unwrap();
        let error = refused(&config);
        assert!(error.contains("readme.txt"), "{error}");

        config.sets.clear();
        assert!(refused(&config).contains("at least one"));
        assert!(network.seen.is_empty(), "nothing was denoised");

        config.sets = vec![Set::Kodak];
        let error = run(&mut Fake::identity(4), &config)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("channels of the network: expected 1 or 3, found 4"),
            "{error}"
        );
    }

    #[test]
    fn the_callers_error_ends_the_evaluation() {
        let root = validation();
        let mut told = 0;
        let error = evaluate(&mut Fake::identity(3), &config(root.path(), "none"), |_| {
            told += 1;
            Err(Error::value("patience", "some", "none"))
        });
        assert!(error.unwrap_err().to_string().starts_with("patience"));
        assert_eq!(told, 1);
    }

    #[test]
    fn sets_are_known_by_name() {
        for set in Set::ALL {
            assert_eq!(set.name().parse::<Set>().unwrap(), set);
        }
        let error = "BSD68".parse::<Set>().unwrap_err().to_string();
        assert_eq!(
            error,
            "set: expected one of BSD300, Kodak, Set14, found BSD68"
        );
    }
}
