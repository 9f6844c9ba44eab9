//! Removes sensor faults from images before training or denoising: pixels that differ greatly from all their
//! neighbors, and offsets of rows or columns. Neither is independent noise, so training does not learn to remove it.

use std::fmt::{self, Display};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::diagnose::{Frame, NoiseLine, Options, diagnose, standing_out};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::words::{counted, listed};

/// What is repaired, written as `hot-pixels,rows,columns`, or some of these, or `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Repair {
    /// Hot and dead pixels: those that lie beyond all eight neighbors and more than eight standard deviations from
    /// their median, while no neighbor stands out in the same direction. They become that median.
    pub hot_pixels: bool,
    /// Offsets shared by all pixels of a row, except in the first and the last row. A straight structure along most of
    /// a row is mistaken for an offset.
    pub rows: bool,
    /// The same for columns.
    pub columns: bool,
}

/// A repair, with the measurements of the noise that it needs.
#[derive(Debug, Clone)]
pub struct Repairer {
    what: Repair,
    /// The noise of each channel, in the units of the files; empty if it could not be measured.
    noise: Vec<NoiseLine>,
}

/// What was repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Repaired {
    /// Number of hot pixels, over all channels.
    pub hot_pixels: usize,
    /// Number of rows, over all channels.
    pub rows: usize,
    /// Number of columns, over all channels.
    pub columns: usize,
}

impl Repair {
    /// The key in the metadata of models trained on repaired images.
    pub const KEY: &str = "repair";
    const NAMES: [&str; 3] = ["hot-pixels", "rows", "columns"];

    /// Whether nothing is repaired.
    pub fn is_none(self) -> bool {
        self == Self::default()
    }
}

impl FromStr for Repair {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut repair = Self::default();
        if text == "none" {
            return Ok(repair);
        }
        for name in text.split(',') {
            match name.trim() {
                "hot-pixels" => repair.hot_pixels = true,
                "rows" => repair.rows = true,
                "columns" => repair.columns = true,
                _ => {
                    let expected = format!("{}, or none", Self::NAMES.join(", "));
                    return Err(Error::value("repair", expected, format!("'{text}'")));
                }
            }
        }
        Ok(repair)
    }
}

impl Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Self::NAMES
            .into_iter()
            .zip([self.hot_pixels, self.rows, self.columns]);
        let names: Vec<_> = named.filter(|named| named.1).map(|named| named.0).collect();
        if names.is_empty() {
            f.write_str("none")
        } else {
            f.write_str(&names.join(","))
        }
    }
}

impl Serialize for Repair {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Repair {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Display for Repaired {
    /// In words: `3 hot pixels and 2 rows`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            (self.hot_pixels, "hot pixel"),
            (self.rows, "row"),
            (self.columns, "column"),
        ];
        let parts: Vec<_> = (counts.into_iter())
            .filter(|(count, _)| *count > 0)
            .map(|(count, name)| counted(count, name))
            .collect();
        if parts.is_empty() {
            return f.write_str("nothing");
        }
        f.write_str(&listed(&parts))
    }
}

impl std::ops::AddAssign for Repaired {
    fn add_assign(&mut self, other: Self) {
        self.hot_pixels += other.hot_pixels;
        self.rows += other.rows;
        self.columns += other.columns;
    }
}

impl Repairer {
    /// Measures the noise for repairing images like these; the central parts of a few of them are enough.
    ///
    /// # Errors
    /// Those of [`diagnose`].
    pub fn measure(frames: &[Frame], what: Repair) -> Result<Self> {
        let noise = if what.hot_pixels {
            let diagnosis = diagnose(frames, &Options::quick())?;
            diagnosis.noise.iter().map(NoiseLine::from).collect()
        } else {
            vec![]
        };
        Ok(Self { what, noise })
    }

    /// Repairs an image. Repaired values need not be ones that the image's type can represent.
    pub fn repair(&self, image: &mut Image) -> Repaired {
        let mut repaired = Repaired::default();
        let (h, w, c) = (image.height, image.width, image.channels);
        for channel in 0..c {
            let mut plane = image.channel(channel).data;
            if self.what.rows {
                repaired.rows += level(&mut plane, h, w, (w, 1));
            }
            if self.what.columns {
                repaired.columns += level(&mut plane, w, h, (1, w));
            }
            if let Some(&noise) = self.noise.get(channel) {
                let noise = noise.in_units_of(f64::from(image.depth.unit()));
                // All are found before any is changed.
                for (y, x, median) in standing_out(&plane, (h, w), noise) {
                    plane[y * w + x] = median;
                    repaired.hot_pixels += 1;
                }
            }
            let values = image.data.iter_mut().skip(channel).step_by(c);
            for (value, repaired) in values.zip(plane) {
                *value = repaired;
            }
        }
        repaired
    }
}

