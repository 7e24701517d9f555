//! A range of bytes that keeps what it points into alive.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

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

    /// Where these bytes lie in a file, if they are mapped.
    pub(crate) fn origin(&self) -> Option<Origin> {
        let file = self.source.file()?.clone();
        Some(Origin { file, offset: self.start, len: self.len })
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
