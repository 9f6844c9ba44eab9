//! Curves as SVG, small enough to embed in an HTML page: axes with round numbers, one line per series.

use std::fmt::Write;

/// Width and height of a chart, in the units of its SVG.
const SIZE: (f64, f64) = (560.0, 260.0);
/// Margins to the left of, above, to the right of and below the curves.
const MARGIN: [f64; 4] = [62.0, 12.0, 16.0, 30.0];
/// Maximum number of points in a line before its last one; longer lines are averaged over neighboring points.
const MOST: usize = 400;

/// A chart of curves.
#[derive(Debug, Default)]
pub struct Chart<'a> {
    /// The chart's title.
    pub title: &'a str,
    /// Whether the vertical axis is logarithmic, for values above 0.
    pub logarithmic: bool,
    /// Name and points of each line.
    pub series: Vec<(&'a str, Vec<(f64, f64)>)>,
    /// Single measurements behind the lines.
    pub dots: Vec<(f64, f64)>,
    /// Whether the legend shows the last value of each line.
    pub latest: bool,
}

impl Chart<'_> {
    /// The chart as a `<figure>`; empty if there are no points.
    pub fn figure(&self) -> String {
        let usable =
            |&(x, y): &(f64, f64)| x.is_finite() && y.is_finite() && (!self.logarithmic || y > 0.0);
        let series: Vec<(&str, Vec<(f64, f64)>)> = (self.series.iter())
            .map(|(name, points)| {
                let points: Vec<_> = points.iter().copied().filter(usable).collect();
                (*name, thinned(&points))
            })
            .filter(|(_, points)| !points.is_empty())
            .collect();
        let dots: Vec<_> = self.dots.iter().copied().filter(usable).collect();
        let all = || (series.iter().flat_map(|(_, points)| points)).chain(&dots);
        let Some(xs) = Axis::linear(all().map(|point| point.0)) else {
            return String::new();
        };
        let ys = all().map(|point| point.1);
        let ys = if self.logarithmic {
            Axis::logarithmic(ys)
        } else {
            Axis::linear(ys)
        };
        let ys = ys.expect("as many values as points");

        let [left, top, right, bottom] = MARGIN;
        let (width, height) = (SIZE.0 - left - right, SIZE.1 - top - bottom);
        let x_of = |x: f64| left + width * xs.place(x);
        let y_of = |y: f64| top + height * (1.0 - ys.place(y));
        let mut svg = String::new();
        for (tick, label) in ys.ticks(5) {
            let y = y_of(tick);
            let _ = write!(
                svg,
                r#"<line class="grid" x1="{left}" x2="{:.1}" y1="{y:.1}" y2="{y:.1}"/><text x="{:.1}" y="{:.1}" text-anchor="end">{label}</text>"#,
                left + width,
                left - 8.0,
                y + 4.0,
            );
        }
        for (tick, label) in xs.ticks(7) {
            let x = x_of(tick);
            let _ = write!(
                svg,
                r#"<line class="grid" x1="{x:.1}" x2="{x:.1}" y1="{top}" y2="{:.1}"/><text x="{x:.1}" y="{:.1}" text-anchor="middle">{label}</text>"#,
                top + height,
                top + height + 18.0,
            );
        }
        for &(x, y) in &dots {
            let (x, y) = (x_of(x), y_of(y));
            let _ = write!(
                svg,
                r#"<circle class="dot" cx="{x:.1}" cy="{y:.1}" r="2.5"/>"#
            );
        }
        let mut legend = String::new();
        for (i, (name, points)) in series.iter().enumerate() {
            let place = |&(x, y): &(f64, f64)| format!("{:.1},{:.1}", x_of(x), y_of(y));
            let path: Vec<_> = points.iter().map(place).collect();
            let last = points[points.len() - 1];
            let _ = write!(
                svg,
                r#"<polyline class="s{i}" points="{}"/><circle class="s{i}" cx="{:.1}" cy="{:.1}" r="3"/>"#,
                path.join(" "),
                x_of(last.0),
                y_of(last.1),
            );
            let value = if self.latest {
                format!(" <b>{}</b>", number(last.1))
            } else {
                String::new()
            };
            let _ = write!(legend, r#"<span class="s{i}">{name}{value}</span>"#);
        }
        format!(
            r#"<figure><figcaption><h3>{}</h3>{legend}</figcaption><svg viewBox="0 0 {} {}" role="img" aria-label="{}">{svg}</svg></figure>"#,
            self.title, SIZE.0, SIZE.1, self.title,
        )
    }
}

/// A range of values with a margin at both ends, and the position of a value in it.
#[derive(Debug)]
struct Axis {
    low: f64,
    high: f64,
    logarithmic: bool,
}

impl Axis {
    fn linear(values: impl Iterator<Item = f64>) -> Option<Self> {
        let (low, high) = range(values)?;
        // Center a line with a single value.
        let spare = if high > low {
            (high - low) * 0.02
        } else {
            high.abs().max(1e-9) * 0.5
        };
        Some(Self {
            low: low - spare,
            high: high + spare,
            logarithmic: false,
        })
    }

    fn logarithmic(values: impl Iterator<Item = f64>) -> Option<Self> {
        let (low, high) = range(values)?;
        Some(Self {
            low: low / 1.1,
            high: high * 1.1,
            logarithmic: true,
        })
    }

