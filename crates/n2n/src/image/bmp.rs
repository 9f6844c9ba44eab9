//! BMP and DIB: 1 to 32 bits per pixel. Headers of OS/2 that the decoder does not know are converted to those of
//! Windows.

use std::io::{Cursor, Read, SeekFrom};

use ::image::codecs::bmp::BmpDecoder;

use super::decode::{Decode, Decoded, Fault, Limits, Source};
use super::metadata::{Metadata, Resolution, ResolutionUnit};
use super::page::Page;
use super::{Depth, jpeg, png, simple};

/// Bytes of the header of a file, which a DIB lacks, and of the header of a bitmap, in Windows 3 and in OS/2 1.
const FILE_HEADER: usize = 14;
const WINDOWS: u32 = 40;
const OS2: u32 = 12;

/// Starts to read a BMP. A BMP of up to 8 bits per pixel has a palette, which the decoder expands to red, green and
/// blue; if all its colors are gray, the image is gray.
pub(super) fn decoder(mut source: Box<dyn Source>, limits: Limits) -> Decoded<Box<dyn Decode>> {
    let start = source.fill_buf()?;
    let has_file_header = start.starts_with(b"BM");
    let before = if has_file_header { FILE_HEADER } else { 0 };
    let header: Vec<u8> = start.iter().skip(before).take(64).copied().collect();
    let number = |at: usize| {
        let bytes = header.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_le_bytes(bytes))
    };
    let size = number(0).unwrap_or(0);
    let compression = if size >= 20 { number(16) } else { None };
    if has_file_header && is_os2_2(size) {
        let unsupported = match compression {
            Some(3) => Some("Huffman coding"),
            Some(4) => Some("24-bit run-length encoding"),
            _ => None,
        };
        if let Some(unsupported) = unsupported {
            return Err(Fault::new(format!(
                "its compression, {unsupported}, is not supported; save it as PNG"
            )));
        }
        let mut bytes = Vec::new();
        source.take(4 * limits.samples).read_to_end(&mut bytes)?;
        source = Box::new(Cursor::new(as_windows(&bytes, size as usize)));
    } else if has_file_header && matches!(compression, Some(4 | 5)) {
        return embedded(source, compression == Some(4), limits);
    }
    let bits = if size == OS2 { 10 } else { 14 };
    let has_palette = matches!(header.get(bits), Some(1..=8));
    let metadata = Metadata {
        resolution: resolution(&header),
        ..Metadata::default()
    };
    let decoder = if has_file_header {
        BmpDecoder::new(source)?
    } else {
        BmpDecoder::new_without_file_header(source)?
    };
    let mut page = simple::decode_page(decoder, metadata, limits)?;
    if has_palette {
        page.make_gray();
    }
    Ok(Box::new(page))
}

/// Whether a header of this size belongs to OS/2 2: 64 bytes, or fewer if fields at the end are left out. Headers of 52
/// and 56 bytes belong to Windows.
fn is_os2_2(size: u32) -> bool {
    (16..=64).contains(&size) && !matches!(size, WINDOWS | 52 | 56)
}

/// Converts a file with a header of OS/2 2 to one of Windows, which has the same first fields. Missing ones are 0.
fn as_windows(bytes: &[u8], size: usize) -> Vec<u8> {
    let (file, rest) = bytes.split_at(FILE_HEADER.min(bytes.len()));
    let (header, rest) = rest.split_at(size.min(rest.len()));
    let mut header = header.to_vec();
    header.resize(WINDOWS as usize, 0);
    header[..4].copy_from_slice(&WINDOWS.to_le_bytes());
    let mut file = file.to_vec();
    // The offset of the pixels.
    if let Some(place) = file.last_chunk_mut() {
        let pixels = u32::from_le_bytes(*place);
        *place = pixels
            .saturating_add(WINDOWS)
            .saturating_sub(size as u32)
            .to_le_bytes();
    }
    [&file, header.as_slice(), rest].concat()
}

/// Reads the JPEG or PNG that a BMP contains instead of pixels.
fn embedded(
    mut source: Box<dyn Source>,
    is_jpeg: bool,
    limits: Limits,
) -> Decoded<Box<dyn Decode>> {
    let mut place = [0; 4];
    source.seek(SeekFrom::Start(FILE_HEADER as u64 - 4))?;
    source.read_exact(&mut place)?;
    source.seek(SeekFrom::Start(u32::from_le_bytes(place).into()))?;
    let mut bytes = Vec::new();
    source.take(4 * limits.samples).read_to_end(&mut bytes)?;
    let source = Box::new(Cursor::new(bytes));
    Ok(Box::new(Embedded(if is_jpeg {
        jpeg::decoder(source, limits)?
    } else {
        png::decoder(source, limits)?
    })))
}

/// Rejects samples of more than 8 bits, which a BMP cannot store when the result is written.
struct Embedded(Box<dyn Decode>);

impl Decode for Embedded {
    fn next_page(&mut self) -> Decoded<Option<Page>> {
        let page = self.0.next_page()?;
        if page.as_ref().is_some_and(|page| page.depth != Depth::U8) {
            return Err(Fault::new(
                "it contains a PNG or JPEG of more than 8 bits, which is not supported; save it as PNG",
            ));
        }
        Ok(page)
    }

    fn read_rows(&mut self, count: usize, rows: &mut Vec<f32>) -> Decoded<()> {
        self.0.read_rows(count, rows)
    }
}

/// Pixels per meter, in headers of 40 bytes or more.
fn resolution(header: &[u8]) -> Option<Resolution> {
    let side = |at: usize| {
        let bytes = header.get(at..at + 4)?.try_into().ok()?;
        Some(i32::from_le_bytes(bytes)).filter(|&side| side > 0)
    };
    (*header.first()? >= WINDOWS as u8).then_some(())?;
    Some(Resolution {
        x: f64::from(side(24)?) / 100.0,
        y: f64::from(side(28)?) / 100.0,
        unit: ResolutionUnit::Centimeter,
    })
}
