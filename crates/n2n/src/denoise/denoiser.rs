//! One page through the network, a row of tiles at a time: as rows come in, rows go out, and memory holds only what
//! one row of tiles sees.

use std::ops::{ControlFlow, Range};

use rayon::prelude::*;

use super::ensemble::mean_over_symmetries;
use super::region::Frame;
use super::tiles::Cut;
use super::view::{View, views};
use super::window::Window;
use super::{Options, Padding, Scale, sensor};
use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::image::{Image, OfImage, Page, Pages, Sensor};
use crate::network::Denoise;

/// The progress of denoising an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Pixels that the network has processed. A pixel counts once per pass: once for each channel that is denoised
    /// separately, eight times in an ensemble.
    pub done: u64,
    /// The final value of [`Self::done`].
    pub total: u64,
}

impl Progress {
    /// The fraction that is done, 0 to 1.
    pub fn fraction(&self) -> f64 {
        self.done as f64 / self.total.max(1) as f64
    }
}

/// Called before each pass of the network and at the end of an image. [`ControlFlow::Break`] stops the work, which
/// then ends with [`Error::Stopped`].
pub type OnProgress<'a> = &'a (dyn Fn(Progress) -> ControlFlow<()> + Sync);

/// A network, and the options for denoising pages with it.
pub struct Denoiser<'a> {
    network: &'a mut dyn Denoise,
    options: Options,
    on_progress: Option<OnProgress<'a>>,
    progress: Progress,
    /// Pixels that the network has been given since the start; those that tiles share count each time.
    pub(crate) network_pixels: u64,
    /// The tiles that fit on the device, once it has turned out to have less memory than planned.
    shrunk: Option<Shrunk>,
    /// Whether the next band should report them.
    report_shrunk: bool,
}

/// Rows of a page before and after denoising, each with all samples.
#[derive(Debug, Clone)]
pub struct Band {
    /// The original rows; empty without [`Options::with_noisy`], unless `f32` cannot represent them exactly or the page
    /// is only copied.
    pub noisy: Vec<f32>,
    /// The denoised rows; samples that are not color, and non-finite values, are unchanged.
    pub denoised: Vec<f32>,
    /// The new size of the tiles, in the first band after they became smaller than before; otherwise `None`.
    pub shrunk: Option<Shrunk>,
}

/// Tiles are smaller than planned because the device has too little memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shrunk {
    /// Their maximum height and width, without the halo.
    pub side: usize,
    /// The device's error message.
    pub reason: String,
}

impl<'a> Denoiser<'a> {
    /// A denoiser for images with the network's number of channels, or whose channels it can process one by one.
    pub fn new(network: &'a mut dyn Denoise, options: Options) -> Self {
        Self {
            network,
            options,
            on_progress: None,
            progress: Progress { done: 0, total: 0 },
            network_pixels: 0,
            shrunk: None,
            report_shrunk: false,
        }
    }

    /// Whether single channels would be denoised as RGB images.
    pub(crate) fn is_rgb_alone(&self) -> bool {
        self.network.channels() == 3 && !self.network.takes_gray()
    }

    /// Sets the function that is called with progress.
    pub(crate) fn with_progress(self, on_progress: Option<OnProgress<'a>>) -> Self {
        Self {
            on_progress,
            ..self
        }
    }

    /// Denoises the current page of `pages` and passes on its rows, from the top, band by band.
    ///
    /// `scale` says which values map to the network's 0 and 1. If the scale is a limit, integers that lie within it
    /// stay within it. It does not apply to sensor data, whose page states its own.
    ///
    /// A gray network denoises the channels of a page one by one, and so does an RGB network if the page is not RGB:
    /// with the gray network [beside it](super::WithGray), or else as an RGB image of three equal channels, which
    /// removes little of the noise. An RGB page of equal channels is denoised as a gray one where the network takes
    /// those. A network with any other number of channels takes pages with the same number.
    pub fn denoise(
        &mut self,
        page: &Page,
        pages: &mut dyn Pages,
        scale: Scale,
        give: impl FnMut(Band) -> Result<()>,
    ) -> Result<()> {
        if page.metadata.pass_through {
            return copy(page, pages, give);
        }
        if let Some(of_page) = &page.metadata.sensor {
            return self.denoise_sensor(page, of_page, pages, give);
        }
        self.denoise_frame(page, &Frame::whole(page), pages, scale, give)
    }

