// The running average of the weights; does nothing once a step has failed.

struct Params { len: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> parameters: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> average: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> losses: Losses;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = item_of(id);
    if (i < p.len && atomicLoad(&losses.failed) == 0u) {
        average[i] += step.share * (parameters[i] - average[i]);
    }
}
