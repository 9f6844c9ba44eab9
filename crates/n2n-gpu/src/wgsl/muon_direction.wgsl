// The momentum of the matrices, and the (Nesterov) direction to make orthogonal; does nothing once a step has failed.

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> gradients: array<f32>;
@group(0) @binding(2) var<storage, read_write> momentum: array<f32>;
@group(0) @binding(3) var<storage, read_write> direction: array<f32>;
@group(0) @binding(4) var<storage, read_write> losses: Losses;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let item = item_of(id);
    let matrix = p.matrices[id.z];
    if (item >= matrix.y * matrix.z || atomicLoad(&losses.failed) != 0u) {
        return;
    }
    let i = matrix.x + item;
    let g = gradients[i];
    let m = momentum[i] + (1.0 - MOMENTUM) * (g - momentum[i]);
    momentum[i] = m;
    direction[i] = m + (1.0 - MOMENTUM) * (g - m);
}
