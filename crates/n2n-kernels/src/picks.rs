//! Two pixels of every 2×2 cell of an image. A training step needs no other pixels of the network's output, so the
//! last layers need not compute the rest.

use crate::tensor::Shape;

/// Two pixels of every 2×2 cell of a batch of images. A last odd row or column belongs to no cell.
#[derive(Debug, Clone, Copy)]
pub struct Picks<'a> {
    images: Shape,
    pairs: &'a [[u8; 2]],
}

impl<'a> Picks<'a> {
    /// Takes the numbers of the two pixels of each cell of images of this shape, along rows, then down an image, then
    /// through the batch. Pixels are numbered 0 1 over 2 3.
    ///
    /// # Panics
    /// If the number of pairs differs from the number of cells, or a pixel number is above 3.
    pub fn new(images: Shape, pairs: &'a [[u8; 2]]) -> Self {
        let cells = images.n * (images.h / 2) * (images.w / 2);
        assert_eq!(pairs.len(), cells, "a pair for each cell");
        assert!(
            pairs.as_flattened().iter().all(|&number| number < 4),
            "a pixel of the cell"
        );
        Self { images, pairs }
    }

    /// Whether these picks are for images of this size, whatever the channels.
    pub(crate) fn fit(&self, images: Shape) -> bool {
        let c = self.images.c;
        self.images == Shape { c, ..images }
    }

    /// The two pixels of a cell, each as its row and column in the cell; `None` beyond the last cell.
    pub(crate) fn of_cell(&self, n: usize, y: usize, x: usize) -> Option<[(usize, usize); 2]> {
        let (h, w) = (self.images.h / 2, self.images.w / 2);
        let place = |number: u8| (usize::from(number) / 2, usize::from(number) % 2);
        (y < h && x < w).then(|| self.pairs[(n * h + y) * w + x].map(place))
    }
}
