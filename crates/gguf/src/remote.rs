//! Files that are read piece by piece, where nothing can be mapped and a model is too
//! large to be held: in a browser.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::header::Header;
use crate::reader::MAX_HEADER_BYTES;
use crate::view::View;

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

/// One file of a model.
#[derive(Clone)]
pub(crate) enum File {
    /// Mapped or in memory.
    Held(View),
    /// Read piece by piece.
    Remote(Arc<dyn ReadAt>),
}

impl File {
    pub(crate) fn n_bytes(&self) -> u64 {
        match self {
            File::Held(view) => view.len() as u64,
            File::Remote(file) => file.n_bytes(),
        }
    }

    /// `len` bytes from `start` on; `None` when they are not inside.
    pub(crate) fn view(&self, start: u64, len: usize) -> Option<View> {
        let end = start.checked_add(len as u64).filter(|end| *end <= self.n_bytes())?;
        match self {
            File::Held(view) => view.slice(start as usize..end as usize),
            File::Remote(file) => Some(View::remote(file.clone(), start, len)),
        }
    }

    /// Reads as much of the beginning as the header turns out to take.
    pub(crate) fn header(&self) -> Result<Header> {
        let n_bytes = self.n_bytes();
        let file = match self {
            File::Held(view) => return Header::parse(view, n_bytes).map_err(|failed| failed.error),
            File::Remote(file) => file,
        };
        let limit = n_bytes.min(MAX_HEADER_BYTES as u64);
        let mut wanted = limit.min(FIRST_HEAD_BYTES);
        loop {
            let head = View::new(read(&**file, 0, wanted as usize, "file header")?);
            match Header::parse(&head, n_bytes) {
                Ok(header) => return Ok(header),
                Err(failed) => match failed.needs.filter(|needs| *needs <= limit) {
                    Some(needs) => wanted = (needs + FIRST_HEAD_BYTES).max(2 * wanted).min(limit),
                    None => return Err(failed.error),
                },
            }
        }
    }
}

/// Enough for the header of a model with a small vocabulary. When it is too little, at
/// least twice as much is read, and the beginning is parsed again.
const FIRST_HEAD_BYTES: u64 = 2 << 20;

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
