//! Animations: each frame as displayed, as a page. All pages have the same channels.

use std::vec;

use ::image::metadata::Orientation;

use super::Depth;
use super::decode::{Decode, Decoded, Fault, Limits, Whole, check_samples};
use super::metadata::Metadata;
use super::page::{Color, Page};

/// Red, green, blue and transparency.
pub(super) type Pixel<T> = [T; 4];

/// A sample of a frame: 8 or 16 bits.
pub(super) trait Sample: Copy + PartialEq + Into<f64> + Send + 'static {
    const DEPTH: Depth;
    const MIN: Self;
    const MAX: Self;
    /// The nearest sample.
    fn rounded(value: f64) -> Self;
    /// Samples from big-endian bytes.
    fn of_bytes(bytes: &[u8]) -> Vec<Self>;
    /// The samples of a page.
    fn whole(row: usize, samples: Vec<Self>) -> Whole;
}

impl Sample for u8 {
    const DEPTH: Depth = Depth::U8;
    const MIN: Self = 0;
    const MAX: Self = Self::MAX;

    fn rounded(value: f64) -> Self {
        value.round() as Self
    }

    fn of_bytes(bytes: &[u8]) -> Vec<Self> {
        bytes.to_vec()
    }

    fn whole(row: usize, samples: Vec<Self>) -> Whole {
        Whole::from_bytes(Depth::U8, row, samples)
    }
}

impl Sample for u16 {
    const DEPTH: Depth = Depth::U16;
    const MIN: Self = 0;
    const MAX: Self = Self::MAX;

    fn rounded(value: f64) -> Self {
        value.round() as Self
    }

    fn of_bytes(bytes: &[u8]) -> Vec<Self> {
        let words = bytes.as_chunks().0.iter();
        words.map(|&word| Self::from_be_bytes(word)).collect()
    }

    fn whole(row: usize, samples: Vec<Self>) -> Whole {
        Whole::from_words(row, samples)
    }
}

/// The frames that have not been returned yet.
struct Frames<T> {
    height: usize,
    width: usize,
    color: Color,
    is_opaque: bool,
    /// The metadata of the file, for the first frame.
    metadata: Option<Metadata>,
    /// The metadata of the other frames.
    shared: Metadata,
    waiting: vec::IntoIter<Vec<Pixel<T>>>,
    rows: Option<Whole>,
}

/// Refuses an animation with more pixels in memory than are accepted; otherwise returns the limits of its decoder.
pub(super) fn check(limits: Limits, (width, height): (u32, u32)) -> Decoded<::image::Limits> {
    check_samples(limits, height as usize, width as usize, 4)?;
    let mut allowed = ::image::Limits::no_limits();
    allowed.max_alloc = Some(4 * limits.samples);
    Ok(allowed)
}

