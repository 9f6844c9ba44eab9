//! Which values of an image map to the network's 0 and 1. The network works on about 0..1, but a float file may hold
//! anything, a 16-bit file is often filled by a 12-bit camera, and a microscope counts photons above an offset.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};
use crate::image::{Depth, Image, OfImage, Page, Pages};
use crate::words::shown;

/// How the range of images is determined. Its mapping to 0..1 is undone on output.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Range {
    /// The range that the type suggests. For floats, that is 0..1; for unsigned integers of 8 and 16 bits, it begins at
    /// 0 and has as many bits as the largest value needs, but bytes that reach 16 have all 8 bits. If the values exceed
    /// this range by more than half of it or fill less than an eighth of it, it is [measured](Survey::measured)
    /// instead, except for bytes. For all other integer types it is always measured.
    #[default]
    Auto,
    /// Between two finite values in the units of the file, the first below the second.
    Between(f32, f32),
    /// Between the 0.1st and the 99.9th percentile, ignoring isolated pixels.
    Percentile,
}

/// The values that map to the network's 0 and 1, in both directions.
///
/// Values are those of [`crate::image`]: 0..1 for integer types whose [`Depth::unit`] is not 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// The value that maps to 0.
    pub low: f32,
    /// The value that maps to 1.
    pub high: f32,
    /// Whether integer results are clamped to the range; if the noisy value itself lies outside, it is the limit on
    /// that side. True for ranges of a whole number of bits, such as 0 to 4095, because a camera produces no values
    /// beyond them.
    pub is_limit: bool,
}

/// The range that a model was trained on, in the units of the images, as stored in its metadata.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ModelRange {
    /// The value that was mapped to 0.
    pub low: f32,
    /// The value that was mapped to 1.
    pub high: f32,
    /// The type of the images.
    pub depth: Depth,
}

/// A summary of the values of images: the second smallest and second largest value of each 2×2 block of pixels, so
/// that isolated hot or dead pixels do not count.
#[derive(Debug, Clone)]
pub struct Survey {
    /// The values of every `step`-th block.
    blocks: Vec<[f32; 2]>,
    step: usize,
    skip: usize,
    /// Maximum number of blocks kept.
    most: usize,
    /// The extremes over all pixels.
    min: f32,
    max: f32,
}

/// Why an image does not fit a model's range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Misfit {
    /// The values between which nearly all of the image lies, in its own units.
    pub found: (f32, f32),
    /// The type of the image.
    pub depth: Depth,
    /// The range that the model was trained on.
    pub model: ModelRange,
}

/// The name of a type, as in NumPy.
pub fn type_name(depth: Depth) -> &'static str {
    match depth {
        Depth::U8 => "uint8",
        Depth::I8 => "int8",
        Depth::U16 => "uint16",
        Depth::I16 => "int16",
        Depth::U32 => "uint32",
        Depth::I32 => "int32",
        Depth::F32 => "float32",
        Depth::F64 => "float64",
    }
}

impl FromStr for Range {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match (text, bounds(text)) {
            ("auto", _) => Ok(Self::Auto),
            ("percentile", _) => Ok(Self::Percentile),
            (_, Some((low, high))) => Ok(Self::Between(low, high)),
            _ => Err(Error::value(
                "range",
                "auto, percentile, or two numbers MIN,MAX with MIN below MAX",
                text,
            )),
        }
    }
}

/// Parses `MIN,MAX`, which must be finite and in this order.
fn bounds(text: &str) -> Option<(f32, f32)> {
    let (low, high) = text.split_once(',')?;
    let (low, high): (f32, f32) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
    (low < high && (high - low).is_finite()).then_some((low, high))
}

impl Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Percentile => f.write_str("percentile"),
            Self::Between(low, high) => write!(f, "{},{}", shown(*low), shown(*high)),
        }
    }
}

impl Serialize for Range {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Range {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Range {
    /// Whether a page of this depth has to be surveyed first. Bytes need no survey for [`Self::Auto`]: without one, the
    /// full range is used.
    pub fn needs_survey(self, depth: Depth) -> bool {
        match self {
            Self::Auto => depth != Depth::U8,
            Self::Between(..) => false,
            Self::Percentile => true,
        }
    }

