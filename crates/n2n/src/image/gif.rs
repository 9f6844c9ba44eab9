//! GIF: its frames as they are displayed, which are gray if all of them are and no color profile says otherwise.

use std::io::{self, Read};

use weezl::decode::Configuration;
use weezl::{BitOrder, LzwStatus};

use super::decode::{Decode, Decoded, Fault, Limits, Source, check_samples};
use super::frames::{self, Canvas, Disposal, Pixel, Place};
use super::metadata::{self, Metadata};
use super::page::Color;

/// Reads a GIF.
pub(super) fn decoder(source: Box<dyn Source>, limits: Limits) -> Decoded<Box<dyn Decode>> {
    let mut bytes = Vec::new();
    source.take(4 * limits.samples).read_to_end(&mut bytes)?;
    let contents = Contents::of(&bytes)?;
    let (width, height) = contents.size;
    check_samples(limits, height as usize, width as usize, 4)?;
    let mut canvas = Canvas::new(contents.size);
    let found = contents.frames.iter().map(|frame| {
        let place = canvas.clipped(&frame.place);
        Ok(canvas.draw(&place, &frame.pixels(&place, limits)?))
    });
    // A profile for RGB does not fit gray.
    let color = contents.metadata.icc_for(Color::Rgb).map(|_| Color::Rgb);
    frames::decoder(contents.size, found, color, contents.metadata, limits)
}

/// Whether a GIF has more than one frame in the bytes that are read with the default limits.
pub(super) fn is_animation(source: &mut impl Read) -> io::Result<bool> {
    let mut bytes = Vec::new();
    let most = 4 * Limits::default().samples;
    source.take(most).read_to_end(&mut bytes)?;
    Ok(Contents::of(&bytes).is_ok_and(|contents| contents.frames.len() > 1))
}

/// What the blocks of a file contain.
struct Contents<'a> {
    /// Width and height of the logical screen, enlarged to what the first frame covers.
    size: (u32, u32),
    frames: Vec<Frame<'a>>,
    metadata: Metadata,
}

impl<'a> Contents<'a> {
    /// Walks through the blocks without decoding pixels (GIF 89a, section 15 and appendix B).
    fn of(bytes: &'a [u8]) -> Decoded<Self> {
        /// The separators of blocks.
        const EXTENSION: u8 = 0x21;
        const IMAGE: u8 = 0x2C;
        const TRAILER: u8 = 0x3B;
        const NO_TRAILER: &str = "it has no trailer";
        let cut = || Fault::new("the file ends before the image does");
        let (header, mut rest) = bytes.split_first_chunk().ok_or_else(cut)?;
        let &[_, _, _, _, _, _, w0, w1, h0, h1, flags, _, _] = header;
        let mut size = [[w0, w1], [h0, h1]].map(|side| u32::from(u16::from_le_bytes(side)));
        let global = table(&mut rest, flags).ok_or_else(cut)?;
        let (mut frames, mut extensions) = (Vec::new(), Extensions::default());
        let unfinished = loop {
            match rest.split_off_first() {
                Some(&TRAILER) => break None,
                Some(&EXTENSION) => {
                    let label = rest.split_off_first();
                    let (blocks, is_whole) = sub_blocks(&mut rest);
                    if let (Some(&label), true) = (label, is_whole) {
                        extensions.add(label, blocks);
                    }
                }
                Some(&IMAGE) => {
                    let (descriptor, behind) = rest.split_first_chunk().ok_or_else(cut)?;
                    rest = behind;
                    let &[l0, l1, t0, t1, w0, w1, h0, h1, flags] = descriptor;
                    let local = table(&mut rest, flags).ok_or_else(cut)?;
                    let [left, top, width, height] = [[l0, l1], [t0, t1], [w0, w1], [h0, h1]]
                        .map(|side| usize::from(u16::from_le_bytes(side)));
                    let code_size = *rest.split_off_first().ok_or_else(cut)?;
                    let (blocks, is_whole) = sub_blocks(&mut rest);
                    // Missing pixels show when a frame is decoded, but this frame has none.
                    if !is_whole && width * height == 0 {
                        return Err(cut());
                    }
                    let control = extensions.control.take().unwrap_or_default();
                    let disposal = match control[0] >> 2 & 7 {
                        2 => Disposal::Clear,
                        3 => Disposal::Restore,
                        _ => Disposal::Keep,
                    };
                    if frames.is_empty() {
                        size[0] = size[0].max((left + width) as u32);
                        size[1] = size[1].max((top + height) as u32);
                    }
                    frames.push(Frame {
                        place: Place {
                            left,
                            top,
                            width,
                            height,
                            blends: true,
                            disposal,
                        },
                        is_interlaced: flags & 0x40 != 0,
                        colors: if local.is_empty() { global } else { local },
                        transparent: (control[0] & 1 != 0).then_some(control[3]),
                        code_size,
                        blocks,
                    });
                }
                Some(_) => break Some("it contains a block of an unknown kind"),
                None => break Some(NO_TRAILER),
            }
        };
        let mut metadata = extensions.metadata();
        match unfinished {
            Some(NO_TRAILER) if frames.is_empty() => return Err(cut()),
            Some(reason) if frames.is_empty() => return Err(Fault::new(reason)),
            Some(reason) => {
                let note = format!("frames may be missing at its end: {reason}");
                metadata.notes.push(note);
            }
            None => {}
        }
        Ok(Self {
            size: size.into(),
            frames,
            metadata,
        })
    }
}

