//! The entry point: a model that denoises images.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::batch::Batch;
use crate::cpu::CpuNetwork;
use crate::denoise::{
    Denoiser, Frame, ModelRange, OnProgress, Options, Padding, Range, Region, Scale, Survey, Tile,
    Transform, WithGray,
};
use crate::error::{Error, Result};
use crate::image::{Depth, Image, OfImage, Page, Pages};
use crate::models;
use crate::network::Denoise;
use crate::unet::{Grid, UNet};
use crate::weights::Weights;

/// A trained network, ready to denoise images of any size.
///
/// A model is used through a shared reference, from any number of threads: calls share the weights, each has its own
/// scratch memory, and they do not wait for each other (except on a GPU). A call runs on the threads of the rayon pool
/// that it is made in; its result does not depend on their number. Scratch memory is kept for the next call;
/// [`Model::free_scratch`] frees it.
///
/// ```
/// use n2n::{Image, Model};
///
/// let model = Model::load("gauss5_50")?;
/// let noisy = Image::from_u8(48, 40, 3, &[127; 48 * 40 * 3])?;
/// let clean = model.denoise(&noisy)?;
/// assert_eq!((clean.height, clean.width, clean.channels), (48, 40, 3));
/// # Ok::<(), n2n::Error>(())
/// ```
pub struct Model {
    weights: Weights,
    unet: UNet,
    grid: Grid,
    takes_gray: bool,
    /// The range that the model was trained on, if it states one.
    range: Option<ModelRange>,
    /// The network that [forks](Denoise::fork) are made from, or that is used itself if it cannot be forked.
    original: Mutex<Box<dyn Denoise>>,
    /// Idle forks.
    idle: Mutex<Vec<Box<dyn Denoise>>>,
}

/// Options of [`Model::denoise_with`].
///
/// ```
/// use std::ops::ControlFlow;
/// use n2n::{DenoiseOptions, Image, Model};
///
/// let noisy = Image::from_u8(8, 8, 1, &[127; 64])?;
/// let options = DenoiseOptions {
///     strength: 0.8,
///     on_progress: Some(&|progress| {
///         eprintln!("{:.0} %", 100.0 * progress.fraction());
///         ControlFlow::Continue(())
///     }),
///     ..DenoiseOptions::default()
/// };
/// let clean = Model::load("gauss25")?.denoise_with(&noisy, &options)?;
/// # Ok::<(), n2n::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct DenoiseOptions<'a> {
    /// The fraction of the network's change that is applied: 0 for nothing, 1 for all of it.
    pub strength: f32,
    /// Which values of the image map to the network's 0 and 1. [`Range::Auto`] means the range that the model was
    /// trained on, if it states one.
    pub range: Range,
    /// The scale, if [`Model::scale`] has determined it before, for several images or for the blocks of one. It takes
    /// precedence over the range.
    pub scale: Option<Scale>,
    /// Whether to average over the eight flips and 90° rotations of the image, which takes eight times as long.
    pub ensemble: bool,
    /// How the image is cut into tiles. Results differ only by rounding.
    pub tile: Tile,
    /// Limit on the total memory for the network, its tiles and copies of the rows that they are cut from, in bytes;
    /// the image and the result are not included.
    pub max_bytes: u64,
    /// Called before each pass of the network and at the end. It can stop the work, which then returns
    /// [`Error::Stopped`].
    pub on_progress: Option<OnProgress<'a>>,
}

impl Default for DenoiseOptions<'_> {
    fn default() -> Self {
        let Options {
            strength,
            ensemble,
            tile,
            max_bytes,
            ..
        } = Options::default();
        Self {
            strength,
            range: Range::Auto,
            scale: None,
            ensemble,
            tile,
            max_bytes,
            on_progress: None,
        }
    }
}