    /// The range for a page of this depth. If it has to be measured, and there is no survey or the survey has found no
    /// two different values, it is [`Scale::UNIT`].
    pub fn scale(self, depth: Depth, survey: Option<&Survey>) -> Scale {
        let found = match (self, survey) {
            (Self::Between(low, high), _) => {
                let unit = depth.unit();
                // Results are clamped only where values end by nature: the noise of a pixel at the end of a range that
                // was chosen is symmetric, and cutting off its result at one side would shift its mean.
                return Scale::between(low / unit, high / unit, false);
            }
            (_, None) => None,
            (Self::Percentile, Some(survey)) => {
                let bulk = survey.bulk();
                bulk.map(|(low, high)| Scale::between(low, high, false))
            }
            (Self::Auto, Some(survey)) => survey.natural(depth),
        };
        // A single value, or none that is a number.
        found.unwrap_or(Scale::UNIT)
    }
}

impl Scale {
    /// The range 0..1.
    pub const UNIT: Self = Self {
        low: 0.0,
        high: 1.0,
        is_limit: true,
    };

    /// How far beyond 0..1 values may lie, on either side, to reach the network unchanged; noise may lie that far out.
    /// Values further out are limited: no picture that the network knows has them, and they would affect its whole
    /// receptive field.
    const MARGIN: f32 = 1.0;

    /// Between two values; if they are not a range, it extends from `low` to `low + 1`.
    fn between(low: f32, high: f32, is_limit: bool) -> Self {
        let is_range = low < high && (high - low).is_finite();
        Self {
            low,
            high: if is_range { high } else { low + 1.0 },
            is_limit,
        }
    }

    /// A value on the network's scale, limited to −1 and 2.
    pub fn to_network(self, value: f32) -> f32 {
        let inside = ((value - self.low) / (self.high - self.low)).max(-Self::MARGIN);
        // NaN was replaced by the lower limit in the line above.
        inside.min(1.0 + Self::MARGIN)
    }

    /// Maps the network's result for a pixel whose value was `from` back to the image's scale, and adds the part that
    /// [`Self::to_network`] cut off.
    pub fn from_network(self, value: f32, from: f32) -> f32 {
        let span = self.high - self.low;
        let limits = (
            self.low - Self::MARGIN * span,
            self.high + Self::MARGIN * span,
        );
        let excess = from - from.max(limits.0).min(limits.1);
        self.low + value * span + excess
    }
}

impl ModelRange {
    const RANGE: &str = "range";
    const TYPE: &str = "range_type";

    /// The range in the metadata of weights; `None` if there is none.
    pub fn of(metadata: &BTreeMap<String, String>) -> Result<Option<Self>> {
        let Some(text) = metadata.get(Self::RANGE) else {
            return Ok(None);
        };
        let (low, high) = bounds(text).ok_or_else(|| {
            let expected = "two numbers MIN,MAX with MIN below MAX";
            Error::value("range in the metadata of the model", expected, text)
        })?;
        let name = metadata
            .get(Self::TYPE)
            .map_or("no such entry", String::as_str);
        let depth = Depth::ALL
            .into_iter()
            .find(|&depth| type_name(depth) == name);
        let depth = depth.ok_or_else(|| {
            let expected = Depth::ALL.map(type_name).join(", ");
            Error::value("range_type in the metadata of the model", expected, name)
        })?;
        Ok(Some(Self { low, high, depth }))
    }

    /// The range that images of a type need, by [`Survey::measured`], rounded to whole numbers for integers.
    pub fn measured(depth: Depth, survey: &Survey) -> Option<Self> {
        let (low, high) = survey.measured()?;
        let unit = depth.unit();
        let (mut low, mut high) = (low * unit, high * unit);
        if !depth.is_float() {
            (low, high) = (low.round(), high.round());
        }
        Some(Self { low, high, depth })
    }

