//! Prefetching for the transforms, a few cache lines at a time during the products.
//!
//! Between the transforms of one group of tiles and those of the next lie products that read almost only the L2
//! cache. The transforms read and write tensors that may be in main memory, and would wait for their own loads.
//! Prefetched during the products, the lines are already in cache.

use std::ops::Range;

use super::{Tiles, Window};
use crate::arch::Simd;
use crate::tensor::Rows;

/// Floats of a cache line of 64 bytes.
pub(super) const LINE: usize = 16;

/// Memory to prefetch, in order.
#[derive(Debug, Default)]
pub(super) struct Prefetch {
    runs: Vec<Run>,
    /// Number of runs started.
    begun: usize,
    /// The address of the next piece of the current run, and the number of pieces left.
    next: usize,
    left: usize,
    /// Cache lines in a piece, and bytes from one piece to the next.
    lines: usize,
    step: usize,
    /// Pieces to prefetch per turn.
    pieces: usize,
}

/// Equally spaced pieces of memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// The address of the first piece.
    pub first: usize,
    pub pieces: usize,
}

impl Prefetch {
    /// Plans to prefetch runs of pieces, each of `lines` cache lines and `step` floats after the one before, over
    /// this many turns.
    pub fn plan(
        &mut self,
        turns: usize,
        (lines, step): (usize, usize),
        runs: impl Iterator<Item = Run>,
    ) {
        self.runs.clear();
        self.runs.extend(runs);
        let pieces: usize = self.runs.iter().map(|run| run.pieces).sum();
        self.pieces = pieces.div_ceil(turns.max(1));
        (self.lines, self.step) = (lines, step * size_of::<f32>());
        (self.begun, self.left) = (0, 0);
    }

    /// Starts the next run; returns whether there is one.
    #[cold]
    fn begin_run(&mut self) -> bool {
        let Some(run) = self.runs.get(self.begun) else {
            return false;
        };
        self.begun += 1;
        (self.next, self.left) = (run.first, run.pieces);
        true
    }

    /// Prefetches the next pieces.
    #[inline(always)]
    pub fn turn<S: Simd>(&mut self, simd: S) {
        for _ in 0..self.pieces {
            while self.left == 0 {
                if !self.begin_run() {
                    self.pieces = 0;
                    return;
                }
            }
            for line in 0..self.lines {
                let at = self.next + line * LINE * size_of::<f32>();
                simd.prefetch_far(std::ptr::without_provenance(at));
            }
            self.next += self.step;
            self.left -= 1;
        }
    }
}

/// The lines that the input transform of some tiles reads from tensors: whole rows, as wide as the tiles. `side` is
/// the number of pixels along a tile's side.
pub(super) fn reads<'a>(
    tensors: impl Iterator<Item = (Rows<'a>, Window)>,
    tiles: Tiles,
    range: Range<usize>,
    side: usize,
) -> impl Iterator<Item = Run> {
    tensors
        // The phases of a tensor share rows in pairs.
        .filter(|(_, window)| window.step == 1 || window.before.1 == 0)
        .flat_map(move |(tensor, window)| {
            let shape = tensor.shape();
            let pixel = shape.pixel_stride();
            let rows = tiles.side_by_side(range.clone());
            rows.flat_map(move |(n, ty, tiles)| {
                let column = |tile, k| (window.column(tile, k, shape.w) + 1) as usize * pixel;
                let begin = column(tiles.start, 0);
                let end = column(tiles.end - 1, side - 1) + pixel;
                (0..side).map(move |k| {
                    let row = tensor.offset(n, window.row(ty, k, shape.h), -1);
                    Run {
                        first: tensor.as_slice()[row + begin..].as_ptr().addr(),
                        pieces: (end - begin).div_ceil(LINE),
                    }
                })
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::scalar::Scalar;

    #[test]
    fn all_is_asked_for_in_the_turns_that_were_planned() {
        for turns in 1..40 {
            for lengths in [&[][..], &[0], &[1], &[5, 0, 7, 1], &[17, 17, 17]] {
                let mut prefetch = Prefetch::default();
                let runs = lengths.iter().map(|&pieces| Run { first: 0, pieces });
                prefetch.plan(turns, (3, 8), runs);
                for _ in 0..turns {
                    prefetch.turn(Scalar);
                }
                let rest = prefetch.runs[prefetch.begun..].iter().map(|run| run.pieces);
                assert_eq!(
                    prefetch.left + rest.sum::<usize>(),
                    0,
                    "{turns} {lengths:?}"
                );
            }
        }
    }
}
