//! Images of any size through a network: pads them to the sizes that it accepts, and crops the result. Pages of files,
//! which may be larger than memory, are denoised in tiles.

mod denoiser;
mod ensemble;
mod gray;
mod options;
mod range;
mod region;
pub(crate) mod sensor;
mod tiles;
mod transform;
mod view;
mod window;

pub use crate::words::shown;
pub use denoiser::{Band, Denoiser, OnProgress, Progress, Shrunk};
pub use gray::WithGray;
pub use options::{Options, Tile};
pub use range::{Misfit, ModelRange, Range, Scale, Survey, type_name};
pub(crate) use region::Frame;
pub use region::Region;
pub use transform::{Knot, Transform};

use self::denoiser::normalized;
use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::image::{Depth, Image, OfImage, Pages};
use crate::network::Denoise;
use crate::reflect::reflected;
use crate::unet::Grid;

/// How an image is padded, by reflection at the bottom and the right, before the network sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// To a square whose side is the longer side, rounded up to a multiple of the network's grid (32 in the paper):
    /// the paper's protocol.
    Square,
    /// Each side to the next multiple of the network's grid.
    Multiple,
}

/// Maximum number of pixels after padding. Without it, a strip one pixel high would require the square of its length.
pub const MAX_PADDED_PIXELS: usize = 1 << 23;

/// Denoises a batch of any size: pads, runs the network, crops. The result is not clipped.
///
/// The padding is NumPy's `'reflect'`: the edge is not repeated, a side shorter than its padding is reflected as
/// often as needed, and a side of 1 is repeated. A batch without pixels, with a different number of channels than the
/// network's, or larger than [`MAX_PADDED_PIXELS`] after padding is an error.
pub fn denoise(network: &mut dyn Denoise, noisy: &Batch, padding: Padding) -> Result<Batch> {
    let channels = network.channels();
    if noisy.c != channels {
        return Err(Error::value("channels of the image", channels, noisy.c));
    }
    padded(noisy, padding, network.grid(), |noisy| {
        network.denoise(noisy)
    })
}

/// Denoises a single image as [`denoise`] does, as the mean over its eight flips and rotations.
pub fn denoise_ensemble(
    network: &mut dyn Denoise,
    noisy: &Batch,
    padding: Padding,
) -> Result<Batch> {
    if noisy.n != 1 {
        return Err(Error::value("images of an ensemble", 1, noisy.n));
    }
    ensemble::mean_over_symmetries(noisy, |noisy| denoise(network, noisy, padding))
}

/// Pads as [`denoise`] does, passes the batch to `run`, which must return one of the same shape, and crops the
/// result.
pub fn padded(
    noisy: &Batch,
    padding: Padding,
    grid: Grid,
    run: impl FnOnce(&Batch) -> Result<Batch>,
) -> Result<Batch> {
    let (h, w) = padded_size(noisy, padding, grid)?;
    if (h, w) == (noisy.h, noisy.w) {
        return run(noisy);
    }
    let denoised = run(&reflect(noisy, h, w))?;
    Ok(window(&denoised, (0, 0), (noisy.h, noisy.w)))
}

/// Denoises a batch as [`denoise`] does with [`Padding::Multiple`]: as many images at once as the network can process
/// within `max_bytes`, and in tiles if a single image needs more, or has more pixels than [`denoise`] accepts. In
/// either case, values outside −1..2 are limited as by [`Scale::to_network`], and the excess is added back; values that
/// are not finite are replaced for the network, and stay in the result.
pub fn denoise_in_tiles(network: &mut dyn Denoise, noisy: &Batch, max_bytes: u64) -> Result<Batch> {
    let grid = network.grid();
    let (h, w) = (grid.up(noisy.h), grid.up(noisy.w));
    let needed = network.working_bytes(h, w).max(1);
    let is_too_large = h.saturating_mul(w) > MAX_PADDED_PIXELS;
    let at_once = usize::try_from(max_bytes / needed).unwrap_or(usize::MAX);
    let mut data = Vec::with_capacity(noisy.data.len());
    if (at_once > 0 && !is_too_large) || noisy.image_len() == 0 {
        let values = at_once.min(noisy.n).max(1) * noisy.image_len().max(1);
        for part in noisy.data.chunks(values) {
            let n = part.len() / noisy.image_len();
            let seen = part.iter().map(|&value| normalized(value, Scale::UNIT));
            let seen = Batch::new(n, noisy.h, noisy.w, noisy.c, seen.collect());
            let denoised = denoise(network, &seen, Padding::Multiple)?.data;
            data.extend(denoised.iter().zip(part).map(|(&value, &from)| {
                let value = Scale::UNIT.from_network(value, from);
                if from.is_finite() && value.is_finite() {
                    value
                } else {
                    from
                }
            }));
        }
        return Ok(Batch { data, ..*noisy });
    }
    let options = Options {
        max_bytes,
        ..Options::default()
    };
    let mut denoiser = Denoiser::new(network, options);
    for i in 0..noisy.n {
        let image = Image {
            height: noisy.h,
            width: noisy.w,
            channels: noisy.c,
            data: noisy.image(i).to_vec(),
            depth: Depth::F32,
        };
        let mut pages = OfImage::new(&image);
        if let Some(page) = pages.next_page()? {
            denoiser.denoise(&page, &mut pages, Scale::UNIT, |band| {
                data.extend(band.denoised);
                Ok(())
            })?;
        }
    }
    Ok(Batch::new(noisy.n, noisy.h, noisy.w, noisy.c, data))
}