    /// The range as metadata entries.
    pub fn entries(self) -> [(&'static str, String); 2] {
        [
            (Self::RANGE, Range::Between(self.low, self.high).to_string()),
            (Self::TYPE, type_name(self.depth).into()),
        ]
    }

    /// The scale for images of a type, if the range is in the units of their files.
    pub fn scale(self, depth: Depth) -> Scale {
        let unit = depth.unit();
        Scale::between(self.low / unit, self.high / unit, false)
    }

    /// Reports whether images of a type with these values differ from the model's: another type, more than 0.1 % of the
    /// values at one end outside what the network accepts, or values compressed into a small part of the range.
    pub fn misfit(self, depth: Depth, survey: &Survey) -> Option<Misfit> {
        /// Minimum fraction of the range that images fill.
        const FILLED: f32 = 1.0 / 32.0;
        let unit = depth.unit();
        let (low, high) = survey.at(0.001, 0.999)?;
        let found = (low * unit, high * unit);
        let span = self.high - self.low;
        let fits = depth == self.depth
            && found.0 >= self.low - Scale::MARGIN * span
            && found.1 <= self.high + Scale::MARGIN * span
            // A single value is always acceptable.
            && (found.0 >= found.1 || found.1 - found.0 >= FILLED * span);
        (!fits).then_some(Misfit {
            found,
            depth,
            model: self,
        })
    }
}

impl Display for ModelRange {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(
            f,
            "{} to {} ({})",
            shown(self.low),
            shown(self.high),
            type_name(self.depth)
        )
    }
}

impl Survey {
    /// Blocks kept for all images together.
    pub const OF_ALL: usize = 1 << 20;
    /// Blocks kept for one image of many.
    pub const OF_ONE: usize = 1 << 16;

    /// An empty survey that keeps at most `most` blocks, evenly spaced.
    pub fn new(most: usize) -> Self {
        Self {
            blocks: Vec::new(),
            step: 1,
            skip: 0,
            most,
            min: f32::INFINITY,
            max: f32::NEG_INFINITY,
        }
    }

