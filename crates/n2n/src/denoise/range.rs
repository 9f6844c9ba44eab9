//! Which values of a file are the network's 0 and 1. The network was trained on 0..1; a file of
//! floats may hold anything, and one of 16 bits is often filled by a camera of 12.

use std::str::FromStr;

use crate::error::{Error, Result};
use crate::image::{Depth, Pages};

/// How the range of a file is found. It is undone on output.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Range {
    /// Of 8 bits all; of 16 bits as many as the largest value of the file takes, at least 8; of
    /// floats 0..1 if they keep to it, and otherwise from the smallest to the largest.
    Auto,
    /// Between two values, in the units of the file.
    Between(f32, f32),
    /// Between the 0.1st and the 99.9th percentile.
    Percentile,
}

impl FromStr for Range {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers: Vec<Option<f32>> = text
            .split(',')
            .map(|part| part.trim().parse().ok())
            .collect();
        match (text, numbers.as_slice()) {
            ("auto", _) => Ok(Self::Auto),
            ("percentile", _) => Ok(Self::Percentile),
            (_, &[Some(low), Some(high)]) if low < high && (high - low).is_finite() => {
                Ok(Self::Between(low, high))
            }
            _ => Err(Error::value(
                "range",
                "auto, percentile, or two numbers MIN,MAX with MIN below MAX",
                text,
            )),
        }
    }
}

/// What is known of the values of a file.
#[derive(Debug, Clone)]
pub struct Survey {
    min: f32,
    max: f32,
    /// Every `step`-th value.
    sample: Vec<f32>,
    step: usize,
    skip: usize,
}

impl Range {
    /// Whether a page of this depth has to be looked through first.
    pub fn needs_survey(self, depth: Depth) -> bool {
        match self {
            Self::Auto => depth != Depth::U8,
            Self::Between(..) => false,
            Self::Percentile => true,
        }
    }

    /// The values that become 0 and 1, as [`crate::image`] gives them.
    pub fn bounds(self, depth: Depth, survey: Option<&Survey>) -> (f32, f32) {
        let unit = depth.unit();
        let bounds = match (self, survey) {
            (Self::Between(low, high), _) => (low / unit, high / unit),
            (Self::Percentile, Some(survey)) => survey.percentiles(),
            (Self::Auto, Some(survey)) => survey.natural(depth),
            (_, None) => (0.0, 1.0),
        };
        if bounds.0 < bounds.1 && (bounds.1 - bounds.0).is_finite() {
            bounds
        } else {
            // One value alone, or none that is a number.
            (bounds.0, bounds.0 + 1.0)
        }
    }
}

impl Survey {
    /// Values kept for the percentiles.
    const KEPT: usize = 1 << 20;

    /// Looks through all pages; values that are not finite, and transparency, do not count.
    pub fn of(pages: &mut dyn Pages) -> Result<Self> {
        let mut survey = Self {
            min: f32::INFINITY,
            max: f32::NEG_INFINITY,
            sample: Vec::new(),
            step: 1,
            skip: 0,
        };
        let mut rows = Vec::new();
        while let Some(page) = pages.next_page()? {
            if page.metadata.pass_through {
                continue;
            }
            let (samples, channels) = (page.samples(), page.color.channels());
            let at_once = ((1 << 20) / page.row()).clamp(1, page.height);
            let mut left = page.height;
            while left > 0 {
                let count = left.min(at_once);
                left -= count;
                rows.clear();
                pages.read_rows(count, &mut rows)?;
                for pixel in rows.chunks_exact(samples) {
                    pixel[..channels]
                        .iter()
                        .for_each(|&value| survey.count(value));
                }
            }
        }
        Ok(survey)
    }

    fn count(&mut self, value: f32) {
        if !value.is_finite() {
            return;
        }
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        if self.skip > 0 {
            self.skip -= 1;
            return;
        }
        self.sample.push(value);
        self.skip = self.step - 1;
        if self.sample.len() == Self::KEPT {
            // Half of them will do.
            self.sample = self.sample.iter().copied().step_by(2).collect();
            self.step *= 2;
            self.skip = self.step - 1;
        }
    }

    fn natural(&self, depth: Depth) -> (f32, f32) {
        if self.min > self.max {
            return (0.0, 1.0);
        }
        match depth {
            Depth::F32 | Depth::F64 if self.min >= 0.0 && self.max <= 1.0 => (0.0, 1.0),
            depth if depth.unit() == 1.0 => (self.min, self.max),
            _ => {
                let largest = (self.max * 65535.0).round() as u32;
                let bits = (u32::BITS - largest.leading_zeros()).clamp(8, 16);
                (0.0, ((1_u32 << bits) - 1) as f32 / 65535.0)
            }
        }
    }

    fn percentiles(&self) -> (f32, f32) {
        let mut sorted = self.sample.clone();
        if sorted.is_empty() {
            return (0.0, 1.0);
        }
        sorted.sort_by(f32::total_cmp);
        let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share).round() as usize];
        (at(0.001), at(0.999))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survey(values: impl IntoIterator<Item = f32>) -> Survey {
        let mut survey = Survey {
            min: f32::INFINITY,
            max: f32::NEG_INFINITY,
            sample: vec![],
            step: 1,
            skip: 0,
        };
        values.into_iter().for_each(|value| survey.count(value));
        survey
    }

    #[test]
    fn sixteen_bits_are_as_many_as_the_largest_value_takes() {
        for (largest, top) in [
            (4095, 4095),
            (4096, 8191),
            (65535, 65535),
            (3, 255),
            (1023, 1023),
        ] {
            let survey = survey([0.0, largest as f32 / 65535.0]);
            let bounds = Range::Auto.bounds(Depth::U16, Some(&survey));
            assert_eq!(bounds, (0.0, top as f32 / 65535.0), "{largest}");
        }
    }

    #[test]
    fn floats_keep_their_range_if_it_is_the_networks() {
        let bounds =
            |values: &[f32]| Range::Auto.bounds(Depth::F32, Some(&survey(values.iter().copied())));
        assert_eq!(bounds(&[0.25, 0.5]), (0.0, 1.0));
        assert_eq!(
            bounds(&[-2.0, 3000.0, f32::NAN, f32::INFINITY]),
            (-2.0, 3000.0)
        );
        assert_eq!(bounds(&[7.0, 7.0]), (7.0, 8.0));
        assert_eq!(bounds(&[f32::NAN]), (0.0, 1.0));
        assert_eq!(bounds(&[f32::MIN, f32::MAX]).0, f32::MIN);
    }

    #[test]
    fn percentiles_leave_out_what_is_rare() {
        // np.percentile(np.arange(3_000_001), [0.1, 99.9]) = [3000, 2997000]
        let survey = survey((0..3_000_001).map(|i| i as f32));
        let (low, high) = Range::Percentile.bounds(Depth::F32, Some(&survey));
        assert!(
            (low - 3000.0).abs() < 10.0 && (high - 2_997_000.0).abs() < 10.0,
            "{low} {high}"
        );
    }

    #[test]
    fn a_range_in_words() {
        assert_eq!("auto".parse::<Range>().unwrap(), Range::Auto);
        assert_eq!(
            "-1,4095.5".parse::<Range>().unwrap(),
            Range::Between(-1.0, 4095.5)
        );
        let bounds = Range::Between(0.0, 4095.0).bounds(Depth::U16, None);
        assert_eq!(bounds, (0.0, 4095.0 / 65535.0));
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
}
