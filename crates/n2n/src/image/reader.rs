//! Opens a file of any format.

use std::fs::File;
use std::io::{BufReader, Cursor};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::decode::{Decode, Decoded, Fault, Limits, Source, check_samples};
use super::page::{Page, Pages};
use super::{
    Format, bmp, exr, gif, jpeg, jpeg2000, mrc, pfm, png, simple, tiff, unsupported, webp,
};
use crate::error::{Error, Result};
use crate::files;

/// A file of images, open for reading.
pub struct Reader {
    path: PathBuf,
    format: Format,
    limits: Limits,
    decoder: Box<dyn Decode>,
    /// Rows of the current page that have not been read.
    left: usize,
}

impl Reader {
    /// Opens a file. The format is detected from the content, not from the name. Pipes, which can be read only once,
    /// and devices are rejected.
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

    /// Reads a file in memory; `name` replaces its path in errors.
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
            Format::WebP => webp::decoder(source, limits),
            Format::Bmp => bmp::decoder(source, limits),
            Format::Pnm | Format::Tga | Format::Hdr => simple::decoder(format, source, limits),
        });
        Ok(Self {
            path: path.to_path_buf(),
            format,
            limits,
            decoder: decoder.map_err(|fault| unreadable(path, &fault.into_words()))?,
            left: 0,
        })
    }

    /// The format of the file.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Refuses a page that has more samples than these limits allow in memory at once.
    pub(crate) fn check_fits(&self, page: &Page, limits: Limits) -> Result<()> {
        check_samples(limits, page.height, page.width, page.samples())
            .map_err(|fault| unreadable(&self.path, &fault.into_words()))
    }

    /// [`Self::check_fits`] with the limits that the file was opened with.
    pub(super) fn check_fits_own_limits(&self, page: &Page) -> Result<()> {
        check_samples(self.limits, page.height, page.width, page.samples())
            .map_err(|fault| unreadable(&self.path, &fault.into_words()))
    }
}

impl Pages for Reader {
    fn next_page(&mut self) -> Result<Option<Page>> {
        let page = guarded(|| self.decoder.next_page());
        let page = page.map_err(|fault| unreadable(&self.path, &fault.into_words()))?;
        self.left = page.as_ref().map_or(0, |page| page.height);
        Ok(page)
    }

    fn read_rows(&mut self, count: usize, rows: &mut Vec<f32>) -> Result<()> {
        assert!(count <= self.left, "{count} rows of {} left", self.left);
        self.left -= count;
        let read = guarded(|| self.decoder.read_rows(count, rows));
        read.map_err(|fault| unreadable(&self.path, &fault.into_words()))
    }

    fn read_wide(&mut self, count: usize, rows: &mut Vec<f64>) -> Result<()> {
        assert!(count <= self.left, "{count} rows of {} left", self.left);
        self.left -= count;
        let read = guarded(|| self.decoder.read_wide(count, rows));
        read.map_err(|fault| unreadable(&self.path, &fault.into_words()))
    }
}

/// Runs a third-party decoder: if it panics on a damaged file, the file is rejected and the program continues. The
/// decoder is not used again.
fn guarded<T>(decode: impl FnOnce() -> Decoded<T>) -> Decoded<T> {
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|_| Err(Fault::new("it is damaged")))
}

fn unreadable(path: &Path, reason: &str) -> Error {
    Error::Image {
        path: path.to_path_buf(),
        reason: format!("not a readable image: {reason}"),
    }
}
