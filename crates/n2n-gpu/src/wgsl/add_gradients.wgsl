// The gradients of a step's batches so far, weighted, in place of those of the last one.

struct Params { len: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read_write> gradients: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> sums: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = item_of(id);
    if (i >= p.len) {
        return;
    }
    var sum = step.weight * gradients[i];
    if (step.batch > 0u) {
        sum += sums[i];
    }
    sums[i] = sum;
    gradients[i] = sum;
}
