//! Memory for tensors and packed weights: whole cache lines, huge pages where the system has them, and for
//! packed weights what the last ones lay in.
//!
//! An activation of some hundred megabytes is tens of thousands of small pages; walking the page table
//! for them costs the network several per cent of its time. Where huge pages cannot be had, nothing but
//! time is lost.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fmt;
use std::mem::{MaybeUninit, take};
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, TryLockError};

/// Bytes of a cache line.
const LINE: usize = 64;
/// Bytes of a huge page; few where an interpreter runs the tests.
const HUGE: usize = if cfg!(miri) { 1 << 12 } else { 2 << 20 };

/// Floats at the start of a cache line.
pub(crate) struct Memory {
    floats: NonNull<f32>,
    len: usize,
}

// SAFETY: it owns its floats, as a `Box<[f32]>` does.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// `len` zeros.
    ///
    /// # Panics
    /// If they are more than an address can count.
    pub fn zeros(len: usize) -> Self {
        // SAFETY: all are written.
        unsafe {
            Self::written_by(len, |floats| {
                floats.fill(MaybeUninit::new(0.0));
            })
        }
    }

    /// `len` floats as `write` leaves them.
    ///
    /// # Panics
    /// If they are more than an address can count.
    ///
    /// # Safety
    /// `write` must write every float.
    pub unsafe fn written_by(len: usize, write: impl FnOnce(&mut [MaybeUninit<f32>])) -> Self {
        let Some(layout) = layout(len) else {
            panic!("{len} floats are larger than memory");
        };
        let floats = if layout.size() == 0 {
            NonNull::dangling()
        } else {
            // SAFETY: the layout's size is not zero.
            let memory = unsafe { alloc(layout) };
            let Some(floats) = NonNull::new(memory).map(NonNull::cast) else {
                handle_alloc_error(layout);
            };
            // Before the first touch, which decides what page lies there.
            #[cfg(all(target_os = "linux", not(miri)))]
            if layout.align() == HUGE {
                // SAFETY: the range was just allocated, and the advice changes no value in it. Whether
                // it is taken is the system's choice.
                unsafe { libc::madvise(memory.cast(), layout.size(), libc::MADV_HUGEPAGE) };
            }
            floats
        };
        let memory = Self { floats, len };
        // SAFETY: `len` floats were allocated, which may hold anything yet.
        write(unsafe { std::slice::from_raw_parts_mut(memory.floats.as_ptr().cast(), len) });
        memory
    }

    /// The first `len` floats, of more memory if they are not there yet; what they hold may be anything.
    ///
    /// # Panics
    /// As [`Memory::zeros`].
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
        // SAFETY: `len` floats were allocated, and written before anyone had this value.
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
            // SAFETY: `written_by` allocated it with the layout of this length.
            unsafe { dealloc(self.floats.as_ptr().cast(), layout) };
        }
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} floats", self.len)
    }
}

/// The most floats that are kept for later: some more than the packed filters of the paper's network. Few where an
/// interpreter runs the tests.
const MOST_KEPT: usize = if cfg!(miri) { 1 << 12 } else { 1 << 24 };

/// What is kept, the oldest first.
static KEPT: Mutex<Vec<Memory>> = Mutex::new(vec![]);

/// Memory that is kept, when it is no longer used, for the next of its length.
///
/// A training step packs every filter anew. The system would take back forty megabytes each time, and clear
/// them page by page when they are asked for again.
#[derive(Debug)]
pub(crate) struct Recycled(Memory);

impl Recycled {
    /// [`Memory::written_by`], in memory that was kept if there is some.
    ///
    /// # Panics
    /// As there.
    ///
    /// # Safety
    /// As there.
    pub unsafe fn written_by(len: usize, write: impl FnOnce(&mut [MaybeUninit<f32>])) -> Self {
        let found = kept().and_then(|mut kept| {
            let at = kept.iter().rposition(|memory| memory.len == len);
            at.map(|at| kept.remove(at))
        });
        if let Some(mut memory) = found {
            let floats: *mut [f32] = memory.as_mut_slice();
            // SAFETY: the same floats, of the same layout; by the caller's promise `write` leaves values in all.
            write(unsafe { &mut *(floats as *mut [MaybeUninit<f32>]) });
            return Self(memory);
        }
        // SAFETY: the caller's promise is the same.
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
        // Given back when the lock no longer is held: the last variable is dropped first.
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

/// What is kept, unless another thread has it just now. Waiting is not worth it, and would not end in a process
/// that was forked while a thread, which the fork lacks, had it.
fn kept() -> Option<MutexGuard<'static, Vec<Memory>>> {
    match KEPT.try_lock() {
        Ok(kept) => Some(kept),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Where `len` floats lie: at the start of a cache line, or of a huge page if they fill some.
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
        for len in [0, 1, 15, 4096, (2 * HUGE + 12) / 4] {
            let mut memory = Memory::zeros(len);
            assert!(memory.as_slice().iter().all(|&x| x == 0.0));
            assert!(len == 0 || memory.as_slice().as_ptr().addr().is_multiple_of(LINE));
            memory.as_mut_slice().fill(1.0);
            assert_eq!(memory.as_slice().iter().sum::<f32>() as usize, len);
        }
    }

    #[test]
    fn recycled_memory_holds_what_is_written_last() {
        let ones = |len| {
            // SAFETY: all are written.
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
            // SAFETY: all are written.
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
        // More than are kept: the oldest are given back.
        let many: Vec<_> = (0..9).map(|i| ones(MOST_KEPT / 8 + i)).collect();
        drop(many);
        let kept = std::iter::repeat_with(kept).find_map(|kept| kept);
        let floats: usize = kept.unwrap().iter().map(Memory::len).sum();
        assert!(floats <= MOST_KEPT);
    }
}
