// The product of a square matrix and a matrix, on the side of its shorter dimension.

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> squares: array<f32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> results: array<f32>;

fn sizes(m: u32) -> vec3<u32> {
    let matrix = p.matrices[m];
    return vec3<u32>(matrix.y, matrix.z, min(matrix.y, matrix.z));
}

// Squares are symmetric but for rounding.
fn left(m: u32, i: u32, k: u32) -> f32 {
    let matrix = p.matrices[m];
    if (matrix.y > matrix.z) {
        return scale_of(m) * x[matrix.x + i * matrix.z + k];
    }
    return squares[square_at(m, i, k)];
}

fn right(m: u32, k: u32, j: u32) -> f32 {
    let matrix = p.matrices[m];
    if (matrix.y > matrix.z) {
        return squares[square_at(m, j, k)];
    }
    return scale_of(m) * x[matrix.x + k * matrix.z + j];
}

fn put(m: u32, i: u32, j: u32, sum: f32) {
    let matrix = p.matrices[m];
    results[matrix.x + i * matrix.z + j] = sum;
}
