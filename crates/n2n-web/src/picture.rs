//! A file while it is denoised: decoded one row of tiles at a time, reassembled from denoised tiles, and encoded with
//! all its metadata.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Cursor;
use std::path::PathBuf;
use std::sync::Arc;

use n2n::denoise::{Misfit, ModelRange, Scale, Survey, shown, type_name};
use n2n::image::{Color, Depth, Encoding, Limits, Page, Pages, Reader, write_pages};
use n2n::unet::{Grid, UNet};
use n2n::{Error, Image, Range, Region};
use wasm_bindgen::prelude::*;

use crate::{Tile, error, layout};

/// What a file may allocate within the four gigabytes of WebAssembly.
pub(crate) const LIMITS: Limits = Limits {
    pixels: 1 << 27,
    samples: 1 << 28,
};

/// A picture that is being denoised.
///
/// [`Picture::next_page`] moves from page to page. The tiles of a page are [cut](Picture::cut) in order and
/// [put](Picture::put) back in any order; [`Picture::encode`] returns the file.
#[wasm_bindgen]
pub struct Picture {
    file: File,
    reader: Reader,
    encoding: Encoding,
    /// The range for the pages of each depth.
    scales: BTreeMap<Depth, Scale>,
    /// The current page, and the number of pages read up to it.
    current: Option<Current>,
    pages: usize,
    /// The denoised pages so far, and the current one; excludes pages that are only copied.
    denoised: Vec<Denoised>,
    notes: Vec<String>,
}

/// The file in memory.
struct File {
    name: PathBuf,
    bytes: Arc<[u8]>,
}

impl File {
    fn open(&self) -> n2n::Result<Reader> {
        Reader::from_bytes(&self.name, Arc::clone(&self.bytes), LIMITS)
    }
}

/// The grid on which pages are cut: that of all shipped networks. A network with a larger halo rejects the tiles.
fn grid() -> Grid {
    UNet::default().grid()
}

/// The range for the pages of a depth.
pub(crate) fn scale(pages: &mut dyn Pages, depth: Depth) -> n2n::Result<Scale> {
    let mut survey = Survey::new(Survey::OF_ALL);
    survey.add_pages(pages, Some(depth))?;
    Ok(Range::Auto.scale(depth, Some(&survey)))
}

/// A page that is being denoised.
struct Current {
    page: Page,
    scale: Scale,
    tiles: Vec<Region>,
    /// Whether channels are denoised one by one.
    separate: bool,
    /// Whether this is an RGB page of equal channels, of which the first is denoised and stands for all.
    shared: bool,
    /// The first row in memory, and the rows.
    top: usize,
    rows: Vec<f32>,
    /// The noisy samples of parts in flight; only for pages whose change is kept instead of their result.
    noisy: HashMap<usize, Vec<f32>>,
}

/// The denoised color samples of a page.
struct Denoised {
    width: usize,
    channels: usize,
    samples: Samples,
    /// The parts that are not yet in place.
    missing: BTreeSet<usize>,
}

enum Samples {
    U8(Vec<u8>),
    U16(Vec<u16>),
    F32(Vec<f32>),
    /// The change to samples that `f32` cannot represent exactly.
    Change(Vec<f32>),
}

#[wasm_bindgen]
impl Picture {
    /// The picture in a file of any format that n2n reads and writes; `name` is the file's name in errors.
    ///
    /// # Errors
    /// If it is not a picture, is too large for WebAssembly, or has a format that n2n cannot write.
    #[wasm_bindgen(constructor)]
    pub fn new(bytes: Vec<u8>, name: &str) -> Result<Picture, JsError> {
        Self::open(bytes, name).map_err(error)
    }

