//! What can go wrong between a program and its model.

use realm_ir::Coded;

use crate::code::ErrorCode;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything the engine reports, with a stable [`Error::code`].
///
/// What other crates report is in boxes: results are handed on everywhere, and should be small.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file or its metadata.
    #[error(transparent)]
    Gguf(#[from] Box<realm_gguf::Error>),
    /// The file does not make a model that can be run.
    #[error(transparent)]
    Model(#[from] Box<realm_model::Error>),
    /// The tokenizer or the chat template.
    #[error(transparent)]
    Tokenizer(#[from] Box<realm_tokenizer::Error>),
    /// The backend, or a batch it refused.
    #[error(transparent)]
    Backend(Box<realm_ir::Error>),
    /// A tensor that cannot be turned into values.
    #[error(transparent)]
    Quant(Box<realm_quant::Error>),
    /// None of several backends would have the model.
    #[error("no backend can run this model: {}", reasons(.refusals))]
    NoBackend {
        /// Name and reason of each refusal, in the order they were tried.
        refusals: Vec<(String, Error)>,
    },
    /// An argument is out of its range.
    #[error("{message}")]
    InvalidArgument {
        /// Which one, what it is and what it may be.
        message: String,
    },
    /// An array has the wrong number of values.
    #[error("{message}")]
    ShapeMismatch {
        /// Which one, its length and what the length should be.
        message: String,
    },
    /// No page of the KV cache or no recurrent state is free, and none could ever be.
    #[error("{message}")]
    KvExhausted {
        /// What was needed, what there is and what to do.
        message: String,
    },
    /// Memory for what was asked could not be had.
    #[error("{message}")]
    OutOfMemory {
        /// What it was for and how much.
        message: String,
    },
    /// Loading was given up.
    #[error("aborted")]
    Aborted,
    /// The model was disposed of.
    #[error("the model has been disposed of")]
    Disposed,
    /// Its session is dead and no other could be opened.
    #[error("the model was lost after a failure of its backend; the model must be loaded again")]
    ModelLost,
    /// What a part beside the engine reports.
    #[error("{message}")]
    Other {
        /// Its code.
        code: ErrorCode,
        /// Its message.
        message: String,
    },
    /// A defect of ours, caught before it could do harm.
    #[error("internal error: {message}")]
    Internal {
        /// What was found.
        message: String,
    },
}

impl From<realm_ir::Error> for Error {
    fn from(error: realm_ir::Error) -> Self {
        Error::Backend(Box::new(error))
    }
}

impl From<realm_quant::Error> for Error {
    fn from(error: realm_quant::Error) -> Self {
        Error::Quant(Box::new(error))
    }
}

fn reasons(refusals: &[(String, Error)]) -> String {
    let reason = |(name, error): &(String, Error)| format!("{name}: {error}");
    refusals.iter().map(reason).collect::<Vec<_>>().join("; ")
}

impl Error {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Error::InvalidArgument { message: message.into() }
    }

    pub(crate) fn kv_exhausted(message: impl Into<String>) -> Self {
        Error::KvExhausted { message: message.into() }
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Error::Internal { message: message.into() }
    }

    /// The same for another whom it concerns: its code and its message.
    pub(crate) fn again(&self) -> Self {
        match self {
            Error::Aborted => Error::Aborted,
            Error::Disposed => Error::Disposed,
            Error::ModelLost => Error::ModelLost,
            error => Error::Other { code: error.code(), message: error.to_string() },
        }
    }

    /// Whether a template did not come to an end in the time it had.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn is_template_too_slow(&self) -> bool {
        matches!(self, Error::Tokenizer(cause)
            if matches!(**cause, realm_tokenizer::Error::TemplateTooSlow { .. }))
    }

    /// Whether a batch was given up because somebody set its flag.
    pub(crate) fn is_interrupted(&self) -> bool {
        matches!(self, Error::Backend(cause) if matches!(**cause, realm_ir::Error::Interrupted))
    }

    /// The error for a panic that was caught.
    pub fn from_panic(payload: &(dyn std::any::Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        Error::internal(format!("panic: {}", text.unwrap_or("without a message")))
    }
}

impl Coded for Error {
    type Code = ErrorCode;

    fn code(&self) -> ErrorCode {
        match self {
            Error::Gguf(error) => error.code().into(),
            Error::Model(error) => error.code().into(),
            Error::Tokenizer(error) => tokenizer_code(error),
            Error::Backend(error) => error.code().into(),
            Error::Quant(_) => ErrorCode::ModelUnsupported,
            Error::NoBackend { refusals } => no_backend_code(refusals),
            Error::InvalidArgument { .. } => ErrorCode::InvalidArgument,
            Error::ShapeMismatch { .. } => ErrorCode::ShapeMismatch,
            Error::KvExhausted { .. } => ErrorCode::KvExhausted,
            Error::OutOfMemory { .. } => ErrorCode::OutOfMemory,
            Error::Aborted => ErrorCode::Aborted,
            Error::Disposed => ErrorCode::Disposed,
            Error::ModelLost => ErrorCode::ModelLost,
            Error::Other { code, .. } => *code,
            Error::Internal { .. } => ErrorCode::Internal,
        }
    }
}

fn tokenizer_code(error: &realm_tokenizer::Error) -> ErrorCode {
    match error {
        realm_tokenizer::Error::Metadata(error) => error.code().into(),
        realm_tokenizer::Error::Unsupported { .. }
        | realm_tokenizer::Error::NoVocabulary { .. } => ErrorCode::ModelUnsupported,
        realm_tokenizer::Error::Template { .. }
        | realm_tokenizer::Error::TemplateTooSlow { .. }
        | realm_tokenizer::Error::TemplateRaised { .. } => ErrorCode::TemplateError,
        _ => ErrorCode::ModelInvalid,
    }
}

/// The code that all refusals share but those of backends that are not there, else that no
/// backend is available.
fn no_backend_code(refusals: &[(String, Error)]) -> ErrorCode {
    let codes = refusals.iter().map(|(_, error)| error.code());
    let mut codes = codes.filter(|code| *code != ErrorCode::BackendUnavailable);
    match codes.next() {
        Some(first) if codes.all(|code| code == first) => first,
        _ => ErrorCode::BackendUnavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_that_is_not_there_does_not_hide_why_the_others_refused() {
        let unavailable = || {
            let reason = "no adapter".to_owned();
            realm_ir::Error::Unavailable { backend: "webgpu", reason }.into()
        };
        let too_large = || Error::OutOfMemory { message: "too large".to_owned() };
        let code = |refusals: Vec<Error>| {
            let refusals = refusals.into_iter().map(|error| ("a".to_owned(), error)).collect();
            Error::NoBackend { refusals }.code()
        };
        assert_eq!(code(vec![unavailable(), too_large()]), ErrorCode::OutOfMemory);
        assert_eq!(code(vec![unavailable(), unavailable()]), ErrorCode::BackendUnavailable);
        let mixed = code(vec![too_large(), Error::invalid("a limit")]);
        assert_eq!(mixed, ErrorCode::BackendUnavailable);
    }
}
