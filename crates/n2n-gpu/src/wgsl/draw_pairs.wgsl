// A pair of neighbors for each 2×2 cell.

struct Params { cells: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read_write> pairs: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let cell = item_of(id);
    if (cell < p.cells) {
        pairs[cell] = philox(vec4<u32>(cell, 0u, 0u, PAIR), step.seed).x & 7u;
    }
}
