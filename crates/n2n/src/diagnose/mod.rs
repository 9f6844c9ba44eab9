//! Measures the noise of images before hours are spent training on them: how strong it is at each signal level,
//! whether neighboring pixels share it, and what else is wrong with the pixels.
//!
//! [`diagnose`] analyzes images in their own units and returns its measurements as a [`Diagnosis`]; its
//! [`Finding`]s say what they mean for training. No clean image is needed. Noise is separated from the picture in
//! windows that contain only a smooth signal or, if several images show the same scene, by taking their
//! differences.
//!
//! ```
//! use n2n::diagnose::{Frame, Options, diagnose};
//!
//! // A ramp from 100 to 400 with the same noise everywhere.
//! let mut state = 1_u32;
//! let mut noise = || {
//!     // The sum of twelve uniform numbers is nearly normal with variance 1.
//!     (0..12).map(|_| {
//!         state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
//!         (state >> 8) as f32 / (1 << 24) as f32
//!     }).sum::<f32>() - 6.0
//! };
//! let data = (0..128 * 128).map(|i| 100.0 + (i % 128) as f32 * 2.34 + 5.0 * noise()).collect();
//! let ramp = Frame { height: 128, width: 128, channels: 1, data };
//! let diagnosis = diagnose(&[ramp], &Options::default())?;
//! let noise = diagnosis.noise[0].levels[1].noise;
//! assert!((noise - 5.0).abs() < 0.3);
//! assert!(diagnosis.correlation.unwrap().x[1].abs() < 0.05);
//! # Ok::<(), n2n::Error>(())
//! ```

mod correlation;
mod finding;
mod grid;
mod page;
mod pattern;
#[cfg(test)]
mod tests;
mod transfer;
mod values;
mod windows;

pub use correlation::{Autocorrelation, LAGS};
pub use finding::{Axis, Finding, Severity};
pub use grid::{ColorFilter, JpegBlocks};
pub use page::{Remedy, page};
pub use pattern::{HotPixels, LinePattern};
pub(crate) use pattern::{NoiseLine, standing_out};
pub use transfer::{Estimate, SignalLevel, Transfer};
pub use values::Values;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::image::Image;
use correlation::Covariances;
use transfer::{Fit, Setting};
use windows::{Basis, Grid, Window};

/// An image in the units of its file: camera counts, 0 to 255, or any other.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// Channels, at least 1.
    pub channels: usize,
    /// `height · width · channels` values in the order height, width, channel.
    pub data: Vec<f32>,
}

impl From<&Image> for Frame {
    /// The image in the units of its file.
    fn from(image: &Image) -> Self {
        let unit = image.depth.unit();
        let count = |&value: &f32| {
            if unit == 1.0 {
                value
            } else {
                (value * unit).round()
            }
        };
        Self {
            height: image.height,
            width: image.width,
            channels: image.channels,
            data: image.data.iter().map(count).collect(),
        }
    }
}

impl Frame {
    /// The central part, at most this high and wide.
    ///
    /// Its corner is a multiple of 8 pixels from that of the image, so the grids of a color filter array and of JPEG
    /// stay aligned.
    #[must_use]
    pub fn middle(&self, height: usize, width: usize) -> Self {
        let (height, width) = (self.height.min(height), self.width.min(width));
        let top = (self.height - height) / 2 / 8 * 8;
        let left = (self.width - width) / 2 / 8 * 8;
        let rows = (top..top + height).flat_map(|y| {
            let from = (y * self.width + left) * self.channels;
            &self.data[from..from + width * self.channels]
        });
        Self {
            height,
            width,
            channels: self.channels,
            data: rows.copied().collect(),
        }
    }
}

/// Options for the analysis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// The value of a pixel without light, if known. Otherwise it is estimated, if the noise is independent from
    /// pixel to pixel and there are few photons.
    pub offset: Option<f64>,
    /// Approximate maximum number of windows to analyze. Errors shrink with its square root.
    pub windows: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            offset: None,
            windows: 40_000,
        }
    }
}

