// What to multiply each matrix by for a Frobenius norm of 1; 1 for a matrix of zeros.

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> scales: array<f32>;

var<workgroup> sums: array<f32, 256>;
var<workgroup> peaks: array<f32, 256>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let matrix = p.matrices[group.x];
    let len = matrix.y * matrix.z;
    // Squares are taken relative to the largest value: those of small gradients would vanish.
    var peak = 0.0;
    for (var i = thread; i < len; i += 256u) {
        peak = max(peak, abs(x[matrix.x + i]));
    }
    peaks[thread] = peak;
    for (var half = 128u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (thread < half) {
            peaks[thread] = max(peaks[thread], peaks[thread + half]);
        }
    }
    workgroupBarrier();
    peak = peaks[0];
    var sum = 0.0;
    for (var i = thread; i < len; i += 256u) {
        let value = x[matrix.x + i] / max(peak, 1e-30);
        sum += value * value;
    }
    sums[thread] = sum;
    for (var half = 128u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (thread < half) {
            sums[thread] += sums[thread + half];
        }
    }
    if (thread == 0u) {
        let norm = peak * sqrt(sums[0]);
        scales[group.x] = select(1.0, 1.0 / norm, norm > 1e-30);
    }
}
