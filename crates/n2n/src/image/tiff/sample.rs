//! The types of samples, and their values.

use half::f16;

use super::super::Depth;
use super::super::decode::{from_u8, from_u16};
use super::super::metadata::MISSING;

/// The type of a sample in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sample {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F16,
    F32,
    F64,
}

impl Sample {
    pub(super) fn of(format: u64, bits: u16) -> Option<Self> {
        Some(match (format, bits) {
            // Data of unknown type are integers to every other program.
            (1 | 4, 1..=8) => Self::U8,
            (1 | 4, 9..=16) => Self::U16,
            (1 | 4, 17..=32) => Self::U32,
            (2, 8) => Self::I8,
            (2, 16) => Self::I16,
            (2, 32) => Self::I32,
            (3, 16) => Self::F16,
            (3, 32) => Self::F32,
            (3, 64) => Self::F64,
            _ => return None,
        })
    }

    pub(super) fn depth(self) -> Depth {
        match self {
            Self::U8 => Depth::U8,
            Self::I8 => Depth::I8,
            Self::U16 => Depth::U16,
            Self::I16 => Depth::I16,
            Self::U32 => Depth::U32,
            Self::I32 => Depth::I32,
            Self::F16 | Self::F32 => Depth::F32,
            Self::F64 => Depth::F64,
        }
    }

    pub(super) fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 | Self::F16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// Appends the values of samples as pages return them; samples equal to `nodata` become missing.
    pub(super) fn append(self, bytes: &[u8], nodata: Option<f64>, values: &mut Vec<f32>) {
        let start = values.len();
        match self {
            Self::U8 => values.extend(bytes.iter().map(|&byte| from_u8(byte))),
            Self::I8 => values.extend(bytes.iter().map(|&byte| f32::from(byte as i8))),
            Self::U16 => {
                let words = bytes.as_chunks().0.iter();
                values.extend(words.map(|&word| from_u16(u16::from_ne_bytes(word))));
            }
            Self::I16 => {
                let words = bytes.as_chunks().0.iter();
                values.extend(words.map(|&word| f32::from(i16::from_ne_bytes(word))));
            }
            Self::F32 => {
                let words = bytes.as_chunks().0.iter();
                values.extend(words.map(|&word| f32::from_ne_bytes(word)));
            }
            Self::F16 => {
                let words = bytes.as_chunks().0.iter();
                values.extend(words.map(|&word| f16::from_ne_bytes(word).to_f32()));
            }
            Self::U32 | Self::I32 | Self::F64 => {
                let mut wide = Vec::new();
                self.append_wide(bytes, &mut wide);
                values.extend(wide.into_iter().map(|value| value as f32));
            }
        }
        let Some(nodata) = nodata else { return };
        if matches!(self, Self::U32 | Self::I32 | Self::F64) {
            let mut wide = Vec::new();
            self.append_wide(bytes, &mut wide);
            let pairs = values[start..].iter_mut().zip(wide);
            pairs.for_each(|(value, wide)| {
                if wide == nodata {
                    *value = MISSING;
                }
            });
            return;
        }
        let unit = f64::from(self.depth().unit());
        let missing = if unit > 1.0 {
            // The same division as that of the samples.
            nodata as f32 / unit as f32
        } else {
            nodata as f32
        };
        for value in &mut values[start..] {
            if *value == missing {
                *value = MISSING;
            }
        }
    }

    /// Appends the values of samples in their own units, all of them exactly.
    pub(super) fn append_wide(self, bytes: &[u8], values: &mut Vec<f64>) {
        match self {
            Self::U8 => values.extend(bytes.iter().map(|&byte| f64::from(byte))),
            Self::I8 => values.extend(bytes.iter().map(|&byte| f64::from(byte as i8))),
            Self::U16 => {
                let words = bytes.as_chunks().0.iter();
                values.extend(words.map(|&word| f64::from(u16::from_ne_bytes(word))));
            }
            Self::I16 => {
                let words = bytes.as_chunks().0.iter();
                values.extend(words.map(|&word| f64::from(i16::from_ne_bytes(word))));
            }
            Self::U32 => {
                let words = bytes.as_chunks().0.iter();
                values.extend(words.map(|&word| f64::from(u32::from_ne_bytes(word))));
            }
            Self::I32 => {
                let words = bytes.as_chunks().0.iter();
                values.extend(words.map(|&word| f64::from(i32::from_ne_bytes(word))));
            }
            Self::F16 => {
                let words = bytes.as_chunks().0.iter();
                values.extend(words.map(|&word| f16::from_ne_bytes(word).to_f64()));
            }
            Self::F32 => {
                let words = bytes.as_chunks().0.iter();
                values.extend(words.map(|&word| f64::from(f32::from_ne_bytes(word))));
            }
            Self::F64 => {
                let words = bytes.as_chunks().0.iter();
                values.extend(words.map(|&word| f64::from_ne_bytes(word)));
            }
        }
    }
}
