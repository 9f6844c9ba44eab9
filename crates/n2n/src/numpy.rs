//! NumPy's legacy random streams (`np.random.seed`, `normal`, `uniform`, `poisson`).
//!
//! The published scores of this method were measured on noise from these streams. Drawing exactly the same noise
//! makes scores comparable to the last digit, so every draw here matches NumPy's bits: the same generator, the same
//! algorithms, the same order of floating-point operations. NumPy has frozen these streams (NEP 19), so they will not
//! change.

/// NumPy's `RandomState`: a Mersenne Twister, and the normal value it keeps for the next call.
///
/// The normal and Poisson draws use the platform's `log` and `exp`, as NumPy's do; where those round differently, a
/// draw may differ in its last bit.
#[derive(Debug, Clone)]
pub struct RandomState {
    twister: Twister,
    next_gauss: Option<f64>,
}

impl RandomState {
    /// The state after `np.random.seed(seed)`.
    pub fn new(seed: u32) -> Self {
        Self {
            twister: Twister::new(seed),
            next_gauss: None,
        }
    }

    /// `np.random.random_sample()`: uniform in `[0, 1)` with 53 random bits.
    pub fn random_sample(&mut self) -> f64 {
        let high = f64::from(self.twister.next_u32() >> 5);
        let low = f64::from(self.twister.next_u32() >> 6);
        (high * f64::from(1 << 26) + low) / (1_u64 << 53) as f64
    }

    /// `np.random.normal(mean, deviation)`, by Marsaglia's polar method.
    ///
    /// Each round produces two values; the second is kept for the next call, whatever is drawn in between.
    pub fn normal(&mut self, mean: f64, deviation: f64) -> f64 {
        mean + deviation * self.gauss()
    }

    /// `np.random.uniform(low, high)`.
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.random_sample()
    }

    /// `np.random.poisson(lam)`: for rates below 10, products of uniforms; for all others, the transformed rejection
    /// method PTRS of Hörmann, *The transformed rejection method for generating Poisson random variables* (1993).
    ///
    /// A negative or NaN rate, which NumPy rejects, counts as 0 and consumes nothing of the stream.
    pub fn poisson(&mut self, lam: f64) -> u64 {
        if lam >= 10.0 {
            self.poisson_by_rejection(lam)
        } else if lam > 0.0 {
            self.poisson_by_products(lam)
        } else {
            0
        }
    }

    fn gauss(&mut self) -> f64 {
        if let Some(gauss) = self.next_gauss.take() {
            return gauss;
        }
        loop {
            let x = 2.0 * self.random_sample() - 1.0;
            let y = 2.0 * self.random_sample() - 1.0;
            let square = x * x + y * y;
            if square < 1.0 && square != 0.0 {
                let factor = (-2.0 * square.ln() / square).sqrt();
                self.next_gauss = Some(factor * x);
                return factor * y;
            }
        }
    }

    fn poisson_by_products(&mut self, lam: f64) -> u64 {
        let threshold = (-lam).exp();
        let mut product = self.random_sample();
        let mut count = 0;
        while product > threshold {
            product *= self.random_sample();
            count += 1;
        }
        count
    }

    fn poisson_by_rejection(&mut self, lam: f64) -> u64 {
        let b = 0.931 + 2.53 * lam.sqrt();
        let a = -0.059 + 0.02483 * b;
        let accept_below = 0.9277 - 3.6224 / (b - 2.0);
        loop {
            let u = self.random_sample() - 0.5;
            let v = self.random_sample();
            let us = 0.5 - u.abs();
            let k = ((2.0 * a / us + b) * u + lam + 0.43).floor();
            // Accepts early, without a logarithm.
            if us >= 0.07 && v <= accept_below {
                return k as u64;
            }
            if k < 0.0 || (us < 0.013 && v > us) {
                continue;
            }
            let inverse_alpha = 1.1239 + 1.1328 / (b - 3.4);
            let hat = v.ln() + inverse_alpha.ln() - (a / (us * us) + b).ln();
            if hat <= -lam + k * lam.ln() - ln_gamma(k + 1.0) {
                return k as u64;
            }
        }
    }
}

