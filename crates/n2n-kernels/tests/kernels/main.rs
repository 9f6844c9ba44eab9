//! Every kernel at every level against the f64 loops of `reference`, for sizes around the register tile and odd
//! channel counts, with identical bits for any number of threads.

mod bands;
mod chains;
mod convolutions;
mod muon;
mod upsampling;

use n2n_kernels::Level;
use n2n_kernels::adam::{Adam, BETA1, BETA2, EPSILON};
use n2n_kernels::pool;
use n2n_kernels::reference;
use n2n_kernels::tensor::{Shape, Tensor};

/// Heights and widths: one, around the tile of 4 pixels, several tiles and a remainder.
const SIZES: [(usize, usize); 9] = [
    (1, 1),
    (1, 3),
    (3, 1),
    (4, 5),
    (5, 4),
    (7, 9),
    (2, 14),
    (4, 4),
    (12, 8),
];

/// Input and output channels around the vectors of 8 and the panels of 24 (48 for AVX-512).
const CHANNELS: [(usize, usize); 10] = [
    (1, 1),
    (3, 8),
    (8, 3),
    (4, 7),
    (9, 24),
    (47, 25),
    (5, 48),
    (13, 41),
    (9, 49),
    (21, 97),
];

/// Pseudo-random values in -1..1, the same on every platform.
fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

fn tensor(shape: Shape, values: &[f32]) -> Tensor {
    let mut tensor = Tensor::zeros(shape);
    tensor.fill_from(values);
    tensor
}

fn read(tensor: &Tensor) -> Vec<f32> {
    let Shape { n, h, w, c } = tensor.shape();
    let mut values = vec![f32::NAN; n * h * w * c];
    tensor.copy_to(&mut values);
    let sum: f64 = tensor.as_slice().iter().map(|v| f64::from(v.abs())).sum();
    let inside: f64 = values.iter().map(|v| f64::from(v.abs())).sum();
    assert!(
        (sum - inside).abs() <= 1e-9 * inside,
        "border and padding stay zero"
    );
    values
}

/// Compares with a bound derived from the arithmetic: a sum of `terms` products of values below 1 has an error of at
/// most `terms · ε` relative to its sum of magnitudes, which is at most `terms`. Actual sums are far from the worst
/// case, hence the square root.
fn assert_close(got: &[f32], want: &[f64], terms: usize, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let bound = 4.0
        * f64::from(f32::EPSILON)
        * (terms as f64 + 1.0).sqrt()
        * (terms as f64).sqrt().max(1.0);
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(got) - want).abs();
        assert!(
            error <= bound,
            "{what}, value {i}: got {got}, want {want}, bound {bound:e}"
        );
    }
}

/// The RMS of the differences relative to that of the expected values.
fn relative(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let gaps = got
        .iter()
        .zip(want)
        .map(|(&g, w)| (f64::from(g) - w).powi(2));
    (gaps.sum::<f64>() / want.iter().map(|w| w * w).sum::<f64>()).sqrt()
}

/// Runs `work` on this many threads; on WebAssembly, which has only one thread, on that one.
fn on_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    if cfg!(target_family = "wasm") {
        return work();
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    pool.build().unwrap().install(work)
}

fn for_every_case(test: impl Fn(Level, Shape, usize)) {
    for level in Level::available() {
        for (h, w) in SIZES {
            for (c, outputs) in CHANNELS {
                test(level, Shape { n: 2, h, w, c }, outputs);
            }
        }
    }
}

#[test]
#[should_panic(expected = "larger than memory")]
fn a_shape_whose_size_wraps_is_refused() {
    Tensor::zeros(Shape {
        n: 1,
        h: 1,
        w: 1 << (usize::BITS - 3),
        c: 8,
    });
}

#[test]
fn pooling_takes_the_greatest_and_its_gradient_goes_there() {
    for (h, w) in [(2, 2), (4, 6), (5, 7), (3, 2)] {
        let shape = Shape { n: 2, h, w, c: 11 };
        // Few distinct values, so that blocks have ties and zeros.
        let x: Vec<f32> = values(2 * h * w * 11, 1)
            .iter()
            .map(|v| (v * 2.0).round() / 2.0)
            .collect();
        let input = tensor(shape, &x);
        let indices = reference::max_pool_indices(&wide(&x), shape);
        let mut y = Tensor::zeros(pool::pooled(shape));
        pool::max_pool(&input, &mut y);
        assert_eq!(read(&y), indices.iter().map(|&i| x[i]).collect::<Vec<_>>());

        let dy = values(indices.len(), 2);
        let mut want = vec![0.0; x.len()];
        for (&i, &dy) in indices.iter().zip(&dy) {
            want[i] = if x[i] > 0.0 { dy } else { 0.2 * dy };
        }
        for level in Level::available() {
            // Memory that held other values, which must not remain in an odd row or column.
            let mut dx = tensor(shape, &vec![7.0; x.len()]);
            pool::max_pool_gradient(level, &input, &tensor(y.shape(), &dy), 0.2, &mut dx);
            assert_eq!(read(&dx), want, "{level}");
        }
    }
}

#[test]
fn adam_follows_the_paper() {
    for level in Level::available() {
        let start = values(20_000, 1);
        let (mut got, mut adam) = (start.clone(), Adam::new(start.len()));
        let (mut want, mut m, mut v) =
            (wide(&start), vec![0.0; start.len()], vec![0.0; start.len()]);
        for step in 1..=5 {
            let gradient = values(start.len(), 10 + step);
            adam.step(level, &mut got, &gradient, 3e-4);
            for (i, &g) in gradient.iter().enumerate() {
                let g = f64::from(g);
                m[i] = BETA1 * m[i] + (1.0 - BETA1) * g;
                v[i] = BETA2 * v[i] + (1.0 - BETA2) * g * g;
                let m_hat = m[i] / (1.0 - BETA1.powi(step as i32));
                let v_hat: f64 = v[i] / (1.0 - BETA2.powi(step as i32));
                want[i] -= 3e-4 * m_hat / (v_hat.sqrt() + EPSILON);
            }
        }
        assert_close(&got, &want, 1, "Adam");
    }
}
