//! The training images: found and decoded once at the start, kept in memory as far as a limit goes.
//!
//! Decoding everything first costs about two milliseconds an image and a core, and settles at the
//! start what could otherwise stop a run on its second day: which files are images, how many there
//! are, which are smaller than a patch.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range as Span;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use rayon::prelude::*;

use crate::denoise::{ModelRange, Range, Scale, Survey, Transform};
use crate::diagnose::Frame;
use crate::error::{Error, Result};
use crate::image::{Depth, Image, Packed};
use crate::repair::{Repair, Repaired, Repairer};
use crate::train::Event;
use crate::train::random::fnv1a;
use crate::train::source::{Folder, Source};

/// Images decoded between two reports of progress.
const STRIDE: usize = 64;

/// What is one image to the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// All channels of a page, which are so many, or else gray or RGB and converted to the other.
    Together(usize),
    /// Each channel of a page by itself, as a gray image.
    Independent,
}

impl From<usize> for Layout {
    fn from(channels: usize) -> Self {
        Self::Together(channels)
    }
}

impl Layout {
    /// The channels of an image.
    pub fn channels(self) -> usize {
        match self {
            Self::Together(channels) => channels,
            Self::Independent => 1,
        }
    }

    /// Which channels of a page are images: all together, or those with a number.
    fn parts(self, page: &Image) -> Vec<Option<usize>> {
        match self {
            Self::Independent if page.channels > 1 => (0..page.channels).map(Some).collect(),
            _ => vec![None],
        }
    }
}

/// Readable images in the order of their source, all with the same channels.
#[derive(Debug)]
pub struct Dataset {
    source: Arc<dyn Source>,
    images: Vec<Entry>,
    layout: Layout,
    /// What is known of the values of all images.
    survey: Survey,
    /// Which of them are the network's 0 and 1.
    range: Range,
    /// What the network sees in the place of values of that range.
    transform: Option<Transform>,
    /// How images are repaired once they are decoded.
    repairer: Option<Repairer>,
}

/// An image as the network is to see it.
#[derive(Debug)]
pub struct Scaled<'a> {
    image: Cow<'a, Packed>,
    /// None leaves values as they are, to the last bit.
    scale: Option<Scale>,
    transform: Option<&'a Transform>,
}

#[derive(Debug)]
struct Entry {
    /// Which item of the source it is of, and its place there, from 0.
    item: usize,
    page: usize,
    /// The channel, from 0, if it is one of several.
    channel: Option<usize>,
    /// The name of the item, the page if it is not the first, and the channel if it is one of several.
    name: String,
    height: usize,
    width: usize,
    depth: Depth,
    /// The rows and columns that are meant, if that is not the whole image.
    part: Option<[Span<usize>; 2]>,
    /// The decoded image, when the limit left room for it.
    kept: Option<Arc<Packed>>,
}

impl Dataset {
    /// [`Dataset::read`] of the images below `folder`, but those in `excluded`.
    ///
    /// A folder without a single file of the right name is an error.
    pub fn open(
        folder: &Path,
        excluded: &[&Path],
        layout: impl Into<Layout>,
        cache_bytes: usize,
        observe: &mut dyn FnMut(&Event),
    ) -> Result<Self> {
        let source = Arc::new(Folder::open(folder, excluded)?);
        Ok(Self::read(source, layout, cache_bytes, observe))
    }

