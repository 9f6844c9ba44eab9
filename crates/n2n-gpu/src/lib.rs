//! The network on any GPU through `wgpu`: Vulkan, Metal or DX12.
//!
//! [`GpuNetwork`] is the second implementation of [`n2n::network::Train`]. The layers of [`n2n::unet::UNet`] become
//! passes of compute shaders, recorded once for each batch size; a training step stays on the device from the clean
//! bytes to the updated weights. Its results are held to those of the CPU implementation.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

mod conv;
mod correlation;
mod device;
mod graph;
mod kernel;
mod layout;
mod network;
mod optimizer;
mod passes;
mod wgsl;

pub use device::Adapter;
pub use network::GpuNetwork;
