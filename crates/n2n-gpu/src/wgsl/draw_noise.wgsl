// Noisy patches from clean ones, flipped and rotated.

struct Params {
    n: u32, side: u32, c: u32, fours: u32,
    // Whether the clean values are bytes; whether patches are flipped and rotated.
    bytes: u32, augment: u32,
    // The bounds of the intensity of Poisson noise, and of the standard deviation of Gaussian noise; 0 for none.
    poisson: vec2<f32>, gauss: vec2<f32>,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> clean: array<u32>;
@group(0) @binding(3) var<storage, read_write> noisy: array<vec4<f32>>;

fn clean_value(at: u32) -> f32 {
    if (p.bytes == 1u) {
        return f32((clean[at / 4u] >> (8u * (at % 4u))) & 0xffu) / 255.0;
    }
    return bitcast<f32>(clean[at]);
}

// Four normal draws, in pairs (Box and Muller, 1958).
fn normals(words: vec4<u32>) -> vec4<f32> {
    let radius = vec2<f32>(
        // The logarithm of 1 may come out above 0.
        sqrt(max(0.0, -2.0 * log(uniform_of(words.x)))),
        sqrt(max(0.0, -2.0 * log(uniform_of(words.z)))),
    );
    let angle = 6.2831853 * (vec2<f32>(uniform_of(words.y), uniform_of(words.w)) - 0.5);
    return vec4<f32>(
        radius.x * cos(angle.x), radius.x * sin(angle.x),
        radius.y * cos(angle.y), radius.y * sin(angle.y),
    );
}

// A Poisson draw by inversion, in parts whose rates are small enough for f32. From a thousand counts on,
// a normal draw is just as good: the skewness is 0.03.
fn poisson(rate: f32, pixel: u32, channel: u32) -> f32 {
    if (rate > 1000.0) {
        let draw = normals(philox(vec4<u32>(pixel, channel, 0u, POISSON), step.seed)).x;
        return max(0.0, round(rate + sqrt(rate) * draw));
    }
    var left = rate;
    var count = 0.0;
    var part = 0u;
    while (left > 0.0) {
        let mean = min(left, 16.0);
        left -= mean;
        let words = philox(vec4<u32>(pixel, channel, part, POISSON), step.seed);
        part += 1u;
        let u = uniform_of(words.x);
        var probability = exp(-mean);
        var sum = probability;
        var k = 0.0;
        // Rounding may keep the sum below u for good; the loop then ends when there is nothing left to add.
        while (sum < u && (k < mean || probability > 1e-8)) {
            k += 1.0;
            probability *= mean / k;
            sum += probability;
        }
        count += k;
    }
    return count;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let x = id.x;
    let y = id.y;
    let image = id.z;
    if (x >= p.side) {
        return;
    }
    let pixel = (image * p.side + y) * p.side + x;
    var source = vec2<u32>(x, y);
    if (p.augment == 1u) {
        let how = philox(vec4<u32>(image, 0u, 0u, TURN), step.seed).x;
        if ((how & 1u) != 0u) { source.x = p.side - 1u - source.x; }
        if ((how & 2u) != 0u) { source.y = p.side - 1u - source.y; }
        if ((how & 4u) != 0u) { source = source.yx; }
    }
    let levels = philox(vec4<u32>(image, 0u, 0u, LEVEL), step.seed);
    let intensity = p.poisson.x + (p.poisson.y - p.poisson.x) * uniform_of(levels.x);
    let deviation = p.gauss.x + (p.gauss.y - p.gauss.x) * uniform_of(levels.y);
    let start = ((image * p.side + source.y) * p.side + source.x) * p.c;
    for (var four = 0u; four < p.fours; four++) {
        var value = vec4<f32>();
        for (var lane = 0u; lane < 4u; lane++) {
            let channel = 4u * four + lane;
            if (channel < p.c) {
                value[lane] = clean_value(start + channel);
                if (intensity > 0.0) {
                    value[lane] = poisson(intensity * value[lane], pixel, channel) / intensity;
                }
            }
        }
        if (deviation > 0.0) {
            let noise = normals(philox(vec4<u32>(pixel, four, 0u, GAUSS), step.seed));
            let inside = vec4<u32>(4u * four) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(p.c);
            value += select(vec4<f32>(), deviation * noise, inside);
        }
        noisy[pixel * p.fours + four] = value;
    }
}
