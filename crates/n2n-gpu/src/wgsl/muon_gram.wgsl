// The products of the rows of each matrix, or of its columns if these are fewer.

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> gram: array<f32>;

fn sizes(m: u32) -> vec3<u32> {
    let matrix = p.matrices[m];
    let short = min(matrix.y, matrix.z);
    return vec3<u32>(short, short, max(matrix.y, matrix.z));
}

fn value(m: u32, short: u32, long: u32) -> f32 {
    let matrix = p.matrices[m];
    let at = select(short * matrix.z + long, long * matrix.z + short, matrix.y > matrix.z);
    return x[matrix.x + at];
}

fn left(m: u32, i: u32, k: u32) -> f32 {
    return scale_of(m) * value(m, i, k);
}

fn right(m: u32, k: u32, j: u32) -> f32 {
    return scale_of(m) * value(m, j, k);
}

fn put(m: u32, i: u32, j: u32, sum: f32) {
    gram[square_at(m, i, j)] = sum;
}
