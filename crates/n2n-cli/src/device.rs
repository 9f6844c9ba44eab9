//! Where the network computes: the CPU or a GPU.
//!
//! GPUs are numbered in the order in which `n2n info` lists them. Without the feature `gpu` there are
//! none, and asking for one is an error that says how to get them.

use anyhow::bail;
use n2n::Error;
use n2n::cpu::{CpuNetwork, Level};
use n2n::network::Train;
use n2n::weights::Weights;

use crate::args::{Device, DeviceArgs};
use crate::ui::Ui;

/// A network ready to compute.
pub struct Placed {
    /// The network.
    pub network: Box<dyn Train>,
    /// The level of the processor's kernels, if it is on the processor.
    pub level: Option<Level>,
}

/// The error for `--half` on a processor that does not support it.
pub const NO_UNITS: &str = "--half: expected a processor with matrix units for bfloat16 (AMX: Intel Xeon since \
                            Sapphire Rapids), found none";

/// Places a network with the given weights where the flags say; its sizes follow from their shapes and metadata. If a
/// device was asked for, a note names it.
///
/// With `half`, [`Denoise::denoise`](n2n::network::Denoise::denoise) keeps what lies between layers in half precision;
/// on the CPU, this requires matrix units.
pub fn place(flags: &DeviceArgs, half: bool, weights: &Weights, ui: Ui) -> anyhow::Result<Placed> {
    let on_cpu = |half| -> Result<Placed, Error> {
        let mut network = CpuNetwork::from_weights(weights)?;
        network.set_level(flags.processor.level());
        network.set_half(half)?;
        Ok(Placed {
            level: Some(network.level()),
            network: Box::new(network),
        })
    };
    let lacks_units = half && CpuNetwork::matrix_units().is_none();
    let (placed, reason) = match flags.device {
        None | Some(Device::Cpu) if lacks_units => {
            bail!("{NO_UNITS}\nhint: {}", gpu::HINT)
        }
        None | Some(Device::Cpu) => (on_cpu(half)?, None),
        Some(Device::Gpu(number)) => (gpu::place(number, half, weights)?, None),
        Some(Device::Auto) => match gpu::place_best(half, weights)? {
            Ok(placed) => (placed, Some("the first hardware GPU".to_string())),
            Err(reason) if lacks_units => (on_cpu(false)?, Some(reason + "; in full precision")),
            Err(reason) => (on_cpu(half)?, Some(reason)),
        },
    };
    if flags.device.is_some() {
        let reason = reason.map_or(String::new(), |reason| format!(", {reason}"));
        let level = match (placed.level, flags.processor.is_given()) {
            (None, true) => "; --level applies to the CPU only",
            _ => "",
        };
        let device = placed.network.device();
        ui.note(format_args!("device: {device}{reason}{level}"));
    }
    Ok(placed)
}

/// What `n2n info` says about GPUs: pairs of a label and its text.
pub fn entries() -> Vec<(String, String)> {
    gpu::entries()
}

#[cfg(feature = "gpu")]
mod gpu {
    use anyhow::bail;
    use n2n::weights::Weights;
    use n2n_gpu::{Adapter, GpuNetwork};

    use super::Placed;

    /// How to compute in half precision without matrix units.
    pub const HINT: &str =
        "GPUs support it too; use --device gpu, or auto for a GPU if there is one";

    /// A network on the first adapter that is a GPU, or why there is none.
    pub fn place_best(half: bool, weights: &Weights) -> anyhow::Result<Result<Placed, String>> {
        let adapters = Adapter::all();
        match best_of(&found(&adapters)) {
            Ok(number) => on(&adapters[number], half, weights).map(Ok),
            Err(reason) => Ok(Err(reason)),
        }
    }

    /// A network on the adapter with this number, or on the first hardware GPU.
    pub fn place(number: Option<usize>, half: bool, weights: &Weights) -> anyhow::Result<Placed> {
        let adapters = Adapter::all();
        let number = choose(number, &found(&adapters))?;
        on(&adapters[number], half, weights)
    }

    fn on(adapter: &Adapter, half: bool, weights: &Weights) -> anyhow::Result<Placed> {
        let mut network = GpuNetwork::from_weights(adapter, weights)?;
        network.set_half(half);
        Ok(Placed {
            network: Box::new(network),
            level: None,
        })
    }

    pub fn entries() -> Vec<(String, String)> {
        let found = found(&Adapter::all());
        if found.is_empty() {
            return vec![("gpu".into(), "none found".into())];
        }
        let entry = |(number, adapter): (usize, Found)| (format!("gpu:{number}"), adapter.name);
        found.into_iter().enumerate().map(entry).collect()
    }

