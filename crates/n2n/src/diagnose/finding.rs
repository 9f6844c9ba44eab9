//! What a diagnosis means for training, in sentences.

use std::fmt::{self, Write as _};

use serde::Serialize;

use super::correlation::CORRELATED;
use super::{Diagnosis, LAGS};
use crate::html::number;

/// Pixels with correlations below this count as independent, if others are far more strongly correlated.
const INDEPENDENT: f64 = 0.15;

/// Below this fraction of structure-free windows, texture may be mistaken for noise.
const FLAT: f64 = 0.15;

/// Channels share noise if their correlation is above this.
const BETWEEN_CHANNELS: f64 = 0.3;

/// A property of the images that matters for training on them.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Finding {
    /// Nothing could be measured: the images are too small, no window is free of structure, or there is no noise.
    NothingMeasured,
    /// Few windows are free of structure: the noise may be overestimated.
    FewFlatWindows {
        /// Fraction of all windows, 0 to 1.
        fraction: f64,
    },
    /// The correlation looks like that of texture, which may have been measured in place of noise.
    Texture,
    /// The noise is small relative to the range of the signal.
    LittleNoise {
        /// Standard deviation of the noise, as a fraction of the range of the signal.
        fraction: f64,
    },
    /// Neighboring pixels share noise, which a network mistakes for signal.
    Correlated {
        /// The direction in which they do.
        axis: Axis,
        /// The correlation at a distance of 1 along a row and along a column.
        at_one: [f64; 2],
        /// The distance in pixels at and beyond which pixels are independent, along a row and along a column; `None`
        /// if that is more than 8.
        independent_at: [Option<usize>; 2],
    },
    /// The picture was interpolated from a color filter array.
    Demosaiced {
        /// The ratio of the largest to the smallest noise variance among the positions of a 2×2 cell.
        variance_ratio: f64,
    },
    /// The picture is raw data: neighboring pixels lie behind different color filters.
    Mosaic {
        /// How far apart the means at these positions are, in standard deviations of the noise.
        mean_difference: f64,
    },
    /// Blocks of 8×8 pixels are visible.
    JpegBlocks {
        /// How much larger jumps between blocks are than jumps inside them, as a fraction.
        strength: f64,
    },
    /// Rows or columns have their own offsets.
    Lines {
        /// Rows, columns or both.
        axis: Axis,
        /// Standard deviation of the offsets of rows and of columns, as fractions of a pixel's noise.
        relative: [f64; 2],
    },
    /// Isolated pixels are extreme outliers.
    HotPixels {
        /// Number per million pixels.
        per_million: f64,
        /// Number of positions that stand out in most images.
        fixed: usize,
    },
    /// Pixels are at the upper end of the scale.
    Saturated {
        /// The end of the scale.
        value: f64,
        /// Fraction of the pixels, 0 to 1.
        fraction: f64,
    },
    /// The noise is clipped at the lower end of the scale.
    Clipped {
        /// The end of the scale.
        value: f64,
        /// Fraction of the pixels there, 0 to 1.
        fraction: f64,
    },
    /// Some values are not finite.
    NotFinite {
        /// Fraction of the values, 0 to 1.
        fraction: f64,
    },
    /// Values were rounded to steps as large as the noise.
    Coarse {
        /// The step.
        step: f64,
        /// The noise in dark regions, which is smaller.
        noise: f64,
    },
    /// There are gaps between values: the contrast was stretched after rounding.
    Gaps {
        /// Fraction of the values that are missing, 0 to 1.
        fraction: f64,
    },
    /// The noise does not follow photon transfer: the picture was processed.
    Processed,
    /// Channels share noise.
    ChannelsCorrelated {
        /// The largest correlation between two channels.
        max_correlation: f64,
    },
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// For information.
    Note,
    /// Training on the images as they are will give poor results.
    Warning,
}

/// Rows, columns or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// Along a row, or rows.
    X,
    /// Along a column, or columns.
    Y,
    /// Both.
    Both,
}

impl Axis {
    fn of([x, y]: [bool; 2]) -> Option<Self> {
        match (x, y) {
            (true, true) => Some(Self::Both),
            (true, false) => Some(Self::X),
            (false, true) => Some(Self::Y),
            (false, false) => None,
        }
    }
}