    /// [`Self::denoise`] for a part of a page, where `pages` provides the rows of another part.
    pub(crate) fn denoise_frame(
        &mut self,
        page: &Page,
        frame: &Frame,
        pages: &mut dyn Pages,
        scale: Scale,
        give: impl FnMut(Band) -> Result<()>,
    ) -> Result<()> {
        let views = views(page, self.network)?;
        self.begin(frame.keep.height * frame.keep.width * views.len());
        self.bands(page, frame, &views, pages, scale, give)
    }

    /// Denoises a page of sensor data as a whole: its channels in groups, as [`sensor`] prepares them.
    fn denoise_sensor(
        &mut self,
        page: &Page,
        sensor: &Sensor,
        pages: &mut dyn Pages,
        mut give: impl FnMut(Band) -> Result<()>,
    ) -> Result<()> {
        let groups = sensor::groups(sensor, self.network.channels());
        self.begin(page.height * page.width * groups.len());
        let given = self.options;
        self.options = Options {
            strength: 1.0,
            with_noisy: false,
            ..given
        };
        let mut shrunk = None;
        let samples = sensor::denoise(page, sensor, &groups, pages, given.strength, |planes| {
            self.denoise_planes(planes, &mut shrunk)
        });
        self.options = given;
        let (noisy, denoised) = samples?;
        give(Band {
            noisy: if given.with_noisy { noisy } else { vec![] },
            denoised,
            shrunk,
        })
    }

    /// The network's result for the planes of one group.
    fn denoise_planes(&mut self, planes: &Image, shrunk: &mut Option<Shrunk>) -> Result<Vec<f32>> {
        let mut denoised = Vec::with_capacity(planes.data.len());
        let mut pages = OfImage::new(planes);
        while let Some(page) = pages.next_page()? {
            let views = views(&page, self.network)?;
            let frame = Frame::whole(&page);
            self.bands(&page, &frame, &views, &mut pages, Scale::UNIT, |band| {
                if band.shrunk.is_some() {
                    *shrunk = band.shrunk;
                }
                denoised.extend(band.denoised);
                Ok(())
            })?;
        }
        Ok(denoised)
    }

    /// Starts the progress of denoising this many pixels.
    fn begin(&mut self, pixels: usize) {
        let ways = if self.options.ensemble { 8 } else { 1 };
        self.progress = Progress {
            done: 0,
            total: (pixels * ways) as u64,
        };
    }

    /// Denoises a part of a page and passes on its rows, band by band.
    fn bands(
        &mut self,
        page: &Page,
        frame: &Frame,
        views: &[View],
        pages: &mut dyn Pages,
        scale: Scale,
        mut give: impl FnMut(Band) -> Result<()>,
    ) -> Result<()> {
        let keep = frame.keep;
        let mut cut = self.cut(page, frame)?;
        let mut window = Window::new(page, frame);
        let mut top = cut.covered.0.start;
        while top < keep.rows().end {
            let (seen, kept) = cut.row(top);
            window.forget_above(seen.start.min(page.height));
            window.read_to(seen.end.min(page.height), pages)?;
            let rows = kept.start.max(keep.top)..kept.end.min(keep.rows().end);
            let before = self.progress.done;
            let band = (seen, rows.clone(), keep.columns());
            let tiles = self.tiles(page, views, &window, &cut, band, scale);
            let mut denoised = match tiles {
                Err(error @ Error::OutOfMemory { .. }) => {
                    // Rows already passed on stay valid; the rows that come next are still in memory.
                    cut = self.shrink(&cut, error)?;
                    self.progress.done = before;
                    continue;
                }
                tiles => tiles?,
            };
            top = kept.end;
            let noisy = window.part(rows, keep.columns());
            let row = keep.width * page.samples();
            self.finish(page, row, &noisy, &mut denoised, scale);
            let noisy = if self.options.with_noisy || page.depth.is_wide() {
                noisy.into_owned()
            } else {
                vec![]
            };
            let report_shrunk = std::mem::take(&mut self.report_shrunk);
            let shrunk = self.shrunk.clone().filter(|_| report_shrunk);
            give(Band {
                noisy,
                denoised,
                shrunk,
            })?;
        }
        self.tell_progress()
    }

