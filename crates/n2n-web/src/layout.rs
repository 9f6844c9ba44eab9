//! How a picture is cut into tiles for a number of workers.

use n2n::Region;
use n2n::unet::Grid;

/// The tiles of a page, from top to bottom and left to right. They begin on the network's grid, so their results
/// equal those for the whole page.
///
/// Each tile also sees a halo on every side, which several tiles then compute: few large tiles mean less work but may
/// leave workers idle. Of all layouts whose tiles see at most `most_pixels`, this returns the one that finishes first.
pub fn tiles(
    grid: Grid,
    (height, width): (usize, usize),
    workers: usize,
    most_pixels: usize,
) -> Vec<Region> {
    let cell = grid.multiple;
    let (rows, columns) = (height.div_ceil(cell), width.div_ceil(cell));
    // The pixels that one worker computes, and how many of them are in one tile.
    let cost = |down: usize, across: usize| {
        let seen = |cells: usize, parts: usize| {
            let halo = grid.halo * 2.min(parts - 1);
            (cell * cells.div_ceil(parts) + halo).min(cell * cells)
        };
        let tile = seen(rows, down) * seen(columns, across);
        ((down * across).div_ceil(workers) * tile, tile)
    };
    let cuts = (1..=rows).flat_map(|down| (1..=columns).map(move |across| (down, across)));
    let best = cuts.min_by_key(|&(down, across)| {
        let (work, tile) = cost(down, across);
        // If even the smallest tiles see more, use those.
        (tile.saturating_sub(most_pixels), work, tile)
    });
    let (down, across) = best.unwrap_or((1, 1));
    let (kept_rows, kept_columns) = (cell * rows.div_ceil(down), cell * columns.div_ceil(across));
    let mut tiles = vec![];
    for top in (0..height).step_by(kept_rows) {
        for left in (0..width).step_by(kept_columns) {
            tiles.push(Region {
                top,
                left,
                height: kept_rows.min(height - top),
                width: kept_columns.min(width - left),
            });
        }
    }
    tiles
}

#[cfg(test)]
mod tests {
    use n2n::unet::UNet;

    use super::*;

    fn tiles(height: usize, width: usize, workers: usize, most_pixels: usize) -> Vec<Region> {
        let grid = UNet::default().grid();
        super::tiles(grid, (height, width), workers, most_pixels)
    }

    #[test]
    fn tiles_cover_a_page_once_and_keep_the_limit() {
        for (height, width) in [(1, 1), (33, 700), (1000, 1500), (5000, 9000)] {
            for workers in [1, 4, 7] {
                let tiles = tiles(height, width, workers, 600 * 600);
                let covered: usize = tiles.iter().map(|tile| tile.height * tile.width).sum();
                assert_eq!(covered, height * width);
                for tile in &tiles {
                    assert_eq!((tile.top % 32, tile.left % 32), (0, 0));
                    assert!(tile.top + tile.height <= height && tile.left + tile.width <= width);
                    let seen = tile.seen_in(UNet::default().grid(), height, width);
                    assert!(seen.height * seen.width <= 600 * 600);
                }
            }
        }
    }

    #[test]
    fn every_worker_has_something_to_do_where_that_is_faster() {
        let count = |side, workers| tiles(side, side, workers, 768 * 768).len();
        assert_eq!(count(256, 8), 1);
        assert_eq!(count(700, 1), 1);
        assert!(count(700, 2) >= 2);
        assert_eq!(count(2000, 4) % 4, 0);
        // No layout makes a tile see less.
        assert_eq!(tiles(100, 120, 4, 100).len(), 1);
    }
}
