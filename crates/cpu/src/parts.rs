//! Several workers writing to one slice, each to its own part.

use std::marker::PhantomData;
use std::ops::Range;

/// A slice that can be handed out in parts from several threads at once.
pub(crate) struct Parts<'a, T> {
    first: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: the only access is `part`, whose callers promise that parts in use at
// the same time do not overlap, which is what `&mut [T]` split among threads is.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    pub fn new(slice: &'a mut [T]) -> Self {
        Parts { first: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    /// The elements of `range`, to be written.
    ///
    /// # Safety
    /// No other part that overlaps `range` is in use.
    ///
    /// # Panics
    /// When the range reaches beyond the slice.
    #[allow(clippy::mut_from_ref, reason = "the caller promises that parts do not overlap")]
    pub unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {}", self.len);
        // SAFETY: inside the slice by the check above; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(range.start), range.len()) }
    }

    /// Sets one element.
    ///
    /// # Safety
    /// No part that holds it is in use, nor is it set by another thread.
    ///
    /// # Panics
    /// When it is beyond the slice.
    pub unsafe fn set(&self, at: usize, value: T) {
        assert!(at < self.len, "{at} of {}", self.len);
        // SAFETY: inside the slice by the check above; exclusive by the caller's promise.
        unsafe { *self.first.add(at) = value };
    }
}
