//! The interface of every decoder, and the limits that it enforces.
//!
//! A file of a few kilobytes can claim more pixels than there is memory, so every claim is checked
//! before anything is allocated for it.

use std::io::{BufRead, ErrorKind, Seek};

use super::Depth;
use super::page::Page;

/// Limits on the size of a page.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Maximum number of pixels of a page, `height · width`.
    pub pixels: u64,
    /// Maximum number of samples in memory: for a page that is decoded as a whole, `height · width · samples`; for one
    /// that is read in strips or tiles, the samples of a row of them.
    pub samples: u64,
}

impl Default for Limits {
    /// A gigapixel; in memory, as many samples as 2 GiB of `f32` hold, which is 178 megapixels in RGB.
    fn default() -> Self {
        Self {
            pixels: 1 << 30,
            samples: 1 << 29,
        }
    }
}

/// The decoder of a format.
pub(super) trait Decode: Send {
    /// The next page, its claims checked.
    fn next_page(&mut self) -> Decoded<Option<Page>>;
    /// Appends the next `count` rows; the page has that many left.
    fn read_rows(&mut self, count: usize, rows: &mut Vec<f32>) -> Decoded<()>;
    /// [`Self::read_rows`] for a wide depth.
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
pub(super) type Decoded<T> = Result<T, Fault>;

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

/// Refuses a page of more pixels than are accepted.
pub(super) fn check_pixels(limits: Limits, height: usize, width: usize) -> Decoded<()> {
    let pixels = (height as u64).checked_mul(width as u64);
    if height == 0 || width == 0 {
        return Err(Fault::new(format!(
            "it declares {width}x{height} pixels; expected at least 1x1"
        )));
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

/// The samples of a page that is decoded as a whole, in the sample type of its file.
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

    pub(super) fn from_words(row: usize, words: Vec<u16>) -> Self {
        Self {
            samples: Samples::U16(words),
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

    /// If the samples are bytes and the three of every pixel are equal, keeps one of each three; returns whether it
    /// did.
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

    /// If the samples are bytes, drops the fourth of every pixel; returns whether it did.
    pub(super) fn drop_fourth(&mut self) -> bool {
        let Samples::U8(bytes) = &mut self.samples else {
            return false;
        };
        let pixels = bytes.as_chunks::<4>().0.iter();
        *bytes = pixels.flat_map(|&[r, g, b, _]| [r, g, b]).collect();
        self.row = self.row / 4 * 3;
        true
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
