//! Memory for tensors and packed weights: aligned to cache lines, on huge pages where the system has them, and, for
//! packed weights, reused.
//!
//! An activation of some hundred megabytes covers tens of thousands of small pages; walking the page table for them
//! costs the network several percent of its time. Where huge pages are not available, nothing else is lost.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fmt;
use std::mem::{MaybeUninit, take};
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, TryLockError};

use rayon::prelude::*;

/// Bytes of a cache line.
const LINE: usize = 64;
/// Bytes of a huge page; smaller under Miri.
const HUGE: usize = if cfg!(miri) { 1 << 12 } else { 2 << 20 };

/// Floats that one thread zeroes at a time: a few huge pages.
const PART: usize = 4 * HUGE / size_of::<f32>();

/// Floats, starting at a cache line.
pub(crate) struct Memory {
    floats: NonNull<f32>,
    len: usize,
}

// SAFETY: it owns its floats, as a `Box<[f32]>` does.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Allocates `len` zeros.
    ///
    /// # Panics
    /// If `len` floats exceed the address space.
    pub fn zeros(len: usize) -> Self {
        // SAFETY: all floats are written.
        unsafe {
            Self::written_by(len, |floats| {
                floats.fill(MaybeUninit::new(0.0));
            })
        }
    }

    /// [`Memory::zeros`], zeroed by all threads, which also divides the system's zeroing of new pages among them. The
    /// caller must not hold a lock that other work on this thread may need.
    ///
    /// # Panics
    /// As for [`Memory::zeros`].
    pub fn zeros_in_parallel(len: usize) -> Self {
        if len <= PART {
            return Self::zeros(len);
        }
        // SAFETY: all floats are written.
        unsafe {
            Self::written_by(len, |floats| {
                let parts = floats.par_chunks_mut(PART);
                parts.for_each(|part| part.fill(MaybeUninit::new(0.0)));
            })
        }
    }

    /// Allocates `len` floats and lets `write` initialize them.
    ///
    /// # Panics
    /// If `len` floats exceed the address space.
    ///
    /// # Safety
    /// `write` must initialize every float.
    pub unsafe fn written_by(len: usize, write: impl FnOnce(&mut [MaybeUninit<f32>])) -> Self {
        let Some(layout) = layout(len) else {
            panic!("{len} floats are larger than memory");
        };
        let floats = if layout.size() == 0 {
            NonNull::dangling()
        } else {
            // SAFETY: the size of the layout is not zero.
            let memory = unsafe { alloc(layout) };
            let Some(floats) = NonNull::new(memory).map(NonNull::cast) else {
                handle_alloc_error(layout);
            };
            // Before the first access, which decides the kind of page.
            #[cfg(all(target_os = "linux", not(miri)))]
            if layout.align() == HUGE {
                // SAFETY: the range was just allocated, and the advice changes no value in it. The system is free to
                // ignore it.
                unsafe { libc::madvise(memory.cast(), layout.size(), libc::MADV_HUGEPAGE) };
            }
            floats
        };
        let memory = Self { floats, len };
        // SAFETY: `len` floats were allocated, and `MaybeUninit` allows any contents.
        write(unsafe { std::slice::from_raw_parts_mut(memory.floats.as_ptr().cast(), len) });
        memory
    }

    /// The first `len` floats, with unspecified contents, reallocating if there are fewer.
    ///
    /// # Panics
    /// As for [`Memory::zeros`].
    pub fn at_least(&mut self, len: usize) -> &mut [f32] {
        if self.len < len {
            *self = Self::zeros(len);
        }
        &mut self.as_mut_slice()[..len]
    }

    /// The number of floats.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The floats.
    pub fn as_slice(&self) -> &[f32] {
        // SAFETY: `len` floats were allocated, and initialized before this value was handed out.
        unsafe { std::slice::from_raw_parts(self.floats.as_ptr(), self.len) }
    }

    /// The floats.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        // SAFETY: as above, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.floats.as_ptr(), self.len) }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::zeros(0)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let layout = layout(self.len).expect("it was allocated with this layout");
        if layout.size() > 0 {
            // SAFETY: `written_by` allocated it with the layout for this length.
            unsafe { dealloc(self.floats.as_ptr().cast(), layout) };
        }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} floats", self.len)
    }
}

/// Numbers of 16 bits, starting at a cache line.
pub(crate) struct Halves {
    memory: Memory,
    len: usize,
}

impl Halves {
    /// Allocates `len` zeros.
    ///
    /// # Panics
    /// As [`Memory::zeros`].
    pub fn zeros(len: usize) -> Self {
        let memory = Memory::zeros(len.div_ceil(2));
        Self { memory, len }
    }

    /// [`Memory::zeros_in_parallel`].
    ///
    /// # Panics
    /// As for that function.
    pub fn zeros_in_parallel(len: usize) -> Self {
        let memory = Memory::zeros_in_parallel(len.div_ceil(2));
        Self { memory, len }
    }

