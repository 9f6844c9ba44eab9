//! An image at another size.

use ::image::imageops::{FilterType, resize};
use ::image::{ImageBuffer, Luma, Pixel, Rgb};

use super::Image;

impl Image {
    /// The image at `height` × `width` pixels, each at least 1; the same image if that is its size.
    ///
    /// The filter is a triangle. For enlarging, it is bilinear interpolation, as in OpenCV's `resize`; for shrinking,
    /// it widens with the factor, so that every pixel counts, whereas OpenCV uses four pixels, which causes aliasing.
    ///
    /// # Panics
    /// If the image has neither 1 nor 3 channels, or a height or width is 0.
    #[must_use]
    pub fn resized(self, height: usize, width: usize) -> Self {
        if (self.height, self.width) == (height, width) {
            return self;
        }
        assert!(height > 0 && width > 0, "a size of {height}x{width}");
        let (from, to) = ((self.height, self.width), (height, width));
        let data = match self.channels {
            1 => filter::<Luma<f32>>(self.data, from, to),
            3 => filter::<Rgb<f32>>(self.data, from, to),
            channels => panic!("an image of {channels} channels; only 1 and 3 are supported"),
        };
        Self {
            height,
            width,
            data,
            ..self
        }
    }
}

fn filter<P: Pixel<Subpixel = f32> + 'static>(
    data: Vec<f32>,
    (height, width): (usize, usize),
    (new_height, new_width): (usize, usize),
) -> Vec<f32> {
    let image = ImageBuffer::<P, _>::from_raw(width as u32, height as u32, data)
        .expect("height · width · channels values");
    resize(
        &image,
        new_width as u32,
        new_height as u32,
        FilterType::Triangle,
    )
    .into_raw()
}

#[cfg(test)]
mod tests {
    use super::super::Depth;
    use super::*;

    fn image(height: usize, width: usize, channels: usize, data: Vec<f32>) -> Image {
        Image {
            height,
            width,
            channels,
            data,
            depth: Depth::U8,
        }
    }

    fn assert_close(got: &Image, want: &[f32]) {
        assert_eq!(got.data.len(), want.len());
        for (got, want) in got.data.iter().zip(want) {
            assert!((got - want).abs() < 1e-6, "{got} is not {want}");
        }
    }

    #[test]
    fn enlarging_interpolates_as_opencv_does() {
        // cv2.resize(np.float32([[0, 0.4]]), (4, 2)), bilinear by default
        let resized = image(1, 2, 1, vec![0.0, 0.4]).resized(2, 4);
        assert_eq!((resized.height, resized.width), (2, 4));
        assert_close(&resized, &[0.0, 0.1, 0.3, 0.4, 0.0, 0.1, 0.3, 0.4]);
    }

    #[test]
    fn shrinking_looks_at_every_pixel() {
        // To a third: weights 1, 2, 3, 2, 1 around the middle of each three, cut at the border.
        let row = [0.9, 0.0, 0.3, 0.6, 0.9, 0.0];
        let rgb: Vec<f32> = row.iter().flat_map(|&x| [x, x / 2.0, 0.25]).collect();
        let first = (2.0 * 0.9 + 3.0 * 0.0 + 2.0 * 0.3 + 0.6) / 8.0;
        let second = (0.3 + 2.0 * 0.6 + 3.0 * 0.9 + 2.0 * 0.0) / 8.0;
        let want = [first, first / 2.0, 0.25, second, second / 2.0, 0.25];
        assert_close(&image(1, 6, 3, rgb).resized(1, 2), &want);
    }

    #[test]
    fn its_own_size_is_no_change() {
        let same = image(1, 2, 1, vec![-0.5, 1.5]);
        assert_eq!(same.clone().resized(1, 2), same);
    }
}
