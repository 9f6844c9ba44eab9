// Space-to-depth: each block of pixels becomes one pixel, with the channels in the order row, column, channel.

// Height and width in blocks.
struct Params { h: u32, w: u32, block: u32, c: u32, pixel_fours: u32, block_fours: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> pixels: array<f32>;
@group(0) @binding(2) var<storage, read_write> blocks: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x >= p.w) {
        return;
    }
    let row = id.z * p.h + id.y;
    for (var four = 0u; four < p.block_fours; four++) {
        var values = vec4<f32>();
        for (var i = 0u; i < 4u; i++) {
            let place = (4u * four + i) / p.c;
            let channel = (4u * four + i) % p.c;
            if (place < p.block * p.block) {
                let y = row * p.block + place / p.block;
                let x = id.x * p.block + place % p.block;
                values[i] = pixels[(y * p.w * p.block + x) * 4u * p.pixel_fours + channel];
            }
        }
        blocks[(row * p.w + id.x) * p.block_fours + four] = values;
    }
}
