//! Portable float maps: 32-bit floats, gray or RGB, with rows stored from the bottom up.

use std::io::{BufRead as _, Read as _, Write};

use ::image::metadata::Orientation;

use super::Depth;
use super::decode::{Decode, Decoded, Fault, Limits, Source, Whole, check_samples};
use super::encode::Raster;
use super::metadata::Metadata;
use super::page::{Color, Page};
use super::simple::OnePage;

/// Reads a PFM.
pub(super) fn decoder(mut source: Box<dyn Source>, limits: Limits) -> Decoded<Box<dyn Decode>> {
    let color = match word(&mut source)?.as_str() {
        "PF" => Color::Rgb,
        _ => Color::Gray,
    };
    let mut number = || {
        let word = word(&mut source)?;
        let number = word.parse::<f64>().ok().filter(|number| number.is_finite());
        number.ok_or_else(|| Fault::new(format!("{word:?} in its header is not a number")))
    };
    let (width, height, scale) = (number()? as usize, number()? as usize, number()?);
    check_samples(limits, height, width, color.channels())?;
    let row = width * color.channels();
    let mut bytes = vec![0; 4 * row * height];
    source.read_exact(&mut bytes)?;
    // The sign of the scale says which end of a float comes first; its size says what 1 means, and
    // programs do not apply it.
    let float = |bytes: &[u8; 4]| {
        if scale < 0.0 {
            f32::from_le_bytes(*bytes)
        } else {
            f32::from_be_bytes(*bytes)
        }
    };
    let rows = bytes.chunks_exact(4 * row).rev();
    let floats = rows.flat_map(|row| row.as_chunks().0.iter().map(float));
    let whole = Whole::from_floats(row, floats.collect());
    let page = Page {
        height,
        width,
        color,
        extra: 0,
        depth: Depth::F32,
        orientation: Orientation::NoTransforms,
        metadata: Metadata::default(),
    };
    Ok(Box::new(OnePage {
        page: Some(page),
        whole,
    }))
}

/// The next word of the header, and the blank after it.
fn word(source: &mut Box<dyn Source>) -> Decoded<String> {
    /// Longer than any meaningful number.
    const MOST: usize = 32;
    let mut word = String::new();
    loop {
        let byte = source.fill_buf()?.first().copied();
        let byte = byte.ok_or_else(|| Fault::new("the file ends before the image does"))?;
        source.consume(1);
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' if word.is_empty() => {}
            b' ' | b'\t' | b'\r' | b'\n' => return Ok(word),
            byte if byte.is_ascii() && word.len() < MOST => word.push(byte.into()),
            _ => return Err(Fault::new("its header is not a PFM header")),
        }
    }
}

/// Writes a page as a PFM, little-endian.
pub(super) fn write(raster: &Raster, out: &mut impl Write) -> std::io::Result<()> {
    let page = &raster.page;
    let kind = if page.color == Color::Gray {
        "Pf"
    } else {
        "PF"
    };
    write!(out, "{kind}\n{} {}\n-1.0\n", page.width, page.height)?;
    for row in raster.samples.chunks_exact(page.row_len()).rev() {
        let bytes: Vec<u8> = row.iter().flat_map(|value| value.to_le_bytes()).collect();
        out.write_all(&bytes)?;
    }
    Ok(())
}
