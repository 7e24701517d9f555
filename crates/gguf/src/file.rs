//! An opened model: one file, or all parts of a split one.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result, shown};
use crate::header::Header;
use crate::metadata::Metadata;
use crate::part::File;
use crate::remote::ReadAt;
use crate::split;
use crate::tensor::{TensorData, TensorInfo};
use crate::view::View;

/// A GGUF model, mapped or in memory. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Gguf {
    inner: Arc<Inner>,
}

impl fmt::Debug for Gguf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gguf")
            .field("version", &self.version())
            .field("n_keys", &self.metadata().iter().len())
            .field("n_tensors", &self.tensors().len())
            .field("file_bytes", &self.file_bytes())
            .finish()
    }
}

struct Inner {
    parts: Vec<File>,
    version: u32,
    alignment: u32,
    metadata: Metadata,
    header_bytes: Vec<u64>,
    tensors: Vec<TensorInfo>,
    by_name: HashMap<Arc<str>, usize>,
}

impl Gguf {
    /// Maps the file at `path`. Of a split model any part may be named; the others
    /// are opened from the same folder. See the crate's docs for what mapping means.
    ///
    /// # Errors
    /// [`Error::NotFound`] and [`Error::Io`] name the path; [`Error::Invalid`] and
    /// [`Error::Unsupported`] name the key, tensor or part of the file.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn open(path: impl AsRef<std::path::Path>) -> Result<Gguf> {
        let path = path.as_ref();
        let file = File::Held(mapping::map(path, "model file")?);
        let header = Header::read(&file)?;
        let Some(count) = split::count(&header.metadata)? else {
            return Gguf::assemble(vec![(file, header)]);
        };
        let names = split::PartNames::of(path, count)?;
        let mut parts = Vec::new();
        for i in 0..count {
            let label = split::label(i, count);
            let file = File::Held(mapping::map(&names.path(i), &label)?);
            let header = Header::read(&file).map_err(|error| error.in_part(&label))?;
            parts.push((file, header));
        }
        Gguf::assemble(parts)
    }

    /// Opens a model of one file that is already in memory.
    ///
    /// # Errors
    /// [`Error::Invalid`] and [`Error::Unsupported`], as for a file.
    pub fn from_bytes(bytes: impl Into<Arc<[u8]>>) -> Result<Gguf> {
        Gguf::from_files(vec![File::Held(View::new(bytes.into()))])
    }

    /// Opens a split model whose parts are in memory, in the order of `split.no`.
    ///
    /// # Errors
    /// As [`from_bytes`](Self::from_bytes); also when parts are missing, too many,
    /// or out of order.
    pub fn from_parts(parts: Vec<Arc<[u8]>>) -> Result<Gguf> {
        Gguf::from_files(parts.into_iter().map(|bytes| File::Held(View::new(bytes))).collect())
    }

    /// Opens a model that is read piece by piece: one file, or all parts of a split one
    /// in order. Now only the headers are read, tensors when they are
    /// [fetched](TensorData::fetch).
    ///
    /// # Errors
    /// As [`from_parts`](Self::from_parts); [`Error::Unreadable`], [`Error::OutOfMemory`].
    pub fn from_remote(parts: Vec<Arc<dyn ReadAt>>) -> Result<Gguf> {
        Gguf::from_files(parts.into_iter().map(File::Remote).collect())
    }

    fn from_files(files: Vec<File>) -> Result<Gguf> {
        let count = files.len();
        let parse = |(i, file): (usize, File)| {
            let header = Header::read(&file).map_err(|error| match count {
                1 => error,
                _ => error.in_part(&split::label(i, count)),
            })?;
            Ok((file, header))
        };
        Gguf::assemble(files.into_iter().enumerate().map(parse).collect::<Result<_>>()?)
    }

    fn assemble(files: Vec<(File, Header)>) -> Result<Gguf> {
        let (parts, headers): (Vec<File>, Vec<Header>) = files.into_iter().unzip();
        split::check(&headers)?;
        let Header { version, alignment, .. } = headers[0];
        let mut metadata = None;
        let header_bytes = headers.iter().map(|header| header.n_bytes).collect();
        let mut tensors = Vec::new();
        for (part, header) in headers.into_iter().enumerate() {
            metadata.get_or_insert(header.metadata);
            tensors.extend(header.tensors.into_iter().map(|mut tensor| {
                tensor.set_part(part);
                tensor
            }));
        }
        let mut by_name = HashMap::with_capacity(tensors.len());
        for (i, tensor) in tensors.iter().enumerate() {
            if by_name.insert(tensor.shared_name(), i).is_some() {
                return Err(Error::invalid(
                    shown(tensor.name().as_bytes()),
                    "the tensor a second time",
                    "each tensor once",
                ));
            }
        }
        let metadata = metadata.unwrap_or_default();
        let inner = Inner { parts, version, alignment, metadata, header_bytes, tensors, by_name };
        Ok(Gguf { inner: Arc::new(inner) })
    }

    /// GGUF version: 2 or 3.
    pub fn version(&self) -> u32 {
        self.inner.version
    }

    /// Tensor data starts at multiples of this many bytes in the file.
    pub fn alignment(&self) -> u32 {
        self.inner.alignment
    }

    /// Keys and values; of a split model, those of its first part.
    pub fn metadata(&self) -> &Metadata {
        &self.inner.metadata
    }

    /// Bytes of each part that precede its tensor data: all that the metadata and the
    /// list of tensors are made of.
    pub fn header_bytes(&self) -> &[u64] {
        &self.inner.header_bytes
    }

    /// Every tensor, in file order, part after part.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.inner.tensors
    }

    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<TensorData> {
        let info = &self.inner.tensors[*self.inner.by_name.get(name)?];
        Some(info.data(&self.inner.parts[info.part()]))
    }

    /// The tensor called `name`, or an error that says it is missing.
    pub fn require_tensor(&self, name: &str) -> Result<TensorData> {
        self.tensor(name)
            .ok_or_else(|| Error::invalid(name, "no such tensor in the file", "a tensor"))
    }

    /// Bytes of the file, or of all parts together.
    pub fn file_bytes(&self) -> u64 {
        self.inner.parts.iter().map(File::n_bytes).sum()
    }
}

