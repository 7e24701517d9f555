//! Error codes that programs can rely on, and this crate's errors.

use realm_gguf::TensorType;

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Stable names for what can go wrong between a file, a program and a backend. What is around
/// them has more, and gives each its public name.
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
    /// What ran the model broke down, and with it all that it remembered.
    ModelLost,
    /// An array has the wrong number of values.
    ShapeMismatch,
    /// Memory could not be had.
    OutOfMemory,
    /// Stopped by an abort signal.
    Aborted,
    /// An argument is out of its range.
    InvalidArgument,
}

/// An error that programs can tell apart by its code.
pub trait Coded: std::error::Error {
    /// The codes of this kind of error: [`ErrorCode`], or that and more.
    type Code;

    /// The stable code.
    fn code(&self) -> Self::Code;
}

impl Coded for realm_gguf::Error {
    type Code = ErrorCode;

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
    Weight(#[from] Box<realm_gguf::Error>),
    /// A weight's storage type has no kernel.
    #[error(
        "{tensor}: type {ty} is not supported by backend {backend} for {step}; it has: {supported}"
    )]
    UnsupportedType {
        /// Name of the tensor.
        tensor: String,
        /// Its type.
        ty: TensorType,
        /// The backend's name.
        backend: &'static str,
        /// Name of the step that needs it.
        step: &'static str,
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
    /// A run of the session ended in a panic, so nothing that it holds can be relied on.
    #[error("the session of backend {backend} was lost when a run of it broke down")]
    SessionLost {
        /// The backend's name.
        backend: &'static str,
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
    /// A program contradicts itself: what a file's numbers and tensors make does not fit together.
    #[error("{place}: found {found}, expected {expected}")]
    InvalidProgram {
        /// Segment, step and operand.
        place: String,
        /// What is there.
        found: String,
        /// What should be.
        expected: String,
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
    type Code = ErrorCode;

    fn code(&self) -> ErrorCode {
        match self {
            Error::UnsupportedType { .. } | Error::Unsupported { .. } => {
                ErrorCode::ModelUnsupported
            }
            Error::Weight(error) => error.code(),
            Error::Unavailable { .. } => ErrorCode::BackendUnavailable,
            Error::DeviceLost { .. } => ErrorCode::DeviceLost,
            Error::SessionLost { .. } => ErrorCode::ModelLost,
            Error::ShapeMismatch { .. } => ErrorCode::ShapeMismatch,
            Error::InvalidProgram { .. } => ErrorCode::ModelInvalid,
            Error::InvalidBatch { .. } => ErrorCode::InvalidArgument,
            Error::OutOfMemory { .. } => ErrorCode::OutOfMemory,
            Error::Interrupted => ErrorCode::Aborted,
        }
    }
}
