//! Small square windows minus their best-fitting low-order polynomial: in a window without edges or texture, the
//! residual is noise.

use rayon::prelude::*;

use super::Plane;

/// Number of polynomials of degree 0 and 1.
const STRAIGHT: usize = 3;

/// The orthonormal polynomials up to a total degree on a square window.
pub(super) struct Basis {
    /// Side of the window in pixels.
    pub side: usize,
    /// The values of each polynomial on the window, in row-major order.
    pub vectors: Vec<Vec<f64>>,
    /// Third moment of the residual of white noise with third moment 1, summed over the window.
    cube: f64,
}

impl Basis {
    /// All products of powers of x and y whose exponents sum to at most `degree`, orthonormalized.
    pub fn new(side: usize, degree: usize) -> Self {
        let at = |i: usize| (i as f64 - (side as f64 - 1.0) / 2.0) / (side as f64 / 2.0);
        let mut vectors: Vec<Vec<f64>> = vec![];
        for total in 0..=degree {
            for power in 0..=total {
                let (px, py) = (power as i32, (total - power) as i32);
                let pixels =
                    (0..side * side).map(|i| at(i % side).powi(px) * at(i / side).powi(py));
                let mut vector: Vec<f64> = pixels.collect();
                // Two passes make them orthogonal to the last bits.
                for _ in 0..2 {
                    for other in &vectors {
                        remove(&mut vector, other);
                    }
                }
                let norm = dot(&vector, &vector).sqrt();
                for value in &mut vector {
                    *value /= norm;
                }
                vectors.push(vector);
            }
        }
        let mut basis = Self {
            side,
            vectors,
            cube: 0.0,
        };
        basis.cube = basis.projector_cubed();
        basis
    }

    /// Degrees of freedom: pixels of a window minus the number of fitted polynomials.
    pub fn freedom(&self) -> f64 {
        (self.side * self.side - self.vectors.len()) as f64
    }

    /// Subtracts the best-fitting polynomial from the window. Returns the mean square of its curved components, those
    /// of degree 2 and more; in pure noise, that is the variance of a pixel.
    pub fn subtract_fit(&self, window: &mut [f64]) -> f64 {
        let mut curved = 0.0;
        for (index, vector) in self.vectors.iter().enumerate() {
            let part = remove(window, vector);
            if index >= STRAIGHT {
                curved += part * part;
            }
        }
        curved / (self.vectors.len() - STRAIGHT).max(1) as f64
    }

    /// The sum of the cubed elements of the matrix that [`Self::subtract_fit`] applies.
    fn projector_cubed(&self) -> f64 {
        let pixels = self.side * self.side;
        let mut sum = 0.0;
        for i in 0..pixels {
            for j in 0..pixels {
                let fit: f64 = self.vectors.iter().map(|q| q[i] * q[j]).sum();
                let element = if i == j { 1.0 - fit } else { -fit };
                sum += element.powi(3);
            }
        }
        sum
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn remove(vector: &mut [f64], unit: &[f64]) -> f64 {
    let part = dot(vector, unit);
    for (value, unit) in vector.iter_mut().zip(unit) {
        *value -= part * unit;
    }
    part
}

/// The measurements for one window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// Index of its plane.
    pub plane: usize,
    /// Its top row.
    pub y: usize,
    /// Its left column.
    pub x: usize,
    /// Mean of the pixels.
    pub mean: f64,
    /// Variance of a pixel about the fit, as if neighboring pixels were independent.
    pub variance: f64,
    /// Mean square of the curved components of the fit.
    pub curved: f64,
    /// Third central moment of a pixel about the fit, likewise.
    pub third: f64,
}

/// The grid of window positions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    /// Side length of a window.
    pub side: usize,
    /// Pixels from one window to the next.
    pub stride: usize,
}

impl Grid {
    /// Windows of size `side`, four pixels apart, or farther so that there are at most about `most` of them.
    pub fn of(planes: &[Plane], side: usize, most: usize) -> Self {
        let pixels: usize = planes.iter().map(|plane| plane.height * plane.width).sum();
        let stride = (pixels as f64 / most.max(1) as f64).sqrt().ceil() as usize;
        Self {
            side,
            stride: stride.max(4),
        }
    }

    /// The number of windows that a pixel lies in, at least 1; overlapping windows carry less information than their
    /// number suggests.
    pub fn overlap(self) -> f64 {
        (self.side as f64 / self.stride as f64).powi(2).max(1.0)
    }

    /// The top left corners of the windows in a plane.
    pub fn corners(self, plane: &Plane) -> impl Iterator<Item = (usize, usize)> + use<> {
        let starts =
            move |size: usize| (0..(size + 1).saturating_sub(self.side)).step_by(self.stride);
        let (rows, width) = (starts(plane.height), plane.width);
        rows.flat_map(move |y| starts(width).map(move |x| (y, x)))
    }
}

/// The pixels of a window; `None` if one is not finite or is clipped at an end of the scale.
pub(super) fn pixels(
    plane: &Plane,
    (y, x): (usize, usize),
    side: usize,
    out: &mut [f64],
) -> Option<()> {
    for (row, out) in out.chunks_exact_mut(side).enumerate() {
        let from = (y + row) * plane.width + x;
        for (&value, out) in plane.data[from..from + side].iter().zip(out) {
            if !value.is_finite() || value <= plane.floor || value >= plane.ceiling {
                return None;
            }
            *out = f64::from(value);
        }
    }
    Some(())
}

/// Measures the windows of a grid, skipping those without any variation.
///
/// `mean_of` are the planes to take the means from, if different.
pub(super) fn measure(
    planes: &[Plane],
    mean_of: Option<&[Plane]>,
    basis: &Basis,
    grid: Grid,
) -> Vec<Window> {
    let measured = planes.par_iter().enumerate().map(|(index, plane)| {
        let mut window = vec![0.0; basis.side * basis.side];
        let mut means = window.clone();
        let mut found = vec![];
        for (y, x) in grid.corners(plane) {
            if pixels(plane, (y, x), basis.side, &mut window).is_none() {
                continue;
            }
            let mean = match mean_of {
                None => average(&window),
                Some(others) => {
                    if pixels(&others[index], (y, x), basis.side, &mut means).is_none() {
                        continue;
                    }
                    average(&means)
                }
            };
            let curved = basis.subtract_fit(&mut window);
            let (mut square, mut cube) = (0.0, 0.0);
            for value in &window {
                square += value * value;
                cube += value.powi(3);
            }
            let variance = square / basis.freedom();
            // The residue of rounding a constant does not count as variation.
            if variance > (mean.abs() * 1e-6).powi(2) {
                found.push(Window {
                    plane: index,
                    y,
                    x,
                    mean,
                    variance,
                    curved,
                    third: cube / basis.cube,
                });
            }
        }
        found
    });
    measured.collect::<Vec<_>>().concat()
}

fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
