//! An image stored as the samples of its file, for keeping many in memory: bytes take a quarter of the space of floats.

use super::decode::{from_u8, from_u16};
use super::{Depth, Image};
use crate::reflect::reflected;

/// The samples of an image, 8-bit, 16-bit or float, in the order height, width, channel.
///
/// An image that was read from a file is restored to the last bit of `f32`, except that missing samples of 8 or 16 bits
/// become 0; one whose channels were converted is rounded to its depth.
#[derive(Debug, Clone, PartialEq)]
pub struct Packed {
    height: usize,
    width: usize,
    channels: usize,
    samples: Samples,
}

#[derive(Debug, Clone, PartialEq)]
enum Samples {
    U8(Vec<u8>),
    U16(Vec<u16>),
    F32(Vec<f32>),
}

impl From<&Image> for Packed {
    fn from(image: &Image) -> Self {
        Self {
            height: image.height,
            width: image.width,
            channels: image.channels,
            samples: match image.depth {
                Depth::U8 => Samples::U8(image.to_bytes()),
                Depth::U16 => Samples::U16(image.to_words()),
                _ => Samples::F32(image.data.clone()),
            },
        }
    }
}

impl Packed {
    /// The image, with the values that reading a file of these samples gives.
    pub fn to_image(&self) -> Image {
        let (data, depth) = match &self.samples {
            Samples::U8(samples) => (samples.iter().map(|&x| from_u8(x)).collect(), Depth::U8),
            Samples::U16(samples) => (samples.iter().map(|&x| from_u16(x)).collect(), Depth::U16),
            Samples::F32(samples) => (samples.clone(), Depth::F32),
        };
        Image {
            height: self.height,
            width: self.width,
            channels: self.channels,
            data,
            depth,
        }
    }

