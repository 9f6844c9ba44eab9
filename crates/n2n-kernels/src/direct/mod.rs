//! The one direct algorithm under every layer that Winograd's does not serve: a convolution as a sum
//! over taps.
//!
//! A 3×3 convolution has nine taps, a 1×1 one has one; a transposed 2×2 convolution is four
//! one-tap convolutions onto every second pixel, and its input gradient one convolution with four
//! taps from every second pixel. [`TapConv`] computes
//! `out[so·p + o] = bias + Σ_tap Σ_c in[si·p + tap][c] · w[tap][c]`
//! over the channels of one or several input tensors (a concatenation is never copied), and
//! [`correlate`] the gradient of those weights. An image of few channels is read from a copy without the
//! padding between its pixels (`narrow`).
//!
//! 1×1 convolutions one after another go some pixels at a time: a [`Chain`] forward, those that learn
//! forward and backward ([`head`]).
//!
//! The register tile is 4 pixels × 3 vectors of output channels: twelve accumulators, three vectors
//! of weights and one broadcast pixel fill the sixteen registers of AVX2 exactly, and twelve
//! independent sums hide the latency of the multiply-add. AVX-512 has one of 8 × 6, where one
//! strip goes through all input channels. The gradient has input channels in place of pixels.

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
/// Vectors of output channels of the register tile.
pub(crate) const WIDEST: usize = 3;
/// The most taps of a convolution here: 3×3.
const MAX_TAPS: usize = 9;

/// Vectors of output channels of a convolution's panels: those of the level's widest register tile where
/// one strip goes through all input channels, [`WIDEST`] where there is one a tap, for the sums of a wider
/// tile lie in memory between strips.
pub(crate) fn widest(level: Level, taps: &[(isize, isize)]) -> usize {
    if taps.len() == 1 {
        level.widest()
    } else {
        WIDEST
    }
}

/// Where output pixels lie: pixel `p` of the convolution is pixel `stride · p + (dy, dx)` of the
/// output tensor.
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

/// Whether every tap lies in the border of a tensor that is read at every `stride`-th pixel.
fn within_border(taps: &[(isize, isize)], stride: usize) -> bool {
    let near = if stride == 1 { -1..=1 } else { 0..=1 };
    taps.iter()
        .all(|(y, x)| near.contains(y) && near.contains(x))
}
