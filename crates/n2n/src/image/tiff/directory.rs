//! The container: byte order, directories and the values of their fields, for TIFF and BigTIFF. An Exif block is such a
//! container too. Nothing here knows about pixels.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Seek, SeekFrom, Write};

use super::super::decode::{Decoded, Fault};

/// The byte order of numbers in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::image) enum Order {
    Little,
    Big,
}

impl Order {
    pub(super) const NATIVE: Self = if cfg!(target_endian = "big") {
        Self::Big
    } else {
        Self::Little
    };

    pub(super) fn number(self, bytes: &[u8]) -> u64 {
        let push = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
        match self {
            Self::Little => bytes.iter().rev().fold(0, push),
            Self::Big => bytes.iter().fold(0, push),
        }
    }

    /// The last `N` bytes of a number.
    pub(super) fn bytes<const N: usize>(self, number: u64) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&number.to_be_bytes()[8 - N..]);
        if self == Self::Little {
            bytes.reverse();
        }
        bytes
    }

    /// An offset in a file, in four bytes or, in a BigTIFF, eight.
    pub(super) fn offset(self, value: u64, is_big: bool) -> Vec<u8> {
        if is_big {
            self.bytes::<8>(value).to_vec()
        } else {
            self.bytes::<4>(value).to_vec()
        }
    }
}

/// Reverses every group of `size` bytes, unless both orders are the same.
pub(super) fn swap(bytes: &mut [u8], size: usize, from: Order, to: Order) {
    if from != to && size > 1 {
        bytes.chunks_exact_mut(size).for_each(<[u8]>::reverse);
    }
}

/// The type of a field's values (TIFF 6.0, section 2; BigTIFF).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::image) struct Kind(pub(super) u16);

impl Kind {
    pub(super) const BYTE: Self = Self(1);
    pub(super) const ASCII: Self = Self(2);
    pub(super) const SHORT: Self = Self(3);
    pub(super) const LONG: Self = Self(4);
    pub(super) const RATIONAL: Self = Self(5);
    pub(super) const UNDEFINED: Self = Self(7);
    pub(super) const LONG8: Self = Self(16);

    /// Bytes of a value, and of the numbers it consists of.
    fn size(self) -> Option<(usize, usize)> {
        Some(match self.0 {
            1 | 2 | 6 | 7 => (1, 1),
            3 | 8 => (2, 2),
            4 | 9 | 11 | 13 => (4, 4),
            5 | 10 => (8, 4),
            12 | 16 | 17 | 18 => (8, 8),
            _ => return None,
        })
    }
}

/// A field with its values, in the byte order of this machine.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::image) struct Field {
    pub(super) tag: u16,
    pub(super) kind: Kind,
    pub(super) bytes: Vec<u8>,
}

impl Field {
    pub(super) fn shorts(tag: u16, values: impl IntoIterator<Item = u16>) -> Self {
        let bytes = values.into_iter().flat_map(u16::to_ne_bytes).collect();
        Self {
            tag,
            kind: Kind::SHORT,
            bytes,
        }
    }

    pub(super) fn longs(tag: u16, values: impl IntoIterator<Item = u32>) -> Self {
        let bytes = values.into_iter().flat_map(u32::to_ne_bytes).collect();
        Self {
            tag,
            kind: Kind::LONG,
            bytes,
        }
    }

    /// Offsets and lengths, in as many bytes as the file uses for them.
    pub(super) fn offsets(tag: u16, values: &[u64], is_big: bool) -> Self {
        if is_big {
            let bytes = values.iter().flat_map(|value| value.to_ne_bytes());
            Self {
                tag,
                kind: Kind::LONG8,
                bytes: bytes.collect(),
            }
        } else {
            Self::longs(tag, values.iter().map(|&value| value as u32))
        }
    }

    /// Text and its terminating zero.
    pub(super) fn text(tag: u16, words: &str) -> Self {
        let mut bytes = words.as_bytes().to_vec();
        bytes.push(0);
        Self {
            tag,
            kind: Kind::ASCII,
            bytes,
        }
    }

    /// The text of an ASCII field, up to its terminating zero.
    pub(super) fn words(&self) -> Option<String> {
        let words = self.bytes.split(|&byte| byte == 0).next()?;
        Some(String::from_utf8_lossy(words).into_owned())
    }

