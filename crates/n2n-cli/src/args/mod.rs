//! The command line: every flag, its default and its check.
//!
//! Flags are written in kebab-case. Each is also accepted in the reference's snake_case spelling
//! (`--data_dir`).

mod bench;
mod corrupt;
mod device;
mod diagnose;
mod export;
mod image;
mod infer;
mod info;
mod predict;
mod prepare;
mod train;
mod val;
mod value;

use std::env;

use clap::{Arg, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use n2n::train::config::Config;

pub use self::bench::{Bench, BenchWork};
pub use self::corrupt::Corrupt;
pub use self::device::{Denoiser, Device, DeviceArgs};
pub use self::diagnose::Diagnose;
pub use self::export::{Export, ExportFormat};
pub use self::image::{ImageDepth, ImageFormat};
pub use self::infer::{Engine, Infer, Precision};
pub use self::info::{Completions, Info, Man};
pub use self::predict::{Pad, Predict};
pub use self::prepare::Prepare;
pub use self::train::Train;
pub use self::val::Val;
use self::value::threads;

/// Train an image denoiser from noisy images alone, and use it.
#[derive(Debug, Parser)]
#[command(name = "n2n", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
}

/// Flags that every command takes.
#[derive(Debug, Args)]
pub struct Global {
    /// CPU threads [default: all cores]
    #[arg(
        long,
        alias = "cpu-threads",
        global = true,
        value_name = "N",
        value_parser = threads,
        display_order = 900
    )]
    pub threads: Option<usize>,
    /// Print only results, warnings and errors: no progress, no notes
    #[arg(long, short, global = true, display_order = 901)]
    pub quiet: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "only one is ever created")]
pub enum Command {
    /// Select and convert training images
    Prepare(Prepare),
    /// Analyze the noise of images before training on them
    Diagnose(Diagnose),
    /// Train a denoiser
    Train(Train),
    /// Score a model with the paper's protocol
    Val(Val),
    /// Denoise files and folders
    #[command(visible_alias = "denoise")]
    Predict(Predict),
    /// Add noise to an image, for testing
    Corrupt(Corrupt),
    /// Export a model for other programs: ONNX, safetensors and packages
    Export(Export),
    /// Run an exported model on images, optionally with a benchmark report
    Infer(Infer),
    /// Time the network on random pixels
    Bench(Bench),
    /// Show the build, the CPU level, the GPUs and the shipped models; or the layers of a model
    Info(Info),
    /// Print shell completions
    Completions(Completions),
    /// Print the manual page, or write the pages of all commands
    Man(Man),
}

/// Parses the command line of this process; ends the process if the command line is invalid.
pub fn parse() -> Cli {
    let matches = command().get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// The parser. It also accepts the reference's spelling of every flag, and takes negative numbers as values, so that
/// the check of the flag can reject them. An environment variable that is empty counts as one that is not set.
pub fn command() -> clap::Command {
    Cli::command()
        .mut_args(and_snake_case)
        .mut_subcommands(|command| {
            command
                .mut_args(and_snake_case)
                .mut_args(and_no_empty_variable)
                .allow_negative_numbers(true)
        })
        .mut_subcommand("train", |train| {
            let defaults = Config::default().to_table();
            train.mut_args(move |flag| and_default(flag, &defaults))
        })
}

/// The flag with its default added to its help, if the settings have one.
fn and_default(flag: Arg, defaults: &toml::Table) -> Arg {
    let default = match defaults.get(flag.get_id().as_str()) {
        Some(toml::Value::String(text)) if text != "none" => text.clone(),
        Some(value @ (toml::Value::Integer(_) | toml::Value::Float(_))) => value.to_string(),
        _ => return flag,
    };
    let help = flag.get_help().cloned().unwrap_or_default();
    flag.help(format!("{help} [default: {default}]"))
}

fn and_snake_case(flag: Arg) -> Arg {
    let names = flag.get_long_and_visible_aliases().unwrap_or_default();
    let names = names
        .into_iter()
        .chain(flag.get_all_aliases().unwrap_or_default());
    let others: Vec<_> = names
        .filter(|name| name.contains('-'))
        .map(|name| name.replace('-', "_"))
        .collect();
    flag.aliases(others)
}

fn and_no_empty_variable(flag: Arg) -> Arg {
    let value = flag.get_env().and_then(env::var_os);
    if value.is_some_and(|value| value.is_empty()) {
        flag.env(None::<&str>)
    } else {
        flag
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        command().debug_assert();
    }
}
