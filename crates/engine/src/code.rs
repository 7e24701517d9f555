//! Every code that programs can meet, with its public name.

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
    /// After a defect or a failing device the model cannot go on; it must be loaded again.
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

impl From<realm_ir::ErrorCode> for ErrorCode {
    fn from(code: realm_ir::ErrorCode) -> Self {
        match code {
            realm_ir::ErrorCode::ModelNotFound => ErrorCode::ModelNotFound,
            realm_ir::ErrorCode::ModelUnreadable => ErrorCode::ModelUnreadable,
            realm_ir::ErrorCode::ModelInvalid => ErrorCode::ModelInvalid,
            realm_ir::ErrorCode::ModelUnsupported => ErrorCode::ModelUnsupported,
            realm_ir::ErrorCode::BackendUnavailable => ErrorCode::BackendUnavailable,
            realm_ir::ErrorCode::DeviceLost => ErrorCode::DeviceLost,
            realm_ir::ErrorCode::ModelLost => ErrorCode::ModelLost,
            realm_ir::ErrorCode::ShapeMismatch => ErrorCode::ShapeMismatch,
            realm_ir::ErrorCode::OutOfMemory => ErrorCode::OutOfMemory,
            realm_ir::ErrorCode::Aborted => ErrorCode::Aborted,
            realm_ir::ErrorCode::InvalidArgument => ErrorCode::InvalidArgument,
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
