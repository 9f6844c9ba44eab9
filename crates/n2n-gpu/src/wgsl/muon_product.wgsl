// A product of matrices in tiles of 32×32 results, each thread 2×2. Appended to definitions of the factors,
// `left` and `right`, of the number of rows, columns and terms, `sizes`, and of `put`, which stores a result.

var<workgroup> a: array<f32, 512>;
var<workgroup> b: array<f32, 512>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let size = sizes(group.z);
    let row = 32u * group.y;
    let column = 32u * group.x;
    if (row >= size.x || column >= size.y) {
        return;
    }
    let own = vec2<u32>(2u * (thread / 16u), 2u * (thread % 16u));
    var sums = mat2x2<f32>();
    for (var k = 0u; k < size.z; k += 16u) {
        for (var half = 0u; half < 2u; half++) {
            let item = thread + 256u * half;
            let i = row + item / 16u;
            let i_term = k + item % 16u;
            a[item] = 0.0;
            if (i < size.x && i_term < size.z) {
                a[item] = left(group.z, i, i_term);
            }
            let j_term = k + item / 32u;
            let j = column + item % 32u;
            b[item] = 0.0;
            if (j < size.y && j_term < size.z) {
                b[item] = right(group.z, j_term, j);
            }
        }
        workgroupBarrier();
        for (var term = 0u; term < 16u; term++) {
            let r = vec2<f32>(b[term * 32u + own.y], b[term * 32u + own.y + 1u]);
            sums[0] += a[own.x * 16u + term] * r;
            sums[1] += a[(own.x + 1u) * 16u + term] * r;
        }
        workgroupBarrier();
    }
    for (var i = 0u; i < 2u; i++) {
        for (var j = 0u; j < 2u; j++) {
            let at = vec2<u32>(row, column) + own + vec2<u32>(i, j);
            if (at.x < size.x && at.y < size.y) {
                put(group.z, at.x, at.y, sums[i][j]);
            }
        }
    }
}
