//! GIF: each frame as it is seen, a page of 8 bits; gray where all of it is, with transparency where it
//! has some.

use std::collections::VecDeque;
use std::io::{self, Cursor, Read};

use ::image::codecs::gif::GifDecoder;
use ::image::metadata::Orientation;
use ::image::{AnimationDecoder, ImageDecoder};

use super::Depth;
use super::decode::{Decode, Decoded, Fault, Limits, Source, Whole, check_samples};
use super::metadata::{self, Metadata};
use super::page::{Color, Page};

/// The frames that have not been given.
struct Frames {
    pages: VecDeque<(Page, Whole)>,
    rows: Option<Whole>,
}

/// Reads a GIF.
pub(super) fn decoder(source: Box<dyn Source>, limits: Limits) -> Decoded<Box<dyn Decode>> {
    let mut bytes = Vec::new();
    source.take(4 * limits.samples).read_to_end(&mut bytes)?;
    let comments = Contents::of(&bytes).comments;
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
    match pages.front_mut() {
        None => return Err(Fault::new("it has no frame")),
        Some((page, _)) => page.metadata.description = comments,
    }
    Ok(Box::new(Frames { pages, rows: None }))
}

/// Whether a GIF has more than one frame.
pub(super) fn is_animation(source: &mut impl Read) -> io::Result<bool> {
    let mut bytes = Vec::new();
    source.read_to_end(&mut bytes)?;
    Ok(Contents::of(&bytes).frames > 1)
}

/// What the blocks of a file contain.
struct Contents {
    comments: Option<String>,
    frames: usize,
}

impl Contents {
    /// Goes from block to block, and decodes none (GIF 89a, section 15 and appendix B).
    fn of(bytes: &[u8]) -> Self {
        /// The separators of blocks, and the label of a comment.
        const EXTENSION: u8 = 0x21;
        const COMMENT: u8 = 0xFE;
        const IMAGE: u8 = 0x2C;
        let table = |flags: u8| {
            if flags & 0x80 == 0 {
                0
            } else {
                3 << ((flags & 7) + 1)
            }
        };
        let flags = bytes.get(10).copied().unwrap_or(0);
        let mut at = 13 + table(flags);
        let (mut comments, mut frames) = (Vec::new(), 0);
        loop {
            let is_comment = matches!(bytes.get(at..), Some([EXTENSION, COMMENT, ..]));
            at += match bytes.get(at..) {
                Some([EXTENSION, _, ..]) => 2,
                // Place, size and flags, a table, and the size of a code.
                Some([IMAGE, _, _, _, _, _, _, _, _, flags, ..]) => {
                    frames += 1;
                    10 + table(*flags) + 1
                }
                _ => break,
            };
            let mut content = Vec::new();
            while let Some(&length) = bytes.get(at) {
                let end = at + 1 + usize::from(length);
                if is_comment {
                    content.extend_from_slice(bytes.get(at + 1..end).unwrap_or_default());
                }
                at = end;
                if length == 0 {
                    break;
                }
            }
            if is_comment {
                comments.push(content);
            }
        }
        Self {
            comments: metadata::text(&comments),
            frames,
        }
    }
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