impl Diagnosis {
    /// What matters for training, most severe first.
    pub fn findings(&self) -> Vec<Finding> {
        let mut found = vec![];
        let values = &self.values;
        if values.not_finite > 0.0 {
            let fraction = values.not_finite;
            found.push(Finding::NotFinite { fraction });
        }
        if self.noise.is_empty() {
            found.push(Finding::NothingMeasured);
        }
        let mosaic = self.channels == 1 && self.color_filter.mean_difference > 0.5;
        if mosaic {
            let mean_difference = self.color_filter.mean_difference;
            found.push(Finding::Mosaic { mean_difference });
        }
        let demosaiced = self.channels >= 3 && self.color_filter.variance_ratio > 1.35;
        if demosaiced && !self.jpeg.found {
            let variance_ratio = self.color_filter.variance_ratio;
            found.push(Finding::Demosaiced { variance_ratio });
        }
        if self.jpeg.found {
            let strength = self.jpeg.strength;
            found.push(Finding::JpegBlocks { strength });
        }
        let lines = [self.rows, self.columns];
        let has_lines = lines.map(|lines| lines.matters());
        if let Some(correlation) = self.correlation.as_ref().filter(|_| !mosaic) {
            let correlated = [&correlation.x, &correlation.y]
                .map(|along| along[1..].iter().any(|value| value.abs() >= CORRELATED));
            if let Some(axis) = Axis::of(correlated) {
                found.push(Finding::Correlated {
                    axis,
                    at_one: [correlation.x[1], correlation.y[1]],
                    independent_at: correlation.independent_at(INDEPENDENT),
                });
                if correlation.resembles_texture() {
                    found.push(Finding::Texture);
                }
            }
        }
        if let Some(axis) = Axis::of(has_lines) {
            let relative = lines.map(|l| l.relative);
            found.push(Finding::Lines { axis, relative });
        }
        let hot = &self.hot_pixels;
        // Where there is structure everywhere, single pixels stand out anyway.
        if hot.fixed > 0 || (hot.count >= 3 && hot.per_million >= 5.0 && self.flat() >= FLAT) {
            found.push(Finding::HotPixels {
                per_million: hot.per_million,
                fixed: hot.fixed,
            });
        }
        if let Some(fraction) = values.clipped_low.filter(|&fraction| fraction >= 1e-3) {
            let value = values.min.into();
            found.push(Finding::Clipped { value, fraction });
        }
        if let Some(fraction) = values.clipped_high.filter(|&fraction| fraction >= 1e-4) {
            let value = values.max.into();
            found.push(Finding::Saturated { value, fraction });
        }
        self.about_noise(&mut found);
        found.sort_by_key(|finding| std::cmp::Reverse(finding.severity()));
        found
    }

    /// The fraction of structure-free windows, 0 to 1, in the channel with the fewest.
    fn flat(&self) -> f64 {
        if self.same_scene {
            return 1.0;
        }
        self.noise
            .iter()
            .map(|noise| noise.flat)
            .fold(1.0, f64::min)
    }

    fn about_noise(&self, found: &mut Vec<Finding>) {
        let Some(first) = self.noise.first() else {
            return;
        };
        let [dark, middle, bright] = first.levels;
        if let Some(step) = self.values.step.filter(|&step| dark.noise < 0.7 * step) {
            let noise = dark.noise;
            found.push(Finding::Coarse { step, noise });
        }
        if self.values.gaps > 0.1 {
            let fraction = self.values.gaps;
            found.push(Finding::Gaps { fraction });
        }
        let range = bright.signal - dark.signal;
        if range > 0.0 && middle.noise < 0.005 * range {
            let fraction = middle.noise / range;
            found.push(Finding::LittleNoise { fraction });
        }
        let worst = |of: fn(&super::Transfer) -> f64| self.noise.iter().map(of).fold(0.0, f64::max);
        let falls = self.noise.iter().any(|noise| noise.slope < 0.0);
        if falls || worst(|noise| noise.misfit) > 0.25 {
            found.push(Finding::Processed);
        }
        let fraction = self.flat();
        if fraction < FLAT {
            found.push(Finding::FewFlatWindows { fraction });
        }
        let max_correlation = self.between_channels();
        if max_correlation > BETWEEN_CHANNELS {
            found.push(Finding::ChannelsCorrelated { max_correlation });
        }
    }

    /// The largest correlation between two channels.
    fn between_channels(&self) -> f64 {
        let all = self.between_channels.iter();
        all.fold(0.0, |most: f64, c| most.max(c.abs()))
    }

