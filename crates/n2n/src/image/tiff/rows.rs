//! The rows of a page, from its strips or tiles.

use std::io::{BufRead, Seek};

use super::super::decode::{Decoded, Fault};
use super::super::{jpeg2000, ljpeg};
use super::codec::{Expected, compression, is_jpeg_2000, reverse_bits, unsupported};
use super::directory::Container;
use super::layout::Layout;
use super::unpack::{to_rgb, upsampled};

/// The rows of a page, from the top.
pub(super) struct Rows {
    layout: Layout,
    /// The index of the frame, if there are several.
    frame: u64,
    /// The next row, decoded or read.
    next: usize,
    /// Decoded rows, and how many bytes of them have been read.
    ready: Vec<u8>,
    read: usize,
}

impl Rows {
    pub(super) fn new(layout: Layout) -> Self {
        Self {
            layout,
            frame: 0,
            next: 0,
            ready: Vec::new(),
            read: 0,
        }
    }

    /// Sets the number of frames stored where the directory places one, if they are there.
    pub(super) fn set_frames(&mut self, frames: u64, file_bytes: u64) -> Decoded<()> {
        self.layout.set_frames(frames, file_bytes)
    }

    /// Advances to the next of several frames, if there is one.
    pub(super) fn next_frame(&mut self) -> bool {
        if self.frame + 1 >= self.layout.frames {
            return false;
        }
        (self.frame, self.next, self.read) = (self.frame + 1, 0, 0);
        self.ready.clear();
        true
    }

    /// Appends the next `count` rows as pages return them.
    pub(super) fn read_rows<S: BufRead + Seek>(
        &mut self,
        file: &mut Container<S>,
        count: usize,
        values: &mut Vec<f32>,
    ) -> Decoded<()> {
        let (sample, nodata) = (self.layout.sample, self.layout.nodata);
        values.reserve(count * self.layout.row_len());
        self.each(file, count, |bytes| sample.append(bytes, nodata, values))
    }

    /// Appends the next `count` rows in their own units.
    pub(super) fn read_wide<S: BufRead + Seek>(
        &mut self,
        file: &mut Container<S>,
        count: usize,
        values: &mut Vec<f64>,
    ) -> Decoded<()> {
        let sample = self.layout.sample;
        self.each(file, count, |bytes| sample.append_wide(bytes, values))
    }

    /// Passes on the samples of the next `count` rows, in native byte order.
    fn each<S: BufRead + Seek>(
        &mut self,
        file: &mut Container<S>,
        count: usize,
        mut give: impl FnMut(&[u8]),
    ) -> Decoded<()> {
        let row = self.layout.row_len() * self.layout.sample.bytes();
        let mut wanted = count * row;
        while wanted > 0 {
            if self.read == self.ready.len() {
                self.read = 0;
                self.ready.clear();
                if self.layout.is_raw() {
                    self.read_row(file)?;
                } else {
                    self.decode_chunks(file)?;
                }
            }
            let ready = &self.ready[self.read..];
            let now = wanted.min(ready.len());
            give(&ready[..now]);
            self.read += now;
            wanted -= now;
        }
        Ok(())
    }

    /// Reads the next row straight from the file.
    fn read_row<S: BufRead + Seek>(&mut self, file: &mut Container<S>) -> Decoded<()> {
        let layout = &self.layout;
        let (strip, below) = (self.next / layout.chunk.1, self.next % layout.chunk.1);
        let row = (layout.width * layout.samples * usize::from(layout.bits)).div_ceil(8);
        let frame = self.frame.checked_mul(layout.frame_bytes);
        let place = layout
            .offsets
            .get(strip)
            .zip(frame)
            .and_then(|(at, frame)| at.checked_add((below * row) as u64)?.checked_add(frame));
        let place =
            place.ok_or_else(|| Fault::new("one of its strips has no position in the file"))?;
        let mut bytes = if layout.offsets[strip] == 0 && layout.lengths[strip] == 0 {
            vec![]
        } else {
            file.read(place, row)?
        };
        if layout.codec.reversed {
            reverse_bits(&mut bytes);
        }
        if bytes.is_empty() {
            layout.fill(layout.width * layout.samples, &mut self.ready);
        } else {
            layout.unpack(
                &mut bytes,
                (layout.width, 1, layout.samples),
                &mut self.ready,
            );
        }
        if let Some(color) = layout.expanded(&self.ready) {
            self.ready = color?;
        }
        self.next += 1;
        Ok(())
    }

    /// Decodes the next row of strips or tiles.
    fn decode_chunks<S: BufRead + Seek>(&mut self, file: &mut Container<S>) -> Decoded<()> {
        let layout = &self.layout;
        let (across, down) = layout.chunk;
        let first = self.next / down;
        let height = down.min(layout.height - self.next);
        let planes = if layout.planar { layout.samples } else { 1 };
        let per_pixel = layout.samples / planes;
        let size = layout.sample_bytes();
        let mut ready = vec![0; height * layout.width * layout.samples * size];
        let mut samples = Vec::new();
        for plane in 0..planes {
            for column in 0..layout.across {
                let of_plane = layout.across * layout.height.div_ceil(down);
                let at = plane * of_plane + first * layout.across + column;
                // A strip holds no more rows than there are.
                let rows = if layout.is_tiled { down } else { height };
                samples.clear();
                layout.decode_chunk(file, at, (across, rows, per_pixel), &mut samples)?;
                let left = column * across;
                let width = across.min(layout.width - left);
                for y in 0..height {
                    let from =
                        &samples[y * across * per_pixel * size..][..width * per_pixel * size];
                    let to = (y * layout.width + left) * layout.samples * size;
                    if planes == 1 {
                        ready[to..to + from.len()].copy_from_slice(from);
                    } else {
                        let to = ready[to + plane * size..].chunks_mut(layout.samples * size);
                        for (to, from) in to.zip(from.chunks_exact(size)) {
                            to[..size].copy_from_slice(from);
                        }
                    }
                }
            }
        }
        if layout.chroma.is_some() {
            ready.as_chunks_mut().0.iter_mut().for_each(to_rgb);
        }
        self.ready = match layout.expanded(&ready) {
            Some(colors) => colors?,
            None => ready,
        };
        self.next += height;
        Ok(())
    }
}

