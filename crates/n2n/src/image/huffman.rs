//! The Huffman codes of JPEG (ITU-T T.81, annex C), lossless or not.

use super::decode::{Decoded, Fault};

/// The error for data that no encoder writes.
pub(super) fn damaged() -> Fault {
    Fault::new("its compressed JPEG data is damaged")
}

/// A Huffman code: the length and the symbol for each possible prefix.
pub(super) struct Table {
    bits: u32,
    codes: Vec<(u8, u8)>,
}

impl Table {
    pub(super) fn of(counts: &[u8], symbols: &[u8]) -> Decoded<Self> {
        let longest = counts.iter().rposition(|&count| count > 0);
        let bits = longest.ok_or_else(damaged)? as u32 + 1;
        let mut codes = Vec::with_capacity(1 << bits);
        let mut symbols = symbols.iter();
        for (length, &count) in (1..=bits).zip(counts) {
            for &symbol in symbols.by_ref().take(count.into()) {
                let end = codes.len() + (1 << (bits - length));
                if end > 1 << bits {
                    return Err(damaged());
                }
                codes.resize(end, (length as u8, symbol));
            }
        }
        // Length 0 says that there is no such code.
        codes.resize(1 << bits, (0, 0));
        Ok(Self { bits, codes })
    }
}

/// The bits of the compressed data, in which 0xFF is followed by 0.
pub(super) struct Bits<'a> {
    rest: &'a [u8],
    /// The next bits, from the highest on, and how many there are.
    window: u64,
    count: u32,
    /// Number of bits made up beyond the end of the data.
    beyond: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn of(rest: &'a [u8]) -> Self {
        Self {
            rest,
            window: 0,
            count: 0,
            beyond: 0,
        }
    }

    fn fill(&mut self) {
        while self.count <= 56 {
            let byte = match *self.rest {
                [0xFF, 0, ref rest @ ..] => {
                    self.rest = rest;
                    0xFF
                }
                // A marker, or the end.
                [0xFF, ..] | [] => {
                    self.beyond += 8;
                    0
                }
                [byte, ref rest @ ..] => {
                    self.rest = rest;
                    byte
                }
            };
            self.window |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    /// Skips this many bits, at most 16 after a symbol.
    pub(super) fn skip(&mut self, count: u32) -> Decoded<()> {
        self.window <<= count;
        self.count -= count;
        // Some encoders leave out zeros at the end.
        if self.beyond >= 64 + self.count {
            return Err(Fault::new("the file ends before the image does"));
        }
        Ok(())
    }

    /// The next symbol.
    pub(super) fn symbol(&mut self, table: &Table) -> Decoded<u8> {
        if self.count < 32 {
            self.fill();
        }
        let (length, symbol) = table.codes[(self.window >> (64 - table.bits)) as usize];
        if length == 0 {
            return Err(damaged());
        }
        self.skip(length.into())?;
        Ok(symbol)
    }

    /// The next difference: its symbol is its number of bits, the first of which gives the sign.
    pub(super) fn difference(&mut self, table: &Table) -> Decoded<i32> {
        let size = u32::from(self.symbol(table)?);
        match size {
            0 => return Ok(0),
            1..=15 => {}
            16 => return Ok(32768),
            _ => return Err(damaged()),
        }
        let value = (self.window >> (64 - size)) as i32;
        self.skip(size)?;
        let is_positive = value >> (size - 1) == 1;
        Ok(if is_positive {
            value
        } else {
            value - (1 << size) + 1
        })
    }

    /// Continues after the next restart marker.
    pub(super) fn restart(&mut self) -> Decoded<()> {
        let at = self
            .rest
            .windows(2)
            .position(|pair| pair[0] == 0xFF && matches!(pair[1], 0xD0..=0xD7));
        // The reader may have reached the marker but not passed it.
        let at = at.ok_or_else(damaged)?;
        *self = Self::of(&self.rest[at + 2..]);
        Ok(())
    }
}