/// The color table before `rest`, if `flags` say that there is one; `None` if the file ends within it.
fn table<'a>(rest: &mut &'a [u8], flags: u8) -> Option<&'a [[u8; 3]]> {
    if flags & 0x80 == 0 {
        return Some(&[]);
    }
    let bytes = rest.split_off(..3 << ((flags & 7) + 1))?;
    Some(bytes.as_chunks().0)
}

/// The sub-blocks before `rest`, their lengths included, and whether the file does not end within them.
fn sub_blocks<'a>(rest: &mut &'a [u8]) -> (&'a [u8], bool) {
    let mut end = 0;
    let is_whole = loop {
        let Some(&length) = rest.get(end) else {
            break false;
        };
        end += 1 + usize::from(length);
        if length == 0 {
            break true;
        }
    };
    let (blocks, behind) = rest.split_at(end.min(rest.len()));
    *rest = behind;
    (blocks, is_whole)
}

/// The content of sub-blocks.
fn joined(mut blocks: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    while let Some(&length) = blocks.split_off_first() {
        let (block, behind) = blocks.split_at(usize::from(length).min(blocks.len()));
        content.extend_from_slice(block);
        blocks = behind;
    }
    content
}

/// What the extensions say.
#[derive(Default)]
struct Extensions {
    /// Flags, two bytes of time, and the transparent index of the next frame.
    control: Option<[u8; 4]>,
    comments: Vec<Vec<u8>>,
    icc: Option<Vec<u8>>,
    xmp: Option<Vec<u8>>,
    has_others: bool,
}

impl Extensions {
    fn add(&mut self, label: u8, blocks: &[u8]) {
        /// The labels of extensions.
        const CONTROL: u8 = 0xF9;
        const COMMENT: u8 = 0xFE;
        const APPLICATION: u8 = 0xFF;
        match label {
            CONTROL => match joined(blocks).try_into() {
                Ok(control) => self.control = Some(control),
                Err(_) => self.has_others = true,
            },
            COMMENT => self.comments.push(joined(blocks)),
            APPLICATION => self.add_application(blocks),
            _ => self.has_others = true,
        }
    }