    /// The numbers.
    pub fn as_slice(&self) -> &[u16] {
        // SAFETY: the memory holds at least this many numbers, and any bits are a valid number.
        unsafe { std::slice::from_raw_parts(self.memory.floats.as_ptr().cast(), self.len) }
    }

    /// The numbers.
    pub fn as_mut_slice(&mut self) -> &mut [u16] {
        // SAFETY: as above, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.memory.floats.as_ptr().cast(), self.len) }
    }
}

impl fmt::Debug for Halves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} halves", self.len)
    }
}

/// Maximum number of floats kept for reuse: somewhat more than the packed filters of the paper's network. Fewer under
/// Miri.
const MOST_KEPT: usize = if cfg!(miri) { 1 << 12 } else { 1 << 24 };

/// The memory kept for reuse, oldest first.
static KEPT: Mutex<Vec<Memory>> = Mutex::new(vec![]);

/// Memory that, when dropped, is kept for the next request of the same length.
///
/// A training step packs every filter again. Without reuse, the system would take back forty megabytes each time, and
/// zero them page by page on the next request.
#[derive(Debug)]
pub(crate) struct Recycled(Memory);

impl Recycled {
    /// [`Memory::written_by`], reusing kept memory if there is any.
    ///
    /// # Panics
    /// As for that function.
    ///
    /// # Safety
    /// As for that function.
    pub unsafe fn written_by(len: usize, write: impl FnOnce(&mut [MaybeUninit<f32>])) -> Self {
        let found = kept().and_then(|mut kept| {
            let at = kept.iter().rposition(|memory| memory.len == len);
            at.map(|at| kept.remove(at))
        });
        if let Some(mut memory) = found {
            let floats: *mut [f32] = memory.as_mut_slice();
            // SAFETY: the same floats with the same layout; the caller guarantees that `write` initializes them all.
            write(unsafe { &mut *(floats as *mut [MaybeUninit<f32>]) });
            return Self(memory);
        }
        // SAFETY: the caller has the same obligation.
        Self(unsafe { Memory::written_by(len, write) })
    }
}

impl Deref for Recycled {
    type Target = Memory;

    fn deref(&self) -> &Memory {
        &self.0
    }
}

impl Drop for Recycled {
    fn drop(&mut self) {
        // Freed after the lock is released: variables are dropped in reverse order.
        let mut too_old = vec![];
        let Some(mut kept) = kept() else {
            return;
        };
        kept.push(take(&mut self.0));
        let mut floats: usize = kept.iter().map(Memory::len).sum();
        while floats > MOST_KEPT {
            let memory = kept.remove(0);
            floats -= memory.len;
            too_old.push(memory);
        }
    }
}

/// Locks the kept memory unless another thread holds it. Waiting would not pay, and would never end in a forked
/// process if a thread that does not exist in the fork held the lock.
fn kept() -> Option<MutexGuard<'static, Vec<Memory>>> {
    match KEPT.try_lock() {
        Ok(kept) => Some(kept),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// The layout of `len` floats: aligned to a cache line, or to a huge page if they fill at least two.
fn layout(len: usize) -> Option<Layout> {
    let bytes = len.checked_mul(size_of::<f32>())?;
    let align = if bytes >= 2 * HUGE { HUGE } else { LINE };
    Layout::from_size_align(bytes, align).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_any_length_is_zero_and_can_be_written() {
        for len in [0, 1, 15, 4096, (2 * HUGE + 12) / 4, 2 * PART + 5] {
            for zeros in [Memory::zeros, Memory::zeros_in_parallel] {
                let mut memory = zeros(len);
                assert!(memory.as_slice().iter().all(|&x| x == 0.0));
                assert!(len == 0 || memory.as_slice().as_ptr().addr().is_multiple_of(LINE));
                memory.as_mut_slice().fill(1.0);
                assert_eq!(memory.as_slice().iter().sum::<f32>() as usize, len);
            }
        }
    }

    #[test]
    fn recycled_memory_holds_what_is_written_last() {
        let ones = |len| {
            // SAFETY: all floats are written.
            unsafe {
                Recycled::written_by(len, |floats| {
                    floats.fill(MaybeUninit::new(1.0));
                })
            }
        };
        for len in [0, 5, 1234] {
            let first = ones(len);
            let at = first.as_slice().as_ptr();
            drop(first);
            // SAFETY: all floats are written.
            let second = unsafe {
                Recycled::written_by(len, |floats| {
                    floats.fill(MaybeUninit::new(2.0));
                })
            };
            assert!(
                len == 0 || second.as_slice().as_ptr() == at,
                "the same memory"
            );
            assert!(second.as_slice().iter().all(|&x| x == 2.0));
        }
        // More than the limit: the oldest are freed.
        let many: Vec<_> = (0..9).map(|i| ones(MOST_KEPT / 8 + i)).collect();
        drop(many);
        let kept = std::iter::repeat_with(kept).find_map(|kept| kept);
        let floats: usize = kept.unwrap().iter().map(Memory::len).sum();
        assert!(floats <= MOST_KEPT);
    }
}
