//! A page as shown on screen.

use std::path::Path;
use std::sync::Arc;

use n2n::Image;
use n2n::image::{Depth, Page, Pages, Reader};
use wasm_bindgen::prelude::*;

use crate::error;
use crate::picture::{LIMITS, scale};

/// A page in 8-bit RGBA, reduced by an integer factor if it has too many pixels to show. Not rotated upright.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Preview {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// How to rotate it upright, as in Exif: 1 to 8.
    pub orientation: u8,
    bounds: (f32, f32),
    rgba: Vec<u8>,
}

#[wasm_bindgen]
impl Preview {
    /// The first page of a file, reduced to at most about `most_pixels`, each the mean of the pixels it represents.
    /// `bounds` are the values shown as black and white, on a scale of 0 to 1 for unsigned integers of 8 and 16 bits
    /// and otherwise in the units of the file; by default, those that map to the network's 0 and 1.
    ///
    /// # Errors
    /// If it is not a picture, or too large for WebAssembly.
    #[wasm_bindgen(constructor)]
    pub fn new(
        bytes: Vec<u8>,
        name: &str,
        most_pixels: usize,
        bounds: Option<Box<[f32]>>,
    ) -> Result<Preview, JsError> {
        let bounds = bounds.and_then(|bounds| match *bounds {
            [low, high] => Some((low, high)),
            _ => None,
        });
        Self::of(&bytes.into(), name.as_ref(), most_pixels, bounds).map_err(error)
    }

    /// The values shown as black and white, on the scale of [`Preview::new`].
    #[wasm_bindgen(getter)]
    pub fn bounds(&self) -> Vec<f32> {
        vec![self.bounds.0, self.bounds.1]
    }

    /// `4 · width · height` bytes.
    #[wasm_bindgen(getter)]
    pub fn rgba(&self) -> Vec<u8> {
        self.rgba.clone()
    }
}

impl Preview {
    fn of(
        bytes: &Arc<[u8]>,
        name: &Path,
        most_pixels: usize,
        bounds: Option<(f32, f32)>,
    ) -> n2n::Result<Self> {
        let open = || Reader::from_bytes(name, Arc::clone(bytes), LIMITS);
        let mut pages = open()?;
        let Some(page) = pages.next_image()? else {
            return Err(n2n::Error::Image {
                path: name.into(),
                reason: "not a readable image: it has no page".into(),
            });
        };
        let (low, high) = if let Some(bounds) = bounds {
            bounds
        } else {
            let scale = scale(&mut open()?, page.depth)?;
            (scale.low, scale.high)
        };
        let size = |factor: usize| (page.width.div_ceil(factor), page.height.div_ceil(factor));
        let fits = |factor: &usize| size(*factor).0 * size(*factor).1 <= most_pixels.max(1);
        let most = page.width.max(page.height);
        let factor = (1..most).find(fits).unwrap_or(most);
        let (width, height) = size(factor);
        let samples = page.samples();
        let channels = page.color.channels();
        // Gray images, and the first of many channels, are shown with equal red, green and blue.
        let colors = if channels < 3 { [0; 3] } else { [0, 1, 2] };
        let alpha = (page.extra == 1).then_some(channels);
        let mut rgba = Vec::with_capacity(4 * width * height);
        let mut rows = Vec::new();
        for top in (0..page.height).step_by(factor) {
            let count = factor.min(page.height - top);
            rows.clear();
            pages.read_rows(count, &mut rows)?;
            let mut line = Vec::with_capacity(4 * width);
            for left in (0..page.width).step_by(factor) {
                let right = (left + factor).min(page.width);
                let mean = |channel: usize| {
                    let values = (0..count).flat_map(|y| {
                        let row = y * page.width;
                        (row + left..row + right).map(move |pixel| pixel * samples + channel)
                    });
                    values.map(|at| rows[at]).sum::<f32>() / (count * (right - left)) as f32
                };
                line.extend(colors.map(|channel| (mean(channel) - low) / (high - low)));
                line.push(alpha.map_or(1.0, |channel| mean(channel) / opaque(&page)));
            }
            let line = Image::from_f32(1, width, 4, line)?;
            rgba.extend(line.to_u8());
        }
        Ok(Self {
            width,
            height,
            orientation: page.orientation.to_exif(),
            bounds: (low, high),
            rgba,
        })
    }
}

/// The alpha value that means opaque: the largest integer, or 1 for floats, as the page returns it.
fn opaque(page: &Page) -> f32 {
    match page.depth {
        Depth::U8 | Depth::U16 | Depth::F32 | Depth::F64 => 1.0,
        Depth::I8 => i8::MAX.into(),
        Depth::I16 => i16::MAX.into(),
        Depth::U32 => u32::MAX as f32,
        Depth::I32 => i32::MAX as f32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_alpha_value_is_opaque_in_signed_types_too() {
        let mut tiff = include_bytes!("../../../tests/golden/images/rgba_u16.tif").to_vec();
        let shown = |tiff: &[u8]| {
            let preview = Preview::new(tiff.to_vec(), "a.tif", 1000, None).unwrap();
            (preview.rgba.iter().copied().skip(3).step_by(4)).collect::<Vec<u8>>()
        };
        let unsigned = shown(&tiff);
        // The entry of the unit of the resolution becomes one that declares signed samples.
        let unit = b"\x28\x01\x03\0\x01\0\0\0";
        let entry = tiff.windows(8).position(|bytes| bytes == unit).unwrap();
        tiff[entry..entry + 12].copy_from_slice(b"\x53\x01\x03\0\x01\0\0\0\x02\0\0\0");
        for (signed, unsigned) in shown(&tiff).into_iter().zip(unsigned) {
            // Values from 32,768 on are negative, and thus transparent.
            let expected = if unsigned < 128 { 2 * unsigned } else { 0 };
            assert!(signed.abs_diff(expected) <= 2, "{signed} {unsigned}");
        }
    }
}
