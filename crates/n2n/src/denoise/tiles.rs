//! How a page is cut into tiles, so that the network never needs more memory than the limit.

use std::ops::Range;

use super::region::Frame;
use super::{Options, Padding, Tile};
use crate::error::{Error, Result};
use crate::image::Page;
use crate::network::Denoise;
use crate::unet::Grid;

/// Bytes for the program itself, for rows in transit between files, and for what the allocator keeps of them.
const PROGRAM: u64 = 112 << 20;

/// The layout of tiles for a page, or for a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cut {
    /// Height and width of the padded page.
    pub padded: (usize, usize),
    /// The network's grid. In the paper's network a pixel depends on others up to 157 away, but how far to one side
    /// depends on its place in its pooling cell. Tiles begin and end at cells of the whole image's grid, and from the
    /// edge of a cell the network sees exactly 128 pixels.
    pub grid: Grid,
    /// The rows and columns that tiles cover, in whole cells of the grid.
    pub covered: (Range<usize>, Range<usize>),
    /// Height and width of the part of a tile that is kept, in whole cells of the grid.
    pub kept: (usize, usize),
}

impl Cut {
    /// The layout for the part of a page that `frame` asks for. `max_bytes` limits what the network, its tiles and the
    /// rows in memory need together.
    pub(super) fn new(
        page: &Page,
        frame: &Frame,
        network: &dyn Denoise,
        options: &Options,
    ) -> Result<Self> {
        let &Options {
            padding,
            tile,
            max_bytes,
            ..
        } = options;
        let grid = network.grid();
        let up = |side: usize| grid.up(side);
        let padded = match padding {
            Padding::Square => (
                up(page.height.max(page.width)),
                up(page.height.max(page.width)),
            ),
            Padding::Multiple => (up(page.height), up(page.width)),
        };
        // A square is denoised as a whole.
        let covered = match padding {
            Padding::Square => (0..padded.0, 0..padded.1),
            Padding::Multiple => frame.keep.on_grid(grid),
        };
        let whole = Self {
            padded,
            grid,
            kept: (covered.0.len(), covered.1.len()),
            covered,
        };
        let need = |cut: &Self| cut.bytes(page, frame, network, options);
        let asked_for = |cut: Self, what: &str| match need(&cut) {
            // More than the device has in one piece: tiles become smaller when it says so.
            u64::MAX => Ok(cut),
            needed if needed > max_bytes => Err(too_little(what, needed, max_bytes)),
            _ => Ok(cut),
        };
        match (padding, tile) {
            (Padding::Square, _) if need(&whole) > max_bytes => Err(too_little(
                "the image padded to a square, which cannot be tiled",
                need(&whole),
                max_bytes,
            )),
            (Padding::Square, _) => Ok(whole),
            (Padding::Multiple, Tile::None) => asked_for(whole, "the whole page as one tile"),
            (Padding::Multiple, Tile::Side(side)) => {
                let side = up(side.min(padded.0.max(padded.1)));
                asked_for(whole.within(side), "tiles of this size")
            }
            (Padding::Multiple, Tile::Auto) if need(&whole) <= max_bytes => Ok(whole),
            (Padding::Multiple, Tile::Auto) => whole.largest_within(need, max_bytes),
        }
    }

    /// Of the layouts that need at most `max_bytes`, the one that gives the network the fewest pixels.
    fn largest_within(self, need: impl Fn(&Self) -> u64, max_bytes: u64) -> Result<Self> {
        let cell = self.grid.multiple;
        let (rows, columns) = (self.kept.0 / cell, self.kept.1 / cell);
        let mut best: Option<(u64, Self)> = None;
        let mut smallest = u64::MAX;
        for across in 1..=columns {
            // Tiles of similar size let the network reuse its memory.
            let width = cell * columns.div_ceil(across);
            let cut = |height: usize| Self {
                kept: (cell * height, width),
                ..self.clone()
            };
            smallest = smallest.min(need(&cut(1)));
            // More rows need more memory: bisect to find the largest number that fits.
            let (mut fits, mut fails) = (0, rows + 1);
            while fails - fits > 1 {
                let middle = usize::midpoint(fits, fails);
                if need(&cut(middle)) <= max_bytes {
                    fits = middle;
                } else {
                    fails = middle;
                }
            }
            if fits > 0 {
                let even = rows.div_ceil(rows.div_ceil(fits));
                let found = cut(even);
                let pixels = found.pixels();
                if best.as_ref().is_none_or(|(fewest, _)| pixels < *fewest) {
                    best = Some((pixels, found));
                }
            }
        }
        best.map(|(_, cut)| cut)
            .ok_or_else(|| too_little("the smallest tiles of this page", smallest, max_bytes))
    }

    /// The layout with tiles at most `side` pixels high and wide, without the halo.
    pub(super) fn within(&self, side: usize) -> Self {
        Self {
            kept: (self.kept.0.min(side), self.kept.1.min(side)),
            ..self.clone()
        }
    }

