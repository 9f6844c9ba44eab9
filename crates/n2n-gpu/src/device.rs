//! Devices: enumerating and opening them, their memory and kernels, and how they report failures.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use n2n::{Error, Result};
use wgpu::util::{BufferInitDescriptor, DeviceExt};

use crate::kernel::Kernel;

/// Longest wait for a result. A step on a slow device takes seconds; a device that takes this long has hung.
const PATIENCE: Duration = Duration::from_mins(10);

/// A device that `wgpu` found.
#[derive(Debug, Clone)]
pub struct Adapter {
    /// The adapter's name, kind and API, such as `NVIDIA H200 (discrete, Vulkan)`.
    pub name: String,
    /// Whether it is a software implementation that runs on the CPU.
    pub is_software: bool,
    found: wgpu::Adapter,
}

impl Adapter {
    /// Every device, in numbering order: discrete GPUs first, software ones last.
    pub fn all() -> Vec<Self> {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        // Where the driver reports how much memory there is, refuse an oversized allocation before anything else
        // fails, which would lose the device.
        descriptor.memory_budget_thresholds.for_resource_creation = Some(90);
        let instance = wgpu::Instance::new(descriptor);
        let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
        let mut adapters: Vec<_> = adapters
            .into_iter()
            .filter(|adapter| {
                let downlevel = adapter.get_downlevel_capabilities();
                downlevel
                    .flags
                    .contains(wgpu::DownlevelFlags::COMPUTE_SHADERS)
            })
            .map(|adapter| (kind(adapter.get_info().device_type), adapter))
            .collect();
        adapters.sort_by_key(|&((rank, _), _)| rank);
        adapters
            .into_iter()
            .map(|((_, kind), adapter)| {
                let info = adapter.get_info();
                Self {
                    name: format!("{} ({kind}, {})", info.name.trim(), backend(info.backend)),
                    is_software: info.device_type == wgpu::DeviceType::Cpu,
                    found: adapter,
                }
            })
            .collect()
    }
}

fn kind(kind: wgpu::DeviceType) -> (u8, &'static str) {
    match kind {
        wgpu::DeviceType::DiscreteGpu => (0, "discrete"),
        wgpu::DeviceType::IntegratedGpu => (1, "integrated"),
        wgpu::DeviceType::VirtualGpu => (2, "virtual"),
        wgpu::DeviceType::Other => (3, "other"),
        wgpu::DeviceType::Cpu => (4, "software"),
    }
}

fn backend(backend: wgpu::Backend) -> &'static str {
    match backend {
        wgpu::Backend::Vulkan => "Vulkan",
        wgpu::Backend::Metal => "Metal",
        wgpu::Backend::Dx12 => "DX12",
        other => other.to_str(),
    }
}

/// An open device.
pub struct Device {
    pub name: String,
    wgpu: wgpu::Device,
    queue: wgpu::Queue,
    /// Compiled kernels.
    pipelines: Mutex<HashMap<Kernel, wgpu::ComputePipeline>>,
    /// The first error that the device reported outside of a call.
    failure: Arc<Mutex<Option<String>>>,
    /// Maximum number of bytes for all buffers of a call to [`Self::buffers`], if that is less than the device has.
    pub max_bytes: u64,
}

impl Device {
    pub fn open(adapter: &Adapter) -> Result<Self> {
        let limits = adapter.found.limits();
        let opened = adapter.found.request_device(&wgpu::DeviceDescriptor {
            label: Some("n2n"),
            required_limits: limits,
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        });
        let (device, queue) = pollster::block_on(opened).map_err(|error| Error::Device {
            device: adapter.name.clone(),
            reason: format!("cannot be opened: {error}"),
        })?;
        let failure = Arc::new(Mutex::new(None));
        let note = |failure: &Mutex<Option<String>>, text: String| {
            let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.get_or_insert(text);
        };
        device.on_uncaptured_error(Arc::new({
            let failure = Arc::clone(&failure);
            move |error: wgpu::Error| note(&failure, error.to_string())
        }));
        device.set_device_lost_callback({
            let failure = Arc::clone(&failure);
            move |_, message| {
                let message = message.trim().trim_end_matches('.');
                note(&failure, format!("the device was lost: {message}"));
            }
        });
        Ok(Self {
            name: adapter.name.clone(),
            wgpu: device,
            queue,
            pipelines: Mutex::default(),
            failure,
            max_bytes: u64::MAX,
        })
    }

