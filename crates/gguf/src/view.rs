//! A range of bytes that keeps what it points into alive.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::error::Result;
use crate::remote::{self, ReadAt};

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

/// Bytes of a mapping, a shared slice or a vector, or a place in a file that is read
/// when asked; cheap to clone.
#[derive(Clone)]
pub(crate) struct View {
    place: Place,
    len: usize,
}

#[derive(Clone)]
enum Place {
    /// In memory, from this byte of the source on.
    Held(Arc<dyn Source>, usize),
    /// Not in memory: from this byte of the file on.
    Remote(Arc<dyn ReadAt>, u64),
}

impl View {
    /// All of `source`.
    pub(crate) fn new(source: impl Source + 'static) -> Self {
        let len = source.bytes().len();
        View { place: Place::Held(Arc::new(source), 0), len }
    }

    /// `len` bytes of `file` from `start` on; the caller has checked that they are there.
    pub(crate) fn remote(file: Arc<dyn ReadAt>, start: u64, len: usize) -> Self {
        View { place: Place::Remote(file, start), len }
    }

    /// The bytes; none of a view that has to be [fetched](Self::fetch).
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.place {
            Place::Held(source, start) => &source.bytes()[*start..start + self.len],
            Place::Remote(..) => &[],
        }
    }

    /// The same bytes in memory: this view if they are there, else one of a copy that
    /// goes with its last clone. `what` is for the message.
    pub(crate) fn fetch(&self, what: &str) -> Result<View> {
        match &self.place {
            Place::Held(..) => Ok(self.clone()),
            Place::Remote(file, start) => {
                Ok(View::new(remote::read(&**file, *start, self.len, what)?))
            }
        }
    }

    /// Gives back the memory of these bytes, if they can be read again from a file.
    pub(crate) fn release(&self) {
        if let Place::Held(source, start) = &self.place {
            source.release(*start..start + self.len);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The part `range` of this view; `None` when it is not inside.
    pub(crate) fn slice(&self, range: Range<usize>) -> Option<View> {
        let len = range.end.checked_sub(range.start)?;
        if range.end > self.len {
            return None;
        }
        let place = match &self.place {
            Place::Held(source, start) => Place::Held(source.clone(), start + range.start),
            Place::Remote(file, start) => Place::Remote(file.clone(), start + range.start as u64),
        };
        Some(View { place, len })
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len)
    }
}
