// The first of the two half-size neighbors.

struct Params { h: u32, w: u32, fours: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> whole: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> pairs: array<u32>;
@group(0) @binding(3) var<storage, read_write> half: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= p.w) {
        return;
    }
    let cell = (id.z * p.h + id.y) * p.w + id.x;
    let place = places(pairs[cell]).x;
    let row = 2u * (id.z * p.h + id.y) + place / 2u;
    let origin = row * 2u * p.w + 2u * id.x + place % 2u;
    for (var four = 0u; four < p.fours; four++) {
        half[cell * p.fours + four] = whole[origin * p.fours + four];
    }
}
