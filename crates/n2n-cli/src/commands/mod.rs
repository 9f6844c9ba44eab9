//! One file per command: turn arguments into a checked config, call the library, render the result.

pub mod bench;
pub mod completions;
pub mod corrupt;
pub mod diagnose;
pub mod export;
pub mod infer;
pub mod info;
pub mod man;
pub mod predict;
pub mod prepare;
pub mod train;
pub mod val;
