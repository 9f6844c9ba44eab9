//! Whole images of a file: upright and without transparency.

use std::collections::VecDeque;
use std::path::Path;

use ::image::metadata::Orientation;

use super::page::way;
use super::{Census, Image, Limits, Page, Pages, Reader, Selection};
use crate::error::{Error, Result};

/// The images of a file, one after the other: the pages of a TIFF, the sections of an MRC, the frames of an animation,
/// or the only one of any other file. They are upright and without transparency, keep all their color channels, and are
/// decoded when asked for.
///
/// The size of each is checked before it is decoded: see [`Limits`].
pub fn images(path: &Path) -> Result<impl Iterator<Item = Result<Image>> + Send + use<>> {
    let mut reader = Some(Reader::open(path, Limits::default())?);
    Ok(std::iter::from_fn(move || {
        let next = next_image(reader.as_mut()?).transpose();
        if !matches!(next, Some(Ok(_))) {
            // After a page that cannot be read, the position of the next one is unknown.
            reader = None;
        }
        next
    }))
}

/// The images of a file that are selected, one after the other; an error ends the iteration. If nothing in the file is
/// selected, that is an error. Selected channels of an image are images of their own, unless it has `model_channels`
/// channels: such an image is denoised as one, whichever channels of the result are kept.
pub(crate) fn selected(
    reader: Reader,
    path: &Path,
    selection: &Selection,
    model_channels: usize,
) -> impl Iterator<Item = Result<Image>> + Send + use<> {
    let (mut reader, path, selection) = (Some(reader), path.to_path_buf(), selection.clone());
    let mut census = Census::default();
    let mut channels = VecDeque::new();
    std::iter::from_fn(move || {
        if let Some(channel) = channels.pop_front() {
            return Some(Ok(channel));
        }
        let mut samples = None;
        let wanted = |page: &Page| {
            samples = selection.samples_of(page);
            census.count(&selection, page)
        };
        let next = match next_wanted(reader.as_mut()?, wanted) {
            Ok(None) => census.check(&selection, &path).err().map(Err),
            next => next.transpose(),
        };
        if let (Some(Ok(image)), Some(samples)) = (&next, samples)
            && image.channels != model_channels
        {
            channels.extend(samples.into_iter().map(|channel| image.channel(channel)));
            return channels.pop_front().map(Ok);
        }
        if !matches!(next, Some(Ok(_))) {
            reader = None;
        }
        next
    })
}

/// Image `index` of those that [`images`] returns, counted from 0; those before it are not decoded.
pub fn image(path: &Path, index: usize) -> Result<Image> {
    let mut reader = Reader::open(path, Limits::default())?;
    let mut indices = 0..;
    let found = next_wanted(&mut reader, |_| indices.next() == Some(index))?;
    let found_count = indices.start;
    found.ok_or_else(|| match found_count {
        0 => without_pages(path),
        _ => Error::Image {
            path: path.to_path_buf(),
            reason: format!(
                "expected at least {} images, found {found_count}",
                index + 1
            ),
        },
    })
}

/// The width and height of the image that [`Image::read`] would return. Pixels are decoded only for formats that are
/// read as a whole.
pub fn dimensions(path: &Path) -> Result<(usize, usize)> {
    let mut reader = Reader::open(path, Limits::default())?;
    let page = reader.next_image()?;
    let page = page.ok_or_else(|| without_pages(path))?;
    Ok(page.upright_size())
}

/// The error for a file that holds no image at all.
pub(super) fn without_pages(path: &Path) -> Error {
    Error::Image {
        path: path.to_path_buf(),
        reason: "not a readable image: it has no page".into(),
    }
}

/// The next page as an image: upright, its color alone.
fn next_image(reader: &mut Reader) -> Result<Option<Image>> {
    next_wanted(reader, |_| true)
}

/// The next page that is `wanted`, as an image.
fn next_wanted(
    reader: &mut Reader,
    mut wanted: impl FnMut(&Page) -> bool,
) -> Result<Option<Image>> {
    let page = loop {
        match reader.next_image()? {
            None => return Ok(None),
            Some(page) if !wanted(&page) => {}
            Some(page) => break page,
        }
    };
    reader.check_fits_own_limits(&page)?;
    let (samples, channels) = (page.samples(), page.color.channels());
    let mut data = Vec::new();
    reader.read_rows(page.height, &mut data)?;
    if samples > channels {
        let pixels = data.len() / samples;
        for i in 0..pixels {
            data.copy_within(i * samples..i * samples + channels, i * channels);
        }
        data.truncate(pixels * channels);
    }
    let image = Image {
        height: page.height,
        width: page.width,
        channels,
        data,
        depth: page.depth,
    };
    Ok(Some(upright(image, page.orientation)))
}

/// The image as `orientation` says it is to be seen.
fn upright(image: Image, orientation: Orientation) -> Image {
    if orientation == Orientation::NoTransforms {
        return image;
    }
    let (way, size) = (way(orientation), (image.height, image.width));
    let (height, width) = way.size(size);
    let data = way.apply(&image.data, size);
    Image {
        height,
        width,
        data,
        ..image
    }
}
