// Adds a step's losses to those of the steps before. Steps after a failed one add nothing.

struct Params { groups: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> sums: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> losses: Losses;

var<workgroup> shared_sums: array<vec2<f32>, 256>;

@compute @workgroup_size(256)
fn main(@builtin(local_invocation_index) thread: u32) {
    var sum = vec2<f32>();
    for (var i = thread; i < p.groups; i += 256u) {
        sum += sums[i];
    }
    shared_sums[thread] = sum;
    for (var half = 128u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (thread < half) {
            shared_sums[thread] += shared_sums[thread + half];
        }
    }
    if (thread == 0u) {
        if (!is_finite(shared_sums[0].x) || !is_finite(shared_sums[0].y)) {
            atomicStore(&losses.failed, 1u);
        }
        if (atomicLoad(&losses.failed) == 0u) {
            losses.loss1 += shared_sums[0].x;
            losses.loss2 += shared_sums[0].y;
        }
    }
}
