//! The element types that weight files use, and their conversion to and from `f32`, the only type that the network
//! uses. Bytes are little-endian in every format read here.

/// The type of a tensor's elements in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DType {
    /// IEEE 754 half precision.
    F16,
    /// The upper half of an `f32`.
    BF16,
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 double precision.
    F64,
}

impl DType {
    /// Bytes per element.
    pub fn size(self) -> usize {
        match self {
            Self::F16 | Self::BF16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// The name that safetensors uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::F32 => "F32",
            Self::F64 => "F64",
        }
    }

    /// Element `index` of `bytes`, which must hold it, rounded to nearest where `f32` is narrower.
    pub(super) fn get(self, bytes: &[u8], index: usize) -> f32 {
        fn element<const N: usize>(bytes: &[u8], index: usize) -> [u8; N] {
            let start = index * N;
            bytes[start..start + N].try_into().expect("N bytes")
        }
        match self {
            Self::F16 => f16_to_f32(u16::from_le_bytes(element(bytes, index))),
            Self::BF16 => {
                f32::from_bits(u32::from(u16::from_le_bytes(element(bytes, index))) << 16)
            }
            Self::F32 => f32::from_le_bytes(element(bytes, index)),
            Self::F64 => f64::from_le_bytes(element(bytes, index)) as f32,
        }
    }

    /// Appends `value`, rounded to nearest, ties to even; beyond the range of the type it becomes infinite.
    pub(super) fn put(self, value: f32, bytes: &mut Vec<u8>) {
        match self {
            Self::F16 => bytes.extend(f32_to_f16(value).to_le_bytes()),
            Self::BF16 => bytes.extend(f32_to_bf16(value).to_le_bytes()),
            Self::F32 => bytes.extend(value.to_le_bytes()),
            Self::F64 => bytes.extend(f64::from(value).to_le_bytes()),
        }
    }
}

/// Added to a value below 2⁻¹⁴, this leaves the value in units of 2⁻²⁴, that is, as a subnormal half, in the low bits
/// of the sum. The addition rounds as IEEE 754 requires.
const SUBNORMAL_MAGIC: f32 = 0.5;
/// Difference of the exponent biases of `f32` and `f16`, at its position in an `f32`.
const REBIAS: u32 = (127 - 15) << 23;

fn f16_to_f32(half: u16) -> f32 {
    let half = u32::from(half);
    let sign = (half & 0x8000) << 16;
    let magnitude = match (half & 0x7c00, half & 0x7fff) {
        (0, subnormal) => {
            (f32::from_bits(SUBNORMAL_MAGIC.to_bits() | subnormal) - SUBNORMAL_MAGIC).to_bits()
        }
        (0x7c00, special) => 0x7f80_0000 | special << 13,
        (_, normal) => (normal << 13) + REBIAS,
    };
    f32::from_bits(sign | magnitude)
}

fn f32_to_f16(value: f32) -> u16 {
    const INFINITY: u32 = 0x7c00;
    const QUIET_NAN: u32 = 0x7e00;
    let sign = value.to_bits() >> 16 & 0x8000;
    let magnitude = value.to_bits() & 0x7fff_ffff;
    let half = if value.is_nan() {
        QUIET_NAN
    } else if magnitude >= 65_536f32.to_bits() {
        INFINITY
    } else if magnitude < 2f32.powi(-14).to_bits() {
        (f32::from_bits(magnitude) + SUBNORMAL_MAGIC).to_bits() - SUBNORMAL_MAGIC.to_bits()
    } else {
        // Adds just under half a unit, plus the rest if the result would be odd, so that ties go to even. A carry out
        // of the mantissa correctly raises the exponent, up to infinity.
        (magnitude - REBIAS + 0xfff + (magnitude >> 13 & 1)) >> 13
    };
    (sign | half) as u16
}

fn f32_to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(dtype: DType, value: f32) -> f32 {
        let mut bytes = vec![];
        dtype.put(value, &mut bytes);
        assert_eq!(bytes.len(), dtype.size());
        dtype.get(&bytes, 0)
    }

    /// The value of a half, by the definition of the format.
    fn defined(half: u16) -> f64 {
        let sign = if half & 0x8000 == 0 { 1.0 } else { -1.0 };
        let fraction = f64::from(half & 0x3ff) / 1024.0;
        match half >> 10 & 31 {
            0 => sign * fraction * 2f64.powi(-14),
            31 if fraction == 0.0 => sign * f64::INFINITY,
            31 => f64::NAN,
            exponent => sign * (1.0 + fraction) * 2f64.powi(i32::from(exponent) - 15),
        }
    }

    #[test]
    fn every_half_means_what_the_format_defines_and_survives() {
        for half in 0..=u16::MAX {
            let value = f16_to_f32(half);
            let expected = defined(half);
            if expected.is_nan() {
                assert!(value.is_nan() && f16_to_f32(f32_to_f16(value)).is_nan());
            } else {
                assert_eq!(f64::from(value), expected, "{half:#x}");
                assert_eq!(f32_to_f16(value), half);
            }
        }
    }

    #[test]
    fn between_two_halves_the_nearer_is_taken_and_the_even_one_of_two_equally_near() {
        for half in 0..0x7bff_u16 {
            let (low, high) = (f16_to_f32(half), f16_to_f32(half + 1));
            let middle = low.midpoint(high);
            assert_eq!(f32_to_f16(middle), half + (half & 1), "{half:#x}");
            assert_eq!(f32_to_f16(middle.next_down()), half);
            assert_eq!(f32_to_f16(middle.next_up()), half + 1);
            assert_eq!(f32_to_f16(-middle.next_up()), 0x8000 | (half + 1));
        }
        assert_eq!(round_trip(DType::F16, 65_519.996), 65_504.0);
        assert_eq!(round_trip(DType::F16, 65_520.0), f32::INFINITY);
        assert_eq!(round_trip(DType::F16, f32::MIN), f32::NEG_INFINITY);
    }

    #[test]
    fn bfloat16_keeps_eight_bits_of_precision() {
        assert_eq!(round_trip(DType::BF16, 1.0), 1.0);
        assert_eq!(round_trip(DType::BF16, -0.0).to_bits(), (-0f32).to_bits());
        // 1 + 2⁻⁸ lies between 1 and 1 + 2⁻⁷; the former is even.
        assert_eq!(round_trip(DType::BF16, 1.0 + 1.0 / 256.0), 1.0);
        assert_eq!(
            round_trip(DType::BF16, 1.0 + 3.0 / 256.0),
            1.0 + 4.0 / 256.0
        );
        assert_eq!(round_trip(DType::BF16, f32::MAX), f32::INFINITY);
        assert!(round_trip(DType::BF16, f32::NAN).is_nan());
    }

    #[test]
    fn the_wide_types_lose_nothing() {
        for value in [0.1, -3.5e-39, f32::MAX, f32::MIN_POSITIVE] {
            assert_eq!(round_trip(DType::F32, value), value);
            assert_eq!(round_trip(DType::F64, value), value);
        }
    }
}