    /// Width, height, channels and bits per sample of the first page, with negative bits for floats, and the
    /// orientation as in Exif.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn info(&self) -> Result<Vec<i32>, JsError> {
        let page = self.first_page().map_err(error)?;
        let bits = 8 * page.depth.bytes() as i32;
        Ok(vec![
            page.width as i32,
            page.height as i32,
            page.samples() as i32,
            if page.depth.is_float() { -bits } else { bits },
            i32::from(page.orientation.to_exif()),
        ])
    }

    /// The format's file extension.
    #[wasm_bindgen(getter)]
    pub fn format(&self) -> String {
        self.encoding.format.extensions()[0].into()
    }

    /// What the result will lose compared with the file, for the pages started so far, and what
    /// [`Picture::check_range`] found; one line each.
    #[wasm_bindgen(getter)]
    pub fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    /// Whether a network sees the first page as single channels, because it is not RGB or because its channels are
    /// equal.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn is_gray(&self) -> Result<bool, JsError> {
        let first = self.first_page().map_err(error)?;
        Ok(first.color != Color::Rgb || self.is_achromatic(1).map_err(error)?)
    }

    /// [`Picture::is_gray`] of the current page.
    #[wasm_bindgen(getter)]
    pub fn is_page_gray(&self) -> bool {
        let page = self.current.as_ref();
        page.is_some_and(|page| page.separate || page.page.metadata.is_achromatic)
    }

    /// Moves to the next page to be denoised and returns the number of pixels that the network sees for each of its
    /// parts: its tiles, or each tile once per channel if it is not RGB; `undefined` after the last page. `workers`
    /// parts are denoised at once, each of which sees at most about `most_pixels`. With `takes_gray`,
    /// [gray pages](Picture::is_page_gray) are for a network of one channel.
    ///
    /// # Errors
    /// If the page cannot be read, or is a raw photograph.
    pub fn next_page(
        &mut self,
        workers: usize,
        most_pixels: usize,
        takes_gray: bool,
    ) -> Result<Option<Vec<u32>>, JsError> {
        self.next(workers.max(1), most_pixels, takes_gray)
            .map_err(error)
    }

    /// Part `at` of the page. Parts must be cut in order.
    ///
    /// # Errors
    /// If the page has no such part, or the rows cannot be read.
    pub fn cut(&mut self, at: usize) -> Result<Tile, JsError> {
        self.tile(at).map_err(error)
    }

    /// Puts the denoised samples of part `at` in place.
    ///
    /// # Errors
    /// If the page has no such part, or the number of samples differs from that of the part.
    pub fn put(&mut self, at: usize, samples: Vec<f32>) -> Result<(), JsError> {
        self.set(at, samples).map_err(error)
    }

    /// Adds a note if the values of the picture do not fit the range of a model, as [`Denoiser::range`] returns it.
    ///
    /// [`Denoiser::range`]: crate::Denoiser::range
    ///
    /// # Errors
    /// If the picture cannot be read.
    pub fn check_range(&mut self, range: &[f64]) -> Result<(), JsError> {
        let &[low, high, depth] = range else {
            return Ok(());
        };
        let Some(&depth) = Depth::ALL.get(depth as usize) else {
            return Ok(());
        };
        let (low, high) = (low as f32, high as f32);
        self.compare(ModelRange { low, high, depth }).map_err(error)
    }

    /// The file with denoised pages in place of the noisy ones.
    ///
    /// # Errors
    /// If a part of a page that was begun is not yet in place, or the format cannot store the pages.
    pub fn encode(&self) -> Result<Vec<u8>, JsError> {
        self.file_of_result().map_err(error)
    }
}

impl Picture {
    pub(crate) fn open(bytes: Vec<u8>, name: &str) -> n2n::Result<Self> {
        let file = File {
            name: name.into(),
            bytes: bytes.into(),
        };
        let reader = file.open()?;
        let format = reader.format();
        let written = format.written_for(&mut &file.bytes[..]);
        let written = written.map_err(Error::io(&file.name))?;
        if written != format {
            return Err(Error::Image {
                path: file.name,
                reason: format!(
                    "its result would have another format (.{}); for such files, use the program `n2n predict`",
                    written.extensions()[0]
                ),
            });
        }
        let encoding = Encoding::new(format);
        let picture = Self {
            file,
            reader,
            encoding,
            scales: BTreeMap::new(),
            current: None,
            pages: 0,
            denoised: vec![],
            notes: vec![],
        };
        picture.first_page()?;
        Ok(picture)
    }