/// Memory mapping, where there is a file system to map from.
#[cfg(not(target_arch = "wasm32"))]
mod mapping {
    use std::fs;
    use std::io;
    use std::path::Path;

    use memmap2::Mmap;

    use crate::error::{Error, Result};
    use crate::view::{FileId, MappedFile, View};

    /// Maps a regular file, read-only; `what` says which file it is if it is missing.
    pub(super) fn map(path: &Path, what: &str) -> Result<View> {
        let failed = |error: io::Error| {
            Box::new(match error.kind() {
                io::ErrorKind::NotFound => {
                    Error::NotFound { path: path.to_owned(), what: what.to_owned() }
                }
                kind => Error::Io { path: path.to_owned(), kind, message: error.to_string() },
            })
        };
        // Asked before opening: opening a pipe would wait for its writer.
        if !fs::metadata(path).map_err(failed)?.is_file() {
            return Err(failed(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{what} is not a regular file"),
            )));
        }
        let file = fs::File::open(path).map_err(failed)?;
        // SAFETY: the mapping is read-only and private to this view. Rust's rule
        // that shared bytes do not change holds as long as nobody writes to the
        // file. If someone does, bytes read later differ from those checked at
        // opening; all accesses are to ranges fixed then, so they stay inside the
        // mapping, and whoever decodes bytes must not rely on their values for
        // memory safety. If the file is shortened, reading past its new end stops
        // the process (SIGBUS); no wrong memory is read. The crate's docs tell
        // callers how to replace a model, and how to avoid mapping.
        let map = unsafe { Mmap::map(&file) }.map_err(failed)?;
        let id = FileId::new(path, &file.metadata().map_err(failed)?);
        Ok(View::new(MappedFile { map, id }))
    }
}
