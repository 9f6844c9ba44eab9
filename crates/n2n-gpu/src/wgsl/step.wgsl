// What changes from step to step.
struct Step {
    seed: vec2<u32>,
    lambda1: f32, lambda2: f32, lambda: f32,
    // Adam's rate and the factor of the root of its second moment, both corrected for the step.
    rate: f32, root: f32,
    // The weights' share in their running average.
    share: f32,
}

// The sums of the losses since they were last asked for, whether a step has failed, and the updates.
struct Losses { loss1: f32, loss2: f32, failed: atomic<u32>, steps: u32 }

// The first and the second pixel of a pair, numbered 0 1 / 2 3 in their cell: the pairs of `neighbors`.
fn places(pair: u32) -> vec2<u32> {
    let packed = PAIRS >> (4u * (pair & 7u));
    return vec2<u32>(packed & 3u, (packed >> 2u) & 3u);
}

// By the bits: a compiler may take it that there is nothing else than finite numbers.
fn is_finite(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}

// The number of a thread, of workgroups of 64 in rows of 1024.
fn item_of(id: vec3<u32>) -> u32 {
    return id.y * 65536u + id.x;
}
