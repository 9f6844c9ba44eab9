//! The gradient of a convolution's weights: sums of outer products of pixels.

use rayon::prelude::*;

use super::{Place, within_border};
use crate::Level;
use crate::arch::{Kernel, LANES, Simd, Strip};
use crate::jobs::one_by_one;
use crate::tensor::Tensor;

/// The gradient of a convolution's weights: `dw[tap][c][o] = Σ_p in[p + tap][c] · dy[so·p + place][o]`, where the
/// grid of `p` is that of `dy` divided by `place.stride`.
///
/// `give(tap, c, o, value)` is called once for every weight, with input channels counted through all inputs.
///
/// The images are divided into at most [`IMAGE_PARTS`] parts. Sums run row by row within a part and then over the
/// parts in order, whatever the number of threads.
pub(crate) fn correlate(
    level: Level,
    inputs: &[(&Tensor, usize)],
    taps: &[(isize, isize)],
    dy: &Tensor,
    place: Place,
    mut give: impl FnMut(usize, usize, usize, f32),
) {
    let out = dy.shape();
    assert!((1..=2).contains(&place.stride) && place.dy.max(place.dx) < place.stride);
    assert_eq!(
        (out.h % place.stride, out.w % place.stride),
        (0, 0),
        "output size"
    );
    let grid = (out.h / place.stride, out.w / place.stride);
    assert!(within_border(taps, 1), "taps");
    for (input, channels) in inputs {
        let shape = input.shape();
        assert_eq!(shape.n, out.n, "batch");
        assert_eq!((shape.h, shape.w), grid, "input size");
        assert!(shape.c >= *channels, "input channels");
    }
    let parts = out.n.min(IMAGE_PARTS);
    let vectors = out.pixel_stride() / LANES;
    let widest = level.widest();
    let panels = vectors.div_ceil(widest);
    let channels: usize = inputs.iter().map(|(_, channels)| channels).sum();
    // A job is a part of the images, a panel of outputs and a tap: its sums stay in cache.
    let mut jobs = vec![];
    for part in 0..parts {
        for panel in 0..panels {
            for tap in 0..taps.len() {
                jobs.push((part, panel, tap));
            }
        }
    }
    let width = |panel: usize| (vectors - panel * widest).min(widest);
    let partial: Vec<Vec<f32>> = one_by_one(jobs.into_par_iter())
        .map(|(part, panel, tap)| {
            let images = out.n * part / parts..out.n * (part + 1) / parts;
            let mut sums = vec![0.0; channels * width(panel) * LANES];
            level.run(Correlation {
                inputs,
                tap: taps[tap],
                dy,
                place,
                images,
                grid,
                first: panel * widest * LANES,
                vectors: width(panel),
                sums: &mut sums,
            });
            sums
        })
        .collect();
    for panel in 0..panels {
        let width = width(panel) * LANES;
        for tap in 0..taps.len() {
            for c in 0..channels {
                for o in 0..width.min(out.c - panel * widest * LANES) {
                    let value = (0..parts)
                        .map(|part| {
                            partial[(part * panels + panel) * taps.len() + tap][c * width + o]
                        })
                        .sum();
                    give(tap, c, panel * widest * LANES + o, value);
                }
            }
        }
    }
}

/// Maximum number of parts that the images are divided into.
const IMAGE_PARTS: usize = 8;

/// Number of grid pixels (at least a row of them) whose products are summed in registers before they are added to
/// memory. It keeps a block in cache while all its channels are processed (decision 2).
const BLOCK_PIXELS: usize = 128;

struct Correlation<'a> {
    inputs: &'a [(&'a Tensor, usize)],
    tap: (isize, isize),
    dy: &'a Tensor,
    place: Place,
    images: std::ops::Range<usize>,
    grid: (usize, usize),
    /// The panel's first output channel, and its number of vectors.
    first: usize,
    vectors: usize,
    /// `[channel][vectors · LANES]`.
    sums: &'a mut [f32],
}

impl Kernel for Correlation<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match self.vectors {
            6 => self.panel::<S, 6>(simd),
            5 => self.panel::<S, 5>(simd),
            4 => self.panel::<S, 4>(simd),
            3 => self.panel::<S, 3>(simd),
            2 => self.panel::<S, 2>(simd),
            _ => self.panel::<S, 1>(simd),
        }
    }
}

impl Correlation<'_> {
    #[inline(always)]
    fn panel<S: Simd, const VECTORS: usize>(self, simd: S) {
        let (h, w) = self.grid;
        if h == 0 || w == 0 {
            return;
        }
        let rows = (BLOCK_PIXELS / w).clamp(1, h);
        let pixel = self.dy.shape().pixel_stride();
        for n in self.images.clone() {
            for y in (0..h).step_by(rows) {
                let block = rows.min(h - y);
                let begin = |at: usize| {
                    self.dy.offset(
                        n,
                        (at * self.place.stride + self.place.dy) as isize,
                        self.place.dx as isize,
                    ) + self.first
                };
                let dy = Pixels {
                    floats: self.dy.as_slice(),
                    begin: begin(y),
                    row: self.place.stride * self.dy.shape().row_stride(),
                    pixel: self.place.stride * pixel,
                };
                dy.check(block, w, VECTORS * LANES);
                let mut sums = &mut *self.sums;
                for (input, channels) in self.inputs {
                    let at = y as isize + self.tap.0;
                    let x = Pixels {
                        floats: input.as_slice(),
                        begin: input.offset(n, at, self.tap.1),
                        row: input.shape().row_stride(),
                        pixel: input.shape().pixel_stride(),
                    };
                    x.check(block, w, *channels);
                    let (mine, rest) = sums.split_at_mut(channels * VECTORS * LANES);
                    sums = rest;
                    // SAFETY: `check` covered `block` × `w` pixels of `dy` with VECTORS · LANES values each and of
                    // `x` with `channels` values each.
                    unsafe {
                        outer_products::<S, VECTORS>(simd, &x, *channels, &dy, (block, w), mine);
                    }
                }
            }
        }
    }
}

