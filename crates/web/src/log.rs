//! Warnings and errors that belong to no call, on their way to JS.

use std::cell::RefCell;

use js_sys::Function;
use realm_engine::log;
use wasm_bindgen::prelude::*;

thread_local! {
    /// JS functions stay on their thread; on others nothing is said.
    static ON_ENTRY: RefCell<Option<Function>> = const { RefCell::new(None) };
}

/// Calls `on_entry` with level and message of every warning and error of this instance that
/// belongs to no call, for as long as the instance is there.
#[wasm_bindgen]
pub fn listen(on_entry: Function) {
    ON_ENTRY.set(Some(on_entry));
    std::mem::forget(log::listen(|entry| {
        let Some(on_entry) = ON_ENTRY.with_borrow(Clone::clone) else { return };
        // What the callback throws is its own affair.
        let _ = on_entry.call2(&JsValue::NULL, &entry.level.as_str().into(), &entry.message.into());
    }));
}