    /// 0 at the low end, 1 at the high.
    fn place(&self, value: f64) -> f64 {
        if self.logarithmic {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }

    /// Round values within the axis, about `count`, with their labels.
    fn ticks(&self, count: usize) -> Vec<(f64, String)> {
        // Over less than a decade, a logarithmic axis has no round values of its own.
        if self.logarithmic && self.high / self.low > 10.0 {
            let decades = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
            let many = decades.clone().count() > count;
            let factors: &[f64] = if many { &[1.0] } else { &[1.0, 2.0, 5.0] };
            return decades
                .flat_map(|decade| factors.iter().map(move |f| f * 10_f64.powi(decade)))
                .filter(|&tick| (self.low..=self.high).contains(&tick))
                .map(|tick| (tick, number(tick)))
                .collect();
        }
        let rough = (self.high - self.low) / count as f64;
        let decade = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .map(|factor| factor * decade)
            .find(|&step| step >= 0.75 * rough)
            .unwrap_or(rough);
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step).floor() as i64;
        let decimals = (-step.log10().floor()).max(0.0) as usize;
        (first..=last)
            .map(|i| {
                let tick = i as f64 * step;
                let plain = (1e-4..1e6).contains(&step);
                let label = if plain {
                    format!("{tick:.decimals$}")
                } else {
                    number(tick)
                };
                (tick, label)
            })
            .collect()
    }
}

fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |range, value| {
        let (low, high) = range.unwrap_or((value, value));
        Some((low.min(value), high.max(value)))
    })
}

/// Reduces a line to at most [`MOST`] points, each the mean of several, followed by its last point.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let Some((&last, before)) = points.split_last() else {
        return vec![];
    };
    let chunk = before.len().div_ceil(MOST).max(1);
    let mean = |chunk: &[(f64, f64)]| {
        let count = chunk.len() as f64;
        let sum = chunk
            .iter()
            .fold((0.0, 0.0), |sum, p| (sum.0 + p.0, sum.1 + p.1));
        (sum.0 / count, sum.1 / count)
    };
    before.chunks(chunk).map(mean).chain([last]).collect()
}

/// A number to at least four significant digits, or to three with an exponent; trailing zeros are dropped.
pub fn number(value: f64) -> String {
    let magnitude = value.abs();
    if value == 0.0 {
        "0".into()
    } else if (1e-3..1e5).contains(&magnitude) {
        let decimals = (3.0 - magnitude.log10().floor()).clamp(0.0, 6.0) as usize;
        let text = format!("{value:.decimals$}");
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').into()
        } else {
            text
        }
    } else {
        let text = format!("{value:.2e}");
        text.replace(".00e", "e").replace("0e", "e")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.ticks(5).into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn axes_have_round_numbers_within_them() {
        let linear = |low: f64, high: f64| labels(&Axis::linear([low, high].into_iter()).unwrap());
        assert_eq!(linear(0.0, 10.0), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(linear(28.1, 28.9), ["28.2", "28.4", "28.6", "28.8"]);
        assert_eq!(
            linear(3.0, 3.0),
            ["1.5", "2.0", "2.5", "3.0", "3.5", "4.0", "4.5"]
        );
        let logarithmic = Axis::logarithmic([0.004, 0.3].into_iter()).unwrap();
        assert_eq!(
            labels(&logarithmic),
            ["0.005", "0.01", "0.02", "0.05", "0.1", "0.2"]
        );
        assert!((logarithmic.place(logarithmic.low * 1e-9 + logarithmic.low)).abs() < 1e-6);
        assert_eq!(logarithmic.place(logarithmic.high), 1.0);
    }

    #[test]
    fn numbers_are_short() {
        for (value, expected) in [
            (0.0, "0"),
            (0.0003, "3e-4"),
            (1.5e-5, "1.5e-5"),
            (0.014_327, "0.01433"),
            (30.910_79, "30.91"),
            (20.0, "20"),
            (100.0, "100"),
            (123_456.0, "1.23e5"),
        ] {
            assert_eq!(number(value), expected);
        }
    }

    #[test]
    fn a_long_line_is_thinned_and_keeps_its_end() {
        let points: Vec<_> = (0..10_001)
            .map(|i| (f64::from(i), 2.0 * f64::from(i)))
            .collect();
        let thinned = thinned(&points);
        assert!(thinned.len() <= MOST + 1);
        assert_eq!(thinned.last(), points.last());
        assert!(thinned.iter().all(|(x, y)| *y == 2.0 * x));
    }

    #[test]
    fn what_cannot_be_shown_is_left_out() {
        let chart = |points: &[(f64, f64)]| Chart {
            title: "loss",
            logarithmic: true,
            series: vec![("loss1", points.to_vec()), ("none", vec![])],
            ..Chart::default()
        };
        assert_eq!(chart(&[]).figure(), "");
        assert_eq!(chart(&[(1.0, 0.0), (2.0, f64::NAN)]).figure(), "");
        let figure = chart(&[(0.0, 0.0), (1.0, 0.5), (2.0, f64::INFINITY), (3.0, 0.25)]).figure();
        assert_eq!(figure.matches("<polyline").count(), 1);
        assert!(
            !figure.contains("NaN") && !figure.contains("inf"),
            "{figure}"
        );
    }
}