    /// Goes through the images of a source, with channels as `layout` says; those that cannot be
    /// decoded or converted are reported and left out. Images are kept in memory up to `cache_bytes` in all,
    /// beside those that the source has there.
    pub fn read(
        source: Arc<dyn Source>,
        layout: impl Into<Layout>,
        cache_bytes: usize,
        observe: &mut dyn FnMut(&Event),
    ) -> Self {
        let layout = layout.into();
        let total = source.len();
        let room = AtomicUsize::new(cache_bytes);
        let mut images = Vec::with_capacity(total);
        let mut survey = Survey::new(Survey::OF_ALL);
        for done in (0..total).step_by(STRIDE) {
            observe(&Event::Scanned { done, total });
            let scanned: Vec<_> = (done..total.min(done + STRIDE))
                .into_par_iter()
                .map(|item| scan(&*source, item, layout, &room))
                .collect();
            for Scan {
                entries,
                seen,
                errors,
            } in scanned
            {
                images.extend(entries);
                survey.add(&seen);
                for error in errors {
                    observe(&Event::Skipped { error });
                }
            }
        }
        observe(&Event::Scanned { done: total, total });
        Self {
            source,
            images,
            layout,
            survey,
            range: Range::Auto,
            transform: None,
            repairer: None,
        }
    }

    /// The type of all images, if they have one.
    pub fn depth(&self) -> Option<Depth> {
        let first = self.images.first()?.depth;
        let same = self.images.iter().all(|entry| entry.depth == first);
        same.then_some(first)
    }

    /// The range that all images together need. None if they are of several types, or hold one value
    /// alone.
    pub fn measured_range(&self) -> Option<ModelRange> {
        ModelRange::measured(self.depth()?, &self.survey)
    }

    /// The range that has been set.
    pub fn range(&self) -> Range {
        self.range
    }

    /// The range that has been set with the type of the images, of the first if they have several. None
    /// if values are as in the files.
    pub fn model_range(&self) -> Option<ModelRange> {
        match (self.range, self.images.first()) {
            (Range::Between(low, high), Some(&Entry { depth, .. })) => {
                Some(ModelRange { low, high, depth })
            }
            _ => None,
        }
    }

    /// From here on the values of [`Self::image`] are those of a range: of [`Range::Between`], in the
    /// units of the files. With any other they are 0..1 from integers, and floats as they are.
    pub fn set_range(&mut self, range: Range) {
        self.range = range;
    }

    /// From here on the values of [`Self::image`] that a range has made 0..1 are those that a transform makes of them.
    pub fn set_transform(&mut self, transform: Option<Transform>) {
        self.transform = transform;
    }

    /// Repairs all images, by what their middles say of the noise; of those in memory, the sum of what was done.
    ///
    /// # Errors
    /// An image that can no longer be decoded.
    pub fn repair(&mut self, what: Repair) -> Result<Repaired> {
        let mut all = Repaired::default();
        if what.is_none() || self.images.is_empty() {
            return Ok(all);
        }
        let repairer = Repairer::measure(&self.middles(8, 512)?, what)?;
        let done: Vec<_> = self
            .images
            .par_iter_mut()
            .filter_map(|entry| {
                let kept = entry.kept.as_mut()?;
                let mut image = kept.to_image();
                image.depth = entry.depth;
                let repaired = repairer.repair(&mut image);
                *kept = Arc::new(Packed::from(&unrounded(image)));
                Some(repaired)
            })
            .collect();
        for repaired in done {
            all += repaired;
        }
        self.repairer = Some(repairer);
        Ok(all)
    }

