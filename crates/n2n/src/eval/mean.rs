//! NumPy's mean. A published score is the mean of many numbers, and its last digits depend on the order of the
//! additions; here they are added in NumPy's order.

use std::ops::Add;

/// `np.mean` of contiguous float32 values: summed in `f32`, divided in `f64`, rounded to `f32`. NaN for no values.
pub fn mean_f32(values: &[f32]) -> f32 {
    (f64::from(pairwise_sum(values)) / values.len() as f64) as f32
}

/// `np.mean` of contiguous float64 values. NaN for no values.
pub fn mean_f64(values: &[f64]) -> f64 {
    pairwise_sum(values) / values.len() as f64
}

/// NumPy's pairwise summation: halves down to blocks of 128, eight running sums within a block.
fn pairwise_sum<T: Copy + Default + Add<Output = T>>(values: &[T]) -> T {
    const LANES: usize = 8;
    const BLOCK: usize = 128;

    let sum = |start: T, values: &[T]| values.iter().fold(start, |sum, &value| sum + value);
    if values.len() < LANES {
        return sum(T::default(), values);
    }
    if values.len() > BLOCK {
        let middle = values.len() / 2 / LANES * LANES;
        let (left, right) = values.split_at(middle);
        return pairwise_sum(left) + pairwise_sum(right);
    }
    let (rows, rest) = values.as_chunks::<LANES>();
    let mut r = rows[0];
    for row in &rows[1..] {
        for (sum, &value) in r.iter_mut().zip(row) {
            *sum = *sum + value;
        }
    }
    let lanes = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
    sum(lanes, rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numpy::golden::{self, f32_of, f64_of, index};

    #[test]
    fn means_are_numpys_to_the_bit() {
        let goldens = golden::values("means");
        for golden in golden::list(&goldens) {
            let count = index(&golden["count"]);
            let ramp: Vec<f64> = (0..count)
                .map(|i| (i * 7919 % 10007) as f64 / 10007.0)
                .collect();
            let narrow: Vec<f32> = ramp.iter().map(|&value| value as f32).collect();
            assert_eq!(
                mean_f64(&ramp),
                f64_of(&golden["f64"]),
                "{count} values in f64"
            );
            assert_eq!(
                mean_f32(&narrow),
                f32_of(&golden["f32"]),
                "{count} values in f32"
            );
        }
    }

    #[test]
    fn an_empty_slice_has_no_mean() {
        assert!(mean_f64(&[]).is_nan());
        assert!(mean_f32(&[]).is_nan());
    }
}