impl Options {
    /// Options for a quick analysis, which takes less than a second on two megapixels.
    pub fn quick() -> Self {
        Self {
            windows: 5_000,
            ..Self::default()
        }
    }
}

/// The measurements.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Diagnosis {
    /// Number of images analyzed.
    pub images: usize,
    /// Channels per image.
    pub channels: usize,
    /// Whether the images show the same scene, so that the noise was measured from their differences.
    pub same_scene: bool,
    /// The values that occur.
    pub values: Values,
    /// Noise against signal for each channel; empty if nothing could be measured.
    pub noise: Vec<Transfer>,
    /// Autocorrelation of the noise, averaged over the channels; `None` if nothing could be measured.
    pub correlation: Option<Autocorrelation>,
    /// Correlation of the noise between each pair of channels at the same pixel: 1 and 2, 1 and 3, 2 and 3 for RGB.
    pub between_channels: Vec<f64>,
    /// Row offsets.
    pub rows: LinePattern,
    /// Column offsets.
    pub columns: LinePattern,
    /// Isolated extreme pixels.
    pub hot_pixels: HotPixels,
    /// Block edges from lossy compression.
    pub jpeg: JpegBlocks,
    /// Traces of a color filter array.
    pub color_filter: ColorFilter,
}

/// A channel of an image.
pub(crate) struct Plane {
    pub height: usize,
    pub width: usize,
    pub data: Vec<f32>,
    /// Values at or below this count as clipped.
    pub floor: f32,
    /// Values at or above this count as saturated.
    pub ceiling: f32,
    pub frame: usize,
    pub channel: usize,
}

impl Plane {
    fn transposed(&self) -> Self {
        let (height, width) = (self.width, self.height);
        let pixel = |i: usize| self.data[(i % width) * self.width + i / width];
        Self {
            height,
            width,
            data: (0..height * width).map(pixel).collect(),
            ..*self
        }
    }

    /// Combines two planes pixel by pixel; the result has no clipping limits.
    fn with(&self, other: &Self, mut combine: impl FnMut(f32, f32) -> f32) -> Self {
        let usable = |plane: &Self, value: f32| value > plane.floor && value < plane.ceiling;
        let pixel = |(&a, &b): (&f32, &f32)| {
            if usable(self, a) && usable(other, b) {
                combine(a, b)
            } else {
                f32::NAN
            }
        };
        Self {
            data: self.data.iter().zip(&other.data).map(pixel).collect(),
            floor: f32::NEG_INFINITY,
            ceiling: f32::INFINITY,
            ..*self
        }
    }
}

/// Side and degree of the windows for photon transfer: small, so that many contain no edge.
const TRANSFER: (usize, usize) = (10, 3);
/// Side and degree of the windows for the autocorrelation: twice the largest lag.
const CORRELATION: (usize, usize) = (2 * LAGS, 2);

