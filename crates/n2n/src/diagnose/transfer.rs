//! Photon transfer: how the variance of the noise grows with the signal.
//!
//! For a camera, `variance = gain · (signal − offset) + read²`, all in the units of the image. Windows that contain
//! only a smooth signal lie close to that line; those with edges or texture lie above it. The line is therefore the
//! ridge of the lowest dense band of windows. Two steps alternate: find the most frequent ratio of the windows'
//! variances to the line and keep the windows within a symmetric interval around it; fit the line to those. The
//! symmetry keeps the selection of windows from biasing their variance.
//!
//! The line alone cannot distinguish read noise from an offset. The third moment can: that of photons is
//! `gain² · (signal − offset)`, and that of read noise is 0.

use serde::Serialize;

use super::windows::{Grid, Window};

/// Half-width of the interval that is kept, in standard deviations of the logarithm of the ratio.
const KEPT: f64 = 1.5;
/// Maximum mean square of a window's curved components, in variances of the noise: 95 of 100 windows of pure noise
/// have less.
const CURVED: f64 = 2.0;
/// Fraction of the windows in the densest interval.
const DENSEST: f64 = 0.25;
/// Error of the third moment due to the selection of windows, as a fraction: in simulated stacks with 2 to 10 electrons
/// in the dark, the offset was off by −0.04 to 0.10 times that signal.
const SELECTION: f64 = 0.04;
/// Minimum number of windows for fitting a line.
const FEWEST: usize = 24;

/// Noise against signal, in the units of the image.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Transfer {
    /// Increase of a pixel's variance with the signal: the slope of the line.
    pub slope: f64,
    /// Variance of a pixel at signal 0: the intercept of the line, which an offset can make negative.
    pub intercept: f64,
    /// Image values per photoelectron, if the noise grows with the signal and its correlation could be measured.
    pub gain: Option<f64>,
    /// The value of a pixel without light.
    pub offset: Option<Estimate>,
    /// Standard deviation of a pixel without light.
    pub read_noise: Option<Estimate>,
    /// The 5th percentile, the median and the 95th percentile of the signal, with the standard deviation of the noise
    /// there.
    pub levels: [SignalLevel; 3],
    /// The measured curve: signal and variance in bins, from dark to bright.
    pub curve: Vec<[f64; 2]>,
    /// Root mean square deviation of the bins from the line, as a fraction of the line.
    pub misfit: f64,
    /// Fraction of all windows that contain only noise and a smooth signal, 0 to 1.
    pub flat: f64,
}

/// A value with its standard error.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// Its standard error; 0 if the user gave the offset, and for the read noise where the noise does not grow with the
    /// signal.
    pub error: f64,
}

/// The noise at one signal level.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SignalLevel {
    /// The signal.
    pub signal: f64,
    /// Standard deviation of a pixel there.
    pub noise: f64,
}

/// The fitted line, and the windows it was fitted to.
#[derive(Debug, Clone)]
pub(super) struct Fit {
    pub slope: f64,
    pub intercept: f64,
    /// Minimum variance in the model.
    pub least: f64,
    /// Indices of the windows kept.
    pub kept: Vec<usize>,
    /// Standard error of the slope.
    slope_error: f64,
    windows: usize,
}

impl Fit {
    /// Variance of a pixel at a signal level.
    pub fn variance(&self, signal: f64) -> f64 {
        (self.slope * signal + self.intercept).max(self.least)
    }

    /// The same fit with variances multiplied by `factor`.
    #[must_use]
    pub fn scaled(mut self, factor: f64) -> Self {
        self.slope *= factor;
        self.intercept *= factor;
        self.least *= factor;
        self.slope_error *= factor;
        self
    }
}

