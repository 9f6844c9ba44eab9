//! GIF: its frames, which are gray if all of them are.

use std::io::{self, Cursor, Read};

use ::image::codecs::gif::GifDecoder;
use ::image::{AnimationDecoder, ImageDecoder};

use super::decode::{Decode, Decoded, Limits, Source};
use super::frames;
use super::metadata::{self, Metadata};

/// Reads a GIF.
pub(super) fn decoder(source: Box<dyn Source>, limits: Limits) -> Decoded<Box<dyn Decode>> {
    let mut bytes = Vec::new();
    source.take(4 * limits.samples).read_to_end(&mut bytes)?;
    let metadata = Metadata {
        description: Contents::of(&bytes).comments,
        ..Metadata::default()
    };
    let mut decoder = GifDecoder::new(Cursor::new(bytes))?;
    let size = decoder.dimensions();
    decoder.set_limits(frames::check(limits, size)?)?;
    let found = decoder.into_frames().map(|frame| {
        let bytes = frame?.into_buffer().into_raw();
        Ok(bytes.as_chunks().0.to_vec())
    });
    frames::decoder::<u8>(size, found, None, metadata, limits)
}

/// Whether a GIF has more than one frame.
pub(super) fn is_animation(source: &mut impl Read) -> io::Result<bool> {
    let mut bytes = Vec::new();
    source.read_to_end(&mut bytes)?;
    Ok(Contents::of(&bytes).frames > 1)
}

/// What the blocks of a file contain.
struct Contents {
    comments: Option<String>,
    frames: usize,
}

impl Contents {
    /// Walks through the blocks without decoding them (GIF 89a, section 15 and appendix B).
    fn of(bytes: &[u8]) -> Self {
        /// The separators of blocks, and the label of a comment.
        const EXTENSION: u8 = 0x21;
        const COMMENT: u8 = 0xFE;
        const IMAGE: u8 = 0x2C;
        let table = |flags: u8| {
            if flags & 0x80 == 0 {
                0
            } else {
                3 << ((flags & 7) + 1)
            }
        };
        let flags = bytes.get(10).copied().unwrap_or(0);
        let mut at = 13 + table(flags);
        let (mut comments, mut frames) = (Vec::new(), 0);
        loop {
            let is_comment = matches!(bytes.get(at..), Some([EXTENSION, COMMENT, ..]));
            at += match bytes.get(at..) {
                Some([EXTENSION, _, ..]) => 2,
                // Place, size and flags, a table, and the size of a code.
                Some([IMAGE, _, _, _, _, _, _, _, _, flags, ..]) => {
                    frames += 1;
                    10 + table(*flags) + 1
                }
                _ => break,
            };
            let mut content = Vec::new();
            while let Some(&length) = bytes.get(at) {
                let end = at + 1 + usize::from(length);
                if is_comment {
                    content.extend_from_slice(bytes.get(at + 1..end).unwrap_or_default());
                }
                at = end;
                if length == 0 {
                    break;
                }
            }
            if is_comment {
                comments.push(content);
            }
        }
        Self {
            comments: metadata::text(&comments),
            frames,
        }
    }
}