    /// What is known of the values of all images.
    pub fn survey(&self) -> &Survey {
        &self.survey
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    /// Whether no image could be decoded.
    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// Channels of every image.
    pub fn channels(&self) -> usize {
        self.layout.channels()
    }

    /// Height and width of each image.
    pub fn sizes(&self) -> impl Iterator<Item = (usize, usize)> {
        self.images.iter().map(|entry| (entry.height, entry.width))
    }

    /// The name of an image: that of its item, with the page if it is not the first.
    pub fn name(&self, index: usize) -> &str {
        &self.images[index].name
    }

    /// A number that stands for the images: another one if there are others, or of other sizes.
    pub fn fingerprint(&self) -> u64 {
        let mut text = vec![];
        for Entry {
            name,
            height,
            width,
            ..
        } in &self.images
        {
            text.extend(format!("{name}\0{height}x{width}\0").into_bytes());
        }
        fnv1a(&text)
    }

    /// Takes the images `indices` out, into a data set of their own, in the order they have here.
    #[must_use]
    pub fn take(&mut self, indices: &[usize]) -> Self {
        let wanted: HashSet<_> = indices.iter().collect();
        let mut index = 0..;
        let (taken, kept) = std::mem::take(&mut self.images)
            .into_iter()
            .partition(|_| index.next().is_some_and(|index| wanted.contains(&index)));
        self.images = kept;
        Self {
            source: Arc::clone(&self.source),
            images: taken,
            layout: self.layout,
            survey: Survey::new(1),
            range: self.range,
            transform: self.transform.clone(),
            repairer: self.repairer.clone(),
        }
    }

    /// Cuts the last quarter of the only image off, at most `side` pixels of its longer side, into a data
    /// set of its own. Of an image that cannot be cut, or of several, nothing is.
    pub fn take_part(&mut self, side: usize) -> Result<Self> {
        let nothing = self.take(&[]);
        let [whole] = self.images.as_slice() else {
            return Ok(nothing);
        };
        let (h, w) = (whole.height, whole.width);
        let cut = (h.max(w) / 4).min(side);
        if cut == 0 {
            return Ok(nothing);
        }
        let parts = if h > w {
            [[0..h - cut, 0..w], [h - cut..h, 0..w]]
        } else {
            [[0..h, 0..w - cut], [0..h, w - cut..w]]
        };
        let image = self.decoded(whole)?;
        let [left, taken] = parts.map(|part| Entry {
            item: whole.item,
            page: whole.page,
            channel: whole.channel,
            name: format!("{} rows {:?}, columns {:?}", whole.name, part[0], part[1]),
            height: part[0].len(),
            width: part[1].len(),
            depth: whole.depth,
            kept: (whole.kept.as_ref()).map(|_| Arc::new(Packed::from(&part_of(&image, &part)))),
            part: Some(part),
        });
        self.images = vec![left];
        Ok(Self {
            images: vec![taken],
            ..nothing
        })
    }

    /// An image, from memory or from its file.
    pub fn image(&self, index: usize) -> Result<Scaled<'_>> {
        let entry = &self.images[index];
        let scale = match self.range {
            Range::Between(..) => Some(self.range.scale(entry.depth, None)),
            _ => None,
        };
        let transform = self.transform.as_ref().filter(|_| scale.is_some());
        if let Some(image) = &entry.kept {
            let image = Cow::Borrowed(&**image);
            return Ok(Scaled {
                image,
                scale,
                transform,
            });
        }
        let mut image = self.decoded(entry)?;
        if let Some(part) = &entry.part {
            image = part_of(&image, part);
        }
        let image = Cow::Owned(Packed::from(&image));
        Ok(Scaled {
            image,
            scale,
            transform,
        })
    }

    /// All of the image that an entry is of.
    fn decoded(&self, entry: &Entry) -> Result<Image> {
        let image = self.source.image(entry.item, entry.page)?;
        let from = (&*self.source, entry.item, entry.page);
        let mut image = converted(&image, from, self.layout, entry.channel)?;
        if let Some(repairer) = &self.repairer {
            repairer.repair(&mut image);
            image = unrounded(image);
        }
        Ok(image)
    }
}

impl Dataset {
    /// The middles of at most `most` images, as far apart as they can be, in the units of their files: to
    /// have their noise looked at. Squares of at most `side` pixels.
    pub fn middles(&self, most: usize, side: usize) -> Result<Vec<Frame>> {
        let count = self.images.len().min(most);
        let middle = |i: usize| {
            let index = i * self.images.len() / count;
            let entry = &self.images[index];
            let side = side.min(entry.height).min(entry.width);
            // The blocks of JPEG stay where they are.
            let [top, left] = [entry.height, entry.width].map(|size| (size - side) / 2 / 8 * 8);
            let mut data = vec![0.0; side * side * self.channels()];
            self.image(index)?.image.crop(top, left, side, &mut data);
            let unit = entry.depth.unit();
            if unit != 1.0 {
                for value in &mut data {
                    *value = (*value * unit).round();
                }
            }
            Ok(Frame {
                height: side,
                width: side,
                channels: self.channels(),
                data,
            })
        };
        (0..count).map(middle).collect()
    }
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