/// The `h` × `w` pixels of every image that start at (`y`, `x`).
fn window(batch: &Batch, (y, x): (usize, usize), (h, w): (usize, usize)) -> Batch {
    let c = batch.c;
    let mut data = Vec::with_capacity(batch.n * h * w * c);
    for i in 0..batch.n {
        for row in batch.image(i).chunks_exact(batch.w * c).skip(y).take(h) {
            data.extend_from_slice(&row[x * c..][..w * c]);
        }
    }
    Batch::new(batch.n, h, w, c, data)
}

fn padded_size(noisy: &Batch, padding: Padding, grid: Grid) -> Result<(usize, usize)> {
    let size = || format!("{}x{}", noisy.h, noisy.w);
    if noisy.h == 0 || noisy.w == 0 {
        return Err(Error::value("size of the image", "at least 1x1", size()));
    }
    let (h, w) = match padding {
        Padding::Square => (noisy.h.max(noisy.w), noisy.h.max(noisy.w)),
        Padding::Multiple => (noisy.h, noisy.w),
    };
    let up = |side: usize| side.checked_next_multiple_of(grid.multiple);
    up(h)
        .zip(up(w))
        .filter(|(h, w)| h.checked_mul(*w).is_some_and(|n| n <= MAX_PADDED_PIXELS))
        .ok_or_else(|| {
            let limit = format!("at most {MAX_PADDED_PIXELS} pixels after padding");
            Error::value("size of the image", limit, size())
        })
}

