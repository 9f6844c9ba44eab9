//! Parts of an image: the pixels that are wanted, and those that the network has to see for them.

use std::ops::Range;

use crate::image::Page;
use crate::unet::Grid;

/// A rectangle of pixels in an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// The first row.
    pub top: usize,
    /// The first column.
    pub left: usize,
    /// Number of rows.
    pub height: usize,
    /// Number of columns.
    pub width: usize,
}

impl Region {
    /// All of an image of `height` × `width` pixels.
    pub fn whole(height: usize, width: usize) -> Self {
        Self {
            top: 0,
            left: 0,
            height,
            width,
        }
    }

    /// Rows, as a range.
    pub fn rows(&self) -> Range<usize> {
        self.top..self.top.saturating_add(self.height)
    }

    /// Columns, as a range.
    pub fn columns(&self) -> Range<usize> {
        self.left..self.left.saturating_add(self.width)
    }

    /// Whether this region contains every pixel of `other`.
    pub fn contains(&self, other: &Self) -> bool {
        let within = |outer: Range<usize>, inner: Range<usize>| {
            outer.start <= inner.start && inner.end <= outer.end
        };
        within(self.rows(), other.rows()) && within(self.columns(), other.columns())
    }

    /// The rows and columns of the network's grid cells that the region touches.
    pub(super) fn on_grid(&self, grid: Grid) -> (Range<usize>, Range<usize>) {
        (on_grid(grid, self.rows()), on_grid(grid, self.columns()))
    }

    /// What the network sees of an image of `height` × `width` pixels to denoise this region: the cells of the
    /// network's grid that the region touches, plus the halo on every side.
    #[must_use]
    pub fn seen_in(&self, grid: Grid, height: usize, width: usize) -> Self {
        let seen = |range: Range<usize>, side: usize| {
            let Range { start, end } = on_grid(grid, range);
            start.saturating_sub(grid.halo)..(end + grid.halo).min(side)
        };
        let (rows, columns) = (seen(self.rows(), height), seen(self.columns(), width));
        Self {
            top: rows.start,
            left: columns.start,
            height: rows.len(),
            width: columns.len(),
        }
    }
}

impl std::fmt::Display for Region {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (rows, columns) = (self.rows(), self.columns());
        write!(
            f,
            "rows {}..{}, columns {}..{}",
            rows.start, rows.end, columns.start, columns.end
        )
    }
}

fn on_grid(grid: Grid, Range { start, end }: Range<usize>) -> Range<usize> {
    let first = start / grid.multiple * grid.multiple;
    first..grid.up(end)
}

/// The part of a page that is available, and the part that is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    /// The pixels whose rows are provided, starting with its first row.
    pub stored: Region,
    /// The pixels to denoise. Everything the network sees for them is [stored](Self::stored).
    pub keep: Region,
}

impl Frame {
    /// All of a page.
    pub fn whole(page: &Page) -> Self {
        let whole = Region::whole(page.height, page.width);
        Self {
            stored: whole,
            keep: whole,
        }
    }
}