    /// Whether the last of the first `pages` pages is RGB and has equal channels in every pixel. Reads it up to the
    /// first pixel whose channels differ.
    fn is_achromatic(&self, pages: usize) -> n2n::Result<bool> {
        let mut reader = self.file.open()?;
        let mut page = None;
        for _ in 0..pages {
            page = reader.next_page()?;
        }
        let Some(page) = page.filter(|page| page.color == Color::Rgb) else {
            return Ok(false);
        };
        let at_once = ((1 << 20) / page.row_len()).clamp(1, page.height);
        let mut rows = vec![];
        for top in (0..page.height).step_by(at_once) {
            rows.clear();
            reader.read_rows(at_once.min(page.height - top), &mut rows)?;
            let mut pixels = rows.chunks_exact(page.samples());
            if !pixels.all(|pixel| {
                [1, 2]
                    .iter()
                    .all(|&c| pixel[c].to_bits() == pixel[0].to_bits())
            }) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn compare(&mut self, model: ModelRange) -> n2n::Result<()> {
        let depth = self.first_page()?.depth;
        let mut survey = Survey::new(Survey::OF_ALL);
        survey.add_pages(&mut self.file.open()?, Some(depth))?;
        if let Some(Misfit {
            found,
            depth,
            model,
        }) = model.misfit(depth, &survey)
        {
            self.notes.push(format!(
                "Do not trust the result: the picture's values lie between {} and {} ({}), but the model is for \
                 images with values {model}",
                shown(found.0),
                shown(found.1),
                type_name(depth),
            ));
        }
        Ok(())
    }

    fn first_page(&self) -> n2n::Result<Page> {
        let page = self.file.open()?.next_image()?;
        page.ok_or_else(|| Error::Image {
            path: self.file.name.clone(),
            reason: "not a readable image: it has no page".into(),
        })
    }

    pub(crate) fn next(
        &mut self,
        workers: usize,
        most_pixels: usize,
        takes_gray: bool,
    ) -> n2n::Result<Option<Vec<u32>>> {
        self.current = None;
        let mut page = loop {
            self.pages += 1;
            match self.reader.next_page()? {
                None => return Ok(None),
                Some(page) if page.metadata.pass_through => {}
                Some(page) => break page,
            }
        };
        if page.metadata.sensor.is_some() {
            return Err(Error::Image {
                path: self.file.name.clone(),
                reason: "a raw photograph, which only the program `n2n predict` denoises".into(),
            });
        }
        if !self.scales.contains_key(&page.depth) {
            let scale = scale(&mut self.file.open()?, page.depth)?;
            self.scales.insert(page.depth, scale);
        }
        for note in &page.metadata.notes {
            if !self.notes.contains(note) {
                self.notes.push(note.clone());
            }
        }
        page.metadata.is_achromatic = self.is_achromatic(self.pages)?;
        let channels = page.color.channels();
        let samples = page.height * page.width * channels;
        let current = Current {
            scale: self.scales[&page.depth],
            tiles: layout::tiles(grid(), (page.height, page.width), workers, most_pixels),
            separate: page.color != Color::Rgb,
            shared: takes_gray && page.metadata.is_achromatic,
            page,
            top: 0,
            rows: vec![],
            noisy: HashMap::new(),
        };
        let page = &current.page;
        self.denoised.push(Denoised {
            width: page.width,
            channels,
            samples: match page.depth {
                Depth::U8 => Samples::U8(vec![0; samples]),
                Depth::U16 => Samples::U16(vec![0; samples]),
                depth if depth.is_wide() => Samples::Change(vec![0.0; samples]),
                _ => Samples::F32(vec![0.0; samples]),
            },
            missing: (0..current.parts()).collect(),
        });
        let parts = (0..current.parts()).map(|at| {
            let seen = current.seen(at);
            (seen.height * seen.width) as u32
        });
        let parts = parts.collect();
        self.current = Some(current);
        Ok(Some(parts))
    }

    pub(crate) fn tile(&mut self, at: usize) -> n2n::Result<Tile> {
        let current = begun(self.current.as_mut(), at)?;
        let seen = current.seen(at);
        current.read(&seen, &mut self.reader)?;
        let channels = current.channels(at);
        let block = current.samples(&seen, channels.clone());
        let (region, _) = current.part(at);
        if current.page.depth.is_wide() {
            let noisy = current.samples(&region, channels.clone());
            current.noisy.insert(at, noisy);
        }
        let page = &current.page;
        Ok(Tile {
            block: Image {
                height: seen.height,
                width: seen.width,
                channels: channels.len(),
                data: block,
                depth: page.depth,
            },
            origin: (seen.top, seen.left),
            size: (page.height, page.width),
            region,
            scale: current.scale,
        })
    }

    pub(crate) fn set(&mut self, at: usize, mut samples: Vec<f32>) -> n2n::Result<()> {
        let current = begun(self.current.as_mut(), at)?;
        let (region, _) = current.part(at);
        let channels = current.channels(at);
        let expected = region.height * region.width * channels.len();
        if samples.len() != expected {
            return Err(Error::value("samples of a part", expected, samples.len()));
        }
        if let Some(noisy) = current.noisy.remove(&at) {
            for (sample, noisy) in samples.iter_mut().zip(noisy) {
                let change = *sample - noisy;
                *sample = if change.is_finite() { change } else { 0.0 };
            }
        }
        let mut channels = channels;
        if current.shared {
            channels = 0..current.page.color.channels();
            let each = |sample| std::iter::repeat_n(sample, channels.len());
            samples = samples.into_iter().flat_map(each).collect();
        }
        if let Some(denoised) = self.denoised.last_mut() {
            denoised.put(&region, channels, samples, current.page.depth);
            denoised.missing.remove(&at);
        }
        Ok(())
    }

    pub(crate) fn file_of_result(&self) -> n2n::Result<Vec<u8>> {
        let mut out = Cursor::new(Vec::new());
        let mut pages = self.result()?;
        write_pages(&mut pages, self.encoding, &self.file.name, &mut out)?;
        Ok(out.into_inner())
    }

    fn result(&self) -> n2n::Result<Replaced<'_>> {
        let missing: usize = self.denoised.iter().map(|page| page.missing.len()).sum();
        if missing > 0 {
            return Err(Error::value("parts not yet put in place", 0, missing));
        }
        Ok(Replaced {
            original: self.file.open()?,
            denoised: self.denoised.iter(),
            page: None,
            next: 0,
        })
    }
}

impl Current {
    /// The number of parts of the page: the tiles, times the number of channels that are denoised separately.
    fn parts(&self) -> usize {
        self.tiles.len() * self.rounds()
    }

