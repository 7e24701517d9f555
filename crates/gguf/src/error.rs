//! What can go wrong with a GGUF file.

use std::io;
use std::path::PathBuf;

/// Result with this crate's [`Error`], in a box: results are handed on at every step of reading
/// a file, and should be small.
pub type Result<T> = std::result::Result<T, Box<Error>>;

/// Why a file could not be opened, or why a key or tensor is not what was asked for.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// There is no such file.
    #[error("{}: {what} not found", path.display())]
    NotFound {
        /// The path that was tried.
        path: PathBuf,
        /// Which file of the model that would be, such as `part 2 of 3`.
        what: String,
    },
    /// The system could not open or map the file.
    #[error("{}: {message}", path.display())]
    Io {
        /// The path that was tried.
        path: PathBuf,
        /// The system's class of error.
        kind: io::ErrorKind,
        /// The system's own words.
        message: String,
    },
    /// A file that is read piece by piece could not be read.
    #[error("{what}: {message}")]
    Unreadable {
        /// The tensor or part of the file.
        what: String,
        /// Why, in the words of who reads it.
        message: String,
    },
    /// No memory for a piece of a file.
    #[error("{what}: no memory for its {bytes} bytes")]
    OutOfMemory {
        /// The tensor or part of the file.
        what: String,
        /// Its size.
        bytes: usize,
    },
    /// The file breaks the format, or a key or tensor is missing or of the wrong kind.
    #[error("{what}: expected {expected}, found {found}")]
    Invalid {
        /// The tensor, key or part of the file.
        what: String,
        /// What is there.
        found: String,
        /// What should be there.
        expected: String,
    },
    /// The file may well be right, but this crate cannot read it.
    #[error("{what}: {found} is not supported; {supported}")]
    Unsupported {
        /// The tensor, key or part of the file.
        what: String,
        /// What is there.
        found: String,
        /// What would be supported, or what to do.
        supported: String,
    },
}

impl Error {
    pub(crate) fn invalid(
        what: impl Into<String>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Box<Self> {
        Box::new(Error::Invalid {
            what: cut(what.into()),
            found: cut(found.into()),
            expected: expected.into(),
        })
    }

    pub(crate) fn unsupported(
        what: impl Into<String>,
        found: impl Into<String>,
        supported: impl Into<String>,
    ) -> Box<Self> {
        Box::new(Error::Unsupported {
            what: cut(what.into()),
            found: cut(found.into()),
            supported: supported.into(),
        })
    }

    /// The same error, saying which part of a split file it is about.
    pub(crate) fn in_part(mut self: Box<Self>, part: &str) -> Box<Self> {
        if let Error::Invalid { what, .. } | Error::Unsupported { what, .. } = &mut *self {
            *what = format!("{part}: {what}");
        }
        self
    }
}

/// A text that strangers may have written, as part of an error: at most its first 1000
/// characters. Whoever logs the error wants no megabytes.
pub fn cut(mut text: String) -> String {
    const MAX_CHARS: usize = 1000;
    if let Some((end, _)) = text.char_indices().nth(MAX_CHARS) {
        text.truncate(end);
        text.shrink_to_fit();
        text.push('…');
    }
    text
}

/// A name or string of the file, made fit for a message: at most 80 characters,
/// control characters escaped.
pub(crate) fn shown(bytes: &[u8]) -> String {
    const MAX_CHARS: usize = 80;
    // A character takes at most 4 bytes, so this much holds all that is shown.
    let head = &bytes[..bytes.len().min(4 * MAX_CHARS + 4)];
    let text = String::from_utf8_lossy(head);
    let mut chars = text.chars();
    let mut out: String = chars.by_ref().take(MAX_CHARS).flat_map(char::escape_debug).collect();
    if chars.next().is_some() {
        out.push('…');
    }
    out
}