/// Removes the offsets of `lines` of `length` pixels; the first stride is from line to line, the other along a line.
/// Returns the number of lines with a statistically certain offset. The first and the last line, which have neighbors
/// on one side only, keep theirs.
fn level(plane: &mut [f32], lines: usize, length: usize, (across, along): (usize, usize)) -> usize {
    /// Lines on either side that a pixel is compared with.
    const REACH: usize = 7;
    /// An offset of this many standard errors is certain.
    const CERTAIN: f32 = 5.0;
    if lines < 2 * REACH + 1 || length < 16 {
        return 0;
    }
    let mut offsets = Vec::with_capacity(lines);
    for line in 1..lines - 1 {
        // Equally far on both sides, so that a picture whose brightness changes steadily has no offset.
        let reach = REACH.min(line).min(lines - 1 - line);
        let residuals = (0..length).filter_map(|i| {
            let mut around = [0.0_f32; 2 * REACH + 1];
            let around = &mut around[..=2 * reach];
            for (k, value) in around.iter_mut().enumerate() {
                *value = plane[(line - reach + k) * across + i * along];
            }
            // Missing neighbors would shift the median.
            if !around.iter().all(|value| value.is_finite()) {
                return None;
            }
            around.sort_by(f32::total_cmp);
            let residual = plane[line * across + i * along] - around[reach];
            residual.is_finite().then_some(residual)
        });
        let mut residuals: Vec<f32> = residuals.collect();
        if residuals.is_empty() {
            offsets.push(None);
            continue;
        }
        let offset = median(&mut residuals);
        for residual in &mut residuals {
            *residual = (*residual - offset).abs();
        }
        // Of a median, whose error is 1.25 times that of a mean.
        let spread = 1.4826 * median(&mut residuals);
        let error = 1.2533 * spread / (residuals.len() as f32).sqrt();
        offsets.push(Some((offset, error)));
    }
    // The picture keeps its level.
    let center = median(
        &mut offsets
            .iter()
            .flatten()
            .map(|&(offset, _)| offset)
            .collect::<Vec<_>>(),
    );
    let mut certain = 0;
    for (line, offset) in (1..).zip(offsets) {
        // Nothing is known of a line without residuals.
        let Some((offset, error)) = offset else {
            continue;
        };
        if (offset - center).abs() > CERTAIN * error {
            certain += 1;
            for i in 0..length {
                plane[line * across + i * along] -= offset - center;
            }
        }
    }
    certain
}

