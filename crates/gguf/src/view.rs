//! A range of bytes that keeps what it points into alive.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of a mapping, a shared slice or a vector; cheap to clone.
#[derive(Clone)]
pub(crate) struct View {
    source: Arc<dyn AsRef<[u8]> + Send + Sync>,
    start: usize,
    len: usize,
}

impl View {
    /// All of `source`.
    pub(crate) fn new(source: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        let len = source.as_ref().len();
        View { source: Arc::new(source), start: 0, len }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &(*self.source).as_ref()[self.start..self.start + self.len]
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
