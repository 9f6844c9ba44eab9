//! Writes pages in any format, with everything that the format can hold. Pages, transparency or channels that it cannot
//! hold are an error, so that nothing is lost silently.

use std::io::{Seek, Write};
use std::path::Path;

use ::image::ImageEncoder;
use ::image::codecs::bmp::BmpEncoder;
use ::image::codecs::tga::TgaEncoder;
use ::image::codecs::webp::WebPEncoder;

use super::encode::{Encoded, Encoding, Raster, Refused, native_bytes, to_u8, to_u16};
use super::metadata::{Metadata, ResolutionUnit};
use super::page::{Color, Page, Pages};
use super::{Depth, Format, exr, jpeg, mrc, pfm, png, tiff};
use crate::error::{Error, Result};

/// Writes all pages to `out`, the content of `path`.
///
/// Samples are clipped and rounded, except in files of floats.
pub fn write_pages(
    pages: &mut dyn Pages,
    encoding: Encoding,
    path: &Path,
    out: &mut (impl Write + Seek),
) -> Result<()> {
    encode(pages, encoding, out).map_err(|refused| match refused {
        Refused::Source(error) => error,
        Refused::Io(reason) => Error::io(path)(reason),
        Refused::Page(reason) => Error::Image {
            path: path.to_path_buf(),
            reason,
        },
    })
}

fn encode(pages: &mut dyn Pages, encoding: Encoding, out: &mut (impl Write + Seek)) -> Encoded<()> {
    let first = pages.next_page()?;
    let mut first = first.ok_or_else(|| Refused::Page("there is no page to write".into()))?;
    // Skip pages that are only copied, such as masks: only a format with several pages can store them.
    while !encoding.format.has_pages() && first.metadata.pass_through {
        match pages.next_page()? {
            Some(page) => first = page,
            None => break,
        }
    }
    let depth = encoding.depth_of(first.depth);
    let format = encoding.format;
    if format == Format::Tiff {
        return tiff::write(pages, first, encoding, out);
    }
    if format == Format::Mrc {
        return mrc::write(pages, first, encoding, out);
    }
    check(format, &first)?;
    match format {
        Format::Dng => tiff::dng::write(pages, &first, depth, out)?,
        Format::Png => png::write(pages, &first, depth, out)?,
        Format::Jpeg => jpeg::write(pages, &first, encoding.quality, out)?,
        Format::OpenExr => exr::write(&Raster::read(pages, first)?.upright(format), out)?,
        Format::Pfm => pfm::write(&Raster::read(pages, first)?.upright(format), out)?,
        Format::Gif | Format::Hdr | Format::Jpeg2000 => {
            return Err(Refused::Page(format!(
                "{format} can be read but not written; use {}",
                format.written()
            )));
        }
        _ => write_simply(
            format,
            &Raster::read(pages, first)?.upright(format),
            depth,
            out,
        )?,
    }
    while let Some(page) = pages.next_page()? {
        if page.metadata.pass_through {
            continue;
        }
        return Err(Refused::Page(format!(
            "there are several pages, but {format} stores only one; use TIFF"
        )));
    }
    Ok(())
}

/// Refuses what the format cannot hold.
fn check(format: Format, page: &Page) -> Encoded<()> {
    let refuse = |what: &str| {
        let hint = "use TIFF";
        Err(Refused::Page(format!(
            "{format} cannot store {what}; {hint}"
        )))
    };
    if matches!(format, Format::OpenExr | Format::Dng) {
        return Ok(());
    }
    if let Color::Bands(channels) = page.color {
        return refuse(&format!("{channels} channels"));
    }
    match page.extra {
        0 => Ok(()),
        1 if !matches!(format, Format::Jpeg | Format::Pfm) => Ok(()),
        1 => refuse("transparency"),
        extra => refuse(&format!("{extra} extra samples per pixel")),
    }
}

/// WebP, BMP, TGA and PNM, as the `image` crate writes them.
fn write_simply(
    format: Format,
    raster: &Raster,
    depth: Depth,
    out: &mut impl Write,
) -> Encoded<()> {
    let (w, h) = (raster.page.width as u32, raster.page.height as u32);
    let color = raster.color_type(depth);
    let bytes = native_bytes(&raster.samples, depth);
    let metadata = &raster.page.metadata;
    match format {
        Format::WebP => {
            let mut encoder = WebPEncoder::new_lossless(&mut *out);
            if let Some(icc) = metadata.icc_for(raster.page.color) {
                encoder
                    .set_icc_profile(icc.to_vec())
                    .map_err(|e| Refused::Page(e.to_string()))?;
            }
            if let Some(exif) = metadata.exif_with(raster.page.orientation) {
                encoder
                    .set_exif_metadata(exif)
                    .map_err(|e| Refused::Page(e.to_string()))?;
            }
            encoder.write_image(&bytes, w, h, color)?;
        }
        Format::Bmp => {
            let mut bmp = Vec::new();
            BmpEncoder::new(&mut bmp).encode(&bytes, w, h, color)?;
            set_bmp_resolution(&mut bmp, metadata);
            out.write_all(&bmp)?;
        }
        // The crate's run lengths cross the ends of rows, which other programs reject.
        Format::Tga => TgaEncoder::new(out)
            .disable_rle()
            .encode(&bytes, w, h, color)?,
        _ => write_pnm(raster, depth, out)?,
    }
    Ok(())
}

/// Writes the pixels per meter to their fields in the header (`BITMAPINFOHEADER`).
fn set_bmp_resolution(bmp: &mut [u8], metadata: &Metadata) {
    let Some(resolution) = metadata.resolution else {
        return;
    };
    let per_meter = match resolution.unit {
        ResolutionUnit::None => return,
        ResolutionUnit::Inch => 1.0 / 0.0254,
        ResolutionUnit::Centimeter => 100.0,
    };
    for (at, side) in [(38, resolution.x), (42, resolution.y)] {
        if let Some(place) = bmp.get_mut(at..at + 4) {
            place.copy_from_slice(&((side * per_meter).round() as i32).to_le_bytes());
        }
    }
}

/// Binary PGM and PPM, which every program reads; PAM for transparency, which only PAM supports. The `image` crate
/// writes no comments, and writes everything with 16 bits as PAM.
fn write_pnm(raster: &Raster, depth: Depth, out: &mut impl Write) -> std::io::Result<()> {
    let page = &raster.page;
    let is_gray = page.color.channels() == 1;
    let kind = match (page.extra, is_gray) {
        (0, true) => 5,
        (0, false) => 6,
        _ => 7,
    };
    writeln!(out, "P{kind}")?;
    let words = page.metadata.description.as_deref().unwrap_or_default();
    for line in words.split(['\n', '\r', '\0']) {
        if !line.trim().is_empty() {
            writeln!(out, "# {}", line.trim())?;
        }
    }
    let (width, height) = (page.width, page.height);
    let most = if depth == Depth::U8 { 255 } else { 65535 };
    if kind == 7 {
        let color = if is_gray { "GRAYSCALE" } else { "RGB" };
        let samples = page.samples();
        write!(
            out,
            "WIDTH {width}\nHEIGHT {height}\nDEPTH {samples}\nMAXVAL {most}\n"
        )?;
        write!(out, "TUPLTYPE {color}_ALPHA\nENDHDR\n")?;
    } else {
        write!(out, "{width} {height}\n{most}\n")?;
    }
    for &sample in &raster.samples {
        if depth == Depth::U8 {
            out.write_all(&[to_u8(sample)])?;
        } else {
            out.write_all(&to_u16(sample).to_be_bytes())?;
        }
    }
    Ok(())
}
