//! Files that are read piece by piece, where nothing can be mapped and a model is too
//! large to be held: in a browser.

use crate::error::{Error, Result};

/// A file that can be read at any place. Reading blocks; it may be slow.
pub trait ReadAt: Send + Sync {
    /// Bytes of the whole file; never changes.
    fn n_bytes(&self) -> u64;

    /// Fills `out` with the bytes from `offset` on, which are inside the file.
    ///
    /// # Errors
    /// Why they could not be read, in words.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> std::result::Result<(), String>;
}

/// `len` bytes of `file` from `start` on, in memory.
pub(crate) fn read(file: &dyn ReadAt, start: u64, len: usize, what: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if bytes.try_reserve_exact(len).is_err() {
        return Err(Error::OutOfMemory { what: what.to_owned(), bytes: len }.into());
    }
    bytes.resize(len, 0);
    file.read_at(start, &mut bytes)
        .map_err(|message| Error::Unreadable { what: what.to_owned(), message })?;
    Ok(bytes)
}
