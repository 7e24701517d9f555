//! A range of bytes that keeps what it points into alive.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// What holds bytes.
pub(crate) trait Source: Send + Sync {
    fn bytes(&self) -> &[u8];

    /// Gives memory back that can be read again from elsewhere.
    fn release(&self, _range: Range<usize>) {}
}

impl Source for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }
}

impl Source for Arc<[u8]> {
    fn bytes(&self) -> &[u8] {
        self
    }
}

#[cfg(not(target_family = "wasm"))]
impl Source for memmap2::Mmap {
    fn bytes(&self) -> &[u8] {
        self
    }

    fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        // SAFETY: the mapping is shared and read-only, so pages that are dropped are
        // read again from the file. A refusal costs nothing but memory.
        let _ = unsafe {
            let advice = memmap2::UncheckedAdvice::DontNeed;
            self.unchecked_advise_range(advice, range.start, range.len())
        };
        #[cfg(not(unix))]
        drop(range);
    }
}

/// Bytes of a mapping, a shared slice or a vector; cheap to clone.
#[derive(Clone)]
pub(crate) struct View {
    source: Arc<dyn Source>,
    start: usize,
    len: usize,
}

impl View {
    /// All of `source`.
    pub(crate) fn new(source: impl Source + 'static) -> Self {
        let len = source.bytes().len();
        View { source: Arc::new(source), start: 0, len }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.source.bytes()[self.start..self.start + self.len]
    }

    /// Gives back the memory of these bytes, if they can be read again from a file.
    pub(crate) fn release(&self) {
        self.source.release(self.start..self.start + self.len);
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The part `range` of this view; `None` when it is not inside.
    pub(crate) fn slice(&self, range: Range<usize>) -> Option<View> {
        let len = range.end.checked_sub(range.start)?;
        (range.end <= self.len).then(|| View {
            source: self.source.clone(),
            start: self.start + range.start,
            len,
        })
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len)
    }
}
