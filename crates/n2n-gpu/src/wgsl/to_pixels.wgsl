// Depth-to-space, the inverse of `to_blocks.wgsl`.

// Height and width in blocks.
struct Params { h: u32, w: u32, block: u32, c: u32, pixel_fours: u32, block_fours: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> blocks: array<f32>;
@group(0) @binding(2) var<storage, read_write> pixels: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let width = p.w * p.block;
    if (id.x >= width) {
        return;
    }
    let y = id.z * p.h * p.block + id.y;
    let place = y % p.block * p.block + id.x % p.block;
    let block = (y / p.block * p.w + id.x / p.block) * 4u * p.block_fours;
    for (var four = 0u; four < p.pixel_fours; four++) {
        var values = vec4<f32>();
        for (var i = 0u; i < 4u; i++) {
            let channel = 4u * four + i;
            if (channel < p.c) {
                values[i] = blocks[block + place * p.c + channel];
            }
        }
        pixels[(y * width + id.x) * p.pixel_fours + four] = values;
    }
}
