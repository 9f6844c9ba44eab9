//! Decompresses strips and tiles. The codecs are crates, except `PackBits` and lossless JPEG.

use std::io::{Cursor, Read};

use zune_core::bytestream::ZCursor;

use super::super::decode::{Decoded, Fault};
use super::super::{baseline, jpeg};

/// How strips and tiles are compressed (TIFF 6.0, sections 9 to 11 and 22; later ones by registration).
pub(super) mod compression {
    pub(in super::super) const NONE: u16 = 1;
    pub(in super::super) const FAX3: u16 = 3;
    pub(in super::super) const FAX4: u16 = 4;
    pub(in super::super) const LZW: u16 = 5;
    pub(in super::super) const OLD_JPEG: u16 = 6;
    pub(in super::super) const JPEG: u16 = 7;
    pub(in super::super) const DEFLATE: u16 = 8;
    pub(in super::super) const PACK_BITS: u16 = 32773;
    pub(in super::super) const OLD_DEFLATE: u16 = 32946;
    pub(in super::super) const JPEG_2000: u16 = 34712;
    pub(in super::super) const LZMA: u16 = 34925;
    pub(in super::super) const ZSTD: u16 = 50000;
    pub(in super::super) const WEBP: u16 = 50001;
    /// Deflate, by `PixTIFF`.
    pub(in super::super) const PIX_DEFLATE: u16 = 50013;
}

/// Luma and chroma in JPEG 2000, whatever the directory states about the colors.
pub(super) const APERIO_YCBCR: u16 = 33003;

/// Whether strips and tiles are JPEG 2000 codestreams: by the standard, or by Aperio, lossy or not.
pub(super) fn is_jpeg_2000(compression: u16) -> bool {
    matches!(compression, APERIO_YCBCR..=33005 | compression::JPEG_2000)
}

/// How the strips and tiles of a page are compressed.
pub(super) struct Codec {
    pub(super) compression: u16,
    /// Bits in reverse order in every byte (`FillOrder` 2).
    pub(super) reversed: bool,
    /// The tables that the JPEGs of all tiles share.
    pub(super) jpeg_tables: Vec<u8>,
    /// For Group 3: rows refer to the one above.
    pub(super) is_2d: bool,
}

/// The expected result of decoding a strip or tile.
#[derive(Clone, Copy)]
pub(super) struct Expected {
    pub(super) width: usize,
    pub(super) height: usize,
    /// Number of samples of a pixel, over all planes that it holds.
    pub(super) samples: usize,
    /// Total number of bytes.
    pub(super) bytes: usize,
}

impl Codec {
    /// Rejects what cannot be decoded.
    pub(super) fn check(&self, bits: u16) -> Decoded<()> {
        use compression::{
            DEFLATE, FAX3, FAX4, JPEG, JPEG_2000, LZMA, LZW, NONE, OLD_DEFLATE, OLD_JPEG,
            PACK_BITS, PIX_DEFLATE, WEBP, ZSTD,
        };
        match self.compression {
            NONE | LZW | DEFLATE | PACK_BITS | OLD_DEFLATE | PIX_DEFLATE | LZMA | ZSTD => Ok(()),
            FAX3 if self.is_2d => Err(unsupported("two-dimensional Group 3")),
            FAX3 | FAX4 if bits == 1 => Ok(()),
            OLD_JPEG | WEBP if bits == 8 => Ok(()),
            // With more than 8 bits, it may be lossless.
            JPEG if (2..=16).contains(&bits) => Ok(()),
            jpeg_2000 if is_jpeg_2000(jpeg_2000) && (8..=16).contains(&bits) => Ok(()),
            JPEG | OLD_JPEG | WEBP | FAX3 | FAX4 | APERIO_YCBCR..=33005 | JPEG_2000 => {
                Err(unsupported(&format!(
                    "{} with {bits} bits per sample",
                    name(self.compression)
                )))
            }
            other => Err(unsupported(&name(other))),
        }
    }