    /// The noise in sentences: how strong it is, and what that says about the camera.
    pub fn summary(&self) -> Vec<String> {
        let mut lines = vec![];
        if self.same_scene {
            lines.push("The images show the same scene: they differ only in noise.".into());
        }
        let names: &[&str] = match self.channels {
            1 => &["The"],
            3 => &["Red: the", "Green: the", "Blue: the"],
            _ => &[],
        };
        for (channel, noise) in self.noise.iter().enumerate() {
            let numbered = format!("Channel {}: the", channel + 1);
            let name = names.get(channel).map_or(numbered.as_str(), |name| name);
            let [dark, _, bright] = noise.levels;
            let mut line = if noise.slope == 0.0 {
                format!(
                    "{name} noise has a standard deviation of {} at every signal level.",
                    number(dark.noise)
                )
            } else {
                let grows = if noise.slope > 0.0 {
                    "grows"
                } else {
                    "changes"
                };
                format!(
                    "{name} noise {grows} with the signal: its standard deviation is {} at a signal of \
                     {}, and {} at {}.",
                    number(dark.noise),
                    number(dark.signal),
                    number(bright.noise),
                    number(bright.signal)
                )
            };
            // Processing and compression destroy photon statistics.
            let from_camera = !self.jpeg.found
                && noise.misfit < 0.25
                && self.between_channels() <= BETWEEN_CHANNELS;
            if let Some(gain) = noise.gain.filter(|_| from_camera) {
                let _ = write!(
                    line,
                    " Interpreted as photon noise: gain {} per photoelectron",
                    number(gain)
                );
                match (noise.offset, noise.read_noise) {
                    (Some(offset), Some(read)) => {
                        let _ = write!(
                            line,
                            ", offset {}, read noise {} ({} electrons).",
                            with_error(offset),
                            with_error(read),
                            number(read.value / noise.slope)
                        );
                    }
                    (Some(offset), None) => {
                        let _ = write!(
                            line,
                            ", offset {}; photon noise hides the read noise.",
                            with_error(offset)
                        );
                    }
                    _ => line += "; offset and read noise cannot be determined from these images.",
                }
            }
            lines.push(line);
        }
        if let Some(correlation) = &self.correlation
            && (1..=LAGS)
                .all(|lag| correlation.x[lag].abs().max(correlation.y[lag].abs()) < CORRELATED)
        {
            lines.push(
                "The noise of neighboring pixels is independent, as the method requires.".into(),
            );
        }
        lines
    }
}

fn with_error(estimate: super::Estimate) -> String {
    if estimate.error > 0.0 {
        // The error with two digits, the value to the same decimal place.
        let decimals = (1.0 - estimate.error.log10().floor()).clamp(0.0, 6.0) as usize;
        format!(
            "{:.decimals$} ± {:.decimals$}",
            estimate.value, estimate.error
        )
    } else {
        number(estimate.value)
    }
}

/// A fraction as a percentage with two digits.
fn percent(fraction: f64) -> String {
    let percent = 100.0 * fraction;
    if percent >= 10.0 {
        return format!("{percent:.0} %");
    }
    let decimals = (1.0 - percent.max(1e-6).log10().floor()) as usize;
    format!(
        "{} %",
        number(format!("{percent:.decimals$}").parse().unwrap_or(percent))
    )
}

impl Finding {
    /// How severe it is.
    pub fn severity(&self) -> Severity {
        match self {
            Self::LittleNoise { .. }
            | Self::Gaps { .. }
            | Self::Processed
            | Self::ChannelsCorrelated { .. }
            | Self::FewFlatWindows { .. }
            | Self::Texture => Severity::Note,
            Self::Saturated { fraction, .. } if *fraction < 0.01 => Severity::Note,
            Self::Clipped { fraction, .. } if *fraction < 0.02 => Severity::Note,
            Self::HotPixels { per_million, .. } if *per_million < 50.0 => Severity::Note,
            _ => Severity::Warning,
        }
    }
}