    fn rounds(&self) -> usize {
        if self.separate {
            self.page.color.channels()
        } else {
            1
        }
    }

    /// The tile of a part, and its index among the parts of the tile.
    fn part(&self, at: usize) -> (Region, usize) {
        (self.tiles[at / self.rounds()], at % self.rounds())
    }

    fn channels(&self, at: usize) -> std::ops::Range<usize> {
        let (_, round) = self.part(at);
        if self.separate || self.shared {
            round..round + 1
        } else {
            0..self.page.color.channels()
        }
    }

    fn seen(&self, at: usize) -> Region {
        let (tile, _) = self.part(at);
        tile.seen_in(grid(), self.page.height, self.page.width)
    }

    /// Drops the rows above `seen`, and reads on to its end.
    fn read(&mut self, seen: &Region, reader: &mut Reader) -> n2n::Result<()> {
        let row = self.page.row_len();
        let above = (seen.top.saturating_sub(self.top) * row).min(self.rows.len());
        self.rows.drain(..above);
        self.top += above / row;
        let bottom = self.top + self.rows.len() / row;
        let more = (seen.top + seen.height).saturating_sub(bottom);
        if more > 0 {
            reader.read_rows(more, &mut self.rows)?;
        }
        Ok(())
    }

    /// The samples of some channels of a region of the rows in memory.
    fn samples(&self, of: &Region, channels: std::ops::Range<usize>) -> Vec<f32> {
        let (row, samples) = (self.page.row_len(), self.page.samples());
        let mut found = Vec::with_capacity(of.height * of.width * channels.len());
        let rows = self.rows.chunks_exact(row).skip(of.top - self.top);
        for row in rows.take(of.height) {
            let pixels = &row[of.left * samples..][..of.width * samples];
            for pixel in pixels.chunks_exact(samples) {
                found.extend_from_slice(&pixel[channels.clone()]);
            }
        }
        found
    }
}

/// The current page, if it has part `at`.
fn begun(current: Option<&mut Current>, at: usize) -> n2n::Result<&mut Current> {
    let parts = current.as_ref().map_or(0, |current| current.parts());
    current
        .filter(|_| at < parts)
        .ok_or_else(|| Error::value("part of the page", format!("less than {parts}"), at))
}

impl Denoised {
    fn put(
        &mut self,
        region: &Region,
        channels: std::ops::Range<usize>,
        samples: Vec<f32>,
        depth: Depth,
    ) {
        let image = Image {
            height: region.height,
            width: region.width,
            channels: channels.len(),
            data: samples,
            depth,
        };
        let places = (0..region.height * region.width).flat_map(|pixel| {
            let (y, x) = (pixel / region.width, pixel % region.width);
            let first = ((region.top + y) * self.width + region.left + x) * self.channels;
            channels.clone().map(move |channel| first + channel)
        });
        match &mut self.samples {
            Samples::U8(all) => fill(all, places, image.to_u8()),
            Samples::U16(all) => fill(all, places, image.to_u16()),
            Samples::F32(all) | Samples::Change(all) => fill(all, places, image.data),
        }
    }