    /// Surveys all pages of one depth, or all pages; bytes only until it is clear that they are not low counts.
    /// Transparency is ignored.
    pub fn add_pages(&mut self, pages: &mut dyn Pages, depth: Option<Depth>) -> Result<()> {
        let mut rows = Vec::new();
        while let Some(page) = pages.next_page()? {
            if page.metadata.pass_through {
                continue;
            }
            if depth.is_some_and(|depth| depth != page.depth) {
                continue;
            }
            // At least two rows, to form blocks.
            let at_once = ((1 << 20) / page.row_len() / 2 * 2).clamp(2, page.height.max(2));
            let mut left = page.height;
            while left > 0 {
                let count = left.min(at_once);
                left -= count;
                rows.clear();
                pages.read_rows(count, &mut rows)?;
                self.add_rows(&page, &rows);
                if depth == Some(Depth::U8) && self.are_full_bytes() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Surveys an image, and returns whether further images of its type could add information.
    ///
    /// # Errors
    /// If the number of samples does not match the image's size.
    pub fn add_image(&mut self, image: &Image) -> Result<bool> {
        image.check()?;
        self.add_pages(&mut OfImage::new(image), Some(image.depth))?;
        Ok(image.depth != Depth::U8 || !self.are_full_bytes())
    }

    /// Surveys rows of a page; their number is even, except at the end of the page.
    pub fn add_rows(&mut self, page: &Page, rows: &[f32]) {
        let shape = (page.height, page.width, page.samples());
        self.add_blocks(rows, shape, page.color.channels());
    }

    /// Surveys the first `channels` of the `samples` values of each pixel in rows of an image.
    pub fn add_blocks(
        &mut self,
        rows: &[f32],
        (height, width, samples): (usize, usize, usize),
        channels: usize,
    ) {
        let row = width * samples;
        if height == 1 || width == 1 {
            for pixel in rows.chunks_exact(samples) {
                for &value in &pixel[..channels] {
                    self.count([value; 4]);
                }
            }
            return;
        }
        for pair in rows.chunks_exact(2 * row) {
            let (above, below) = pair.split_at(row);
            let across = 2 * samples;
            for (a, b) in above.chunks_exact(across).zip(below.chunks_exact(across)) {
                for c in 0..channels {
                    self.count([a[c], a[c + samples], b[c], b[c + samples]]);
                }
            }
        }
    }

    /// Merges the blocks of another survey.
    pub fn add(&mut self, other: &Self) {
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        for &block in &other.blocks {
            self.keep(block);
        }
    }

    fn count(&mut self, [a, b, c, d]: [f32; 4]) {
        let (first, second) = ((a.min(b), a.max(b)), (c.min(d), c.max(d)));
        let (min, max) = (first.0.min(second.0), first.1.max(second.1));
        // A non-finite value makes its block unusable.
        if !(a + b + c + d).is_finite() {
            return;
        }
        self.min = self.min.min(min);
        self.max = self.max.max(max);
        let (lower, upper) = (first.0.max(second.0), first.1.min(second.1));
        self.keep([lower.min(upper), lower.max(upper)]);
    }

    fn keep(&mut self, block: [f32; 2]) {
        if self.skip > 0 {
            self.skip -= 1;
            return;
        }
        self.blocks.push(block);
        self.skip = self.step - 1;
        if self.blocks.len() == self.most {
            // Keep half of them.
            self.blocks = self.blocks.iter().copied().step_by(2).collect();
            self.step *= 2;
            self.skip = self.step - 1;
        }
    }

    /// The lower values at one quantile, the upper values at another.
    fn at(&self, lower: f64, upper: f64) -> Option<(f32, f32)> {
        let last = self.blocks.len().checked_sub(1)?;
        let side = |which: usize, share: f64| {
            let mut values: Vec<_> = self.blocks.iter().map(|block| block[which]).collect();
            let place = (last as f64 * share).round() as usize;
            *values.select_nth_unstable_by(place, f32::total_cmp).1
        };
        Some((side(0, lower), side(1, upper)))
    }

    /// The values between which nearly all lie: the 0.1st and the 99.9th percentile; `None` if they are equal.
    fn bulk(&self) -> Option<(f32, f32)> {
        self.at(0.001, 0.999).filter(|(low, high)| low < high)
    }

    /// The smallest and the largest value, if they differ.
    pub fn extremes(&self) -> Option<(f32, f32)> {
        (self.min < self.max).then_some((self.min, self.max))
    }

    /// Whether all values are the same.
    pub fn is_constant(&self) -> bool {
        self.min == self.max
    }

    /// The range for images about which nothing else is known. It covers nearly all values, including most of any
    /// small bright or dark structures, the offset, and the noise at both ends. `None` if there is no more than one
    /// value.
    ///
    /// It extends from the 0.01st to the 99.99th percentile, but no further from the 0.1st and the 99.9th than eight
    /// times the distance between them.
    pub fn measured(&self) -> Option<(f32, f32)> {
        /// That limit, as a factor.
        const TAIL: f32 = 8.0;
        let tails = self.at(0.0001, 0.9999)?;
        let found = match self.bulk() {
            Some((low, high)) => {
                let reach = TAIL * (high - low);
                (tails.0.max(low - reach), tails.1.min(high + reach))
            }
            // For counts that are nearly all 0, for example.
            None if tails.0 < tails.1 => tails,
            None => self.extremes()?,
        };
        (found.1 - found.0).is_finite().then_some(found)
    }

    /// The median, halfway between those of the lower and of the upper values.
    pub(crate) fn median(&self) -> Option<f32> {
        let (lower, upper) = self.at(0.5, 0.5)?;
        Some(lower / 2.0 + upper / 2.0)
    }

    /// [`Range::Auto`].
    fn natural(&self, depth: Depth) -> Option<Scale> {
        /// Minimum fraction of its type's range that an image fills, and how far noise takes it beyond.
        const FILLED: f32 = 1.0 / 8.0;
        const BEYOND: f32 = 0.5;
        let (low, high) = self.measured()?;
        let top = match depth {
            Depth::F32 | Depth::F64 => 1.0,
            Depth::U8 if self.are_full_bytes() => 1.0,
            Depth::U8 | Depth::U16 => {
                let unit = depth.unit();
                let (_, largest) = self.at(0.0, 0.9999)?;
                let largest = (largest.max(high) * unit).round() as u32;
                let bits = u32::BITS - largest.leading_zeros();
                ((1_u64 << bits) - 1) as f32 / unit
            }
            Depth::I8 | Depth::I16 | Depth::U32 | Depth::I32 => {
                return Some(Scale::between(low, high, false));
            }
        };
        let is_natural = depth == Depth::U8
            || (low >= -BEYOND * top && high <= top + BEYOND && high - low >= FILLED * top);
        Some(if is_natural {
            Scale::between(0.0, top, !depth.is_float())
        } else {
            Scale::between(low, high, false)
        })
    }

    /// Whether bytes use more than low counts.
    fn are_full_bytes(&self) -> bool {
        let full = self.blocks.iter().filter(|block| block[1] > 15.5 / 255.0);
        full.count() > self.blocks.len() / 10_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A survey of a row of values.
    fn survey(values: impl IntoIterator<Item = f32>) -> Survey {
        let values: Vec<_> = values.into_iter().collect();
        let mut survey = Survey::new(Survey::OF_ALL);
        survey.add_blocks(&values, (1, values.len(), 1), 1);
        survey
    }

    /// A survey of an image with 100 columns.
    fn survey_of(values: &[f32]) -> Survey {
        let mut survey = Survey::new(Survey::OF_ALL);
        survey.add_blocks(values, (values.len() / 100, 100, 1), 1);
        survey
    }

    fn auto(depth: Depth, survey: &Survey) -> (f32, f32) {
        let Scale { low, high, .. } = Range::Auto.scale(depth, Some(survey));
        (low * depth.unit(), high * depth.unit())
    }

    #[test]
    fn the_range_has_as_many_bits_as_the_largest_value_takes_but_bytes_from_16_have_all_8() {
        for (largest, top) in [
            (4095, 4095),
            (4096, 8191),
            (65535, 65535),
            (3, 3),
            (200, 255),
            (1023, 1023),
        ] {
            let survey = survey([0.0, largest as f32 / 65535.0]);
            let (low, high) = auto(Depth::U16, &survey);
            assert_eq!((low, high.round() as u32), (0.0, top), "{largest}");
        }
        for (largest, top) in [(1, 1), (5, 7), (15, 15), (16, 255), (30, 255), (255, 255)] {
            let survey = survey([0.0, largest as f32 / 255.0]);
            let (low, high) = auto(Depth::U8, &survey);
            assert_eq!((low, high.round() as u32), (0.0, top), "{largest}");
        }
        // Values that fill little of their bits are measured: an offset of 30000.
        let survey = survey((30_000..31_000).map(|i| i as f32 / 65535.0));
        let (low, high) = auto(Depth::U16, &survey);
        assert!((low - 30_000.0).abs() < 2.0 && (high - 30_999.0).abs() < 2.0);
    }

    #[test]
    fn floats_keep_their_range_if_it_is_the_networks() {
        let bounds = |values: &[f32]| auto(Depth::F32, &survey(values.iter().copied()));
        assert_eq!(bounds(&[0.25, 0.5]), (0.0, 1.0));
        // Noise exceeds the range.
        assert_eq!(bounds(&[-0.3, 0.5, 1.4]), (0.0, 1.0));
        assert_eq!(
            bounds(&[-2.0, 3000.0, f32::NAN, f32::INFINITY]),
            (-2.0, 3000.0)
        );
        assert_eq!(bounds(&[0.0, 1e-6]), (0.0, 1e-6));
        assert_eq!(bounds(&[-1e4, 1e4]), (-1e4, 1e4));
        assert_eq!(bounds(&[7.0, 7.0]), (0.0, 1.0));
        assert_eq!(bounds(&[f32::NAN]), (0.0, 1.0));
        assert_eq!(bounds(&[]), (0.0, 1.0));
        assert_eq!(bounds(&[f32::MIN, f32::MAX]), (0.0, 1.0));
    }

    #[test]
    fn a_lone_pixel_does_not_count_and_what_is_larger_does() {
        let mut values: Vec<f32> = (0..40_000)
            .map(|i| (i * 7919 % 4096) as f32 / 65535.0)
            .collect();
        values[12_345] = 1.0;
        values[777] = -1.0;
        let (low, high) = auto(Depth::U16, &survey_of(&values));
        assert_eq!((low, high.round()), (0.0, 4095.0));
        assert!(survey_of(&values).measured().unwrap().1 < 4096.0 / 65535.0);
        // A spot of 4 by 4 does count.
        for y in 100..104 {
            values[y * 100 + 50..][..4].fill(5000.0 / 65535.0);
        }
        assert_eq!(auto(Depth::U16, &survey_of(&values)).1.round(), 8191.0);
    }

    #[test]
    fn counts_that_are_nearly_all_zero_have_a_range() {
        let mut values = vec![0.0; 10_000];
        values[500] = 1.0;
        assert_eq!(survey_of(&values).measured(), Some((0.0, 1.0)));
        assert_eq!(survey_of(&[0.5; 400]).measured(), None);
    }

    #[test]
    fn percentiles_leave_out_what_is_rare() {
        // np.percentile(np.arange(3_000_001), [0.1, 99.9]) = [3000, 2997000]
        let survey = survey((0..3_000_001).map(|i| i as f32));
        let Scale { low, high, .. } = Range::Percentile.scale(Depth::F32, Some(&survey));
        assert!(
            (low - 3000.0).abs() < 10.0 && (high - 2_997_000.0).abs() < 10.0,
            "{low} {high}"
        );
    }

    #[test]
    fn a_survey_of_pages_is_one_of_all_their_blocks() {
        let image = Image {
            height: 300,
            width: 41,
            channels: 3,
            data: (0..300 * 41 * 3)
                .map(|i| (i * 7919 % 1009) as f32)
                .collect(),
            depth: Depth::F32,
        };
        let mut whole = Survey::new(Survey::OF_ALL);
        whole.add_blocks(&image.data, (300, 41, 3), 3);
        let mut paged = Survey::new(Survey::OF_ALL);
        paged.add_pages(&mut OfImage::new(&image), None).unwrap();
        assert_eq!(paged.blocks, whole.blocks);
        assert_eq!(whole.blocks.len(), 150 * 20 * 3);
        let mut other = Survey::new(Survey::OF_ALL);
        other
            .add_pages(&mut OfImage::new(&image), Some(Depth::U8))
            .unwrap();
        assert!(other.blocks.is_empty());
    }

    #[test]
    fn what_lies_beyond_the_limits_is_kept_from_the_network_and_given_back() {
        let scale = Scale::between(100.0, 300.0, false);
        for (value, seen) in [
            (100.0, 0.0),
            (300.0, 1.0),
            (50.0, -0.25),
            (-100.0, -1.0),
            (-9000.0, -1.0),
            (500.0, 2.0),
            (65535.0, 2.0),
        ] {
            assert_eq!(scale.to_network(value), seen, "{value}");
            // A network that changes nothing returns every value.
            assert_eq!(scale.from_network(seen, value), value);
        }
        assert_eq!(scale.from_network(1.5, 600.0), 500.0);
    }

    #[test]
    fn a_range_in_words() {
        assert_eq!("auto".parse::<Range>().unwrap(), Range::Auto);
        assert_eq!(
            "-1,4095.5".parse::<Range>().unwrap(),
            Range::Between(-1.0, 4095.5)
        );
        for text in ["auto", "percentile", "-1,4095.5", "1e-7,0.25"] {
            assert_eq!(text.parse::<Range>().unwrap().to_string(), text);
        }
        let scale = Range::Between(0.0, 4095.0).scale(Depth::U16, None);
        assert_eq!((scale.low, scale.high), (0.0, 4095.0 / 65535.0));
        for text in [
            "",
            "1",
            "2,1",
            "1,1",
            "nan,1",
            "0,inf",
            "-3e38,3e38",
            "a,b",
            "0,1,2",
        ] {
            assert!(text.parse::<Range>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_models_range_is_read_from_its_metadata_as_it_was_written() {
        let range = ModelRange {
            low: 86.25,
            high: 335.0,
            depth: Depth::U16,
        };
        let entries = |range: ModelRange| -> BTreeMap<String, String> {
            let entries = range.entries().into_iter();
            entries.map(|(key, value)| (key.into(), value)).collect()
        };
        let metadata = entries(range);
        assert_eq!(metadata["range"], "86.25,335");
        assert_eq!(ModelRange::of(&metadata).unwrap(), Some(range));
        assert_eq!(ModelRange::of(&BTreeMap::new()).unwrap(), None);
        for (key, value) in [
            ("range", "86"),
            ("range", "3,2"),
            ("range_type", "complex64"),
        ] {
            let mut metadata = metadata.clone();
            metadata.insert(key.into(), value.into());
            let error = ModelRange::of(&metadata).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains(value), "{error}");
        }
        let mut without = metadata;
        without.remove("range_type");
        let error = ModelRange::of(&without).unwrap_err().to_string();
        assert!(error.ends_with("found no such entry"), "{error}");
    }

    #[test]
    fn images_unlike_those_of_the_model_are_told_from_those_like_them() {
        let model = ModelRange {
            low: 100.0,
            high: 300.0,
            depth: Depth::U16,
        };
        let misfit = |depth: Depth, low: f32, high: f32| {
            let values =
                (0..=1000).map(|i| (low + (high - low) * i as f32 / 1000.0) / depth.unit());
            model.misfit(depth, &survey(values)).is_some()
        };
        assert!(!misfit(Depth::U16, 90.0, 330.0));
        assert!(!misfit(Depth::U16, 100.0, 130.0), "a dark page");
        assert!(misfit(Depth::U16, 100.0, 4000.0));
        assert!(misfit(Depth::U16, 100.0, 102.0));
        assert!(misfit(Depth::F32, 100.0, 300.0));
        assert!(misfit(Depth::F32, 0.0, 1.0));
        assert!(!misfit(Depth::U16, 120.0, 120.0));
        assert!(misfit(Depth::U8, 120.0, 120.0));
    }
}
