//! Products of matrices of bfloat16 in tiles, as processors with matrix units compute them.

/// Rows of a tile, and sums in one of its rows.
pub const SIDE: usize = 16;
/// Products that a step adds to each sum.
pub const DEPTH: usize = 32;
/// Values of a tile of operands.
pub const TILE: usize = SIDE * DEPTH;
/// Rows, and also columns, that are computed together: those of two tiles.
pub const WIDE: usize = 2 * SIDE;
/// Sums that are computed together: 2 × 2 tiles.
pub const SUMS: usize = WIDE * WIDE;

/// Where the steps of a product begin in its left operand.
#[derive(Debug, Clone, Default)]
pub struct Steps {
    /// In bytes, as the assembly takes them.
    offsets: Vec<usize>,
    /// The largest, in values.
    last: usize,
}

impl Steps {
    /// Steps at these places, in values.
    pub fn new(places: impl IntoIterator<Item = usize>) -> Self {
        let places: Vec<usize> = places.into_iter().collect();
        Self {
            last: places.iter().copied().max().unwrap_or(0),
            offsets: places
                .into_iter()
                .map(|place| place * size_of::<u16>())
                .collect(),
        }
    }

    /// Their number.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// In bytes.
    pub fn offsets(&self) -> &[usize] {
        &self.offsets
    }
}

/// 32 rows of `a`, `stride` values apart, times `columns` tiles (1 or 2) of `b`: for each step, 32 values of every row
/// times the next tiles of `b`.
///
/// A tile of `b` holds 32 × 16 values; those of rows 2i and 2i + 1 are interleaved.
#[derive(Clone, Copy)]
pub struct Product<'a> {
    pub a: &'a [u16],
    pub stride: usize,
    pub steps: &'a Steps,
    pub b: &'a [u16],
    pub columns: usize,
}

impl Product<'_> {
    /// # Panics
    /// If an operand is too short.
    #[inline(always)]
    pub fn check(self) {
        assert!(self.columns == 1 || self.columns == 2, "columns");
        assert!(
            self.steps.last + (WIDE - 1) * self.stride + DEPTH <= self.a.len(),
            "left operand"
        );
        assert!(
            self.steps.len() * self.columns * TILE <= self.b.len(),
            "right operand"
        );
    }
}

/// Turns sums into activations: adds the bias, applies a `LeakyReLU` with `slope` (at most 1; 1 changes nothing), and
/// rounds. Pixels are `stride` values apart in `to`, whose length says how many are written. Each gets 32 channels;
/// those beyond `columns` tiles are zero.
pub struct Finish<'a> {
    pub sums: &'a [f32; SUMS],
    pub bias: &'a [f32; WIDE],
    pub slope: f32,
    pub columns: usize,
    pub to: &'a mut [u16],
    pub stride: usize,
}

impl Finish<'_> {
    /// On any processor.
    pub fn run(self) {
        let width = self.columns * SIDE;
        for (sums, to) in self
            .sums
            .chunks_exact(WIDE)
            .zip(self.to.chunks_mut(self.stride))
        {
            for (i, to) in to[..WIDE].iter_mut().enumerate() {
                let sum = sums[i] + self.bias[i];
                *to = if i < width {
                    to_half(sum.max(sum * self.slope))
                } else {
                    0
                };
            }
        }
    }
}

/// The sums of a product on any processor, for tests and for [Miri](https://github.com/rust-lang/miri).
pub struct Portable(Box<[f32; SUMS]>);

impl Portable {
    pub fn new() -> Self {
        Self(Box::new([0.0; SUMS]))
    }

    /// Sets the sums to zero.
    pub fn clear(&mut self) {
        self.0.fill(0.0);
    }

    /// Writes the sums.
    pub fn store(&mut self, to: &mut [f32; SUMS]) {
        to.copy_from_slice(&*self.0);
    }

    /// Adds a product to the sums.
    pub fn add(&mut self, product: Product) {
        product.check();
        let offsets = product.steps.offsets().iter();
        let tiles = product.b.chunks_exact(product.columns * TILE);
        for (offset, tiles) in offsets.zip(tiles) {
            for (i, sums) in self.0.chunks_exact_mut(WIDE).enumerate() {
                let a = &product.a[offset / size_of::<u16>() + i * product.stride..][..DEPTH];
                for (j, sum) in sums[..product.columns * SIDE].iter_mut().enumerate() {
                    let tile = &tiles[j / SIDE * TILE..];
                    for (k, &a) in a.iter().enumerate() {
                        *sum += from_half(a) * from_half(tile[place(k, j % SIDE)]);
                    }
                }
            }
        }
    }
}

/// Where a tile of the right operand holds row `k` of column `j`.
pub fn place(k: usize, j: usize) -> usize {
    k / 2 * DEPTH + 2 * j + k % 2
}

/// The nearest bfloat16, ties to even.
#[inline(always)]
pub fn to_half(value: f32) -> u16 {
    if value.is_nan() {
        return 0x7fc0;
    }
    let bits = value.to_bits();
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// The value of a bfloat16.
#[inline(always)]
pub fn from_half(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}