    /// The bytes that a strip or tile decodes to, `expected.bytes` of them.
    pub(super) fn decode(&self, mut packed: Vec<u8>, expected: Expected) -> Decoded<Vec<u8>> {
        use compression::{
            DEFLATE, FAX3, FAX4, JPEG, LZMA, LZW, NONE, OLD_DEFLATE, OLD_JPEG, PACK_BITS,
            PIX_DEFLATE, WEBP, ZSTD,
        };
        if self.reversed && !matches!(self.compression, JPEG | OLD_JPEG | WEBP) {
            reverse_bits(&mut packed);
        }
        let most = expected.bytes;
        let mut bytes = match self.compression {
            NONE => packed,
            LZW => lzw(&packed, most)?,
            DEFLATE | OLD_DEFLATE | PIX_DEFLATE => {
                take(flate2::read::ZlibDecoder::new(packed.as_slice()), most)?
            }
            PACK_BITS => pack_bits(&packed, most),
            ZSTD => {
                let decoder = ruzstd::decoding::StreamingDecoder::new(packed.as_slice());
                let decoder = decoder.map_err(|error| Fault::new(error.to_string()))?;
                take(decoder, most)?
            }
            LZMA => take(lzma_rust2::XzReader::new(packed.as_slice(), true), most)?,
            JPEG => self.jpeg(&packed, expected)?,
            // Often in pieces that are not JPEGs by themselves.
            OLD_JPEG => self
                .jpeg(&packed, expected)
                .map_err(|_| unsupported("old-style JPEG (TIFF 6.0) of this kind"))?,
            WEBP => webp(packed, expected)?,
            FAX3 | FAX4 => fax(self.compression, &packed, expected)?,
            other => return Err(unsupported(&name(other))),
        };
        if bytes.len() < most {
            return Err(Fault::new(format!(
                "one of its strips or tiles decodes to {} bytes; expected {most}",
                bytes.len()
            )));
        }
        bytes.truncate(most);
        Ok(bytes)
    }

    /// Decodes a JPEG, with the shared tables before it, without converting its colors.
    fn jpeg(&self, packed: &[u8], expected: Expected) -> Decoded<Vec<u8>> {
        let whole = match (self.jpeg_tables.as_slice(), packed) {
            // The end marker of the tables and the start marker of the image are left out.
            ([tables @ .., 0xFF, 0xD9], [0xFF, 0xD8, image @ ..]) => [tables, image].concat(),
            _ => packed.to_vec(),
        };
        if let Some(segments) = jpeg::segments(&whole) {
            jpeg::check_scans(&segments)?;
            baseline::check(&whole)?;
        }
        let options = jpeg::decoder_options();
        let mut decoder = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(whole), options);
        decoder.decode_headers()?;
        let (width, height) = decoder
            .dimensions()
            .ok_or_else(|| Fault::new("one of its JPEGs has no size"))?;
        let space = decoder.input_colorspace();
        let samples = space.map_or(0, |space| space.num_components());
        if width != expected.width || height < expected.height || samples != expected.samples {
            return Err(Fault::new(format!(
                "one of its JPEGs is {width}x{height} with {samples} components; expected {}x{} \
                 with {}",
                expected.width, expected.height, expected.samples
            )));
        }
        if let Some(space) = space {
            decoder.set_options(options.set_strict_mode(true).jpeg_set_out_colorspace(space));
        }
        Ok(decoder.decode()?)
    }
}

/// Reverses the bits of every byte.
pub(super) fn reverse_bits(bytes: &mut [u8]) {
    for byte in bytes {
        *byte = byte.reverse_bits();
    }
}

/// The error for a compression that cannot be decoded.
pub(super) fn unsupported(compression: &str) -> Fault {
    Fault::new(format!(
        "its compression, {compression}, is not supported; save it with LZW, Deflate or Zstandard"
    ))
}

/// The name of a compression.
fn name(compression: u16) -> String {
    let name = match compression {
        2 => "CCITT run-length encoding",
        compression::FAX3 => "Group 3",
        compression::FAX4 => "Group 4",
        compression::OLD_JPEG => "old-style JPEG (TIFF 6.0)",
        compression::JPEG => "JPEG",
        compression::WEBP => "WebP",
        32766 => "NeXT run-length encoding",
        32771 => "word-aligned CCITT run-length encoding",
        32809 => "ThunderScan",
        33003 | 33004 | 33005 | 34712 => "JPEG 2000",
        9 | 10 | 34661 => "JBIG",
        34676 | 34677 => "SGI LogLuv",
        34887 => "LERC",
        34892 => "lossy JPEG",
        34933 => "PNG",
        34934 | 22610 => "JPEG XR",
        50002 | 52546 => "JPEG XL",
        65000..=65002 => "EER",
        other => return format!("method {other}"),
    };
    name.into()
}

