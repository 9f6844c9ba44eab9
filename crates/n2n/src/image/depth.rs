//! The types of samples in files.

/// The type of a sample in a file; narrower types first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// Unsigned integers of up to 8 bits.
    U8,
    /// Signed integers of 8 bits.
    I8,
    /// Unsigned integers of 9 to 16 bits.
    U16,
    /// Signed integers of 16 bits.
    I16,
    /// Unsigned integers of 17 to 32 bits.
    U32,
    /// Signed integers of 32 bits.
    I32,
    /// Floats of 32 or 16 bits; they need not lie in 0..1.
    F32,
    /// Floats of 64 bits.
    F64,
}

impl Depth {
    /// All depths: integers, then floats, each by size.
    pub const ALL: [Self; 8] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::F64,
    ];

    /// The number of bytes of a sample.
    pub fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// Whether samples are floats.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }

    /// Whether some samples cannot be represented exactly by `f32`; [`Pages::read_wide`](super::Pages::read_wide)
    /// returns them exactly.
    pub fn is_wide(self) -> bool {
        matches!(self, Self::U32 | Self::I32 | Self::F64)
    }

    /// The sample that pages and images return as 1: the largest one for unsigned integers of 8 and 16 bits; 1 for all
    /// other types, which keep their own units.
    pub fn unit(self) -> f32 {
        match self {
            Self::U8 => 255.0,
            Self::U16 => 65535.0,
            _ => 1.0,
        }
    }
}
