//! The flags that say where the network computes, and how a device is named.

use std::fmt::{self, Display};
use std::str::FromStr;

use clap::Args;
use n2n::cpu::{Level, LevelError};

/// A device that the user asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// The processor.
    Cpu,
    /// The first hardware GPU, or one by its number.
    Gpu(Option<usize>),
    /// The first hardware GPU, or else the processor.
    Auto,
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "cpu" => Ok(Self::Cpu),
            "gpu" => Ok(Self::Gpu(None)),
            "auto" => Ok(Self::Auto),
            _ => {
                let number = text.strip_prefix("gpu:").and_then(|n| n.parse().ok());
                let gpu = number.map(|number| Self::Gpu(Some(number)));
                gpu.ok_or_else(|| "expected cpu, gpu, gpu:N or auto".into())
            }
        }
    }
}

impl Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu(None) => f.write_str("gpu"),
            Self::Gpu(Some(number)) => write!(f, "gpu:{number}"),
            Self::Auto => f.write_str("auto"),
        }
    }
}

/// The flag of commands that run the network.
#[derive(Debug, Args)]
pub struct Processor {
    /// CPU instruction set level, one that `n2n info` lists [default: the fastest]
    #[arg(long, value_name = "NAME", env = "N2N_LEVEL", value_parser = level, display_order = 800)]
    level: Option<Level>,
}

impl Processor {
    /// The level that was asked for, or else the fastest.
    pub fn level(&self) -> Level {
        self.level.unwrap_or_else(Level::detect)
    }

    /// Whether one was asked for.
    pub fn is_given(&self) -> bool {
        self.level.is_some()
    }
}

/// The flags of commands that run the network on any device.
#[derive(Debug, Args)]
pub struct DeviceArgs {
    /// Device to compute on: cpu, gpu (the first hardware GPU), gpu:N (as numbered by `n2n info`), or auto (a GPU if
    /// there is one) [default: cpu]
    #[arg(long, value_name = "DEVICE", env = "N2N_DEVICE", display_order = 799)]
    pub device: Option<Device>,
    /// Flags for computing on the CPU.
    #[command(flatten)]
    pub processor: Processor,
}

/// The flags of commands that denoise on any device.
#[derive(Debug, Args)]
pub struct Denoiser {
    /// Where to compute.
    #[command(flatten)]
    pub device_args: DeviceArgs,
    /// Compute in half precision, which takes less memory and, on a CPU, less time. Requires a GPU, or a CPU with
    /// matrix units (AMX)
    #[arg(long, display_order = 799)]
    pub half: bool,
}

fn level(name: &str) -> Result<Level, String> {
    name.parse().map_err(|error: LevelError| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_names() {
        for (text, want) in [
            ("cpu", Device::Cpu),
            ("gpu", Device::Gpu(None)),
            ("gpu:0", Device::Gpu(Some(0))),
            ("gpu:12", Device::Gpu(Some(12))),
            ("auto", Device::Auto),
        ] {
            assert_eq!(text.parse(), Ok(want), "{text}");
            assert_eq!(want.to_string(), text);
        }
        for text in ["", "GPU", "gpu:", "gpu:-1", "gpu0", "cuda"] {
            assert!(text.parse::<Device>().is_err(), "{text}");
        }
    }
}
