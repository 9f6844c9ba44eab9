//! An image of a data set, with values as the network sees them.

use std::borrow::Cow;

use crate::denoise::{Scale, Transform};
use crate::image::Packed;

/// An image with values as the network sees them.
#[derive(Debug)]
pub struct Scaled<'a> {
    pub(super) image: Cow<'a, Packed>,
    /// `None` leaves values unchanged, bit for bit.
    pub(super) scale: Option<Scale>,
    pub(super) transform: Option<&'a Transform>,
}

impl Scaled<'_> {
    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.image.height()
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.image.width()
    }

    /// [`Packed::crop`], with values as the network sees them.
    pub fn crop(&self, top: usize, left: usize, side: usize, out: &mut [f32]) {
        self.image.crop(top, left, side, out);
        if let Some(scale) = self.scale {
            for value in out {
                *value = scale.to_network(*value);
                if let Some(transform) = self.transform {
                    *value = transform.to_network(*value);
                }
            }
        }
    }

    /// The unscaled image, if the network sees its bytes as 0..1.
    pub fn bytes(&self) -> Option<&Packed> {
        let is_bytes = self.scale.is_none() && self.image.is_bytes();
        is_bytes.then_some(&self.image)
    }
}

impl From<Packed> for Scaled<'_> {
    /// The unscaled image.
    fn from(image: Packed) -> Self {
        Self {
            image: Cow::Owned(image),
            scale: None,
            transform: None,
        }
    }
}