    /// Whether these can be the samples of `image`, judging by its size, channels and depth.
    pub(crate) fn is_of(&self, image: &Image) -> bool {
        let depth = match self.samples {
            Samples::U8(_) => Depth::U8,
            Samples::U16(_) => Depth::U16,
            Samples::F32(_) => Depth::F32,
        };
        (self.height, self.width, self.channels, depth)
            == (image.height, image.width, image.channels, image.depth)
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Memory of the samples, in bytes.
    pub fn bytes(&self) -> usize {
        match &self.samples {
            Samples::U8(samples) => samples.len(),
            Samples::U16(samples) => 2 * samples.len(),
            Samples::F32(samples) => 4 * samples.len(),
        }
    }

    /// Whether the samples are bytes.
    pub fn is_bytes(&self) -> bool {
        matches!(self.samples, Samples::U8(_))
    }

    /// The square of `side` pixels whose top left pixel is (`top`, `left`), with the values of [`Packed::to_image`],
    /// written to `out`, which holds `side · side · channels` values.
    ///
    /// Beyond the bottom and right edges, the image is reflected without repeating the edge.
    ///
    /// # Panics
    /// If `out` does not hold that many values, or `left` is greater than the width.
    pub fn crop(&self, top: usize, left: usize, side: usize, out: &mut [f32]) {
        let place = (top, left);
        match &self.samples {
            Samples::U8(samples) => {
                self.crop_from(samples, place, side, out, from_u8);
            }
            Samples::U16(samples) => {
                self.crop_from(samples, place, side, out, from_u16);
            }
            Samples::F32(samples) => self.crop_from(samples, place, side, out, |x| x),
        }
    }

    /// [`Self::crop`] without a conversion.
    ///
    /// # Panics
    /// As for that function, or if the samples are not bytes.
    pub fn crop_bytes(&self, top: usize, left: usize, side: usize, out: &mut [u8]) {
        let Samples::U8(samples) = &self.samples else {
            panic!("the samples of this image are not bytes");
        };
        self.crop_from(samples, (top, left), side, out, |x| x);
    }

    fn crop_from<T: Copy, U>(
        &self,
        samples: &[T],
        (top, left): (usize, usize),
        side: usize,
        out: &mut [U],
        unpack: impl Fn(T) -> U,
    ) {
        let c = self.channels;
        assert_eq!(out.len(), side * side * c, "a square of {side}x{side}x{c}");
        let inside = side.min(self.width.saturating_sub(left));
        for (y, row) in out.chunks_exact_mut(side * c).enumerate() {
            let y = reflected(top + y, self.height);
            let samples = &samples[y * self.width * c..][..self.width * c];
            // Most patches lie within their image, and a row of those is one copy.
            let (own, beyond) = row.split_at_mut(inside * c);
            for (value, &sample) in own.iter_mut().zip(&samples[left * c..]) {
                *value = unpack(sample);
            }
            for (x, pixel) in beyond.chunks_exact_mut(c).enumerate() {
                let x = reflected(left + inside + x, self.width);
                for (value, &sample) in pixel.iter_mut().zip(&samples[x * c..][..c]) {
                    *value = unpack(sample);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(height: usize, width: usize, channels: usize, depth: Depth) -> Image {
        let max = if depth == Depth::U8 { 255 } else { 65535 };
        let len = height * width * channels;
        Image {
            height,
            width,
            channels,
            data: (0..len)
                .map(|i| (i * 7919 % (max + 1)) as f32 / max as f32)
                .collect(),
            depth,
        }
    }

    #[test]
    fn a_crop_is_the_images_own_pixels() {
        for depth in [Depth::U8, Depth::U16] {
            for channels in [1, 3] {
                let image = image(9, 11, channels, depth);
                let packed = Packed::from(&image);
                let samples = 9 * 11 * channels;
                let bytes = if depth == Depth::U8 { 1 } else { 2 };
                assert_eq!(packed.bytes(), samples * bytes);
                let mut crop = vec![0.0; 4 * 4 * channels];
                packed.crop(5, 7, 4, &mut crop);
                for y in 0..4 {
                    let own = &image.data[((5 + y) * 11 + 7) * channels..][..4 * channels];
                    assert_eq!(&crop[y * 4 * channels..][..4 * channels], own);
                }
                assert_eq!(packed.is_bytes(), depth == Depth::U8);
                if packed.is_bytes() {
                    // Within the image, over its edges, and larger than all of it.
                    for (top, left, side) in [(5, 7, 4), (6, 9, 5), (0, 0, 16)] {
                        let (mut bytes, mut floats) = (vec![0; 256 * 3], vec![0.0; 256 * 3]);
                        let len = side * side * channels;
                        packed.crop_bytes(top, left, side, &mut bytes[..len]);
                        packed.crop(top, left, side, &mut floats[..len]);
                        let as_floats = bytes.iter().map(|&byte| f32::from(byte) / 255.0);
                        assert!(as_floats.eq(floats));
                    }
                }
            }
        }
    }

    #[test]
    fn a_small_image_is_reflected_as_numpy_does() {
        // np.pad([[0, 1, 2], [3, 4, 5]], ((0, 4), (0, 3)), 'reflect')
        let image = Image {
            height: 2,
            width: 3,
            channels: 1,
            data: (0..6).map(|i| i as f32 / 255.0).collect(),
            depth: Depth::U8,
        };
        let mut crop = vec![0.0; 36];
        Packed::from(&image).crop(0, 0, 6, &mut crop);
        let crop: Vec<_> = crop.iter().map(|x| (x * 255.0).round() as u8).collect();
        let even = [0, 1, 2, 1, 0, 1];
        let odd = [3, 4, 5, 4, 3, 4];
        assert_eq!(crop, [even, odd, even, odd, even, odd].concat());
    }

    #[test]
    fn a_single_pixel_fills_its_crop() {
        let packed = Packed::from(&image(1, 1, 3, Depth::U8));
        let mut crop = vec![-1.0; 5 * 5 * 3];
        packed.crop(0, 0, 5, &mut crop);
        for pixel in crop.chunks(3) {
            assert_eq!(
                pixel,
                [0, 7919 % 256, 2 * 7919 % 256].map(|x| x as f32 / 255.0)
            );
        }
    }
}
