//! Loading: on a thread of its own, or on the caller's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use napi::bindgen_prelude::{JavaScriptClassExt, JsObjectValue, Object, Unknown};
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi::{Env, JsValue, Status, ValueType};
use napi_derive::napi;
use realm_engine::load::{BackendChoice, Watcher};
use realm_engine::model::{ModelHandle, Reply, Source};
use realm_engine::{Error, LoadOptions};
use realm_ir::{KvType, WeightLayout};

use crate::args;
use crate::backends;
use crate::error::{Result, guard, invalid, refused};
use crate::events::{Callback, callback};
use crate::model::BindingModel;
use crate::promise::promise;
use crate::values::BindingEstimate;

/// Everything that loading needs, out of JS's hands.
pub(crate) struct Load {
    source: Source,
    options: LoadOptions,
    backends: Vec<BackendChoice>,
}

impl Load {
    pub(crate) fn new(source: Unknown<'_>, options: Unknown<'_>) -> Result<Self> {
        let options = args::object(options, "options")?;
        let property = |name: &'static str| Ok((args::property(&options, name)?, name));
        let count = |name| property(name).and_then(|(value, name)| args::count(value, name));
        let string = |name| property(name).and_then(|(value, name)| args::string(value, name));
        let (fallback, name) = property("fallback")?;
        let fallback = args::strings(fallback, name)?;
        let (chat_template, name) = property("chatTemplate")?;
        let chat_template = args::nullable(chat_template);
        let chat_template = chat_template.map(|text| args::string(text, name)).transpose()?;
        let (memory_limit, name_of_limit) = property("memoryLimit")?;
        let (vocab_only, name) = property("vocabOnly")?;
        Ok(Load {
            backends: backends::choices(
                string("backend")?,
                fallback,
                &string("device")?,
                count("threads")?,
            )?,
            options: LoadOptions {
                context_length: count("contextLength")?,
                max_sequences: count("maxSequences")?,
                kv_type: kv_type(&string("kvCacheType")?)?,
                layout: layout(&string("layout")?)?,
                memory_limit: Some(args::number(memory_limit, name_of_limit)? as u64),
                vocab_only: args::boolean(vocab_only, name)?,
                chat_template,
            },
            source: self::source(source)?,
        })
    }

    /// Loads on this thread.
    pub(crate) fn run(
        self,
        progress: &mut dyn FnMut(f32),
        cancel: &AtomicBool,
    ) -> realm_engine::Result<ModelHandle> {
        ModelHandle::load(
            self.source,
            &self.options,
            &self.backends,
            Watcher { progress, cancel, pause: None },
        )
    }
}

/// What loading would take of memory, found on a thread of its own.
#[napi]
pub fn estimate<'a>(
    env: &'a Env,
    source: Unknown<'_>,
    options: Unknown<'_>,
    _on_progress: Unknown<'_>,
) -> Result<Object<'a>> {
    guard(|| {
        let Load { source, options, backends } = Load::new(source, options)?;
        let (reply, estimate) = promise(env, BindingEstimate::from)?;
        let work = move || {
            let run = || ModelHandle::estimate(source, &options, &backends);
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
            reply.send(result.unwrap_or_else(|panic| Err(Error::from_panic(panic.as_ref()))));
        };
        // A thread that cannot be started drops the reply, which answers.
        drop(std::thread::Builder::new().name("realm-estimate".into()).spawn(work));
        let mut handle = Object::new(env).map_err(refused)?;
        handle.set_named_property("estimate", estimate).map_err(refused)?;
        Ok(handle)
    })
}

fn kv_type(name: &str) -> Result<Option<KvType>> {
    match name {
        "auto" => Ok(None),
        "f32" => Ok(Some(KvType::F32)),
        "f16" => Ok(Some(KvType::F16)),
        "q8_0" => Ok(Some(KvType::Q8_0)),
        _ => Err(invalid(format!("kvCacheType is \"{name}\", expected auto, f32, f16 or q8_0"))),
    }
}

fn layout(name: &str) -> Result<WeightLayout> {
    [WeightLayout::Auto, WeightLayout::Mapped, WeightLayout::Packed]
        .into_iter()
        .find(|layout| layout.as_str() == name)
        .ok_or_else(|| invalid(format!("layout is \"{name}\", expected auto, mapped or packed")))
}

/// A path, bytes, or the bytes of each part of a split file.
pub(crate) fn source(value: Unknown<'_>) -> Result<Source> {
    if value.get_type().is_ok_and(|ty| ty == ValueType::String) {
        return Ok(Source::Path(args::string(value, "source")?.into()));
    }
    if !value.is_array().unwrap_or(false) {
        return Ok(Source::Bytes(vec![args::bytes(value, "source")?]));
    }
    let parts = args::items(value, "source")?.into_iter().enumerate();
    let parts: Result<Vec<_>> =
        parts.map(|(i, part)| args::bytes(part, &format!("source[{i}]"))).collect();
    Ok(Source::Bytes(parts?))
}

/// A load in progress: `model` is its promise.
#[napi]
pub struct BindingLoad {
    cancel: Arc<AtomicBool>,
}

#[napi]
impl BindingLoad {
    /// Rejects the promise with `ABORTED`, unless it is settled already.
    #[napi]
    pub fn abort(&self) {
        self.cancel.store(true, Ordering::Relaxed);
    }
}

/// Loads on a thread of the engine.
#[napi]
pub fn load<'a>(
    env: &'a Env,
    source: Unknown<'_>,
    options: Unknown<'_>,
    on_progress: Unknown<'_>,
) -> Result<Object<'a>> {
    guard(|| {
        let load = Load::new(source, options)?;
        let on_progress: Option<Callback<f64>> = args::nullable(on_progress)
            .map(|function| callback(function, "onProgress"))
            .transpose()?;
        let (reply, model) = promise(env, BindingModel::new)?;
        let cancel = Arc::new(AtomicBool::new(false));
        start(load, on_progress, cancel.clone(), reply);
        let handle = BindingLoad { cancel }.into_instance(env).map_err(refused)?;
        let mut handle = Object::from_raw(env.raw(), handle.value().value);
        handle.set_named_property("model", model).map_err(refused)?;
        Ok(handle)
    })
}

fn start(
    load: Load,
    on_progress: Option<Callback<f64>>,
    cancel: Arc<AtomicBool>,
    reply: Reply<ModelHandle>,
) {
    let mut progress = {
        let cancel = cancel.clone();
        move |fraction: f32| {
            let Some(callback) = &on_progress else { return };
            let mode = ThreadsafeFunctionCallMode::NonBlocking;
            if callback.call(f64::from(fraction), mode) != Status::Ok {
                cancel.store(true, Ordering::Relaxed); // nobody is there any more
            }
        }
    };
    let work = move || {
        let run = std::panic::AssertUnwindSafe(|| load.run(&mut progress, &cancel));
        let result = std::panic::catch_unwind(run);
        reply.send(result.unwrap_or_else(|panic| Err(Error::from_panic(panic.as_ref()))));
    };
    // A thread that cannot be started drops the reply, which answers.
    drop(std::thread::Builder::new().name("realm-load".into()).spawn(work));
}
