//! The processor level: detected once, or selected by name, then passed as a value.

use std::fmt;
use std::str::FromStr;

#[cfg(target_arch = "x86_64")]
use crate::arch::avx2::Avx2;
#[cfg(target_arch = "x86_64")]
use crate::arch::avx512::Avx512;
#[cfg(target_arch = "aarch64")]
use crate::arch::neon::Neon;
use crate::arch::scalar::Scalar;
#[cfg(all(target_arch = "wasm32", feature = "relaxed-simd"))]
use crate::arch::wasm32::Relaxed;
#[cfg(target_arch = "wasm32")]
use crate::arch::wasm32::Simd128;
use crate::arch::{Kernel, Simd};

/// A set of instructions that the kernels are compiled for.
///
/// A value of any level except [`Level::Scalar`] can exist only on a processor that supports it.
#[derive(Clone, Copy)]
pub struct Level(Kind);

#[derive(Clone, Copy)]
enum Kind {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    #[cfg(target_arch = "wasm32")]
    Simd128(Simd128),
    #[cfg(all(target_arch = "wasm32", feature = "relaxed-simd"))]
    Relaxed(Relaxed),
}

/// The requested level does not exist, or this processor lacks it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no level {name:?} on this processor; it has {}", available.join(", "))]
pub struct LevelError {
    /// The requested name.
    pub name: String,
    /// The names of the available levels.
    pub available: Vec<String>,
}

impl Level {
    /// The portable level.
    #[allow(non_upper_case_globals, reason = "reads as a variant")]
    pub const Scalar: Self = Self(Kind::Scalar);

    /// The fastest level of this processor.
    pub fn detect() -> Self {
        Self::available().last().copied().unwrap_or(Self::Scalar)
    }

    /// Every level that this processor supports, slowest first.
    pub fn available() -> Vec<Self> {
        let mut levels = vec![Self::Scalar];
        #[cfg(target_arch = "x86_64")]
        {
            levels.extend(Avx2::detect().map(|avx2| Self(Kind::Avx2(avx2))));
            levels.extend(Avx512::detect().map(|avx512| Self(Kind::Avx512(avx512))));
        }
        #[cfg(target_arch = "aarch64")]
        levels.extend(Neon::detect().map(|neon| Self(Kind::Neon(neon))));
        #[cfg(target_arch = "wasm32")]
        levels.push(Self(Kind::Simd128(Simd128)));
        #[cfg(all(target_arch = "wasm32", feature = "relaxed-simd"))]
        levels.push(Self(Kind::Relaxed(Relaxed)));
        levels
    }

    /// The name of the level, as parsed and printed.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(_) => "avx512",
            #[cfg(target_arch = "aarch64")]
            Kind::Neon(_) => "neon",
            #[cfg(target_arch = "wasm32")]
            Kind::Simd128(_) => "simd128",
            #[cfg(all(target_arch = "wasm32", feature = "relaxed-simd"))]
            Kind::Relaxed(_) => "relaxed-simd",
        }
    }

    /// Number of vectors in the widest register tile.
    pub(crate) fn widest(self) -> usize {
        struct Widest;
        impl Kernel for Widest {
            type Output = usize;

            #[inline(always)]
            fn run<S: Simd>(self, _: S) -> usize {
                S::WIDEST
            }
        }
        self.run(Widest)
    }

    /// Runs `kernel` compiled for this level.
    #[inline]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.0 {
            Kind::Scalar => kernel.run(Scalar),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2(avx2) => avx2.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512(avx512) => avx512.run(kernel),
            #[cfg(target_arch = "aarch64")]
            Kind::Neon(neon) => neon.run(kernel),
            #[cfg(target_arch = "wasm32")]
            Kind::Simd128(simd) => simd.run(kernel),
            #[cfg(all(target_arch = "wasm32", feature = "relaxed-simd"))]
            Kind::Relaxed(simd) => simd.run(kernel),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Level::{}", self.name())
    }
}

impl PartialEq for Level {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Level {}

impl FromStr for Level {
    type Err = LevelError;

    fn from_str(name: &str) -> Result<Self, LevelError> {
        let levels = Self::available();
        levels
            .iter()
            .copied()
            .find(|level| level.name() == name)
            .ok_or_else(|| LevelError {
                name: name.to_string(),
                available: levels.iter().map(ToString::to_string).collect(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_is_found_by_its_name() {
        for level in Level::available() {
            assert_eq!(level.name().parse(), Ok(level));
        }
        let error = "avx1024".parse::<Level>().unwrap_err();
        assert!(error.to_string().contains("avx1024"));
        assert!(error.to_string().contains("scalar"));
    }
}
