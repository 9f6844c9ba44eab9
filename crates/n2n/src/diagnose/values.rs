//! The values that occur: their step, and whether they pile up at an end of the scale.

use std::fmt::{self, Display};

use serde::Serialize;

use crate::words::shown;

/// Maximum number of values analyzed.
const SAMPLE: usize = 1 << 21;
/// Minimum number of pixels in a pile.
const PILE: usize = 16;

/// The values of the images.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Values {
    /// The smallest value.
    pub min: f32,
    /// The largest value.
    pub max: f32,
    /// Fraction of pixels that are not finite, 0 to 1.
    pub not_finite: f64,
    /// Fraction of pixels at the smallest value, if values pile up there: the noise is clipped.
    pub clipped_low: Option<f64>,
    /// Fraction of pixels at the largest value, if values pile up there: they are saturated.
    pub clipped_high: Option<f64>,
    /// The distance between adjacent values; `None` if they are not multiples of a step.
    pub step: Option<f64>,
    /// Fraction of the multiples of the step between the 1st and the 99th percentile that never occur, 0 to 1: the
    /// gaps left by stretching the contrast.
    pub gaps: f64,
}

impl Display for Values {
    /// The smallest and the largest: `values from 87 to 299`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min > self.max {
            f.write_str("no finite values")
        } else {
            write!(f, "values from {} to {}", shown(self.min), shown(self.max))
        }
    }
}

impl Values {
    /// Analyzes every value, or as many as are needed.
    pub(super) fn of<'a>(planes: &(impl Iterator<Item = &'a [f32]> + Clone)) -> Self {
        let total: usize = planes.clone().map(<[f32]>::len).sum();
        let finite = || planes.clone().flatten().copied().filter(|v| v.is_finite());
        let count = finite().count();
        let min = finite().fold(f32::INFINITY, f32::min);
        let max = finite().fold(f32::NEG_INFINITY, f32::max);
        // A prime stride reaches every column, whatever the width.
        let stride = [1, 2, 3, 5, 7, 11, 17, 31, 61, 127, 251, 509, 1021];
        let wanted = count.div_ceil(SAMPLE);
        let stride = stride.into_iter().find(|&s| s >= wanted).unwrap_or(wanted);
        let mut sorted: Vec<f32> = finite().step_by(stride).collect();
        sorted.sort_by(f32::total_cmp);
        let levels = levels(&sorted);
        let step = step(&levels);
        let pile = |end: f32, inner: &mut dyn Iterator<Item = &(f32, usize)>| {
            let at_end = finite().filter(|&value| value == end).count();
            let sampled = at_end as f64 / stride as f64;
            is_pile(sampled, step.unwrap_or(0.0), end, inner).then(|| at_end as f64 / count as f64)
        };
        let (mut up, mut down) = (levels.iter().skip(1), levels.iter().rev().skip(1));
        Self {
            min,
            max,
            not_finite: (total - count) as f64 / total.max(1) as f64,
            clipped_low: pile(min, &mut up),
            clipped_high: pile(max, &mut down),
            step,
            gaps: step.map_or(0.0, |step| gaps(&sorted, step)),
        }
    }
}

/// The distinct values, and how often each occurs.
fn levels(sorted: &[f32]) -> Vec<(f32, usize)> {
    let mut levels: Vec<(f32, usize)> = vec![];
    for &value in sorted {
        match levels.last_mut() {
            Some((last, count)) if *last == value => *count += 1,
            _ => levels.push((value, 1)),
        }
    }
    levels
}

/// The greatest common divisor of all distances between values.
fn step(levels: &[(f32, usize)]) -> Option<f64> {
    let (first, last) = (levels.first()?.0, levels.last()?.0);
    // Floats that represent integers, such as multiples of 1/255, have rounding errors of their own.
    let largest = f64::from(first.abs().max(last.abs()));
    let tolerance = 4.0 * f64::from(f32::EPSILON) * largest;
    let mut step = 0.0;
    for pair in levels.windows(2) {
        step = common_divisor(step, f64::from(pair[1].0) - f64::from(pair[0].0), tolerance);
    }
    let steps = (f64::from(last) - f64::from(first)) / step;
    // A few values over many steps are multiples of a small step by chance.
    let countable = step > 20.0 * tolerance && levels.len() as f64 > 1e-3 * steps;
    countable.then(|| {
        // Dividing the whole range by the number of steps also divides the rounding error.
        (f64::from(last) - f64::from(first)) / steps.round()
    })
}