/// `ln Γ(x)` for whole `x ≥ 1`: Stirling's series at 7 or above, reduced by the recurrence.
fn ln_gamma(x: f64) -> f64 {
    /// `B₂ₖ / (2k (2k − 1))`, the coefficients of the series, with NumPy's digits.
    const SERIES: [f64; 10] = [
        8.333_333_333_333_333e-2,
        -2.777_777_777_777_778e-3,
        7.936_507_936_507_937e-4,
        -5.952_380_952_380_952e-4,
        8.417_508_417_508_418e-4,
        -1.917_526_917_526_918e-3,
        6.410_256_410_256_41e-3,
        -2.955_065_359_477_124e-2,
        1.796_443_723_688_307e-1,
        -1.392_432_216_905_9,
    ];
    const LN_2PI: f64 = 1.837_877_066_409_345_3;

    if x <= 2.0 {
        return 0.0;
    }
    let steps = if x < 7.0 { (7.0 - x) as u32 } else { 0 };
    let mut top = x + f64::from(steps);
    let inverse_square = (1.0 / top) * (1.0 / top);
    let series = SERIES
        .iter()
        .rev()
        .copied()
        .reduce(|sum, coefficient| sum * inverse_square + coefficient)
        .expect("the series has terms");
    let mut value = series / top + 0.5 * LN_2PI + (top - 0.5) * top.ln() - top;
    for _ in 0..steps {
        value -= (top - 1.0).ln();
        top -= 1.0;
    }
    value
}

/// MT19937 by Matsumoto and Nishimura, *Mersenne Twister* (1998), seeded with its `init_genrand`.
#[derive(Debug, Clone)]
struct Twister {
    state: [u32; Self::WORDS],
    next: usize,
}

impl Twister {
    const WORDS: usize = 624;
    const SHIFT: usize = 397;

    fn new(seed: u32) -> Self {
        let mut state = [seed; Self::WORDS];
        for i in 1..Self::WORDS {
            let before = state[i - 1];
            state[i] = (before ^ (before >> 30))
                .wrapping_mul(1_812_433_253)
                .wrapping_add(i as u32);
        }
        Self {
            state,
            next: Self::WORDS,
        }
    }

