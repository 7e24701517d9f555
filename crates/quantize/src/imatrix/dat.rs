//! Importance matrices as they were written before they were GGUF files.
//!
//! All numbers are little-endian and 32 bits wide: how many entries; for each the
//! length of its name, the name, how many times sums were taken, how many sums
//! there are, the sums. What follows says where the text came from and is left alone.
//! Source: `load_legacy_imatrix` in llama.cpp `tools/imatrix/imatrix.cpp`.

use std::io::{self, Read};

use super::{Entry, invalid};
use crate::Error;

/// Why a file could not be read: it is wrong, or the system failed.
pub(super) enum Failure {
    Wrong(Error),
    System(io::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Wrong(error)
    }
}

/// Name and factors of every entry of a file of `n_bytes`.
pub(super) fn read(source: impl Read, n_bytes: u64) -> Result<Vec<(String, Entry)>, Failure> {
    let mut source = Source { source, left: n_bytes };
    let n = source.count("entries")?;
    if n == 0 {
        return Err(invalid("entries", "1 at least", "0").into());
    }
    // An entry takes 12 bytes at least, so that a wrong count ends the file soon.
    (0..n).map(|_| entry(&mut source)).collect()
}

fn entry(source: &mut Source<impl Read>) -> Result<(String, Entry), Failure> {
    let n = source.count("length of a name")?;
    let name = String::from_utf8_lossy(&source.take("name", n)?).into_owned();
    let n_calls = source.count(&name)?.max(1) as f32;
    let n_sums = source.count(&name)?;
    let bytes = source.take(&name, 4 * n_sums)?;
    let (sums, _) = bytes.as_chunks::<4>();
    let factors = sums.iter().map(|sum| f32::from_le_bytes(*sum) / n_calls).collect();
    let entry = Entry::checked(&name, None, factors)?;
    Ok((name, entry))
}

/// What is left of the file.
struct Source<R> {
    source: R,
    left: u64,
}

impl<R: Read> Source<R> {
    /// The next `n` bytes. No more than there are is asked for, or allocated.
    fn take(&mut self, what: &str, n: u64) -> Result<Vec<u8>, Failure> {
        if n > self.left {
            return Err(invalid(what, format!("{n} bytes"), format!("{} bytes", self.left)).into());
        }
        self.left -= n;
        let mut bytes = vec![0; n as usize];
        self.source.read_exact(&mut bytes).map_err(Failure::System)?;
        Ok(bytes)
    }

    /// A number that is not negative.
    fn count(&mut self, what: &str) -> Result<u64, Failure> {
        let bytes = self.take(what, 4)?;
        let count = i32::from_le_bytes(*bytes.first_chunk().expect("there are four"));
        u64::try_from(count).map_err(|_| invalid(what, "a count", count.to_string()).into())
    }
}
