//! Animations: each frame as displayed, as an 8-bit page. All pages have the same channels.

use std::vec;

use ::image::metadata::Orientation;

use super::Depth;
use super::decode::{Decode, Decoded, Fault, Limits, Whole, check_samples};
use super::metadata::Metadata;
use super::page::{Color, Page};

/// The frames that have not been returned yet.
struct Frames {
    height: usize,
    width: usize,
    color: Color,
    is_opaque: bool,
    /// The metadata of the file, for the first frame.
    metadata: Option<Metadata>,
    /// The metadata of the other frames.
    shared: Metadata,
    /// Red, green, blue and transparency of each.
    waiting: vec::IntoIter<Vec<u8>>,
    rows: Option<Whole>,
}

/// Refuses an animation of more pixels in memory than are accepted; what its decoder may take otherwise.
pub(super) fn check(limits: Limits, (width, height): (u32, u32)) -> Decoded<::image::Limits> {
    check_samples(limits, height as usize, width as usize, 4)?;
    let mut allowed = ::image::Limits::no_limits();
    allowed.max_alloc = Some(4 * limits.samples);
    Ok(allowed)
}

/// Reads all frames. They have the given color; if it is unknown, they are gray if all of them are. They have
/// transparency if one of them has.
pub(super) fn decoder(
    (width, height): (u32, u32),
    found: ::image::Frames<'_>,
    color: Option<Color>,
    mut metadata: Metadata,
    limits: Limits,
) -> Decoded<Box<dyn Decode>> {
    let mut frames: Vec<Vec<u8>> = Vec::new();
    let (mut is_gray, mut is_opaque) = (true, true);
    for frame in found {
        let frame = frame?.into_buffer().into_raw();
        if (frames.len() as u64 + 1) * frame.len() as u64 > limits.samples {
            return Err(Fault::new(format!(
                "its frames exceed the limit of {} values",
                limits.samples
            )));
        }
        let pixels = frame.as_chunks::<4>().0;
        is_gray &= pixels.iter().all(|&[r, g, b, _]| r == g && g == b);
        is_opaque &= pixels.iter().all(|pixel| pixel[3] == 255);
        frames.push(frame);
    }
    if frames.is_empty() {
        return Err(Fault::new("it has no frame"));
    }
    if frames.len() > 1 {
        metadata
            .notes
            .push("dropped: the timing of its frames".into());
    }
    let color = color.unwrap_or(if is_gray { Color::Gray } else { Color::Rgb });
    metadata.note_other_profile(color);
    Ok(Box::new(Frames {
        height: height as usize,
        width: width as usize,
        color,
        is_opaque,
        shared: Metadata {
            icc: metadata.icc.clone(),
            resolution: metadata.resolution,
            ..Metadata::default()
        },
        metadata: Some(metadata),
        waiting: frames.into_iter(),
        rows: None,
    }))
}

impl Decode for Frames {
    fn next_page(&mut self) -> Decoded<Option<Page>> {
        let Some(frame) = self.waiting.next() else {
            self.rows = None;
            return Ok(None);
        };
        let from = 3 - self.color.channels();
        let to = if self.is_opaque { 3 } else { 4 };
        let pixels = frame.as_chunks::<4>().0.iter();
        let samples = pixels.flat_map(|pixel| pixel[from..to].iter().copied());
        let metadata = self.metadata.take();
        let page = Page {
            height: self.height,
            width: self.width,
            color: self.color,
            extra: usize::from(!self.is_opaque),
            depth: Depth::U8,
            orientation: Orientation::NoTransforms,
            metadata: metadata.unwrap_or_else(|| self.shared.clone()),
        };
        self.rows = Some(Whole::from_bytes(Depth::U8, page.row(), samples.collect()));
        Ok(Some(page))
    }

    fn read_rows(&mut self, count: usize, rows: &mut Vec<f32>) -> Decoded<()> {
        match &mut self.rows {
            Some(whole) => whole.read_rows(count, rows),
            None => return Err(Fault::new("no frame has been begun")),
        }
        Ok(())
    }
}