/// Euclid's algorithm; remainders within the tolerance of 0 count as 0.
fn common_divisor(mut a: f64, mut b: f64, tolerance: f64) -> f64 {
    while b > 4.0 * tolerance {
        let rest = a - b * (a / b).round();
        (a, b) = (b, rest.abs());
    }
    a
}

/// Whether many more pixels are at an end of the scale than the adjacent values suggest.
fn is_pile(
    at_end: f64,
    step: f64,
    end: f32,
    inner: &mut dyn Iterator<Item = &(f32, usize)>,
) -> bool {
    if at_end < PILE as f64 {
        return false;
    }
    if step == 0.0 {
        // In continuous floats no value occurs twice, except by chance.
        return inner
            .next()
            .is_none_or(|&(_, count)| at_end > 100.0 * count as f64);
    }
    let near =
        |&&(value, _): &&(f32, usize)| (f64::from(value) - f64::from(end)).abs() < 8.5 * step;
    let mut beside = inner.take_while(near).map(|&(_, count)| count as f64);
    let (next, second) = (beside.next(), beside.next());
    // Counts of few photons fall steeply from 0; a clipped distribution does not.
    let falls = next.unwrap_or(0.0) > 1.5 * second.unwrap_or(1.0);
    at_end > 2.0 * next.unwrap_or(0.0) && !falls
}

fn gaps(sorted: &[f32], step: f64) -> f64 {
    let at = |part: f64| sorted[((sorted.len() - 1) as f64 * part) as usize];
    let (low, high) = (at(0.01), at(0.99));
    let possible = (f64::from(high - low) / step).round() as usize + 1;
    let inside: Vec<f32> = (sorted.iter().copied())
        .filter(|value| (low..=high).contains(value))
        .collect();
    // Sparse values leave gaps by chance.
    if possible < 8 || inside.len() < 50 * possible {
        return 0.0;
    }
    1.0 - levels(&inside).len() as f64 / possible as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(data: &[f32]) -> Values {
        Values::of(&std::iter::once(data))
    }

    #[test]
    fn the_step_of_integers_and_of_their_parts_is_found() {
        let bytes: Vec<f32> = (0..5000).map(|i| (i * i % 251) as f32).collect();
        assert_eq!(values(&bytes).step, Some(1.0));
        let shifted: Vec<f32> = bytes.iter().map(|v| v * 16.0).collect();
        assert_eq!(values(&shifted).step, Some(16.0));
        let parts: Vec<f32> = bytes.iter().map(|v| v / 255.0).collect();
        let step = values(&parts).step.unwrap();
        assert!((step * 255.0 - 1.0).abs() < 1e-3, "{step}");
        let floats: Vec<f32> = (0..5000).map(|i| (i as f32).sin()).collect();
        assert_eq!(values(&floats).step, None);
        assert_eq!(values(&[3.0; 100]).step, None);
        assert_eq!(values(&[]).step, None);
    }

    #[test]
    fn a_stretched_contrast_leaves_gaps() {
        let bytes = || (0..50_000).map(|i| (i * 7919 % 101) as f32);
        assert_eq!(values(&bytes().collect::<Vec<_>>()).gaps, 0.0);
        let stretched: Vec<f32> = bytes().map(|v| (v * 2.5).round()).collect();
        let gaps = values(&stretched).gaps;
        assert!((gaps - 0.6).abs() < 0.02, "{gaps}");
    }

    #[test]
    fn values_that_are_no_numbers_are_counted() {
        let mut data = vec![1.0, 2.0, 3.0, 4.0];
        data.extend([f32::NAN, f32::INFINITY, 5.0, 6.0]);
        let values = values(&data);
        assert_eq!(
            (values.min, values.max, values.not_finite),
            (1.0, 6.0, 0.25)
        );
    }
}
