//! What can be wrong with a model file beyond its container.

use realm_gguf::cut;
use realm_ir::{Coded, ErrorCode};

/// Result with this crate's [`Error`], in a box: results are handed on at every step of reading
/// a file, and should be small.
pub type Result<T> = std::result::Result<T, Box<Error>>;

/// Why a file cannot be turned into a program.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The container or a metadata value.
    #[error(transparent)]
    Gguf(Box<realm_gguf::Error>),
    /// Metadata or tensors contradict each other.
    #[error("{what}: found {found}, expected {expected}")]
    Invalid {
        /// Key or tensor.
        what: String,
        /// What the file has.
        found: String,
        /// What it should have.
        expected: String,
    },
    /// The file is sound but needs something that is not there.
    #[error("{what}: {found} is not supported; supported: {supported}")]
    Unsupported {
        /// Key or tensor.
        what: String,
        /// What the file has.
        found: String,
        /// What could be run.
        supported: String,
    },
}

impl Error {
    pub(crate) fn invalid(
        what: impl Into<String>,
        found: impl ToString,
        expected: impl ToString,
    ) -> Box<Self> {
        Box::new(Error::Invalid {
            what: cut(what.into()),
            found: cut(found.to_string()),
            expected: expected.to_string(),
        })
    }

    pub(crate) fn unsupported(
        what: impl Into<String>,
        found: impl ToString,
        supported: impl ToString,
    ) -> Box<Self> {
        Box::new(Error::Unsupported {
            what: cut(what.into()),
            found: cut(found.to_string()),
            supported: supported.to_string(),
        })
    }
}

impl From<Box<realm_gguf::Error>> for Box<Error> {
    fn from(error: Box<realm_gguf::Error>) -> Self {
        Box::new(Error::Gguf(error))
    }
}

impl Coded for Error {
    type Code = ErrorCode;

    fn code(&self) -> ErrorCode {
        match self {
            Error::Gguf(error) => error.code(),
            Error::Invalid { .. } => ErrorCode::ModelInvalid,
            Error::Unsupported { .. } => ErrorCode::ModelUnsupported,
        }
    }
}