impl DenoiseOptions<'_> {
    fn pages(&self) -> Result<Options> {
        if !(0.0..=1.0).contains(&self.strength) {
            return Err(Error::value("strength", "0 to 1", self.strength));
        }
        Ok(Options {
            padding: Padding::Multiple,
            tile: self.tile,
            max_bytes: self.max_bytes,
            strength: self.strength,
            ensemble: self.ensemble,
            with_noisy: false,
        })
    }
}

impl Model {
    /// Loads a model on the CPU: a weight file (safetensors, ONNX as written by this crate, PyTorch `.pth`, Paddle
    /// `.pdparams`) or the name of a [shipped model](models::SHIPPED).
    pub fn load(name_or_file: impl AsRef<Path>) -> Result<Self> {
        Self::from_weights(models::load(Some(name_or_file.as_ref()))?)
    }

    /// A model on the CPU with the given weights; its sizes follow from their shapes and metadata. If the metadata name
    /// a [gray companion](models::gray_companion), that model denoises single channels.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the weights are not those of a network; an invalid range or transform in the metadata.
    pub fn from_weights(weights: Weights) -> Result<Self> {
        let network = CpuNetwork::from_weights(&weights)?;
        let gray = match models::gray_companion(&weights)? {
            Some(gray) => Some(Box::new(CpuNetwork::from_weights(&gray)?) as Box<dyn Denoise>),
            None => None,
        };
        Self::placed(Box::new(network), gray, weights)
    }

    /// A model on another device, or on the CPU with other settings. `network` must have these weights.
    ///
    /// # Errors
    /// Weights that are not those of a network, or have another number of channels; an invalid range or transform in
    /// the metadata.
    pub fn with_network(network: Box<dyn Denoise>, weights: Weights) -> Result<Self> {
        Self::placed(network, None, weights)
    }

    fn placed(
        network: Box<dyn Denoise>,
        gray: Option<Box<dyn Denoise>>,
        weights: Weights,
    ) -> Result<Self> {
        let unet = weights.architecture()?;
        if unet.n_channel != network.channels() {
            let expected = format!("{}, as in the weights", unet.n_channel);
            let got = network.channels();
            return Err(Error::value("channels of the network", expected, got));
        }
        let mut network = Transform::place(&weights.metadata, network)?;
        if let Some(gray) = gray {
            network = Box::new(WithGray::new(network, gray));
        }
        Ok(Self {
            range: ModelRange::of(&weights.metadata)?,
            grid: network.grid(),
            takes_gray: network.takes_gray(),
            original: Mutex::new(network),
            weights,
            unet,
            idle: Mutex::default(),
        })
    }