    /// [`Packed::crop`] of the values that the network is to see.
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

    /// The image as it is in the file, if the network is to see its bytes as 0..1.
    pub fn bytes(&self) -> Option<&Packed> {
        let is_bytes = self.scale.is_none() && self.image.is_bytes();
        is_bytes.then_some(&self.image)
    }
}

impl From<Packed> for Scaled<'_> {
    /// The image as it is.
    fn from(image: Packed) -> Self {
        Self {
            image: Cow::Owned(image),
            scale: None,
            transform: None,
        }
    }
}

/// What is in an item.
struct Scan {
    /// The usable pages.
    entries: Vec<Entry>,
    /// What is known of their values.
    seen: Survey,
    /// What is wrong with the others. Behind one that cannot be decoded none is read.
    errors: Vec<Error>,
}

fn scan(source: &dyn Source, item: usize, layout: Layout, room: &AtomicUsize) -> Scan {
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
            format!("#{page}")
        };
        let channel_of = channel.map_or(String::new(), |channel| format!(" channel {channel}"));
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

/// An image whose values are kept as they are: a repaired one has others than those of its type.
fn unrounded(image: Image) -> Image {
    Image {
        depth: Depth::F32,
        ..image
    }
}

/// Rows and columns of an image.
fn part_of(image: &Image, [rows, columns]: &[Span<usize>; 2]) -> Image {
    let (row, c) = (image.width * image.channels, image.channels);
    let data = rows.clone().flat_map(|y| {
        let row = &image.data[y * row..][..row];
        &row[columns.start * c..columns.end * c]
    });
    Image {
        height: rows.len(),
        width: columns.len(),
        data: data.copied().collect(),
        ..*image
    }
}

