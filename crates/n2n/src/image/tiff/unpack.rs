//! From decompressed bytes to samples: bits, byte order, predictors, palettes, chroma.

use half::f16;

use super::super::decode::{Decoded, Fault};
use super::directory::{Order, swap};
use super::layout::Layout;
use super::sample::Sample;

impl Layout {
    /// Samples that are not stored.
    pub(super) fn fill(&self, count: usize, out: &mut Vec<u8>) {
        let value = self.nodata.unwrap_or(0.0);
        let sample: Vec<u8> = match self.sample {
            _ if !self.palette.is_empty() => vec![0; self.sample_bytes()],
            Sample::U8 => vec![value as u8],
            Sample::I8 => vec![value as i8 as u8],
            Sample::U16 => (value as u16).to_ne_bytes().into(),
            Sample::I16 => (value as i16).to_ne_bytes().into(),
            Sample::U32 => (value as u32).to_ne_bytes().into(),
            Sample::I32 => (value as i32).to_ne_bytes().into(),
            Sample::F16 => f16::from_f64(value).to_ne_bytes().into(),
            Sample::F32 => (value as f32).to_ne_bytes().into(),
            Sample::F64 => value.to_ne_bytes().into(),
        };
        out.extend(sample.repeat(count));
    }

    /// Converts uncompressed rows to samples of whole bytes in native byte order.
    pub(super) fn unpack(
        &self,
        bytes: &mut [u8],
        (width, height, samples): (usize, usize, usize),
        out: &mut Vec<u8>,
    ) {
        let row = (width * samples * usize::from(self.bits)).div_ceil(8);
        let size = usize::from(self.bits / 8);
        let whole = matches!(self.bits, 8 | 16 | 32 | 64);
        for row in bytes.chunks_exact_mut(row).take(height) {
            if self.predictor == 3 {
                let joined = undo_float_differences(row, samples, size);
                row.copy_from_slice(&joined);
            } else if whole {
                swap(row, size, self.order, Order::NATIVE);
                if self.predictor == 2 {
                    undo_differences(row, samples, size);
                }
            }
            let start = out.len();
            if whole {
                out.extend_from_slice(row);
            } else {
                self.unpack_bits(row, width * samples, out);
            }
            if self.white_is_zero {
                for byte in &mut out[start..] {
                    *byte = !*byte;
                }
            }
        }
    }

    /// Samples that are not whole bytes: the first has the highest bits of the first byte.
    fn unpack_bits(&self, row: &[u8], count: usize, out: &mut Vec<u8>) {
        let bits = usize::from(self.bits);
        let mask = (1_u64 << bits) - 1;
        for i in 0..count {
            let from = i * bits;
            // Up to 31 bits lie in no more than five bytes.
            let mut window = [0; 8];
            let bytes = &row[from / 8..row.len().min(from / 8 + 5)];
            window[..bytes.len()].copy_from_slice(bytes);
            let value = u64::from_be_bytes(window) >> (64 - from % 8 - bits) & mask;
            let value = value as u32;
            match bits {
                ..=8 => out.push(self.in_byte(value)),
                9..=16 => out.extend((value as u16).to_ne_bytes()),
                _ => out.extend(value.to_ne_bytes()),
            }
        }
    }

    /// A sample of up to 8 bits in a byte: those of fewer bits, except palette indices, are scaled to 0..255.
    pub(super) fn in_byte(&self, value: u32) -> u8 {
        if self.bits < 8 && self.palette.is_empty() {
            self.scaled(value)
        } else {
            value as u8
        }
    }

    /// A sample scaled to 0..255.
    fn scaled(&self, value: u32) -> u8 {
        let most = (1_u32 << self.bits) - 1;
        ((value * 255 + most / 2) / most) as u8
    }

