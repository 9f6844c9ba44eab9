//! Noise: the paper's kinds, gaussS, gaussA_B, poissonL, poissonA_B and none, and poissonL+gaussS for cameras.
//!
//! The same noise can be added in two ways. Training needs it fresh and fast, from a generator that the caller
//! provides. Evaluation needs the exact draws of the published scores, from NumPy's stream.

use std::fmt;
use std::str::FromStr;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Poisson, StandardNormal};
use rayon::prelude::*;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::numpy::RandomState;

/// Kinds of noise and their levels; parsed and printed as the reference spells them.
///
/// With both kinds, `y = Poisson(λ · x) / λ + N(0, σ²)`: the shot noise and the read noise of a camera.
///
/// ```
/// use n2n::noise::Noise;
///
/// let camera: Noise = "poisson5_50+gauss0_30".parse()?;
/// assert_eq!(camera.poisson.unwrap().max, 50.0);
/// assert_eq!(camera.to_string(), "poisson5_50+gauss0_30");
/// # Ok::<(), n2n::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    /// The levels λ of `Poisson(λ · x) / λ`: the mean count at the brightest value, 1.
    pub poisson: Option<Levels>,
    /// The levels σ of `N(0, σ²)`, on the 0..255 scale, which papers use.
    pub gauss: Option<Levels>,
}

/// A range of levels, uniformly distributed over the images; equal bounds for a fixed level.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Levels {
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
}

impl Levels {
    /// A fixed level.
    pub fn fixed(level: f64) -> Self {
        Self {
            min: level,
            max: level,
        }
    }

    /// Levels of σ on the 0..1 scale of pixels, from the 0..255 scale.
    #[must_use]
    pub fn to_unit_scale(self) -> Self {
        Self {
            min: self.min / 255.0,
            max: self.max / 255.0,
        }
    }

    /// Draws a level for one image.
    fn draw(self, rng: &mut impl Rng) -> f64 {
        if self.min == self.max {
            self.min
        } else {
            self.min + (self.max - self.min) * rng.random::<f64>()
        }
    }

    fn draw_as_numpy(self, random: &mut RandomState) -> f64 {
        if self.min == self.max {
            self.min
        } else {
            random.uniform(self.min, self.max)
        }
    }
}

impl Noise {
    /// No noise: the images are used as they are.
    pub const NONE: Self = Self {
        poisson: None,
        gauss: None,
    };

    /// Adds fresh noise to every image of the batch. Nothing is clipped.
    ///
    /// `rng` seeds a generator for each image; the images are then corrupted in parallel. For Poisson noise, pixels
    /// that are not positive finite numbers become 0.
    pub fn corrupt(&self, clean: &Batch, rng: &mut impl Rng) -> Batch {
        let mut noisy = clean.clone();
        let seeds: Vec<u64> = (0..clean.n).map(|_| rng.random()).collect();
        noisy
            .data
            .par_chunks_mut(clean.image_len().max(1))
            .zip(seeds)
            .for_each(|(image, seed)| {
                self.corrupt_image(image, &mut ChaCha8Rng::seed_from_u64(seed));
            });
        noisy
    }

    /// [`Noise::corrupt`] in place and on the current thread, for threads that have nothing else to do.
    pub fn corrupt_in_place(&self, images: &mut Batch, rng: &mut impl Rng) {
        let seeds: Vec<u64> = (0..images.n).map(|_| rng.random()).collect();
        for (i, seed) in seeds.into_iter().enumerate() {
            self.corrupt_image(images.image_mut(i), &mut ChaCha8Rng::seed_from_u64(seed));
        }
    }

    /// The noise with fixed levels, which are drawn from ranges.
    #[must_use]
    pub fn at_one_level(self, rng: &mut impl Rng) -> Self {
        let mut one = |levels: Levels| Levels::fixed(levels.draw(rng));
        Self {
            poisson: self.poisson.map(&mut one),
            gauss: self.gauss.map(&mut one),
        }
    }

