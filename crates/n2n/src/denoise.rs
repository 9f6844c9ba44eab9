//! Images of any size through a network: padding to the sizes it takes, tiles, and cropping.

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::network::Network;
use crate::unet::UNet;

/// Denoises an image of any size, in tiles of at most `max_pixels` pixels; channels and depth stay.
/// Not clipped.
///
/// A grey image under an RGB network is denoised as RGB and made grey again; under a grey network
/// the channels of an RGB image are denoised one by one. Other networks are an error.
pub fn denoise_image(network: &mut dyn Network, noisy: Image, max_pixels: usize) -> Result<Image> {
    let taken = network.architecture().n_channel;
    if !matches!(taken, 1 | 3) {
        let expected = "1 (grey) or 3 (RGB), as images have";
        return Err(Error::value("channels of the network", expected, taken));
    }
    let (depth, channels) = (noisy.depth, noisy.channels);
    if taken < channels {
        let planes = denoise_in_tiles(network, &noisy.into_planes(), max_pixels)?;
        return Ok(Image::from_planes(&planes, depth));
    }
    let noisy = noisy.with_channels(taken).into_batch();
    let denoised = denoise_in_tiles(network, &noisy, max_pixels)?;
    let image = Image {
        height: denoised.h,
        width: denoised.w,
        channels: taken,
        data: denoised.data,
        depth,
    };
    Ok(image.with_channels(channels))
}

/// How an image is padded, by reflection at the bottom and the right, before the network sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// To a square whose side is the larger side, up to the next multiple of 32: the paper's
    /// protocol.
    Square,
    /// Each side to its own next multiple of 32.
    Multiple,
}

/// The most pixels an image may have after padding. A strip a pixel high would otherwise ask for
/// the square of its length.
pub const MAX_PADDED_PIXELS: usize = 1 << 23;

/// Denoises a batch of any size: pads, runs the network, crops. Not clipped.
///
/// The padding is NumPy's `'reflect'`: the edge is not repeated, and a side shorter than its
/// padding is reflected as often as needed; a side of 1 is repeated. A batch without pixels, one
/// whose channels are not the network's, and one that exceeds [`MAX_PADDED_PIXELS`] are errors.
pub fn denoise(network: &mut dyn Network, noisy: &Batch, padding: Padding) -> Result<Batch> {
    let channels = network.architecture().n_channel;
    if noisy.c != channels {
        return Err(Error::value("channels of the image", channels, noisy.c));
    }
    padded(noisy, padding, |noisy| network.denoise(noisy))
}

/// Pads as [`denoise`] does, hands the batch to `run`, which gives one of the same shape, and crops
/// that.
pub fn padded(
    noisy: &Batch,
    padding: Padding,
    run: impl FnOnce(&Batch) -> Result<Batch>,
) -> Result<Batch> {
    let (h, w) = padded_size(noisy, padding)?;
    if (h, w) == (noisy.h, noisy.w) {
        return run(noisy);
    }
    let denoised = run(&reflect(noisy, h, w))?;
    Ok(window(&denoised, (0, 0), (noisy.h, noisy.w)))
}

/// How far, in pixels and up, the network looks: the sum over its rows of half their kernel at their
/// scale is 126, and the grids of the five poolings add up to 31; a tile's border is a multiple of
/// 32, so that its pooling grid is the image's.
pub const HALO: usize = 160;

/// A good `max_pixels` for [`denoise_in_tiles`]: some 2.5 GB of memory, whatever the network's width.
/// For the paper's network, which takes about 1.1 kB a pixel, it is 2 megapixels.
pub fn tile_pixels(unet: UNet) -> usize {
    2048 * 1024 * UNet::default().widest() / unet.widest()
}

