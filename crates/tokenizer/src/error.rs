//! What can go wrong with a tokenizer or a chat template.

use realm_gguf::cut;

/// Result with this crate's [`Error`], in a box: results are handed on at every step of reading
/// a file, and should be small.
pub type Result<T> = std::result::Result<T, Box<Error>>;

/// Why a tokenizer or a chat template could not be built or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A key is missing from the metadata or has another type.
    #[error(transparent)]
    Metadata(Box<realm_gguf::Error>),
    /// A key is there, but its value makes no sense.
    #[error("{key}: found {found}, expected {expected}")]
    Invalid {
        /// The GGUF key.
        key: String,
        /// What the file says.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// A tokenizer or pre-tokenizer this crate does not implement.
    #[error("{key}: \"{found}\" is not supported; use one of: {supported}")]
    Unsupported {
        /// The GGUF key.
        key: String,
        /// The name in the file.
        found: String,
        /// The names that are implemented.
        supported: String,
    },
    /// The file says it has no vocabulary.
    #[error(
        "{key}: \"{found}\" means the file has no vocabulary, so it takes no text; \
         give it token ids or embeddings"
    )]
    NoVocabulary {
        /// The GGUF key.
        key: String,
        /// What the file says.
        found: String,
    },
    /// The chat template has a syntax error, or failed while rendering.
    #[error("chat template: {message}")]
    Template {
        /// What went wrong and in which line.
        message: String,
    },
    /// The chat template did not come to an end in the time it was given.
    #[error("chat template: {message}")]
    TemplateTooSlow {
        /// Where it was and how long it had.
        message: String,
    },
    /// The chat template itself refused the messages (`raise_exception`).
    #[error("chat template refused the messages: {message}")]
    TemplateRaised {
        /// The template's own words.
        message: String,
    },
}

impl Error {
    pub(crate) fn unsupported(
        key: impl Into<String>,
        found: impl Into<String>,
        supported: impl Into<String>,
    ) -> Box<Self> {
        Box::new(Error::Unsupported {
            key: cut(key.into()),
            found: cut(found.into()),
            supported: supported.into(),
        })
    }

    pub(crate) fn invalid(
        key: impl Into<String>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Box<Self> {
        Box::new(Error::Invalid {
            key: cut(key.into()),
            found: cut(found.into()),
            expected: expected.into(),
        })
    }
}

impl From<Box<realm_gguf::Error>> for Box<Error> {
    fn from(error: Box<realm_gguf::Error>) -> Self {
        Box::new(Error::Metadata(error))
    }
}
