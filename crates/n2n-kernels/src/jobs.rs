//! How work is cut for the threads of rayon's pool.

use rayon::iter::{IndexedParallelIterator, MaxLen};

/// Items that are each work enough for whichever thread is free.
///
/// By itself rayon cuts items into a few parts for each thread, and cuts again only what another thread takes
/// over. A thread that the system holds up then keeps the others waiting for the rest of its part.
pub(crate) fn one_by_one<I: IndexedParallelIterator>(items: I) -> MaxLen<I> {
    items.with_max_len(1)
}
