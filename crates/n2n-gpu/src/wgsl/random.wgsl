// Philox4x32-10 (Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, 2011): four random words for
// each counter and key, without state.

// The high and the low word of a product.
fn multiply(a: u32, b: u32) -> vec2<u32> {
    let low = (a & 0xffffu) * (b & 0xffffu);
    let middle = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
    let other = (a & 0xffffu) * (b >> 16u) + (middle & 0xffffu);
    return vec2<u32>((a >> 16u) * (b >> 16u) + (middle >> 16u) + (other >> 16u), a * b);
}

fn philox(counter: vec4<u32>, seed: vec2<u32>) -> vec4<u32> {
    var c = counter;
    var key = seed;
    for (var round = 0u; round < 10u; round++) {
        let a = multiply(0xd2511f53u, c.x);
        let b = multiply(0xcd9e8d57u, c.z);
        c = vec4<u32>(b.x ^ c.y ^ key.x, b.y, a.x ^ c.w ^ key.y, a.y);
        key += vec2<u32>(0x9e3779b9u, 0xbb67ae85u);
    }
    return c;
}

// In (0, 1]: never 0, because the logarithm is taken.
fn uniform_of(word: u32) -> f32 {
    return (f32(word >> 8u) + 1.0) / 16777216.0;
}

// The purpose of a draw: the last word of its counter.
const LEVEL: u32 = 0u;
const TURN: u32 = 1u;
const GAUSS: u32 = 2u;
const PAIR: u32 = 3u;
const POISSON: u32 = 4u;
