//! The rows of a page that are in memory, and the tiles cut from them.

use std::borrow::Cow;
use std::ops::Range;

use rayon::prelude::*;

use super::region::Frame;
use super::view::View;
use crate::batch::Batch;
use crate::error::Result;
use crate::image::{Page, Pages};
use crate::reflect::reflected;

/// The rows of a page that are in memory.
pub(super) struct Window {
    /// Samples per pixel.
    samples: usize,
    /// The first column of each row.
    left: usize,
    /// Samples per row.
    row: usize,
    /// The first row in memory, and the one after the last.
    top: usize,
    bottom: usize,
    rows: Vec<f32>,
}

impl Window {
    /// A window without rows, at the first row of what is stored of a page.
    pub(super) fn new(page: &Page, frame: &Frame) -> Self {
        Self {
            samples: page.samples(),
            left: frame.stored.left,
            row: frame.stored.width * page.samples(),
            top: frame.stored.top,
            bottom: frame.stored.top,
            rows: Vec::new(),
        }
    }

    /// Frees the rows above `top`.
    pub(super) fn forget_above(&mut self, top: usize) {
        let rows = top.saturating_sub(self.top).min(self.bottom - self.top);
        self.rows.drain(..rows * self.row);
        self.top += rows;
    }

    /// Reads rows until `bottom` is the row after the last.
    pub(super) fn read_to(&mut self, bottom: usize, pages: &mut dyn Pages) -> Result<()> {
        if bottom > self.bottom {
            let count = bottom - self.bottom;
            if !self.rows.is_empty() {
                self.rows.reserve_exact(count * self.row);
            }
            pages.read_rows(count, &mut self.rows)?;
            self.bottom = bottom;
        }
        Ok(())
    }

    fn rows(&self, range: Range<usize>) -> &[f32] {
        &self.rows[(range.start - self.top) * self.row..(range.end - self.top) * self.row]
    }

    /// The pixels in some rows and columns.
    pub(super) fn part(&self, rows: Range<usize>, columns: Range<usize>) -> Cow<'_, [f32]> {
        let row = columns.len() * self.samples;
        if row == self.row {
            return Cow::Borrowed(self.rows(rows));
        }
        let from = (columns.start - self.left) * self.samples;
        let parts = self.rows(rows).chunks_exact(self.row);
        Cow::Owned(
            parts
                .flat_map(|whole| &whole[from..][..row])
                .copied()
                .collect(),
        )
    }

    /// The part of the padded page that `view` takes: `h` × `w` pixels that start at (`top`, `left`).
    pub(super) fn tile(
        &self,
        page: &Page,
        (top, left): (usize, usize),
        (h, w): (usize, usize),
        view: View,
        value: impl Fn(f32) -> f32 + Sync,
    ) -> Batch {
        let samples = self.samples;
        let columns = (left..left + w).map(|x| reflected(x, page.width) - self.left);
        let columns: Vec<_> = columns.collect();
        let c = view.inputs().count();
        let mut tile = Batch::zeros(1, h, w, c);
        let rows = tile.data.par_chunks_exact_mut(w * c);
        rows.zip(top..top + h).for_each(|(to, y)| {
            let y = reflected(y, page.height);
            let row = self.rows(y..y + 1);
            for (to, x) in to.chunks_exact_mut(c).zip(&columns) {
                let pixel = &row[x * samples..][..samples];
                for (to, from) in to.iter_mut().zip(view.inputs()) {
                    *to = value(pixel[from]);
                }
            }
        });
        tile
    }
}
