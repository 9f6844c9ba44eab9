// Adds the copies of a layer's gradient that its workgroups stored.

struct Params { first: u32, stride: u32, splits: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> partial: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> gradients: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> losses: Losses;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = item_of(id);
    if (i >= p.stride) {
        return;
    }
    var sum = vec4<f32>();
    for (var copy = 0u; copy < p.splits; copy++) {
        sum += partial[copy * p.stride + i];
    }
    gradients[p.first + i] = sum;
    // The optimizer squares the gradients, so the squares must be finite too.
    if (!is_finite(dot(sum, sum))) {
        atomicStore(&losses.failed, 1u);
    }
}
