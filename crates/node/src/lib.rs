//! N-API bindings: convert arguments, forward to the engine, convert results.
//!
//! `ts/binding.ts` says what is exported. No logic lives here, and four rules
//! hold throughout:
//!
//! - A panic becomes an error with the code `INTERNAL` on the call it happened in
//!   ([`error::guard`]).
//! - Every error is a JS `Error` whose `code` is the engine's.
//! - Arguments are copied before a call returns, and results are copied into
//!   memory of the JS heap: Electron forbids buffers that live outside of it.
//! - Results come from the engine's threads through threadsafe functions. Work in
//!   flight keeps the process alive, an idle model does not.

#![cfg_attr(test, allow(dead_code, reason = "exports are registered outside of test builds only"))]

mod args;
mod backends;
mod error;
mod events;
mod file_lock;
mod load;
mod log;
mod model;
mod promise;
mod quantize;
mod sync;
mod values;

use napi::bindgen_prelude::Unknown;
use napi_derive::napi;
use realm_engine::chat::render_chat_template as render;

use crate::args::Conversation;
use crate::error::{Result, guard, invalid, thrown};

/// Version of the addon.
#[napi]
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// Renders the template of a conversation that belongs to no model.
#[napi(js_name = "renderChatTemplate")]
pub fn render_chat_template(conversation: Unknown<'_>) -> Result<String> {
    guard(|| {
        let Conversation { template, arguments } = Conversation::new(conversation)?;
        let template = template.ok_or_else(|| invalid("template: expected a string"))?;
        render(&template, &arguments).map_err(thrown)
    })
}