/// Fits the line; `None` if there are too few windows. `area` is the sum of the noise's correlation over all lags:
/// the number of pixels that share one independent value.
pub(super) fn fit(windows: &[Window], grid: Grid, area: f64) -> Option<Fit> {
    if windows.len() < FEWEST {
        return None;
    }
    let (mut slope, mut intercept) = first_guess(windows);
    let median_variance = median(windows.iter().map(|w| w.variance).collect());
    let least = 1e-3 * median_variance;
    let mut kept = vec![];
    let mut width = 0.0;
    for _ in 0..20 {
        let ratio = |w: &Window| (w.variance / (slope * w.mean + intercept).max(least)).ln();
        let model = |w: &Window| (slope * w.mean + intercept).max(least);
        // Whether a window is curved says nothing about the noise that remains in it.
        let smooth = |w: &&Window| w.curved <= CURVED * area.max(1.0) * model(w);
        let enough = windows.iter().filter(smooth).count() * 5 >= windows.len();
        let calm = |w: &Window| !enough || smooth(&w);
        let ratios: Vec<f64> = windows.iter().map(ratio).collect();
        let calm_ratios = windows
            .iter()
            .zip(&ratios)
            .filter(|(w, _)| calm(w))
            .map(|(_, &r)| r);
        let calm_ratios: Vec<f64> = calm_ratios.collect();
        let mode = mode(&calm_ratios);
        // Structure affects only the right side; the left half has the width of the noise.
        let left = calm_ratios.iter().filter(|&&r| r < mode).map(|r| mode - r);
        width = 1.4826 * median(left.collect());
        let near = |&i: &usize| calm(&windows[i]) && (ratios[i] - mode).abs() <= KEPT * width;
        kept = (0..windows.len()).filter(near).collect();
        if kept.len() < FEWEST {
            return None;
        }
        let line = weighted_line(windows, &kept, |m| (slope * m + intercept).max(least));
        let (next_slope, next_intercept) = line.unwrap_or_else(|| flat_line(windows, &kept));
        let at = windows[kept[kept.len() / 2]].mean;
        let change = (next_slope - slope) * at + next_intercept - intercept;
        let done = change.abs() < 1e-5 * (slope * at + intercept).abs()
            && (next_slope - slope).abs() < 1e-4 * slope.abs();
        (slope, intercept) = (next_slope, next_intercept);
        if done {
            break;
        }
    }
    let means: Vec<f64> = kept.iter().map(|&i| windows[i].mean).collect();
    let center = mean(&means);
    let spread = mean(
        &means
            .iter()
            .map(|m| (m - center).powi(2))
            .collect::<Vec<_>>(),
    );
    let typical = (slope * center + intercept).max(least);
    let independent = kept.len() as f64 / grid.overlap();
    let slope_error = typical * width / (spread * independent).sqrt().max(f64::MIN_POSITIVE);
    // The means of windows scatter because of the noise, and by chance together with the variances. A slope can be
    // determined only if the signal varies by more than that.
    let by_chance = typical * area / (grid.side * grid.side) as f64;
    if spread < 4.0 * by_chance || slope.abs() < 3.0 * slope_error {
        (slope, intercept) = flat_line(windows, &kept);
    }
    Some(Fit {
        slope,
        intercept,
        least,
        kept,
        slope_error,
        windows: windows.len(),
    })
}

/// What is needed to interpret a line.
pub(super) struct Setting {
    /// Where the windows were taken.
    pub grid: Grid,
    /// As in [`fit`]; `None` if it could not be measured.
    pub area: Option<f64>,
    /// Whether neighboring pixels share no noise.
    pub is_white: bool,
    /// The step between the image's values, or 0.
    pub step: f64,
    /// The offset, if known.
    pub offset: Option<f64>,
}

