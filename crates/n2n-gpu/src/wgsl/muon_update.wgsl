// Moves the matrices; does nothing once a step has failed.

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> direction: array<f32>;
@group(0) @binding(3) var<storage, read_write> parameters: array<f32>;
@group(0) @binding(4) var<storage, read_write> losses: Losses;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let item = item_of(id);
    let matrix = p.matrices[id.z];
    if (item >= matrix.y * matrix.z || atomicLoad(&losses.failed) != 0u) {
        return;
    }
    let i = matrix.x + item;
    // Per matrix, the square root of the longer side without padding.
    parameters[i] -= step.muon_rate * bitcast<f32>(matrix.w) * direction[i];
}
