// Copies the patches whose turn it is.

// Groups of four in a patch, and the number of patches in the batch.
struct Params { len: u32, n: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> patches: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> taken: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = item_of(id);
    if (i < p.len) {
        taken[id.z * p.len + i] = patches[(step.turn + id.z) % p.n * p.len + i];
    }
}