    fn tell_progress(&self) -> Result<()> {
        match self.on_progress.map(|told| told(self.progress)) {
            Some(ControlFlow::Break(())) => Err(Error::Stopped),
            Some(ControlFlow::Continue(())) | None => Ok(()),
        }
    }

    /// The layout for the requested part of a page, with tiles that fit on the device, as far as it can tell in
    /// advance.
    fn cut(&mut self, page: &Page, frame: &Frame) -> Result<Cut> {
        let mut cut = Cut::new(page, frame, self.network, &self.options)?;
        if let Some(shrunk) = &self.shrunk
            && self.options.padding == Padding::Multiple
        {
            cut = cut.within(shrunk.side);
        }
        loop {
            let (h, w) = cut.seen();
            let mut reserved = self.network.reserve(h, w);
            if self.options.ensemble {
                reserved = reserved.and_then(|()| self.network.reserve(w, h));
            }
            match reserved {
                Err(error @ Error::OutOfMemory { .. }) => cut = self.shrink(&cut, error)?,
                reserved => return reserved.map(|()| cut),
            }
        }
    }

    /// The layout with tiles of half the size; if there is none, returns the error that required it.
    fn shrink(&mut self, cut: &Cut, error: Error) -> Result<Cut> {
        // A square cannot be cut: its padding reflects rows that are gone.
        let half = cut
            .half()
            .filter(|_| self.options.padding == Padding::Multiple);
        let Some(side) = half else {
            return Err(error);
        };
        self.report_shrunk = true;
        self.shrunk = Some(Shrunk {
            side,
            reason: error.to_string(),
        });
        Ok(cut.within(side))
    }

    /// Runs the rows and columns `kept` of a page through the network, one tile after another.
    fn tiles(
        &mut self,
        page: &Page,
        views: &[View],
        window: &Window,
        cut: &Cut,
        (seen, kept, columns): (Range<usize>, Range<usize>, Range<usize>),
        scale: Scale,
    ) -> Result<Vec<f32>> {
        let samples = page.samples();
        let mut denoised = window.part(kept.clone(), columns.clone()).into_owned();
        for (across, part) in cut.columns() {
            let part = part.start.max(columns.start)..part.end.min(columns.end);
            if part.is_empty() {
                break;
            }
            let size = (seen.len(), across.len());
            for &view in views {
                let from = (seen.start, across.start);
                let tile = window.tile(page, from, size, view, |value| normalized(value, scale));
                let tile = self.run(&tile, kept.len() * part.len())?;
                let rows = denoised.par_chunks_exact_mut(columns.len() * samples);
                rows.zip(kept.clone()).for_each(|(row, y)| {
                    let from = (y - seen.start) * tile.w + part.start - across.start;
                    let from = &tile.data[from * tile.c..][..part.len() * tile.c];
                    let to =
                        row[(part.start - columns.start) * samples..].chunks_exact_mut(samples);
                    for (pixel, values) in to.zip(from.chunks_exact(tile.c)) {
                        view.put(values, pixel);
                    }
                });
            }
        }
        Ok(denoised)
    }

    /// The network's result for one tile, of which `pixels` are kept, or the mean over its flips and rotations.
    fn run(&mut self, tile: &Batch, pixels: usize) -> Result<Batch> {
        if !self.options.ensemble {
            return self.pass(tile, pixels);
        }
        mean_over_symmetries(tile, |tile| self.pass(tile, pixels))
    }

    /// One pass of the network.
    fn pass(&mut self, tile: &Batch, pixels: usize) -> Result<Batch> {
        self.tell_progress()?;
        let denoised = self.network.denoise(tile)?;
        self.progress.done += pixels as u64;
        self.network_pixels += (tile.n * tile.h * tile.w) as u64;
        Ok(denoised)
    }