/// Denoises a batch as [`denoise`] does with [`Padding::Multiple`], in tiles of at most `max_pixels`
/// pixels over all its images when it has more, so that a large image takes no more memory than a
/// small one.
///
/// Every tile sees [`HALO`] pixels beyond the part that is kept of it, so the result is that of the
/// whole image, but for rounding. Tiles keep at least 32 × 32 pixels, whatever `max_pixels` is.
pub fn denoise_in_tiles(
    network: &mut dyn Network,
    noisy: &Batch,
    max_pixels: usize,
) -> Result<Batch> {
    let max_pixels = max_pixels / noisy.n.max(1);
    let multiple = UNet::SIZE_MULTIPLE;
    let up = |side: usize| side.next_multiple_of(multiple);
    if noisy.h == 0 || noisy.w == 0 || up(noisy.h) * up(noisy.w) <= max_pixels {
        return denoise(network, noisy, Padding::Multiple);
    }
    let side = max_pixels.isqrt() / multiple * multiple;
    let most = side.saturating_sub(2 * HALO).max(multiple);
    // As many tiles as that takes, all of about one size: the network keeps its memory for the next.
    let even = |length: usize| up(length.div_ceil(length.div_ceil(most)));
    let (kept_h, kept_w) = (even(noisy.h), even(noisy.w));
    let padded = reflect(noisy, up(noisy.h), up(noisy.w));
    let mut denoised = Batch::zeros(noisy.n, noisy.h, noisy.w, noisy.c);
    for y in (0..noisy.h).step_by(kept_h) {
        for x in (0..noisy.w).step_by(kept_w) {
            let (top, left) = (y.saturating_sub(HALO), x.saturating_sub(HALO));
            let (bottom, right) = (
                (y + kept_h + HALO).min(padded.h),
                (x + kept_w + HALO).min(padded.w),
            );
            let tile = window(&padded, (top, left), (bottom - top, right - left));
            let tile = network.denoise(&tile)?;
            let (h, w) = (kept_h.min(noisy.h - y), kept_w.min(noisy.w - x));
            let part = window(&tile, (y - top, x - left), (h, w));
            paste(&part, &mut denoised, (y, x));
        }
    }
    Ok(denoised)
}

/// The `h` × `w` pixels of every image from (`y`, `x`) on.
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

/// Writes every image of `part` into that of `whole`, from (`y`, `x`) on.
fn paste(part: &Batch, whole: &mut Batch, (y, x): (usize, usize)) {
    let (row, c) = (whole.w * whole.c, whole.c);
    for i in 0..part.n {
        let rows = whole.image_mut(i).chunks_exact_mut(row).skip(y);
        for (to, from) in rows.zip(part.image(i).chunks_exact(part.w * c)) {
            to[x * c..][..part.w * c].copy_from_slice(from);
        }
    }
}

