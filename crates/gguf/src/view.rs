//! A range of bytes that keeps what it points into alive.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::error::Result;
use crate::remote::{self, ReadAt};

/// What holds bytes.
pub(crate) trait Source: Send + Sync {
    fn bytes(&self) -> &[u8];

    /// Which file the bytes are of; `None` where they are nobody else's.
    fn file(&self) -> Option<&FileId> {
        None
    }

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

/// A mapped file.
#[cfg(not(target_family = "wasm"))]
pub(crate) struct MappedFile {
    pub map: memmap2::Mmap,
    pub id: FileId,
}

#[cfg(not(target_family = "wasm"))]
impl Source for MappedFile {
    fn bytes(&self) -> &[u8] {
        &self.map
    }

    fn file(&self) -> Option<&FileId> {
        Some(&self.id)
    }

    fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        // SAFETY: the mapping is shared and read-only, so pages that are dropped are
        // read again from the file. A refusal costs nothing but memory.
        let _ = unsafe {
            let advice = memmap2::UncheckedAdvice::DontNeed;
            self.map.unchecked_advise_range(advice, range.start, range.len())
        };
        #[cfg(not(unix))]
        drop(range);
    }
}

/// One state of one file, as far as a file system can tell.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    path: std::path::PathBuf,
    bytes: u64,
    modified: Option<std::time::SystemTime>,
    /// Device and inode.
    inode: Option<(u64, u64)>,
}

#[cfg(not(target_family = "wasm"))]
impl FileId {
    pub(crate) fn new(path: &std::path::Path, metadata: &std::fs::Metadata) -> Self {
        #[cfg(unix)]
        let inode = {
            use std::os::unix::fs::MetadataExt;
            Some((metadata.dev(), metadata.ino()))
        };
        #[cfg(not(unix))]
        let inode = None;
        FileId {
            path: path.canonicalize().unwrap_or_else(|_| path.to_owned()),
            bytes: metadata.len(),
            modified: metadata.modified().ok(),
            inode,
        }
    }
}

/// Where bytes lie in a file: equal for equal bytes, however often the file is opened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The file.
    pub file: FileId,
    /// The first byte.
    pub offset: usize,
    /// How many.
    pub len: usize,
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

    /// Where these bytes lie in a file, if they are mapped.
    pub(crate) fn origin(&self) -> Option<Origin> {
        let Place::Held(source, start) = &self.place else { return None };
        let file = source.file()?.clone();
        Some(Origin { file, offset: *start, len: self.len })
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
