//! The input transform of tiles, which the filter gradient also uses.

use std::ops::Range;

use super::{OUT, Tiles, Window, transform};
use crate::arch::{LANES, Simd};
use crate::tensor::{Rows, Shape};

/// The layout of transformed tiles: floats from one point to the next and from one tile to the next.
#[derive(Clone, Copy)]
pub(super) struct Strides {
    pub point: usize,
    pub tile: usize,
}

/// Transforms the inputs of the tiles. This input's channels begin at the first float of `to`, and their vectors are
/// `VECTOR` floats apart.
#[inline(always)]
#[allow(
    clippy::too_many_arguments,
    reason = "a loop nest cut out of its two callers"
)]
pub(super) fn input_points<S: Simd, const IN: usize, const VECTOR: usize>(
    simd: S,
    input: Rows,
    window: Window,
    tiles: Tiles,
    range: Range<usize>,
    channels: usize,
    to: &mut [f32],
    strides: Strides,
) {
    let Shape { h, w, .. } = input.shape();
    let pixel = input.shape().pixel_stride();
    let floats = input.as_slice();
    // The last vectors that a tile reads and writes.
    let padded = channels.next_multiple_of(LANES);
    if channels == 0 {
        return;
    }
    for (i, tile) in range.enumerate() {
        let (n, ty, tx) = tiles.place(tile);
        let mut rows = [0; IN];
        let mut columns = [0; IN];
        for k in 0..IN {
            rows[k] = input.offset(n, window.row(ty, k, h), -1);
            columns[k] = (window.column(tx, k, w) + 1) as usize * pixel;
        }
        // Prefetch the next tile while this one is transformed; saves a third of the stage's time.
        let (next_n, next_y, next_x) = tiles.place((tile + 1).min(tiles.count - 1));
        let next = if next_y == ty && next_n == n {
            (next_x - tx) * window.step * OUT * pixel
        } else {
            0
        };
        // In order, unless the requested rows do not begin above the tile.
        assert!(rows[0] <= rows[IN - 1]);
        assert!(rows[IN - 1] + columns[IN - 1] + padded <= floats.len());
        let begin = i * strides.tile;
        let last = (IN * IN - 1) * strides.point + (padded / LANES - 1) * VECTOR;
        assert!(begin + last + LANES <= to.len());
        for c in (0..channels).step_by(LANES) {
            if c % 16 == 0 {
                for y in 0..IN {
                    for x in IN - OUT..IN {
                        let at = rows[y] + columns[x] + c + next;
                        simd.prefetch(floats.as_ptr().wrapping_add(at));
                    }
                }
            }
            let mut lines = [[simd.splat(0.0); IN]; IN];
            for x in 0..IN {
                let mut column = [simd.splat(0.0); IN];
                for (y, value) in column.iter_mut().enumerate() {
                    let at = rows[y] + columns[x] + c;
                    // SAFETY: asserted above, rows and columns being in order.
                    *value = simd.load(unsafe { vector_unchecked(floats, at) });
                }
                let column = transform::input::<S, IN>(simd, column);
                for y in 0..IN {
                    lines[y][x] = column[y];
                }
            }
            let begin = begin + c / LANES * VECTOR;
            for (y, line) in lines.into_iter().enumerate() {
                let line = transform::input::<S, IN>(simd, line);
                for (x, value) in line.into_iter().enumerate() {
                    let at = begin + (y * IN + x) * strides.point;
                    // SAFETY: asserted above.
                    simd.store(value, unsafe { vector_unchecked_mut(to, at) });
                }
            }
        }
    }
}

/// [`vector`] without the bounds check.
///
/// # Safety
/// `at + LANES <= floats.len()`.
#[inline(always)]
pub(super) unsafe fn vector_unchecked(floats: &[f32], at: usize) -> &[f32; LANES] {
    debug_assert!(at + LANES <= floats.len());
    // SAFETY: the caller's obligation.
    unsafe { &*floats.as_ptr().add(at).cast() }
}

/// [`vector_mut`](crate::arch::vector_mut) without the bounds check.
///
/// # Safety
/// `at + LANES <= floats.len()`.
#[inline(always)]
pub(super) unsafe fn vector_unchecked_mut(floats: &mut [f32], at: usize) -> &mut [f32; LANES] {
    debug_assert!(at + LANES <= floats.len());
    // SAFETY: the caller's obligation.
    unsafe { &mut *floats.as_mut_ptr().add(at).cast() }
}