    /// The noise of the paper's evaluation on one image, drawn from NumPy's stream.
    ///
    /// The draws and the arithmetic match the reference bit for bit: for a range of levels, one uniform draw comes
    /// first; normal noise is scaled and added in `f64`; the rates of Poisson noise are products in `f32` for a fixed
    /// level, in `f64` for a drawn one. Gaussian noise is drawn after Poisson noise, which is rounded to `f32` before.
    /// Nothing is clipped.
    pub fn corrupt_as_numpy(&self, clean: &[f32], random: &mut RandomState) -> Vec<f32> {
        let Self { poisson, gauss } = *self;
        let mut noisy = clean.to_vec();
        if let Some(levels) = poisson {
            let lam = levels.draw_as_numpy(random);
            for x in &mut noisy {
                let rate = if levels.min == levels.max {
                    f64::from(lam as f32 * *x)
                } else {
                    lam * f64::from(*x)
                };
                *x = (random.poisson(rate) as f64 / lam) as f32;
            }
        }
        if let Some(levels) = gauss {
            let sigma = levels.to_unit_scale().draw_as_numpy(random);
            for x in &mut noisy {
                *x = (f64::from(*x) + random.normal(0.0, 1.0) * sigma) as f32;
            }
        }
        noisy
    }

    /// Adds fresh noise to all channels of one image; a range of levels is drawn from once.
    pub(crate) fn corrupt_image(&self, image: &mut [f32], rng: &mut impl Rng) {
        let Self { poisson, gauss } = *self;
        if let Some(levels) = poisson {
            let lam = levels.draw(rng);
            for x in &mut *image {
                let count = Poisson::new(lam * f64::from(*x)).map_or(0.0, |p| rng.sample(p));
                *x = (count / lam) as f32;
            }
        }
        if let Some(levels) = gauss {
            let sigma = levels.to_unit_scale().draw(rng) as f32;
            for x in image {
                let z: f32 = rng.sample(StandardNormal);
                *x += sigma * z;
            }
        }
    }
}

impl FromStr for Noise {
    type Err = Error;

    /// Parses `none`, or `gauss` or `poisson` followed by one level or two, `low_high`, or both kinds joined by `+`.
    ///
    /// Levels of Gaussian noise range from 0 to [`MAX_LEVEL`], on the 0..255 scale; those of Poisson noise must be
    /// positive, up to the same limit.
    fn from_str(text: &str) -> Result<Self> {
        let bad = |expected: String| Error::value("noise", expected, format!("'{text}'"));
        let mut noise = Self::NONE;
        if text == "none" {
            return Ok(noise);
        }
        for part in text.split('+') {
            let kind = [("poisson", &mut noise.poisson), ("gauss", &mut noise.gauss)]
                .into_iter()
                .find_map(|(kind, levels)| Some((kind, part.strip_prefix(kind)?, levels)));
            let Some((kind, numbers, levels)) = kind else {
                return Err(bad(
                    "gaussS, gaussA_B, poissonL or poissonA_B with numbers for S, A, B and L, both kinds as in \
                     poissonL+gaussS, or none"
                        .into(),
                ));
            };
            let is_poisson = kind == "poisson";
            let (min, max) = numbers.split_once('_').unwrap_or((numbers, numbers));
            let number = |text: &str| {
                text.parse::<f64>().ok().filter(|&level| {
                    (0.0..=MAX_LEVEL).contains(&level) && !(is_poisson && level == 0.0)
                })
            };
            let (Some(min), Some(max)) = (number(min), number(max)) else {
                return Err(bad(if is_poisson {
                    format!("poissonL or poissonA_B with numbers above 0, up to {MAX_LEVEL}")
                } else {
                    format!("gaussS or gaussA_B with numbers from 0 to {MAX_LEVEL}")
                }));
            };
            if min > max {
                return Err(bad("the lower level first".into()));
            }
            if levels.replace(Levels { min, max }).is_some() {
                return Err(bad(format!("{kind} once")));
            }
        }
        if text.starts_with("gauss") && noise.poisson.is_some() {
            return Err(bad("poisson before gauss, which is added to it".into()));
        }
        Ok(noise)
    }
}

