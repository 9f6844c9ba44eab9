//! Noise that is added once to each image and is the same at every visit, as in a photograph.
//!
//! Nothing is stored. The noise is drawn in tiles, each from a stream that depends on the seed, the image's name and
//! the tile's position. For a patch, the tiles that it touches are drawn.

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
    let (bottom, right) = (
        (top + side).min(image.height()),
        (left + side).min(image.width()),
    );
    let width = right - left;
    let mut noisy = vec![0.0; (bottom - top) * width * c];
    let mut tile = vec![0.0; TILE * TILE * c];
    for i in top / TILE..bottom.div_ceil(TILE) {
        for j in left / TILE..right.div_ceil(TILE) {
            image.crop(i * TILE, j * TILE, TILE, &mut tile);
            let mut rng = image_stream(seed, name, (i as u64) << 32 | j as u64);
            noise.corrupt_image(&mut tile, &mut rng);
            let columns = left.max(j * TILE)..right.min((j + 1) * TILE);
            for y in top.max(i * TILE)..bottom.min((i + 1) * TILE) {
                let from = ((y % TILE) * TILE + columns.start % TILE) * c;
                let to = ((y - top) * width + columns.start - left) * c;
                let len = columns.len() * c;
                noisy[to..to + len].copy_from_slice(&tile[from..from + len]);
            }
        }
    }
    for (y, row) in out.chunks_exact_mut(side * c).enumerate() {
        let y = reflected(top + y, image.height()) - top;
        for (x, pixel) in row.chunks_exact_mut(c).enumerate() {
            let x = reflected(left + x, image.width()) - left;
            pixel.copy_from_slice(&noisy[(y * width + x) * c..][..c]);
        }
    }
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
}
