//! Work for the device, recorded once for each batch size and replayed as often as needed: passes of kernels over
//! buffers. Buffers that are never needed at the same time share memory.

use std::ops::Range;

use n2n::Result;

use crate::device::Device;
use crate::kernel::Kernel;

/// A buffer of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id(usize);

/// Who provides a buffer's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// The caller, in [`Graph::compile`]: the buffer with this index there.
    Caller(usize),
    /// The graph, for as long as it lives, because the buffer is written or read from outside.
    Graph,
    /// The graph, from the first pass that uses the buffer to the last.
    Passes,
}

#[derive(Debug)]
struct Buffer {
    bytes: u64,
    owner: Owner,
}

/// One run of a kernel.
#[derive(Debug)]
pub struct Pass {
    pub kernel: Kernel,
    /// Values of its `Params`, the first binding.
    pub params: Vec<u32>,
    /// The other bindings, in order.
    pub buffers: Vec<Id>,
    /// Number of workgroups.
    pub groups: [usize; 3],
}

/// The recording.
#[derive(Debug, Default)]
pub struct Graph {
    buffers: Vec<Buffer>,
    passes: Vec<Pass>,
}

impl Graph {
    /// The buffer with this `index` among those that the caller passes to [`Self::compile`].
    pub fn given(&mut self, index: usize) -> Id {
        self.add(0, Owner::Caller(index))
    }

    /// A buffer that lives as long as the graph.
    pub fn kept(&mut self, bytes: u64) -> Id {
        self.add(bytes, Owner::Graph)
    }

    /// A buffer that is needed from the first pass that uses it to the last.
    pub fn temporary(&mut self, bytes: u64) -> Id {
        self.add(bytes, Owner::Passes)
    }

    fn add(&mut self, bytes: u64, owner: Owner) -> Id {
        self.buffers.push(Buffer { bytes, owner });
        Id(self.buffers.len() - 1)
    }

    pub fn push(&mut self, pass: Pass) {
        self.passes.push(pass);
    }

    /// Number of passes so far, for naming a range of them.
    pub fn len(&self) -> usize {
        self.passes.len()
    }

    /// The size of each piece of memory in bytes, and the piece assigned to each buffer that the graph owns.
    ///
    /// In the order of the passes, a buffer takes the smallest free piece that can hold it; failing that, the largest
    /// free piece grows; failing that, a new piece is added.
    fn plan(&self) -> (Vec<u64>, Vec<Option<usize>>) {
        let mut pieces: Vec<u64> = vec![];
        let mut free: Vec<usize> = vec![];
        let mut places = vec![None; self.buffers.len()];
        for (place, buffer) in places.iter_mut().zip(&self.buffers) {
            if buffer.owner == Owner::Graph {
                *place = Some(pieces.len());
                pieces.push(buffer.bytes);
            }
        }
        let mut last = vec![0; self.buffers.len()];
        for (i, pass) in self.passes.iter().enumerate() {
            for id in &pass.buffers {
                last[id.0] = i;
            }
        }
        for (i, pass) in self.passes.iter().enumerate() {
            for id in &pass.buffers {
                let buffer = &self.buffers[id.0];
                if buffer.owner == Owner::Passes && places[id.0].is_none() {
                    free.sort_by_key(|&piece| pieces[piece]);
                    let fitting = free.iter().position(|&piece| pieces[piece] >= buffer.bytes);
                    let piece = match fitting {
                        Some(at) => free.remove(at),
                        None => free.pop().unwrap_or_else(|| {
                            pieces.push(0);
                            pieces.len() - 1
                        }),
                    };
                    pieces[piece] = pieces[piece].max(buffer.bytes);
                    places[id.0] = Some(piece);
                }
            }
            for id in &pass.buffers {
                if self.buffers[id.0].owner == Owner::Passes && last[id.0] == i {
                    let piece = places[id.0].expect("a place since its first pass");
                    if !free.contains(&piece) {
                        free.push(piece);
                    }
                }
            }
        }
        (pieces, places)
    }

    /// The memory that the graph will take: the size of each piece in bytes.
    pub fn pieces(&self) -> Vec<u64> {
        self.plan().0
    }

    /// Allocates the memory and prepares the passes. `asked` names the purpose in errors.
    pub fn compile(
        &self,
        device: &Device,
        given: &[&wgpu::Buffer],
        asked: &str,
    ) -> Result<Program> {
        let most = device.max_groups();
        let groups = self.passes.iter().flat_map(|pass| pass.groups);
        if groups.max().is_some_and(|groups| groups > most) {
            return Err(device.out_of_memory(asked));
        }
        let (pieces, places) = self.plan();
        let pieces = device.buffers(&pieces, asked)?;
        let scope = device.watch_memory();
        let buffers: Vec<wgpu::Buffer> = std::iter::zip(&self.buffers, places)
            .map(|(buffer, place)| match (buffer.owner, place) {
                (Owner::Caller(index), _) => given[index].clone(),
                (_, Some(piece)) => pieces[piece].clone(),
                // Not used by any pass.
                (_, None) => pieces[0].clone(),
            })
            .collect();
        let passes = self
            .passes
            .iter()
            .map(|pass| {
                let pipeline = device.pipeline(&pass.kernel);
                let bound: Vec<_> = pass.buffers.iter().map(|id| &buffers[id.0]).collect();
                Step {
                    bindings: device.bind(&pipeline, &pass.params, &bound),
                    pipeline,
                    groups: pass.groups.map(|groups| groups as u32),
                }
            })
            .collect();
        device.had_memory(scope, asked)?;
        device.check()?;
        Ok(Program { passes, buffers })
    }
}

struct Step {
    pipeline: wgpu::ComputePipeline,
    bindings: wgpu::BindGroup,
    groups: [u32; 3],
}

/// A compiled graph on the device.
pub struct Program {
    passes: Vec<Step>,
    buffers: Vec<wgpu::Buffer>,
}

impl Program {
    pub fn buffer(&self, id: Id) -> &wgpu::Buffer {
        &self.buffers[id.0]
    }

    /// Records a range of the passes in the encoder.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder, passes: Range<usize>) {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for step in &self.passes[passes] {
            pass.set_pipeline(&step.pipeline);
            pass.set_bind_group(0, &step.bindings, &[]);
            let [x, y, z] = step.groups;
            pass.dispatch_workgroups(x, y, z);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(buffers: &[Id]) -> Pass {
        Pass {
            kernel: Kernel::Text(String::new()),
            params: vec![],
            buffers: buffers.to_vec(),
            groups: [1; 3],
        }
    }

    #[test]
    fn buffers_share_memory_only_when_no_pass_needs_both() {
        let mut graph = Graph::default();
        let input = graph.kept(10);
        let chain: Vec<Id> = [40, 30, 20, 50].map(|bytes| graph.temporary(bytes)).into();
        graph.push(pass(&[input, chain[0]]));
        graph.push(pass(&[chain[0], chain[1]]));
        graph.push(pass(&[chain[1], chain[2]]));
        graph.push(pass(&[chain[2], chain[3], chain[0]]));
        let (pieces, places) = graph.plan();
        // The first buffer of the chain is read again at the end, so only the second is ever free.
        assert_eq!(pieces, [10, 40, 50, 20]);
        assert_eq!(places, [Some(0), Some(1), Some(2), Some(3), Some(2)]);
        assert_eq!(graph.pieces(), pieces);
    }
}