/// `np.pad(image, ((0, h - image.h), (0, w - image.w), (0, 0)), mode="reflect")` for each image.
fn reflect(batch: &Batch, h: usize, w: usize) -> Batch {
    let c = batch.c;
    let columns: Vec<usize> = (batch.w..w).map(|x| reflected(x, batch.w)).collect();
    let mut data = Vec::with_capacity(batch.n * h * w * c);
    for i in 0..batch.n {
        let image = batch.image(i);
        for y in 0..h {
            let row = &image[reflected(y, batch.h) * batch.w * c..][..batch.w * c];
            data.extend_from_slice(row);
            for x in &columns {
                data.extend_from_slice(&row[x * c..][..c]);
            }
        }
    }
    Batch::new(batch.n, h, w, c, data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::fake::Fake;
    use crate::numpy::golden;

    #[test]
    fn pads_as_numpy_does() {
        let goldens = golden::values("padding");
        for side in golden::list(&goldens["sides"]) {
            let length = golden::index(&side["side"]);
            let want: Vec<usize> = golden::list(&side["padded"])
                .iter()
                .map(golden::index)
                .collect();
            let got: Vec<usize> = (0..want.len()).map(|i| reflected(i, length)).collect();
            assert_eq!(got, want, "a side of {length}");
        }
        let plane = Batch::new(1, 3, 5, 1, (0..15).map(|i| i as f32).collect());
        let padded = reflect(&plane, 32, 32);
        for (y, row) in golden::list(&goldens["plane_3x5"]).iter().enumerate() {
            let want: Vec<f32> = golden::list(row)
                .iter()
                .map(|i| golden::index(i) as f32)
                .collect();
            assert_eq!(padded.data[y * 32..][..32], want, "row {y}");
        }
    }

    #[test]
    fn every_image_and_channel_is_padded_alike() {
        let (n, h, w, c) = (3, 5, 33, 3);
        let batch = Batch::new(n, h, w, c, (0..n * h * w * c).map(|i| i as f32).collect());
        let padded = reflect(&batch, 32, 64);
        for i in 0..n {
            for channel in 0..c {
                let one = |from: &Batch| {
                    let data = from
                        .image(i)
                        .iter()
                        .skip(channel)
                        .step_by(c)
                        .copied()
                        .collect();
                    Batch::new(1, from.h, from.w, 1, data)
                };
                assert_eq!(one(&padded), reflect(&one(&batch), 32, 64));
            }
        }
    }

    #[test]
    fn the_network_sees_the_stated_size_and_the_caller_its_own() {
        for ((h, w), square, multiple) in [
            ((1, 1), (32, 32), (32, 32)),
            ((31, 33), (64, 64), (32, 64)),
            ((32, 64), (64, 64), (32, 64)),
            ((64, 64), (64, 64), (64, 64)),
            ((7, 100), (128, 128), (32, 128)),
        ] {
            for (padding, size) in [(Padding::Square, square), (Padding::Multiple, multiple)] {
                let mut network = Fake::identity(3);
                let data = (0..2 * h * w * 3).map(|i| i as f32).collect();
                let noisy = Batch::new(2, h, w, 3, data);
                assert_eq!(denoise(&mut network, &noisy, padding).unwrap(), noisy);
                assert_eq!(
                    network.seen,
                    [(2, size.0, size.1, 3)],
                    "{h}x{w}, {padding:?}"
                );
            }
        }
    }

    #[test]
    fn what_cannot_be_denoised_is_refused_before_the_network_runs() {
        let mut network = Fake::identity(3);
        for (noisy, hint) in [
            (
                Batch::zeros(1, 8, 8, 1),
                "channels of the image: expected 3, found 1",
            ),
            (Batch::zeros(1, 0, 8, 3), "at least 1x1, found 0x8"),
            (Batch::zeros(1, 8, 0, 3), "at least 1x1, found 8x0"),
            (Batch::zeros(1, 1, 8193, 3), "at most 8388608 pixels"),
        ] {
            let error = denoise(&mut network, &noisy, Padding::Square).unwrap_err();
            assert!(error.to_string().contains(hint), "{error}");
        }
        assert!(network.seen.is_empty());
        let strip = Batch::zeros(1, 1, 8193, 3);
        assert_eq!(
            denoise(&mut network, &strip, Padding::Multiple).unwrap(),
            strip
        );
    }

    #[test]
    fn a_large_batch_is_denoised_in_whole_images() {
        let (n, h, w) = (5, 64, 96);
        let batch = Batch::new(n, h, w, 1, (0..n * h * w).map(|i| i as f32).collect());
        for (at_once, want) in [(5, vec![5]), (2, vec![2, 2, 1]), (1, vec![1; 5])] {
            let mut network = Fake::identity(1);
            let max_bytes = at_once * network.working_bytes(h, w);
            let denoised = denoise_in_tiles(&mut network, &batch, max_bytes).unwrap();
            assert_eq!(denoised, batch);
            let seen: Vec<_> = network.seen.iter().map(|&(n, h, w, _)| (n, h, w)).collect();
            let want: Vec<_> = want.into_iter().map(|n| (n, h, w)).collect();
            assert_eq!(seen, want);
        }
    }

    #[test]
    fn values_far_outside_the_range_are_limited_in_tiles_and_without() {
        let (h, w) = (512, 640);
        let mut noisy = Batch::new(1, h, w, 1, vec![0.25; h * w]);
        // Half of the limits −1 and 2, and what exceeds them.
        let far = [
            (7, 10.0, 9.0),
            (900, -5.0, -4.5),
            (2000, f32::INFINITY, f32::INFINITY),
        ];
        let mut expected = vec![0.125; h * w];
        for (at, from, to) in far {
            (noisy.data[at], expected[at]) = (from, to);
        }
        for share in [1, 2] {
            let mut network = Fake::new(1, |x| x / 2.0);
            let max_bytes = network.working_bytes(h, w) / share;
            let denoised = denoise_in_tiles(&mut network, &noisy, max_bytes).unwrap();
            assert_eq!(network.seen.len() == 1, share == 1);
            assert!(denoised.data == expected, "1/{share} of the memory");
        }
    }

    #[test]
    fn an_image_too_large_for_the_memory_is_denoised_in_tiles() {
        let (h, w) = (512, 640);
        let batch = Batch::new(2, h, w, 1, (0..2 * h * w).map(|i| i as f32).collect());
        let mut network = Fake::identity(1);
        let max_bytes = network.working_bytes(h, w) / 2;
        let denoised = denoise_in_tiles(&mut network, &batch, max_bytes).unwrap();
        assert_eq!(denoised, batch);
        assert!(
            network
                .seen
                .iter()
                .all(|&(n, h, w, _)| n == 1 && h * w < 512 * 640)
        );
        assert!(denoise_in_tiles(&mut network, &batch, 1000).is_err());
        let (h, w) = (2048, 4128);
        let large = Batch::new(1, h, w, 1, vec![0.5; h * w]);
        assert!(h * w > MAX_PADDED_PIXELS);
        assert_eq!(
            denoise_in_tiles(&mut network, &large, u64::MAX).unwrap(),
            large
        );
    }
}
