//! Engine errors and panics as JS errors.

use std::panic::{AssertUnwindSafe, catch_unwind};

use napi::{Env, JsError};
use realm_engine::{Coded, Error, ErrorCode};

/// The stable code of an error, which becomes the `code` of the JS `Error`.
#[derive(Clone, Copy, Debug)]
pub struct Code(ErrorCode);

impl AsRef<str> for Code {
    fn as_ref(&self) -> &str {
        self.0.as_str()
    }
}

/// An error that can be thrown.
pub type Thrown = napi::Error<Code>;

/// Result of an exported function.
pub type Result<T> = std::result::Result<T, Thrown>;

/// The JS error for an engine error.
pub(crate) fn thrown(error: impl std::borrow::Borrow<Error>) -> Thrown {
    let error = error.borrow();
    Thrown::new(Code(error.code()), error)
}

/// An argument that cannot be used.
pub(crate) fn invalid(message: impl ToString) -> Thrown {
    Thrown::new(Code(ErrorCode::InvalidArgument), message.to_string())
}

/// A file that cannot be written.
pub(crate) fn unwritable(message: String) -> Thrown {
    Thrown::new(Code(ErrorCode::WriteFailed), message)
}

/// Something that Node refused to do.
pub(crate) fn refused(error: napi::Error) -> Thrown {
    Thrown::new(Code(ErrorCode::Internal), error.reason.clone())
}

/// The same error for places that want napi's own type: it holds on to the JS
/// object, which keeps its code. Only on the JS thread.
pub(crate) fn rejected(env: Env, error: Thrown) -> napi::Error {
    napi::Error::from(JsError::from(error).into_unknown(env))
}

/// Turns a panic in `work` into an error.
pub(crate) fn guard<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(thrown(Error::from_panic(panic.as_ref()))))
}
