// The loss of the paper (equation 6 and Algorithm 1), its gradient, and the sums of each workgroup.

struct Params { h: u32, w: u32, c: u32, fours: u32, cells: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> output: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> noisy: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> denoised: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> pairs: array<u32>;
@group(0) @binding(6) var<storage, read_write> gradient: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> sums: array<vec2<f32>>;

var<workgroup> shared_sums: array<vec2<f32>, 256>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    var sum = vec2<f32>();
    let count = f32(p.cells) * f32(p.c);
    for (var i = 0u; i < 4u; i++) {
        let cell = (group.x * 4u + i) * 256u + thread;
        if (cell >= p.cells) {
            continue;
        }
        let place = places(pairs[cell]);
        let corner = cell / p.w * 4u * p.w + cell % p.w * 2u;
        let first = corner + place.x / 2u * 2u * p.w + place.x % 2u;
        let second = corner + place.y / 2u * 2u * p.w + place.y % 2u;
        for (var four = 0u; four < p.fours; four++) {
            let at = cell * p.fours + four;
            var diff = output[at] - noisy[second * p.fours + four];
            var gap = diff;
            if (step.lambda > 0.0) {
                gap -= denoised[first * p.fours + four] - denoised[second * p.fours + four];
            }
            let inside = vec4<u32>(4u * four) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(p.c);
            diff = select(vec4<f32>(), diff, inside);
            gap = select(vec4<f32>(), gap, inside);
            sum += vec2<f32>(dot(diff, diff), dot(gap, gap));
            gradient[at] = (2.0 / count) * (step.lambda1 * diff + step.lambda2 * step.lambda * gap);
        }
    }
    shared_sums[thread] = sum;
    for (var half = 128u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (thread < half) {
            shared_sums[thread] += shared_sums[thread + half];
        }
    }
    if (thread == 0u) {
        sums[group.x] = vec2<f32>(1.0, step.lambda) * shared_sums[0] / count;
    }
}
