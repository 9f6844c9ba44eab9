//! A batch of images of one size: assembled by the loader, corrupted by the noise, processed by the network.

use rayon::prelude::*;

/// `n` images of `h` × `w` pixels with `c` channels, as `f32` in the order n, h, w, c.
///
/// Clean pixels lie in 0..1; noisy ones may lie outside, because noise is not clipped.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Number of images.
    pub n: usize,
    /// Height in pixels.
    pub h: usize,
    /// Width in pixels.
    pub w: usize,
    /// Channels.
    pub c: usize,
    /// `n · h · w · c` values.
    pub data: Vec<f32>,
}

impl Batch {
    /// A batch of zeros.
    pub fn zeros(n: usize, h: usize, w: usize, c: usize) -> Self {
        Self {
            n,
            h,
            w,
            c,
            data: vec![0.0; n * h * w * c],
        }
    }

    /// A batch from its values.
    ///
    /// # Panics
    /// If `data` does not hold `n · h · w · c` values.
    pub fn new(n: usize, h: usize, w: usize, c: usize, data: Vec<f32>) -> Self {
        assert_eq!(data.len(), n * h * w * c, "a batch of {n}x{h}x{w}x{c}");
        Self { n, h, w, c, data }
    }

    /// Values in one image.
    pub fn image_len(&self) -> usize {
        self.h * self.w * self.c
    }

    /// The values of image `i`, in the order h, w, c.
    pub fn image(&self, i: usize) -> &[f32] {
        &self.data[i * self.image_len()..][..self.image_len()]
    }

    /// The values of image `i`, to write to.
    pub fn image_mut(&mut self, i: usize) -> &mut [f32] {
        let len = self.image_len();
        &mut self.data[i * len..][..len]
    }

    /// Space-to-depth: turns each block of `block` × `block` pixels into one pixel with `block`² times the channels.
    /// Their order is row, column, channel, as in ONNX's `SpaceToDepth`; in `PyTorch`'s `pixel_unshuffle` it is channel,
    /// row, column.
    ///
    /// # Panics
    /// If the height or width is not a multiple of `block`.
    #[must_use]
    pub fn space_to_depth(&self, block: usize) -> Self {
        assert_eq!((self.h % block, self.w % block), (0, 0), "whole blocks");
        let (h, w) = (self.h / block, self.w / block);
        let mut blocks = Self::zeros(self.n, h, w, block * block * self.c);
        let run = block * self.c;
        let rows = blocks.data.par_chunks_exact_mut((w * block * run).max(1));
        rows.zip(self.data.par_chunks_exact((w * block * run).max(1)))
            .with_min_len(8)
            .for_each(|(to, from)| {
                for (i, row) in from.chunks_exact(w * run).enumerate() {
                    for (to, from) in to.chunks_exact_mut(block * run).zip(row.chunks_exact(run)) {
                        to[i * run..][..run].copy_from_slice(from);
                    }
                }
            });
        blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_become_pixels_as_onnx_says() {
        for (n, h, w, c, block) in [(2, 6, 12, 3, 2), (1, 3, 3, 2, 3), (1, 40, 20, 1, 1)] {
            let values = (0..n * h * w * c).map(|i| i as f32).collect();
            let images = Batch::new(n, h, w, c, values);
            let blocks = images.space_to_depth(block);
            assert_eq!(
                (blocks.n, blocks.h, blocks.w, blocks.c),
                (n, h / block, w / block, c * block * block)
            );
            for (i, y, x, k) in places(n, h, w, c) {
                // By ONNX's specification: channel (y % b · b + x % b) · c + k.
                let channel = (y % block * block + x % block) * c + k;
                let pixel = (y / block) * blocks.w + x / block;
                let got = blocks.image(i)[pixel * blocks.c + channel];
                assert_eq!(got, images.image(i)[(y * w + x) * c + k]);
            }
        }
    }

    fn places(
        n: usize,
        h: usize,
        w: usize,
        c: usize,
    ) -> impl Iterator<Item = (usize, usize, usize, usize)> {
        (0..n * h * w * c).map(move |i| (i / (h * w * c), i / (w * c) % h, i / c % w, i % c))
    }
}