    /// The side of tiles of half the size, if possible.
    pub(super) fn half(&self) -> Option<usize> {
        let side = self.kept.0.max(self.kept.1);
        (side > self.grid.multiple).then(|| self.grid.up(side / 2))
    }

    /// Total number of pixels that the network sees.
    fn pixels(&self) -> u64 {
        let sum = |kept: usize, covered: &Range<usize>, padded: usize| -> u64 {
            let spans = spans(self.grid.halo, kept, covered, padded);
            spans.map(|(seen, _)| seen.len() as u64).sum()
        };
        sum(self.kept.0, &self.covered.0, self.padded.0)
            * sum(self.kept.1, &self.covered.1, self.padded.1)
    }

    /// Height and width of the largest tile, including its halo.
    pub(super) fn seen(&self) -> (usize, usize) {
        (
            (self.kept.0 + 2 * self.grid.halo).min(self.padded.0),
            (self.kept.1 + 2 * self.grid.halo).min(self.padded.1),
        )
    }

    /// Bytes in use at once: the network's, a tile before and after it, the rows that a row of tiles sees, and its
    /// output rows.
    fn bytes(&self, page: &Page, frame: &Frame, network: &dyn Denoise, options: &Options) -> u64 {
        let (h, w) = self.seen();
        // Input and output; with an ensemble, also a flipped or rotated copy of each.
        let copies = if options.ensemble { 4 } else { 2 };
        let tile = copies * 4 * (h * w * network.channels()) as u64;
        let row = 4 * (frame.stored.width * page.samples()) as u64;
        // The rows that are seen, the results for those that are kept, and the previous band, which is being written.
        // With the noisy rows, also those of both bands, and up to four more for the outputs: three images side by side
        // in a comparison, and a residual.
        let bands = if options.with_noisy { 8 } else { 2 };
        let rows = h.min(page.height) + bands * self.kept.0.min(page.height);
        (PROGRAM + tile + row * rows as u64).saturating_add(network.working_bytes(h, w))
    }

    /// The row of tiles that begins at row `top`: the rows of the padded page that it sees, and those that are kept.
    pub(super) fn row(&self, top: usize) -> (Range<usize>, Range<usize>) {
        span(
            self.grid.halo,
            top,
            self.kept.0,
            self.covered.0.end,
            self.padded.0,
        )
    }

    /// The columns of tiles, likewise.
    pub(super) fn columns(&self) -> impl Iterator<Item = (Range<usize>, Range<usize>)> + use<> {
        spans(self.grid.halo, self.kept.1, &self.covered.1, self.padded.1)
    }
}

/// Divides the part `covered` of a side of `padded` pixels into steps of `kept`: what each tile sees, and what is
/// kept of it.
fn spans(
    halo: usize,
    kept: usize,
    covered: &Range<usize>,
    padded: usize,
) -> impl Iterator<Item = (Range<usize>, Range<usize>)> + use<> {
    let end = covered.end;
    let starts = covered.clone().step_by(kept);
    starts.map(move |start| span(halo, start, kept, end, padded))
}

/// The extent, along one side, of the tile that begins at `start`.
fn span(
    halo: usize,
    start: usize,
    kept: usize,
    covered: usize,
    padded: usize,
) -> (Range<usize>, Range<usize>) {
    let end = (start + kept).min(covered);
    let seen = start.saturating_sub(halo)..(end + halo).min(padded);
    (seen, start..end)
}