/// Interprets the line. Third moments come from `single` if the windows are of differences of images, whose third
/// moments are 0.
pub(super) fn interpret(
    windows: &[Window],
    fit: &Fit,
    single: Option<&[Window]>,
    setting: &Setting,
) -> Transfer {
    let grows = fit.slope > 0.0;
    // The third moment says nothing about noise that neighbors share.
    let is_white = |area: &f64| grows && setting.is_white && *area < 1.2;
    let offset = match (setting.offset, setting.area.filter(is_white), single) {
        (Some(value), ..) => Some(Estimate { value, error: 0.0 }),
        (None, None, _) => None,
        (None, Some(_), None) => third_moment_offset(windows, fit, setting.grid),
        (None, Some(area), Some(single)) => {
            self::fit(single, setting.grid, area).and_then(|flat| {
                let kept = flat.kept;
                let fit = Fit {
                    kept,
                    ..fit.clone()
                };
                third_moment_offset(single, &fit, setting.grid)
            })
        }
    };
    let read_noise = read_noise(fit, offset, setting.step);
    // An offset with too large an error counts as unknown.
    let range = percentile(windows, 0.95) - percentile(windows, 0.05);
    let offset = offset.filter(|offset| offset.error < 0.25 * range.max(f64::MIN_POSITIVE));
    let level = |part| {
        let signal = percentile(windows, part);
        SignalLevel {
            signal,
            noise: fit.variance(signal).sqrt(),
        }
    };
    let curve = curve(windows, fit);
    let off = |[signal, variance]: &[f64; 2]| (variance / fit.variance(*signal) - 1.0).powi(2);
    let misfit = mean(&curve.iter().map(off).collect::<Vec<_>>()).sqrt();
    Transfer {
        slope: fit.slope,
        intercept: fit.intercept,
        gain: setting.area.filter(|_| grows).map(|area| fit.slope * area),
        offset,
        read_noise,
        levels: [level(0.05), level(0.5), level(0.95)],
        curve,
        misfit,
        flat: fit.kept.len() as f64 / fit.windows.max(1) as f64,
    }
}

/// `signal − third / slope²`, averaged with weights from the noise: dark windows count most.
fn third_moment_offset(windows: &[Window], fit: &Fit, grid: Grid) -> Option<Estimate> {
    let (mut weights, mut sum) = (0.0, 0.0);
    for &i in &fit.kept {
        let Window { mean, third, .. } = windows[i];
        let weight = fit.variance(mean).powi(-3);
        weights += weight;
        sum += weight * (mean - third / fit.slope.powi(2));
    }
    let value = sum / weights;
    // The variance of a third moment of n normal values is 6 σ⁶ / n.
    let pixels = (grid.side * grid.side) as f64;
    let of_moment = (6.0 / (pixels * weights / grid.overlap())).sqrt() / fit.slope.powi(2);
    // Plus the effect of an error in the slope.
    let dark = fit.kept.iter().map(|&i| windows[i].mean);
    let dark = dark.fold(f64::INFINITY, f64::min);
    let of_slope = 2.0 * (dark - value).abs() * fit.slope_error / fit.slope;
    // Windows whose variance is near the line have slightly less skewed noise than all.
    let of_selection = SELECTION * (dark - value).abs();
    let error = of_moment.hypot(of_slope).hypot(of_selection);
    (value.is_finite() && error.is_finite()).then_some(Estimate { value, error })
}

/// The noise at the offset, minus the contribution of rounding; `None` if photon noise hides it.
fn read_noise(fit: &Fit, offset: Option<Estimate>, step: f64) -> Option<Estimate> {
    if fit.slope <= 0.0 {
        let value = (fit.intercept - step * step / 12.0).max(0.0).sqrt();
        return (fit.slope == 0.0).then_some(Estimate { value, error: 0.0 });
    }
    let offset = offset?;
    let variance = (fit.slope * offset.value + fit.intercept - step * step / 12.0).max(0.0);
    let of_variance = fit.slope * offset.error;
    if of_variance > 0.5 * variance && of_variance > 0.05 * fit.slope.powi(2) {
        return None;
    }
    let value = variance.sqrt();
    // d√v = dv / 2√v, or √dv at 0.
    let error = of_variance / (2.0 * value).max(of_variance.sqrt()).max(f64::MIN_POSITIVE);
    Some(Estimate { value, error })
}