impl Layout {
    /// The samples of a strip or tile of this width and height, with this many samples per pixel.
    fn decode_chunk<S: BufRead + Seek>(
        &self,
        file: &mut Container<S>,
        at: usize,
        size @ (width, height, samples): (usize, usize, usize),
        out: &mut Vec<u8>,
    ) -> Decoded<()> {
        let (Some(&place), Some(&length)) = (self.offsets.get(at), self.lengths.get(at)) else {
            return Err(Fault::new(
                "one of its strips or tiles has no position in the file",
            ));
        };
        if place == 0 && length == 0 {
            self.fill(width * height * samples, out);
            return Ok(());
        }
        let (h, v) = self.chroma.unwrap_or((1, 1));
        let subsampled = (h, v) != (1, 1);
        let bytes = if subsampled {
            width.div_ceil(h) * height.div_ceil(v) * (h * v + 2)
        } else {
            (width * samples * usize::from(self.bits)).div_ceil(8) * height
        };
        let length = if self.codec.compression == compression::NONE {
            bytes as u64
        } else if place <= file.bytes && length > file.bytes - place {
            return Err(Fault::new("the file ends before the image does"));
        } else {
            length
        };
        let packed = file.read(place, usize::try_from(length).unwrap_or(usize::MAX))?;
        let expected = Expected {
            width,
            height,
            samples,
            bytes,
        };
        if self.codec.compression == compression::JPEG {
            if ljpeg::is_lossless(&packed) {
                return self.lossless(&packed, expected, out);
            }
            check_jpeg(self.bits)?;
        }
        if is_jpeg_2000(self.codec.compression) {
            return self.jpeg_2000(&packed, expected, out);
        }
        let mut bytes = self.codec.decode(packed, expected)?;
        if subsampled {
            bytes = upsampled(&bytes, (width, height), (h, v));
        }
        self.unpack(&mut bytes, size, out);
        Ok(())
    }

    /// The samples of a lossless JPEG, which are decoded to numbers.
    fn lossless(&self, packed: &[u8], expected: Expected, out: &mut Vec<u8>) -> Decoded<()> {
        let Expected {
            width,
            height,
            samples,
            ..
        } = expected;
        let decoded = ljpeg::decode(packed, self.most_samples(expected))?;
        let (row, given) = (width * samples, decoded.width * decoded.components);
        let is_rows = given >= row && decoded.height >= height;
        // Columns are often shared out among components, and rows are put side by side.
        let is_all = decoded.samples.len() == row * height;
        if !is_rows && !is_all {
            return Err(Fault::new(format!(
                "its lossless JPEG data is {}x{} with {} components; expected {width}x{height} with \
                 {samples}",
                decoded.width, decoded.height, decoded.components
            )));
        }
        let rows = decoded
            .samples
            .chunks_exact(if is_all { row } else { given });
        self.append_numbers(rows.take(height).map(|given| &given[..row]), out)
    }

    /// The samples of a JPEG 2000 codestream, which are decoded to numbers.
    fn jpeg_2000(&self, packed: &[u8], expected: Expected, out: &mut Vec<u8>) -> Decoded<()> {
        let Expected {
            width,
            height,
            samples,
            ..
        } = expected;
        let tile = jpeg2000::tile(packed, self.bits, self.most_samples(expected))?;
        if tile.width < width || tile.height < height || tile.components != samples {
            return Err(Fault::new(format!(
                "one of its JPEG 2000 tiles is {}x{} with {} components; expected {width}x{height} with \
                 {samples}",
                tile.width, tile.height, tile.components
            )));
        }
        let rows = tile.samples.chunks_exact(tile.width * samples);
        self.append_numbers(rows.take(height).map(|row| &row[..width * samples]), out)
    }

    /// Maximum number of samples that the data of a strip or tile may declare: more than there should be, because
    /// encoders may pad rows and columns, but within the limits.
    fn most_samples(&self, expected: Expected) -> usize {
        let [width, height, samples] =
            [expected.width, expected.height, expected.samples].map(|count| count as u64);
        let padded = 2 * (width + 64) * (height + 64) * samples;
        usize::try_from(padded.min(self.limits.samples)).unwrap_or(usize::MAX)
    }

    /// Appends samples that a codec returned as numbers.
    fn append_numbers<'a>(
        &self,
        rows: impl Iterator<Item = &'a [u16]>,
        out: &mut Vec<u8>,
    ) -> Decoded<()> {
        let start = out.len();
        for row in rows {
            match self.sample_bytes() {
                1 => out.extend(row.iter().map(|&sample| self.in_byte(sample.into()))),
                2 => out.extend(row.iter().flat_map(|sample| sample.to_ne_bytes())),
                _ => {
                    return Err(Fault::new(
                        "its samples are wider than those its compression stores",
                    ));
                }
            }
        }
        if self.white_is_zero {
            out[start..].iter_mut().for_each(|byte| *byte = !*byte);
        }
        Ok(())
    }
}

/// Rejects lossy JPEG with a depth other than 8 bits.
fn check_jpeg(bits: u16) -> Decoded<()> {
    if bits == 8 {
        return Ok(());
    }
    Err(unsupported(&format!("JPEG with {bits} bits per sample")))
}