    /// Converts the network's values to those of the file, and blends them with the noisy ones according to the
    /// strength.
    fn finish(&self, page: &Page, row: usize, noisy: &[f32], denoised: &mut [f32], scale: Scale) {
        let (samples, channels) = (page.samples(), page.color.channels());
        let strength = self.options.strength;
        let rows = denoised.par_chunks_exact_mut(row);
        rows.zip(noisy.par_chunks_exact(row))
            .for_each(|(denoised, noisy)| {
                let pixels = denoised.chunks_exact_mut(samples);
                for (to, from) in pixels.zip(noisy.chunks_exact(samples)) {
                    for (to, &from) in to[..channels].iter_mut().zip(from) {
                        let mut value = scale.from_network(*to, from);
                        if scale.is_limit && !page.depth.is_float() {
                            // Clamped to the range, extended to the image's own value if that lies outside.
                            value = value.clamp(scale.low.min(from), scale.high.max(from));
                        }
                        *to = if strength == 0.0 || !from.is_finite() || !value.is_finite() {
                            from
                        } else if strength == 1.0 {
                            value
                        } else {
                            from + strength * (value - from)
                        };
                    }
                }
            });
    }
}

/// Passes on the rows of a page unchanged.
fn copy(
    page: &Page,
    pages: &mut dyn Pages,
    mut give: impl FnMut(Band) -> Result<()>,
) -> Result<()> {
    let at_once = ((1 << 20) / page.row_len()).clamp(1, page.height);
    let mut left = page.height;
    while left > 0 {
        let count = left.min(at_once);
        left -= count;
        let mut noisy = Vec::new();
        pages.read_rows(count, &mut noisy)?;
        give(Band {
            denoised: noisy.clone(),
            noisy,
            shrunk: None,
        })?;
    }
    Ok(())
}