    /// The samples of rows, as [`Pages`] gives them.
    fn rows(&self, first: usize, count: usize) -> Vec<f32> {
        let row = self.width * self.channels;
        let range = first * row..(first + count) * row;
        let image = match &self.samples {
            Samples::U8(all) => Image::from_u8(count, self.width, self.channels, &all[range]),
            Samples::U16(all) => Image::from_u16(count, self.width, self.channels, &all[range]),
            Samples::F32(all) | Samples::Change(all) => return all[range].to_vec(),
        };
        image.map(|image| image.data).unwrap_or_default()
    }
}

fn fill<T>(all: &mut [T], places: impl Iterator<Item = usize>, samples: Vec<T>) {
    for (at, sample) in places.zip(samples) {
        all[at] = sample;
    }
}

/// The pages of the file with their color samples replaced by denoised ones.
struct Replaced<'a> {
    original: Reader,
    denoised: std::slice::Iter<'a, Denoised>,
    /// The current page, and its samples if it was denoised.
    page: Option<(Page, Option<&'a Denoised>)>,
    /// The first row of it that has not been read.
    next: usize,
}

impl Replaced<'_> {
    /// Replaces the color samples of the next `count` rows where there is a new value.
    fn replace<T: Copy + Into<f64>>(
        &mut self,
        count: usize,
        rows: &mut [T],
        change: impl Fn(T, f32, bool) -> T,
    ) {
        let first = self.next;
        self.next += count;
        let Some((page, Some(denoised))) = &self.page else {
            return;
        };
        let adds = matches!(denoised.samples, Samples::Change(_));
        let new = denoised.rows(first, count);
        let pixels = rows.chunks_exact_mut(page.samples());
        for (pixel, new) in pixels.zip(new.chunks_exact(denoised.channels)) {
            for (sample, &new) in pixel.iter_mut().zip(new) {
                // NaN stays: it may mark a missing value.
                let number: f64 = (*sample).into();
                if number.is_finite() {
                    *sample = change(*sample, new, adds);
                }
            }
        }
    }
}

