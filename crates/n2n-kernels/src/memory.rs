//! Memory for tensors and packed weights: whole cache lines, and huge pages where the system has them.
//!
//! An activation of some hundred megabytes is tens of thousands of small pages; walking the page table
//! for them costs the network several per cent of its time. Where huge pages cannot be had, nothing but
//! time is lost.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fmt;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ops::RangeInclusive;
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

/// Bytes of a cache line.
const LINE: usize = 64;
/// Bytes of a huge page; few where an interpreter runs the tests.
const HUGE: usize = if cfg!(miri) { 1 << 12 } else { 2 << 20 };

/// Bytes of memory that is kept for the next of its length, and of all that is kept.
///
/// A training step packs every filter anew: forty megabytes that the system would take back, and clear page by
/// page when they are asked for again.
const KEPT_BYTES: RangeInclusive<usize> = 1 << 16..=1 << 23;
const MOST_KEPT: usize = 1 << 26;

/// Memory that is free.
static KEPT: Mutex<Vec<Memory>> = Mutex::new(vec![]);

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
        } else if let Some(floats) = kept(len) {
            floats
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

/// The floats of memory of this length that was kept.
fn kept(len: usize) -> Option<NonNull<f32>> {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let at = kept.iter().rposition(|memory| memory.len == len)?;
    // What is taken is not freed.
    Some(ManuallyDrop::new(kept.swap_remove(at)).floats)
}

impl Drop for Memory {
    fn drop(&mut self) {
        let bytes = self.len * size_of::<f32>();
        if KEPT_BYTES.contains(&bytes) {
            let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
            let all: usize = kept.iter().map(|memory| memory.len).sum();
            if all * size_of::<f32>() + bytes <= MOST_KEPT {
                kept.push(Self {
                    floats: self.floats,
                    len: self.len,
                });
                return;
            }
        }
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
    fn memory_that_was_kept_is_zero_again() {
        let len = KEPT_BYTES.start() / size_of::<f32>() + 1;
        let mut memory = Memory::zeros(len);
        memory.as_mut_slice().fill(1.0);
        let at = memory.as_slice().as_ptr();
        drop(memory);
        let memory = Memory::zeros(len);
        assert_eq!(memory.as_slice().as_ptr(), at, "the same memory");
        assert!(memory.as_slice().iter().all(|&x| x == 0.0));
    }
}
