// The product of two square matrices; or, if `POLYNOMIAL`, aI + bA + cA² of the left one.

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a_values: array<f32>;
@group(0) @binding(2) var<storage, read> b_values: array<f32>;
@group(0) @binding(3) var<storage, read_write> results: array<f32>;

fn sizes(m: u32) -> vec3<u32> {
    return vec3<u32>(min(p.matrices[m].y, p.matrices[m].z));
}

fn left(m: u32, i: u32, k: u32) -> f32 {
    return a_values[square_at(m, i, k)];
}

fn right(m: u32, k: u32, j: u32) -> f32 {
    return b_values[square_at(m, k, j)];
}

fn put(m: u32, i: u32, j: u32, sum: f32) {
    var result = sum;
    if (POLYNOMIAL) {
        result = COEFFICIENTS.y * a_values[square_at(m, i, j)] + COEFFICIENTS.z * sum;
        result += select(0.0, COEFFICIENTS.x, i == j);
    }
    results[square_at(m, i, j)] = result;
}