    /// An application's data follow its name, which is a sub-block.
    fn add_application(&mut self, blocks: &[u8]) {
        let of = |name: &[u8; 12]| blocks.strip_prefix(name);
        if let Some(data) = of(b"\x0BICCRGBG1012") {
            self.icc = Some(joined(data)).filter(|icc| !icc.is_empty());
        } else if let Some(data) = of(b"\x0BXMP DataXMP") {
            // XMP is not cut into sub-blocks. It ends with bytes that lead a reader that expects sub-blocks to its end:
            // 1, all from 255 down to 0, and a terminator (XMP specification, part 3, section 1.1.2).
            let end = data.len().saturating_sub(258);
            self.xmp = Some(if data[end..].starts_with(&[1, 255, 254]) {
                data[..end].to_vec()
            } else {
                joined(data)
            });
        } else if of(b"\x0BNETSCAPE2.0").or(of(b"\x0BANIMEXTS1.0")).is_none() {
            self.has_others = true;
        }
    }

    fn metadata(self) -> Metadata {
        let mut notes = Vec::new();
        let xmp = self.xmp.map(String::from_utf8);
        if let Some(Err(_)) = xmp {
            notes.push("dropped: XMP, which is not UTF-8".into());
        }
        if self.has_others {
            notes.push(
                "dropped: extensions that are neither comments, XMP nor color profiles".into(),
            );
        }
        Metadata {
            icc: self.icc,
            xmp: xmp.and_then(Result::ok),
            description: metadata::text(&self.comments),
            notes,
            ..Metadata::default()
        }
    }
}

/// A frame that has not been decoded.
struct Frame<'a> {
    /// It may lie outside the image, and may be empty.
    place: Place,
    is_interlaced: bool,
    /// The colors of the indices.
    colors: &'a [[u8; 3]],
    /// The index that stands for what is below the frame.
    transparent: Option<u8>,
    /// Bits of an index in the compressed data.
    code_size: u8,
    /// The compressed indices, as sub-blocks.
    blocks: &'a [u8],
}

