//! The neighbor sub-sampler (section 4.1 of the paper).

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::batch::Batch;

/// The 8 ordered pairs of edge-adjacent pixels of a 2×2 cell, numbered 0 1 / 2 3.
pub const PAIRS: [(u8, u8); 8] = [
    (0, 1),
    (0, 2),
    (1, 3),
    (2, 3),
    (1, 0),
    (2, 0),
    (3, 1),
    (3, 2),
];

/// What is used as the second neighbor, the network's target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// The drawn pixel, as in the paper.
    #[default]
    Drawn,
    /// The mean of both pixels of the cell that share an edge with the first. Given the first, each of them is drawn
    /// with equal probability, so this is the expectation over that draw: the expected gradient stays the same, with
    /// half the variance of the target's noise.
    Mean,
}

/// One draw: for every 2×2 cell of every image of a batch, the index of its pair in [`PAIRS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbors {
    /// Number of images.
    pub n: usize,
    /// Number of cells down an image.
    pub h: usize,
    /// Number of cells across an image.
    pub w: usize,
    /// `n · h · w` indices, each below 8.
    pub pairs: Vec<u8>,
}

impl Neighbors {
    /// Draws neighbors for images of `noisy`'s size; a last odd row or column belongs to no cell.
    pub fn draw(noisy: &Batch, rng: &mut impl Rng) -> Self {
        let (n, h, w) = (noisy.n, noisy.h / 2, noisy.w / 2);
        let mut pairs = vec![0; n * h * w];
        rng.fill_bytes(&mut pairs);
        // Three of eight bits: uniform, because 256 is a multiple of 8.
        for pair in &mut pairs {
            *pair %= PAIRS.len() as u8;
        }
        Self { n, h, w, pairs }
    }

    /// The pair of half-size images `(g1(y), g2(y))`.
    ///
    /// # Panics
    /// If `batch` does not have the size that the draw was made for.
    pub fn sub_sample(&self, batch: &Batch) -> (Batch, Batch) {
        self.sub_sample_for(batch, Target::Drawn)
    }

