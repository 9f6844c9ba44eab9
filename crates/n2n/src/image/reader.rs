//! Opening a file of any format, and the limits on what it may ask for.
//!
//! A file of a few kilobytes can claim more pixels than there is memory, so every claim is checked
//! before anything is allocated for it.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, ErrorKind, Seek};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::page::{Page, Pages};
use super::{Depth, Format, exr, gif, jpeg, jpeg2000, mrc, pfm, png, simple, tiff, unsupported};
use crate::error::{Error, Result};
use crate::files;

/// What a file may ask for.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Pixels of a page: `height · width`.
    pub pixels: u64,
    /// Samples of a page that has to be in memory as a whole, `height · width · samples`; of one that
    /// is read in strips or tiles, those of a row of them.
    pub samples: u64,
}

impl Default for Limits {
    /// A gigapixel; as `f32` in memory 2 GiB, 178 megapixels in RGB.
    fn default() -> Self {
        Self {
            pixels: 1 << 30,
            samples: 1 << 29,
        }
    }
}

/// A file of images, open for reading.
pub struct Reader {
    path: PathBuf,
    format: Format,
    limits: Limits,
    decoder: Box<dyn Decode>,
    /// Rows of the current page that have not been read.
    left: usize,
}

/// What a format has to offer.
pub(super) trait Decode: Send {
    /// The next page, its claims checked.
    fn next_page(&mut self) -> Decoded<Option<Page>>;
    /// Appends the next `count` rows, which there are.
    fn read_rows(&mut self, count: usize, rows: &mut Vec<f32>) -> Decoded<()>;
    /// As `read_rows`, of a wide depth.
    fn read_wide(&mut self, count: usize, rows: &mut Vec<f64>) -> Decoded<()> {
        let mut narrow = Vec::new();
        self.read_rows(count, &mut narrow)?;
        rows.extend(narrow.into_iter().map(f64::from));
        Ok(())
    }
}

/// The bytes of a file.
pub(super) trait Source: BufRead + Seek + Send {}
impl<T: BufRead + Seek + Send> Source for T {}

/// The result of decoding, which does not know the name of the file.
pub(super) type Decoded<T> = std::result::Result<T, Fault>;

/// Why a file cannot be decoded.
pub(super) struct Fault(String);

impl Fault {
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }

    pub(super) fn into_words(self) -> String {
        self.0
    }
}

impl<E: std::error::Error + 'static> From<E> for Fault {
    fn from(error: E) -> Self {
        // Each decoder has its own words for a file that ends too early.
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(found) = cause {
            let io = found.downcast_ref::<std::io::Error>();
            if io.is_some_and(|io| io.kind() == ErrorKind::UnexpectedEof) {
                return Self::new("the file ends before the image does");
            }
            cause = found.source();
        }
        Self(error.to_string())
    }
}

impl Reader {
    /// Opens a file; the format is found from the content, not from the name. A pipe, which can be read
    /// only once, or a device is refused at once.
    pub fn open(path: &Path, limits: Limits) -> Result<Self> {
        if files::is_device(path) {
            return Err(unreadable(
                path,
                "expected a file, found a pipe or a device",
            ));
        }
        let file = File::open(path).map_err(Error::io(path))?;
        Self::new(
            path,
            Box::new(BufReader::with_capacity(1 << 16, file)),
            limits,
        )
    }

    /// Reads what is in memory; `name` stands for its path in errors.
    pub fn from_bytes(name: &Path, bytes: impl Into<Arc<[u8]>>, limits: Limits) -> Result<Self> {
        Self::new(name, Box::new(Cursor::new(bytes.into())), limits)
    }

    fn new(path: &Path, mut source: Box<dyn Source>, limits: Limits) -> Result<Self> {
        let start = source.fill_buf().map_err(Error::io(path))?;
        if start.is_empty() {
            return Err(unreadable(path, "the file is empty"));
        }
        let unsupported = unsupported::reason(start);
        let format = Format::of_source(&mut source).map_err(Error::io(path))?;
        let format = format.ok_or_else(|| {
            let formats = "PNG, JPEG, TIFF, DNG, WebP, BMP, PNM, OpenEXR, TGA, PFM, MRC, GIF, \
                           Radiance HDR or JPEG 2000";
            let reason = unsupported.unwrap_or_else(|| format!("it is not a {formats} file"));
            unreadable(path, &reason)
        })?;
        let decoder = guarded(|| match format {
            Format::Png => png::decoder(source, limits),
            Format::Jpeg => jpeg::decoder(source, limits),
            Format::Tiff => tiff::decoder(source, limits),
            Format::Dng => tiff::dng::decoder(source, limits),
            Format::Mrc => mrc::decoder(source, limits),
            Format::OpenExr => exr::decoder(source, limits),
            Format::Pfm => pfm::decoder(source, limits),
            Format::Gif => gif::decoder(source, limits),
            Format::Jpeg2000 => jpeg2000::decoder(source, limits),
            Format::WebP | Format::Bmp | Format::Pnm | Format::Tga | Format::Hdr => {
                simple::decoder(format, source, limits)
            }
        });
        Ok(Self {
            path: path.to_path_buf(),
            format,
            limits,
            decoder: decoder.map_err(|fault| unreadable(path, &fault.0))?,
            left: 0,
        })
    }

    /// The format of the file.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Refuses a page that has more samples than may be in memory at once.
    pub(crate) fn check_fits(&self, page: &Page, limits: Limits) -> Result<()> {
        check_samples(limits, page.height, page.width, page.samples())
            .map_err(|fault| unreadable(&self.path, &fault.0))
    }

