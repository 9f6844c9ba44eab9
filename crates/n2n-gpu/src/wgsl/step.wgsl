// What changes from step to step.
struct Step {
    seed: vec2<u32>,
    lambda1: f32, lambda2: f32, lambda: f32,
    // Adam's learning rate and the factor for the root of its second moment, both bias-corrected for the step.
    rate: f32, root: f32,
    // The weight of the new values in the running average.
    share: f32,
    // Muon's learning rate.
    muon_rate: f32,
    // The first patch of the batch to compute the regularizer on.
    turn: u32,
    // The number of the batch within its step, and its weight there.
    batch: u32, weight: f32,
}

// The sums of the losses since they were last read, whether a step has failed, and the number of updates.
struct Losses { loss1: f32, loss2: f32, failed: atomic<u32>, steps: u32 }

// The first and the second pixel of a pair, numbered 0 1 / 2 3 in their cell: the pairs of `neighbors`.
fn places(pair: u32) -> vec2<u32> {
    let packed = PAIRS >> (4u * (pair & 7u));
    return vec2<u32>(packed & 3u, (packed >> 2u) & 3u);
}

// Tested on the bits, because a compiler may assume that all numbers are finite.
fn is_finite(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}

// The index of a thread, in workgroups of 64 in rows of 1024.
fn item_of(id: vec3<u32>) -> u32 {
    return id.y * 65536u + id.x;
}
