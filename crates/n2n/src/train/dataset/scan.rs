//! The scan of a source: which images can be trained on, and what is wrong with the others.

use std::ops::Range as Span;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::denoise::Survey;
use crate::error::{Error, Result};
use crate::image::{Depth, Image, Packed};
use crate::train::layout::Layout;
use crate::train::source::Source;

/// A training image: where it comes from, and what is known of it.
#[derive(Debug)]
pub(super) struct Entry {
    /// The item of the source, and the index of the page in it, from 0.
    pub(super) item: usize,
    pub(super) page: usize,
    /// The channel, from 0, if it is one of several.
    pub(super) channel: Option<usize>,
    /// The name of the item, the page if it is not the first, and the channel if it is one of several.
    pub(super) name: String,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) depth: Depth,
    /// The rows and columns that are used, unless it is the whole image.
    pub(super) part: Option<[Span<usize>; 2]>,
    /// The decoded image, if it fitted within the limit.
    pub(super) kept: Option<Arc<Packed>>,
}

/// The contents of an item.
pub(super) struct Scan {
    /// The usable pages.
    pub(super) entries: Vec<Entry>,
    /// A summary of their values.
    pub(super) seen: Survey,
    /// The errors of the others. After a page that cannot be decoded, no further page is read.
    pub(super) errors: Vec<Error>,
}

/// Scans an item. Images are kept in memory while there is `room`.
pub(super) fn scan(source: &dyn Source, item: usize, layout: Layout, room: &AtomicUsize) -> Scan {
    let mut scan = Scan {
        entries: vec![],
        seen: Survey::new(Survey::OF_ONE),
        errors: vec![],
    };
    let mut look = || {
        for (page, image) in source.images(item)?.enumerate() {
            let image = image?;
            for channel in layout.parts(&image) {
                match converted(&image, (source, item, page), layout, channel) {
                    Ok(image) => scan.add(&image, (source, item, page), channel, room),
                    Err(error) => scan.errors.push(error),
                }
            }
        }
        Ok(())
    };
    if let Err(error) = look() {
        scan.errors.push(error);
    }
    scan
}

impl Scan {
    fn add(
        &mut self,
        image: &Image,
        (source, item, page): (&dyn Source, usize, usize),
        channel: Option<usize>,
        room: &AtomicUsize,
    ) {
        let shape = (image.height, image.width, image.channels);
        self.seen.add_blocks(&image.data, shape, image.channels);
        let name = source.name(item);
        let page_of = if page == 0 {
            String::new()
        } else {
            format!(" page {}", page + 1)
        };
        let channel_of =
            channel.map_or(String::new(), |channel| format!(" channel {}", channel + 1));
        self.entries.push(Entry {
            item,
            page,
            channel,
            name: format!("{name}{page_of}{channel_of}"),
            height: image.height,
            width: image.width,
            depth: image.depth,
            part: None,
            kept: keep(image, source.in_memory(item, page), room),
        });
    }
}

/// An image with its channels converted, or a single channel of it. An image that cannot be trained on is an error.
pub(super) fn converted(
    image: &Image,
    (source, item, page): (&dyn Source, usize, usize),
    layout: Layout,
    channel: Option<usize>,
) -> Result<Image> {
    let wrong = |reason: String| Error::Image {
        path: source.path(item),
        reason: format!("page {} {reason}", page + 1),
    };
    image
        .check()
        .map_err(|error| wrong(format!("is invalid: {error}")))?;
    let image = match channel {
        // A source may change during a run.
        Some(channel) if channel >= image.channels => {
            return Err(wrong(format!("channel {} no longer exists", channel + 1)));
        }
        Some(channel) => image.channel(channel),
        None => image.clone(),
    };
    // Integers always are.
    let is_finite = image.data.iter().all(|value| value.is_finite());
    if !is_finite {
        let of = channel.map_or(String::new(), |channel| format!("channel {} ", channel + 1));
        return Err(wrong(format!("{of}contains values that are not finite")));
    }
    let channels = layout.channels();
    if image.channels != channels
        && ![image.channels, channels]
            .iter()
            .all(|c| matches!(c, 1 | 3))
    {
        return Err(wrong(format!(
            "has {} channels; expected {channels}, or independent channels",
            image.channels
        )));
    }
    Ok(image.with_channels(channels))
}

/// The samples of an image, if there is room for them or the source holds them anyway.
fn keep(image: &Image, in_memory: Option<Arc<Packed>>, room: &AtomicUsize) -> Option<Arc<Packed>> {
    if in_memory.as_ref().is_some_and(|packed| packed.is_of(image)) {
        return in_memory;
    }
    let packed = Packed::from(image);
    let bytes = packed.bytes();
    room.fetch_update(Relaxed, Relaxed, |room| room.checked_sub(bytes))
        .is_ok()
        .then(|| Arc::new(packed))
}
