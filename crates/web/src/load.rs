//! Loading, in a task of the event loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use js_sys::{Function, Promise};
use realm_engine::load::Watcher;
use realm_engine::model::ModelHandle;
use realm_gguf::{Gguf, ReadAt};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::{future_to_promise, spawn_local};

use crate::args::{Options, load_options};
use crate::backends;
use crate::error::{Result, thrown};
use crate::events::pause;
use crate::model::WebModel;
use crate::source::files;
use crate::values;

/// A load in progress: `model` is its promise.
#[wasm_bindgen]
pub struct WebLoad {
    cancel: Arc<AtomicBool>,
    model: Promise,
}

#[wasm_bindgen]
impl WebLoad {
    /// Resolves to the model.
    #[wasm_bindgen(getter)]
    pub fn model(&self) -> Promise {
        self.model.clone()
    }

    /// Rejects the promise with `ABORTED`, unless it is settled already.
    pub fn abort(&self) {
        self.cancel.store(true, Ordering::Relaxed);
    }
}

/// Loads a model. `sources` are `ByteSource` objects, one per file of the model;
/// `backends` are names in the order to be tried, each with why the page would not have
/// it, or an empty string.
#[wasm_bindgen]
pub fn load(
    sources: &JsValue,
    backends: Vec<String>,
    refusals: Vec<String>,
    options: &JsValue,
    on_progress: Option<Function>,
) -> Result<WebLoad> {
    let files = files(sources)?;
    let backends: Vec<(String, String)> = backends.into_iter().zip(refusals).collect();
    let options = Options(options);
    let threads = options.count("threads")?;
    let options = load_options(&options)?;
    let cancel = Arc::new(AtomicBool::new(false));
    let run = run(files, backends, threads, options, on_progress, cancel.clone());
    let model = future_to_promise(async move { run.await.map(JsValue::from) });
    Ok(WebLoad { cancel, model })
}

/// What [`load`] would take of memory; resolves to a `BindingEstimate`.
#[wasm_bindgen]
pub fn estimate(
    sources: &JsValue,
    backends: Vec<String>,
    refusals: Vec<String>,
    options: &JsValue,
) -> Result<Promise> {
    let files = files(sources)?;
    let backends: Vec<(String, String)> = backends.into_iter().zip(refusals).collect();
    let options = Options(options);
    let threads = options.count("threads")?;
    let options = load_options(&options)?;
    Ok(future_to_promise(async move {
        let gguf = open(files)?;
        let choices = backends::choices(backends, threads).await;
        let estimate = realm_engine::load::estimate(&gguf, &options, &choices);
        estimate.map(values::estimate).map_err(thrown)
    }))
}

fn open(files: Vec<Arc<dyn ReadAt>>) -> Result<Gguf> {
    Gguf::from_remote(files).map_err(|error| thrown(realm_engine::Error::from(error)))
}

async fn run(
    files: Vec<Arc<dyn ReadAt>>,
    backends: Vec<(String, String)>,
    threads: usize,
    options: realm_engine::LoadOptions,
    on_progress: Option<Function>,
    cancel: Arc<AtomicBool>,
) -> Result<WebModel> {
    let mut progress = |fraction: f32| {
        if let Some(on_progress) = &on_progress {
            // What the callback throws is its own affair.
            let _ = on_progress.call1(&JsValue::NULL, &fraction.into());
        }
    };
    let gguf = open(files)?;
    let choices = backends::choices(backends, threads).await;
    let watcher = Watcher { progress: &mut progress, cancel: &cancel, pause: Some(pause) };
    let (model, engine) =
        ModelHandle::open(gguf, &options, &choices, watcher).await.map_err(thrown)?;
    spawn_local(engine.run());
    Ok(WebModel::new(model))
}
