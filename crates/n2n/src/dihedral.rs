//! The eight symmetries of a rectangle: flips and 90° rotations.

/// One of the eight orientations of an image: bit 2 exchanges rows and columns; then bit 0 mirrors left and right, and
/// bit 1 top and bottom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dihedral(pub u8);

impl Dihedral {
    /// Whether height and width are exchanged.
    pub fn swaps_sides(self) -> bool {
        self.0 & 4 != 0
    }

    /// Height and width of an `h` × `w` image in this orientation.
    pub fn size(self, (h, w): (usize, usize)) -> (usize, usize) {
        if self.swaps_sides() { (w, h) } else { (h, w) }
    }

    /// The pixel of the `h` × `w` image that ends up at (`y`, `x`).
    pub fn source(self, (h, w): (usize, usize), (y, x): (usize, usize)) -> (usize, usize) {
        let (height, width) = self.size((h, w));
        let x = if self.0 & 1 == 0 { x } else { width - 1 - x };
        let y = if self.0 & 2 == 0 { y } else { height - 1 - y };
        if self.swaps_sides() { (x, y) } else { (y, x) }
    }

    /// The inverse.
    pub fn inverse(self) -> Self {
        // Among those that exchange rows and columns, the quarter turns are each other's inverse.
        Self([0, 1, 2, 3, 4, 6, 5, 7][usize::from(self.0)])
    }

    /// The pixels of an image, each an equal number of values, in this orientation; `h` and `w` are the sizes before.
    pub fn apply<T: Copy>(self, from: &[T], (h, w): (usize, usize)) -> Vec<T> {
        if self == Self(0) {
            return from.to_vec();
        }
        let c = from.len() / (h * w).max(1);
        let (height, width) = self.size((h, w));
        let mut to = Vec::with_capacity(from.len());
        for y in 0..height {
            for x in 0..width {
                let (from_y, from_x) = self.source((h, w), (y, x));
                to.extend_from_slice(&from[(from_y * w + from_x) * c..][..c]);
            }
        }
        to
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The identity, `np.fliplr`, `np.flipud` and both, then the same of the transpose, of `[[0, 1, 2], [3, 4, 5]]`.
    #[test]
    fn the_eight_are_numpys_flips_and_their_transposes() {
        let image: Vec<u8> = (0..6).collect();
        for (way, want) in [
            [0, 1, 2, 3, 4, 5],
            [2, 1, 0, 5, 4, 3],
            [3, 4, 5, 0, 1, 2],
            [5, 4, 3, 2, 1, 0],
            [0, 3, 1, 4, 2, 5],
            [3, 0, 4, 1, 5, 2],
            [2, 5, 1, 4, 0, 3],
            [5, 2, 4, 1, 3, 0],
        ]
        .into_iter()
        .enumerate()
        {
            let way = Dihedral(way as u8);
            let laid = way.apply(&image, (2, 3));
            assert_eq!(laid, want, "{way:?}");
            assert_eq!(way.inverse().apply(&laid, way.size((2, 3))), image);
        }
    }
}
