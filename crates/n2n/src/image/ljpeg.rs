//! Lossless JPEG (ITU-T T.81, process 14, Huffman coding) of up to 16 bits: how cameras compress the samples of
//! their sensors, and what medical images are exported to.

use super::decode::{Decoded, Fault};
use super::huffman::{Bits, Table, damaged};

/// An image of one or more interleaved components.
pub(super) struct Lossless {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) components: usize,
    /// In the order height, width, component.
    pub(super) samples: Vec<u16>,
}

/// The second bytes of markers.
pub(super) mod marker {
    pub(in super::super) const SOF3: u8 = 0xC3;
    pub(super) const DHT: u8 = 0xC4;
    pub(super) const EOI: u8 = 0xD9;
    pub(super) const SOS: u8 = 0xDA;
    pub(super) const DRI: u8 = 0xDD;
}

/// Whether a JPEG is lossless.
pub(super) fn is_lossless(bytes: &[u8]) -> bool {
    let mut segments = Segments::of(bytes);
    segments
        .find(|&(marker, _)| is_frame(marker))
        .is_some_and(|(marker, _)| marker == marker::SOF3)
}

/// Whether a segment with this marker is the header of a frame (table B.1).
pub(super) fn is_frame(marker: u8) -> bool {
    matches!(marker, 0xC0..=0xCF) && !matches!(marker, marker::DHT | 0xC8 | 0xCC)
}

/// Decodes a lossless JPEG of at most `most` samples; the caller knows how many there should be. Data that end early
/// are an error, except that up to 63 bits that are missing at the end count as 0.
pub(super) fn decode(bytes: &[u8], most: usize) -> Decoded<Lossless> {
    let mut tables: [Option<Table>; 4] = [const { None }; 4];
    let mut frame = None;
    let mut restart = 0;
    let mut segments = Segments::of(bytes);
    while let Some((kind, body)) = segments.next() {
        match kind {
            marker::DHT => read_tables(body, &mut tables)?,
            marker::SOF3 => frame = Some(Frame::of(body, most)?),
            marker::DRI => match body {
                [high, low, ..] => restart = usize::from(u16::from_be_bytes([*high, *low])),
                _ => return Err(damaged()),
            },
            marker::SOS => {
                let frame = frame.ok_or_else(damaged)?;
                let scan = Scan::of(body, &frame, &tables, restart)?;
                return scan.decode(segments.rest);
            }
            marker::EOI => break,
            _ => {}
        }
    }
    Err(damaged())
}

/// The segments before the compressed data: markers and what follows their lengths.
struct Segments<'a> {
    rest: &'a [u8],
}

impl<'a> Segments<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes.strip_prefix(&[0xFF, 0xD8]).unwrap_or_default(),
        }
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        // Any number of 0xFF may stand before a marker.
        while let [0xFF, 0xFF, ..] = self.rest {
            self.rest = &self.rest[1..];
        }
        let [0xFF, marker, high, low, behind @ ..] = self.rest else {
            return None;
        };
        let length = usize::from(u16::from_be_bytes([*high, *low])).checked_sub(2)?;
        let (body, rest) = behind.split_at_checked(length)?;
        self.rest = rest;
        Some((*marker, body))
    }
}

#[derive(Clone, Copy)]
struct Frame {
    precision: u32,
    width: usize,
    height: usize,
    components: usize,
}

impl Frame {
    fn of(body: &[u8], most: usize) -> Decoded<Self> {
        let &[precision, h0, h1, w0, w1, components, ref rest @ ..] = body else {
            return Err(damaged());
        };
        let frame = Self {
            precision: precision.into(),
            height: u16::from_be_bytes([h0, h1]).into(),
            width: u16::from_be_bytes([w0, w1]).into(),
            components: components.into(),
        };
        let samples = (frame.width * frame.height).checked_mul(frame.components);
        let sampling = rest.chunks_exact(3).map(|component| component[1]);
        let is_known = (2..=16).contains(&frame.precision)
            && (1..=4).contains(&frame.components)
            && rest.len() == 3 * frame.components
            && (frame.components == 1 || sampling.clone().all(|sampling| sampling == 0x11));
        if !is_known || frame.width == 0 || frame.height == 0 {
            return Err(damaged());
        }
        // `most` includes the rows and columns by which encoders may pad.
        if samples.is_none_or(|samples| samples > most) {
            return Err(Fault::new(format!(
                "its lossless JPEG data is {}x{} with {} components, more than the expected {most} \
                 samples",
                frame.width, frame.height, frame.components
            )));
        }
        Ok(frame)
    }
}

