// The loss of the paper (equation 6 and Algorithm 1), its gradient, and the sums of each workgroup.

struct Params {
    h: u32, w: u32, c: u32, fours: u32, cells: u32,
    // Number of patches, and of those that the regularizer is computed on.
    n: u32, regularized: u32,
    // Whether the target is the mean of both neighbors that could have been drawn.
    mean: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> output: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> noisy: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> denoised: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> pairs: array<u32>;
@group(0) @binding(6) var<storage, read_write> gradient: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> sums: array<vec2<f32>>;

var<workgroup> shared_sums: array<vec2<f32>, 256>;

// The index of a pixel of a cell in the whole images, in groups of four.
fn pixel_of(cell: u32, place: u32) -> u32 {
    let corner = cell / p.w * 4u * p.w + cell % p.w * 2u;
    return (corner + place / 2u * 2u * p.w + place % 2u) * p.fours;
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    var sum = vec2<f32>();
    let count = f32(p.cells) * f32(p.c);
    // Each regularized patch stands for as many.
    let share = f32(p.n) / f32(p.regularized);
    for (var i = 0u; i < 4u; i++) {
        let cell = (group.x * 4u + i) * 256u + thread;
        if (cell >= p.cells) {
            continue;
        }
        let place = places(pairs[cell]);
        // The edge neighbors of a pixel have numbers that add up to 3.
        let other = select(place.y, 3u - place.y, p.mean == 1u);
        let second = pixel_of(cell, place.y);
        let third = pixel_of(cell, other);
        let patch_cells = p.h * p.w;
        let turn = (cell / patch_cells + p.n - step.turn) % p.n;
        let is_regularized = step.lambda > 0.0 && turn < p.regularized;
        let expected_cell = turn * patch_cells + cell % patch_cells;
        for (var four = 0u; four < p.fours; four++) {
            let at = cell * p.fours + four;
            var diff = output[at] - 0.5 * (noisy[second + four] + noisy[third + four]);
            var gap = diff;
            var square = 0.0;
            let inside = vec4<u32>(4u * four) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(p.c);
            if (is_regularized) {
                let first = denoised[pixel_of(expected_cell, place.x) + four];
                let seconds = denoised[pixel_of(expected_cell, place.y) + four]
                    + denoised[pixel_of(expected_cell, other) + four];
                let expected = first - 0.5 * seconds;
                let own = select(vec4<f32>(), diff - expected, inside);
                square = dot(own, own);
                gap -= share * expected;
            }
            diff = select(vec4<f32>(), diff, inside);
            gap = select(vec4<f32>(), gap, inside);
            sum += vec2<f32>(dot(diff, diff), share * square);
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
        sums[group.x] = step.weight * vec2<f32>(1.0, step.lambda) * shared_sums[0] / count;
    }
}