/// A value on the network's scale. NaN is replaced, because it would spread over the receptive field of the network.
pub(super) fn normalized(value: f32, scale: Scale) -> f32 {
    if value.is_nan() {
        return 0.0;
    }
    if value.is_infinite() {
        return f32::from(value > 0.0);
    }
    scale.to_network(value)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::cpu::CpuNetwork;
    use crate::cpu::tests::strong_weights;
    use crate::denoise::Tile;
    use crate::image::{Depth, Response};
    use crate::network::fake::Fake;
    use crate::unet::{Grid, UNet};
    use crate::weights::Weights;

    fn image(height: usize, width: usize, channels: usize, depth: Depth) -> Image {
        let values = height * width * channels;
        let data = (0..values).map(|i| (i * 7919 % 1009) as f32 / 1009.0);
        Image {
            height,
            width,
            channels,
            data: data.collect(),
            depth,
        }
    }

    fn denoised(network: &mut dyn Denoise, image: &Image, options: Options) -> Vec<f32> {
        let mut pages = OfImage::new(image);
        let page = pages.next_page().unwrap().unwrap();
        let mut data = vec![];
        Denoiser::new(network, options)
            .denoise(&page, &mut pages, Scale::UNIT, |band| {
                let noisy = &image.data[data.len()..][..band.noisy.len()];
                let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert!(bits(&band.noisy) == bits(noisy));
                data.extend(band.denoised);
                Ok(())
            })
            .unwrap();
        assert_eq!(data.len(), image.data.len());
        data
    }

    fn strong_network(channels: usize) -> CpuNetwork {
        CpuNetwork::from_weights(&strong_weights(channels)).unwrap()
    }

    fn assert_close(a: &[f32], b: &[f32]) {
        let size = a.iter().fold(0_f32, |max, v| max.max(v.abs()));
        for (i, (a, b)) in a.iter().zip(b).enumerate() {
            assert!(
                (a - b).abs() <= 1e-5 * size,
                "{a} and {b} at {i}, of {size}"
            );
        }
    }

    const WHOLE: Options = Options {
        padding: Padding::Multiple,
        tile: Tile::None,
        max_bytes: u64::MAX,
        strength: 1.0,
        ensemble: false,
        with_noisy: true,
    };

    #[test]
    fn tiles_make_the_whole_page() {
        for (channels, height, width, side, ensemble) in [
            (1, 40, 500, 1, false),
            (1, 450, 33, 64, true),
            (3, 300, 333, 100, false),
            (1, 100, 100, 4096, false),
        ] {
            let mut network = strong_network(channels);
            let image = image(height, width, channels, Depth::F32);
            let whole = denoised(&mut network, &image, Options { ensemble, ..WHOLE });
            let tile = Tile::Side(side);
            let options = Options {
                tile,
                ensemble,
                ..WHOLE
            };
            assert_close(&whole, &denoised(&mut network, &image, options));
        }
    }

    /// The real network on a device with little memory.
    struct Small {
        network: CpuNetwork,
        fake: Fake,
    }

    impl Denoise for Small {
        fn channels(&self) -> usize {
            self.network.channels()
        }

        fn grid(&self) -> Grid {
            self.network.grid()
        }

        fn denoise(&mut self, noisy: &Batch) -> Result<Batch> {
            self.fake.denoise(noisy)?;
            self.network.denoise(noisy)
        }

        fn reserve(&mut self, h: usize, w: usize) -> Result<()> {
            self.fake.reserve(h, w)
        }

        fn working_bytes(&self, h: usize, w: usize) -> u64 {
            self.network.working_bytes(h, w)
        }

        fn device(&self) -> String {
            self.fake.device()
        }
    }

    /// The result, and the tile sizes that were reported.
    fn told(
        network: &mut dyn Denoise,
        images: &[&Image],
        options: Options,
    ) -> (Vec<Vec<f32>>, Vec<usize>) {
        let mut denoiser = Denoiser::new(network, options);
        let mut sides = vec![];
        let results = images.iter().map(|image| {
            let mut pages = OfImage::new(image);
            let page = pages.next_page().unwrap().unwrap();
            let mut data = vec![];
            let result = denoiser.denoise(&page, &mut pages, Scale::UNIT, |band| {
                sides.extend(band.shrunk.map(|shrunk| shrunk.side));
                data.extend(band.denoised);
                Ok(())
            });
            result.unwrap();
            data
        });
        (results.collect(), sides)
    }

    #[test]
    fn a_device_of_little_memory_gets_smaller_tiles_for_the_same_result() {
        let image = image(600, 50, 1, Depth::F32);
        let options = |tile| Options { tile, ..WHOLE };
        for (most, side, before) in [
            (usize::MAX, 608, true),
            // The whole, 608 × 64, is too large; so are 576 rows, which tiles of 320 may see.
            (448 * 64, 160, true),
            // A tile of 160 at the top, which sees 288 rows, would fit; one in the middle would not.
            (360 * 64, 96, true),
            // A device that cannot tell in advance learns that its tiles see at most 448 rows of this page.
            (448 * 64, 320, false),
        ] {
            let mut small = Small {
                network: strong_network(1),
                fake: Fake::identity(1),
            };
            small.fake.most = (most, before);
            let (result, sides) = told(&mut small, &[&image, &image], options(Tile::None));
            let (expected, none) = told(
                &mut strong_network(1),
                &[&image, &image],
                options(Tile::Side(side)),
            );
            assert!(result == expected, "{most}");
            let want = if most == usize::MAX {
                vec![]
            } else {
                vec![side]
            };
            assert_eq!((sides, none), (want, vec![]), "once for both pages");
        }
    }

    #[test]
    fn memory_that_becomes_short_in_a_page_changes_the_tiles_below() {
        let image = image(1000, 100, 1, Depth::F32);
        let mut small = Small {
            network: strong_network(1),
            fake: Fake::identity(1),
        };
        // Tiles of 256 see 384 rows at the top, which fit, and 512 in the middle, which do not.
        small.fake.most = (400 * 128, false);
        let options = Options {
            tile: Tile::Side(256),
            ..WHOLE
        };
        let (result, sides) = told(&mut small, &[&image], options);
        assert_eq!(sides, [128]);
        let heights: Vec<_> = small.fake.seen.iter().map(|&(_, h, ..)| h).collect();
        assert_eq!(heights, [384, 384, 384, 384, 384, 384, 256]);
        let whole = denoised(&mut strong_network(1), &image, WHOLE);
        assert_close(&whole, &result[0]);
    }

    #[test]
    fn a_device_without_memory_for_the_smallest_tile_is_an_error() {
        let image = image(300, 300, 1, Depth::F32);
        for (padding, before) in [
            (Padding::Multiple, true),
            (Padding::Multiple, false),
            (Padding::Square, true),
            (Padding::Square, false),
        ] {
            let mut network = Fake::identity(1);
            network.most = (1000, before);
            let options = Options { padding, ..WHOLE };
            let mut pages = OfImage::new(&image);
            let page = pages.next_page().unwrap().unwrap();
            let mut denoiser = Denoiser::new(&mut network, options);
            let error = denoiser
                .denoise(&page, &mut pages, Scale::UNIT, |_| Ok(()))
                .unwrap_err();
            assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
        }
    }

    #[test]
    fn a_smaller_halo_would_not_do() {
        // In a network without cancellation, a pixel just inside the halo changes the first kept pixel, and one just
        // outside does not.
        let unet = UNet::new(2, 1).unwrap();
        let parameters = vec![0.05; unet.parameters()];
        let weights = Weights::from_parameters(&unet, &parameters);
        let mut network = CpuNetwork::from_weights(&weights).unwrap();
        let (width, kept) = (512, 256);
        let mut batch = Batch::zeros(1, 32, width, 1);
        let before = network.denoise(&batch).unwrap();
        let mut changes = |x: usize| {
            (0..32).for_each(|y| batch.data[y * width + x] = 1e6);
            let after = network.denoise(&batch).unwrap();
            (0..32).for_each(|y| batch.data[y * width + x] = 0.0);
            (0..32).any(|y| {
                (kept..kept + 32).any(|x| before.data[y * width + x] != after.data[y * width + x])
            })
        };
        assert!(changes(kept - 128));
        assert!(!changes(kept - 128 - 1));
    }

    #[test]
    fn the_memory_decides_how_large_tiles_are() {
        let image = image(600, 900, 1, Depth::U8);
        let most = Fake::identity(1).working_bytes(608, 928) + 200_000_000;
        for max_bytes in [u64::MAX, most, 2_500_000_000] {
            let mut network = Fake::identity(1);
            let options = Options {
                max_bytes,
                tile: Tile::Auto,
                ..WHOLE
            };
            assert_eq!(denoised(&mut network, &image, options), image.data);
            let largest = network
                .seen
                .iter()
                .map(|&(_, h, w, _)| h * w)
                .max()
                .unwrap();
            assert!(network.working_bytes(1, largest) < max_bytes);
            assert_eq!(network.seen.len() == 1, max_bytes >= most, "{max_bytes}");
        }
        let mut network = Fake::identity(1);
        let options = Options {
            max_bytes: 1_000_000,
            tile: Tile::Auto,
            ..WHOLE
        };
        let mut pages = OfImage::new(&image);
        let page = pages.next_page().unwrap().unwrap();
        let mut denoiser = Denoiser::new(&mut network, options);
        let error = denoiser
            .denoise(&page, &mut pages, Scale::UNIT, |_| Ok(()))
            .unwrap_err();
        assert!(
            error.to_string().contains("memory limit: expected"),
            "{error}"
        );
    }

    #[test]
    fn a_page_keeps_its_channels_under_any_network() {
        let halve: fn(f32) -> f32 = |x| x / 2.0;
        for (channels, taken, calls) in [
            (3, 3, 1),
            (1, 3, 1),
            (3, 1, 3),
            (1, 1, 1),
            (2, 3, 2),
            (5, 1, 5),
            (2, 2, 1),
            (5, 5, 1),
        ] {
            let noisy = image(5, 40, channels, Depth::U16);
            let mut network = Fake::new(taken, halve);
            let denoised = denoised(&mut network, &noisy, WHOLE);
            assert_eq!(network.seen, vec![(1, 32, 64, taken); calls]);
            for (x, y) in noisy.data.iter().zip(&denoised) {
                assert!((x / 2.0 - y).abs() < 1e-6, "{x} became {y}");
            }
        }
        let noisy = image(5, 40, 3, Depth::U16);
        let mut pages = OfImage::new(&noisy);
        let page = pages.next_page().unwrap().unwrap();
        let error = Denoiser::new(&mut Fake::identity(2), WHOLE)
            .denoise(&page, &mut pages, Scale::UNIT, |_| Ok(()))
            .unwrap_err();
        let want = "channels of the image: expected 2, as the network has, found 3";
        assert_eq!(error.to_string(), want);
    }

    #[test]
    fn padding_to_a_square_is_the_references() {
        let mut network = strong_network(1);
        let image = image(50, 120, 1, Depth::F32);
        let batch = image.clone().into_batch();
        for padding in [Padding::Square, Padding::Multiple] {
            let want = super::super::denoise(&mut network, &batch, padding).unwrap();
            let options = Options { padding, ..WHOLE };
            assert_eq!(denoised(&mut network, &image, options), want.data);
        }
    }

    #[test]
    fn strength_blends_and_nothing_is_nothing() {
        let noisy = image(9, 9, 3, Depth::F32);
        for strength in [0.0, 0.25, 1.0] {
            let mut network = Fake::new(3, |x| x - 0.5);
            let result = denoised(&mut network, &noisy, Options { strength, ..WHOLE });
            for (x, y) in noisy.data.iter().zip(&result) {
                assert!((x - 0.5 * strength - y).abs() < 1e-6);
            }
            assert!(strength > 0.0 || result == noisy.data);
        }
    }

    #[test]
    fn values_that_are_no_number_stay_and_spoil_nothing() {
        let mut noisy = image(40, 40, 1, Depth::F32);
        let clean = denoised(&mut strong_network(1), &noisy, WHOLE);
        assert!(clean.iter().all(|value| value.is_finite()));
        noisy.data[17] = f32::NAN;
        noisy.data[500] = f32::INFINITY;
        noisy.data[900] = f32::NEG_INFINITY;
        let result = denoised(&mut strong_network(1), &noisy, WHOLE);
        for (i, (x, y)) in noisy.data.iter().zip(&result).enumerate() {
            assert!(
                if x.is_finite() {
                    y.is_finite()
                } else {
                    x.to_bits() == y.to_bits()
                },
                "{i}"
            );
        }
    }

    #[test]
    fn the_ensemble_is_the_mean_over_flips_and_turns() {
        // A network that acts on each pixel alone, so that all eight views give the same.
        let noisy = image(32, 64, 1, Depth::F32);
        let mut network = Fake::new(1, |x| 2.0 * x);
        let result = denoised(
            &mut network,
            &noisy,
            Options {
                ensemble: true,
                ..WHOLE
            },
        );
        assert_eq!(network.seen.len(), 8);
        for (x, y) in noisy.data.iter().zip(&result) {
            assert!((2.0 * x - y).abs() < 1e-5);
        }
    }

    #[test]
    fn progress_and_pixel_counts_treat_sensor_data_as_one_page() {
        let noisy = image(32, 64, 4, Depth::F32);
        let mut pages = OfImage::new(&noisy);
        let mut page = pages.next_page().unwrap().unwrap();
        let response = Response {
            black: 0.0,
            white: 1.0,
            noise: Some([0.01, 1e-4]),
        };
        page.metadata.sensor = Some(Sensor {
            responses: vec![response; 4],
            colors: Some([0, 1, 1, 2]),
        });
        let passed = Mutex::new(vec![]);
        let on_progress = |progress: Progress| {
            passed.lock().unwrap().push(progress.fraction());
            ControlFlow::Continue(())
        };
        let mut network = Fake::identity(3);
        let mut denoiser = Denoiser::new(&mut network, WHOLE).with_progress(Some(&on_progress));
        denoiser
            .denoise(&page, &mut pages, Scale::UNIT, |band| {
                assert_eq!(band.noisy, noisy.data);
                Ok(())
            })
            .unwrap();
        // Red, either green, and blue go through the network together.
        assert_eq!(denoiser.network_pixels, 2 * 32 * 64);
        assert_eq!(*passed.lock().unwrap(), [0.0, 0.5, 0.5, 1.0]);
    }
}