fn too_little(what: &str, needed: u64, allowed: u64) -> Error {
    if needed == u64::MAX {
        let expected = "a size that fits into the device's largest buffer";
        return Error::value(what, expected, "a larger one; use another device");
    }
    let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
    Error::value(
        "memory limit",
        format!("{} MB or more, for {what}", megabytes(needed)),
        format!("{} MB", megabytes(allowed)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::CpuNetwork;
    use crate::cpu::tests::in_half;
    use crate::image::{Image, OfImage, Pages};
    use crate::unet::{Kind, Skip, UNet};

    /// The input pixels that each output pixel depends on, along one side, from the layers of the network.
    fn dependencies(unet: UNet, length: usize) -> Vec<(usize, usize)> {
        let join = |a: (usize, usize), b: (usize, usize)| (a.0.min(b.0), a.1.max(b.1));
        let block = unet.pixel_shuffle;
        let image: Vec<_> = (0..length / block)
            .map(|x| (x * block, x * block + block - 1))
            .collect();
        let mut current = image.clone();
        let mut pools: Vec<Vec<(usize, usize)>> = vec![];
        for layer in unet.layers() {
            let joined = match layer.skip {
                None => current,
                Some(skip) => {
                    let other = match skip {
                        Skip::Image => &image,
                        Skip::Pool(k) => &pools[k - 1],
                    };
                    current
                        .iter()
                        .zip(other)
                        .map(|(&a, &b)| join(a, b))
                        .collect()
                }
            };
            let at = |x: usize| joined[x.min(joined.len() - 1)];
            current = match layer.kind {
                Kind::Conv1x1 => joined,
                Kind::Up2x2 => (0..2 * joined.len()).map(|x| joined[x / 2]).collect(),
                Kind::Conv3x3 => (0..joined.len())
                    .map(|x| join(at(x.saturating_sub(1)), at(x + 1)))
                    .collect(),
            };
            if layer.pool {
                let cells = current.chunks(2);
                current = cells.map(|cell| join(cell[0], cell[1])).collect();
                pools.push(current.clone());
            }
        }
        let blocks = current.iter();
        blocks
            .flat_map(|&seen| std::iter::repeat_n(seen, block))
            .collect()
    }

    #[test]
    fn the_halo_is_how_far_the_network_looks_from_the_edge_of_a_tile() {
        let found = dependencies(UNet::default(), 1024);
        let reach = |x: usize| (x - found[x].0).max(found[x].1 - x);
        assert_eq!((480..544).map(reach).max(), Some(157));
        for n_depth in 1..=UNet::MAX_DEPTH {
            for pixel_shuffle in 1..=UNet::MAX_PIXEL_SHUFFLE {
                let unet = UNet {
                    n_depth,
                    pixel_shuffle,
                    ..UNet::default()
                };
                let Grid { multiple, halo } = unet.grid();
                let found = dependencies(unet, 11 * multiple);
                // A tile keeps the middle cell.
                let kept = 5 * multiple..6 * multiple;
                let first = kept.clone().map(|x| found[x].0).min().unwrap();
                let last = kept.clone().map(|x| found[x].1).max().unwrap();
                let seen = (kept.start - first).max(last + 1 - kept.end);
                if n_depth == 1 {
                    assert!(seen <= halo, "{seen} of {halo}");
                } else {
                    assert_eq!(seen, halo, "{unet}");
                }
                assert_eq!(halo % multiple, 0);
            }
        }
    }

    #[test]
    fn tiles_are_halved_down_to_the_smallest() {
        let mut cut = Cut {
            padded: (640, 1504),
            grid: UNet::default().grid(),
            covered: (0..640, 0..1504),
            kept: (640, 1504),
        };
        let mut sides = vec![];
        while let Some(side) = cut.half() {
            sides.push(side);
            cut = cut.within(side);
            assert_eq!(cut.kept, (side.min(640), side));
        }
        assert_eq!(sides, [768, 384, 192, 96, 64, 32]);
    }

    #[test]
    fn tiles_lie_on_the_grid_of_the_whole_and_cover_it_once() {
        for (kept, padded) in [(32, 32), (32, 320), (96, 320), (320, 320), (512, 320)] {
            let mut next = 0;
            for (seen, part) in spans(128, kept, &(0..padded), padded) {
                assert_eq!(part.start, next);
                next = part.end;
                assert!([seen.start, seen.end, part.end].iter().all(|x| x % 32 == 0));
                assert!(seen.start == 0 || part.start - seen.start == 128);
                assert!(seen.end == padded || seen.end - part.end == 128);
            }
            assert_eq!(next, padded);
        }
    }

    #[test]
    fn tiles_that_are_asked_for_need_no_more_than_the_limit_or_are_refused() {
        let pixel = Image::from_bytes(1, 1, 3, &[0; 3]);
        let mut page = OfImage::new(&pixel).next_page().unwrap().unwrap();
        (page.height, page.width) = (1600, 2000);
        let network = CpuNetwork::initial(UNet::default(), 1);
        let frame = Frame::whole(&page);
        for tile in [Tile::None, Tile::Side(512)] {
            let cut = |max_bytes: u64| {
                let options = Options {
                    tile,
                    max_bytes,
                    ..Options::default()
                };
                Cut::new(&page, &frame, &network, &options)
            };
            let options = Options::default();
            let needed = (cut(u64::MAX).unwrap()).bytes(&page, &frame, &network, &options);
            assert_eq!(cut(needed).unwrap(), cut(u64::MAX).unwrap());
            let error = cut(needed - 1).unwrap_err().to_string();
            let megabytes = needed.div_ceil(1_000_000);
            let expected = format!("memory limit: expected {megabytes} MB or more, for ");
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn tiles_of_a_photograph_see_little_twice() {
        let pixel = Image::from_bytes(1, 1, 3, &[0; 3]);
        let mut page = OfImage::new(&pixel).next_page().unwrap().unwrap();
        let options = Options::default();
        for (height, width) in [(4000, 6000), (6000, 4000)] {
            (page.height, page.width) = (height, width);
            let full = CpuNetwork::initial(UNet::default(), 1);
            let half = in_half(CpuNetwork::initial(UNet::default(), 1));
            for network in [full, half] {
                let cut = Cut::new(&page, &Frame::whole(&page), &network, &options).unwrap();
                let seen = cut.pixels() as f64 / (height * width) as f64;
                assert!(
                    seen <= 1.15,
                    "{seen} on {}: {:?}",
                    network.device(),
                    cut.kept
                );
            }
        }
    }
}
