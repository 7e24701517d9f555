//! The weights that vector code reads: one row per lane, as GGUF has them or interleaved.

use std::cell::Cell;

use super::{FloatSimd, MAX_LANES, Simd};

/// Bytes that a prefetch brings.
const CACHE_LINE_BYTES: usize = 64;

/// One row of weights per lane, and what will be read after them.
pub(crate) struct LaneRows<'a> {
    rows: [&'a [u8]; MAX_LANES],
    row_bytes: usize,
    weights: &'a [u8],
    /// The next byte of the weights to prefetch, and where to stop.
    next: Cell<usize>,
    end: usize,
    /// The first row and all that follow.
    from_first: &'a [u8],
    /// Whether interleaved rows are not asked for early.
    is_followed: bool,
}

impl<'a> LaneRows<'a> {
    /// The rows from `first` on, the last one again when there are no more.
    ///
    /// While they are read, as many rows from `next` on are prefetched. They may lie behind
    /// the weights given: a caller who splits a matrix goes on there.
    #[inline(always)]
    pub fn new<S: Simd>(weights: &'a [u8], row_bytes: usize, first: usize, next: usize) -> Self {
        let last = weights.len() / row_bytes - 1;
        let row = |lane: usize| &weights[(first + lane).min(last) * row_bytes..][..row_bytes];
        let from_first = &weights[first.min(last / S::LANES * S::LANES) * row_bytes..];
        let end = (next + S::LANES) * row_bytes;
        let end = if S::PREFETCH_READS { end.min(weights.len()) } else { end };
        Self {
            rows: std::array::from_fn(row),
            row_bytes,
            weights,
            next: Cell::new(next * row_bytes),
            end,
            from_first,
            is_followed: false,
        }
    }

    /// The same where the processor follows the stream by itself, if `is_followed`.
    #[inline(always)]
    pub fn followed(self, is_followed: bool) -> Self {
        Self { is_followed, ..self }
    }

    /// Where byte `at` of the row in `lane` is; `len` bytes can be read there.
    #[inline(always)]
    pub(super) fn pointers(&self, at: usize, len: usize) -> impl Fn(usize) -> *const u8 {
        assert!(at + len <= self.row_bytes, "bytes {at}.. of rows of {}", self.row_bytes);
        move |lane| self.rows[lane].as_ptr().wrapping_add(at)
    }

    /// Bytes `at..at + len` of interleaved rows, `S::LANES` times as many.
    #[inline(always)]
    pub(super) fn group<S: Simd>(&self, at: usize, len: usize) -> &'a [u8] {
        assert!(at + len <= self.row_bytes, "bytes {at}.. of rows of {}", self.row_bytes);
        &self.from_first[at * S::LANES..][..len * S::LANES]
    }

    /// Where [`group`](Self::group) is, and prefetches.
    ///
    /// Where the processor follows the stream, lines are only touched in order: compilers
    /// change the order of the loads in a block, and a stream that goes back is lost.
    #[inline(always)]
    pub(super) fn stream<S: Simd>(&self, s: S, at: usize, len: usize) -> *const u8 {
        let group = self.group::<S>(at, len).as_ptr();
        if self.is_followed {
            for line in (0..len * S::LANES).step_by(CACHE_LINE_BYTES) {
                // SAFETY: the line begins inside the group.
                unsafe { s.prefetch_near(group.wrapping_add(line)) };
            }
        } else if len == 16 {
            // And as much again as the scales of 16 bytes of nibbles have.
            self.prefetch_some(s, 18 * S::LANES);
        }
        group
    }

    /// The row in `lane` from byte `at` on.
    #[inline(always)]
    pub fn row_from(&self, lane: usize, at: usize) -> &'a [u8] {
        &self.rows[lane][at..]
    }

    /// Prefetches the next `bytes`. Little and often: the CPU waits when more lines
    /// are asked for than it can keep in flight.
    #[inline(always)]
    pub fn prefetch_some<S: Simd>(&self, s: S, bytes: usize) {
        let at = self.next.get();
        if at < self.end {
            // Always as many lines: a loop whose length changes is predicted badly.
            for line in (0..bytes).step_by(CACHE_LINE_BYTES) {
                let at = at + line;
                let at = if S::PREFETCH_READS { at.min(self.weights.len() - 1) } else { at };
                // SAFETY: where the byte must be readable, it is one of the weights.
                unsafe { s.prefetch(self.weights.as_ptr().wrapping_add(at)) };
            }
            self.next.set(at + bytes);
        }
    }
}

/// Asks for bytes `begin..begin + len` of the weights, as far as there are any.
#[inline(always)]
pub(crate) fn prefetch<S: FloatSimd>(s: S, weights: &[u8], begin: usize, len: usize) {
    let end = weights.len().min(begin + len);
    for at in (begin..end).step_by(CACHE_LINE_BYTES) {
        // SAFETY: the byte is one of the weights.
        unsafe { s.prefetch(weights.as_ptr().wrapping_add(at)) };
    }
}
