//! The distance between the pixels used as neighbors.
//!
//! The sub-sampler requires the noise of neighboring pixels to be independent. If a camera or a file format has spread
//! the noise over several pixels, patches are built from every second, third or fourth pixel, whose noise is
//! independent. The sub-sampler's cells are then wider; everything else (pairs, target, correction by the denoised
//! patch) is as in the paper for an image of these pixels.

use std::fmt::{self, Display};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::diagnose::Diagnosis;
use crate::error::{Error, Result};

/// The setting, written as `auto`, `3`, or `3x1` (along rows x along columns).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NeighborDistance {
    /// As the noise of the images requires. The chosen distance then replaces this setting.
    Auto,
    /// A given distance.
    Fixed(Spacing),
}

/// Distances between the pixels of a patch; 1 for adjacent pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spacing {
    /// Along a row, 1 to [`Spacing::MOST`].
    pub x: usize,
    /// Along a column, likewise.
    pub y: usize,
}

/// The largest distance that `auto` chooses.
const CHOSEN: usize = 4;

impl Spacing {
    /// Adjacent pixels.
    pub const NONE: Self = Self { x: 1, y: 1 };
    /// The largest distance accepted.
    pub const MOST: usize = 8;
    /// Noise with less correlation than this can mostly still be told from signal. The larger the distance, the less of
    /// the image is left to learn from.
    pub(super) const TOLERATED: f64 = 0.25;

    /// The smallest distances at and beyond which the noise is hardly correlated, but at most 4.
    pub fn for_noise(diagnosis: &Diagnosis) -> Self {
        let Some(correlation) = &diagnosis.correlation else {
            return Self::NONE;
        };
        let [x, y] = correlation.independent_at(Self::TOLERATED);
        let chosen = |distance: Option<usize>| distance.unwrap_or(CHOSEN).min(CHOSEN);
        Self {
            x: chosen(x),
            y: chosen(y),
        }
    }

    /// Height and width of the part of an image that a square patch of `side` pixels covers.
    pub fn part(self, side: usize) -> [usize; 2] {
        [side * self.y, side * self.x]
    }

    /// Height and width of the largest part of an image, counted in pixels at these distances, whose sides are
    /// multiples of `unit` and at most `longest`, itself a multiple. An image too small for it has to be padded.
    pub fn largest_part(
        self,
        (height, width): (usize, usize),
        unit: usize,
        longest: usize,
    ) -> [usize; 2] {
        let side = |size: usize, distance: usize| {
            let whole = size / distance / unit * unit;
            whole.clamp(unit, longest)
        };
        [side(height, self.y), side(width, self.x)]
    }

    /// Fills `out`, an area of `height` × `width` pixels with `channels` values each, with pixels at these distances.
    /// `crop` fills a square of the side that it is given with adjacent pixels.
    pub fn cut<T: Copy + Default>(
        self,
        [height, width]: [usize; 2],
        channels: usize,
        out: &mut [T],
        crop: impl FnOnce(usize, &mut [T]),
    ) {
        if self == Self::NONE && height == width {
            return crop(width, out);
        }
        let side = (height * self.y).max(width * self.x);
        let mut square = vec![T::default(); side * side * channels];
        crop(side, &mut square);
        for (place, pixel) in out.chunks_exact_mut(channels).enumerate() {
            let (y, x) = (place / width * self.y, place % width * self.x);
            pixel.copy_from_slice(&square[(y * side + x) * channels..][..channels]);
        }
    }
}

impl NeighborDistance {
    /// The distances; 1 for [`Self::Auto`] before a distance has been chosen.
    pub fn spacing(self) -> Spacing {
        match self {
            Self::Auto => Spacing::NONE,
            Self::Fixed(spacing) => spacing,
        }
    }
}

impl Display for NeighborDistance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Fixed(Spacing { x, y }) if x == y => write!(f, "{x}"),
            Self::Fixed(Spacing { x, y }) => write!(f, "{x}x{y}"),
        }
    }
}