/// Analyzes images.
///
/// Images may differ in size, but not in their number of channels. Images that are too small for a window of 16
/// pixels, or without noise, give a less complete diagnosis.
///
/// # Errors
/// [`Error::Value`] if there are no images, if they differ in channels, or if the data do not match the stated size.
pub fn diagnose(frames: &[Frame], options: &Options) -> Result<Diagnosis> {
    let channels = check(frames)?;
    let mut planes = planes(frames, channels);
    let values = Values::of(&planes.iter().map(|plane| plane.data.as_slice()));
    for plane in &mut planes {
        if values.clipped_low.is_some() {
            plane.floor = values.min;
        }
        if values.clipped_high.is_some() {
            plane.ceiling = values.max;
        }
    }
    let mut same_scene = show_the_same(&planes, channels);
    let step = values.step.unwrap_or(0.0);
    let transposed: Vec<Plane> = planes.iter().map(Plane::transposed).collect();
    let lines = [&planes, &transposed].map(|planes| LinePattern::of_rows(planes));
    let jpeg = JpegBlocks::find(&planes, &transposed);
    drop(transposed);
    let mut found = noise(&mut planes, channels, same_scene, step, lines, options);
    if found.is_none() && same_scene {
        // Copies of one image have no differences.
        same_scene = false;
        found = noise(&mut planes, channels, same_scene, step, lines, options);
    }
    let typical = found.as_ref().map_or(0.0, |noise| noise.typical);
    let [rows, columns] = lines.map(|lines| lines.relative_to(typical));
    let Some(found) = found else {
        return Ok(Diagnosis {
            images: frames.len(),
            channels,
            same_scene,
            values,
            noise: vec![],
            correlation: None,
            between_channels: vec![],
            rows,
            columns,
            hot_pixels: HotPixels {
                count: 0,
                per_million: 0.0,
                fixed: 0,
                positions: vec![],
            },
            jpeg,
            color_filter: ColorFilter {
                variance_ratio: 1.0,
                mean_difference: 0.0,
            },
        });
    };
    Ok(Diagnosis {
        images: frames.len(),
        channels,
        same_scene,
        values,
        between_channels: found.between_channels,
        rows,
        columns,
        hot_pixels: found.hot_pixels,
        jpeg,
        color_filter: found.color_filter,
        noise: found.transfer,
        correlation: Some(found.correlation),
    })
}

fn check(frames: &[Frame]) -> Result<usize> {
    let Some(first) = frames.first() else {
        return Err(Error::value("images", "at least one", "none"));
    };
    for (index, frame) in frames.iter().enumerate() {
        let size = (frame.height.checked_mul(frame.width))
            .and_then(|pixels| pixels.checked_mul(frame.channels));
        if size != Some(frame.data.len()) || frame.channels == 0 {
            return Err(Error::value(
                format_args!("image {index}"),
                format_args!("{}x{}x{} values", frame.height, frame.width, frame.channels),
                frame.data.len(),
            ));
        }
        if frame.channels != first.channels {
            return Err(Error::value(
                format_args!("channels of image {index}"),
                format_args!("{}, as the first has", first.channels),
                frame.channels,
            ));
        }
    }
    Ok(first.channels)
}

/// Every channel of every image, grouped by image.
fn planes(frames: &[Frame], channels: usize) -> Vec<Plane> {
    let of_frame = frames.iter().enumerate().flat_map(|(frame, image)| {
        (0..channels).map(move |channel| Plane {
            height: image.height,
            width: image.width,
            data: image
                .data
                .iter()
                .skip(channel)
                .step_by(channels)
                .copied()
                .collect(),
            floor: f32::NEG_INFINITY,
            ceiling: f32::INFINITY,
            frame,
            channel,
        })
    });
    of_frame.collect()
}

/// Whether consecutive images differ far less than positions within an image.
fn show_the_same(planes: &[Plane], channels: usize) -> bool {
    let (mut within, mut between, mut pairs) = (0.0, 0.0, 0);
    for (a, b) in planes.iter().zip(planes.iter().skip(channels)) {
        if (a.height, a.width) != (b.height, b.width) {
            return false;
        }
        let grid = Grid {
            side: 16,
            stride: 16,
        };
        let mean = |plane: &Plane, (y, x): (usize, usize)| {
            let rows = (y..y + 16).flat_map(|y| &plane.data[y * plane.width + x..][..16]);
            rows.map(|&value| f64::from(value)).sum::<f64>() / 256.0
        };
        let means: Vec<[f64; 2]> = grid
            .corners(a)
            .map(|corner| [mean(a, corner), mean(b, corner)])
            .filter(|means| means.iter().all(|mean| mean.is_finite()))
            .collect();
        let variance = |of: &dyn Fn(&[f64; 2]) -> f64| {
            let values: Vec<f64> = means.iter().map(of).collect();
            let center = values.iter().sum::<f64>() / values.len().max(1) as f64;
            values
                .iter()
                .map(|value| (value - center).powi(2))
                .sum::<f64>()
        };
        within += variance(&|m| m[0]) + variance(&|m| m[1]);
        between += variance(&|m| m[0] - m[1]);
        pairs += means.len();
    }
    pairs >= 16 && between < 0.05 * within
}

