//! Engine errors as JS errors.

use std::borrow::Borrow;

use realm_engine::{Coded, Error, ErrorCode};
use wasm_bindgen::JsValue;

/// Result of an exported function: what is thrown is a JS `Error` with a `code`.
pub type Result<T> = std::result::Result<T, JsValue>;

/// The JS error for an engine error.
pub(crate) fn thrown(error: impl Borrow<Error>) -> JsValue {
    let error = error.borrow();
    coded(error.code(), &error.to_string())
}

/// An argument that cannot be used.
pub(crate) fn invalid(message: &str) -> JsValue {
    coded(ErrorCode::InvalidArgument, message)
}

fn coded(code: ErrorCode, message: &str) -> JsValue {
    let error = js_sys::Error::new(message);
    // An error object takes any property.
    let _ = js_sys::Reflect::set(&error, &"code".into(), &code.as_str().into());
    error.into()
}
