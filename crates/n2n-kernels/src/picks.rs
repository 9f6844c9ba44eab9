//! Two pixels of every 2×2 cell of an image: what a training step needs of the image that the network
//! gives, and hence all of its last layers that has to be computed.

use crate::tensor::Shape;

/// Two pixels of every 2×2 cell of a batch of images. A last odd row or column belongs to no cell.
#[derive(Debug, Clone, Copy)]
pub struct Picks<'a> {
    images: Shape,
    pairs: &'a [[u8; 2]],
}

impl<'a> Picks<'a> {
    /// For each cell of images of this shape, along rows, then down an image, then through the batch, the
    /// numbers of its two pixels, 0 1 over 2 3.
    ///
    /// # Panics
    /// If there is not a pair for each cell, or a number is above 3.
    pub fn new(images: Shape, pairs: &'a [[u8; 2]]) -> Self {
        let cells = images.n * (images.h / 2) * (images.w / 2);
        assert_eq!(pairs.len(), cells, "a pair for each cell");
        assert!(
            pairs.as_flattened().iter().all(|&number| number < 4),
            "a pixel of the cell"
        );
        Self { images, pairs }
    }

    /// Whether they are of images of this size, whatever the channels.
    pub(crate) fn fit(&self, images: Shape) -> bool {
        let c = self.images.c;
        self.images == Shape { c, ..images }
    }

    /// The two pixels of a cell, each as row and column in it; `None` beyond the last cell.
    pub(crate) fn of_cell(&self, n: usize, y: usize, x: usize) -> Option<[(usize, usize); 2]> {
        let (h, w) = (self.images.h / 2, self.images.w / 2);
        let place = |number: u8| (usize::from(number) / 2, usize::from(number) % 2);
        (y < h && x < w).then(|| self.pairs[(n * h + y) * w + x].map(place))
    }
}
