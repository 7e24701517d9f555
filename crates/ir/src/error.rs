//! Error codes that programs can rely on, and this crate's errors.

use realm_gguf::TensorType;

use crate::step::StepKind;

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Stable names for what can go wrong, the same on Node and in browsers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The model's source does not exist.
    ModelNotFound,
    /// The file could not be read.
    ModelUnreadable,
    /// The file contradicts itself or the format.
    ModelInvalid,
    /// The file is sound but needs something that is not there.
    ModelUnsupported,
    /// The wanted backend does not work here.
    BackendUnavailable,
    /// The device failed while it was in use; models on it have to be loaded again.
    DeviceLost,
    /// An array has the wrong number of values.
    ShapeMismatch,
    /// No free page in the KV cache.
    KvExhausted,
    /// Memory could not be had, or the limit forbids it.
    OutOfMemory,
    /// Stopped by an abort signal.
    Aborted,
    /// An argument is out of its range.
    InvalidArgument,
    /// The object was disposed of.
    Disposed,
    /// A source on the network could not be fetched.
    DownloadFailed,
    /// A chat template is missing, does not parse or raised an error.
    TemplateError,
    /// A file could not be written.
    WriteFailed,
    /// A defect of ours, caught before it could do harm.
    Internal,
}

impl ErrorCode {
    /// The name as programs see it.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorCode::ModelNotFound => "MODEL_NOT_FOUND",
            ErrorCode::ModelUnreadable => "MODEL_UNREADABLE",
            ErrorCode::ModelInvalid => "MODEL_INVALID",
            ErrorCode::ModelUnsupported => "MODEL_UNSUPPORTED",
            ErrorCode::BackendUnavailable => "BACKEND_UNAVAILABLE",
            ErrorCode::DeviceLost => "DEVICE_LOST",
            ErrorCode::ShapeMismatch => "SHAPE_MISMATCH",
            ErrorCode::KvExhausted => "KV_EXHAUSTED",
            ErrorCode::OutOfMemory => "OUT_OF_MEMORY",
            ErrorCode::Aborted => "ABORTED",
            ErrorCode::InvalidArgument => "INVALID_ARGUMENT",
            ErrorCode::Disposed => "DISPOSED",
            ErrorCode::DownloadFailed => "DOWNLOAD_FAILED",
            ErrorCode::TemplateError => "TEMPLATE_ERROR",
            ErrorCode::WriteFailed => "WRITE_FAILED",
            ErrorCode::Internal => "INTERNAL",
        }
    }
}

/// An error that programs can tell apart by its code.
pub trait Coded: std::error::Error {
    /// The stable code.
    fn code(&self) -> ErrorCode;
}

impl Coded for realm_gguf::Error {
    fn code(&self) -> ErrorCode {
        match self {
            realm_gguf::Error::NotFound { .. } => ErrorCode::ModelNotFound,
            realm_gguf::Error::Io { .. } | realm_gguf::Error::Unreadable { .. } => {
                ErrorCode::ModelUnreadable
            }
            realm_gguf::Error::OutOfMemory { .. } => ErrorCode::OutOfMemory,
            realm_gguf::Error::Invalid { .. } => ErrorCode::ModelInvalid,
            realm_gguf::Error::Unsupported { .. } => ErrorCode::ModelUnsupported,
        }
    }
}

/// What can go wrong between engine and backend.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// A weight could not be read from its file.
    #[error(transparent)]
    Weight(#[from] realm_gguf::Error),
    /// A weight's storage type has no kernel.
    #[error(
        "{tensor}: type {ty} is not supported by backend {backend} for {step:?}; it has: {supported}"
    )]
    UnsupportedType {
        /// Name of the tensor.
        tensor: String,
        /// Its type.
        ty: TensorType,
        /// The backend's name.
        backend: &'static str,
        /// What the weight is needed for.
        step: StepKind,
        /// The types it has.
        supported: String,
    },
    /// The backend cannot do what the model needs.
    #[error("{what} is not supported by backend {backend}")]
    Unsupported {
        /// What the model needs.
        what: String,
        /// The backend's name.
        backend: &'static str,
    },
    /// No device or no driver.
    #[error("backend {backend} is not available: {reason}")]
    Unavailable {
        /// The backend's name.
        backend: &'static str,
        /// Why.
        reason: String,
    },
    /// The device was lost or failed while it was in use.
    #[error("the device of backend {backend} failed: {reason}")]
    DeviceLost {
        /// The backend's name.
        backend: &'static str,
        /// What the device or its driver said.
        reason: String,
    },
    /// An array has the wrong number of values.
    #[error("{what}: expected {expected} values, got {found}")]
    ShapeMismatch {
        /// Which array.
        what: String,
        /// Values it should have.
        expected: usize,
        /// Values it has.
        found: usize,
    },
    /// The batch contradicts itself or the session's limits.
    #[error("invalid batch: {message}")]
    InvalidBatch {
        /// What does not fit.
        message: String,
    },
    /// Memory could not be had.
    #[error("out of memory: {what} needs {bytes} bytes")]
    OutOfMemory {
        /// What the memory was for.
        what: String,
        /// How much.
        bytes: usize,
    },
    /// The interrupt flag of the batch was set.
    #[error("interrupted")]
    Interrupted,
}

impl Coded for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Error::UnsupportedType { .. } | Error::Unsupported { .. } => {
                ErrorCode::ModelUnsupported
            }
            Error::Weight(error) => error.code(),
            Error::Unavailable { .. } => ErrorCode::BackendUnavailable,
            Error::DeviceLost { .. } => ErrorCode::DeviceLost,
            Error::ShapeMismatch { .. } => ErrorCode::ShapeMismatch,
            Error::InvalidBatch { .. } => ErrorCode::InvalidArgument,
            Error::OutOfMemory { .. } => ErrorCode::OutOfMemory,
            Error::Interrupted => ErrorCode::Aborted,
        }
    }
}