impl Serialize for Noise {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Noise {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The highest level that [`Noise`] accepts when parsed: beyond it, Gaussian noise leaves nothing of an image, and
/// Poisson noise is finer than the steps of 8-bit samples.
pub const MAX_LEVEL: f64 = 1e6;

impl fmt::Display for Noise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { poisson, gauss } = *self;
        match (poisson, gauss) {
            (None, None) => f.write_str("none"),
            (Some(lam), None) => write!(f, "poisson{lam}"),
            (None, Some(sigma)) => write!(f, "gauss{sigma}"),
            (Some(lam), Some(sigma)) => write!(f, "poisson{lam}+gauss{sigma}"),
        }
    }
}

impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { min, max } = self;
        if min == max {
            write!(f, "{min}")
        } else {
            write!(f, "{min}_{max}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numpy::golden;

    fn noise(text: &str) -> Noise {
        text.parse().unwrap()
    }

    #[test]
    fn every_spelling_survives_a_round_trip() {
        for text in [
            "none",
            "gauss0",
            "gauss25",
            "gauss12.5",
            "gauss0.1",
            "gauss5_50",
            "gauss0_55.3",
            "poisson30",
            "poisson0.001",
            "poisson5_50",
            "poisson2.5_3.75",
            "poisson10+gauss25.5",
            "poisson5_50+gauss0_30",
        ] {
            assert_eq!(noise(text).to_string(), text);
        }
        let levels = |min, max| Some(Levels { min, max });
        assert_eq!(
            noise("gauss25"),
            Noise {
                poisson: None,
                gauss: levels(25.0, 25.0),
            }
        );
        assert_eq!(
            Levels::fixed(25.0).to_unit_scale(),
            Levels::fixed(25.0 / 255.0)
        );
        assert_eq!(
            noise("poisson5_50+gauss1"),
            Noise {
                poisson: levels(5.0, 50.0),
                gauss: levels(1.0, 1.0),
            }
        );
    }

    #[test]
    fn refusals_say_what_is_expected() {
        for (text, hint) in [
            ("", "none"),
            ("25", "gaussS"),
            ("salt5", "poissonA_B"),
            ("None", "none"),
            ("gauss", "numbers from 0"),
            ("gauss_50", "numbers from 0"),
            ("gauss5_", "numbers from 0"),
            ("gauss5_50_60", "numbers from 0"),
            ("gauss-1", "numbers from 0"),
            ("gaussNaN", "numbers from 0"),
            ("gaussinf", "numbers from 0"),
            ("gauss1e7", "1000000"),
            ("gauss50_5", "lower level first"),
            ("poisson0", "above 0"),
            ("poisson0_50", "above 0"),
            ("poisson-30", "above 0"),
            ("poissonnan", "above 0"),
            ("poisson50_5", "lower level first"),
            ("poisson30+", "poissonL+gaussS"),
            ("+gauss5", "poissonL+gaussS"),
            ("none+gauss5", "poissonL+gaussS"),
            ("poisson30+gauss-1", "numbers from 0"),
            ("gauss5+poisson30", "poisson before gauss"),
            ("gauss5+gauss6", "gauss once"),
            ("poisson5+gauss6+poisson5", "poisson once"),
        ] {
            let error = text.parse::<Noise>().unwrap_err().to_string();
            assert!(error.contains(hint), "{text}: {error}");
            assert!(error.contains(&format!("'{text}'")), "{text}: {error}");
        }
    }

    /// Mean and variance of the noise on an image of constant gray, and their tolerances: five standard errors, where
    /// that of the variance follows from the fourth central moment.
    fn assert_moments(noisy: &[f32], clean: f64, variance: f64, fourth: f64) {
        let n = noisy.len() as f64;
        let error = |power| {
            let sum = noisy
                .iter()
                .map(|&y| (f64::from(y) - clean).powi(power))
                .sum::<f64>();
            sum / n
        };
        let mean_bound = 5.0 * (variance / n).sqrt();
        assert!(
            error(1).abs() < mean_bound,
            "mean {} ± {mean_bound}",
            error(1)
        );
        let variance_bound = 5.0 * ((fourth - variance * variance) / n).sqrt();
        assert!(
            (error(2) - variance).abs() < variance_bound,
            "variance {}, not {variance} ± {variance_bound}",
            error(2)
        );
    }

    #[test]
    fn gaussian_noise_has_its_moments_and_is_not_clipped() {
        let clean = Batch::new(1, 256, 256, 3, vec![0.9; 256 * 256 * 3]);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let noisy = noise("gauss25").corrupt(&clean, &mut rng);
        let variance = (25.0_f64 / 255.0).powi(2);
        assert_moments(&noisy.data, 0.9, variance, 3.0 * variance * variance);
        assert!(noisy.data.iter().any(|&y| y > 1.2));
    }

    #[test]
    fn poisson_noise_has_its_moments_and_its_steps() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for (text, x) in [
            ("poisson30", 0.01),
            ("poisson30", 0.3),
            ("poisson30", 0.9),
            ("poisson5", 0.5),
        ] {
            let clean = Batch::new(1, 256, 256, 3, vec![x; 256 * 256 * 3]);
            let noise = noise(text);
            let lam = noise.poisson.unwrap().min;
            let noisy = noise.corrupt(&clean, &mut rng);
            let (clean, rate) = (f64::from(x), lam * f64::from(x));
            // Central moments of a Poisson variable: rate, and rate + 3 rate².
            let fourth = (rate + 3.0 * rate * rate) / lam.powi(4);
            assert_moments(&noisy.data, clean, rate / lam.powi(2), fourth);
            assert!(
                noisy
                    .data
                    .iter()
                    .all(|&y| (f64::from(y) * lam).fract().abs() < 1e-5
                        || (f64::from(y) * lam).fract() > 1.0 - 1e-5)
            );
        }
    }

    #[test]
    fn read_noise_adds_its_variance_to_that_of_shot_noise() {
        let clean = Batch::new(1, 256, 256, 3, vec![0.4; 256 * 256 * 3]);
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        let noisy = noise("poisson10+gauss25.5").corrupt(&clean, &mut rng);
        let (shot, read) = (0.4 / 10.0, 0.01_f64);
        let variance = shot + read;
        // The fourth cumulant of the sum is that of the Poisson noise, rate / λ⁴.
        let fourth = 0.4 * 10.0 / 10.0_f64.powi(4) + 3.0 * variance * variance;
        assert_moments(&noisy.data, f64::from(0.4_f32), variance, fourth);
        // One after the other, with draws of one stream.
        let clean = &clean.data[..300];
        let random = &mut RandomState::new(7);
        let shot = noise("poisson5_50").corrupt_as_numpy(clean, random);
        let both = noise("gauss5_50").corrupt_as_numpy(&shot, random);
        let got = noise("poisson5_50+gauss5_50").corrupt_as_numpy(clean, &mut RandomState::new(7));
        assert_eq!(got, both);
    }

    #[test]
    fn each_image_has_its_own_level_across_the_whole_range() {
        let clean = Batch::new(400, 24, 24, 1, vec![0.5; 400 * 24 * 24]);
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let variance = |image: &[f32]| {
            image
                .iter()
                .map(|&y| (f64::from(y) - 0.5).powi(2))
                .sum::<f64>()
                / image.len() as f64
        };
        // At five standard errors, an estimate from 576 pixels is off by 15 % for σ and by 30 % for λ.
        let levels = |noise: Noise, rng: &mut ChaCha8Rng, level_of: &dyn Fn(f64) -> f64| {
            let noisy = noise.corrupt(&clean, rng);
            let mut levels: Vec<f64> = (0..400)
                .map(|i| level_of(variance(noisy.image(i))))
                .collect();
            levels.sort_by(f64::total_cmp);
            levels
        };
        let gauss = levels(noise("gauss5_50"), &mut rng, &|variance| {
            variance.sqrt() * 255.0
        });
        // λ · x / λ² is the variance.
        let poisson = levels(noise("poisson5_50"), &mut rng, &|variance| 0.5 / variance);
        for levels in [gauss, poisson] {
            assert!(
                levels[0] > 5.0 * 0.75 && levels[0] < 7.0,
                "lowest {}",
                levels[0]
            );
            assert!(
                levels[399] > 46.0 && levels[399] < 50.0 * 1.35,
                "highest {}",
                levels[399]
            );
            // The median of 400 uniform levels has a standard error of 45 / (2 √400).
            assert!(
                (levels[200] - 27.5).abs() < 5.0 * 45.0 / 40.0,
                "median {}",
                levels[200]
            );
        }
    }

    #[test]
    fn none_changes_nothing_and_fresh_noise_differs() {
        let clean = Batch::new(2, 3, 5, 3, (0..90).map(|i| i as f32 / 90.0).collect());
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        assert_eq!(Noise::NONE.corrupt(&clean, &mut rng), clean);
        assert_eq!(
            Noise::NONE.corrupt_as_numpy(&clean.data, &mut RandomState::new(1)),
            clean.data
        );
        let gauss = noise("gauss25");
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let first = gauss.corrupt(&clean, &mut rng);
        assert_ne!(first, gauss.corrupt(&clean, &mut rng));
        assert_ne!(first.image(0), first.image(1));
        let again = gauss.corrupt(&clean, &mut ChaCha8Rng::seed_from_u64(4));
        let mut in_place = clean.clone();
        gauss.corrupt_in_place(&mut in_place, &mut ChaCha8Rng::seed_from_u64(4));
        assert_eq!(in_place, again);
        assert_eq!(first, again, "a seed decides the noise");
    }

    #[test]
    fn impossible_pixels_do_not_panic() {
        let pixels = vec![
            -1.0,
            f32::NAN,
            f32::INFINITY,
            f32::NEG_INFINITY,
            -0.0,
            f32::MAX,
        ];
        let clean = Batch::new(1, 2, 3, 1, pixels);
        for text in ["gauss25", "gauss5_50", "poisson30", "poisson5_50"] {
            let noise = noise(text);
            let noisy = noise.corrupt(&clean, &mut ChaCha8Rng::seed_from_u64(5));
            assert_eq!(noisy.data.len(), 6);
            let noisy = noise.corrupt_as_numpy(&clean.data, &mut RandomState::new(5));
            assert_eq!(noisy.len(), 6);
            if noise.poisson.is_some() {
                assert_eq!(noisy[..2], [0.0, 0.0]);
            }
        }
    }

    #[test]
    fn the_noise_of_the_evaluation_is_numpys_to_the_bit() {
        let goldens = golden::values("noise");
        for text in ["gauss25", "gauss5_50", "poisson30", "poisson5_50"] {
            let mut random = RandomState::new(101);
            for (i, (h, w, c)) in [(15, 3, 3), (4, 5, 1)].into_iter().enumerate() {
                let bytes = golden::picture(h, w, c);
                let clean: Vec<f32> = bytes.iter().map(|&byte| f32::from(byte) / 255.0).collect();
                let got = noise(text).corrupt_as_numpy(&clean, &mut random);
                let want = golden::list(&goldens[text][i]).iter().map(golden::f32_of);
                assert!(got.into_iter().eq(want), "{text}, image {i}");
            }
        }
    }
}