impl Frame<'_> {
    /// The pixels of `place`, the part of the frame that is inside the image.
    fn pixels(&self, place: &Place, limits: Limits) -> Decoded<Vec<Pixel<u8>>> {
        let (width, height) = (self.place.width.max(1), self.place.height);
        check_samples(limits, height.max(1), width, 4)?;
        if self.colors.is_empty() {
            return Err(Fault::new("one of its frames has no color table"));
        }
        let indices = self.indices()?;
        let mut rows: Vec<&[u8]> = indices.chunks_exact(width).collect();
        if self.is_interlaced {
            // The rows are stored in four passes (GIF 89a, appendix E).
            let passes = [(0, 8), (4, 8), (2, 4), (1, 2)].into_iter();
            let order = passes.flat_map(|(start, step)| (start..height).step_by(step));
            let mut sorted = rows.clone();
            for (row, at) in rows.into_iter().zip(order) {
                sorted[at] = row;
            }
            rows = sorted;
        }
        let color = |&index: &u8| {
            if self.transparent == Some(index) {
                return [0; 4];
            }
            // Black beyond the table, as in other programs.
            let [r, g, b] = self
                .colors
                .get(usize::from(index))
                .copied()
                .unwrap_or_default();
            [r, g, b, u8::MAX]
        };
        let rows = rows.into_iter().take(place.height);
        Ok(rows
            .flat_map(|row| row[..place.width].iter().map(color))
            .collect())
    }

    /// The indices of its pixels, in the order of the file.
    fn indices(&self) -> Decoded<Vec<u8>> {
        // Some encoders write more than the 8 bits that an index needs; codes grow to 12 bits.
        if !(1..=11).contains(&self.code_size) {
            return Err(Fault::new(format!(
                "the indices of one of its frames have {} bits; expected 1 to 11",
                self.code_size
            )));
        }
        let mut decoder = Configuration::new(BitOrder::Lsb, self.code_size)
            .with_yield_on_full_buffer(true)
            .build();
        let packed = joined(self.blocks);
        let mut indices = vec![0; self.place.width * self.place.height];
        let (mut read, mut written) = (0, 0);
        // What follows the last pixel may be anything.
        while written < indices.len() {
            let result = decoder.decode_bytes(&packed[read..], &mut indices[written..]);
            read += result.consumed_in;
            written += result.consumed_out;
            if written < indices.len() && !matches!(result.status?, LzwStatus::Ok) {
                return Err(Fault::new("one of its frames ends before its last pixel"));
            }
        }
        Ok(indices)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::path::Path;

    use super::super::{Encoding, Format, Page, Pages, Reader, write_pages};
    use super::*;

    const BLACK: [u8; 3] = [0; 3];
    const RED: [u8; 3] = [255, 0, 0];
    const WHITE: [u8; 3] = [255; 3];

    /// A file with these blocks, whose global colors are white and red.
    fn gif([width, height]: [u8; 2], blocks: &[&[u8]]) -> Vec<u8> {
        let header = [width, 0, height, 0, 0x80, 0, 0];
        [b"GIF89a", header.as_slice(), &WHITE, &RED, &blocks.concat()].concat()
    }

    /// A frame of indices below 4, in codes of three bits: 4 clears the table, so that codes do not grow, and 5 ends.
    fn frame([left, top, width, height]: [u8; 4], flags: u8, indices: &[u8]) -> Vec<u8> {
        let pairs = indices.chunks(2).flat_map(|pair| [&[4], pair].concat());
        packed([left, top, width, height], flags, pairs.chain([5]))
    }

    fn packed(
        [left, top, width, height]: [u8; 4],
        flags: u8,
        codes: impl Iterator<Item = u8>,
    ) -> Vec<u8> {
        let bits: Vec<u8> = codes
            .flat_map(|code| [0, 1, 2].map(|bit| code >> bit & 1))
            .collect();
        let byte = |bits: &[u8]| bits.iter().rev().fold(0, |byte, bit| byte << 1 | bit);
        let bytes: Vec<u8> = bits.chunks(8).map(byte).collect();
        let head = [b',', left, 0, top, 0, width, 0, height, 0, flags, 2];
        [&head, [bytes.len() as u8].as_slice(), &bytes, &[0]].concat()
    }

    /// An extension with the flags of the next frame, whose transparent index is 1.
    fn control(flags: u8) -> [u8; 8] {
        [b'!', 0xF9, 4, flags, 0, 0, 1, 0]
    }

    fn open(bytes: Vec<u8>) -> crate::Result<Reader> {
        let limits = Limits {
            pixels: 1 << 16,
            samples: 1 << 18,
        };
        Reader::from_bytes(Path::new("a.gif"), bytes, limits)
    }

    /// Every page and its samples.
    fn pages(bytes: Vec<u8>) -> Vec<(Page, Vec<u8>)> {
        let mut reader = open(bytes).unwrap();
        let mut pages = vec![];
        while let Some(page) = reader.next_page().unwrap() {
            let mut rows = vec![];
            reader.read_rows(page.height, &mut rows).unwrap();
            pages.push((
                page,
                rows.iter().map(|x| (255.0 * x).round() as u8).collect(),
            ));
        }
        pages
    }

    /// The samples of the only page, of three channels.
    fn colors(bytes: Vec<u8>) -> Vec<[u8; 3]> {
        let pages = pages(bytes);
        assert_eq!(pages.len(), 1);
        let (page, samples) = &pages[0];
        assert_eq!((page.color, page.extra), (Color::Rgb, 0));
        samples.as_chunks().0.to_vec()
    }

    fn error(bytes: Vec<u8>) -> String {
        open(bytes).err().unwrap().to_string()
    }

    #[test]
    fn color_profile_and_xmp_are_kept_where_they_can_be() {
        const XMP: &[u8] = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>\xC3\xB6</x:xmpmeta>";
        let mut profile = [7; 300];
        profile[16..20].copy_from_slice(b"RGB ");
        let mut icc = b"!\xFF\x0BICCRGBG1012\xFF".to_vec();
        icc.extend([&profile[..255], &[45], &profile[255..], &[0]].concat());
        let ramp: Vec<u8> = [1].into_iter().chain((0..=255).rev()).chain([0]).collect();
        let xmp = [b"!\xFF\x0BXMP DataXMP", XMP, &ramp].concat();
        for count in [1, 2] {
            let frames = frame([0, 0, 1, 1], 0, &[1]).repeat(count);
            let bytes = gif([1, 1], &[&icc, &xmp, &frames, b";"]);
            let found = pages(bytes.clone());
            for (page, _) in &found {
                assert_eq!(page.metadata.icc.as_deref(), Some(profile.as_slice()));
            }
            let first = &found[0].0.metadata;
            assert_eq!(first.xmp.as_deref().map(str::as_bytes), Some(XMP));
            let copy = |format| {
                let mut out = Cursor::new(vec![]);
                let mut reader = open(bytes.clone()).unwrap();
                write_pages(
                    &mut reader,
                    Encoding::new(format),
                    Path::new("copy"),
                    &mut out,
                )
                .unwrap();
                out.into_inner()
            };
            assert_eq!(found.len(), count);
            let formats: &[Format] = match count {
                1 => &[Format::Png, Format::Jpeg, Format::Tiff],
                _ => &[Format::Tiff],
            };
            for &format in formats {
                let copy = copy(format);
                let has = |what: &[u8]| copy.windows(what.len()).any(|found| found == what);
                assert!(has(XMP), "{format:?}");
                assert_eq!(pages(copy.clone())[0].0.metadata.icc, first.icc);
                let notes = first.notes_for(format);
                assert_eq!(notes.len(), count - 1, "{notes:?}");
            }
            let said = first.notes_for(Format::WebP).join(" ");
            assert!(said.contains("dropped: XMP"), "{said}");
            let said = first.notes_for(Format::Bmp).join(" ");
            assert!(
                said.contains("dropped: the color profile and XMP"),
                "{said}"
            );
        }
    }

    #[test]
    fn gray_frames_with_a_profile_for_rgb_are_rgb() {
        let white = frame([0, 0, 1, 1], 0, &[0]);
        for (kind, color, notes) in [
            (b"RGB ", Color::Rgb, 0),
            (b"GRAY", Color::Gray, 0),
            (b"CMYK", Color::Gray, 1),
        ] {
            let icc = [b"!\xFF\x0BICCRGBG1012\x14", [0; 16].as_slice(), kind, &[0]].concat();
            let (page, _) = pages(gif([1, 1], &[&icc, &white, b";"])).remove(0);
            assert_eq!((page.color, page.metadata.notes.len()), (color, notes));
        }
    }

    #[test]
    fn other_extensions_are_dropped_with_a_note() {
        let red = frame([0, 0, 1, 1], 0, &[1]);
        for (extension, count) in [
            (b"!\xFF\x0BNETSCAPE2.0\x03\x01\0\0\0".as_slice(), 0),
            (b"!\xFF\x0BMGK8BIM0000\x01a\0", 1),
            (b"!\x2A\x05Hello\0", 1),
        ] {
            let found = pages(gif([1, 1], &[extension, &red, b";"]));
            assert_eq!(found[0].1, RED);
            assert_eq!(found[0].0.metadata.notes.len(), count, "{extension:?}");
        }
    }

    #[test]
    fn a_control_extension_of_another_length_is_dropped_with_a_note() {
        let red = frame([0, 0, 1, 1], 0, &[1]);
        for control in [
            b"!\xF9\0".as_slice(),
            b"!\xF9\x01\x01\0",
            b"!\xF9\x05\x01\0\0\x01\0\0",
        ] {
            let found = pages(gif([1, 1], &[&red, control, &red, b";"]));
            assert_eq!(found.len(), 2);
            assert!(
                found
                    .iter()
                    .all(|(page, samples)| page.extra == 0 && *samples == RED)
            );
            let notes = found[0].0.metadata.notes.join(" ");
            assert!(notes.contains("extensions that are neither"), "{notes}");
        }
    }

    #[test]
    fn an_index_beyond_the_table_is_black_unless_it_is_the_transparent_one() {
        let indices = frame([0, 0, 4, 1], 0, &[0, 1, 2, 3]);
        let found = colors(gif([4, 1], &[&indices, b";"]));
        assert_eq!(found, [WHITE, RED, BLACK, BLACK]);
        let transparent = [b'!', 0xF9, 4, 1, 0, 0, 3, 0];
        let found = pages(gif([4, 1], &[&transparent, &indices, b";"]));
        let pixels = [
            [255, 255, 255, 255],
            [255, 0, 0, 255],
            [0, 0, 0, 255],
            [0; 4],
        ];
        assert_eq!(found[0].1, pixels.concat());
    }

    #[test]
    fn the_first_frame_enlarges_the_image_and_others_are_cut_off() {
        // In the two columns at the right, red in the first row and white in the second.
        let first = frame([1, 0, 2, 2], 0, &[1, 1, 0, 0]);
        let second = frame([2, 1, 9, 2], 0, &[1; 18]);
        let outside = frame([200, 200, 2, 2], 0, &[1; 4]);
        let found = pages(gif([1, 1], &[&first, &second, &outside, b";"]));
        let (none, white, red) = ([0; 4], [255; 4], [255, 0, 0, 255]);
        let before = [none, red, red, none, white, white].concat();
        let after = [none, red, red, none, white, red].concat();
        for ((page, samples), want) in found.iter().zip([&before, &after, &after]) {
            assert_eq!((page.width, page.height, page.extra), (3, 2, 1));
            assert_eq!(samples, want);
        }
        assert_eq!(found.len(), 3);
        // The limits hold for what a frame enlarges, and for one of which nothing is seen.
        let mut large = frame([0, 0, 1, 1], 0, &[1]);
        large[5..9].fill(0xFF);
        let said = error(gif([1, 1], &[&large, b";"]));
        assert!(said.contains("it declares 65535x65535 pixels"), "{said}");
        let said = error(gif([1, 1], &[&first, &large, b";"]));
        assert!(said.contains("it declares 65535x65535 pixels"), "{said}");
    }

    #[test]
    fn frames_without_pixels_draw_nothing() {
        let red = frame([0, 0, 1, 1], 0, &[1]);
        for empty in [[0, 0, 0, 0], [0, 0, 0, 1], [5, 5, 1, 0]] {
            let empty = frame(empty, 0x40, &[]);
            let found = pages(gif([1, 1], &[&red, &empty, b";"]));
            let samples: Vec<&[u8]> = found
                .iter()
                .map(|(_, samples)| samples.as_slice())
                .collect();
            assert_eq!(samples, [RED, RED]);
        }
        assert!(error(gif([1, 1], &[b";"])).contains("it has no frame"));
        let empty = frame([0; 4], 0, &[]);
        let said = error(gif([1, 1], &[&empty[..empty.len() - 1]]));
        assert!(
            said.contains("the file ends before the image does"),
            "{said}"
        );
        let said = error(gif([0, 1], &[&frame([0, 0, 0, 1], 0, &[]), b";"]));
        assert!(said.contains("it declares 0x1 pixels"), "{said}");
    }

    #[test]
    fn interlaced_rows_are_put_in_order() {
        // The first pass has row 0, the second row 4, the third row 2, the fourth rows 1 and 3.
        let rows = frame([0, 0, 1, 5], 0x40, &[0, 1, 2, 3, 1]);
        let found = colors(gif([1, 5], &[&rows, b";"]));
        assert_eq!(found, [WHITE, BLACK, BLACK, RED, RED]);
    }

    #[test]
    fn transparent_pixels_show_what_the_frames_before_left() {
        let (both, left) = ([0, 0, 2, 1], [0, 0, 1, 1]);
        // The second frame is black at the left.
        for (disposal, last) in [
            (0, [0, 255].as_slice()),
            (1, &[0, 255]),
            (2, &[0, 0, 255, 255]),
            (3, &[255, 255]),
            (7, &[0, 255]),
        ] {
            let found = pages(gif(
                [2, 1],
                &[
                    &frame(both, 0, &[0, 0]),
                    &control(disposal << 2),
                    &frame(left, 0, &[3]),
                    &control(1),
                    &frame(both, 0, &[1, 1]),
                    b";",
                ],
            ));
            let (page, samples) = &found[2];
            assert_eq!(page.extra, usize::from(disposal == 2));
            assert_eq!(samples, last, "disposal {disposal}");
        }
    }

    #[test]
    fn whole_frames_are_read_whatever_follows_them() {
        let red = frame([0, 0, 1, 1], 0, &[1]);
        let no_trailer = "frames may be missing at its end: it has no trailer";
        let unknown = "frames may be missing at its end: it contains a block of an unknown kind";
        for (end, note) in [
            (b";".as_slice(), None),
            (b";\0\0", None),
            (b"", Some(no_trailer)),
            (&control(0), Some(no_trailer)),
            (&control(0)[..5], Some(no_trailer)),
            (b"!", Some(no_trailer)),
            (b"\0;", Some(unknown)),
            (b"GIF89a", Some(unknown)),
        ] {
            let found = pages(gif([1, 1], &[&red, end]));
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].1, RED);
            assert_eq!(found[0].0.metadata.notes, Vec::from_iter(note), "{end:?}");
        }
        // Without the terminator of its pixels, and without the code that ends them.
        let cut = &red[..red.len() - 1];
        assert_eq!(colors(gif([1, 1], &[cut])), [RED]);
        // 7 is a code that the table does not have yet.
        let bad = packed([0, 0, 1, 1], 0, [4, 1, 7, 7].into_iter());
        assert_eq!(colors(gif([1, 1], &[&bad, b";"])), [RED]);
    }

    #[test]
    fn frames_that_are_not_whole_are_refused() {
        let red = frame([0, 0, 4, 1], 0, &[1; 4]);
        let ends = "the file ends before the image does";
        for (frames, reason) in [
            (&red[..5], ends),
            (&red[..10], ends),
            (&red[..13], "one of its frames ends before its last pixel"),
            (b"", ends),
            (b"!", ends),
            (b"\0", "it contains a block of an unknown kind"),
        ] {
            let said = error(gif([4, 1], &[frames]));
            assert!(said.contains(reason), "{said}");
            if frames.first() == Some(&b',') {
                let said = error(gif([4, 1], &[&red, frames]));
                assert!(said.contains(reason), "{said}");
            }
        }
        let missing = frame([0, 0, 4, 1], 0, &[1; 3]);
        let bad = packed([0, 0, 4, 1], 0, [4, 1, 7, 7].into_iter());
        let mut wide = red.clone();
        wide[10] = 12;
        for (frame, reason) in [
            (&missing, "one of its frames ends before its last pixel"),
            (&bad, "invalid code"),
            (&wide, "have 12 bits; expected 1 to 11"),
        ] {
            let said = error(gif([4, 1], &[frame, b";"]));
            assert!(said.contains(reason), "{said}");
        }
        let mut colorless = gif([4, 1], &[]);
        colorless.truncate(13);
        colorless[10] = 0;
        let said = error([colorless.as_slice(), &red, b";"].concat());
        assert!(
            said.contains("one of its frames has no color table"),
            "{said}"
        );
    }
}
