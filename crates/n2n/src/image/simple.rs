//! Formats that the `image` crate decodes as a whole: TGA, Radiance HDR and the PNM family; and other formats, once
//! their files have been checked.

use std::io::{self, SeekFrom};

use ::image::codecs::hdr::HdrDecoder;
use ::image::codecs::pnm::PnmDecoder;
use ::image::codecs::tga::TgaDecoder;
use ::image::{ColorType, ImageDecoder};

use super::decode::{Decode, Decoded, Fault, Limits, Source, Whole, check_samples};
use super::metadata::{self, Metadata};
use super::page::{Color, Page};
use super::{Depth, Format, png};

/// Starts to read a TGA, HDR or PNM.
pub(super) fn decoder(
    format: Format,
    source: Box<dyn Source>,
    limits: Limits,
) -> Decoded<Box<dyn Decode>> {
    match format {
        Format::Tga => {
            let mut source = source;
            let is_opaque = is_opaque(&mut source)?;
            let mut page = decode_page(TgaDecoder::new(source)?, Metadata::default(), limits)?;
            if is_opaque {
                page.drop_transparency();
            }
            Ok(Box::new(page))
        }
        Format::Hdr => decode(HdrDecoder::new(source)?, Metadata::default(), limits),
        _ => {
            let mut source = source;
            let metadata = Metadata {
                description: metadata::text(&pnm_comments(source.fill_buf()?)),
                ..Metadata::default()
            };
            decode(PnmDecoder::new(source)?, metadata, limits)
        }
    }
}

/// Whether the extension area of a TGA says that the fourth byte of pixels is not transparency (Truevision TGA 2.0,
/// field 24). Restores the position of the source.
fn is_opaque(source: &mut Box<dyn Source>) -> io::Result<bool> {
    const ATTRIBUTES: u64 = 494;
    let end = source.seek(SeekFrom::End(0))?;
    let mut read = |at: u64, bytes: &mut [u8]| {
        let is_inside = at + bytes.len() as u64 <= end;
        if is_inside {
            source.seek(SeekFrom::Start(at))?;
            source.read_exact(bytes)?;
        }
        io::Result::Ok(is_inside)
    };
    let (mut footer, mut kind) = ([0; 26], [0; 1]);
    let has_footer = read(end.saturating_sub(26), &mut footer)?;
    let [a0, a1, a2, a3, ..] = footer;
    let area = u64::from(u32::from_le_bytes([a0, a1, a2, a3]));
    let has_area = has_footer && footer.ends_with(b"TRUEVISION-XFILE.\0") && area > 0;
    let is_opaque = has_area && read(area + ATTRIBUTES, &mut kind)? && kind == [0];
    source.rewind()?;
    Ok(is_opaque)
}

/// The comments in the header of a PNM: from a `#` to the end of the line.
fn pnm_comments(start: &[u8]) -> Vec<Vec<u8>> {
    let [_, kind, rest @ ..] = start else {
        return Vec::new();
    };
    // Width, height and, except for files of one bit per pixel, the largest sample. PAM ends its header with a word.
    let numbers = match kind {
        b'1' | b'4' => 2,
        b'7' => usize::MAX,
        _ => 3,
    };
    let (mut comments, mut words) = (Vec::new(), 0);
    for line in rest.split(|&byte| byte == b'\n') {
        let (line, comment) = match line.iter().position(|&byte| byte == b'#') {
            Some(at) => (&line[..at], Some(&line[at + 1..])),
            None => (line, None),
        };
        words += line
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty())
            .count();
        if words >= numbers || line.starts_with(b"ENDHDR") {
            break;
        }
        comments.extend(comment.map(<[u8]>::to_vec));
    }
    comments
}

/// The only page of a file, as a decoder returns it.
pub(super) fn decode(
    decoder: impl ImageDecoder,
    metadata: Metadata,
    limits: Limits,
) -> Decoded<Box<dyn Decode>> {
    Ok(Box::new(decode_page(decoder, metadata, limits)?))
}

/// [`decode`], for a page that is changed afterwards.
pub(super) fn decode_page(
    mut decoder: impl ImageDecoder,
    metadata: Metadata,
    limits: Limits,
) -> Decoded<OnePage> {
    let (width, height) = decoder.dimensions();
    let (height, width) = (height as usize, width as usize);
    let color = decoder.color_type();
    let samples = usize::from(color.channel_count());
    check_samples(limits, height, width, samples)?;
    let depth = match color {
        ColorType::L8 | ColorType::La8 | ColorType::Rgb8 | ColorType::Rgba8 => Depth::U8,
        ColorType::L16 | ColorType::La16 | ColorType::Rgb16 | ColorType::Rgba16 => Depth::U16,
        ColorType::Rgb32F | ColorType::Rgba32F => Depth::F32,
        other => {
            return Err(Fault::new(format!(
                "its pixels are of type {other:?}, which is not supported; save it as PNG or TIFF"
            )));
        }
    };
    let mut allowed = ::image::Limits::no_limits();
    allowed.max_alloc = Some(4 * limits.samples);
    decoder.set_limits(allowed)?;
    let mut page = Page {
        height,
        width,
        color: if color.has_color() {
            Color::Rgb
        } else {
            Color::Gray
        },
        extra: usize::from(color.has_alpha()),
        depth,
        orientation: png::orientation(metadata.exif.as_deref()),
        metadata,
    };
    page.metadata.note_other_profile(page.color);
    let mut bytes = vec![0; decoder.total_bytes() as usize];
    decoder.read_image(&mut bytes)?;
    Ok(OnePage {
        whole: Whole::from_bytes(depth, page.row_len(), bytes),
        page: Some(page),
    })
}

/// A decoded file of one page.
pub(super) struct OnePage {
    pub(super) page: Option<Page>,
    pub(super) whole: Whole,
}

impl OnePage {
    /// Keeps one channel of an RGB page whose channels are equal.
    pub(super) fn make_gray(&mut self) {
        if let Some(page) = self.page.as_mut().filter(|page| page.samples() == 3)
            && self.whole.make_gray()
        {
            page.color = Color::Gray;
        }
    }
}

impl OnePage {
    /// Keeps only the colors of an RGB page with transparency.
    fn drop_transparency(&mut self) {
        if let Some(page) = self.page.as_mut().filter(|page| page.samples() == 4)
            && self.whole.drop_fourth()
        {
            page.extra = 0;
        }
    }
}

impl Decode for OnePage {
    fn next_page(&mut self) -> Decoded<Option<Page>> {
        Ok(self.page.take())
    }

    fn read_rows(&mut self, count: usize, rows: &mut Vec<f32>) -> Decoded<()> {
        self.whole.read_rows(count, rows);
        Ok(())
    }
}
