//! Magnification of clean images.

use std::f64::consts::PI;
use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::image::Image;
use crate::reflect::reflected;

/// How the values of the pixels of an enlarged image are computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Interpolation {
    /// A sinc with a Lanczos window of six lobes, which keeps the image's detail: when it is enlarged by 2, a wave with
    /// a period of 2.7 pixels keeps its amplitude to 1 %.
    #[default]
    Lanczos,
    /// Cubic convolution (Keys 1981, a = −1/2), which attenuates the finest detail: the same wave keeps 0.79 of its
    /// amplitude.
    Bicubic,
}

impl Interpolation {
    /// All of them, the default first.
    pub const ALL: [Self; 2] = [Self::Lanczos, Self::Bicubic];

    /// The name that selects it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lanczos => "lanczos",
            Self::Bicubic => "bicubic",
        }
    }

    /// The pixels on each side of a point that contribute to its value.
    fn radius(self) -> usize {
        match self {
            Self::Lanczos => 6,
            Self::Bicubic => 2,
        }
    }

    /// The weight of a pixel at the distance `x`, within the radius.
    fn weight(self, x: f64) -> f64 {
        let sinc = |x: f64| {
            if x == 0.0 {
                1.0
            } else {
                (PI * x).sin() / (PI * x)
            }
        };
        let x = x.abs();
        match self {
            Self::Lanczos => sinc(x) * sinc(x / self.radius() as f64),
            Self::Bicubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
            Self::Bicubic => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
        }
    }
}

impl fmt::Display for Interpolation {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Interpolation {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|one| one.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(" or ");
            Error::value("interpolation", names, name)
        })
    }
}

/// `image` enlarged to `height` × `width` pixels, no fewer than it has. Values can lie slightly beyond those of the
/// image.
pub(crate) fn magnified(
    image: &Image,
    height: usize,
    width: usize,
    interpolation: Interpolation,
) -> Image {
    let channels = image.channels;
    let columns = taps(image.width, width, interpolation);
    let mut wide = Vec::with_capacity(image.height * width * channels);
    for row in image.data.chunks_exact(image.width * channels) {
        for taps in &columns {
            wide.extend((0..channels).map(|c| {
                let terms = taps
                    .iter()
                    .map(|&(x, weight)| weight * row[x * channels + c]);
                terms.sum::<f32>()
            }));
        }
    }
    let length = width * channels;
    let mut data = vec![0.0; height * length];
    for (to, taps) in data
        .chunks_exact_mut(length)
        .zip(taps(image.height, height, interpolation))
    {
        for (y, weight) in taps {
            let from = &wide[y * length..][..length];
            to.iter_mut()
                .zip(from)
                .for_each(|(to, from)| *to += weight * from);
        }
    }
    Image {
        height,
        width,
        data,
        ..*image
    }
}

/// For each of the `to` pixels along an enlarged side, the pixels of the original side, `from` in number, that
/// contribute to it, with their weights, which add up to 1.
fn taps(from: usize, to: usize, interpolation: Interpolation) -> Vec<Vec<(usize, f32)>> {
    let radius = interpolation.radius() as i64;
    let taps = |i: usize| {
        let center = (i as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        let first = center.floor() as i64 - radius + 1;
        let pixels = first..first + 2 * radius;
        let weights = pixels
            .clone()
            .map(|pixel| interpolation.weight(center - pixel as f64));
        let sum: f64 = weights.clone().sum();
        let pixels = pixels.map(|pixel| reflected(pixel.unsigned_abs() as usize, from));
        pixels
            .zip(weights.map(|weight| (weight / sum) as f32))
            .collect()
    };
    (0..to).map(taps).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wave along both axes, with `cycles` per pixel, at a scale of `factor`.
    fn wave(side: usize, factor: f32, cycles: f32) -> Image {
        let at = |i: usize| (2.0 * PI as f32 * cycles * ((i as f32 + 0.5) / factor - 0.5)).cos();
        let values = (0..side * side).flat_map(|i| {
            let (y, x) = (at(i / side), at(i % side));
            [0.5 + 0.3 * x, 0.5 + 0.3 * y, 0.5 + 0.3 * x * y]
        });
        Image {
            data: values.collect(),
            ..Image::from_bytes(side, side, 3, &vec![0; side * side * 3])
        }
    }

    /// Its largest error away from the edges, relative to the wave's amplitude.
    fn error(factor: usize, cycles: f32, interpolation: Interpolation) -> f32 {
        let (side, edge) = (48, 8 * factor);
        let large = factor * side;
        let got = magnified(&wave(side, 1.0, cycles), large, large, interpolation);
        assert_eq!((got.height, got.width), (large, large));
        let expected = wave(large, factor as f32, cycles);
        let inside = |i: usize| {
            let (y, x) = (i / 3 / large, i / 3 % large);
            [y, x].iter().all(|&at| (edge..large - edge).contains(&at))
        };
        let errors = (0..got.data.len())
            .filter(|&i| inside(i))
            .map(|i| (got.data[i] - expected.data[i]).abs());
        errors.fold(0.0, f32::max) / 0.3
    }

    #[test]
    fn waves_keep_their_amplitude() {
        for factor in [2, 3] {
            for (cycles, most) in [(0.1, 0.005), (0.25, 0.01), (0.375, 0.03)] {
                let error = error(factor, cycles, Interpolation::Lanczos);
                assert!(error < most, "{factor}: {cycles} cycles per pixel: {error}");
            }
        }
    }

    /// `Image.fromarray(x).resize((10, 10), Image.BICUBIC)[3:7, 3:7]` of Pillow, where x is
    /// `(np.arange(25) * 37 % 101).astype("f4").reshape(5, 5)`: away from the edges, which Pillow does not reflect.
    #[test]
    fn bicubic_values_are_those_of_pillow() {
        let expected = [
            [15.1799, 39.9307, 66.1981, 93.9819],
            [3.0181, 30.8019, 57.0693, 81.8201],
            [18.6893, 28.7809, 45.4438, 68.6782],
            [62.1935, 33.8676, 31.3218, 54.5562],
        ];
        let image = Image {
            data: (0..25).map(|i| (i * 37 % 101) as f32).collect(),
            ..Image::from_bytes(5, 5, 1, &[0; 25])
        };
        let large = magnified(&image, 10, 10, Interpolation::Bicubic);
        for (row, expected) in large.data.chunks(10).skip(3).zip(expected) {
            for (got, expected) in row[3..7].iter().zip(expected) {
                assert!((got - expected).abs() < 1e-3, "{got} {expected}");
            }
        }
    }

    #[test]
    fn flat_images_and_images_of_a_pixel_stay_flat() {
        for side in [1, 2, 5] {
            let flat = Image::from_bytes(side, side, 3, &vec![77; side * side * 3]);
            for interpolation in Interpolation::ALL {
                let large = magnified(&flat, 2 * side, 3 * side, interpolation);
                assert!(large.to_bytes().iter().all(|&byte| byte == 77), "{side}");
            }
        }
    }
}