    /// Refuses a page that is too large for memory.
    pub(super) fn check_is_image(&self, page: &Page) -> Result<()> {
        check_samples(self.limits, page.height, page.width, page.samples())
            .map_err(|fault| unreadable(&self.path, &fault.0))
    }
}

impl Pages for Reader {
    fn next_page(&mut self) -> Result<Option<Page>> {
        let page = guarded(|| self.decoder.next_page());
        let page = page.map_err(|fault| unreadable(&self.path, &fault.0))?;
        self.left = page.as_ref().map_or(0, |page| page.height);
        Ok(page)
    }

    fn read_rows(&mut self, count: usize, rows: &mut Vec<f32>) -> Result<()> {
        assert!(count <= self.left, "{count} rows of {} left", self.left);
        self.left -= count;
        let read = guarded(|| self.decoder.read_rows(count, rows));
        read.map_err(|fault| unreadable(&self.path, &fault.0))
    }

    fn read_wide(&mut self, count: usize, rows: &mut Vec<f64>) -> Result<()> {
        assert!(count <= self.left, "{count} rows of {} left", self.left);
        self.left -= count;
        let read = guarded(|| self.decoder.read_wide(count, rows));
        read.map_err(|fault| unreadable(&self.path, &fault.0))
    }
}

/// Runs a decoder, which is other people's: should it panic on a damaged file, that file is refused,
/// and the program goes on. The decoder is not used again.
fn guarded<T>(decode: impl FnOnce() -> Decoded<T>) -> Decoded<T> {
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|_| Err(Fault::new("it is damaged")))
}

fn unreadable(path: &Path, reason: &str) -> Error {
    Error::Image {
        path: path.to_path_buf(),
        reason: format!("not a readable image: {reason}"),
    }
}

/// Refuses a page of more pixels than are accepted.
pub(super) fn check_pixels(limits: Limits, height: usize, width: usize) -> Decoded<()> {
    let pixels = (height as u64).checked_mul(width as u64);
    if height == 0 || width == 0 {
        return Err(Fault::new(format!("it declares {width}x{height} pixels")));
    }
    if pixels.is_none_or(|pixels| pixels > limits.pixels) {
        return Err(Fault::new(format!(
            "it declares {width}x{height} pixels, more than the limit of {}",
            limits.pixels
        )));
    }
    Ok(())
}

/// Refuses a page of more pixels, or of more samples in memory, than are accepted.
pub(super) fn check_samples(
    limits: Limits,
    height: usize,
    width: usize,
    samples: usize,
) -> Decoded<()> {
    check_pixels(limits, height, width)?;
    let values = height as u64 * width as u64;
    if values
        .checked_mul(samples as u64)
        .is_none_or(|values| values > limits.samples)
    {
        return Err(Fault::new(format!(
            "it declares {width}x{height} pixels of {samples} channels, which must be in memory \
             together: more than the limit of {} values",
            limits.samples
        )));
    }
    Ok(())
}

/// The samples of a page that is decoded as a whole, in the integers of its file.
pub(super) struct Whole {
    samples: Samples,
    /// Samples of a row.
    row: usize,
    /// The first row that has not been read.
    next: usize,
}

enum Samples {
    U8(Vec<u8>),
    U16(Vec<u16>),
    F32(Vec<f32>),
}

impl Whole {
    /// From the bytes of the samples, those of 16 and 32 bits in the order of this machine.
    pub(super) fn from_bytes(depth: Depth, row: usize, bytes: Vec<u8>) -> Self {
        let samples = match depth {
            Depth::U8 => Samples::U8(bytes),
            Depth::U16 => {
                let words = bytes.as_chunks().0.iter();
                Samples::U16(words.map(|&word| u16::from_ne_bytes(word)).collect())
            }
            _ => {
                let floats = bytes.as_chunks().0.iter();
                Samples::F32(floats.map(|&float| f32::from_ne_bytes(float)).collect())
            }
        };
        Self {
            samples,
            row,
            next: 0,
        }
    }

    pub(super) fn from_floats(row: usize, floats: Vec<f32>) -> Self {
        Self {
            samples: Samples::F32(floats),
            row,
            next: 0,
        }
    }

    /// Of bytes in threes that are all the same, keeps one each; says whether they were.
    pub(super) fn make_gray(&mut self) -> bool {
        let Samples::U8(bytes) = &mut self.samples else {
            return false;
        };
        let is_gray = bytes.as_chunks().0.iter().all(|[r, g, b]| r == g && g == b);
        if is_gray {
            *bytes = bytes.iter().step_by(3).copied().collect();
            self.row /= 3;
        }
        is_gray
    }

    pub(super) fn read_rows(&mut self, count: usize, rows: &mut Vec<f32>) {
        let range = self.next * self.row..(self.next + count) * self.row;
        self.next += count;
        match &self.samples {
            Samples::U8(bytes) => rows.extend(bytes[range].iter().map(|&byte| from_u8(byte))),
            Samples::U16(words) => rows.extend(words[range].iter().map(|&word| from_u16(word))),
            Samples::F32(floats) => rows.extend_from_slice(&floats[range]),
        }
    }
}

/// A sample of 8 bits in 0..1.
pub(super) fn from_u8(byte: u8) -> f32 {
    f32::from(byte) / 255.0
}

/// A sample of 16 bits in 0..1.
pub(super) fn from_u16(word: u16) -> f32 {
    f32::from(word) / 65535.0
}