    /// Writes the weights and the metadata, whole or not at all: ONNX if the name ends in `.onnx`, safetensors
    /// otherwise.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        if path
            .extension()
            .is_some_and(|found| found.eq_ignore_ascii_case("onnx"))
        {
            self.weights.write_onnx(path)
        } else {
            self.weights.write(path)
        }
    }

    /// The weights.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// What the file says about the model: noise, training summary, license; free text by key.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.weights.metadata
    }

    /// The architecture.
    pub fn architecture(&self) -> UNet {
        self.unet
    }

    /// Channels that the network processes together: 1 for gray, 3 for RGB. With 1 or 3, the model denoises images with
    /// any number of channels, channel by channel if the number does not match; with any other number, images must have
    /// the same number.
    pub fn channels(&self) -> usize {
        self.unet.n_channel
    }

    /// Whether single channels are denoised by a gray network: this one, or the gray companion of a shipped RGB model.
    /// An RGB network without a companion removes little noise from single channels, because it expects noise that
    /// differs between the channels.
    pub fn takes_gray(&self) -> bool {
        self.takes_gray
    }

    /// Side of the cells of the network's grid, in pixels. A part of an image gives the same result as the whole if it
    /// begins and ends on the grid, which starts at the image's top left pixel, and includes [`Model::halo`] more
    /// pixels on every side. [`Model::denoise_block`] takes care of both.
    pub fn multiple(&self) -> usize {
        self.grid.multiple
    }

    /// Number of pixels beyond a part of an image that its result depends on, if the part lies on the
    /// [grid](Model::multiple); otherwise up to `halo() + multiple() - 1`.
    pub fn halo(&self) -> usize {
        self.grid.halo
    }

    /// A description of the device.
    pub fn device(&self) -> String {
        locked(&self.original).device()
    }

    /// Denoises an image with [`DenoiseOptions::default`].
    ///
    /// The result has the image's size, channels and depth. Channels that the network does not process together are
    /// denoised one by one. An RGB image of three equal channels is denoised as gray by a model that [takes gray
    /// images](Model::takes_gray). Non-finite values are unchanged.
    ///
    /// # Errors
    /// An image without pixels, or whose number of values does not match its size; a number of channels that the model
    /// cannot denoise; an image whose smallest tiles need more memory than the limit.
    pub fn denoise(&self, noisy: &Image) -> Result<Image> {
        self.denoise_with(noisy, &DenoiseOptions::default())
    }

    /// [`Model::denoise`] with other options.
    ///
    /// # Errors
    /// Those of [`Model::denoise`], a strength outside 0 to 1, and [`Error::Stopped`].
    pub fn denoise_with(&self, noisy: &Image, options: &DenoiseOptions) -> Result<Image> {
        noisy.check()?;
        let known = options
            .scale
            .or_else(|| self.scale(options.range, noisy.depth, None));
        let scale = if let Some(scale) = known {
            scale
        } else {
            let mut survey = Survey::new(Survey::OF_ALL);
            survey.add_image(noisy)?;
            options.range.scale(noisy.depth, Some(&survey))
        };
        let mut pages = OfImage::new(noisy);
        let mut page = only_page(&mut pages)?;
        page.metadata.is_achromatic = noisy.is_achromatic();
        let frame = Frame::whole(&page);
        self.run(&page, &frame, &mut pages, scale, options)
    }

    /// The part of an image of `height` × `width` pixels that [`Model::denoise_block`] needs to denoise `region`.
    pub fn block_for(&self, region: Region, (height, width): (usize, usize)) -> Region {
        region.seen_in(self.grid, height, width)
    }

    /// Denoises `region` of an image of `height` × `width` pixels. `block` is a part of that image, whose top left
    /// pixel is `origin` (row, column). The result has the size of `region` and is that of the whole image, up to
    /// rounding, wherever the block lies.
    ///
    /// This way, an image that is larger than memory, or stored in chunks, can be denoised block by block, in any order
    /// and on any number of machines. A range that has to be measured must be given, because it is that of the whole
    /// image; for bytes, [`Range::Auto`] is not measured: it means the model's range or, if the model states none, the
    /// full range. Blocks of RGB images are denoised as RGB even if their channels are equal.
    ///
    /// # Errors
    /// Those of [`Model::denoise_with`]; a region that is empty; a region or a block that extends beyond the image; a
    /// block that does not contain all of [`Model::block_for`]; a range that would have to be measured on the whole
    /// image.
    ///
    /// ```
    /// use n2n::{DenoiseOptions, Image, Model, Region};
    ///
    /// let model = Model::load("gauss25")?;
    /// // A chunk of 304 × 272 pixels of an image of 2048 × 2048.
    /// let size = (2048, 2048);
    /// let chunk = Region { top: 304, left: 544, height: 304, width: 272 };
    /// let seen = model.block_for(chunk, size);
    /// assert_eq!((seen.top, seen.left, seen.height, seen.width), (160, 416, 576, 544));
    /// # let model = {
    /// #     let unet = n2n::unet::UNet::new(1, 1)?;
    /// #     Model::from_weights(n2n::cpu::CpuNetwork::initial(unet, 1).weights())?
    /// # };
    ///
    /// // Read those pixels from wherever they are.
    /// let block = Image::from_u16(seen.height, seen.width, 1, &vec![900; seen.height * seen.width])?;
    /// let options = DenoiseOptions { range: "0,4095".parse()?, ..DenoiseOptions::default() };
    /// let clean = model.denoise_block(&block, (seen.top, seen.left), size, chunk, &options)?;
    /// assert_eq!((clean.height, clean.width), (304, 272));
    /// # Ok::<(), n2n::Error>(())
    /// ```
    pub fn denoise_block(
        &self,
        block: &Image,
        origin: (usize, usize),
        (height, width): (usize, usize),
        region: Region,
        options: &DenoiseOptions,
    ) -> Result<Image> {
        block.check()?;
        let image = Region::whole(height, width);
        if region.height == 0 || region.width == 0 || !image.contains(&region) {
            let expected = format!("at least a pixel, within {height}x{width}");
            return Err(Error::value("region of the image", expected, region));
        }
        let stored = Region {
            top: origin.0,
            left: origin.1,
            height: block.height,
            width: block.width,
        };
        if !image.contains(&stored) {
            let expected = format!("a part of the image of {height}x{width}");
            return Err(Error::value("block", expected, stored));
        }
        let seen = self.block_for(region, (height, width));
        if !stored.contains(&seen) {
            let expected = format!("{seen}, all that the network sees for {region}");
            return Err(Error::value("block", expected, stored));
        }
        let known = self.scale(options.range, block.depth, None);
        // Bytes mostly use the full range.
        let known = known.or((block.depth == Depth::U8).then_some(Scale::UNIT));
        let known = known.filter(|_| options.range != Range::Percentile);
        let Some(scale) = options.scale.or(known) else {
            let expected = "two numbers MIN,MAX, measured once on the whole image";
            return Err(Error::value("range of a block", expected, options.range));
        };
        let mut pages = OfImage::new(block);
        let page = Page {
            height,
            width,
            ..only_page(&mut pages)?
        };
        let frame = Frame {
            stored,
            keep: region,
        };
        self.run(&page, &frame, &mut pages, scale, options)
    }

    /// The scale of images of a type for the given range, for [`DenoiseOptions::scale`]. `None` if it has to be
    /// measured, and no survey of the images is given.
    ///
    /// ```
    /// use n2n::denoise::Survey;
    /// use n2n::image::Depth;
    /// use n2n::{DenoiseOptions, Image, Model, Range};
    ///
    /// // The pages of a stack, from a camera of 12 bits.
    /// let pages = [4095, 1000].map(|white| Image::from_u16(1, 2, 1, &[0, white]).unwrap());
    /// let mut survey = Survey::new(Survey::OF_ALL);
    /// for page in &pages {
    ///     survey.add_image(page)?;
    /// }
    /// let model = Model::load("gauss25")?;
    /// let scale = model.scale(Range::Auto, Depth::U16, Some(&survey));
    /// assert_eq!(scale.unwrap().high, 4095.0 / 65535.0);
    /// let options = DenoiseOptions { scale, ..DenoiseOptions::default() };
    /// for page in &pages {
    ///     model.denoise_with(page, &options)?;
    /// }
    /// # Ok::<(), n2n::Error>(())
    /// ```
    pub fn scale(&self, range: Range, depth: Depth, survey: Option<&Survey>) -> Option<Scale> {
        match (range, self.range) {
            (Range::Auto, Some(model)) => Some(model.scale(depth)),
            (Range::Between(..), _) => Some(range.scale(depth, None)),
            _ => survey.map(|survey| range.scale(depth, Some(survey))),
        }
    }

    /// Frees the scratch memory that calls have kept.
    pub fn free_scratch(&self) {
        locked(&self.idle).clear();
    }

    fn run(
        &self,
        page: &Page,
        frame: &Frame,
        pages: &mut dyn Pages,
        scale: Scale,
        options: &DenoiseOptions,
    ) -> Result<Image> {
        let pages_options = options.pages()?;
        let (height, width, channels) = (frame.keep.height, frame.keep.width, page.samples());
        let mut data = Vec::with_capacity(height * width * channels);
        self.with(|network| {
            Denoiser::new(network, pages_options)
                .with_progress(options.on_progress)
                .denoise_frame(page, frame, pages, scale, |band| {
                    data.extend(band.denoised);
                    Ok(())
                })
        })?;
        Ok(Image {
            height,
            width,
            channels,
            data,
            depth: page.depth,
        })
    }

    /// Runs `work` on a network that no other call uses, or on one that calls share, pass by pass.
    fn with<T>(&self, work: impl FnOnce(&mut dyn Denoise) -> T) -> T {
        let idle = locked(&self.idle).pop();
        let fork = idle.or_else(|| locked(&self.original).fork());
        let Some(mut network) = fork else {
            return work(&mut Turns(&self.original));
        };
        let done = work(&mut *network);
        locked(&self.idle).push(network);
        done
    }
}