    /// The values of a field of unsigned integers.
    pub(super) fn numbers(&self) -> Option<Vec<u64>> {
        let size = match self.kind.0 {
            1 | 7 => 1,
            3 => 2,
            4 | 13 => 4,
            16 | 18 => 8,
            _ => return None,
        };
        let values = self.bytes.chunks_exact(size);
        Some(values.map(|value| Order::NATIVE.number(value)).collect())
    }

    /// The values of a field of any numbers.
    pub(super) fn floats(&self) -> Option<Vec<f64>> {
        fn each<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f64) -> Vec<f64> {
            bytes
                .as_chunks()
                .0
                .iter()
                .map(|&bytes| value(bytes))
                .collect()
        }
        let bytes = &self.bytes;
        let halves = |[a, b, c, d, e, f, g, h]: [u8; 8]| ([a, b, c, d], [e, f, g, h]);
        Some(match self.kind.0 {
            6 => each(bytes, |x| i8::from_ne_bytes(x).into()),
            8 => each(bytes, |x| i16::from_ne_bytes(x).into()),
            9 => each(bytes, |x| i32::from_ne_bytes(x).into()),
            5 => each(bytes, |x| {
                let (n, d) = halves(x);
                f64::from(u32::from_ne_bytes(n)) / f64::from(u32::from_ne_bytes(d))
            }),
            10 => each(bytes, |x| {
                let (n, d) = halves(x);
                f64::from(i32::from_ne_bytes(n)) / f64::from(i32::from_ne_bytes(d))
            }),
            11 => each(bytes, |x| f32::from_ne_bytes(x).into()),
            12 => each(bytes, f64::from_ne_bytes),
            _ => self.numbers()?.into_iter().map(|x| x as f64).collect(),
        })
    }

    /// An entry of a directory, in the byte order of the file, and the values if they do not fit into it: the entry
    /// then lacks their offset.
    pub(super) fn entry(mut self, order: Order, is_big: bool) -> (Vec<u8>, Option<Vec<u8>>) {
        let inline = if is_big { 8 } else { 4 };
        let (size, unit) = self.kind.size().unwrap_or((1, 1));
        let count = (self.bytes.len() / size) as u64;
        swap(&mut self.bytes, unit, Order::NATIVE, order);
        let mut entry = order.bytes::<2>(self.tag.into()).to_vec();
        entry.extend(order.bytes::<2>(self.kind.0.into()));
        entry.extend(order.offset(count, is_big));
        if self.bytes.len() > inline {
            return (entry, Some(self.bytes));
        }
        self.bytes.resize(inline, 0);
        entry.extend(self.bytes);
        (entry, None)
    }

    /// The first value of a field of ratios.
    pub(super) fn ratio(&self) -> Option<f64> {
        let (n, d) = (self.bytes.get(..4)?, self.bytes.get(4..8)?);
        let (n, d) = (Order::NATIVE.number(n), Order::NATIVE.number(d));
        (self.kind == Kind::RATIONAL && d > 0).then(|| n as f64 / d as f64)
    }
}

/// The position of the values of a field.
#[derive(Debug, Clone, Copy)]
struct Entry {
    kind: Kind,
    count: u64,
    at: u64,
}

/// A directory, whose values are read on demand.
#[derive(Debug, Clone, Default)]
pub(super) struct Directory {
    entries: BTreeMap<u16, Entry>,
    /// The offset of the next one; 0 after the last.
    pub(super) next: u64,
}

impl Directory {
    pub(super) fn tags(&self) -> impl Iterator<Item = u16> + '_ {
        self.entries.keys().copied()
    }

    pub(super) fn has(&self, tag: u16) -> bool {
        self.entries.contains_key(&tag)
    }

    /// The end of the directory at an offset, including all values of its fields.
    pub(super) fn reach(&self, at: u64, is_big: bool) -> u64 {
        let (head, entry) = if is_big { (16, 20) } else { (6, 12) };
        let own = at + head + entry * self.entries.len() as u64;
        let values = self.entries.values().map(|entry| {
            let (size, _) = entry.kind.size().unwrap_or((1, 1));
            entry
                .at
                .saturating_add(entry.count.saturating_mul(size as u64))
        });
        values.max().unwrap_or(0).max(own)
    }

    /// The number of values of a field, without reading them.
    pub(super) fn count(&self, tag: u16) -> u64 {
        self.entries.get(&tag).map_or(0, |entry| entry.count)
    }
}

