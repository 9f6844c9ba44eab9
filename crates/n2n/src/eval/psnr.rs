//! The peak signal-to-noise ratio of the paper's evaluation.

use super::mean::mean_f32;

/// `10 · log10(255² / mean((a − b)²))` in dB over all bytes of two images; infinite for equal images.
///
/// The mean matches NumPy's for float32 values bit for bit; the rest is computed in `f64`.
///
/// # Panics
/// If the images differ in size.
pub fn psnr_db(a: &[u8], b: &[u8]) -> f64 {
    10.0 * (255.0 * 255.0 / f64::from(mean_square(a, b))).log10()
}

fn mean_square(a: &[u8], b: &[u8]) -> f32 {
    assert_eq!(a.len(), b.len(), "bytes of the two images");
    let square = |(&a, &b): (&u8, &u8)| f32::from(a.abs_diff(b)).powi(2);
    let squares: Vec<f32> = a.iter().zip(b).map(square).collect();
    mean_f32(&squares)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numpy::golden::{self, f32_of, f64_of, index};

    #[test]
    fn agrees_with_numpy() {
        let goldens = golden::values("metrics");
        for golden in golden::list(&goldens) {
            let size: Vec<usize> = golden::list(&golden["size"]).iter().map(index).collect();
            let clean = golden::picture(size[0], size[1], size[2]);
            let other = golden::distorted(&clean, size[1], size[2]);
            assert_eq!(
                mean_square(&clean, &other),
                f32_of(&golden["mean_square"]),
                "{size:?}"
            );
            // The logarithm may come from a different library.
            let want = f64_of(&golden["psnr"]);
            assert!((psnr_db(&clean, &other) - want).abs() <= 4.0 * f64::EPSILON * want);
        }
    }

    #[test]
    fn known_ratios() {
        assert_eq!(psnr_db(&[0, 0], &[255, 255]), 0.0);
        assert!((psnr_db(&[10; 7], &[11; 7]) - 48.130_803_608_679_1).abs() < 1e-12);
        assert_eq!(psnr_db(&[3; 9], &[3; 9]), f64::INFINITY);
    }
}