/// Reads all frames. They have the given color; if it is unknown, they are gray if all of them are. They have
/// transparency if one of them has.
pub(super) fn decoder<T: Sample>(
    (width, height): (u32, u32),
    found: impl Iterator<Item = Decoded<Vec<Pixel<T>>>>,
    color: Option<Color>,
    mut metadata: Metadata,
    limits: Limits,
) -> Decoded<Box<dyn Decode>> {
    let mut frames: Vec<Vec<Pixel<T>>> = Vec::new();
    let (mut is_gray, mut is_opaque) = (true, true);
    for frame in found {
        let frame = frame?;
        if (frames.len() as u64 + 1) * 4 * frame.len() as u64 > limits.samples {
            return Err(Fault::new(format!(
                "its frames exceed the limit of {} values",
                limits.samples
            )));
        }
        is_gray &= frame.iter().all(|&[r, g, b, _]| r == g && g == b);
        is_opaque &= frame.iter().all(|pixel| pixel[3] == T::MAX);
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

impl<T: Sample> Decode for Frames<T> {
    fn next_page(&mut self) -> Decoded<Option<Page>> {
        let Some(frame) = self.waiting.next() else {
            self.rows = None;
            return Ok(None);
        };
        let from = 3 - self.color.channels();
        let to = if self.is_opaque { 3 } else { 4 };
        let samples = frame
            .iter()
            .flat_map(|pixel| pixel[from..to].iter().copied());
        let metadata = self.metadata.take();
        let page = Page {
            height: self.height,
            width: self.width,
            color: self.color,
            extra: usize::from(!self.is_opaque),
            depth: T::DEPTH,
            orientation: Orientation::NoTransforms,
            metadata: metadata.unwrap_or_else(|| self.shared.clone()),
        };
        self.rows = Some(T::whole(page.row_len(), samples.collect()));
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

/// Where and how a frame is drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) left: usize,
    pub(super) top: usize,
    pub(super) width: usize,
    pub(super) height: usize,
    /// Whether it is blended with what is there, or replaces it.
    pub(super) blends: bool,
    pub(super) disposal: Disposal,
}

/// What happens to the area of a frame before the next one is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disposal {
    /// Nothing.
    Keep,
    /// It becomes transparent.
    Clear,
    /// It becomes what it was before the frame.
    Restore,
}

/// The image that frames are drawn on, transparent at first.
pub(super) struct Canvas<T> {
    width: usize,
    height: usize,
    pixels: Vec<Pixel<T>>,
}

impl<T: Sample> Canvas<T> {
    /// A transparent image; the caller has checked its size.
    pub(super) fn new((width, height): (u32, u32)) -> Self {
        let (width, height) = (width as usize, height as usize);
        Self {
            width,
            height,
            pixels: vec![[T::MIN; 4]; width * height],
        }
    }

    /// Rejects a place that is not inside the image.
    pub(super) fn check(&self, place: &Place) -> Decoded<()> {
        let fits = |start: usize, length: usize, side: usize| {
            length > 0 && start.checked_add(length).is_some_and(|end| end <= side)
        };
        if fits(place.left, place.width, self.width) && fits(place.top, place.height, self.height) {
            Ok(())
        } else {
            Err(Fault::new("one of its frames lies outside the image"))
        }
    }

    /// The part of a place that is inside the image; it may be empty.
    pub(super) fn clipped(&self, place: &Place) -> Place {
        let (left, top) = (place.left.min(self.width), place.top.min(self.height));
        Place {
            left,
            top,
            width: place.width.min(self.width - left),
            height: place.height.min(self.height - top),
            ..*place
        }
    }

    /// Draws a frame, whose place the caller has checked or clipped, and returns the image displayed.
    pub(super) fn draw(&mut self, place: &Place, frame: &[Pixel<T>]) -> Vec<Pixel<T>> {
        let before = (place.disposal == Disposal::Restore).then(|| self.pixels.clone());
        for (row, above) in self.rows(place).zip(frame.chunks_exact(place.width.max(1))) {
            for (below, &above) in row.iter_mut().zip(above) {
                *below = if place.blends {
                    blend(above, *below)
                } else {
                    above
                };
            }
        }
        let seen = self.pixels.clone();
        match (place.disposal, before) {
            (_, Some(before)) => self.pixels = before,
            (Disposal::Clear, _) => self.rows(place).for_each(|row| row.fill([T::MIN; 4])),
            _ => {}
        }
        seen
    }

    /// The pixels of a place, row by row.
    fn rows(&mut self, place: &Place) -> impl Iterator<Item = &mut [Pixel<T>]> {
        let columns = place.left..place.left + place.width;
        let rows = self.pixels.chunks_exact_mut(self.width);
        rows.skip(place.top)
            .take(place.height)
            .map(move |row| &mut row[columns.clone()])
    }
}

/// One pixel over another, with straight alpha (Portable Network Graphics, third edition, section 13.16; the same in
/// WebP).
fn blend<T: Sample>(above: Pixel<T>, below: Pixel<T>) -> Pixel<T> {
    if above[3] == T::MAX || below[3] == T::MIN {
        return above;
    }
    if above[3] == T::MIN {
        return below;
    }
    let most: f64 = T::MAX.into();
    let (a, b): (f64, f64) = (above[3].into(), below[3].into());
    let b = b * (1.0 - a / most);
    let mut seen = [T::rounded(a + b); 4];
    for ((to, above), below) in seen.iter_mut().zip(above).zip(below).take(3) {
        let (above, below): (f64, f64) = (above.into(), below.into());
        *to = T::rounded((a * above + b * below) / (a + b));
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHITE: Pixel<u8> = [255; 4];
    const RED: Pixel<u8> = [255, 0, 0, 255];
    const CLEAR: Pixel<u8> = [0; 4];

    /// The left or right pixel of two.
    fn place(left: usize, blends: bool, disposal: Disposal) -> Place {
        Place {
            left,
            top: 0,
            width: 1,
            height: 1,
            blends,
            disposal,
        }
    }

    #[test]
    fn a_frame_stays_or_is_cleared_or_undone() {
        for (disposal, left) in [
            (Disposal::Keep, RED),
            (Disposal::Clear, CLEAR),
            (Disposal::Restore, WHITE),
        ] {
            let mut canvas = Canvas::new((2, 1));
            canvas.draw(&place(0, false, Disposal::Keep), &[WHITE]);
            let seen = canvas.draw(&place(0, false, disposal), &[RED]);
            assert_eq!(seen, [RED, CLEAR]);
            let seen = canvas.draw(&place(1, false, Disposal::Keep), &[WHITE]);
            assert_eq!(seen, [left, WHITE], "{disposal:?}");
        }
    }

    #[test]
    fn blending_weighs_colors_by_what_is_seen_of_them() {
        let half_red = [65535_u16, 0, 0, 32768];
        // Red is half of what is seen over opaque white, and two thirds over green of the same transparency, of which a
        // quarter is seen.
        let mut seen = blend(half_red, [65535; 4]);
        assert_eq!(seen, [65535, 32767, 32767, 65535]);
        seen = blend(half_red, [0, 65535, 0, 32768]);
        assert_eq!(seen, [43690, 21845, 0, 49152]);
        assert_eq!(blend([9, 9, 9, 0], half_red), half_red);
        assert_eq!(blend(half_red, [9, 9, 9, 0]), half_red);

        let mut canvas = Canvas::new((1, 1));
        canvas.draw(&place(0, false, Disposal::Keep), &[RED]);
        let replaced = canvas.draw(&place(0, false, Disposal::Keep), &[[1, 2, 3, 4]]);
        assert_eq!(replaced, [[1, 2, 3, 4]]);
    }

    #[test]
    fn places_outside_the_image_are_refused() {
        let canvas = Canvas::<u8>::new((2, 1));
        assert!(canvas.check(&place(1, true, Disposal::Keep)).is_ok());
        for left in [2, usize::MAX] {
            assert!(canvas.check(&place(left, true, Disposal::Keep)).is_err());
        }
        let empty = Place {
            width: 0,
            ..place(0, true, Disposal::Keep)
        };
        assert!(canvas.check(&empty).is_err());
    }
}
