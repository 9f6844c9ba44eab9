//! The structural similarity of the paper's evaluation, after Wang et al., *Image Quality
//! Assessment: From Error Visibility to Structural Similarity* (2004).

use rayon::prelude::*;

use crate::error::{Error, Result};

/// Side length of the Gaussian window; an image must be at least this high and wide.
pub const WINDOW: usize = 11;

/// Standard deviation of the Gaussian window, in pixels.
const SIGMA: f64 = 1.5;

/// `(0.01 · 255)²` and `(0.03 · 255)²`, which keep the quotients finite where the images are flat.
const C1: f64 = 0.01 * 255.0 * (0.01 * 255.0);
const C2: f64 = 0.03 * 255.0 * (0.03 * 255.0);

/// The mean structural similarity of two images of `height` × `width` pixels, as bytes in the order height, width,
/// channel. It is computed per channel in `f64` where the window lies inside the image, then averaged over the
/// channels; it is 1 for equal images.
///
/// # Errors
/// Images that are less than [`WINDOW`] pixels high or wide.
///
/// # Panics
/// If an image does not hold `height · width · channels` bytes, or `channels` is 0.
pub fn ssim(a: &[u8], b: &[u8], height: usize, width: usize, channels: usize) -> Result<f64> {
    assert_eq!(
        a.len(),
        height * width * channels,
        "bytes of the first image"
    );
    assert_eq!(b.len(), a.len(), "bytes of the second image");
    assert!(channels > 0, "an image has a channel");
    check_size(height, width)?;
    let of_channels: Vec<f64> = (0..channels)
        .into_par_iter()
        .map(|channel| {
            let plane = |image: &[u8]| -> Vec<f64> {
                let values = image.iter().skip(channel).step_by(channels);
                values.map(|&byte| f64::from(byte)).collect()
            };
            ssim_of_planes(&plane(a), &plane(b), height, width)
        })
        .collect();
    Ok(of_channels.iter().sum::<f64>() / channels as f64)
}

/// Returns an error for an image that the window does not fit into.
pub fn check_size(height: usize, width: usize) -> Result<()> {
    if height.min(width) < WINDOW {
        return Err(Error::value(
            "size of an image to score",
            format!("at least {WINDOW}x{WINDOW}, for SSIM's window"),
            format!("{height}x{width}"),
        ));
    }
    Ok(())
}

fn ssim_of_planes(a: &[f64], b: &[f64], height: usize, width: usize) -> f64 {
    // The variances enter only as a sum, so one plane serves both squares.
    let squares: Vec<f64> = a.iter().zip(b).map(|(a, b)| a * a + b * b).collect();
    let products: Vec<f64> = a.iter().zip(b).map(|(a, b)| a * b).collect();
    let (rows, columns) = (height - WINDOW + 1, width - WINDOW + 1);
    let mut blur = Blur::new(width);
    let mut blurred = [const { Vec::new() }; 4];
    let mut sum = 0.0;
    for y in 0..rows {
        for (plane, row) in [a, b, &squares, &products].into_iter().zip(&mut blurred) {
            blur.row(plane, y, row);
        }
        let [mean_a, mean_b, square, product] = &blurred;
        let mut of_row = 0.0;
        for x in 0..columns {
            let mean_product = mean_a[x] * mean_b[x];
            let mean_squares = mean_a[x] * mean_a[x] + mean_b[x] * mean_b[x];
            let covariance = product[x] - mean_product;
            let variances = square[x] - mean_squares;
            of_row += (2.0 * mean_product + C1) * (2.0 * covariance + C2)
                / ((mean_squares + C1) * (variances + C2));
        }
        sum += of_row;
    }
    sum / (rows * columns) as f64
}

/// The separable Gaussian window, applied vertically, then horizontally: a fifth of the work of the full window.
struct Blur {
    taps: [f64; WINDOW],
    width: usize,
    down: Vec<f64>,
}

impl Blur {
    fn new(width: usize) -> Self {
        let mut taps = [0.0; WINDOW];
        for (i, tap) in taps.iter_mut().enumerate() {
            let distance = i as f64 - (WINDOW / 2) as f64;
            *tap = (-distance * distance / (2.0 * SIGMA * SIGMA)).exp();
        }
        let sum: f64 = taps.iter().sum();
        Self {
            taps: taps.map(|tap| tap / sum),
            width,
            down: Vec::new(),
        }
    }

    /// The windows whose top row is row `y` of `plane`, from left to right.
    fn row(&mut self, plane: &[f64], y: usize, blurred: &mut Vec<f64>) {
        let width = self.width;
        self.down.clear();
        self.down.resize(width, 0.0);
        blurred.clear();
        blurred.resize(width - WINDOW + 1, 0.0);
        for (i, tap) in self.taps.iter().enumerate() {
            let row = &plane[(y + i) * width..][..width];
            for (sum, value) in self.down.iter_mut().zip(row) {
                *sum += tap * value;
            }
        }
        for (i, tap) in self.taps.iter().enumerate() {
            for (sum, value) in blurred.iter_mut().zip(&self.down[i..]) {
                *sum += tap * value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numpy::golden::{self, f64_of, index};

    #[test]
    fn agrees_with_opencv() {
        let goldens = golden::values("metrics");
        for golden in golden::list(&goldens) {
            let size: Vec<usize> = golden::list(&golden["size"]).iter().map(index).collect();
            let clean = golden::picture(size[0], size[1], size[2]);
            let other = golden::distorted(&clean, size[1], size[2]);
            let got = ssim(&clean, &other, size[0], size[1], size[2]).unwrap();
            let want = f64_of(&golden["ssim"]);
            assert!((got - want).abs() < 1e-10, "{size:?}: {got} is not {want}");
        }
    }

    #[test]
    fn equal_images_score_one_and_the_order_does_not_matter() {
        let clean = golden::picture(20, 23, 3);
        let other = golden::distorted(&clean, 23, 3);
        assert_eq!(ssim(&clean, &clean, 20, 23, 3).unwrap(), 1.0);
        let forth = ssim(&clean, &other, 20, 23, 3).unwrap();
        let back = ssim(&other, &clean, 20, 23, 3).unwrap();
        assert_eq!(forth, back);
        assert!(forth < 1.0);
    }

    #[test]
    fn the_window_must_fit() {
        for (h, w) in [(10, 11), (11, 10), (0, 0)] {
            let image = vec![0; h * w];
            let error = ssim(&image, &image, h, w, 1).unwrap_err().to_string();
            assert!(error.contains("at least 11x11"), "{error}");
        }
        assert_eq!(ssim(&[7; 121], &[7; 121], 11, 11, 1).unwrap(), 1.0);
    }
}