/// A TIFF to read directories from.
pub(super) struct Container<S> {
    pub(super) source: S,
    pub(super) order: Order,
    pub(super) is_big: bool,
    /// Length of the file.
    pub(super) bytes: u64,
    /// The offset of the first directory.
    pub(super) first: u64,
}

impl<S: BufRead + Seek> Container<S> {
    /// Maximum number of bytes of a field: offsets of millions of strips, color profiles, texts.
    const MAX_FIELD: u64 = 64 << 20;

    pub(super) fn open(mut source: S) -> Decoded<Self> {
        let bytes = source.seek(SeekFrom::End(0))?;
        source.rewind()?;
        let mut start = [0; 8];
        source.read_exact(&mut start)?;
        let order = match &start[..2] {
            b"II" => Order::Little,
            b"MM" => Order::Big,
            _ => return Err(Fault::new("it does not start like a TIFF file")),
        };
        let (is_big, first) = match order.number(&start[2..4]) {
            42 => (false, order.number(&start[4..8])),
            43 => {
                let mut first = [0; 8];
                source.read_exact(&mut first)?;
                (true, order.number(&first))
            }
            _ => return Err(Fault::new("it does not start like a TIFF file")),
        };
        Ok(Self {
            source,
            order,
            is_big,
            bytes,
            first,
        })
    }

    /// The directory at an offset.
    pub(super) fn directory(&mut self, at: u64) -> Decoded<Directory> {
        /// As many as there can be tags.
        const MAX_ENTRIES: u64 = 1 << 16;
        let (count_size, entry_size) = if self.is_big { (8, 20) } else { (2, 12) };
        let count = self.read(at, count_size)?;
        let count = self.order.number(&count);
        if count > MAX_ENTRIES {
            return Err(Fault::new(format!(
                "it declares a directory of {count} entries; expected at most {MAX_ENTRIES}"
            )));
        }
        let offset_size = entry_size / 5 * 2;
        let start = at + count_size as u64;
        let length = count as usize * entry_size;
        // Some files end with the last entry: no other directory follows.
        let is_cut = self.bytes.checked_sub(start) == Some(length as u64);
        let bytes = self.read(start, length + if is_cut { 0 } else { offset_size })?;
        let (entries, next) = bytes.split_at(length);
        let mut directory = Directory {
            next: self.order.number(next),
            ..Directory::default()
        };
        let inline = entry_size - 4 - offset_size;
        for (i, entry) in entries.chunks_exact(entry_size).enumerate() {
            let tag = self.order.number(&entry[..2]) as u16;
            let kind = Kind(self.order.number(&entry[2..4]) as u16);
            let count = self.order.number(&entry[4..4 + inline]);
            let Some((size, _)) = kind.size() else {
                continue;
            };
            let value = &entry[4 + inline..];
            let at = if count
                .checked_mul(size as u64)
                .is_some_and(|n| n <= inline as u64)
            {
                start + (i * entry_size + 4 + inline) as u64
            } else {
                self.order.number(value)
            };
            // If a tag occurs twice, the first one counts, as in libtiff.
            let entry = Entry { kind, count, at };
            directory.entries.entry(tag).or_insert(entry);
        }
        Ok(directory)
    }

    /// A field of a directory. One that lies outside the file, or is far too large, is an error.
    pub(super) fn field(&mut self, directory: &Directory, tag: u16) -> Decoded<Option<Field>> {
        let Some(&Entry { kind, count, at }) = directory.entries.get(&tag) else {
            return Ok(None);
        };
        let (size, unit) = kind.size().unwrap_or((1, 1));
        let length = count.checked_mul(size as u64);
        let length = length.filter(|&length| length <= Self::MAX_FIELD && at <= self.bytes);
        let Some(length) = length.filter(|&length| length <= self.bytes - at) else {
            return Err(Fault::new(format!(
                "its tag {tag} declares {count} values, which end beyond the file or take more than \
                 64 MiB"
            )));
        };
        let mut bytes = self.read(at, length as usize)?;
        swap(&mut bytes, unit, self.order, Order::NATIVE);
        Ok(Some(Field { tag, kind, bytes }))
    }