    fn next_u32(&mut self) -> u32 {
        if self.next == Self::WORDS {
            self.twist();
            self.next = 0;
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    fn twist(&mut self) {
        for i in 0..Self::WORDS {
            let after = self.state[(i + 1) % Self::WORDS];
            let mixed = (self.state[i] & 0x8000_0000) | (after & 0x7fff_ffff);
            let feedback = if mixed & 1 == 0 { 0 } else { 0x9908_b0df };
            self.state[i] = self.state[(i + Self::SHIFT) % Self::WORDS] ^ (mixed >> 1) ^ feedback;
        }
    }
}

/// The golden values of `tests/golden/numpy_eval.py`, for the tests of the modules that use them.
#[cfg(test)]
pub(crate) mod golden {
    use serde_json::Value;

    /// The values under `key`.
    pub fn values(key: &str) -> Value {
        let text = include_str!("../../../tests/golden/numpy_eval.json");
        let mut all: Value = serde_json::from_str(text).expect("the golden file is JSON");
        all[key].take()
    }

    /// A number from its 16 hexadecimal digits.
    pub fn f64_of(value: &Value) -> f64 {
        let digits = value.as_str().expect("a string of digits");
        f64::from_bits(u64::from_str_radix(digits, 16).expect("hexadecimal digits"))
    }

    /// A number from its 8 hexadecimal digits.
    pub fn f32_of(value: &Value) -> f32 {
        let digits = value.as_str().expect("a string of digits");
        f32::from_bits(u32::from_str_radix(digits, 16).expect("hexadecimal digits"))
    }

    /// A list.
    pub fn list(value: &Value) -> &[Value] {
        value.as_array().expect("a list")
    }

    /// A whole number.
    pub fn index(value: &Value) -> usize {
        value.as_u64().expect("a whole number") as usize
    }

    /// The formula of the pictures: bytes in the order height, width, channel.
    pub fn picture(height: usize, width: usize, channels: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(height * width * channels);
        for y in 0..height {
            for x in 0..width {
                bytes.extend(
                    (0..channels).map(|c| ((31 * y + 17 * x + 101 * c + x * y) % 256) as u8),
                );
            }
        }
        bytes
    }

    /// The formula of the distorted copy of a picture.
    pub fn distorted(clean: &[u8], width: usize, channels: usize) -> Vec<u8> {
        let distort = |(i, &byte): (usize, &u8)| {
            let (y, x, c) = (i / (width * channels), i / channels % width, i % channels);
            let shift = ((7 * x + 3 * y + 5 * c) % 41) as i32 - 20;
            (i32::from(byte) + shift).clamp(0, 255) as u8
        };
        clean.iter().enumerate().map(distort).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::golden::{f64_of, index, list, values};
    use super::*;

    /// Bit-identical if the logarithm is that of the machine that generated the golden values; within two units in
    /// the last place otherwise.
    fn assert_same(got: f64, want: f64, what: impl std::fmt::Display) {
        let same_libm = cfg!(all(
            target_arch = "x86_64",
            target_os = "linux",
            target_env = "gnu"
        ));
        let ulps = if same_libm { 0 } else { 2 };
        assert!(
            (got.to_bits() as i64).abs_diff(want.to_bits() as i64) <= ulps,
            "{what}: {got:?} is not {want:?}"
        );
    }

    fn assert_draws(key: &str, mut draw: impl FnMut() -> f64) {
        let streams = values("streams");
        let golden = &streams[key];
        let mut drawn = 0;
        let mut last = 0.0;
        for (at, want) in list(&golden["index"]).iter().zip(list(&golden["bits"])) {
            while drawn <= index(at) {
                last = draw();
                drawn += 1;
            }
            assert_same(last, f64_of(want), format_args!("{key}, draw {at}"));
        }
        assert_eq!(drawn, 1_000_001);
    }

    #[test]
    fn seeds_as_numpy_does() {
        let streams = values("streams");
        for seed in [0, 1, 101, u32::MAX] {
            let mut random = RandomState::new(seed);
            for want in list(&streams["seeds"][seed.to_string()]) {
                assert_eq!(random.random_sample(), f64_of(want), "seed {seed}");
            }
        }
    }

    #[test]
    fn draws_what_numpy_draws_far_into_the_stream() {
        let mut random = RandomState::new(101);
        assert_draws("random_sample", || random.random_sample());
        let mut random = RandomState::new(101);
        assert_draws("normal", || random.normal(0.0, 1.0));
        let mut random = RandomState::new(101);
        assert_draws("normal_3_0.25", || random.normal(3.0, 0.25));
        let mut random = RandomState::new(101);
        assert_draws("uniform_5_50", || random.uniform(5.0 / 255.0, 50.0 / 255.0));
    }

    #[test]
    fn keeps_the_second_normal_across_other_draws() {
        let mut random = RandomState::new(101);
        let mut got = Vec::new();
        for _ in 0..20 {
            got.push(random.normal(0.0, 1.0));
            got.push(random.uniform(0.1, 0.2));
            got.extend((0..3).map(|_| random.normal(0.0, 1.0)));
            got.push(random.poisson(0.5) as f64);
            got.extend((0..3).map(|_| random.normal(0.5, 2.0)));
            got.push(random.poisson(30.0) as f64);
            got.push(random.random_sample());
        }
        let streams = values("streams");
        let want = list(&streams["mixed"]);
        assert_eq!(got.len(), want.len());
        for (i, (&got, want)) in got.iter().zip(want).enumerate() {
            assert_same(got, f64_of(want), format_args!("draw {i}"));
        }
    }

    #[test]
    fn counts_what_numpy_counts_at_every_rate() {
        let streams = values("streams");
        for golden in list(&streams["poisson"]) {
            let lam = f64_of(&golden["lam"]);
            let mut random = RandomState::new(101);
            let counts: Vec<u64> = (0..100_000).map(|_| random.poisson(lam)).collect();
            for (i, want) in list(&golden["first"]).iter().enumerate() {
                assert_eq!(Some(counts[i]), want.as_u64(), "rate {lam}, draw {i}");
            }
            assert_eq!(counts.iter().sum::<u64>(), golden["sum"].as_u64().unwrap());
            assert_eq!(counts.last().copied(), golden["last"].as_u64());
            assert_eq!(
                random.random_sample(),
                f64_of(&golden["next"]),
                "rate {lam}"
            );
        }
    }

    #[test]
    fn counts_what_numpy_counts_when_rates_alternate() {
        let rates = [0.0, 1e-10, 0.5, 9.99, 10.0, 30.0, 50.0, 1000.0, 1e6];
        let streams = values("streams");
        let mut random = RandomState::new(101);
        for (i, want) in list(&streams["poisson_spread"]).iter().enumerate() {
            assert_eq!(
                Some(random.poisson(rates[i % 9])),
                want.as_u64(),
                "draw {i}"
            );
        }
    }

    #[test]
    fn a_rate_that_numpy_refuses_counts_as_zero() {
        for lam in [-1.0, f64::NAN, f64::NEG_INFINITY] {
            let mut random = RandomState::new(1);
            assert_eq!(random.poisson(lam), 0);
            assert_eq!(random.random_sample(), RandomState::new(1).random_sample());
        }
        // No count is meaningful here, but the draw must terminate.
        RandomState::new(1).poisson(f64::INFINITY);
    }
}
