//! The Adam optimizer (Kingma and Ba, 2015, algorithm 1), over one flat vector of parameters.

use rayon::prelude::*;

use crate::Level;
use crate::arch::{Kernel, Simd};

/// Decay rate of the first moment.
pub const BETA1: f64 = 0.9;
/// Decay rate of the second moment.
pub const BETA2: f64 = 0.999;
/// Added to the square root of the second moment.
pub const EPSILON: f64 = 1e-8;

/// Parameters per job.
const BLOCK: usize = 1 << 14;

/// The optimizer's state: both moments, and the number of steps taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Adam {
    /// First moments, one per parameter.
    pub first: Vec<f32>,
    /// Second moments, one per parameter.
    pub second: Vec<f32>,
    /// Number of steps taken.
    pub steps: u64,
}

impl Adam {
    /// An optimizer for `parameters` parameters that has not yet taken a step.
    pub fn new(parameters: usize) -> Self {
        Self {
            first: vec![0.0; parameters],
            second: vec![0.0; parameters],
            steps: 0,
        }
    }

    /// Updates the parameters once.
    ///
    /// # Panics
    /// If the lengths differ from the optimizer's.
    pub fn step(
        &mut self,
        level: Level,
        parameters: &mut [f32],
        gradients: &[f32],
        learning_rate: f64,
    ) {
        assert_eq!(parameters.len(), self.first.len(), "parameters");
        assert_eq!(gradients.len(), self.first.len(), "gradients");
        assert_eq!(self.second.len(), self.first.len(), "second moments");
        self.steps += 1;
        let [first, second] = [&mut self.first, &mut self.second].map(Vec::as_mut_slice);
        update(
            level,
            self.steps,
            (parameters, gradients),
            (first, second),
            learning_rate,
        );
    }
}

/// Step `steps`, counted from 1, for some parameters with their gradients and both moments.
pub(crate) fn update(
    level: Level,
    steps: u64,
    (parameters, gradients): (&mut [f32], &[f32]),
    (first, second): (&mut [f32], &mut [f32]),
    learning_rate: f64,
) {
    let steps = steps as f64;
    // m̂ / (√v̂ + ε), with the bias corrections hoisted out of the loop.
    let rate = (learning_rate / (1.0 - BETA1.powf(steps))) as f32;
    let root = (1.0 / (1.0 - BETA2.powf(steps)).sqrt()) as f32;
    parameters
        .par_chunks_mut(BLOCK)
        .zip(gradients.par_chunks(BLOCK))
        .zip(first.par_chunks_mut(BLOCK))
        .zip(second.par_chunks_mut(BLOCK))
        .for_each(|(((parameters, gradients), first), second)| {
            level.run(Update {
                parameters,
                gradients,
                first,
                second,
                rate,
                root,
            });
        });
}

struct Update<'a> {
    parameters: &'a mut [f32],
    gradients: &'a [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
    rate: f32,
    root: f32,
}

impl Kernel for Update<'_> {
    type Output = ();

    /// Element-wise; the compiler vectorizes it for the level.
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let (beta1, beta2) = (BETA1 as f32, BETA2 as f32);
        let (rest1, rest2) = ((1.0 - BETA1) as f32, (1.0 - BETA2) as f32);
        let moments = self.first.iter_mut().zip(self.second.iter_mut());
        for ((p, &g), (m, v)) in self.parameters.iter_mut().zip(self.gradients).zip(moments) {
            *m = beta1 * *m + rest1 * g;
            *v = beta2 * *v + rest2 * (g * g);
            *p -= self.rate * *m / (v.sqrt() * self.root + EPSILON as f32);
        }
    }
}
