//! Magnification of clean images that keeps their detail.
//!
//! Bicubic interpolation attenuates it: when an image is enlarged by 2, a wave with a period of 2.7 pixels keeps 0.79
//! of its amplitude. A network that learns from such images expects less detail than there is. The filter here is
//! therefore a sinc with a wide Lanczos window, which changes the amplitude by 1 %.

use std::f64::consts::PI;

use crate::image::Image;
use crate::reflect::reflected;

/// Zero crossings of the sinc on each side.
const LOBES: usize = 6;

/// `image` enlarged to `height` × `width` pixels, no fewer than it has, by Lanczos interpolation with [`LOBES`] lobes.
/// Values can lie slightly beyond those of the image.
pub(crate) fn magnified(image: &Image, height: usize, width: usize) -> Image {
    let channels = image.channels;
    let columns = taps(image.width, width);
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
        .zip(taps(image.height, height))
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
fn taps(from: usize, to: usize) -> Vec<Vec<(usize, f32)>> {
    let lobes = LOBES as f64;
    let sinc = |x: f64| {
        if x == 0.0 {
            1.0
        } else {
            (PI * x).sin() / (PI * x)
        }
    };
    let taps = |i: usize| {
        let center = (i as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        let first = center.floor() as i64 - LOBES as i64 + 1;
        let pixels = first..first + 2 * LOBES as i64;
        let weights = pixels.clone().map(|pixel| {
            let x = center - pixel as f64;
            sinc(x) * sinc(x / lobes)
        });
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
    fn error(factor: usize, cycles: f32) -> f32 {
        let (side, edge) = (48, 8 * factor);
        let large = factor * side;
        let got = magnified(&wave(side, 1.0, cycles), large, large);
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
                let error = error(factor, cycles);
                assert!(error < most, "{factor}: {cycles} cycles per pixel: {error}");
            }
        }
    }

    #[test]
    fn flat_images_and_images_of_a_pixel_stay_flat() {
        for side in [1, 2, 5] {
            let flat = Image::from_bytes(side, side, 3, &vec![77; side * side * 3]);
            let large = magnified(&flat, 2 * side, 3 * side);
            assert!(large.to_bytes().iter().all(|&byte| byte == 77), "{side}");
        }
    }
}
