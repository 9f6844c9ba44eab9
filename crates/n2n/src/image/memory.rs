//! Images from samples in memory, and back.

use super::decode::{from_u8, from_u16};
use super::page::is_gray;
use super::{Depth, Image};
use crate::error::{Error, Result};

impl Image {
    /// An image from samples of 8 bits, in the order height, width, channel.
    ///
    /// # Errors
    /// A side or the number of channels is 0, or there are not `height · width · channels` samples.
    ///
    /// ```
    /// use n2n::Image;
    ///
    /// let image = Image::from_u8(1, 2, 3, &[255, 0, 0, 0, 0, 255])?;
    /// assert_eq!(image.data, [1.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    /// assert_eq!(image.to_u8(), [255, 0, 0, 0, 0, 255]);
    /// # Ok::<(), n2n::Error>(())
    /// ```
    pub fn from_u8(height: usize, width: usize, channels: usize, samples: &[u8]) -> Result<Self> {
        let data = samples.iter().map(|&sample| from_u8(sample)).collect();
        Self::new(height, width, channels, data, Depth::U8)
    }

    /// An image from samples of 16 bits, in the order height, width, channel.
    ///
    /// # Errors
    /// As [`Image::from_u8`].
    pub fn from_u16(height: usize, width: usize, channels: usize, samples: &[u16]) -> Result<Self> {
        let data = samples.iter().map(|&sample| from_u16(sample)).collect();
        Self::new(height, width, channels, data, Depth::U16)
    }

    /// An image from floats of any range, in the order height, width, channel.
    ///
    /// # Errors
    /// As [`Image::from_u8`].
    pub fn from_f32(height: usize, width: usize, channels: usize, data: Vec<f32>) -> Result<Self> {
        Self::new(height, width, channels, data, Depth::F32)
    }

    fn new(
        height: usize,
        width: usize,
        channels: usize,
        data: Vec<f32>,
        depth: Depth,
    ) -> Result<Self> {
        let image = Self {
            height,
            width,
            channels,
            data,
            depth,
        };
        image.check()?;
        Ok(image)
    }

    /// Whether this is an RGB image whose channels are equal in every pixel.
    pub fn is_achromatic(&self) -> bool {
        self.channels == 3 && self.data.chunks_exact(3).all(is_gray)
    }

    /// Rejects an image without pixels, or whose number of values does not match its size.
    pub(crate) fn check(&self) -> Result<()> {
        let (h, w, c) = (self.height, self.width, self.channels);
        let size = format!("{h}x{w}x{c} (height x width x channels)");
        let values = h.checked_mul(w).and_then(|pixels| pixels.checked_mul(c));
        match values {
            Some(0) => Err(Error::value("size of the image", "at least 1x1x1", size)),
            Some(values) if values == self.data.len() => Ok(()),
            _ => Err(Error::value(
                format!("samples of an image of {size}"),
                values.map_or("more than memory can address".into(), |values| {
                    values.to_string()
                }),
                self.data.len(),
            )),
        }
    }

    /// The samples as 8-bit integers, rounded as the paper's evaluation does: `uint8(clip(x·255 + 0.5, 0, 255))`,
    /// computed in `f32`; NaN becomes 0.
    pub fn to_u8(&self) -> Vec<u8> {
        self.to_bytes()
    }

    /// The samples as 16-bit integers, rounded as in [`Image::to_u8`] with 65535.
    pub fn to_u16(&self) -> Vec<u16> {
        self.to_words()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_come_back_as_they_were() {
        let bytes: Vec<u8> = (0..=255).collect();
        let image = Image::from_u8(16, 4, 4, &bytes).unwrap();
        assert_eq!((image.to_u8(), image.depth), (bytes, Depth::U8));
        let words: Vec<u16> = (0..=65535).collect();
        let image = Image::from_u16(256, 256, 1, &words).unwrap();
        assert_eq!((image.to_u16(), image.depth), (words, Depth::U16));
        let floats = vec![-1.0, 3000.0, f32::INFINITY];
        let image = Image::from_f32(1, 1, 3, floats.clone()).unwrap();
        assert_eq!((image.data, image.depth), (floats, Depth::F32));
    }

    #[test]
    fn sizes_that_the_samples_contradict_are_refused() {
        let error = |h, w, c, n| {
            let image = Image::from_f32(h, w, c, vec![0.0; n]);
            image.unwrap_err().to_string()
        };
        assert_eq!(
            error(2, 3, 1, 5),
            "samples of an image of 2x3x1 (height x width x channels): expected 6, found 5"
        );
        assert!(
            error(usize::MAX, 3, 1, 5).contains("expected more than memory can address, found 5")
        );
        for (h, w, c) in [(0, 1, 1), (1, 0, 1), (1, 1, 0)] {
            assert!(error(h, w, c, 0).contains("at least 1x1x1"));
        }
    }
}
