//! The training images: found and decoded once at the start, kept in memory as far as a limit goes.
//!
//! Decoding everything first costs about two milliseconds an image and a core, and settles at the
//! start what could otherwise stop a run on its second day: which files are images, how many there
//! are, which are smaller than a patch.

mod scaled;
mod scan;

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range as Span;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use rayon::prelude::*;

pub use self::scaled::Scaled;
use self::scan::{Scan, converted, scan};
use crate::denoise::{ModelRange, Range, Survey, Transform};
use crate::diagnose::Frame;
use crate::error::Result;
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

    /// Whether all pixels of all images have the same value.
    pub fn is_constant(&self) -> bool {
        self.survey.is_constant()
    }

    /// What is known of the values of all images.
    pub fn survey(&self) -> &Survey {
        &self.survey
    }

    /// What errors call the source of the images.
    pub fn description(&self) -> String {
        self.source.description()
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

#[cfg(test)]
mod tests;
