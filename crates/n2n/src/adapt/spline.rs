//! An increasing piecewise-linear function with learnable values at evenly spaced knots, its inverse plus a learnable
//! straight line, and the gradients of both.

use crate::denoise::{Knot, Transform};
use crate::error::Result;

/// The function. Its parameters are the value at the first knot, the logarithms of the rises from knot to knot, and the
/// slope and offset of the line that is added to the inverse: the inverse of a mean is not the mean of the inverses.
#[derive(Debug, Clone)]
pub(super) struct Spline {
    /// Where the first knot is.
    begin: f64,
    /// From one knot to the next.
    step: f64,
    parameters: Vec<f64>,
}

/// The values at the knots that a [`Spline`]'s parameters give.
#[derive(Debug, Clone)]
pub(super) struct Curve {
    begin: f64,
    step: f64,
    values: Vec<f64>,
    line: [f64; 2],
}

/// The least rise from knot to knot.
const LEAST: f64 = 1e-6;

impl Spline {
    /// The straight line `slope · x + offset`, with `knots` knots from `begin` to `end`; its inverse is exact.
    pub fn linear(knots: usize, (begin, end): (f64, f64), (slope, offset): (f64, f64)) -> Self {
        let step = (end - begin) / (knots - 1) as f64;
        let rise = (slope * step - LEAST).max(LEAST).ln();
        let mut parameters = vec![rise; knots + 2];
        parameters[0] = slope * begin + offset;
        parameters[knots..].fill(0.0);
        Self {
            begin,
            step,
            parameters,
        }
    }

    pub fn parameters(&mut self) -> &mut [f64] {
        &mut self.parameters
    }

    fn knots(&self) -> usize {
        self.parameters.len() - 2
    }

    pub fn curve(&self) -> Curve {
        let knots = self.knots();
        let mut value = self.parameters[0];
        let mut values = vec![value];
        for rise in &self.parameters[1..knots] {
            value += rise.exp() + LEAST;
            values.push(value);
        }
        Curve {
            begin: self.begin,
            step: self.step,
            values,
            line: [self.parameters[knots], self.parameters[knots + 1]],
        }
    }

    /// The gradient of the parameters, from those of a curve's values and of its line.
    pub fn gradient(&self, of_values: &[f64], of_line: [f64; 2]) -> Vec<f64> {
        let knots = self.knots();
        let mut gradient = vec![0.0; self.parameters.len()];
        // A rise lifts all values after it.
        let mut sum = 0.0;
        for i in (0..knots).rev() {
            sum += of_values[i];
            gradient[i] = if i == 0 {
                sum
            } else {
                sum * self.parameters[i].exp()
            };
        }
        gradient[knots..].copy_from_slice(&of_line);
        gradient
    }

    /// As a map of values to those that a network sees, and back.
    pub fn transform(&self) -> Result<Transform> {
        let curve = self.curve();
        let knots = curve.values.iter().enumerate().map(|(i, &network)| {
            let value = curve.begin + i as f64 * curve.step;
            Knot {
                value: value as f32,
                network: network as f32,
                back: (value + curve.line[0] * network + curve.line[1]) as f32,
            }
        });
        Transform::new(knots.collect())
    }
}

impl Curve {
    /// The value at `x`, the index of the knot before `x`, and how far `x` lies on the way to the next knot: 0 to 1,
    /// except beyond the ends.
    pub fn at(&self, x: f64) -> (f64, usize, f64) {
        let place = (x - self.begin) / self.step;
        let last = self.values.len() - 2;
        // 0 before the first knot, and for NaN.
        let i = (place.floor().max(0.0) as usize).min(last);
        let t = place - i as f64;
        (self.values[i] * (1.0 - t) + self.values[i + 1] * t, i, t)
    }

    /// The inverse with its line, and its derivative.
    pub fn back(&self, y: f64) -> Back {
        let last = self.values.len() - 2;
        let i = self.values[1..=last].partition_point(|&value| value <= y);
        let rise = self.values[i + 1] - self.values[i];
        let t = (y - self.values[i]) / rise;
        Back {
            value: self.begin + (i as f64 + t) * self.step + self.line[0] * y + self.line[1],
            slope: self.step / rise + self.line[0],
            knot: i,
            // Of the values at that knot and the next.
            of_values: [self.step * (t - 1.0) / rise, -self.step * t / rise],
        }
    }
}

/// See [`Curve::back`].
pub(super) struct Back {
    pub value: f64,
    /// The derivative with respect to the argument.
    pub slope: f64,
    /// The knot before it.
    pub knot: usize,
    /// The derivatives with respect to the values at that knot and the next.
    pub of_values: [f64; 2],
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bent() -> Spline {
        let mut spline = Spline::linear(6, (-0.5, 1.5), (0.8, 0.1));
        for (i, parameter) in spline.parameters().iter_mut().enumerate() {
            *parameter += 0.1 * ((i * 7 % 5) as f64 - 2.0);
        }
        spline
    }

    /// On a knot, between two, and beyond the ends.
    const PLACES: [f64; 5] = [-0.9, -0.1, 0.77, 1.3, 1.9];

    #[test]
    fn the_inverse_undoes_the_function_but_for_its_line() {
        let curve = bent().curve();
        for x in PLACES {
            let y = curve.at(x).0;
            let line = curve.line[0] * y + curve.line[1];
            assert!((curve.back(y).value - line - x).abs() < 1e-12, "{x}");
        }
        let straight = Spline::linear(9, (-1.0, 2.0), (3.0, -0.25)).curve();
        for x in PLACES {
            assert!((straight.at(x).0 - (3.0 * x - 0.25)).abs() < 1e-9);
            assert!((straight.back(3.0 * x - 0.25).value - x).abs() < 1e-9);
        }
    }

    #[test]
    fn the_gradients_are_what_differences_say() {
        let step = 1e-6;
        for place in PLACES {
            // Of a function of the parameters: a value there, plus twice an inverse.
            let y = bent().curve().at(place).0 + 0.013;
            let value = |spline: &Spline| {
                let curve = spline.curve();
                curve.at(place).0 + 2.0 * curve.back(y).value
            };
            let spline = bent();
            let curve = spline.curve();
            let (_, i, t) = curve.at(place);
            let back = curve.back(y);
            let mut of_values = vec![0.0; 6];
            of_values[i] += 1.0 - t;
            of_values[i + 1] += t;
            of_values[back.knot] += 2.0 * back.of_values[0];
            of_values[back.knot + 1] += 2.0 * back.of_values[1];
            let got = spline.gradient(&of_values, [2.0 * y, 2.0]);
            for (k, got) in got.into_iter().enumerate() {
                let moved = |by: f64| {
                    let mut spline = bent();
                    spline.parameters()[k] += by;
                    value(&spline)
                };
                let want = (moved(step) - moved(-step)) / (2.0 * step);
                assert!(
                    (got - want).abs() < 1e-7,
                    "{place}, parameter {k}: {got} {want}"
                );
            }
            let want = (curve.back(y + step).value - curve.back(y - step).value) / (2.0 * step);
            assert!((back.slope - want).abs() < 1e-7);
        }
    }

    #[test]
    fn the_transform_is_the_curve() {
        let spline = bent();
        let (curve, transform) = (spline.curve(), spline.transform().unwrap());
        for x in PLACES {
            let y = curve.at(x).0;
            assert!((f64::from(transform.to_network(x as f32)) - y).abs() < 1e-6);
            let back = f64::from(transform.from_network(y as f32));
            assert!((back - curve.back(y).value).abs() < 1e-5);
        }
    }
}
