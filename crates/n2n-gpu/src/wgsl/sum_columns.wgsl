// The gradient of a bias: sums over pixels, divided among the workgroups.

struct Params { pixels: u32, fours: u32, bias: u32, stride: u32, splits: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> gradient: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> partial: array<vec4<f32>>;

var<workgroup> shared_sums: array<vec4<f32>, 256>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let four = group.x * 8u + thread % 8u;
    var sum = vec4<f32>();
    if (four < p.fours) {
        for (var pixel = group.y * 32u + thread / 8u; pixel < p.pixels; pixel += p.splits * 32u) {
            sum += gradient[pixel * p.fours + four];
        }
    }
    shared_sums[thread] = sum;
    for (var half = 128u; half >= 8u; half /= 2u) {
        workgroupBarrier();
        if (thread < half) {
            shared_sums[thread] += shared_sums[thread + half];
        }
    }
    if (thread < 8u && four < p.fours) {
        partial[group.y * p.stride + p.bias + four] = shared_sums[thread];
    }
}
