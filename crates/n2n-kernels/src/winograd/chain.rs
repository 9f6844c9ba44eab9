//! The output stage for a group of tiles that is followed by a chain of 1×1 layers: the outputs go to a strip of
//! adjacent tiles, through the chain, and from there into the output tensor.

use super::OUT;
use super::output::Destination;
use crate::Level;
use crate::arch::LANES;
use crate::direct::Chain;
use crate::memory::Memory;
use crate::picks::Picks;
use crate::tensor::Tensor;

/// 2×2 cells of outputs along a tile's side.
const CELLS: usize = OUT / 2;

/// Memory for the outputs of a group that go through a chain, and for the chain.
#[derive(Default)]
pub(super) struct Tail {
    /// The outputs of the group's tiles side by side, with room for the maximum number of tiles.
    pub strip: Option<Tensor>,
    pixels: Vec<f32>,
    between: Memory,
}

impl Destination<'_> {
    /// Runs the strip of the group's tiles through the chain.
    pub fn chain(
        &self,
        level: Level,
        chain: &Chain,
        strip: &Tensor,
        tiles: usize,
        tail: &mut Tail,
    ) {
        let Tail {
            pixels, between, ..
        } = tail;
        let shape = self.output.shape();
        let (from, to) = (strip.shape().pixel_stride(), shape.pixel_stride());
        let count = OUT * tiles;
        pixels.resize(count * to, 0.0);
        for row in 0..OUT {
            chain.run(level, strip.row(0, row), from, count, pixels, between);
            for (i, pixels) in pixels.chunks_exact(OUT * to).enumerate() {
                let (n, ty, tx) = self.tiles.place(self.first + i);
                let y = OUT * ty + row;
                for (x, pixel) in (OUT * tx..shape.w).zip(pixels.chunks_exact(to)) {
                    if y < shape.h {
                        let at = self.output.offset(n, y as isize, x as isize);
                        for c in (0..to).step_by(LANES) {
                            // SAFETY: a pixel of this group's tiles, once; no other group has these tiles.
                            let to = unsafe { self.output.vector(at + c) };
                            to.copy_from_slice(&pixel[c..c + LANES]);
                        }
                    }
                }
            }
        }
    }

    /// Runs two pixels of each cell of the strip through the chain.
    pub fn picked_chain(
        &self,
        level: Level,
        chain: &Chain,
        picks: Picks,
        strip: &Tensor,
        tiles: usize,
        tail: &mut Tail,
    ) {
        let Tail {
            pixels, between, ..
        } = tail;
        let from = strip.shape().pixel_stride();
        let to = chain.padded_outputs();
        // For each cell of the tiles: its position in the strip and in the image.
        let cells = || {
            (0..tiles).flat_map(|i| {
                let (n, ty, tx) = self.tiles.place(self.first + i);
                (0..CELLS * CELLS).filter_map(move |cell| {
                    let (y, x) = (cell / CELLS, cell % CELLS);
                    let (image_y, image_x) = (CELLS * ty + y, CELLS * tx + x);
                    let pair = picks.of_cell(n, image_y, image_x)?;
                    let at = self.output.offset(n, image_y as isize, image_x as isize);
                    Some((pair.map(|(dy, dx)| (2 * y + dy, OUT * i + 2 * x + dx)), at))
                })
            })
        };
        let most = 2 * CELLS * CELLS * tiles;
        pixels.resize(most * (from + to), 0.0);
        let (before, after) = pixels.split_at_mut(most * from);
        let mut free = before.chunks_exact_mut(from);
        let mut count = 0;
        for (pair, _) in cells() {
            for (y, x) in pair {
                let pixel = &strip.row(0, y)[x * from..][..from];
                free.next()
                    .expect("room for all cells")
                    .copy_from_slice(pixel);
                count += 1;
            }
        }
        chain.run(level, before, from, count, after, between);
        let mut pixels = after.chunks_exact(LANES);
        for (_, at) in cells() {
            for c in (0..2 * to).step_by(LANES) {
                // SAFETY: a pixel of a cell of this group's tiles, once; no other group has these tiles.
                let to = unsafe { self.output.vector(at + c) };
                to.copy_from_slice(pixels.next().expect("both pixels of all cells"));
            }
        }
    }
}
