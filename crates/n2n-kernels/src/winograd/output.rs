//! The output stage of a group of tiles: transforms the products back and writes them, through the epilogue or the
//! pooling, to the output tensor.

use super::input::vector_unchecked;
use super::prefetch::{LINE, Prefetch, Run};
use super::{Layout, OUT, Tiles, transform};
use crate::arch::{LANES, Simd, vector};
use crate::epilogue::{Epilogue, leaky_relu};
use crate::tensor::SharedMut;

/// Where the outputs of a group go: the first to tile `first` of `tiles`, the others to the tiles after it.
#[derive(Clone, Copy)]
pub(super) struct Destination<'a> {
    pub output: &'a SharedMut<'a>,
    pub epilogue: Epilogue<'a>,
    pub pooling: bool,
    pub layout: Layout,
    pub bias: &'a [f32],
    pub tiles: Tiles,
    pub first: usize,
}

/// The pixels along a tile's side that lie in the output: the first is pixel `begin + step · from`.
#[derive(Clone, Copy)]
struct Side {
    begin: isize,
    step: usize,
    from: usize,
    to: usize,
}

impl Side {
    /// For the tile at `tile` in an output of `size` pixels; the first tile may begin `before` pixels above it.
    #[inline(always)]
    fn new(step: usize, before: usize, tile: usize, size: usize) -> Self {
        let begin = (step * OUT * tile) as isize - before as isize;
        let from = usize::from(begin < 0);
        let to = (size as isize - begin + step as isize - 1) as usize / step;
        Self {
            begin,
            step,
            from,
            to: to.min(OUT),
        }
    }

    /// Whether all of them lie in the output.
    #[inline(always)]
    fn is_whole(self) -> bool {
        self.from == 0 && self.to == OUT
    }

    /// Whether pixel `k` lies in the output.
    #[inline(always)]
    fn holds(self, k: usize) -> bool {
        k >= self.from && k < self.to
    }
}

/// The products of a group, `[point][tile][width]`; each point begins `stride` floats after the previous one.
#[derive(Clone, Copy)]
pub(super) struct Products<'a> {
    pub floats: &'a [f32],
    pub stride: usize,
    pub count: usize,
    pub width: usize,
}