    /// [`Self::sub_sample`] with a choice of the second image.
    ///
    /// # Panics
    /// As for that function.
    pub fn sub_sample_for(&self, batch: &Batch, target: Target) -> (Batch, Batch) {
        assert_eq!(
            (batch.n, batch.h / 2, batch.w / 2),
            (self.n, self.h, self.w),
            "images and cells of the batch, and of the draw"
        );
        let row = batch.w * batch.c;
        let pixel = [0, batch.c, row, row + batch.c];
        // In a cell numbered 0 1 / 2 3, the numbers of the edge neighbors of a pixel add up to 3.
        let offsets = PAIRS.map(|(a, b)| [a, b, 3 - b].map(|i| pixel[usize::from(i)]));
        let mut first = Vec::with_capacity(self.pairs.len() * batch.c);
        let mut second = Vec::with_capacity(self.pairs.len() * batch.c);
        let mut pairs = self.pairs.iter();
        for i in 0..self.n {
            // A last odd row belongs to no cell; neither does a last odd pixel of a row.
            for rows in batch.image(i).chunks_exact((2 * row).max(1)) {
                for (x, &pair) in (0..self.w).zip(&mut pairs) {
                    let cell = &rows[2 * x * batch.c..];
                    let of = offsets[usize::from(pair)];
                    let [a, b, other] = of.map(|at| &cell[at..at + batch.c]);
                    first.extend_from_slice(a);
                    match target {
                        Target::Drawn => second.extend_from_slice(b),
                        Target::Mean => {
                            second.extend(b.iter().zip(other).map(|(b, other)| 0.5 * (b + other)));
                        }
                    }
                }
            }
        }
        let half = |data| Batch::new(self.n, self.h, self.w, batch.c, data);
        (half(first), half(second))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// A batch in which every value is its own index, so that a value reveals where it came from.
    fn numbered(n: usize, h: usize, w: usize, c: usize) -> Batch {
        Batch::new(n, h, w, c, (0..n * h * w * c).map(|i| i as f32).collect())
    }

    /// Image, row, column and channel of a value of [`numbered`].
    fn place(value: f32, batch: &Batch) -> [usize; 4] {
        let index = value as usize;
        let pixel = index / batch.c;
        let (i, inside) = (pixel / (batch.h * batch.w), pixel % (batch.h * batch.w));
        [i, inside / batch.w, inside % batch.w, index % batch.c]
    }

    /// Given the first pixel, the pair drawn is one of two with equal probability: over all pairs, the mean of the
    /// drawn targets is the mean target.
    #[test]
    fn the_mean_target_is_the_expectation_of_the_drawn_one() {
        let batch = Batch::new(1, 2, 2, 2, vec![1.0, -8.0, 2.0, 0.5, 4.0, 16.0, 8.0, 64.0]);
        let half = |pair, target| {
            let draw = Neighbors {
                n: 1,
                h: 1,
                w: 1,
                pairs: vec![pair],
            };
            draw.sub_sample_for(&batch, target)
        };
        for pair in 0..PAIRS.len() as u8 {
            let same_first =
                |other: &u8| PAIRS[usize::from(*other)].0 == PAIRS[usize::from(pair)].0;
            let drawn: Vec<_> = (0..8)
                .filter(same_first)
                .map(|p| half(p, Target::Drawn))
                .collect();
            assert_eq!(drawn.len(), 2);
            let (first, mean) = half(pair, Target::Mean);
            assert_eq!(first, drawn[0].0);
            for k in 0..2 {
                let expected = f32::midpoint(drawn[0].1.data[k], drawn[1].1.data[k]);
                assert_eq!(mean.data[k], expected, "{pair}");
            }
        }
    }

    #[test]
    fn pairs_are_distinct_edge_adjacent_pixels_of_their_cell_in_all_channels() {
        for (n, h, w, c) in [
            (1, 2, 2, 1),
            (2, 6, 4, 3),
            (3, 7, 9, 3),
            (2, 32, 33, 4),
            (1, 3, 2, 1),
        ] {
            let batch = numbered(n, h, w, c);
            let draw = Neighbors::draw(&batch, &mut ChaCha8Rng::seed_from_u64(7));
            let (first, second) = draw.sub_sample(&batch);
            for half in [&first, &second] {
                assert_eq!((half.n, half.h, half.w, half.c), (n, h / 2, w / 2, c));
            }
            let mut target = 0;
            for i in 0..n {
                for y in 0..h / 2 {
                    for x in 0..w / 2 {
                        let mut offsets = Vec::new();
                        for channel in 0..c {
                            let a = place(first.data[target], &batch);
                            let b = place(second.data[target], &batch);
                            for [image, row, column, of] in [a, b] {
                                assert_eq!([image, row / 2, column / 2, of], [i, y, x, channel]);
                            }
                            assert_eq!(a[1].abs_diff(b[1]) + a[2].abs_diff(b[2]), 1, "{a:?} {b:?}");
                            offsets.push((a[1] % 2, a[2] % 2, b[1] % 2, b[2] % 2));
                            target += 1;
                        }
                        assert!(
                            offsets.iter().all(|&offset| offset == offsets[0]),
                            "one draw"
                        );
                    }
                }
            }
            assert_eq!(target, first.data.len());
        }
    }

    #[test]
    fn all_eight_pairs_are_equally_likely_and_cells_independent() {
        let batch = Batch::zeros(4, 256, 256, 1);
        let draw = Neighbors::draw(&batch, &mut ChaCha8Rng::seed_from_u64(11));
        let chi_square = |counts: &[usize]| {
            let expected = counts.iter().sum::<usize>() as f64 / counts.len() as f64;
            let square = |&count: &usize| (count as f64 - expected).powi(2) / expected;
            counts.iter().map(square).sum::<f64>()
        };
        let mut single = [0; 8];
        let mut joint = [0; 64];
        for cells in draw.pairs.chunks_exact(2) {
            single[cells[0] as usize] += 1;
            single[cells[1] as usize] += 1;
            joint[(cells[0] * 8 + cells[1]) as usize] += 1;
        }
        // The 99.9 % points of chi-square with 7 and with 63 degrees of freedom.
        assert!(chi_square(&single) < 24.32, "{single:?}");
        assert!(chi_square(&joint) < 103.44, "{joint:?}");
    }

    #[test]
    fn each_pair_picks_the_pixels_the_paper_numbers() {
        let batch = numbered(1, 2, 16, 1);
        let draw = Neighbors {
            n: 1,
            h: 1,
            w: 8,
            pairs: (0..8).collect(),
        };
        let (first, second) = draw.sub_sample(&batch);
        // Top row 0 to 15, bottom row 16 to 31; cell x covers columns 2x and 2x + 1.
        assert_eq!(first.data, [0., 2., 5., 22., 9., 26., 29., 31.]);
        assert_eq!(second.data, [1., 18., 21., 23., 8., 10., 13., 30.]);
    }

    #[test]
    fn an_image_without_a_cell_gives_empty_halves() {
        for (h, w) in [(1, 5), (5, 1), (0, 4), (4, 0)] {
            let batch = numbered(2, h, w, 3);
            let draw = Neighbors::draw(&batch, &mut ChaCha8Rng::seed_from_u64(1));
            let (first, second) = draw.sub_sample(&batch);
            assert_eq!(first, Batch::zeros(2, h / 2, w / 2, 3));
            assert_eq!(first, second);
        }
    }

    #[test]
    #[should_panic(expected = "images and cells")]
    fn a_draw_for_another_size_is_refused() {
        let draw = Neighbors::draw(&Batch::zeros(1, 4, 4, 1), &mut ChaCha8Rng::seed_from_u64(1));
        draw.sub_sample(&Batch::zeros(1, 4, 6, 1));
    }
}
