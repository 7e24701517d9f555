//! Error codes that programs can rely on, and this crate's errors.

use realm_gguf::TensorType;

use crate::step::StepKind;

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// The codes and their names, written once: the enumeration, the list and the names follow.
macro_rules! error_codes {
    ($($(#[$doc:meta])* $code:ident = $name:literal,)*) => {
        /// Stable names for what can go wrong, the same on Node and in browsers. Some come from
        /// the part around the engine alone, such as those of downloads.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $($(#[$doc])* $code,)*
        }

        impl ErrorCode {
            /// Every code there is.
            pub const ALL: &[Self] = &[$(Self::$code),*];

            /// The name as programs see it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$code => $name,)*
                }
            }
        }
    };
}

error_codes! {
    /// The model's source does not exist.
    ModelNotFound = "MODEL_NOT_FOUND",
    /// The file could not be read.
    ModelUnreadable = "MODEL_UNREADABLE",
    /// The file contradicts itself or the format.
    ModelInvalid = "MODEL_INVALID",
    /// The file is sound but needs something that is not there.
    ModelUnsupported = "MODEL_UNSUPPORTED",
    /// The wanted backend does not work here.
    BackendUnavailable = "BACKEND_UNAVAILABLE",
    /// The device failed while it was in use; models on it have to be loaded again.
    DeviceLost = "DEVICE_LOST",
    /// What ran the model broke down, and with it all that it remembered.
    ModelLost = "MODEL_LOST",
    /// An array has the wrong number of values.
    ShapeMismatch = "SHAPE_MISMATCH",
    /// No free page in the KV cache.
    KvExhausted = "KV_EXHAUSTED",
    /// Memory could not be had, or the limit forbids it.
    OutOfMemory = "OUT_OF_MEMORY",
    /// Stopped by an abort signal.
    Aborted = "ABORTED",
    /// An argument is out of its range.
    InvalidArgument = "INVALID_ARGUMENT",
    /// The object was disposed of.
    Disposed = "DISPOSED",
    /// A source on the network could not be fetched.
    DownloadFailed = "DOWNLOAD_FAILED",
    /// No room on the disk, or none that a browser grants.
    StorageFull = "STORAGE_FULL",
    /// A file cannot be deleted or replaced, since somebody has it open.
    InUse = "IN_USE",
    /// A chat template is missing, does not parse or raised an error.
    TemplateError = "TEMPLATE_ERROR",
    /// A file could not be written.
    WriteFailed = "WRITE_FAILED",
    /// A defect of ours, caught before it could do harm.
    Internal = "INTERNAL",
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
    Weight(#[from] Box<realm_gguf::Error>),
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
            Error::SessionLost { .. } => ErrorCode::ModelLost,
            Error::ShapeMismatch { .. } => ErrorCode::ShapeMismatch,
            Error::InvalidBatch { .. } => ErrorCode::InvalidArgument,
            Error::OutOfMemory { .. } => ErrorCode::OutOfMemory,
            Error::Interrupted => ErrorCode::Aborted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ErrorCode;

    /// The names in the union type `RealmErrorCode`, in its order.
    fn names_in_typescript(source: &str) -> Vec<&str> {
        let (_, union) = source.split_once("export type RealmErrorCode =").unwrap();
        let (union, _) = union.split_once("\n\n").unwrap();
        let names = union.lines().filter_map(|line| line.trim().strip_prefix("| '"));
        names.map(|name| name.trim_end_matches('\'')).collect()
    }

    #[test]
    fn the_public_api_has_the_same_codes_in_the_same_order() {
        let names: Vec<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names, names_in_typescript(include_str!("../../../ts/errors.ts")));
    }
}
