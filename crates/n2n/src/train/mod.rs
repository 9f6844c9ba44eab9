//! Training: from a folder of images to a folder of checkpoints.
//!
//! [`run`] is the whole of it. It reads as the paper does, and calls out for everything else: the
//! images come from the [`loader`], the mathematics is the network's, what happens is told as
//! [`Event`]s, and the [`folder`] keeps the files.

pub mod config;
pub mod dataset;
mod event;
pub mod folder;
pub mod loader;
pub mod prefetch;
pub mod random;
mod run;
mod validation;

pub use config::Config;
pub use event::{Event, Step};
pub use run::run;
