//! How work is divided among the threads of rayon's pool.

use rayon::iter::{IndexedParallelIterator, MaxLen};

/// Schedules items one at a time, for items that are each enough work for a thread.
///
/// By default rayon splits items into a few chunks per thread, and splits a chunk again only when another thread
/// steals it. If the system preempts a thread, the others then wait for the rest of its chunk.
pub(crate) fn one_by_one<I: IndexedParallelIterator>(items: I) -> MaxLen<I> {
    items.with_max_len(1)
}
