//! Which channels of a page go through the network together, for any pair of page and network.

use crate::error::{Error, Result};
use crate::image::{Color, LUMA, Page};
use crate::network::Denoise;

/// Which channels of a pixel go into the network together, and which come out.
#[derive(Debug, Clone, Copy)]
pub(super) enum View {
    /// This many channels from the first: all color channels.
    Together(usize),
    /// One channel, used for all three inputs; the luma of the output is kept.
    Tripled(usize),
    /// One channel in, one channel out.
    Single(usize),
    /// The first channel in; its result goes to this many channels, beginning with the first, which are all equal.
    Shared(usize),
}

/// The views of a page that the network needs.
pub(super) fn views(page: &Page, network: &dyn Denoise) -> Result<Vec<View>> {
    let (channels, taken) = (page.color.channels(), network.channels());
    let takes_gray = network.takes_gray();
    match (page.color, taken) {
        (Color::Rgb, _) if takes_gray && page.metadata.is_achromatic => {
            Ok(vec![View::Shared(channels)])
        }
        (Color::Rgb, 3) => Ok(vec![View::Together(3)]),
        (_, 1 | 3) if takes_gray => Ok((0..channels).map(View::Single).collect()),
        (_, 3) => Ok((0..channels).map(View::Tripled).collect()),
        _ if taken == channels => Ok(vec![View::Together(taken)]),
        _ => {
            let expected = format!("{taken}, as the network has");
            Err(Error::value("channels of the image", expected, channels))
        }
    }
}

impl View {
    /// The input channels, in order.
    pub(super) fn inputs(self) -> impl Iterator<Item = usize> {
        let (first, step, count) = match self {
            Self::Together(count) => (0, 1, count),
            Self::Tripled(c) => (c, 0, 3),
            Self::Single(c) => (c, 0, 1),
            Self::Shared(_) => (0, 0, 1),
        };
        (0..count).map(move |i| first + step * i)
    }

    /// Writes the network's values for a pixel into it.
    pub(super) fn put(self, values: &[f32], pixel: &mut [f32]) {
        match self {
            Self::Together(count) => pixel[..count].copy_from_slice(values),
            Self::Tripled(c) => pixel[c] = values.iter().zip(LUMA).map(|(v, l)| v * l).sum(),
            Self::Single(c) => pixel[c] = values[0],
            Self::Shared(count) => pixel[..count].fill(values[0]),
        }
    }
}
