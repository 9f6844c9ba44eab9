//! Inference on matrix units: activations and weights in bfloat16, sums in `f32`.
//!
//! bfloat16 has the range of `f32` and eight bits of significand, so each layer rounds to about one part in 500. Matrix
//! units multiply it so fast that the direct sum over a convolution's taps beats Winograd's algorithm, whose transforms
//! would lose most of those bits.
//!
//! A tile of the left operand is 16 adjacent pixels by 32 channels, at whatever offset a tap asks for: activations are
//! stored with a border of zeros and whole groups of 32 channels, so no tile needs to be gathered.

mod conv;
mod tensor;
#[cfg(test)]
mod tests;

pub use conv::{Conv, Source, UpConv, run_chain};
pub use tensor::Tensor;

#[cfg(target_arch = "x86_64")]
use crate::arch::amx::{Amx, Registers};
use crate::arch::tiles::{Finish, Portable, Product, SUMS};

/// The matrix units of a processor.
///
/// A value other than [`Units::portable`] exists only on a processor that has them.
#[derive(Clone, Copy)]
pub struct Units(Kind);

#[derive(Clone, Copy)]
enum Kind {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Amx(Amx),
}

impl Units {
    /// The units of this processor, if it has some and the system allows their use.
    pub fn detect() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        return Amx::detect().map(|amx| Self(Kind::Amx(amx)));
        #[cfg(not(target_arch = "x86_64"))]
        None
    }

    /// The same arithmetic without matrix units: slow, for tests.
    pub fn portable() -> Self {
        Self(Kind::Portable)
    }

    /// Their name, as printed.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::Amx(_) => "amx",
        }
    }

    fn sums(self) -> Sums {
        match self.0 {
            Kind::Portable => Sums::Portable(Portable::new()),
            #[cfg(target_arch = "x86_64")]
            Kind::Amx(amx) => Sums::Amx(Registers::new(amx)),
        }
    }

    fn finish(self, finish: Finish) {
        match self.0 {
            Kind::Portable => finish.run(),
            #[cfg(target_arch = "x86_64")]
            Kind::Amx(amx) => amx.finish(finish),
        }
    }
}

impl std::fmt::Debug for Units {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Units::{}", self.name())
    }
}

/// Where a thread's sums are.
enum Sums {
    Portable(Portable),
    #[cfg(target_arch = "x86_64")]
    Amx(Registers),
}

impl Sums {
    fn clear(&mut self) {
        match self {
            Self::Portable(sums) => sums.clear(),
            #[cfg(target_arch = "x86_64")]
            Self::Amx(sums) => sums.clear(),
        }
    }

    fn add(&mut self, product: Product) {
        match self {
            Self::Portable(sums) => sums.add(product),
            #[cfg(target_arch = "x86_64")]
            Self::Amx(sums) => sums.add(product),
        }
    }

    fn store(&mut self, to: &mut [f32; SUMS]) {
        match self {
            Self::Portable(sums) => sums.store(to),
            #[cfg(target_arch = "x86_64")]
            Self::Amx(sums) => sums.store(to),
        }
    }
}