fn median(values: &mut [f32]) -> f32 {
    if values.is_empty() {
        return 0.0;
    }
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f32::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Depth;

    /// Two channels of cells without noise, 400 to 800 counts, and the same with noise that grows with the signal.
    fn images() -> (Image, Image) {
        let mut state = 1_u32;
        let mut normal = || {
            let mut uniform = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 24) as f32
            };
            (0..12).map(|_| uniform()).sum::<f32>() - 6.0
        };
        let (h, w) = (160, 200);
        let mut clean = Image {
            height: h,
            width: w,
            channels: 2,
            data: vec![0.0; 2 * h * w],
            depth: Depth::U16,
        };
        for (i, value) in clean.data.iter_mut().enumerate() {
            let (y, x) = ((i / 2 / w) as f32, (i / 2 % w) as f32);
            *value = (600.0 + 200.0 * (y / 20.0).sin() * (x / 25.0).cos()) / 65535.0;
        }
        let mut noisy = clean.clone();
        for value in &mut noisy.data {
            let counts = *value * 65535.0;
            *value = (counts + (0.5 * counts).sqrt() * normal()).round() / 65535.0;
        }
        (clean, noisy)
    }

    fn repaired(what: &str, image: &Image) -> (Image, Repaired) {
        let repairer = Repairer::measure(&[Frame::from(image)], what.parse().unwrap()).unwrap();
        let mut image = image.clone();
        let repaired = repairer.repair(&mut image);
        (image, repaired)
    }

    #[test]
    fn hot_and_dead_pixels_become_what_is_around_them_and_nothing_else_changes() {
        let (clean, noisy) = images();
        let mut faulty = noisy.clone();
        let at = |y: usize, x: usize, c: usize| (y * 200 + x) * 2 + c;
        let places = [at(20, 30, 0), at(21, 90, 1), at(100, 150, 1), at(77, 77, 0)];
        for (i, &place) in places.iter().enumerate() {
            faulty.data[place] = [0.1, 1.0, 0.0, 0.05][i];
        }
        let (image, counted) = repaired("hot-pixels", &faulty);
        assert_eq!(counted.hot_pixels, 4);
        for (i, &value) in image.data.iter().enumerate() {
            if places.contains(&i) {
                let sigma = (0.5 * 800.0_f32).sqrt() / 65535.0;
                assert!((value - clean.data[i]).abs() < 3.0 * sigma);
            } else {
                assert_eq!(value, noisy.data[i]);
            }
        }
        assert_eq!(repaired("hot-pixels", &noisy).1, Repaired::default());
        assert_eq!(repaired("none", &faulty).0, faulty);
    }

    #[test]
    fn offsets_of_rows_and_columns_are_taken_out_and_the_level_stays() {
        let (clean, noisy) = images();
        for columns in [false, true] {
            let mut faulty = noisy.clone();
            for (i, value) in faulty.data.iter_mut().enumerate() {
                let line = if columns { i / 2 % 200 } else { i / 400 };
                let offset = [0.0, 40.0, -25.0, 0.0, 10.0, -30.0, 0.0][line * 5 % 7];
                *value += offset / 65535.0;
            }
            let name = if columns { "columns" } else { "rows" };
            let (image, counted) = repaired(name, &faulty);
            assert!(
                if columns {
                    counted.columns
                } else {
                    counted.rows
                } > 150
            );
            let mean = |image: &Image, columns: bool, line: usize| {
                let lines = image.data.iter().zip(&clean.data).enumerate();
                let of = |i: usize| if columns { i / 2 % 200 } else { i / 400 };
                let differences = lines
                    .filter(|(i, _)| of(*i) == line)
                    .map(|(_, (a, b))| a - b);
                differences.clone().sum::<f32>() * 65535.0 / differences.count() as f32
            };
            // The noise is 20, so that a line's offset is known to 2; lines around it have offsets too.
            for line in 8..150 {
                let left = mean(&image, columns, line);
                assert!(left.abs() < 15.0, "{name}, line {line}: {left}");
            }
            let errors = |image: &Image| {
                let lines = 8..150;
                (lines
                    .map(|line| mean(image, columns, line).powi(2))
                    .sum::<f32>()
                    / 142.0)
                    .sqrt()
            };
            assert!(
                errors(&image) < 0.25 * errors(&faulty),
                "{}",
                errors(&image)
            );
        }
    }

    #[test]
    fn a_picture_without_faults_stays_as_it_is() {
        let (clean, noisy) = images();
        // By chance, a few of hundreds of lines may seem off.
        let (image, counted) = repaired("hot-pixels,rows,columns", &noisy);
        assert!(counted.rows + counted.columns <= 4, "{counted:?}");
        let changed = image
            .data
            .iter()
            .zip(&noisy.data)
            .filter(|(a, b)| a != b)
            .count();
        assert!(changed <= 4 * 200);
        assert_eq!(repaired("rows", &clean).1.rows, 0);
        // The first and the last row have neighbors on one side only, so that their offsets are unknown.
        let floats = Image {
            height: 15,
            width: 64,
            channels: 1,
            data: (0..15 * 64).map(|i| ((i / 64) as f32).powi(2)).collect(),
            depth: Depth::F32,
        };
        let (image, _) = repaired("rows", &floats);
        assert_eq!(image.data[..64], floats.data[..64]);
        assert_eq!(image.data[14 * 64..], floats.data[14 * 64..]);
        // Too small to tell anything.
        let small = Image::from_u8(3, 3, 1, &[9, 9, 9, 9, 255, 9, 9, 9, 9]).unwrap();
        assert_eq!(repaired("hot-pixels,rows,columns", &small).0, small);
    }

    #[test]
    fn rows_without_values_are_no_faults_and_those_among_them_stay() {
        let (_, mut image) = images();
        image.depth = Depth::F32;
        let is_missing = |row: usize| (53..68).contains(&row) && row != 60;
        for (i, value) in image.data.iter_mut().enumerate() {
            if is_missing(i / 400) {
                *value = f32::NAN;
            }
        }
        let mut repaired = image.clone();
        let what = "rows".parse().unwrap();
        let repairer = Repairer {
            what,
            noise: vec![],
        };
        // By chance, a few of hundreds of lines may seem off.
        assert!(repairer.repair(&mut repaired).rows <= 4);
        // Rows with a missing one within reach have no known offset.
        for row in 46..75 {
            for (a, b) in (repaired.data[400 * row..][..400].iter()).zip(&image.data[400 * row..]) {
                assert!(
                    a == b || is_missing(row) && a.is_nan(),
                    "row {row}: {a}, not {b}"
                );
            }
        }
    }

    #[test]
    fn the_text_is_read_as_it_is_written() {
        for text in [
            "none",
            "hot-pixels",
            "rows",
            "hot-pixels,columns",
            "hot-pixels,rows,columns",
        ] {
            assert_eq!(text.parse::<Repair>().unwrap().to_string(), text);
        }
        for text in ["", "hot", "rows,none"] {
            let error = text.parse::<Repair>().unwrap_err().to_string();
            assert!(
                error.contains("hot-pixels, rows, columns, or none"),
                "{error}"
            );
        }
        let some = Repaired {
            hot_pixels: 1,
            rows: 2,
            columns: 3,
        };
        assert_eq!(some.to_string(), "1 hot pixel, 2 rows and 3 columns");
        assert_eq!(Repaired::default().to_string(), "nothing");
    }
}
