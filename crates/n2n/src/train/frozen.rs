//! Noise that is added once to each image and is the same at every visit, as in a photograph.
//!
//! Nothing is stored. The noise is drawn in tiles, each from a stream that depends on the seed, the image's name and
//! the tile's position. For a patch, the tiles that it touches are drawn.

use std::ops::Range;

use crate::noise::Noise;
use crate::reflect::reflected;
use crate::train::dataset::Scaled;
use crate::train::random::image_stream;

/// Side of the tiles in pixels. For a patch of 256, a quarter more noise is drawn than used.
const TILE: usize = 32;

/// Writes a square of `side` pixels of the noisy image, whose top left pixel is (`top`, `left`), to `out`, which holds
/// `side · side · channels` values.
///
/// Beyond the bottom and the right edge, the noisy image is reflected.
pub fn crop(
    noise: Noise,
    seed: u64,
    (name, image): (&str, &Scaled),
    (top, left): (usize, usize),
    side: usize,
    out: &mut [f32],
) {
    let c = out.len() / (side * side);
    let noise = noise.at_one_level(&mut image_stream(seed, name, u64::MAX));
    let (rows, columns) = (
        shown(top, side, image.height()),
        shown(left, side, image.width()),
    );
    let width = columns.len();
    let mut noisy = vec![0.0; rows.len() * width * c];
    let mut tile = vec![0.0; TILE * TILE * c];
    for i in rows.start / TILE..rows.end.div_ceil(TILE) {
        for j in columns.start / TILE..columns.end.div_ceil(TILE) {
            image.crop(i * TILE, j * TILE, TILE, &mut tile);
            let mut rng = image_stream(seed, name, (i as u64) << 32 | j as u64);
            noise.corrupt_image(&mut tile, &mut rng);
            let here = columns.start.max(j * TILE)..columns.end.min((j + 1) * TILE);
            for y in rows.start.max(i * TILE)..rows.end.min((i + 1) * TILE) {
                let from = ((y % TILE) * TILE + here.start % TILE) * c;
                let to = ((y - rows.start) * width + here.start - columns.start) * c;
                let len = here.len() * c;
                noisy[to..to + len].copy_from_slice(&tile[from..from + len]);
            }
        }
    }
    for (y, row) in out.chunks_exact_mut(side * c).enumerate() {
        let y = reflected(top + y, image.height()) - rows.start;
        for (x, pixel) in row.chunks_exact_mut(c).enumerate() {
            let x = reflected(left + x, image.width()) - columns.start;
            pixel.copy_from_slice(&noisy[(y * width + x) * c..][..c]);
        }
    }
}

/// The rows of an image of `length` rows that appear in a square of `side` rows that begins at `start`; likewise for
/// columns. A reflection longer than what lies between `start` and the edge shows rows before `start` too.
fn shown(start: usize, side: usize, length: usize) -> Range<usize> {
    let beyond = (start + side).saturating_sub(length);
    let turned = length.saturating_sub(1 + beyond);
    start.min(turned)..(start + side).min(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Image, Packed};

    fn gray(height: usize, width: usize) -> Scaled<'static> {
        let bytes = vec![128; height * width * 3];
        Packed::from(&Image::from_bytes(height, width, 3, &bytes)).into()
    }

    fn cropped(noise: &str, name: &str, image: &Scaled, place: (usize, usize)) -> Vec<f32> {
        let mut out = vec![0.0; 64 * 64 * 3];
        let noise = noise.parse().unwrap();
        crop(noise, 7, (name, image), place, 64, &mut out);
        out
    }

    #[test]
    fn patches_show_one_noisy_image_wherever_they_lie() {
        let image = gray(140, 150);
        for noise in ["gauss25", "gauss5_50", "poisson30"] {
            let first = cropped(noise, "a.png", &image, (0, 0));
            for (top, left) in [(1, 0), (31, 32), (5, 63), (63, 17)] {
                let other = cropped(noise, "a.png", &image, (top, left));
                for y in top..64 {
                    let shown = &first[(y * 64 + left) * 3..(y + 1) * 64 * 3];
                    let again = &other[(y - top) * 64 * 3..][..(64 - left) * 3];
                    assert_eq!(shown, again, "{noise} {top} {left}");
                }
            }
        }
    }

    #[test]
    fn images_have_noise_of_their_own_of_the_level_asked_for() {
        let image = gray(200, 200);
        let a = cropped("gauss25", "a.png", &image, (100, 100));
        let b = cropped("gauss25", "b.png", &image, (100, 100));
        let deviation = |values: &mut dyn Iterator<Item = f32>| {
            let squares: Vec<_> = values.map(|x| f64::from(x).powi(2)).collect();
            (squares.iter().sum::<f64>() / squares.len() as f64).sqrt() * 255.0
        };
        // 12,288 values: the standard error of the deviation is 0.16, and of a difference 0.23.
        let of_a = deviation(&mut a.iter().map(|x| x - 128.0 / 255.0));
        assert!((of_a - 25.0).abs() < 0.8, "{of_a}");
        let between = deviation(&mut a.iter().zip(&b).map(|(a, b)| a - b));
        assert!((between - 25.0 * 2_f64.sqrt()).abs() < 1.2, "{between}");
        // No two tiles alike either.
        let tiles = deviation(&mut (0..32).map(|x| a[x * 3] - a[(x + 32) * 3]));
        assert!(tiles > 10.0, "{tiles}");
    }

    #[test]
    fn an_image_smaller_than_the_patch_is_reflected_with_its_noise() {
        let image = gray(40, 50);
        let patch = cropped("gauss25", "a.png", &image, (0, 0));
        let pixel = |y: usize, x: usize| &patch[(y * 64 + x) * 3..][..3];
        assert_eq!(pixel(40, 3), pixel(38, 3));
        assert_eq!(pixel(3, 50), pixel(3, 48));
        assert_ne!(pixel(40, 3), pixel(39, 3));
    }

    #[test]
    fn a_reflection_may_lead_back_before_the_place() {
        for (height, width) in [(70, 80), (64, 64), (33, 200), (1, 5), (64, 1)] {
            let image = gray(height, width);
            let pixels = |place| cropped("gauss25", "a.png", &image, place);
            // A pixel of the noisy image, from a patch that contains it without reflection. Along a side shorter than
            // a patch, that is the patch at 0.
            let noisy = |y: usize, x: usize| {
                let (top, left) = (
                    y.min(height.saturating_sub(64)),
                    x.min(width.saturating_sub(64)),
                );
                pixels((top, left))[((y - top) * 64 + x - left) * 3..][..3].to_vec()
            };
            let last = (height - 1, width - 1);
            for (top, left) in [
                last,
                (height / 2, 0),
                (0, width / 2),
                (height / 3, width / 3),
            ] {
                let patch = pixels((top, left));
                for (y, x) in [(0, 0), (40, 3), (3, 40), (63, 63), (62, 31)] {
                    assert_eq!(
                        patch[(y * 64 + x) * 3..][..3],
                        noisy(reflected(top + y, height), reflected(left + x, width)),
                        "{height}x{width}, {top} {left}, {y} {x}"
                    );
                }
            }
        }
    }
}