/// Everything measured in flat windows.
struct Noise {
    transfer: Vec<Transfer>,
    correlation: Autocorrelation,
    between_channels: Vec<f64>,
    hot_pixels: HotPixels,
    color_filter: ColorFilter,
    /// Standard deviation at the median of the signal, averaged over the channels.
    typical: f64,
}

fn noise(
    planes: &mut [Plane],
    channels: usize,
    same_scene: bool,
    step: f64,
    lines: [LinePattern; 2],
    options: &Options,
) -> Option<Noise> {
    let found = flat_noise(planes, channels, same_scene, step, lines, options);
    if found.is_some() {
        return found;
    }
    // If every window contains a pixel at an end of the scale, use all windows rather than none.
    let cut = |plane: &Plane| plane.floor.is_finite() || plane.ceiling.is_finite();
    if !planes.iter().any(cut) {
        return None;
    }
    for plane in &mut *planes {
        (plane.floor, plane.ceiling) = (f32::NEG_INFINITY, f32::INFINITY);
    }
    flat_noise(planes, channels, same_scene, step, lines, options)
}

fn flat_noise(
    planes: &[Plane],
    channels: usize,
    same_scene: bool,
    step: f64,
    lines: [LinePattern; 2],
    options: &Options,
) -> Option<Noise> {
    // For a single scene, the difference of two images divided by √2 has the noise of one image and no signal.
    let pairs = || planes.iter().zip(planes.iter().skip(channels));
    let differences: Vec<Plane> = if same_scene {
        pairs()
            .map(|(a, b)| a.with(b, |a, b| (a - b) * std::f32::consts::FRAC_1_SQRT_2))
            .collect()
    } else {
        vec![]
    };
    let means: Vec<Plane> = if same_scene {
        pairs().map(|(a, b)| a.with(b, f32::midpoint)).collect()
    } else {
        vec![]
    };
    let (noisy, mean_of) = if same_scene {
        (differences.as_slice(), Some(means.as_slice()))
    } else {
        (planes, None)
    };

    // The correlation comes first, because what a fit removes from a window depends on it.
    let basis = Basis::new(CORRELATION.0, CORRELATION.1);
    let grid = Grid::of(noisy, basis.side, options.windows);
    let windows = windows::measure(noisy, mean_of, &basis, grid);
    let rough: Vec<(Vec<Window>, Fit)> = (0..channels)
        .filter_map(|channel| {
            let of_channel = |w: &&Window| noisy[w.plane].channel == channel;
            let windows: Vec<Window> = windows.iter().filter(of_channel).copied().collect();
            let fit = transfer::fit(&windows, grid, 1.0)?;
            Some((windows, fit))
        })
        .collect();
    if rough.len() < channels {
        return None;
    }
    let covariances: Vec<Covariances> = rough
        .iter()
        .map(|(windows, fit)| {
            correlation::covariances(noisy, windows, fit, &basis, options.windows / 2)
        })
        .collect();
    let covariances = Covariances::mean(&covariances);
    // Line offsets are measured separately, because they are the same at every lag.
    let typical = median_noise(&rough);
    let has_lines = lines.map(|lines| lines.relative_to(typical).matters());
    let correlation = Autocorrelation::from(&covariances.clone().without_lines(has_lines));
    let (windows, fit) = &rough[0];
    let mut color_filter = ColorFilter::of(noisy, windows, fit, &basis);
    for (windows, fit) in &rough[1..] {
        let other = ColorFilter::of(noisy, windows, fit, &basis);
        color_filter.variance_ratio = color_filter.variance_ratio.max(other.variance_ratio);
        color_filter.mean_difference = color_filter.mean_difference.max(other.mean_difference);
    }
    let between_channels = between_channels(noisy, &rough, &basis, channels);

    let basis = Basis::new(TRANSFER.0, TRANSFER.1);
    let grid = Grid::of(noisy, basis.side, options.windows);
    let left = covariances.left_by(&basis);
    let area = correlation.area;
    let measured = windows::measure(noisy, mean_of, &basis, grid);
    // Differences have a symmetric distribution, so their third moment carries no information; that of the images
    // does.
    let single = same_scene.then(|| windows::measure(planes, None, &basis, grid));
    let mut transfer = vec![];
    let mut fits = vec![];
    for channel in 0..channels {
        let select = |windows: &[Window], planes: &[Plane]| -> Vec<Window> {
            let of_channel = |w: &&Window| planes[w.plane].channel == channel;
            windows.iter().filter(of_channel).copied().collect()
        };
        let mut windows = select(&measured, noisy);
        let fit = transfer::fit(&windows, grid, area)?.scaled(1.0 / left);
        for window in &mut windows {
            window.variance /= left;
        }
        let single = single.as_ref().map(|single| select(single, planes));
        let setting = Setting {
            grid,
            area: correlation.has_area().then_some(area),
            is_white: correlation.is_white(),
            step,
            offset: options.offset,
        };
        transfer.push(transfer::interpret(
            &windows,
            &fit,
            single.as_deref(),
            &setting,
        ));
        fits.push(fit);
    }
    let hot_pixels = HotPixels::find(planes, &fits);
    let typical = transfer.iter().map(|t| t.levels[1].noise).sum::<f64>() / channels as f64;
    Some(Noise {
        transfer,
        correlation,
        between_channels,
        hot_pixels,
        color_filter,
        typical,
    })
}

