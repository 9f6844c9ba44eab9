//! CPU arithmetic for convolutional networks: slices and padded tensors in, slices and tensors out.
//!
//! The crate knows no files, images or networks. It is the only one of the project with `unsafe`;
//! every block says which check makes it true.
//!
//! Each kernel that computes much is written once, generic over `arch::Simd`, and runs at a
//! [`Level`]: the portable one, or one for the processor at hand. Results do not depend on the number
//! of threads: however the work is cut, every sum is taken in one fixed order.
#![allow(unsafe_code)]
#![warn(unsafe_op_in_unsafe_fn)]
// A kernel's body must end up inside the function that has the level's instructions.
#![allow(clippy::inline_always)]
// Shapes are indices here; iterators would hide them.
#![allow(clippy::needless_range_loop)]

pub mod adam;
mod arch;
pub mod bands;
pub mod conv;
mod direct;
mod epilogue;
mod jobs;
mod level;
mod memory;
pub mod muon;
pub mod peak;
mod picks;
pub mod pool;
mod product;
pub mod reference;
pub mod tensor;
pub mod upconv;
pub mod upsample;
mod winograd;

pub use epilogue::Epilogue;
pub use level::{Level, LevelError};
pub use picks::Picks;