/// A network that calls share, one at a time. It is held for a pass, not for a call: a thread of the pool that waits
/// for the rows of one call may start on another call.
struct Turns<'a>(&'a Mutex<Box<dyn Denoise>>);

impl Denoise for Turns<'_> {
    fn channels(&self) -> usize {
        locked(self.0).channels()
    }

    fn takes_gray(&self) -> bool {
        locked(self.0).takes_gray()
    }

    fn grid(&self) -> Grid {
        locked(self.0).grid()
    }

    fn denoise(&mut self, noisy: &Batch) -> Result<Batch> {
        locked(self.0).denoise(noisy)
    }

    fn reserve(&mut self, h: usize, w: usize) -> Result<()> {
        locked(self.0).reserve(h, w)
    }

    fn working_bytes(&self, h: usize, w: usize) -> u64 {
        locked(self.0).working_bytes(h, w)
    }

    fn device(&self) -> String {
        locked(self.0).device()
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model")
            .field("architecture", &self.unet)
            .field("metadata", &self.weights.metadata)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for DenoiseOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DenoiseOptions")
            .field("strength", &self.strength)
            .field("range", &self.range)
            .field("scale", &self.scale)
            .field("ensemble", &self.ensemble)
            .field("tile", &self.tile)
            .field("max_bytes", &self.max_bytes)
            .field("on_progress", &self.on_progress.is_some())
            .finish()
    }
}