/// The image of an item with its channels converted, or one of them; one that cannot be trained on is an error.
fn converted(
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
        // What the source gives may change during a run.
        Some(channel) if channel >= image.channels => {
            return Err(wrong(format!("channel {} no longer exists", channel + 1)));
        }
        Some(channel) => image.channel(channel),
        None => image.clone(),
    };
    // Integers always are.
    let is_finite = image.data.iter().all(|value| value.is_finite());
    if !is_finite {
        let of = channel.map_or(String::new(), |channel| {
            format!("in channel {} ", channel + 1)
        });
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

/// The samples of an image, if there is room for them or the source has them anyway.
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::train::source::Memory;
    use crate::{files, image};

    fn write_gray(path: &Path, height: usize, width: usize, value: f32) {
        let image = Image {
            height,
            width,
            channels: 1,
            data: vec![value; height * width],
            depth: Depth::U8,
        };
        image.write(path).unwrap();
    }

    /// Channel `c` of page `p` is 10 p + c everywhere; a channel of the second page is not all numbers.
    #[test]
    fn each_channel_is_an_image_where_that_is_asked_for() {
        let page = |p: usize| {
            let values = (0..6 * 6 * 4).map(|i| (10 * p + i % 4) as f32);
            Image::from_f32(6, 6, 4, values.collect()).unwrap()
        };
        let mut broken = page(1);
        broken.data[4 * 7 + 2] = f32::NAN;
        let images = Arc::new(Memory::from(&[page(0), broken][..]));
        for cache in [0, 1 << 20] {
            let mut skipped = vec![];
            let read = |layout: Layout, skipped: &mut Vec<String>| {
                Dataset::read(images.clone(), layout, cache, &mut |event| {
                    if let Event::Skipped { error } = event {
                        skipped.push(error.to_string());
                    }
                })
            };
            let dataset = read(Layout::Independent, &mut skipped);
            let values: Vec<_> = (0..dataset.len())
                .map(|index| {
                    let mut value = [0.0; 4];
                    dataset.image(index).unwrap().crop(1, 1, 2, &mut value);
                    value
                })
                .collect();
            let want = [0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 13.0];
            assert_eq!(values, want.map(|value| [value; 4]));
            assert_eq!(dataset.channels(), 1);
            let names: HashSet<_> = (0..7).map(|index| dataset.name(index)).collect();
            assert_eq!(names.len(), 7, "{names:?}");
            assert!(
                skipped.len() == 1 && skipped[0].contains("channel 3"),
                "{skipped:?}"
            );
            let together = read(Layout::Together(4), &mut skipped);
            assert_eq!((together.len(), together.channels()), (1, 4));
            // Neither gray nor RGB.
            assert!(read(Layout::Together(3), &mut skipped).is_empty());
        }
    }

    #[test]
    fn repaired_images_are_the_same_from_memory_and_from_files() {
        let folder = tempfile::tempdir().unwrap();
        let samples = (0..64 * 64_u32).map(|i| (300 + i.wrapping_mul(2_654_435_761) % 41) as u16);
        let mut image = Image::from_u16(64, 64, 1, &samples.collect::<Vec<_>>()).unwrap();
        image.data[64 * 20 + 31] = 1.0;
        image.write(&folder.path().join("a.tif")).unwrap();
        let value = |cache: usize| {
            let mut dataset = Dataset::open(folder.path(), &[], 1, cache, &mut |_| {}).unwrap();
            let repaired = dataset.repair("hot-pixels,rows".parse().unwrap()).unwrap();
            assert_eq!(repaired.hot_pixels, usize::from(cache > 0));
            let mut values = vec![0.0; 64 * 64];
            dataset.image(0).unwrap().crop(0, 0, 64, &mut values);
            values
        };
        assert!(value(1 << 20)[64 * 20 + 31] < 0.01);
        assert!(value(1 << 20) == value(0));
    }

    #[test]
    fn unreadable_files_are_reported_and_left_out() {
        let folder = tempfile::tempdir().unwrap();
        write_gray(&folder.path().join("a.png"), 3, 5, 0.2);
        std::fs::write(folder.path().join("b.jpg"), "not an image").unwrap();
        std::fs::write(folder.path().join("notes.txt"), "not meant to be one").unwrap();
        write_gray(&folder.path().join("c.png"), 7, 2, 0.4);
        // A header that promises more than the file holds.
        let whole = std::fs::read(folder.path().join("a.png")).unwrap();
        std::fs::write(folder.path().join("d.png"), &whole[..whole.len() / 2]).unwrap();

        let mut skipped = vec![];
        let dataset = Dataset::open(folder.path(), &[], 3, 0, &mut |event| {
            if let Event::Skipped { error } = event {
                skipped.push(error.to_string());
            }
        })
        .unwrap();
        assert_eq!(dataset.sizes().collect::<Vec<_>>(), [(3, 5), (7, 2)]);
        assert_eq!(skipped.len(), 2);
        assert!(skipped[0].contains("b.jpg") && skipped[1].contains("d.png"));

        let mut crop = [0.0; 3];
        dataset.image(1).unwrap().crop(0, 0, 1, &mut crop);
        assert_eq!(crop, [102.0 / 255.0; 3]);
    }

    #[test]
    fn of_a_stack_only_the_page_with_a_value_that_is_no_number_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stack.tif");
        let mut images = (0..3).map(|page| {
            let mut data = vec![page as f32; 12];
            if page == 1 {
                data[5] = f32::NAN;
            }
            Image {
                height: 3,
                width: 4,
                channels: 1,
                data,
                depth: Depth::F32,
            }
        });
        write_stack(&path, &mut images);
        let mut skipped = vec![];
        let dataset = Dataset::open(folder.path(), &[], 1, 0, &mut |event| {
            if let Event::Skipped { error } = event {
                skipped.push(error.to_string());
            }
        })
        .unwrap();
        assert_eq!(
            [dataset.name(0), dataset.name(1)],
            ["stack.tif", "stack.tif#2"]
        );
        assert!(
            skipped.len() == 1 && skipped[0].contains("page 2"),
            "{skipped:?}"
        );
        let mut pixel = [0.0];
        dataset.image(1).unwrap().crop(0, 0, 1, &mut pixel);
        assert_eq!(pixel, [2.0]);
    }

    /// Images as the pages of a file.
    fn write_stack(path: &Path, images: &mut dyn Iterator<Item = Image>) {
        struct Stack<'a> {
            images: &'a mut dyn Iterator<Item = Image>,
            rows: Vec<f32>,
        }
        impl image::Pages for Stack<'_> {
            fn next_page(&mut self) -> Result<Option<image::Page>> {
                let Some(image) = self.images.next() else {
                    return Ok(None);
                };
                self.rows = image.data.clone();
                image::OfImage::new(&image).next_page()
            }

            fn read_rows(&mut self, _: usize, rows: &mut Vec<f32>) -> Result<()> {
                rows.append(&mut self.rows);
                Ok(())
            }
        }
        let mut stack = Stack {
            images,
            rows: vec![],
        };
        let encoding = image::Encoding::of_name(path).unwrap();
        files::write_atomically(path, |out| {
            image::write_pages(&mut stack, encoding, path, out)
        })
        .unwrap();
    }

    #[test]
    fn of_a_single_image_a_part_can_be_taken() {
        for (height, width, side, expected) in [
            (300, 200, 128, [(225, 200), (75, 200)]),
            (200, 300, 64, [(200, 236), (200, 64)]),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let data = (0..height * width).map(|i| i as f32);
            let image = Image {
                height,
                width,
                channels: 1,
                data: data.collect(),
                depth: Depth::F32,
            };
            image.write(&folder.path().join("a.tif")).unwrap();
            for cache_bytes in [0, 1 << 20] {
                let mut left =
                    Dataset::open(folder.path(), &[], 1, cache_bytes, &mut |_| {}).unwrap();
                let taken = left.take_part(side).unwrap();
                let sizes = [&left, &taken].map(|part| part.sizes().next().unwrap());
                assert_eq!(sizes, expected);
                assert_ne!(left.fingerprint(), taken.fingerprint());
                let first = [&left, &taken].map(|part| {
                    let mut pixel = [0.0];
                    part.image(0).unwrap().crop(0, 0, 1, &mut pixel);
                    pixel[0]
                });
                let cut = if height > width { 225 * 200 } else { 236 };
                assert_eq!(first, [0.0, cut as f32]);
            }
        }
    }

    #[test]
    fn images_are_decoded_once_as_far_as_the_limit_goes() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.png", "b.png", "c.png"] {
            write_gray(&folder.path().join(name), 10, 10, 0.5);
        }
        let dataset = Dataset::open(folder.path(), &[], 1, 250, &mut |_| {}).unwrap();
        std::fs::remove_dir_all(folder.path()).unwrap();
        let kept = (0..3).filter(|&index| dataset.image(index).is_ok());
        assert_eq!(kept.count(), 2);
    }

    #[test]
    fn images_in_memory_are_those_of_a_folder_and_are_not_copied() {
        let folder = tempfile::tempdir().unwrap();
        let mut memory = Memory::default();
        for (name, height, width) in [("a.png", 3, 5), ("b.png", 7, 2)] {
            write_gray(&folder.path().join(name), height, width, 0.4);
            memory.push(name, &Image::read(&folder.path().join(name)).unwrap());
        }
        let memory = Arc::new(memory);
        for channels in [1, 3] {
            let files = Dataset::open(folder.path(), &[], channels, 0, &mut |_| {}).unwrap();
            let read = Dataset::read(memory.clone(), channels, 0, &mut |_| {});
            assert_eq!(read.fingerprint(), files.fingerprint());
            for index in 0..2 {
                let (one, other) = (read.image(index).unwrap(), files.image(index).unwrap());
                assert_eq!(*one.image, *other.image);
                assert_eq!(matches!(one.image, Cow::Borrowed(_)), channels == 1);
            }
        }
    }

    #[test]
    fn images_in_memory_that_cannot_be_trained_on_are_reported_by_name() {
        let mut memory = Memory::default();
        memory.push("nan", &Image::from_f32(1, 1, 1, vec![f32::NAN]).unwrap());
        memory.push("two", &Image::from_f32(1, 1, 2, vec![0.0; 2]).unwrap());
        memory.push("good", &Image::from_f32(1, 1, 3, vec![0.0; 3]).unwrap());
        let mut skipped = vec![];
        let dataset = Dataset::read(Arc::new(memory), 1, 0, &mut |event| {
            if let Event::Skipped { error } = event {
                skipped.push(error.to_string());
            }
        });
        assert_eq!((dataset.len(), dataset.name(0)), (1, "good"));
        assert!(skipped[0].starts_with("nan: page 1 contains values that are not finite"));
        assert!(skipped[1].starts_with("two: page 1 has 2 channels; expected 1"));
    }

    /// `mixed_pages.tif` has pages of several kinds; `imagej_u16_stack.tif` is a stack.
    #[test]
    fn each_page_of_a_stack_is_an_image() {
        let fixtures = Path::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/golden/images"
        ));
        let stack = fixtures.join("imagej_u16_stack.tif");
        let pages: Vec<_> = image::images(&stack).unwrap().map(Result::unwrap).collect();
        assert!(pages.len() > 1);
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(&stack, folder.path().join("stack.tif")).unwrap();
        for cache_bytes in [0, 1 << 20] {
            let dataset = Dataset::open(folder.path(), &[], 1, cache_bytes, &mut |_| {}).unwrap();
            assert_eq!(dataset.len(), pages.len());
            for (index, page) in pages.iter().enumerate() {
                assert_eq!(*dataset.image(index).unwrap().image, Packed::from(page));
            }
            assert_eq!(
                (dataset.name(0), dataset.name(1)),
                ("stack.tif", "stack.tif#1")
            );
        }
    }

    #[test]
    fn images_are_known_by_their_path_below_the_folder_and_their_size() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Dataset::open(folder.path(), &[], 1, 0, &mut |_| {}).unwrap();
        write_gray(&folder.path().join("b/a.png"), 10, 10, 0.5);
        write_gray(&folder.path().join("c.png"), 10, 10, 0.5);
        let mut dataset = open();
        assert_eq!((dataset.name(0), dataset.name(1)), ("b/a.png", "c.png"));
        let before = dataset.fingerprint();
        write_gray(&folder.path().join("c.png"), 10, 11, 0.5);
        assert_ne!(open().fingerprint(), before);
        write_gray(&folder.path().join("c.png"), 10, 10, 0.6);
        assert_eq!(open().fingerprint(), before);

        let taken = dataset.take(&[1]);
        assert_eq!((taken.len(), taken.name(0)), (1, "c.png"));
        assert_eq!((dataset.len(), dataset.name(0)), (1, "b/a.png"));
    }

    #[test]
    fn a_folder_without_images_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("notes.txt"), "").unwrap();
        let error = Dataset::open(folder.path(), &[], 3, 0, &mut |_| {}).unwrap_err();
        assert!(matches!(error, Error::Nothing { .. }), "{error}");
    }
}
