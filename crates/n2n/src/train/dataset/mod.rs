//! The training images: found and decoded once at the start, and kept in memory up to a limit.
//!
//! Decoding everything first takes about two milliseconds per image and core, and finds problems at the start that
//! could otherwise stop a run on its second day: files that are not images, too few images, images smaller than a
//! patch.

mod scaled;
mod scan;
mod values;

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range as Span;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use rand::seq::index;
use rayon::prelude::*;

pub use self::scaled::Scaled;
use self::scan::{Entry, Scan, converted, scan};
pub use self::values::Values;
use crate::denoise::{ModelRange, Range, Survey, Transform};
use crate::diagnose::Frame;
use crate::error::Result;
use crate::image::{Depth, Image, Packed};
use crate::repair::{Repair, Repaired, Repairer};
use crate::train::Event;
use crate::train::layout::Layout;
use crate::train::random::{Purpose, fnv1a, stream};
use crate::train::source::{Folder, Source};

/// Images decoded between progress reports.
const STRIDE: usize = 64;

/// Readable images in the order of their source, all with the same channels.
#[derive(Debug)]
pub struct Dataset {
    source: Arc<dyn Source>,
    images: Vec<Entry>,
    layout: Layout,
    /// A summary of the values of all images.
    survey: Survey,
    /// Which values map to the network's 0 and 1.
    range: Range,
    /// The transform that is applied to the scaled values.
    transform: Option<Transform>,
    /// How images are repaired after decoding.
    repairer: Option<Repairer>,
}

impl Dataset {
    /// [`Dataset::read`] for the images in `folder` and its subfolders, except those in `excluded`.
    ///
    /// A folder without any file with the extension of an image is an error.
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

    /// Reads the images of a source, with channels as `layout` says. Images that cannot be decoded or converted are
    /// reported and skipped. Images are kept in memory up to `cache_bytes` in total, in addition to those that the
    /// source already holds.
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

    /// The type of the images, if it is the same for all.
    pub fn depth(&self) -> Option<Depth> {
        let first = self.images.first()?.depth;
        let same = self.images.iter().all(|entry| entry.depth == first);
        same.then_some(first)
    }

    /// The range that all images together need; `None` if they have several types, or only one value.
    pub fn measured_range(&self) -> Option<ModelRange> {
        ModelRange::measured(self.depth()?, &self.survey)
    }

    /// Where the values of all images lie, in the units of the files if these have one type; `None` if there is no more
    /// than one value.
    pub(crate) fn values(&self) -> Option<Values> {
        let unit = self.depth().map_or(1.0, Depth::unit);
        let ((low, high), median) = (self.survey.measured()?, self.survey.median()?);
        let [low, median, high] = [low, median, high].map(|value| value * unit);
        Some(Values { low, median, high })
    }

    /// The range that has been set.
    pub fn range(&self) -> Range {
        self.range
    }

    /// The range that has been set, with the type of the images (of the first one, if they have several). `None` if
    /// values are those of [`Image`].
    pub fn model_range(&self) -> Option<ModelRange> {
        match (self.range, self.images.first()) {
            (Range::Between(low, high), Some(&Entry { depth, .. })) => {
                Some(ModelRange { low, high, depth })
            }
            _ => None,
        }
    }

    /// Sets the range that maps to 0..1 in [`Self::image`]: [`Range::Between`], in the units of the files. With any
    /// other range, values are those of [`Image`].
    pub fn set_range(&mut self, range: Range) {
        self.range = range;
    }

    /// Sets the transform that [`Self::image`] applies to scaled values.
    pub fn set_transform(&mut self, transform: Option<Transform>) {
        self.transform = transform;
    }

    /// Repairs all images, based on the noise in their middles. Returns the total of what was repaired in images in
    /// memory.
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
                let (image, repaired) = repaired(&repairer, kept, entry.depth);
                *kept = Arc::new(Packed::from(&image));
                Some(repaired)
            })
            .collect();
        for one in done {
            all += one;
        }
        self.repairer = Some(repairer);
        Ok(all)
    }

    /// Whether all pixels of all images have the same value.
    pub fn is_constant(&self) -> bool {
        self.survey.is_constant()
    }

    /// A summary of the values of all images.
    pub fn survey(&self) -> &Survey {
        &self.survey
    }

    /// Describes the source of the images in errors.
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

    /// The name of an image: that of its item, with the page unless it is the first, and with the channel if channels
    /// are separate.
    pub fn name(&self, index: usize) -> &str {
        &self.images[index].name
    }

    /// A hash of the names and sizes of the images.
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

    /// Draws `count` images to hold out, for patches of `side` pixels. An image that fills less than half as much of a
    /// patch as the largest image says little about a network; such images are drawn only if there are too few of the
    /// others, one of which must remain to train on.
    pub(crate) fn to_hold_out(&self, count: usize, side: usize, seed: u64) -> Vec<usize> {
        let filled = |&(height, width): &(usize, usize)| height.min(side) * width.min(side);
        let sizes: Vec<_> = self.sizes().collect();
        let most = sizes.iter().map(filled).max().unwrap_or(0);
        let (large, small): (Vec<usize>, Vec<usize>) =
            (0..sizes.len()).partition(|&index| 2 * filled(&sizes[index]) >= most);
        let of_small = match small.len() {
            0 => 0,
            least => (count + 1).saturating_sub(large.len()).min(least),
        };
        let mut rng = stream(seed, Purpose::HoldOut, 0, 0);
        let mut drawn = |among: &[usize], count: usize| {
            let places = index::sample(&mut rng, among.len(), count);
            places.iter().map(|place| among[place]).collect::<Vec<_>>()
        };
        [drawn(&large, count - of_small), drawn(&small, of_small)].concat()
    }

    /// Moves the images `indices` into a new data set, in their current order.
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

    /// Cuts off the last quarter of the longer side of the only image, at most `side` pixels, and returns it as a new
    /// data set. If there is not exactly one image, or it cannot be cut, the new data set is empty.
    ///
    /// # Errors
    /// An image that can no longer be decoded.
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

    /// The whole image that an entry belongs to.
    fn decoded(&self, entry: &Entry) -> Result<Image> {
        let image = self.source.image(entry.item, entry.page)?;
        let from = (&*self.source, entry.item, entry.page);
        let image = converted(&image, from, self.layout, entry.channel)?;
        Ok(match &self.repairer {
            Some(repairer) => repaired(repairer, &Packed::from(&image), image.depth).0,
            None => image,
        })
    }
}

impl Dataset {
    /// The middles of at most `most` evenly spaced images, as squares of at most `side` pixels, in the units of the
    /// files; for an analysis of their noise.
    pub fn middles(&self, most: usize, side: usize) -> Result<Vec<Frame>> {
        let count = self.images.len().min(most);
        let middle = |i: usize| {
            let index = i * self.images.len() / count;
            let entry = &self.images[index];
            let side = side.min(entry.height).min(entry.width);
            // Keeps the alignment of JPEG blocks.
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

/// Repairs an image as it is kept in memory, where converted channels are rounded, so that the result does not depend
/// on whether it is kept. The result keeps values that its original type, `depth`, could not hold.
fn repaired(repairer: &Repairer, packed: &Packed, depth: Depth) -> (Image, Repaired) {
    let mut image = packed.to_image();
    image.depth = depth;
    let repaired = repairer.repair(&mut image);
    image.depth = Depth::F32;
    (image, repaired)
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