fn read_tables(mut body: &[u8], tables: &mut [Option<Table>; 4]) -> Decoded<()> {
    while let [which, rest @ ..] = body {
        let (counts, rest) = rest.split_at_checked(16).ok_or_else(damaged)?;
        let count: usize = counts.iter().map(|&count| usize::from(count)).sum();
        let (symbols, rest) = rest.split_at_checked(count).ok_or_else(damaged)?;
        let place = tables.get_mut(usize::from(*which)).ok_or_else(damaged)?;
        *place = Some(Table::of(counts, symbols)?);
        body = rest;
    }
    Ok(())
}

/// How the differences of a scan become samples.
struct Scan<'a> {
    frame: Frame,
    tables: Vec<&'a Table>,
    predictor: u8,
    /// Number of low bits that are omitted.
    point: u32,
    /// Rows between two restart markers; 0 for none.
    restart_rows: usize,
}

impl<'a> Scan<'a> {
    fn of(
        body: &[u8],
        frame: &Frame,
        tables: &'a [Option<Table>; 4],
        restart: usize,
    ) -> Decoded<Self> {
        let (&count, rest) = body.split_first().ok_or_else(damaged)?;
        let count = usize::from(count);
        let (selectors, rest) = rest.split_at_checked(2 * count).ok_or_else(damaged)?;
        let &[predictor, _, approximation, ..] = rest else {
            return Err(damaged());
        };
        let point = u32::from(approximation & 15);
        if count != frame.components {
            return Err(Fault::new(
                "its lossless JPEG data has a separate scan per component, which is not supported",
            ));
        }
        if !(1..=7).contains(&predictor) || point >= frame.precision {
            return Err(damaged());
        }
        if !restart.is_multiple_of(frame.width) {
            return Err(Fault::new(
                "its lossless JPEG data restarts within a row, which is not supported",
            ));
        }
        let table = |selector: &[u8]| {
            let table = tables.get(usize::from(selector[1] >> 4));
            table.and_then(Option::as_ref).ok_or_else(damaged)
        };
        Ok(Self {
            frame: *frame,
            tables: selectors
                .chunks_exact(2)
                .map(table)
                .collect::<Decoded<_>>()?,
            predictor,
            point,
            restart_rows: restart / frame.width,
        })
    }

    fn decode(&self, data: &[u8]) -> Decoded<Lossless> {
        let Frame {
            precision,
            width,
            height,
            components,
        } = self.frame;
        let row = width * components;
        let middle = 1_i32 << (precision - self.point - 1);
        let mut bits = Bits::of(data);
        let mut samples = vec![0_u16; row * height];
        for y in 0..height {
            let is_restart = self.restart_rows > 0 && y > 0 && y.is_multiple_of(self.restart_rows);
            if is_restart {
                bits.restart()?;
            }
            let is_first = y == 0 || is_restart;
            for x in 0..row {
                let at = y * row + x;
                let value = |back: usize| i32::from(samples[at - back]);
                let prediction = match (x < components, is_first) {
                    (true, true) => middle,
                    (true, false) => value(row),
                    (false, true) => value(components),
                    (false, false) => {
                        let (left, above) = (value(components), value(row));
                        let corner = value(row + components);
                        match self.predictor {
                            1 => left,
                            2 => above,
                            3 => corner,
                            4 => left + above - corner,
                            5 => left + ((above - corner) >> 1),
                            6 => above + ((left - corner) >> 1),
                            _ => (left + above) >> 1,
                        }
                    }
                };
                let difference = bits.difference(self.tables[x % components])?;
                samples[at] = (prediction + difference) as u16;
            }
        }
        for sample in &mut samples {
            *sample <<= self.point;
        }
        Ok(Lossless {
            width,
            height,
            components,
            samples,
        })
    }
}