impl fmt::Display for Finding {
    /// One to three sentences.
    #[allow(clippy::too_many_lines, reason = "an arm is a sentence")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingMeasured => write!(
                f,
                "No noise could be measured: the images are too small for enough windows of 16×16 \
                 pixels, contain no noise, or contain structure everywhere."
            ),
            Self::FewFlatWindows { fraction } => write!(
                f,
                "Only {} of the windows are free of structure: some of these noise measurements \
                 may describe texture instead.",
                percent(*fraction)
            ),
            Self::Texture => write!(
                f,
                "The correlation resembles that of texture: some of these noise measurements may \
                 describe the picture instead."
            ),
            Self::LittleNoise { fraction } => write!(
                f,
                "There is little noise: its standard deviation is {} of the signal range.",
                percent(*fraction)
            ),
            Self::Correlated {
                axis,
                at_one: [x, y],
                independent_at,
            } => {
                let (along, at_one) = match axis {
                    Axis::X => ("along rows", format!("{x:.2} to the next pixel")),
                    Axis::Y => ("along columns", format!("{y:.2} to the next pixel")),
                    Axis::Both => (
                        "along rows and columns",
                        format!(
                            "{x:.2} to the next pixel in the row, {y:.2} to the next in the column"
                        ),
                    ),
                };
                write!(
                    f,
                    "The noise is correlated {along} ({at_one}). A network trained on neighboring \
                     pixels mistakes the shared noise for signal and keeps it."
                )?;
                if independent_at.iter().all(|distance| *distance == Some(1)) {
                    return Ok(());
                }
                let in_line = |distance: Option<usize>, line: &str| match distance {
                    Some(1) => format!("adjacent pixels in a {line} are nearly independent"),
                    Some(distance) => {
                        format!("pixels {distance} apart in a {line} are independent")
                    }
                    None => format!("pixels in a {line} are not independent within {LAGS} pixels"),
                };
                let [x, y] = *independent_at;
                let clauses = match axis {
                    Axis::X => in_line(x, "row"),
                    Axis::Y => in_line(y, "column"),
                    Axis::Both => format!("{}; {}", in_line(x, "row"), in_line(y, "column")),
                };
                let (first, rest) = clauses.split_at(1);
                write!(f, " {}{rest}.", first.to_uppercase())
            }
            Self::Demosaiced { variance_ratio } => write!(
                f,
                "The picture was interpolated from a color filter array: at some positions of \
                 every 2×2 cell the noise has {} times the variance it has at others.",
                number(*variance_ratio)
            ),
            Self::Mosaic { .. } => write!(
                f,
                "This is a raw mosaic: the pixels of every 2×2 cell are behind different color \
                 filters, so neighbors do not show the same signal."
            ),
            Self::JpegBlocks { strength } => write!(
                f,
                "Blocks of 8×8 pixels are visible, as from JPEG: jumps between blocks are {} \
                 larger than those inside them. Compression has removed fine noise and spread the rest \
                 over each block.",
                percent(*strength)
            ),
            Self::Lines {
                axis,
                relative: [rows, columns],
            } => match axis {
                Axis::X => write!(
                    f,
                    "Rows have individual offsets, with a standard deviation of {} of a pixel's \
                     noise.",
                    percent(*rows)
                ),
                Axis::Y => write!(
                    f,
                    "Columns have individual offsets, with a standard deviation of {} of a \
                     pixel's noise.",
                    percent(*columns)
                ),
                Axis::Both => write!(
                    f,
                    "Rows and columns have individual offsets, with standard deviations of {} and \
                     {} of a pixel's noise.",
                    percent(*rows),
                    percent(*columns)
                ),
            },
            Self::HotPixels { per_million, fixed } => {
                write!(
                    f,
                    "Hot pixels: {} per million differ strongly from all their neighbors",
                    number(*per_million)
                )?;
                match fixed {
                    0 => write!(f, "."),
                    1 => write!(f, "; one position stands out in most images."),
                    _ => write!(f, "; {fixed} positions stand out in most images."),
                }
            }
            Self::Saturated { value, fraction } => write!(
                f,
                "{} of the pixels are saturated at {}: anything brighter is lost.",
                percent(*fraction),
                number(*value)
            ),
            Self::Clipped { value, fraction } => write!(
                f,
                "{} of the pixels are at the lowest value, {}, where the noise is clipped: \
                 averages there are too bright.",
                percent(*fraction),
                number(*value)
            ),
            Self::NotFinite { fraction } => {
                write!(
                    f,
                    "{} of the pixels are NaN or infinite.",
                    percent(*fraction)
                )
            }
            Self::Coarse { step, noise } => write!(
                f,
                "Values were rounded to steps of {}, larger than the noise of {} in dark regions.",
                number(*step),
                number(*noise)
            ),
            Self::Gaps { fraction } => write!(
                f,
                "{} of the intermediate values never occur: the contrast was stretched after \
                 rounding.",
                percent(*fraction)
            ),
            Self::Processed => write!(
                f,
                "The noise does not grow with the signal as photon noise does: the values went \
                 through a tone curve or other processing."
            ),
            Self::ChannelsCorrelated { max_correlation } => write!(
                f,
                "Channels share noise (correlation {max_correlation:.2}), from demosaicing, color conversion \
                 or compression."
            ),
        }
    }
}