impl FromStr for NeighborDistance {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let (x, y) = text.split_once('x').unwrap_or((text, text));
        let distance = |text: &str| {
            text.parse()
                .ok()
                .filter(|d| (1..=Spacing::MOST).contains(d))
        };
        if let (Some(x), Some(y)) = (distance(x), distance(y)) {
            return Ok(Self::Fixed(Spacing { x, y }));
        }
        let expected = format!(
            "auto, a number of pixels from 1 to {}, or two such as 3x1 (along rows x along \
             columns)",
            Spacing::MOST
        );
        Err(Error::value(
            "neighbor_distance",
            expected,
            format!("'{text}'"),
        ))
    }
}

impl Serialize for NeighborDistance {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for NeighborDistance {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::{Frame, Options, diagnose};

    #[test]
    fn a_patch_has_the_pixels_that_are_so_far_apart() {
        // A value is its own row and column.
        let crop = |side: usize, out: &mut [u32]| {
            for (i, value) in out.iter_mut().enumerate() {
                let pixel = i / 2;
                *value = (pixel / side * 1000 + pixel % side * 10 + i % 2) as u32;
            }
        };
        for (x, y) in [(1, 1), (2, 2), (3, 1), (1, 4)] {
            for (height, width) in [(5, 5), (3, 7), (7, 3)] {
                let mut out = vec![0; height * width * 2];
                Spacing { x, y }.cut([height, width], 2, &mut out, crop);
                for (i, &value) in out.iter().enumerate() {
                    let (row, column) = (i / 2 / width * y, i / 2 % width * x);
                    assert_eq!(value as usize, row * 1000 + column * 10 + i % 2);
                }
            }
        }
    }

    #[test]
    fn the_largest_part_lies_inside_the_image_unless_that_is_small() {
        let part = |x, y, size| Spacing { x, y }.largest_part(size, 64, 512);
        assert_eq!(part(1, 1, (384, 2000)), [384, 512]);
        assert_eq!(part(1, 1, (383, 130)), [320, 128]);
        assert_eq!(part(1, 1, (63, 1)), [64, 64]);
        assert_eq!(part(3, 1, (384, 384)), [384, 128]);
    }

    #[test]
    fn the_text_is_read_as_it_is_written() {
        for text in ["auto", "1", "3", "3x1", "1x8"] {
            assert_eq!(text.parse::<NeighborDistance>().unwrap().to_string(), text);
        }
        assert_eq!("2x2".parse::<NeighborDistance>().unwrap().to_string(), "2");
        for text in ["", "0", "9", "x", "3x", "3x0", "1.5", "-1"] {
            let error = text.parse::<NeighborDistance>().unwrap_err().to_string();
            assert!(error.contains("1 to 8"), "{error}");
        }
    }

    #[test]
    fn the_noise_decides() {
        // White noise, and the sums of adjacent pixels in a row: a correlation of ½ at a distance of 1.
        let mut state = 1_u64;
        let mut uniform = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((mixed ^ (mixed >> 31)) >> 40) as f32 / (1 << 24) as f32
        };
        let white: Vec<f32> = (0..=256 * 256)
            .map(|_| 100.0 * (0..6).map(|_| uniform()).sum::<f32>())
            .collect();
        let spacing = |data: Vec<f32>| {
            let frame = Frame {
                height: 256,
                width: 256,
                channels: 1,
                data,
            };
            Spacing::for_noise(&diagnose(&[frame], &Options::quick()).unwrap())
        };
        assert_eq!(spacing(white[1..].to_vec()), Spacing::NONE);
        let shared = white.windows(2).map(|pair| pair[0] + pair[1]).collect();
        assert_eq!(spacing(shared), Spacing { x: 2, y: 1 });
        assert_eq!(spacing(vec![5.0; 256 * 256]), Spacing::NONE);
    }
}
