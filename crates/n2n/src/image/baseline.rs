//! Baseline JPEG: a decoder of its coefficients alone (ITU-T T.81, annex F.2), to find damage that decoders overlook
//! and that each of them decodes differently.

use super::decode::{Decoded, Fault};
use super::huffman::{Bits, Table, damaged};

/// The number of codes of each length, and their symbols.
type Codes<'a> = (&'a [u8], &'a [u8]);

/// The contents of the segments before a scan.
#[derive(Default)]
struct Headers<'a> {
    width: usize,
    height: usize,
    components: Vec<Component>,
    /// The Huffman codes of DC and AC coefficients, by the number of the table.
    dc_codes: [Option<Codes<'a>>; 4],
    ac_codes: [Option<Codes<'a>>; 4],
    /// The quantizer steps of DC coefficients, by the number of the table.
    dc_steps: [i64; 4],
    /// MCUs between two restart markers; 0 for none.
    restart_interval: usize,
    /// Scans decoded so far.
    scans: usize,
}

#[derive(Clone, Copy)]
struct Component {
    id: u8,
    /// Sampling factors: the blocks of an MCU across and down.
    horizontal: usize,
    vertical: usize,
    /// The number of its quantization table.
    quantization: u8,
}

/// Rejects a baseline JPEG with blocks whose DC coefficients are not means of 8-bit samples, or that have too many
/// coefficients. Other JPEGs, and files that are not JPEGs, are left to the decoder.
pub(super) fn check(bytes: &[u8]) -> Decoded<()> {
    let mut headers = Headers::default();
    let mut rest = bytes.get(2..).unwrap_or_default();
    while let Some(start) = rest.iter().position(|&byte| byte == 0xFF) {
        rest = &rest[start + 1..];
        match rest {
            [0xD9, ..] => break,
            [0xFF, ..] => {}
            [0x00 | 0x01 | 0xD0..=0xD8, behind @ ..] => rest = behind,
            [marker, high, low, ..] => {
                let marker = *marker;
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                let content = rest.get(3..1 + length).unwrap_or_default();
                rest = rest.get(1 + length..).unwrap_or_default();
                let is_read = match marker {
                    0xC4 => headers.read_huffman_tables(content),
                    0xDB => headers.read_quantization_tables(content),
                    0xC0 | 0xC1 => headers.read_frame(content),
                    0xC2..=0xCF => None,
                    0xDD => headers.read_restart_interval(content),
                    0xDA => headers.scan(content, rest)?,
                    _ => Some(()),
                };
                if is_read.is_none() {
                    break;
                }
            }
            _ => break,
        }
    }
    Ok(())
}

impl<'a> Headers<'a> {
    fn read_huffman_tables(&mut self, mut content: &'a [u8]) -> Option<()> {
        while let [which, rest @ ..] = content {
            let (counts, rest) = rest.split_at_checked(16)?;
            let count = counts.iter().map(|&count| usize::from(count)).sum();
            let (symbols, rest) = rest.split_at_checked(count)?;
            let tables = if which >> 4 == 0 {
                &mut self.dc_codes
            } else {
                &mut self.ac_codes
            };
            *tables.get_mut(usize::from(which & 15))? = Some((counts, symbols));
            content = rest;
        }
        Some(())
    }

    fn read_quantization_tables(&mut self, mut content: &[u8]) -> Option<()> {
        while let [which, rest @ ..] = content {
            let (step, size) = if which >> 4 == 0 {
                (i64::from(*rest.first()?), 64)
            } else {
                let &[high, low] = rest.first_chunk()?;
                (i64::from(u16::from_be_bytes([high, low])), 128)
            };
            *self.dc_steps.get_mut(usize::from(which & 15))? = step.max(1);
            content = rest.get(size..)?;
        }
        Some(())
    }

    fn read_frame(&mut self, content: &[u8]) -> Option<()> {
        let &[8, h0, h1, w0, w1, count, ref components @ ..] = content else {
            return None;
        };
        self.height = u16::from_be_bytes([h0, h1]).into();
        self.width = u16::from_be_bytes([w0, w1]).into();
        let components = components.as_chunks().0.iter().take(count.into());
        self.components = components
            .map(|&[id, sampling, quantization]| Component {
                id,
                horizontal: (sampling >> 4).into(),
                vertical: (sampling & 15).into(),
                quantization,
            })
            .collect();
        Some(())
    }

    fn read_restart_interval(&mut self, content: &[u8]) -> Option<()> {
        let &[high, low] = content.first_chunk()?;
        self.restart_interval = u16::from_be_bytes([high, low]).into();
        Some(())
    }

    /// Decodes a scan; `None` if something that it needs is missing.
    fn scan(&mut self, content: &[u8], data: &[u8]) -> Decoded<Option<()>> {
        /// Twice the largest magnitude that 8-bit samples can give, 1024: a DC coefficient is eight times the mean of
        /// the samples relative to mid-gray.
        const MOST: i64 = 2048;
        let Some((blocks, mcus)) = self.blocks(content) else {
            return Ok(None);
        };
        let mut bits = Bits::of(data);
        let mut dc = vec![0_i64; blocks.len()];
        for mcu in 0..mcus {
            if self.restart_interval > 0 && mcu > 0 && mcu % self.restart_interval == 0 {
                bits.restart()?;
                dc.fill(0);
            }
            for (block, dc) in blocks.iter().zip(&mut dc) {
                for _ in 0..block.count {
                    *dc += i64::from(bits.difference(&block.dc_codes)?);
                    if (*dc * block.dc_step).abs() > MOST + block.dc_step {
                        return Err(Fault::new(
                            "it is damaged: a DC coefficient is out of range",
                        ));
                    }
                    skip_ac(&mut bits, &block.ac_codes)?;
                }
            }
        }
        Ok(Some(()))
    }

    /// The blocks of an MCU, and how many MCUs a scan has.
    fn blocks(&mut self, content: &[u8]) -> Option<(Vec<Blocks>, usize)> {
        /// As many as there can be components, each of which is in one scan.
        const MOST_SCANS: usize = 4;
        self.scans += 1;
        let (&count, rest) = content.split_first()?;
        let chosen = rest.as_chunks::<2>().0.get(..count.into())?;
        let most = |side: fn(&Component) -> usize| self.components.iter().map(side).max();
        let horizontal = most(|found| found.horizontal)?;
        let vertical = most(|found| found.vertical)?;
        if self.scans > MOST_SCANS || chosen.len() > 4 || horizontal == 0 || vertical == 0 {
            return None;
        }
        let table = |codes: &[Option<Codes<'_>>; 4], number: u8| {
            let (counts, symbols) = (*codes.get(usize::from(number))?)?;
            Table::of(counts, symbols).ok()
        };
        let mut mcus = self.width.div_ceil(8 * horizontal) * self.height.div_ceil(8 * vertical);
        let mut blocks = Vec::new();
        for &[id, tables] in chosen {
            let component = self.components.iter().find(|found| found.id == id)?;
            let mut count = component.horizontal * component.vertical;
            if chosen.len() == 1 {
                // An MCU is one block, whatever the sampling.
                let columns = (self.width * component.horizontal).div_ceil(8 * horizontal);
                let rows = (self.height * component.vertical).div_ceil(8 * vertical);
                (mcus, count) = (columns * rows, 1);
            }
            blocks.push(Blocks {
                count,
                dc_codes: table(&self.dc_codes, tables >> 4)?,
                ac_codes: table(&self.ac_codes, tables & 15)?,
                dc_step: *self.dc_steps.get(usize::from(component.quantization))?,
            });
        }
        Some((blocks, mcus))
    }
}

/// The blocks of a component in an MCU: how many there are, and how they are coded.
struct Blocks {
    count: usize,
    dc_codes: Table,
    ac_codes: Table,
    dc_step: i64,
}

/// Skips the AC coefficients of a block.
fn skip_ac(bits: &mut Bits<'_>, codes: &Table) -> Decoded<()> {
    let mut next = 1;
    while next < 64 {
        let symbol = bits.symbol(codes)?;
        let (zeros, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
        match (zeros, size) {
            (15, 0) => {}
            // The rest of the block is 0.
            (_, 0) => return Ok(()),
            _ => bits.skip(size)?,
        }
        next += zeros + 1;
    }
    if next > 64 { Err(damaged()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// A gray JPEG, eight pixels high, of blocks whose DC coefficients differ by these 11 bits, at a quantizer step
    /// of 1. There is one code of each kind: "11 bits follow" and "the block ends".
    fn jpeg(differences: &[u16]) -> Vec<u8> {
        let mut jpeg = b"\xFF\xD8\xFF\xDB\0\x43\0".to_vec();
        jpeg.extend([1; 64]);
        jpeg.extend(b"\xFF\xC0\0\x0B\x08\0\x08");
        jpeg.extend((8 * differences.len() as u16).to_be_bytes());
        jpeg.extend(b"\x01\x01\x11\0");
        for (which, symbol) in [(0, 11), (0x10, 0)] {
            jpeg.extend([0xFF, 0xC4, 0, 20, which, 1]);
            jpeg.extend([0; 15]);
            jpeg.push(symbol);
        }
        jpeg.extend(b"\xFF\xDA\0\x08\x01\x01\0\0\x3F\0");
        let mut bits = String::new();
        for difference in differences {
            write!(bits, "0{difference:011b}0").unwrap();
        }
        while !bits.len().is_multiple_of(8) {
            bits.push('1');
        }
        for byte in bits.as_bytes().chunks(8) {
            let byte = u8::from_str_radix(str::from_utf8(byte).unwrap(), 2).unwrap();
            jpeg.push(byte);
            if byte == 0xFF {
                jpeg.push(0);
            }
        }
        jpeg.extend(b"\xFF\xD9");
        jpeg
    }

    fn said(jpeg: &[u8]) -> String {
        check(jpeg)
            .err()
            .map_or_else(String::new, Fault::into_words)
    }

    /// The bits of 1024 and of -1024.
    const UP: u16 = 0b100_0000_0000;
    const DOWN: u16 = 0b011_1111_1111;

    #[test]
    fn dc_coefficients_that_leave_the_range_of_8_bits_are_refused() {
        assert_eq!(said(&jpeg(&[UP])), "");
        assert_eq!(said(&jpeg(&[DOWN, UP, UP, DOWN])), "");
        for far in [UP, DOWN] {
            let said = said(&jpeg(&[far; 3]));
            assert!(said.contains("a DC coefficient is out of range"), "{said}");
        }
    }

    #[test]
    fn data_that_ends_before_the_last_block_is_refused() {
        let photo = include_bytes!("../../../../tests/golden/images/photo.jpg");
        assert_eq!(said(photo), "");
        let whole = jpeg(&[UP, DOWN].repeat(20));
        assert_eq!(said(&whole), "");
        let cut = [&whole[..whole.len() - 30], b"\xFF\xD9"].concat();
        assert_ne!(said(&cut), "");
    }
}