/// At most this many bytes of a stream.
fn take(stream: impl Read, most: usize) -> Decoded<Vec<u8>> {
    let mut bytes = Vec::with_capacity(most);
    stream.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn lzw(packed: &[u8], most: usize) -> Decoded<Vec<u8>> {
    use weezl::BitOrder;
    use weezl::decode::{Configuration, Decoder};
    // Before TIFF 6.0, codes began at the other end of a byte, and grew one code later.
    let mut decoder =
        if packed.first() == Some(&0) && packed.get(1).is_some_and(|byte| byte & 1 == 1) {
            Decoder::new(BitOrder::Lsb, 8)
        } else {
            Configuration::with_tiff_size_switch(BitOrder::Msb, 8)
                .with_yield_on_full_buffer(true)
                .build()
        };
    let mut bytes = vec![0; most];
    let (mut read, mut written) = (0, 0);
    while written < most {
        let result = decoder.decode_bytes(&packed[read..], &mut bytes[written..]);
        read += result.consumed_in;
        written += result.consumed_out;
        match result.status? {
            weezl::LzwStatus::Ok => {}
            weezl::LzwStatus::NoProgress | weezl::LzwStatus::Done => break,
        }
    }
    bytes.truncate(written);
    Ok(bytes)
}

/// Runs and literals (TIFF 6.0, section 9).
fn pack_bits(packed: &[u8], most: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(most);
    let mut rest = packed;
    while let [head, behind @ ..] = rest
        && bytes.len() < most
    {
        rest = match (*head as i8, behind) {
            (-128, _) => behind,
            (head @ 0.., _) => {
                let count = (head as usize + 1).min(behind.len());
                bytes.extend_from_slice(&behind[..count]);
                &behind[count..]
            }
            (head, [byte, behind @ ..]) => {
                bytes.resize(bytes.len() + 1 + usize::from(head.unsigned_abs()), *byte);
                behind
            }
            (_, []) => behind,
        };
    }
    bytes
}

fn webp(packed: Vec<u8>, expected: Expected) -> Decoded<Vec<u8>> {
    let mut decoder = image_webp::WebPDecoder::new(Cursor::new(packed))?;
    let (width, height) = decoder.dimensions();
    let samples = if decoder.has_alpha() { 4 } else { 3 };
    let size = (width as usize, height as usize);
    if size.0 != expected.width || size.1 < expected.height || samples > expected.samples {
        return Err(Fault::new(format!(
            "one of its WebPs is {width}x{height} with {samples} channels; expected {}x{} with {}",
            expected.width, expected.height, expected.samples
        )));
    }
    let mut bytes = vec![0; size.0 * size.1 * samples];
    decoder.read_image(&mut bytes)?;
    if samples == 3 && expected.samples == 4 {
        // A tile that is opaque throughout is stored without its transparency.
        let pixels = bytes.chunks_exact(3);
        bytes = pixels.flat_map(|p| [p[0], p[1], p[2], 255]).collect();
    }
    Ok(bytes)
}

/// Rows of one bit; black is 1.
fn fax(compression: u16, packed: &[u8], expected: Expected) -> Decoded<Vec<u8>> {
    let damaged = || Fault::new("one of its strips is not valid fax data");
    let size = u16::try_from(expected.width).ok();
    let size = size.zip(u16::try_from(expected.height).ok());
    let (width, height) = size.ok_or_else(|| {
        Fault::new("one of its strips has more than 65535 rows or columns, too many for fax data")
    })?;
    let row_bytes = expected.width.div_ceil(8);
    let mut bytes = Vec::with_capacity(expected.bytes);
    let mut row = |transitions: &[u16]| {
        if bytes.len() >= expected.bytes {
            return;
        }
        let start = bytes.len();
        bytes.resize(start + row_bytes, 0);
        for (x, color) in fax::decoder::pels(transitions, width).enumerate() {
            if color == fax::Color::Black {
                bytes[start + x / 8] |= 0x80 >> (x % 8);
            }
        }
    };
    let input = packed.iter().copied();
    if compression == compression::FAX4 {
        fax::decoder::decode_g4(input, width, Some(height), row).ok_or_else(damaged)?;
    } else {
        let input = input.map(Ok::<_, std::convert::Infallible>);
        let decoder = fax::decoder::Group3Decoder::new(input);
        let mut decoder = decoder.map_err(|_| damaged())?;
        for _ in 0..height {
            // The last row often ends without the mark of an end.
            let is_last = !matches!(
                decoder.advance(),
                Ok(fax::decoder::DecodeStatus::Incomplete)
            );
            row(decoder.transitions());
            if is_last {
                break;
            }
        }
    }
    Ok(bytes)
}
