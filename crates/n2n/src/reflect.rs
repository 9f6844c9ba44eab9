//! Reflection at an edge, as in NumPy's `'reflect'` mode: the edge itself is not repeated.

/// The source of the pixel at `index` (0 or more) on a side of `length` pixels: a walk to the end and back, turning
/// at the edge pixels. A side of 1 is repeated.
pub(crate) fn reflected(index: usize, length: usize) -> usize {
    if length == 1 {
        return 0;
    }
    let period = 2 * (length - 1);
    let index = index % period;
    index.min(period - index)
}