fn padded_size(noisy: &Batch, padding: Padding) -> Result<(usize, usize)> {
    let size = || format!("{}x{}", noisy.h, noisy.w);
    if noisy.h == 0 || noisy.w == 0 {
        return Err(Error::value("size of the image", "at least 1x1", size()));
    }
    let (h, w) = match padding {
        Padding::Square => (noisy.h.max(noisy.w), noisy.h.max(noisy.w)),
        Padding::Multiple => (noisy.h, noisy.w),
    };
    let up = |side: usize| side.checked_next_multiple_of(UNet::SIZE_MULTIPLE);
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

/// Where the pixel at `index`, 0 or more, comes from in a side of `length`: a walk to the end and
/// back, turning at the edge pixels.
pub(crate) fn reflected(index: usize, length: usize) -> usize {
    if length == 1 {
        return 0;
    }
    let period = 2 * (length - 1);
    let index = index % period;
    index.min(period - index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::CpuNetwork;
    use crate::image::Depth;
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
    fn the_network_sees_the_stated_size_and_the_caller_his_own() {
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
                "channels of the image: expected 3, got 1",
            ),
            (Batch::zeros(1, 0, 8, 3), "at least 1x1, got 0x8"),
            (Batch::zeros(1, 8, 0, 3), "at least 1x1, got 8x0"),
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

    /// A network whose every weight counts: with the initial ones, outputs are too small to differ.
    fn strong_network() -> CpuNetwork {
        let unet = UNet::new(2, 1).unwrap();
        let mut weights = CpuNetwork::initial(unet, 5).weights();
        for (name, tensor) in &mut weights.tensors {
            for (i, value) in tensor.data.iter_mut().enumerate() {
                *value = if name.ends_with("bias") {
                    (i % 7) as f32 * 0.02
                } else {
                    *value * 12.0
                };
            }
        }
        CpuNetwork::from_weights(&weights).unwrap()
    }

    #[test]
    fn tiles_make_the_whole_image() {
        let mut network = strong_network();
        for (h, w) in [(40, 800), (700, 33)] {
            let data = (0..h * w)
                .map(|i| ((i * 7919) % 1009) as f32 / 1009.0)
                .collect();
            let noisy = Batch::new(1, h, w, 1, data);
            let whole = denoise(&mut network, &noisy, Padding::Multiple).unwrap();
            let tiles = denoise_in_tiles(&mut network, &noisy, 384 * 384 / 16).unwrap();
            let size = whole.data.iter().fold(0_f32, |max, v| max.max(v.abs()));
            for (a, b) in whole.data.iter().zip(&tiles.data) {
                assert!(
                    (a - b).abs() <= 1e-5 * size,
                    "{h}x{w}: {a} and {b}, of {size}"
                );
            }
        }
    }

    #[test]
    fn the_images_of_a_batch_share_the_pixels_of_a_tile() {
        let mut network = Fake::identity(1);
        let noisy = Batch::new(
            3,
            384,
            400,
            1,
            (0..3 * 384 * 400).map(|i| i as f32).collect(),
        );
        let denoised = denoise_in_tiles(&mut network, &noisy, 3 * 384 * 384).unwrap();
        assert_eq!(denoised, noisy);
        let mut tiles = network.seen.iter().map(|(n, h, w, _)| n * h * w);
        assert!(tiles.all(|pixels| pixels <= 3 * 384 * 384));
    }

    #[test]
    fn an_image_keeps_its_channels_and_depth_under_any_network() {
        let halve: fn(f32) -> f32 = |x| x / 2.0;
        for (channels, taken, seen) in [
            (3, 3, (1, 32, 64, 3)),
            (1, 3, (1, 32, 64, 3)),
            (3, 1, (3, 32, 64, 1)),
            (1, 1, (1, 32, 64, 1)),
        ] {
            let noisy = Image {
                height: 5,
                width: 40,
                channels,
                data: (0..5 * 40 * channels).map(|i| i as f32 / 600.0).collect(),
                depth: Depth::U16,
            };
            let mut network = Fake::new(taken, halve);
            let denoised = denoise_image(&mut network, noisy.clone(), 1 << 20).unwrap();
            assert_eq!(network.seen, [seen]);
            assert_eq!((denoised.height, denoised.width), (5, 40));
            assert_eq!((denoised.channels, denoised.depth), (channels, Depth::U16));
            for (x, y) in noisy.data.iter().zip(&denoised.data) {
                assert!((x / 2.0 - y).abs() < 1e-6, "{x} became {y}");
            }
        }
        let noisy = Image::from_bytes(1, 1, 3, &[0; 3]);
        let error = denoise_image(&mut Fake::identity(2), noisy, 1 << 20).unwrap_err();
        assert!(error.to_string().contains("expected 1 (grey) or 3 (RGB)"));
    }

    #[test]
    fn the_halo_is_needed() {
        // The pixel farthest from the left edge that the left edge reaches lies beyond half of it.
        let mut network = strong_network();
        let mut noisy = Batch::zeros(1, 32, 384, 1);
        let before = network.denoise(&noisy).unwrap();
        (0..32).for_each(|y| noisy.data[y * 384] = 1.0);
        let after = network.denoise(&noisy).unwrap();
        let reach = (0..384)
            .rev()
            .find(|x| (0..32).any(|y| before.data[y * 384 + x] != after.data[y * 384 + x]));
        let reach = reach.unwrap();
        assert!((HALO / 2..HALO).contains(&reach), "{reach}");
    }
}
