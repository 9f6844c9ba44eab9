//! GIF: each frame as it is seen, a page of 8 bits; gray where all of it is, with transparency where it
//! has some.

use std::collections::VecDeque;
use std::io::Cursor;
use std::io::Read as _;

use ::image::codecs::gif::GifDecoder;
use ::image::metadata::Orientation;
use ::image::{AnimationDecoder, ImageDecoder};

use super::Depth;
use super::metadata::Metadata;
use super::page::{Color, Page};
use super::reader::{Decode, Decoded, Fault, Limits, Source, Whole, check_samples};

/// The frames that have not been given.
struct Frames {
    pages: VecDeque<(Page, Whole)>,
    rows: Option<Whole>,
}

/// Reads a GIF.
pub(super) fn decoder(source: Box<dyn Source>, limits: Limits) -> Decoded<Box<dyn Decode>> {
    let mut bytes = Vec::new();
    source.take(4 * limits.samples).read_to_end(&mut bytes)?;
    let mut decoder = GifDecoder::new(Cursor::new(bytes))?;
    let (width, height) = decoder.dimensions();
    let (height, width) = (height as usize, width as usize);
    check_samples(limits, height, width, 4)?;
    let mut allowed = ::image::Limits::no_limits();
    allowed.max_alloc = Some(4 * limits.samples);
    decoder.set_limits(allowed)?;
    let mut pages = VecDeque::new();
    for frame in decoder.into_frames() {
        let pixels = frame?.into_buffer().into_raw();
        let frames = pages.len() as u64 + 1;
        if frames * (height * width * 4) as u64 > limits.samples {
            return Err(Fault::new(format!(
                "its frames exceed the limit of {} values",
                limits.samples
            )));
        }
        pages.push_back(page(&pixels, height, width));
    }
    if pages.is_empty() {
        return Err(Fault::new("it has no frame"));
    }
    Ok(Box::new(Frames { pages, rows: None }))
}

/// A frame with no more channels than it needs.
fn page(pixels: &[u8], height: usize, width: usize) -> (Page, Whole) {
    let pixels = pixels.as_chunks::<4>().0;
    let is_opaque = pixels.iter().all(|pixel| pixel[3] == 255);
    let is_gray = pixels.iter().all(|&[r, g, b, _]| r == g && g == b);
    let (color, from) = if is_gray {
        (Color::Gray, 2)
    } else {
        (Color::Rgb, 0)
    };
    let to = if is_opaque { 3 } else { 4 };
    let samples = pixels
        .iter()
        .flat_map(|pixel| pixel[from..to].iter().copied());
    let page = Page {
        height,
        width,
        color,
        extra: usize::from(!is_opaque),
        depth: Depth::U8,
        orientation: Orientation::NoTransforms,
        metadata: Metadata::default(),
    };
    let whole = Whole::from_bytes(Depth::U8, page.row(), samples.collect());
    (page, whole)
}

impl Decode for Frames {
    fn next_page(&mut self) -> Decoded<Option<Page>> {
        let next = self.pages.pop_front();
        let (page, rows) = next.map_or((None, None), |(page, rows)| (Some(page), Some(rows)));
        self.rows = rows;
        Ok(page)
    }

    fn read_rows(&mut self, count: usize, rows: &mut Vec<f32>) -> Decoded<()> {
        match &mut self.rows {
            Some(whole) => whole.read_rows(count, rows),
            None => return Err(Fault::new("no frame has been begun")),
        }
        Ok(())
    }
}
