//! What can be wrong with a call.

use realm_gguf::TensorType;

use crate::ActivationForm;

/// Why a call was refused. Nothing has been written when one of these is returned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The tensor type has no definition here.
    #[error("tensor type {ty} has no compute format; supported are {}", supported())]
    Unsupported {
        /// The type asked for.
        ty: TensorType,
    },

    /// A buffer is not as long as the shapes say.
    #[error("{what}: expected {expected} elements, found {found}")]
    Length {
        /// Which buffer.
        what: &'static str,
        /// Elements (bytes, for weights) that the shapes ask for.
        expected: usize,
        /// Elements found.
        found: usize,
    },

    /// A row does not consist of whole blocks.
    #[error("{what}: rows of {cols} values are not whole blocks of {block_len}")]
    Blocks {
        /// Name of the tensor type or activation form.
        what: &'static str,
        /// Values in a row.
        cols: usize,
        /// Values in a block.
        block_len: usize,
    },

    /// Interleaved rows come in whole groups.
    #[error("{rows} rows are not whole groups of {group}")]
    Groups {
        /// Rows.
        rows: usize,
        /// Rows of a group.
        group: usize,
    },

    /// The activations are stored in another form than the weights need.
    #[error("{ty} weights need activations as {expected:?}, found {found:?}")]
    Form {
        /// Type of the weights.
        ty: TensorType,
        /// The form that type needs.
        expected: ActivationForm,
        /// The form found.
        found: ActivationForm,
    },

    /// The product of two dimensions does not fit in memory.
    #[error("{rows} rows of {cols} values do not fit in memory")]
    TooLarge {
        /// Rows asked for.
        rows: usize,
        /// Values in a row.
        cols: usize,
    },
}

fn supported() -> String {
    crate::supported().map(TensorType::name).collect::<Vec<_>>().join(", ")
}

/// Checks the length of the buffer called `what`.
pub(crate) fn check_len(what: &'static str, expected: usize, found: usize) -> Result<(), Error> {
    if expected == found { Ok(()) } else { Err(Error::Length { what, expected, found }) }
}
