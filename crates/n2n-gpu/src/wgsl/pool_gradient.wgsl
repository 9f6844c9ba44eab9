// The gradient before a LeakyReLU that is followed by max-pooling: each value goes to the first maximum
// of its block, in row order.

struct Params { h: u32, w: u32, fours: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> activation: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> pooled: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> gradient: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= p.w * p.fours) {
        return;
    }
    let row = id.z * p.h + id.y;
    let slope = pooled[row * p.w * p.fours + id.x];
    let corner = (row * 4u * p.w + id.x / p.fours * 2u) * p.fours + id.x % p.fours;
    let at = array<u32, 4>(
        corner, corner + p.fours, corner + 2u * p.w * p.fours, corner + (2u * p.w + 1u) * p.fours,
    );
    let a = array<vec4<f32>, 4>(
        activation[at[0]], activation[at[1]], activation[at[2]], activation[at[3]],
    );
    let greatest = max(max(a[0], a[1]), max(a[2], a[3]));
    var found = vec4<bool>();
    for (var i = 0u; i < 4u; i++) {
        let here = (a[i] == greatest) & !found;
        found = found | here;
        let leaky = select(vec4<f32>(LEAKY_SLOPE), vec4<f32>(1.0), a[i] > vec4<f32>());
        gradient[at[i]] = select(vec4<f32>(), leaky * slope, here);
    }
}