/// Means of signal and variance in bins with equal numbers of kept windows.
fn curve(windows: &[Window], fit: &Fit) -> Vec<[f64; 2]> {
    let mut kept: Vec<[f64; 2]> = fit
        .kept
        .iter()
        .map(|&i| [windows[i].mean, windows[i].variance])
        .collect();
    kept.sort_by(|a, b| a[0].total_cmp(&b[0]));
    let bins = (kept.len() / 12).clamp(1, 24);
    let size = kept.len().div_ceil(bins).max(1);
    let bin = |bin: &[[f64; 2]]| {
        let count = bin.len() as f64;
        let sum = |k: usize| bin.iter().map(|pair| pair[k]).sum::<f64>();
        [sum(0) / count, sum(1) / count]
    };
    kept.chunks(size).map(bin).collect()
}

/// A line through the 15th percentile of the variances in bins of the mean.
fn first_guess(windows: &[Window]) -> (f64, f64) {
    let mut sorted: Vec<&Window> = windows.iter().collect();
    sorted.sort_by(|a, b| a.mean.total_cmp(&b.mean));
    let bins = (windows.len() / 100).clamp(4, 20);
    let points: Vec<(f64, f64)> = sorted
        .chunks(windows.len().div_ceil(bins))
        .map(|bin| {
            let mut variances: Vec<f64> = bin.iter().map(|w| w.variance).collect();
            variances.sort_by(f64::total_cmp);
            let low = variances[variances.len() * 15 / 100];
            (
                bin.iter().map(|w| w.mean).sum::<f64>() / bin.len() as f64,
                low,
            )
        })
        .collect();
    let range = points[points.len() - 1].0 - points[0].0;
    let mut slopes = vec![];
    for (i, a) in points.iter().enumerate() {
        for b in &points[i + 1..] {
            if b.0 - a.0 > 1e-9 * range {
                slopes.push((b.1 - a.1) / (b.0 - a.0));
            }
        }
    }
    let slope = if slopes.is_empty() {
        0.0
    } else {
        median(slopes).max(0.0)
    };
    let intercept = median(points.iter().map(|(m, v)| v - slope * m).collect());
    (slope, intercept)
}

/// The least-squares line, weighted relative to `model`; `None` if the means do not differ.
fn weighted_line(
    windows: &[Window],
    kept: &[usize],
    model: impl Fn(f64) -> f64,
) -> Option<(f64, f64)> {
    let [mut w, mut wm, mut wmm, mut wv, mut wmv] = [0.0; 5];
    // Relative to a center, because an offset of thousands would cost all digits.
    let center = kept.iter().map(|&i| windows[i].mean).sum::<f64>() / kept.len() as f64;
    for &i in kept {
        let Window { mean, variance, .. } = windows[i];
        let weight = model(mean).powi(-2);
        let m = mean - center;
        w += weight;
        wm += weight * m;
        wmm += weight * m * m;
        wv += weight * variance;
        wmv += weight * m * variance;
    }
    let determinant = w * wmm - wm * wm;
    if determinant <= 1e-9 * w * wmm || !determinant.is_finite() {
        return None;
    }
    let slope = (w * wmv - wm * wv) / determinant;
    let at_center = (wmm * wv - wm * wmv) / determinant;
    Some((slope, at_center - slope * center))
}

fn flat_line(windows: &[Window], kept: &[usize]) -> (f64, f64) {
    let variances: Vec<f64> = kept.iter().map(|&i| windows[i].variance).collect();
    (0.0, mean(&variances))
}

/// The middle of the shortest interval that contains [`DENSEST`] of the values.
fn mode(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let count = ((DENSEST * sorted.len() as f64) as usize)
        .max(3)
        .min(sorted.len() - 1);
    let starts = 0..sorted.len() - count;
    let length = |i: usize| sorted[i + count] - sorted[i];
    let start = starts
        .min_by(|&a, &b| length(a).total_cmp(&length(b)))
        .unwrap_or(0);
    median(sorted[start..start + count].to_vec())
}

fn percentile(windows: &[Window], part: f64) -> f64 {
    let mut means: Vec<f64> = windows.iter().map(|w| w.mean).collect();
    means.sort_by(f64::total_cmp);
    means[((means.len() - 1) as f64 * part).round() as usize]
}

pub(super) fn median(mut values: Vec<f64>) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 {
        values[half]
    } else {
        f64::midpoint(values[half - 1], values[half])
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
