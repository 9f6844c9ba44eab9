//! Self-contained HTML pages: one file with its style, charts and pictures.

mod chart;

pub use chart::{Chart, number};

use std::io::Cursor;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::error::Result;
use crate::image::{Encoding, Format, Image};

const STYLE: &str = include_str!("page.css");

/// A complete page; `title` is plain text, `body` is HTML.
pub fn document(title: &str, body: &str) -> String {
    let title = escaped(title);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title} · n2n</title><style>{STYLE}</style></head><body>{body}</body></html>\n"
    )
}

/// The image as a PNG data URI.
pub fn picture(image: &Image) -> Result<String> {
    let mut png = Cursor::new(vec![]);
    image.encode(
        Encoding::new(Format::Png),
        Path::new("picture.png"),
        &mut png,
    )?;
    let png = STANDARD.encode(png.into_inner());
    Ok(format!("data:image/png;base64,{png}"))
}

/// Text escaped for HTML.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