/// Adds the products of the channels of some pixels and their output gradients to the sums of a 1×1 convolution's
/// weight gradient.
pub(super) struct OuterProducts<'a> {
    /// Pixels, `x_stride` floats apart, of `channels` channels each, not counting padding.
    pub x: &'a [f32],
    pub x_stride: usize,
    pub channels: usize,
    /// The same number of adjacent pixels, padded to whole vectors.
    pub dy: &'a [f32],
    pub vectors: usize,
    pub count: usize,
    /// For each panel of the widest register tile, `[channel][vectors · LANES]`.
    pub sums: &'a mut [f32],
}

impl Kernel for OuterProducts<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        if self.count == 0 {
            return;
        }
        for first in (0..self.vectors).step_by(S::WIDEST) {
            match (self.vectors - first).min(S::WIDEST) {
                6 => self.panel::<S, 6>(simd, first),
                5 => self.panel::<S, 5>(simd, first),
                4 => self.panel::<S, 4>(simd, first),
                3 => self.panel::<S, 3>(simd, first),
                2 => self.panel::<S, 2>(simd, first),
                _ => self.panel::<S, 1>(simd, first),
            }
        }
    }
}

impl OuterProducts<'_> {
    #[inline(always)]
    fn panel<S: Simd, const VECTORS: usize>(&mut self, simd: S, first: usize) {
        let pixels = |floats, begin, pixel| Pixels {
            floats,
            begin,
            row: 0,
            pixel,
        };
        let x = pixels(self.x, 0, self.x_stride);
        let dy = pixels(self.dy, first * LANES, self.vectors * LANES);
        x.check(1, self.count, self.channels);
        dy.check(1, self.count, VECTORS * LANES);
        let sums = &mut self.sums[first * LANES * self.channels..];
        let sums = &mut sums[..self.channels * VECTORS * LANES];
        // SAFETY: `check` covered `count` pixels of `dy` with VECTORS · LANES values each and of `x` with
        // `channels` values each.
        unsafe {
            outer_products::<S, VECTORS>(simd, &x, self.channels, &dy, (1, self.count), sums);
        };
    }
}

/// [`outer_product`] for all `channels`, with sums laid out as `[channel][vectors · LANES]`.
///
/// # Safety
/// `h` × `w` pixels of `dy` must hold `VECTORS · LANES` values each, and those of `x` must hold `channels`.
#[inline(always)]
unsafe fn outer_products<S: Simd, const VECTORS: usize>(
    simd: S,
    x: &Pixels,
    channels: usize,
    dy: &Pixels,
    size: (usize, usize),
    sums: &mut [f32],
) {
    let (sums, _) = sums.as_chunks_mut::<LANES>();
    let (sums, _) = sums.as_chunks_mut::<VECTORS>();
    let mut c = 0;
    // SAFETY: the caller's obligation covers all of `channels`.
    unsafe {
        while S::ROWS == 8 && c + 8 <= channels {
            outer_product::<_, 8, _>(simd, x, c, dy, size, &mut sums[c..]);
            c += 8;
        }
        while c + 4 <= channels {
            outer_product::<_, 4, _>(simd, x, c, dy, size, &mut sums[c..]);
            c += 4;
        }
        while c < channels {
            outer_product::<_, 1, _>(simd, x, c, dy, size, &mut sums[c..]);
            c += 1;
        }
    }
}

/// A block of pixels of a tensor.
struct Pixels<'a> {
    floats: &'a [f32],
    begin: usize,
    /// Floats from one row to the next.
    row: usize,
    /// Floats from one pixel to the next.
    pixel: usize,
}

impl Pixels<'_> {
    /// Asserts that `h` × `w` pixels of `c` values are there.
    fn check(&self, h: usize, w: usize, c: usize) {
        assert!(self.begin + (h - 1) * self.row + (w - 1) * self.pixel + c <= self.floats.len());
    }
}

/// Adds the products of `CHANNELS` channels of `x`, from `channel` on, and the values of `dy` to `sums`, over `h` ×
/// `w` pixels.
///
/// # Safety
/// `h` × `w` pixels of `dy` must hold `VECTORS · LANES` values each, and those of `x` must hold `channel + CHANNELS`.
#[inline(always)]
unsafe fn outer_product<S: Simd, const CHANNELS: usize, const VECTORS: usize>(
    simd: S,
    x: &Pixels,
    channel: usize,
    dy: &Pixels,
    (h, w): (usize, usize),
    sums: &mut [[[f32; LANES]; VECTORS]],
) {
    let mut total = [[simd.splat(0.0); VECTORS]; CHANNELS];
    for row in 0..h {
        let strip = Strip {
            a: x.floats[x.begin + row * x.row + channel..].as_ptr(),
            rows: 1,
            step_a: x.pixel,
            b: dy.floats[dy.begin + row * dy.row..].as_ptr(),
            step_b: dy.pixel,
            count: w,
        };
        // SAFETY: the caller guarantees CHANNELS values of `x` and VECTORS vectors of `dy` at each of the row's `w`
        // pixels.
        unsafe { simd.multiply_add_strip(&mut total, strip) };
    }
    for (sums, total) in sums.iter_mut().zip(total) {
        for (sum, total) in sums.iter_mut().zip(total) {
            simd.store(simd.add(simd.load(sum), total), sum);
        }
    }
}
