//! What can go wrong when weights are turned into blocks, or a file into another.

use std::io::ErrorKind;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use realm_gguf::TensorType;
use realm_ir::Coded;

use crate::Mix;

/// Why something was not quantised. The output file has then not been touched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The input, or the importance matrix, is not what it should be.
    #[error(transparent)]
    Gguf(#[from] Box<realm_gguf::Error>),

    /// A tensor of the input cannot be read as values.
    #[error("{tensor}: {source}")]
    Dequantize {
        /// Name of the tensor.
        tensor: String,
        /// What is wrong with it.
        source: realm_quant::Error,
    },

    /// The system could not write the output; the code says whether for want of room.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file that was being written.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },

    /// There is no mix of that name.
    #[error("no mix is called {name}; there are {}", Mix::all().map(Mix::name).collect::<Vec<_>>().join(", "))]
    UnknownMix {
        /// The name asked for.
        name: String,
    },

    /// Blocks of this type can be read but not written.
    #[error("tensor type {ty} cannot be written; writable are {}", writable())]
    NotWritable {
        /// The type asked for.
        ty: TensorType,
    },

    /// Rows are not whole blocks.
    #[error("rows of {cols} values are not whole {ty} blocks of {}", ty.block_len())]
    Blocks {
        /// The type asked for.
        ty: TensorType,
        /// Values in a row.
        cols: usize,
    },

    /// A slice does not have the length that the others ask for.
    #[error("{what}: expected {expected} elements, found {found}")]
    Length {
        /// Which slice.
        what: &'static str,
        /// Elements that the shapes ask for.
        expected: usize,
        /// Elements found.
        found: usize,
    },

    /// A tensor has been quantised before, which would add up errors.
    #[error(
        "{tensor} is {ty} already, and would become {wanted}: quantise the F16, BF16 or F32 model, \
         or allow quantising again"
    )]
    AlreadyQuantized {
        /// Name of the tensor.
        tensor: String,
        /// Its type.
        ty: TensorType,
        /// The type it was to get.
        wanted: TensorType,
    },

    /// A tensor holds a value that is not a number, or is infinite.
    #[error("{tensor}, row {row}: found {value}, expected finite values")]
    NotFinite {
        /// Name of the tensor.
        tensor: String,
        /// Its row, over all dimensions.
        row: usize,
        /// The value.
        value: f32,
    },

    /// A tensor holds a value beyond those of its type in the output, which would be infinite.
    #[error(
        "{tensor}, row {row}: {value:e} is more than {ty} can hold, which is {:e} to {:e}; \
         BF16 and F32 hold more", range.start(), range.end()
    )]
    TooLarge {
        /// Name of the tensor.
        tensor: String,
        /// Its row, over all dimensions.
        row: usize,
        /// The value.
        value: f32,
        /// The type it was to get.
        ty: TensorType,
        /// What that can hold.
        range: RangeInclusive<f32>,
    },

    /// The importance matrix does not fit the model, or itself.
    #[error("importance matrix, {what}: expected {expected}, found {found}")]
    Imatrix {
        /// The entry or key.
        what: String,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },

    /// A mix cannot do without an importance matrix.
    #[error(
        "{tensor}: a {ty} matrix of mix {mix} is worthless without an importance matrix, \
         {}", if *.has_imatrix { "and the one given does not know it" } else { "and none is given" }
    )]
    NeedsImatrix {
        /// Name of the tensor.
        tensor: String,
        /// The type it was to get.
        ty: TensorType,
        /// The mix.
        mix: Mix,
        /// Whether there is an importance matrix.
        has_imatrix: bool,
    },

    /// The output would take the place of what is read.
    #[error("{}: output and {what} are the same file", path.display())]
    SameFile {
        /// The output.
        path: PathBuf,
        /// What is read from there.
        what: &'static str,
    },

    /// The caller's progress function asked to stop.
    #[error("quantising was stopped by the caller")]
    Stopped,
}

/// What programs can tell errors of this crate apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// What reading a file, or an argument, can be wrong with.
    Shared(realm_ir::ErrorCode),
    /// The output could not be written.
    WriteFailed,
    /// There is no room for the output.
    StorageFull,
}

impl Coded for Error {
    type Code = ErrorCode;

    fn code(&self) -> ErrorCode {
        use realm_ir::ErrorCode::*;
        ErrorCode::Shared(match self {
            Self::Io { source, .. } => match source.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => return ErrorCode::StorageFull,
                _ => return ErrorCode::WriteFailed,
            },
            Self::Gguf(error) => error.code(),
            Self::Dequantize { .. } => ModelUnsupported,
            Self::Blocks { .. } | Self::Length { .. } => ShapeMismatch,
            Self::NotFinite { .. } | Self::TooLarge { .. } | Self::Imatrix { .. } => ModelInvalid,
            Self::UnknownMix { .. }
            | Self::NotWritable { .. }
            | Self::AlreadyQuantized { .. }
            | Self::NeedsImatrix { .. }
            | Self::SameFile { .. } => InvalidArgument,
            Self::Stopped => Aborted,
        })
    }
}

fn writable() -> String {
    crate::writable().map(TensorType::name).collect::<Vec<_>>().join(", ")
}