fn only_page(pages: &mut OfImage) -> Result<Page> {
    Ok(pages.next_page()?.expect("an image is a page"))
}

/// A call that panicked leaves what the mutex guards as good as before.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::sync::{Barrier, Mutex};

    use super::*;
    use crate::cpu::tests::strong_weights;
    use crate::network::fake::Fake;

    fn image(height: usize, width: usize, channels: usize) -> Image {
        let values = height * width * channels;
        let data = (0..values).map(|i| (i * 7919 % 1009) as f32 / 1009.0);
        Image::from_f32(height, width, channels, data.collect()).unwrap()
    }

    fn part(image: &Image, region: Region) -> Image {
        let c = image.channels;
        let rows = image.data.chunks(image.width * c).skip(region.top);
        let row = |row: &[f32]| row[region.left * c..][..region.width * c].to_vec();
        let data: Vec<f32> = rows.take(region.height).flat_map(row).collect();
        Image {
            height: region.height,
            width: region.width,
            data,
            ..*image
        }
    }

    fn largest_difference(a: &Image, b: &Image) -> f32 {
        assert_eq!(
            (a.height, a.width, a.channels),
            (b.height, b.width, b.channels)
        );
        let differences = a.data.iter().zip(&b.data).map(|(a, b)| (a - b).abs());
        differences.fold(0.0, f32::max)
    }

    const UNIT: DenoiseOptions = DenoiseOptions {
        strength: 1.0,
        range: Range::Between(0.0, 1.0),
        scale: None,
        ensemble: false,
        tile: Tile::Auto,
        max_bytes: 2_500_000_000,
        on_progress: None,
    };

    #[test]
    fn blocks_of_any_chunking_make_the_whole_image() {
        let model = Model::from_weights(strong_weights(1)).unwrap();
        let size = (400, 331);
        let noisy = image(size.0, size.1, 1);
        let whole = model.denoise_with(&noisy, &UNIT).unwrap();
        let scale = whole.data.iter().fold(0_f32, |max, x| max.max(x.abs()));
        for (chunk, tile) in [
            ((304, 272), Tile::Auto),
            ((77, 331), Tile::Auto),
            ((250, 131), Tile::Side(96)),
        ] {
            for top in (0..size.0).step_by(chunk.0) {
                for left in (0..size.1).step_by(chunk.1) {
                    let region = Region {
                        top,
                        left,
                        height: chunk.0.min(size.0 - top),
                        width: chunk.1.min(size.1 - left),
                    };
                    let seen = model.block_for(region, size);
                    let block = part(&noisy, seen);
                    let options = DenoiseOptions { tile, ..UNIT };
                    let origin = (seen.top, seen.left);
                    let clean = model.denoise_block(&block, origin, size, region, &options);
                    let clean = clean.unwrap();
                    let off = largest_difference(&clean, &part(&whole, region));
                    assert!(off <= 1e-5 * scale, "{region}: {off} of {scale}");
                }
            }
        }
    }

    #[test]
    fn a_block_that_would_be_silently_wrong_is_refused() {
        let model = Model::from_weights(strong_weights(1)).unwrap();
        let size = (1000, 1000);
        let region = Region {
            top: 304,
            left: 272,
            height: 304,
            width: 272,
        };
        let refused = |block: Region, region: Region, range: Range| {
            let options = DenoiseOptions { range, ..UNIT };
            let block_image = image(block.height, block.width, 1);
            let origin = (block.top, block.left);
            let result = model.denoise_block(&block_image, origin, size, region, &options);
            result.unwrap_err().to_string()
        };
        let seen = model.block_for(region, size);
        assert_eq!(seen.to_string(), "rows 160..736, columns 128..672");
        for short in [
            Region { top: 161, ..seen },
            Region {
                width: seen.width - 1,
                ..seen
            },
            region,
        ] {
            let error = refused(short, region, UNIT.range);
            assert!(
                error.contains("expected rows 160..736, columns 128..672"),
                "{error}"
            );
        }
        let outside = Region {
            left: 900,
            ..region
        };
        assert!(refused(seen, outside, UNIT.range).contains("within 1000x1000"));
        let empty = Region { width: 0, ..region };
        assert!(refused(seen, empty, UNIT.range).contains("at least a pixel"));
        let beyond = Region { top: 900, ..seen };
        assert!(refused(beyond, region, UNIT.range).contains("a part of the image"));
        assert!(refused(seen, region, Range::Auto).contains("measured once on the whole image"));
    }

    #[test]
    fn calls_at_once_get_the_same_and_run_at_once() {
        let model = Model::from_weights(strong_weights(3)).unwrap();
        let noisy = image(100, 130, 3);
        let alone = model.denoise(&noisy).unwrap();
        let all = Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let met = Mutex::new(false);
                    let options = DenoiseOptions {
                        // Only if every call is within the network's work does one of them get past here.
                        on_progress: Some(&|_| {
                            if !std::mem::replace(&mut *met.lock().unwrap(), true) {
                                all.wait();
                            }
                            ControlFlow::Continue(())
                        }),
                        range: Range::Auto,
                        ..UNIT
                    };
                    let clean = model.denoise_with(&noisy, &options).unwrap();
                    assert!(clean == alone);
                });
            }
        });
        assert_eq!(locked(&model.idle).len(), 4);
        model.free_scratch();
        assert!(locked(&model.idle).is_empty());
    }

    #[test]
    fn progress_grows_to_its_end_and_can_stop_the_work() {
        let model = Model::with_network(Box::new(Fake::identity(1)), fake_weights()).unwrap();
        let noisy = image(300, 200, 3);
        let told = Mutex::new(vec![]);
        let options = DenoiseOptions {
            tile: Tile::Side(96),
            on_progress: Some(&|progress| {
                told.lock().unwrap().push(progress);
                ControlFlow::Continue(())
            }),
            ..UNIT
        };
        model.denoise_with(&noisy, &options).unwrap();
        let told = told.lock().unwrap().clone();
        // Four rows of three tiles, three channels each.
        assert_eq!(told.len(), 4 * 3 * 3 + 1);
        assert!(told.is_sorted_by(|a, b| a.done < b.done));
        assert_eq!((told[0].done, told[36].done), (0, 300 * 200 * 3));
        assert!(told.iter().all(|progress| progress.total == 300 * 200 * 3));

        let options = DenoiseOptions {
            on_progress: Some(&|progress| {
                if progress.done > 0 {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            }),
            ..options
        };
        let stopped = model.denoise_with(&noisy, &options);
        assert!(matches!(stopped, Err(Error::Stopped)));
    }

    fn fake_weights() -> Weights {
        CpuNetwork::initial(UNet::new(1, 1).unwrap(), 1).weights()
    }

    #[test]
    fn a_model_that_is_saved_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let model = Model::load("gauss25").unwrap();
        assert_eq!(
            (model.channels(), model.halo(), model.multiple()),
            (3, 128, 32)
        );
        assert_eq!(model.metadata()["noise"], "gauss25");
        let noisy = image(40, 50, 3);
        let clean = model.denoise(&noisy).unwrap();
        for name in ["model.safetensors", "model.onnx"] {
            let path = folder.path().join(name);
            model.save(&path).unwrap();
            let again = Model::load(&path).unwrap();
            assert!(again.denoise(&noisy).unwrap() == clean, "{name}");
        }
    }

    #[test]
    fn images_and_options_that_make_no_sense_are_refused() {
        let model = Model::with_network(Box::new(Fake::identity(1)), fake_weights()).unwrap();
        let mut noisy = image(4, 4, 1);
        for strength in [-0.1, 1.1, f32::NAN] {
            let options = DenoiseOptions { strength, ..UNIT };
            let error = model.denoise_with(&noisy, &options).unwrap_err();
            assert!(error.to_string().contains("strength: expected 0 to 1"));
        }
        let of_words = Image::from_u16(4, 4, 1, &[900; 16]).unwrap();
        for (range, words) in [(Range::Auto, "auto"), (Range::Percentile, "percentile")] {
            let options = DenoiseOptions { range, ..UNIT };
            let whole = Region::whole(4, 4);
            let block = model.denoise_block(&of_words, (0, 0), (4, 4), whole, &options);
            assert_eq!(
                block.unwrap_err().to_string(),
                format!(
                    "range of a block: expected two numbers MIN,MAX, measured once on the whole image, found {words}"
                )
            );
        }
        noisy.data.pop();
        assert!(model.denoise(&noisy).is_err());
        let other = Model::with_network(Box::new(Fake::identity(3)), fake_weights());
        assert!(
            other
                .unwrap_err()
                .to_string()
                .contains("the network: expected")
        );
    }

    #[test]
    fn the_depth_decides_the_range() {
        let model =
            Model::with_network(Box::new(Fake::new(1, |x| x / 2.0)), fake_weights()).unwrap();
        // A camera of 12 bits in 16, bytes, and floats of any range.
        let noisy = Image::from_u16(1, 2, 1, &[4095, 1000]).unwrap();
        let clean = model.denoise(&noisy).unwrap();
        assert_eq!((clean.to_u16(), clean.depth), (vec![2048, 500], Depth::U16));
        let noisy = Image::from_u8(1, 2, 1, &[100, 0]).unwrap();
        assert_eq!(model.denoise(&noisy).unwrap().to_u8(), [50, 0]);
        let noisy = Image::from_f32(1, 2, 1, vec![-10.0, 30.0]).unwrap();
        assert_eq!(model.denoise(&noisy).unwrap().data, [-10.0, 10.0]);
    }
}
