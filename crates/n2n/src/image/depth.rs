//! The types of samples in files.

/// The type of a sample in a file, from the narrowest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// Unsigned integers of 8 bits, or of fewer.
    U8,
    /// Signed integers of 8 bits.
    I8,
    /// Unsigned integers of 16 bits, or of 9 and more.
    U16,
    /// Signed integers of 16 bits.
    I16,
    /// Unsigned integers of 32 bits, or of 17 and more.
    U32,
    /// Signed integers of 32 bits.
    I32,
    /// Floats of 32 bits, or of 16; they need not lie in 0..1.
    F32,
    /// Floats of 64 bits.
    F64,
}

impl Depth {
    /// All depths, integers before floats, by their bytes.
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

    /// Bytes of a sample.
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

    /// Whether `f32` does not hold every sample exactly; [`Pages::read_wide`](super::Pages::read_wide) does.
    pub fn is_wide(self) -> bool {
        matches!(self, Self::U32 | Self::I32 | Self::F64)
    }

    /// The sample that pages and images give as 1: the largest unsigned integer of 8 and 16 bits. All
    /// others are given in their own units, and this is 1.
    pub fn unit(self) -> f32 {
        match self {
            Self::U8 => 255.0,
            Self::U16 => 65535.0,
            _ => 1.0,
        }
    }
}
