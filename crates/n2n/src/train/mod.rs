//! Training: from a folder of images to a folder of checkpoints.
//!
//! [`run`] is the whole of it. It reads as the paper does, and calls out for everything else: the
//! images come from the [`loader`], the mathematics is the network's, what happens is told as
//! [`Event`]s, and the [`folder`] keeps the files.

mod chart;
mod checkpoint;
pub mod config;
pub mod dataset;
mod event;
pub mod folder;
mod frozen;
pub mod loader;
mod page;
pub mod prefetch;
pub mod random;
mod run;
mod schedule;
mod tensorboard;
mod validation;

pub use config::Config;
pub use event::{Collapse, Event, Step, Told};
pub use folder::Start;
pub use run::{Outcome, run};
pub use schedule::Moment;