    /// The properties of an adapter that the choice depends on.
    struct Found {
        name: String,
        is_software: bool,
    }

    fn found(adapters: &[Adapter]) -> Vec<Found> {
        let found = |adapter: &Adapter| Found {
            name: adapter.name.clone(),
            is_software: adapter.is_software,
        };
        adapters.iter().map(found).collect()
    }

    fn best_of(found: &[Found]) -> Result<usize, String> {
        let real = found.iter().position(|adapter| !adapter.is_software);
        real.ok_or_else(|| match found {
            [] => "no GPU found".into(),
            _ => format!("only software adapters found: {}", list(found)),
        })
    }

    fn choose(number: Option<usize>, found: &[Found]) -> anyhow::Result<usize> {
        match (number, found) {
            (Some(number), _) if number < found.len() => Ok(number),
            (Some(number), []) => {
                bail!("--device gpu:{number}: there is no such device; no devices were found")
            }
            (Some(number), _) => bail!(
                "--device gpu:{number}: there is no such device; available: {}",
                list(found)
            ),
            (None, []) => bail!(
                "--device gpu: no GPU found\nhint: its driver must offer Vulkan, Metal or DX12 \
                 (in an NVIDIA container: NVIDIA_DRIVER_CAPABILITIES with graphics); --device cpu \
                 needs none"
            ),
            (None, _) => best_of(found).or_else(|_| {
                bail!(
                    "--device gpu: expected a hardware GPU, found only software adapters: \
                     {}\nhint: --device gpu:N selects one of them; --device cpu is faster",
                    list(found)
                )
            }),
        }
    }

    fn list(found: &[Found]) -> String {
        let named = found.iter().enumerate();
        let named: Vec<_> = named
            .map(|(number, adapter)| format!("gpu:{number} {}", adapter.name))
            .collect();
        named.join(", ")
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn hardware_is_preferred_and_software_is_used_only_by_number() {
            let found = |software: &[bool]| {
                let adapter = |(i, &is_software): (usize, &bool)| Found {
                    name: format!("Adapter {i}"),
                    is_software,
                };
                software.iter().enumerate().map(adapter).collect::<Vec<_>>()
            };
            for (software, number, want) in [
                (&[false, true][..], None, Ok(0)),
                (&[true, false], None, Ok(1)),
                (&[true, false], Some(0), Ok(0)),
                (&[true], Some(0), Ok(0)),
                (&[true], None, Err("gpu:0 Adapter 0\nhint: --device gpu:N")),
                (
                    &[true],
                    Some(1),
                    Err("--device gpu:1: there is no such device; available: gpu:0 Adapter 0"),
                ),
                (&[], None, Err("no GPU found")),
                (
                    &[],
                    Some(0),
                    Err("there is no such device; no devices were found"),
                ),
            ] {
                match (choose(number, &found(software)), want) {
                    (Ok(got), Ok(want)) => assert_eq!(got, want),
                    (Err(error), Err(want)) => {
                        assert!(error.to_string().contains(want), "{error}");
                    }
                    (got, want) => panic!("{got:?} is not {want:?}"),
                }
            }
            let reason = best_of(&found(&[true])).unwrap_err();
            assert!(reason.contains("gpu:0 Adapter 0"), "{reason}");
        }
    }
}

#[cfg(not(feature = "gpu"))]
mod gpu {
    use anyhow::bail;
    use n2n::weights::Weights;

    use super::Placed;

    /// The command that builds this program with GPU support, in the folder of its source.
    const BUILD: &str = "cargo build --release --features gpu";
    /// How to compute in half precision without matrix units.
    pub const HINT: &str = "GPUs support it too, but this program was built without GPU support: build it with cargo \
                            build --release --features gpu, then use --device gpu";

    #[allow(clippy::unnecessary_wraps, reason = "as with GPUs")]
    pub fn place_best(_: bool, _: &Weights) -> anyhow::Result<Result<Placed, String>> {
        Ok(Err("this program was built without GPU support".into()))
    }

    pub fn place(_: Option<usize>, _: bool, _: &Weights) -> anyhow::Result<Placed> {
        bail!("--device: this program was built without GPU support\nhint: build it with {BUILD}")
    }

    pub fn entries() -> Vec<(String, String)> {
        vec![("gpu".into(), format!("not built in; {BUILD}"))]
    }
}
