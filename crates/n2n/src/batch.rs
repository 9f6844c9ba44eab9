//! A batch of images of one size: what the loader makes, the noise corrupts and the network takes.

/// `n` images of `h` × `w` pixels with `c` channels, as `f32` in the order n, h, w, c.
///
/// Clean pixels lie in 0..1; noisy ones may lie outside, for noise is not clipped.
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
}
