//! The mean over the eight flips and turns of an image. A network that has not learned to treat them alike makes
//! different errors in each; the mean has less of them, at eight times the cost.

use crate::batch::Batch;
use crate::error::Result;

/// The mean of what `run` makes of a single image's eight flips and turns, laid back.
pub(super) fn mean_over_turns(
    image: &Batch,
    mut run: impl FnMut(&Batch) -> Result<Batch>,
) -> Result<Batch> {
    let mut mean = Batch::zeros(1, image.h, image.w, image.c);
    for turn in (0..8).map(Turn) {
        let denoised = turn.back(&run(&turn.apply(image))?);
        for (mean, value) in mean.data.iter_mut().zip(&denoised.data) {
            *mean += value / 8.0;
        }
    }
    Ok(mean)
}

/// One of the eight ways to lay a tile: bit 0 mirrors left and right, bit 1 top and bottom, bit 2
/// exchanges rows and columns.
#[derive(Debug, Clone, Copy)]
struct Turn(u8);

impl Turn {
    fn apply(self, tile: &Batch) -> Batch {
        let (h, w) = if self.0 & 4 == 0 {
            (tile.h, tile.w)
        } else {
            (tile.w, tile.h)
        };
        let mut turned = Batch::zeros(1, h, w, tile.c);
        self.each(tile, |i, j| {
            turned.data[j..j + tile.c].copy_from_slice(&tile.data[i..i + tile.c]);
        });
        turned
    }

    fn back(self, turned: &Batch) -> Batch {
        let (h, w) = if self.0 & 4 == 0 {
            (turned.h, turned.w)
        } else {
            (turned.w, turned.h)
        };
        let mut tile = Batch::zeros(1, h, w, turned.c);
        let shape = tile.clone();
        self.each(&shape, |i, j| {
            tile.data[i..i + turned.c].copy_from_slice(&turned.data[j..j + turned.c]);
        });
        tile
    }

    /// Where each pixel of a tile begins, before and after.
    fn each(self, tile: &Batch, mut pair: impl FnMut(usize, usize)) {
        let (h, w, c) = (tile.h, tile.w, tile.c);
        for y in 0..h {
            for x in 0..w {
                let to_y = if self.0 & 2 == 0 { y } else { h - 1 - y };
                let to_x = if self.0 & 1 == 0 { x } else { w - 1 - x };
                let to = if self.0 & 4 == 0 {
                    to_y * w + to_x
                } else {
                    to_x * h + to_y
                };
                pair((y * w + x) * c, to * c);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_turn_is_another_and_can_be_taken_back() {
        let batch = Batch::new(1, 32, 64, 1, (0..32 * 64).map(|i| i as f32).collect());
        for turn in 0..8 {
            let turned = Turn(turn).apply(&batch);
            assert_eq!(
                (turned.h, turned.w),
                if turn < 4 { (32, 64) } else { (64, 32) }
            );
            assert_eq!(Turn(turn).back(&turned), batch);
            assert!(turn == 0 || turned != batch);
        }
    }
}
