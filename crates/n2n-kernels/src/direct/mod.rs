//! The direct algorithm, for every layer that does not use Winograd's: a convolution as a sum over taps.
//!
//! A 3×3 convolution has nine taps, a 1×1 convolution one. A transposed 2×2 convolution is four one-tap convolutions,
//! each writing every second pixel; its input gradient is one convolution with four taps that reads every second
//! pixel. [`TapConv`] computes `out[so·p + o] = bias + Σ_tap Σ_c in[si·p + tap][c] · w[tap][c]` over the channels of
//! one or more input tensors (a concatenation is never copied), and [`correlate`] computes the gradient of those
//! weights. Images of few channels are read from a copy without padding between pixels (`narrow`).
//!
//! Consecutive 1×1 convolutions are computed for a few pixels at a time: by a [`Chain`] forward, and by [`head`]
//! forward and backward in training.
//!
//! The register tile is 4 pixels × 3 vectors of output channels: twelve accumulators, three vectors of weights and
//! one broadcast pixel fill the sixteen registers of AVX2 exactly, and twelve independent sums hide the latency of
//! the multiply-add. AVX-512 uses an 8 × 6 tile where one strip covers all input channels. In the gradient, input
//! channels take the place of pixels.

mod chain;
mod forward;
mod gradient;
pub(crate) mod head;
mod narrow;

pub(crate) use chain::Chain;
pub(crate) use forward::TapConv;
pub(crate) use gradient::correlate;

use crate::Level;

/// Pixels of a register tile.
const TILE: usize = 4;
/// Pixels of a register tile of one vector.
const TALL: usize = 12;
/// Vectors of output channels in the register tile.
pub(crate) const WIDEST: usize = 3;
/// Maximum number of taps of a convolution here: 3×3.
const MAX_TAPS: usize = 9;

/// Vectors of output channels in a convolution's panels: those of the level's widest register tile where one strip
/// covers all input channels, but [`WIDEST`] where each tap has its own strip, because the sums of a wider tile are
/// stored to memory between strips.
pub(crate) fn widest(level: Level, taps: &[(isize, isize)]) -> usize {
    if taps.len() == 1 {
        level.widest()
    } else {
        WIDEST
    }
}

/// One input tensor as a row of tiles reads it.
struct Source<'a> {
    pub floats: &'a [f32],
    /// Where each tap of the first pixel begins.
    pub taps: [usize; MAX_TAPS],
    /// Floats from one grid pixel to the next.
    pub stride: usize,
    pub channels: usize,
}

/// Positions of the output pixels: pixel `p` of the convolution is pixel `stride · p + (dy, dx)` of the output
/// tensor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub stride: usize,
    pub dy: usize,
    pub dx: usize,
}

impl Place {
    /// Every pixel of the output.
    pub const EVERY: Self = Self {
        stride: 1,
        dy: 0,
        dx: 0,
    };
}

/// Whether every tap lies within the border of a tensor that is read at every `stride`-th pixel.
fn within_border(taps: &[(isize, isize)], stride: usize) -> bool {
    let near = if stride == 1 { -1..=1 } else { 0..=1 };
    taps.iter()
        .all(|(y, x)| near.contains(y) && near.contains(x))
}