    /// Returns an error if the device has reported one.
    pub fn check(&self) -> Result<()> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        match &*failure {
            None => Ok(()),
            Some(reason) => Err(self.error(reason)),
        }
    }

    fn error(&self, reason: impl std::fmt::Display) -> Error {
        Error::Device {
            device: self.name.clone(),
            reason: reason.to_string(),
        }
    }

    /// Maximum size of a buffer in bytes.
    pub fn largest(&self) -> u64 {
        let limits = self.wgpu.limits();
        limits
            .max_buffer_size
            .min(limits.max_storage_buffer_binding_size)
    }

    /// Allocates buffers of these sizes in bytes, all or none. `asked` names their purpose in errors.
    pub fn buffers(&self, sizes: &[u64], asked: &str) -> Result<Vec<wgpu::Buffer>> {
        self.check()?;
        let total: u64 = sizes.iter().sum();
        if total > self.max_bytes || sizes.iter().any(|&size| size > self.largest()) {
            return Err(self.out_of_memory(asked));
        }
        let scope = self.watch_memory();
        let buffers = sizes
            .iter()
            .map(|&size| {
                self.wgpu.create_buffer(&wgpu::BufferDescriptor {
                    label: None,
                    size: size.max(16),
                    usage: wgpu::BufferUsages::STORAGE
                        | wgpu::BufferUsages::COPY_SRC
                        | wgpu::BufferUsages::COPY_DST,
                    mapped_at_creation: false,
                })
            })
            .collect();
        self.had_memory(scope, asked)?;
        Ok(buffers)
    }

    /// Watches for out-of-memory errors until [`Self::had_memory`].
    pub fn watch_memory(&self) -> wgpu::ErrorScopeGuard {
        self.wgpu.push_error_scope(wgpu::ErrorFilter::OutOfMemory)
    }

    /// Returns an error if the device ran out of memory.
    pub fn had_memory(&self, scope: wgpu::ErrorScopeGuard, asked: &str) -> Result<()> {
        match pollster::block_on(scope.pop()) {
            None => Ok(()),
            Some(_) => Err(self.out_of_memory(asked)),
        }
    }

    pub fn out_of_memory(&self, asked: &str) -> Error {
        Error::OutOfMemory {
            device: self.name.clone(),
            asked: asked.into(),
            fits: None,
        }
    }

    /// [`Self::buffers`] for a number known at compile time.
    pub fn array<const N: usize>(&self, sizes: [u64; N], asked: &str) -> Result<[wgpu::Buffer; N]> {
        let buffers = self.buffers(&sizes, asked)?;
        Ok(buffers.try_into().expect("as many as asked for"))
    }

    /// A buffer for the parameters that all kernels of a step read, rewritten for each step.
    pub fn uniform(&self, bytes: u64) -> wgpu::Buffer {
        self.wgpu.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    }

    /// Maximum number of workgroups per pass in each dimension.
    pub fn max_groups(&self) -> usize {
        self.wgpu.limits().max_compute_workgroups_per_dimension as usize
    }

    /// The kernel, compiled on first use.
    pub fn pipeline(&self, kernel: &Kernel) -> wgpu::ComputePipeline {
        let mut pipelines = self
            .pipelines
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(pipeline) = pipelines.get(kernel) {
            return pipeline.clone();
        }
        let module = self
            .wgpu
            .create_shader_module(wgpu::ShaderModuleDescriptor {
                label: None,
                source: wgpu::ShaderSource::Wgsl(kernel.source().into()),
            });
        let pipeline = self
            .wgpu
            .create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: None,
                layout: None,
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    // Every kernel writes workgroup memory before reading it.
                    zero_initialize_workgroup_memory: false,
                    ..Default::default()
                },
                cache: None,
            });
        pipelines.insert(kernel.clone(), pipeline.clone());
        pipeline
    }

    /// The bindings of a pass: its parameters, then its buffers.
    pub fn bind(
        &self,
        pipeline: &wgpu::ComputePipeline,
        params: &[u32],
        buffers: &[&wgpu::Buffer],
    ) -> wgpu::BindGroup {
        let mut params = params.to_vec();
        params.resize(params.len().next_multiple_of(4).max(4), 0);
        let params = self.wgpu.create_buffer_init(&BufferInitDescriptor {
            label: None,
            contents: bytemuck::cast_slice(&params),
            usage: wgpu::BufferUsages::UNIFORM,
        });
        let entries: Vec<_> = std::iter::once(&params)
            .chain(buffers.iter().copied())
            .enumerate()
            .map(|(binding, buffer)| wgpu::BindGroupEntry {
                binding: binding as u32,
                resource: buffer.as_entire_binding(),
            })
            .collect();
        self.wgpu.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        })
    }

    /// Writes `values` to the buffer before the next submission.
    pub fn write<T: bytemuck::NoUninit>(&self, buffer: &wgpu::Buffer, values: &[T]) {
        self.queue
            .write_buffer(buffer, 0, bytemuck::cast_slice(values));
    }

    /// Submits the commands that `encode` records; pass the result to [`Self::wait`].
    pub fn submit(
        &self,
        encode: impl FnOnce(&mut wgpu::CommandEncoder),
    ) -> Result<wgpu::SubmissionIndex> {
        let mut encoder = self
            .wgpu
            .create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encode(&mut encoder);
        let ticket = self.queue.submit([encoder.finish()]);
        self.check()?;
        Ok(ticket)
    }

    /// Waits until a submission has finished.
    pub fn wait(&self, ticket: wgpu::SubmissionIndex) -> Result<()> {
        let poll = wgpu::PollType::Wait {
            submission_index: Some(ticket),
            timeout: Some(PATIENCE),
        };
        let polled = self.wgpu.poll(poll);
        self.check()?;
        match polled {
            Ok(_) => Ok(()),
            Err(error) => Err(self.error(format!("no answer in {PATIENCE:?}: {error}"))),
        }
    }

    /// The first `len` values of a buffer, after all submissions have finished.
    pub fn read<T: bytemuck::Pod>(&self, buffer: &wgpu::Buffer, len: usize) -> Result<Vec<T>> {
        let bytes = (len * size_of::<T>()) as u64;
        let scope = self.watch_memory();
        let staging = self.wgpu.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes,
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        self.had_memory(scope, &format!("a readback buffer of {bytes} bytes"))?;
        let ticket = self.submit(|encoder| {
            encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, bytes);
        })?;
        let mapped = Arc::new(Mutex::new(None));
        staging.map_async(wgpu::MapMode::Read, .., {
            let mapped = Arc::clone(&mapped);
            move |result| *mapped.lock().unwrap_or_else(PoisonError::into_inner) = Some(result)
        });
        self.wait(ticket)?;
        let mapped = mapped.lock().unwrap_or_else(PoisonError::into_inner).take();
        match mapped {
            Some(Ok(())) => {}
            Some(Err(error)) => return Err(self.error(error)),
            None => return Err(self.error("the result could not be read back")),
        }
        let view = staging
            .get_mapped_range(..)
            .map_err(|error| self.error(error))?;
        Ok(bytemuck::pod_collect_to_vec(&view))
    }

    /// Makes the device fail as a fault would, for tests.
    #[cfg(test)]
    pub fn destroy(&self) {
        self.wgpu.destroy();
    }
}
