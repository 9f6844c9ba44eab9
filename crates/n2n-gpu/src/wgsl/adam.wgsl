// Adam (Kingma and Ba, 2015, algorithm 1) for some ranges of the parameters; does nothing once a step has failed.

// First group of four and number of groups of each range.
struct Params { ranges: array<vec4<u32>, RANGES> }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read_write> parameters: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> gradients: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> first: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> second: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> losses: Losses;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let item = item_of(id);
    let range = p.ranges[id.z];
    if (item == 0u && id.z == 0u && atomicLoad(&losses.failed) == 0u) {
        losses.steps += 1u;
    }
    if (item >= range.y || atomicLoad(&losses.failed) != 0u) {
        return;
    }
    let i = range.x + item;
    let g = gradients[i];
    let m = BETA1 * first[i] + (1.0 - BETA1) * g;
    let v = BETA2 * second[i] + (1.0 - BETA2) * g * g;
    first[i] = m;
    second[i] = v;
    parameters[i] -= step.rate * m / (sqrt(v) * step.root + EPSILON);
}