/// Standard deviation of a pixel at the median of the signal, averaged over the channels.
fn median_noise(channels: &[(Vec<Window>, Fit)]) -> f64 {
    let noise = channels.iter().map(|(windows, fit)| {
        let means = fit.kept.iter().map(|&i| windows[i].mean);
        fit.variance(transfer::median(means.collect())).sqrt()
    });
    noise.sum::<f64>() / channels.len().max(1) as f64
}

/// Correlation of the residuals of each pair of channels in the windows that are flat in the first.
fn between_channels(
    planes: &[Plane],
    rough: &[(Vec<Window>, Fit)],
    basis: &Basis,
    channels: usize,
) -> Vec<f64> {
    let mut sums = vec![vec![0.0; channels]; channels];
    let (windows, fit) = &rough[0];
    let step = fit.kept.len().div_ceil(2000).max(1);
    let mut residuals = vec![vec![0.0; basis.side * basis.side]; channels];
    for &i in fit.kept.iter().step_by(step).filter(|_| channels > 1) {
        let Window { plane, y, x, .. } = windows[i];
        let whole = residuals.iter_mut().enumerate().all(|(channel, residual)| {
            windows::pixels(&planes[plane + channel], (y, x), basis.side, residual).is_some()
        });
        if !whole {
            continue;
        }
        for residual in &mut residuals {
            basis.subtract_fit(residual);
        }
        for a in 0..channels {
            for b in a..channels {
                let products = residuals[a].iter().zip(&residuals[b]).map(|(a, b)| a * b);
                sums[a][b] += products.sum::<f64>();
            }
        }
    }
    let mut found = vec![];
    for a in 0..channels {
        for b in a + 1..channels {
            let scale = (sums[a][a] * sums[b][b]).sqrt();
            found.push(if scale > 0.0 { sums[a][b] / scale } else { 0.0 });
        }
    }
    found
}