    /// The colors of palette indices, if there is a palette, and the other samples of a pixel in 8 bits.
    pub(super) fn expanded(&self, samples: &[u8]) -> Option<Decoded<Vec<u8>>> {
        if self.palette.is_empty() {
            return None;
        }
        let mut out = Vec::with_capacity(samples.len() * self.given);
        for pixel in samples.chunks_exact(self.samples * self.sample_bytes()) {
            let sample = |i: usize| match self.sample_bytes() {
                1 => u32::from(pixel[i]),
                _ => u32::from(u16::from_ne_bytes([pixel[2 * i], pixel[2 * i + 1]])),
            };
            let Some(color) = self.palette.get(sample(0) as usize) else {
                return Some(Err(Fault::new(
                    "one of its pixels has no color in the palette",
                )));
            };
            out.extend_from_slice(color);
            let others = (1..self.samples).map(sample);
            out.extend(others.map(|value| self.scaled(value)));
        }
        Some(Ok(out))
    }
}

/// Adds to each sample its neighbor on the left (TIFF 6.0, section 14).
fn undo_differences(row: &mut [u8], samples: usize, size: usize) {
    fn add<const N: usize, T>(
        row: &mut [u8],
        samples: usize,
        from: impl Fn([u8; N]) -> T,
        sum: impl Fn(T, T) -> [u8; N],
    ) {
        let values = row.as_chunks_mut::<N>().0;
        for i in samples..values.len() {
            values[i] = sum(from(values[i]), from(values[i - samples]));
        }
    }
    match size {
        1 => add(row, samples, u8::from_ne_bytes, |a, b| {
            a.wrapping_add(b).to_ne_bytes()
        }),
        2 => add(row, samples, u16::from_ne_bytes, |a, b| {
            a.wrapping_add(b).to_ne_bytes()
        }),
        4 => add(row, samples, u32::from_ne_bytes, |a, b| {
            a.wrapping_add(b).to_ne_bytes()
        }),
        _ => add(row, samples, u64::from_ne_bytes, |a, b| {
            a.wrapping_add(b).to_ne_bytes()
        }),
    }
}

/// Joins the bytes of floats, which are stored plane by plane, the highest first, as differences
/// (Adobe's Photoshop TIFF technical note 3).
fn undo_float_differences(row: &mut [u8], samples: usize, size: usize) -> Vec<u8> {
    for i in samples..row.len() {
        row[i] = row[i].wrapping_add(row[i - samples]);
    }
    let count = row.len() / size;
    let mut joined = Vec::with_capacity(row.len());
    for i in 0..count {
        for plane in 0..size {
            let plane = if Order::NATIVE == Order::Big {
                plane
            } else {
                size - 1 - plane
            };
            joined.push(row[plane * count + i]);
        }
    }
    joined
}

/// Luma and chroma for every pixel, from blocks of `h` × `v` luma samples and one of each chroma
/// (TIFF 6.0, section 21).
pub(super) fn upsampled(
    bytes: &[u8],
    (width, height): (usize, usize),
    (h, v): (usize, usize),
) -> Vec<u8> {
    let across = width.div_ceil(h);
    let mut out = vec![0; width * height * 3];
    for y in 0..height {
        for x in 0..width {
            let block = &bytes[(y / v * across + x / h) * (h * v + 2)..][..h * v + 2];
            let pixel = [block[y % v * h + x % h], block[h * v], block[h * v + 1]];
            out[(y * width + x) * 3..][..3].copy_from_slice(&pixel);
        }
    }
    out
}

/// Converts full-range luma and chroma to red, green and blue (ITU-T T.871).
pub(super) fn to_rgb(pixel: &mut [u8; 3]) {
    let [y, cb, cr] = pixel.map(f32::from);
    let (cb, cr) = (cb - 128.0, cr - 128.0);
    let rgb = [
        y + 1.402 * cr,
        y - 0.344_136 * cb - 0.714_136 * cr,
        y + 1.772 * cb,
    ];
    *pixel = rgb.map(|value| (value + 0.5) as u8);
}