impl Destination<'_> {
    /// Plans to prefetch what [`Destination::outputs`] will write and, for [`Epilogue::Slope`], read.
    pub fn plan_writes(
        &self,
        writes: &mut Prefetch,
        turns: usize,
        count: usize,
        phase: usize,
        begin: usize,
        width: usize,
    ) {
        let shape = self.output.shape();
        let shrink = if self.pooling { 2 } else { 1 };
        let window = self.layout.output_window(phase);
        let activation = match self.epilogue {
            Epilogue::Slope(activation, _) => Some(activation.as_slice().as_ptr()),
            _ => None,
        };
        let tensors = [Some(self.output.address()), activation];
        let runs = tensors.into_iter().flatten().flat_map(|tensor| {
            let tiles = self.tiles.side_by_side(self.first..self.first + count);
            tiles.flat_map(move |(n, ty, tiles)| {
                let down = Side::new(window.step, window.before.0, ty, shrink * shape.h);
                let across = Side::new(window.step, window.before.1, tiles.start, shrink * shape.w);
                let x = (across.begin + (across.from * across.step) as isize) / shrink as isize;
                (down.from..down.to).step_by(shrink).map(move |k| {
                    let y = (down.begin + (k * down.step) as isize) / shrink as isize;
                    let at = self.output.offset(n, y, x) + begin;
                    Run {
                        first: tensor.wrapping_add(at).addr(),
                        pieces: tiles.len() * OUT / shrink,
                    }
                })
            })
        });
        let step = window.step * shape.pixel_stride();
        writes.plan(turns, (width.div_ceil(LINE), step), runs);
    }

    /// Transforms the products back and stores the outputs, through the epilogue, for the channels from `begin` on.
    #[inline(always)]
    pub fn outputs<S: Simd, const IN: usize>(
        &self,
        simd: S,
        products: Products,
        phase: usize,
        begin: usize,
    ) {
        let Products {
            floats: products,
            stride,
            count,
            width,
        } = products;
        let shape = self.output.shape();
        let (pixel, row) = (shape.pixel_stride(), shape.row_stride());
        let shrink = if self.pooling { 2 } else { 1 };
        let window = self.layout.output_window(phase);
        for i in 0..count {
            let (n, ty, tx) = self.tiles.place(self.first + i);
            let down = Side::new(window.step, window.before.0, ty, shrink * shape.h);
            let across = Side::new(window.step, window.before.1, tx, shrink * shape.w);
            let place = self.output.offset(
                n,
                down.begin / shrink as isize,
                across.begin / shrink as isize,
            ) + begin;
            let (row, pixel) = (down.step * row, across.step * pixel);
            let whole = down.is_whole() && across.is_whole();
            // The last vector that this tile reads.
            assert!((IN * IN - 1) * stride + (i + 1) * width <= products.len());
            for c in (0..width).step_by(LANES) {
                let mut lines = [[simd.splat(0.0); IN]; OUT];
                for x in 0..IN {
                    let mut column = [simd.splat(0.0); IN];
                    for (y, value) in column.iter_mut().enumerate() {
                        let at = (y * IN + x) * stride + i * width + c;
                        // SAFETY: asserted above.
                        *value = simd.load(unsafe { vector_unchecked(products, at) });
                    }
                    let column = transform::output::<S, IN, OUT>(simd, column);
                    for y in 0..OUT {
                        lines[y][x] = column[y];
                    }
                }
                let bias = simd.load(vector(self.bias, begin + c));
                let at = |y: usize, x: usize| place + y * row + x * pixel + c;
                let mut above = [simd.splat(0.0); OUT];
                for (y, line) in lines.into_iter().enumerate() {
                    let mut values = transform::output::<S, IN, OUT>(simd, line);
                    if !self.pooling {
                        for value in &mut values {
                            *value = simd.add(*value, bias);
                        }
                        if whole {
                            self.store_all(simd, values, at(y, 0), pixel);
                        } else if down.holds(y) {
                            for x in 0..OUT {
                                if across.holds(x) {
                                    self.store(simd, values[x], at(y, x));
                                }
                            }
                        }
                    } else if y % 2 == 0 {
                        above = values;
                    } else if y < down.to {
                        for x in 0..OUT / 2 {
                            if 2 * x + 1 < across.to {
                                let upper = simd.max(above[2 * x], above[2 * x + 1]);
                                let lower = simd.max(values[2 * x], values[2 * x + 1]);
                                let greatest = simd.add(simd.max(upper, lower), bias);
                                self.store(simd, greatest, at(y / 2, x));
                            }
                        }
                    }
                }
            }
        }
    }

    /// Stores the vectors of a tile's row, the first to float `at`, each `pixel` floats after the one before. The
    /// most common epilogue is dispatched once, not for every vector.
    #[inline(always)]
    fn store_all<S: Simd>(&self, simd: S, values: [S::V; OUT], at: usize, pixel: usize) {
        if let Epilogue::LeakyRelu(slope) = self.epilogue {
            // SAFETY: as in `store`.
            let vector = |x: usize| unsafe { self.output.vector(at + x * pixel) };
            for (x, value) in values.into_iter().enumerate() {
                simd.store(leaky_relu(simd, value, slope), vector(x));
            }
        } else {
            for (x, value) in values.into_iter().enumerate() {
                self.store(simd, value, at + x * pixel);
            }
        }
    }

    #[inline(always)]
    fn store<S: Simd>(&self, simd: S, value: S::V, at: usize) {
        // SAFETY: `outputs` passes vectors in pixels of this group's tiles, each once; no other group has these
        // tiles.
        let to = unsafe { self.output.vector(at) };
        self.epilogue.store(simd, value, to, at);
    }
}