    /// The values of a field of unsigned integers; none if there is no such field.
    pub(super) fn numbers(&mut self, directory: &Directory, tag: u16) -> Decoded<Option<Vec<u64>>> {
        let Some(field) = self.field(directory, tag)? else {
            return Ok(None);
        };
        match field.numbers().filter(|numbers| !numbers.is_empty()) {
            Some(numbers) => Ok(Some(numbers)),
            None => Err(Fault::new(format!(
                "its tag {tag} does not contain a number"
            ))),
        }
    }

    /// The first value of such a field.
    pub(super) fn number(&mut self, directory: &Directory, tag: u16) -> Decoded<Option<u64>> {
        let numbers = self.numbers(directory, tag)?;
        Ok(numbers.and_then(|numbers| numbers.first().copied()))
    }

    /// This many bytes from an offset on.
    pub(super) fn read(&mut self, at: u64, count: usize) -> Decoded<Vec<u8>> {
        if at > self.bytes || count as u64 > self.bytes - at {
            return Err(Fault::new("the file ends before the image does"));
        }
        self.source.seek(SeekFrom::Start(at))?;
        let mut bytes = vec![0; count];
        self.source.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// The error for offsets that do not fit into 32 bits.
pub(super) fn too_large() -> io::Error {
    io::Error::new(
        io::ErrorKind::FileTooLarge,
        "the file would exceed 4 GB, which requires BigTIFF",
    )
}

/// A TIFF being written: data, then directories, each linked to the previous one.
pub(super) struct Output<W> {
    out: W,
    order: Order,
    is_big: bool,
    /// The position at which to write the offset of the next directory.
    link: u64,
    end: u64,
}

impl<W: Write + Seek> Output<W> {
    pub(super) fn new(mut out: W, order: Order, is_big: bool) -> io::Result<Self> {
        let mark: &[u8] = if order == Order::Little { b"II" } else { b"MM" };
        out.write_all(mark)?;
        let (link, end) = if is_big {
            out.write_all(&order.bytes::<2>(43))?;
            out.write_all(&order.bytes::<2>(8))?;
            out.write_all(&[0; 10])?;
            (8, 16)
        } else {
            out.write_all(&order.bytes::<2>(42))?;
            out.write_all(&[0; 4])?;
            (4, 8)
        };
        Ok(Self {
            out,
            order,
            is_big,
            link,
            end,
        })
    }

    pub(super) fn is_big(&self) -> bool {
        self.is_big
    }

    pub(super) fn order(&self) -> Order {
        self.order
    }

    /// Writes bytes as they are and returns their offset, which is even, as the standard requires.
    pub(super) fn data(&mut self, bytes: &[u8]) -> io::Result<u64> {
        if self.end % 2 == 1 {
            self.out.write_all(&[0])?;
            self.end += 1;
        }
        let at = self.end;
        self.out.write_all(bytes)?;
        self.end += bytes.len() as u64;
        if !self.is_big && self.end > u64::from(u32::MAX) {
            return Err(too_large());
        }
        Ok(at)
    }

    /// Writes the next directory of the file.
    pub(super) fn directory(&mut self, fields: Vec<Field>) -> io::Result<()> {
        let at = self.sub_directory(fields)?;
        self.out.seek(SeekFrom::Start(self.link))?;
        self.out.write_all(&self.order.offset(at, self.is_big))?;
        self.out.seek(SeekFrom::Start(self.end))?;
        self.link = self.end - if self.is_big { 8 } else { 4 };
        Ok(())
    }

    /// Writes a directory that is not linked to the others, and returns its offset.
    pub(super) fn sub_directory(&mut self, mut fields: Vec<Field>) -> io::Result<u64> {
        fields.sort_by_key(|field| field.tag);
        let (order, is_big) = (self.order, self.is_big);
        let count = fields.len() as u64;
        let mut entries = if is_big {
            order.bytes::<8>(count).to_vec()
        } else {
            order.bytes::<2>(count).to_vec()
        };
        for field in fields {
            let (entry, value) = field.entry(order, is_big);
            entries.extend(entry);
            if let Some(value) = value {
                let at = self.data(&value)?;
                entries.extend(order.offset(at, is_big));
            }
        }
        entries.extend(order.offset(0, is_big));
        self.data(&entries)
    }
}
