//! What happens to a generation, on its way to JS.

use napi::bindgen_prelude::{Object, ToNapiValue, Unknown};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Env, Status, sys};
use realm_engine::model::Sink;
use realm_engine::requests::Event;

use crate::args;
use crate::error::{Result, refused, thrown};
use crate::promise::Guarded;
use crate::values::{BindingChunk, BindingResult};

/// An event as the object that `onEvent` gets.
struct BindingEvent(Event);

impl ToNapiValue for BindingEvent {
    unsafe fn to_napi_value(raw: sys::napi_env, value: Self) -> napi::Result<sys::napi_value> {
        let mut object = Object::new(&Env::from_raw(raw))?;
        match value.0 {
            Event::Chunk(chunk) => {
                object.set("type", "chunk")?;
                object.set("chunk", BindingChunk::from(chunk))?;
            }
            Event::End(completion) => {
                object.set("type", "end")?;
                object.set("result", BindingResult::from(completion))?;
            }
            Event::Error(error) => {
                object.set("type", "error")?;
                object.set("error", thrown(error))?;
            }
        }
        // SAFETY: who calls this promises that `raw` is alive and this is its thread; the object was
        // made in it.
        unsafe { ToNapiValue::to_napi_value(raw, object) }
    }
}

/// A function of JS that any thread can call with a `T`. Until it is dropped it keeps the
/// process alive, unless it is `WEAK`.
pub(crate) type Callback<T, const WEAK: bool = false> =
    ThreadsafeFunction<T, Unknown<'static>, Guarded<T>, Status, false, WEAK>;

/// Makes `function` callable from any thread.
pub(crate) fn callback<T: ToNapiValue + 'static, const WEAK: bool>(
    function: Unknown<'_>,
    what: &str,
) -> Result<Callback<T, WEAK>> {
    let function = args::function(function, what)?;
    let builder = function.build_threadsafe_function::<T>().callee_handled::<false>();
    let builder = builder.weak::<WEAK>();
    builder.build_callback(|context| Ok(Guarded(context.value))).map_err(refused)
}

/// The sink that hands events to `on_event`. It refuses them once the
/// environment is gone, such as a worker that was terminated. It does not keep the process alive:
/// the facade knows whether somebody waits for the answer.
pub(crate) fn sink(on_event: Unknown<'_>) -> Result<Sink> {
    let callback: Callback<BindingEvent, true> = callback(on_event, "onEvent")?;
    Ok(Box::new(move |event| {
        let status = callback.call(BindingEvent(event), ThreadsafeFunctionCallMode::NonBlocking);
        status == Status::Ok
    }))
}
