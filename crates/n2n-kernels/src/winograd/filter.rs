//! A filter transformed for a form and packed for the level's register tile; a Winograd convolution reads it again
//! for every group of tiles.

use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

use super::{Layout, SAME, transform};
use crate::Level;
use crate::arch::{Kernel, LANES, Simd};
use crate::jobs::one_by_one;
use crate::memory::Recycled;

/// Rows of a panel's filters that are packed together; gives enough jobs for many threads.
const PACKED_ROWS: usize = 8;

/// A convolution's filter, transformed for one of the forms [`SAME`](super::SAME) or [`TWO_TAPS`](super::TWO_TAPS).
#[derive(Debug)]
pub(crate) struct Filter<const FORM: usize> {
    pub(super) layout: Layout,
    /// Channels read from each input tensor.
    pub(super) channels: Vec<usize>,
    pub(super) outputs: usize,
    /// Number of input channels, with each tensor padded to whole vectors.
    pub(super) depth: usize,
    /// The panels of each phase; every phase has the same number.
    pub(super) panels: Vec<Panel>,
    /// For each panel, `[point][depth][vectors · LANES]`.
    pub(super) weights: Recycled,
    /// One value per output channel, padded with zeros to whole vectors.
    pub(super) bias: Vec<f32>,
}

#[derive(Debug)]
pub(super) struct Panel {
    /// The first output channel.
    pub(super) begin: usize,
    /// Number of vectors: as many as the level's register tile has, fewer in the last panel.
    pub(super) vectors: usize,
    /// Where its weights begin.
    pub(super) weights: usize,
}

impl<const FORM: usize> Filter<FORM> {
    const POINTS: usize = FORM * FORM;

    /// Transforms a filter. `weight(input channel, phase, output channel)` returns its taps in row order, with input
    /// channels counted through all input tensors.
    pub fn new(
        level: Level,
        layout: Layout,
        channels: &[usize],
        outputs: usize,
        bias: &[f32],
        weight: impl Fn(usize, usize, usize) -> [f32; 9] + Sync,
    ) -> Self {
        assert_eq!(layout == Layout::Same, FORM == SAME, "points of the layout");
        let depth: usize = channels.iter().map(|c| c.next_multiple_of(LANES)).sum();
        let padded = outputs.next_multiple_of(LANES);
        let per_output = Self::POINTS * depth;
        let widest = level.widest();
        let mut panels = vec![];
        for phase in 0..layout.phases() {
            for begin in (0..padded).step_by(widest * LANES) {
                panels.push(Panel {
                    begin,
                    vectors: ((padded - begin) / LANES).min(widest),
                    weights: (phase * padded + begin) * per_output,
                });
            }
        }
        // The input channel of each row of the depth; `None` for padding.
        let mut rows = Vec::with_capacity(depth);
        let mut first = 0;
        for &count in channels {
            rows.extend((first..first + count).map(Some));
            rows.resize(rows.len().next_multiple_of(LANES), None);
            first += count;
        }
        let pack = |mut rest: &mut [MaybeUninit<f32>]| {
            let mut jobs = vec![];
            for (i, panel) in panels.iter().enumerate() {
                let width = panel.vectors * LANES;
                let (mine, after) = rest.split_at_mut(width * per_output);
                rest = after;
                // Each job packs some rows at every point.
                let mut jobs_of_panel: Vec<_> = rows
                    .chunks(PACKED_ROWS)
                    .map(|rows| Pack::<FORM, _> {
                        rows,
                        phase: i / (panels.len() / layout.phases()),
                        outputs: panel.begin..outputs.min(panel.begin + width),
                        width,
                        weight: &weight,
                        points: Vec::with_capacity(Self::POINTS),
                    })
                    .collect();
                for point in mine.chunks_exact_mut(depth * width) {
                    let parts = point.chunks_mut(PACKED_ROWS * width);
                    for (job, part) in jobs_of_panel.iter_mut().zip(parts) {
                        job.points.push(part);
                    }
                }
                jobs.extend(jobs_of_panel);
            }
            one_by_one(jobs.into_par_iter()).for_each(|job| level.run(job));
        };
        // SAFETY: the panels' parts make up the whole, their jobs' rows at all points make up a panel's part, and
        // each job writes all of its rows, including padding.
        let weights = unsafe { Recycled::written_by(layout.phases() * padded * per_output, pack) };
        let mut padded_bias = vec![0.0; padded];
        padded_bias[..bias.len()].copy_from_slice(bias);
        Self {
            layout,
            channels: channels.to_vec(),
            outputs,
            depth,
            panels,
            weights,
            bias: padded_bias,
        }
    }
}

/// Some rows of a panel's filters, at every point.
struct Pack<'a, const FORM: usize, W> {
    /// The input channel of each row; `None` for padding.
    rows: &'a [Option<usize>],
    phase: usize,
    outputs: Range<usize>,
    width: usize,
    weight: &'a W,
    /// For each point, `[row][width]`.
    points: Vec<&'a mut [MaybeUninit<f32>]>,
}

impl<const FORM: usize, W> Kernel for Pack<'_, FORM, W>
where
    W: Fn(usize, usize, usize) -> [f32; 9],
{
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, _: S) {
        for (row, channel) in self.rows.iter().enumerate() {
            for begin in (0..self.width).step_by(LANES) {
                let mut taps: transform::Taps<LANES> = [[0.0; LANES]; 9];
                if let Some(c) = *channel {
                    let outputs = self.outputs.clone().skip(begin).take(LANES);
                    for (i, o) in outputs.enumerate() {
                        let values = (self.weight)(c, self.phase, o);
                        for tap in 0..9 {
                            taps[tap][i] = f64::from(values[tap]);
                        }
                    }
                }
                let at = row * self.width + begin;
                for i in 0..FORM {
                    let values = transform::filter::<FORM, _>(&taps, i);
                    for (x, values) in values.iter().enumerate() {
                        let to = &mut self.points[i * FORM + x][at..][..LANES];
                        for lane in 0..LANES {
                            to[lane].write(values[lane]);
                        }
                    }
                }
            }
        }
    }
}
