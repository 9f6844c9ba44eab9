//! Memory that is asked for ahead of the transforms, a few cache lines at a time while the multipliers work.
//!
//! Between the transforms of one group of tiles and those of the next lie products that read little but the
//! second-level cache. The transforms read and write tensors that may be as far as memory, and what they ask for
//! themselves comes while they wait. Asked for all through the products, it is there.

use std::ops::Range;

use super::{Tiles, Window};
use crate::arch::Simd;
use crate::tensor::Rows;

/// Floats of a cache line of 64 bytes.
pub(super) const LINE: usize = 16;

/// Memory to be read or, with `WRITE`, to be written, in the order in which it is asked for.
#[derive(Debug, Default)]
pub(super) struct Ahead<const WRITE: bool> {
    runs: Vec<Run>,
    /// The runs that have begun.
    begun: usize,
    /// The address of the next piece of the last of these, and the pieces it has left.
    next: usize,
    left: usize,
    /// Cache lines of a piece, and bytes from one piece to the next.
    lines: usize,
    step: usize,
    /// Pieces asked for at each turn.
    pieces: usize,
}

/// Pieces of memory at equal distances.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub first: *const f32,
    pub pieces: usize,
}

impl<const WRITE: bool> Ahead<WRITE> {
    /// Plans to ask for runs of pieces, each of `lines` cache lines and `step` floats after the one before, in
    /// so many turns.
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
        self.begin_run();
    }

    /// [`Ahead::plan`] for runs of single lines that follow one another.
    pub fn plan_lines(&mut self, turns: usize, runs: impl Iterator<Item = Run>) {
        self.plan(turns, (1, LINE), runs);
        // Those of a turn become one piece; the last of a run may reach beyond it.
        let lines = self.pieces.max(1);
        self.lines = lines;
        self.step *= lines;
        self.pieces = 1;
        for run in &mut self.runs {
            run.pieces = run.pieces.div_ceil(lines);
        }
        self.left = self.left.div_ceil(lines);
    }

    #[cold]
    fn begin_run(&mut self) {
        if let Some(run) = self.runs.get(self.begun) {
            self.begun += 1;
            (self.next, self.left) = (run.first.addr(), run.pieces);
        }
    }

    /// Asks for the next pieces.
    #[inline(always)]
    pub fn turn<S: Simd>(&mut self, simd: S) {
        if self.left == 0 {
            return;
        }
        let pieces = self.pieces.min(self.left);
        for _ in 0..pieces {
            for line in 0..self.lines {
                let at = self.next + line * LINE * size_of::<f32>();
                let at = std::ptr::without_provenance(at);
                if WRITE {
                    simd.prefetch_to_write(at);
                } else {
                    simd.prefetch_far(at);
                }
            }
            self.next += self.step;
        }
        self.left -= pieces;
        if self.left == 0 {
            self.begin_run();
        }
    }
}

/// The lines that the transforms of some tiles read of tensors, whose rows they read as far as the tiles reach.
/// `side` is the pixels along a tile's side.
pub(super) fn lines<'a>(
    tensors: impl Iterator<Item = (Rows<'a>, Window)>,
    tiles: Tiles,
    range: Range<usize>,
    side: usize,
) -> impl Iterator<Item = Run> {
    tensors
        // The phases of a tensor lie in the same lines two by two.
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
                        first: tensor.as_slice()[row + begin..].as_ptr(),
                        pieces: (end - begin).div_ceil(LINE),
                    }
                })
            })
        })
}
