//! wasm-bindgen bindings: convert arguments, forward to the engine, convert results.
//!
//! `ts/binding.ts` says what a model can do; the names here are the same. No logic
//! lives here. Every error is a JS `Error` whose `code` is the engine's. Work is done
//! by tasks of the event loop that let messages in between two steps, so this runs in
//! a worker; a model without weights may as well be on a page's own thread.

#![cfg(target_arch = "wasm32")]

mod args;
mod backends;
mod error;
mod events;
mod load;
mod log;
mod model;
mod source;
mod values;

use realm_engine::chat::render_chat_template as render;
use wasm_bindgen::prelude::*;

use crate::error::{Result, invalid, thrown};

/// Version of the engine.
#[wasm_bindgen]
pub fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}

/// Threads that a model on the CPU would compute with if it were loaded now.
#[cfg(feature = "cpu")]
#[wasm_bindgen]
pub fn threads() -> usize {
    realm_cpu::describe().default_threads
}

/// Lends the calling worker to models on the CPU that are loaded from now on. Never returns.
#[cfg(all(feature = "cpu", target_feature = "atomics"))]
#[wasm_bindgen(js_name = lendThread)]
pub fn lend_thread() {
    realm_cpu::lend_thread()
}

/// Renders the template of a conversation that belongs to no model.
#[wasm_bindgen(js_name = renderChatTemplate)]
pub fn render_chat_template(conversation: &JsValue) -> Result<String> {
    let (template, arguments) = args::conversation(conversation)?;
    let template = template.ok_or_else(|| invalid("template: expected a string"))?;
    render(&template, &arguments).map_err(thrown)
}

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console)]
    fn error(text: &str);
}

#[wasm_bindgen(start)]
fn debug_start() {
    std::panic::set_hook(Box::new(|info| error(&info.to_string())));
}