impl Pages for Replaced<'_> {
    fn next_page(&mut self) -> n2n::Result<Option<Page>> {
        self.next = 0;
        self.page = self.original.next_page()?.map(|page| {
            let denoised = (!page.metadata.pass_through).then(|| self.denoised.next());
            (page, denoised.flatten())
        });
        Ok(self.page.as_ref().map(|(page, _)| page.clone()))
    }

    fn read_rows(&mut self, count: usize, rows: &mut Vec<f32>) -> n2n::Result<()> {
        let start = rows.len();
        self.original.read_rows(count, rows)?;
        self.replace(count, &mut rows[start..], |old, new, adds| {
            if adds { old + new } else { new }
        });
        Ok(())
    }

    fn read_wide(&mut self, count: usize, rows: &mut Vec<f64>) -> n2n::Result<()> {
        let start = rows.len();
        self.original.read_wide(count, rows)?;
        self.replace(count, &mut rows[start..], |old, new, adds| {
            if adds {
                old + f64::from(new)
            } else {
                f64::from(new)
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use n2n::cpu::CpuNetwork;
    use n2n::image::Selection;
    use n2n::predict::{Config, Event, Input, Job, Output, predict};
    use n2n::unet::UNet;
    use n2n::{Model, Weights, denoise};

    use super::*;
    use crate::Denoiser;

    /// A network in which every weight matters: with the initial weights, outputs are too small to differ.
    fn weights() -> Weights {
        weights_of(3)
    }

    fn weights_of(channels: usize) -> Weights {
        let mut weights = CpuNetwork::initial(UNet::new(1, channels).unwrap(), 5).weights();
        for (name, tensor) in &mut weights.tensors {
            for (i, value) in tensor.data.iter_mut().enumerate() {
                *value = if name.ends_with("bias") {
                    (i % 7) as f32 * 0.02
                } else {
                    *value * 12.0
                };
            }
        }
        weights
    }

    /// The web page's result for a file.
    fn by_tiles(bytes: &[u8], workers: usize, pixels: usize) -> n2n::Result<(Vec<u8>, usize)> {
        by_tiles_of(&weights(), bytes, workers, pixels)
    }

    /// The web page's result for a file and a network.
    fn by_tiles_of(
        weights: &Weights,
        bytes: &[u8],
        workers: usize,
        pixels: usize,
    ) -> n2n::Result<(Vec<u8>, usize)> {
        let denoiser = Denoiser(Model::from_weights(weights.clone())?);
        let mut picture = Picture::open(bytes.to_vec(), "-")?;
        let mut most = 0;
        let takes_gray = denoiser.0.channels() == 1;
        while let Some(parts) = picture.next(workers, pixels, takes_gray)? {
            let tiles: Vec<Tile> = (0..parts.len())
                .map(|at| picture.tile(at))
                .collect::<n2n::Result<_>>()?;
            most = most.max(tiles.len());
            // Last first, because workers finish in any order.
            for (at, tile) in tiles.into_iter().enumerate().rev() {
                let sent = Tile::new(&tile.header(), tile.samples()).ok().unwrap();
                let clean = denoiser.denoised(&sent, 0.75)?;
                picture.set(at, clean)?;
            }
        }
        Ok((picture.file_of_result()?, most))
    }

    /// The result of `n2n predict`.
    fn predicted(bytes: &[u8]) -> n2n::Result<Vec<u8>> {
        let mut network = CpuNetwork::from_weights(&weights())?;
        let format = Reader::from_bytes(Path::new("-"), bytes, LIMITS)?.format();
        let job = Job {
            input: Input::Bytes("-".into(), bytes.into()),
            output: Output::Memory,
            residual: None,
            compare: None,
            reference: None,
            encoding: Encoding::new(format),
            selection: Selection::default(),
        };
        let config = Config {
            options: denoise::Options {
                strength: 0.75,
                ..denoise::Options::default()
            },
            limits: LIMITS,
            ..Config::default()
        };
        let mut done = None;
        predict(&mut network, &[job], &config, |event| {
            if let Event::Ended { result, .. } = event {
                done = Some(result);
            }
        });
        done.unwrap().map(|done| done.bytes.unwrap())
    }

    #[test]
    fn parts_that_are_missing_or_do_not_exist_are_errors() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/demo/noisy.png");
        let mut picture = Picture::open(fs::read(path).unwrap(), "-").unwrap();
        assert!(picture.set(0, vec![]).is_err() && picture.tile(0).is_err());
        let parts = picture.next(2, usize::MAX, false).unwrap().unwrap().len();
        assert!(parts > 1);
        assert!(picture.set(parts, vec![]).is_err() && picture.tile(parts).is_err());
        let tile = picture.tile(0).unwrap();
        let clean = Denoiser(Model::from_weights(weights()).unwrap())
            .denoised(&tile, 1.0)
            .unwrap();
        picture.set(0, clean).unwrap();
        let error = picture.file_of_result().unwrap_err().to_string();
        assert!(error.contains("parts not yet put in place"), "{error}");
    }

    #[test]
    fn files_become_what_predict_makes_of_them() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/images");
        let (mut compared, mut refused) = (0, 0);
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            match (by_tiles(&bytes, 1, usize::MAX), predicted(&bytes)) {
                (Ok((found, _)), Ok(expected)) => {
                    assert!(found == expected, "{}", path.display());
                    compared += 1;
                }
                // Files that `n2n predict --save-dir` would write in another format are refused before they are
                // denoised.
                (Err(found), _) if found.to_string().contains("another format") => {
                    refused += 1;
                }
                (Err(found), Err(expected)) => {
                    assert_eq!(
                        found.to_string(),
                        expected.to_string(),
                        "{}",
                        path.display()
                    );
                }
                // A raw photograph.
                (Err(found), Ok(_)) if path.extension().is_some_and(|of| of == "dng") => {
                    assert!(found.to_string().contains("a raw photograph"), "{found}");
                }
                (found, expected) => panic!(
                    "{}: {:?}, expected {:?}",
                    path.display(),
                    found.err(),
                    expected.err()
                ),
            }
        }
        assert!(compared > 40, "{compared}");
        assert!(refused > 5, "{refused}");
    }

    #[test]
    fn tiles_change_nothing_but_rounding() {
        let folder = tempfile::tempdir().unwrap();
        let read = |bytes: &[u8], name: &str| {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            Image::read(&path).unwrap()
        };
        let (height, width) = (610, 700);
        let words: Vec<u16> = (0..height * width * 3)
            .map(|i| (i * 7919 % 60013) as u16)
            .collect();
        let path = folder.path().join("noisy.png");
        let noisy = Image::from_u16(height, width, 3, &words).unwrap();
        noisy.write(&path).unwrap();
        let bytes = fs::read(&path).unwrap();
        let (found, tiles) = by_tiles(&bytes, 4, 500 * 500).unwrap();
        assert!(tiles >= 4);
        let found = read(&found, "found.png");
        let expected = read(&predicted(&bytes).unwrap(), "expected.png");
        assert!(expected != noisy);
        let pairs = found.to_u16().into_iter().zip(expected.to_u16());
        let largest = pairs.map(|(a, b)| a.abs_diff(b)).max().unwrap();
        assert!(largest <= 1, "{largest}");
    }

    #[test]
    fn equal_channels_are_denoised_as_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, channels: usize| {
            let samples = (0..40 * 50_usize).flat_map(|i| {
                let sample = (i * 7919 % 60_013) as u16;
                std::iter::repeat_n(sample, channels)
            });
            let image = Image::from_u16(40, 50, channels, &samples.collect::<Vec<_>>()).unwrap();
            image.write(&folder.path().join(name)).unwrap();
            fs::read(folder.path().join(name)).unwrap()
        };
        let (gray, rgb) = (file("gray.png", 1), file("rgb.png", 3));
        let denoised = |bytes: &[u8]| {
            let (clean, _) = by_tiles_of(&weights_of(1), bytes, 2, usize::MAX).unwrap();
            fs::write(folder.path().join("clean.png"), clean).unwrap();
            Image::read(&folder.path().join("clean.png")).unwrap()
        };
        let (one, three) = (denoised(&gray), denoised(&rgb));
        assert_eq!((one.channels, three.channels), (1, 3));
        let mut pairs = one.data.iter().zip(three.data.chunks(3));
        assert!(pairs.all(|(value, pixel)| pixel == [*value; 3]));
        let is_gray = |bytes: &[u8]| {
            let picture = Picture::open(bytes.to_vec(), "-").unwrap();
            picture.is_gray().ok().unwrap()
        };
        assert!(is_gray(&gray) && is_gray(&rgb));
        let samples: Vec<u8> = (0..40 * 50 * 3).map(|i| u8::from(i == 5999)).collect();
        let colored = Image::from_u8(40, 50, 3, &samples).unwrap();
        colored.write(&folder.path().join("colored.png")).unwrap();
        assert!(!is_gray(
            &fs::read(folder.path().join("colored.png")).unwrap()
        ));
    }

    #[test]
    fn a_model_for_other_values_is_noted() {
        let values: Vec<u16> = (0..64 * 64_u16).map(|i| 4000 + i % 97).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        let image = Image::from_u16(64, 64, 1, &values).unwrap();
        image.write(&path).unwrap();
        let mut picture = Picture::open(fs::read(&path).unwrap(), "a.png").unwrap();
        let mut notes = |low: f32, high: f32| {
            let depth = Depth::U16;
            picture.compare(ModelRange { low, high, depth }).unwrap();
            std::mem::take(&mut picture.notes)
        };
        assert!(notes(3990.0, 4110.0).is_empty());
        let [note] = &notes(0.0, 300.0)[..] else {
            panic!("one note");
        };
        // All but the darkest and brightest few.
        assert!(note.contains("between 4001 and 4095 (uint16)"), "{note}");
        assert!(note.contains("with values 0 to 300 (uint16)"), "{note}");
    }

    #[test]
    fn what_is_no_picture_is_refused_in_a_sentence() {
        let error = Picture::open(b"words".to_vec(), "notes.txt").err().unwrap();
        assert_eq!(
            error.to_string(),
            "notes.txt: not a readable image: it is not a PNG, JPEG, TIFF, DNG, WebP, BMP, \
             PNM, OpenEXR, TGA, PFM, MRC, GIF, Radiance HDR or JPEG 2000 file"
        );
    }
}
