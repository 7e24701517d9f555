//! A cursor over untrusted bytes: nothing is read, and no count is believed,
//! before the bytes that are left have been compared with it.

use crate::error::{Error, Result, shown};
use crate::view::View;

/// No more than this much of a file is read as header. The largest vocabularies
/// take some 30 MiB; the limit bounds the memory that a hostile file of many GiB
/// can ask for.
pub(crate) const MAX_HEADER_BYTES: usize = 256 << 20;

/// Reads little-endian values from the start of a file. Every method takes the
/// name of what is being read, for the message.
pub(crate) struct Reader<'a> {
    file: &'a View,
    /// Bytes of the whole file, of which `file` may be the beginning.
    file_bytes: u64,
    bytes: &'a [u8],
    position: usize,
    /// How many bytes from the file's beginning were asked for and not there.
    pub(crate) needs: Option<u64>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(file: &'a View, file_bytes: u64) -> Self {
        let bytes = file.bytes();
        let bytes = &bytes[..bytes.len().min(MAX_HEADER_BYTES)];
        Reader { file, file_bytes, bytes, position: 0, needs: None }
    }

    pub(crate) fn position(&self) -> usize {
        self.position
    }

    fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// The next `n` bytes.
    pub(crate) fn take(&mut self, n: u64, what: &str) -> Result<&'a [u8]> {
        let Some(len) = usize::try_from(n).ok().filter(|len| *len <= self.remaining()) else {
            self.needs = (self.position as u64).checked_add(n);
            return Err(self.too_short(format!("{n} bytes"), what));
        };
        let start = self.position;
        self.position += len;
        Ok(&self.bytes[start..self.position])
    }

    /// The next `n` bytes, as a view that may outlive the reader.
    pub(crate) fn take_view(&mut self, n: u64, what: &str) -> Result<View> {
        let start = self.position;
        self.take(n, what)?;
        Ok(self.file.slice(start..self.position).expect("take has checked the range"))
    }

    /// The bytes from `start` to here, as a view.
    pub(crate) fn view_since(&self, start: usize) -> View {
        self.file.slice(start..self.position).expect("the reader has been at start")
    }

    pub(crate) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let bytes = self.take(N as u64, what)?;
        Ok(bytes.try_into().expect("take gives what was asked"))
    }

    pub(crate) fn u32(&mut self, what: &str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(crate) fn u64(&mut self, what: &str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A count of items that take at least `min_item_bytes` each: refused when
    /// the rest of the file cannot hold them.
    pub(crate) fn count(&mut self, min_item_bytes: usize, what: &str) -> Result<usize> {
        let n = self.u64(what)?;
        let fits = (self.remaining() / min_item_bytes) as u64;
        if n > fits {
            let bytes = n.checked_mul(min_item_bytes as u64);
            self.needs = bytes.and_then(|bytes| bytes.checked_add(self.position as u64));
            return Err(self.too_short(format!("room for {n} items"), what));
        }
        Ok(n as usize)
    }

    /// A string: length, then that many bytes, not checked to be UTF-8.
    pub(crate) fn string(&mut self, what: &str) -> Result<&'a [u8]> {
        let n = self.u64(what)?;
        self.take(n, what)
    }

    /// A key or tensor name: UTF-8, 1 to 65535 bytes.
    pub(crate) fn name(&mut self, what: &str) -> Result<&'a str> {
        let bytes = self.string(what)?;
        if bytes.is_empty() || bytes.len() > usize::from(u16::MAX) {
            return Err(Error::invalid(
                what,
                format!("{} bytes before byte {} of the file", bytes.len(), self.position),
                "1 to 65535 bytes",
            ));
        }
        std::str::from_utf8(bytes)
            .map_err(|_| Error::invalid(what, format!("\"{}\"", shown(bytes)), "valid UTF-8"))
    }

    fn too_short(&self, expected: String, what: &str) -> Box<Error> {
        let whole = if (self.bytes.len() as u64) < self.file_bytes {
            "the 256 MiB that a header may have"
        } else {
            "the file"
        };
        let (left, at) = (self.remaining(), self.position);
        let found = format!("{left} bytes left after byte {at} of {whole}");
        Error::invalid(what, found, expected)
    }
}
