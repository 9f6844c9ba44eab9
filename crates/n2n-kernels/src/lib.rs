//! CPU arithmetic for convolutional networks, on slices and padded tensors.
//!
//! The crate knows nothing of files, images or networks. It is the only crate of the project with `unsafe`; every
//! block says which check makes it sound.
//!
//! Every expensive kernel on `f32` is written once, generic over `arch::Simd`, and runs at a [`Level`]: the portable
//! one, or one for the processor at hand. Results do not depend on the number of threads: however work is divided,
//! every sum is taken in one fixed order.
#![cfg_attr(not(test), deny(clippy::unwrap_used))]
#![allow(unsafe_code)]
#![warn(unsafe_op_in_unsafe_fn)]
// A kernel's body must end up inside the function that has the level's instructions.
#![allow(clippy::inline_always)]
// Shapes are indices here; iterators would hide them.
#![allow(clippy::needless_range_loop)]

pub mod adam;
mod arch;
pub mod arena;
pub mod bands;
pub mod conv;
mod direct;
mod epilogue;
pub mod half;
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
