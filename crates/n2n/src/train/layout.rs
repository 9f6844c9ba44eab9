//! How the channels of a page are divided into training images.

use crate::image::Image;

/// How the channels of a page are divided into training images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// All channels of a page together. Pages have this number of channels, or are converted between gray and RGB.
    Together(usize),
    /// Each channel of a page separately, as a gray image.
    Independent,
}

impl From<usize> for Layout {
    fn from(channels: usize) -> Self {
        Self::Together(channels)
    }
}

impl Layout {
    /// The number of channels of a training image.
    pub fn channels(self) -> usize {
        match self {
            Self::Together(channels) => channels,
            Self::Independent => 1,
        }
    }

    /// The training images of a page: all channels together, or one channel by number.
    pub(super) fn parts(self, page: &Image) -> Vec<Option<usize>> {
        match self {
            Self::Independent if page.channels > 1 => (0..page.channels).map(Some).collect(),
            _ => vec![None],
        }
    }
}
