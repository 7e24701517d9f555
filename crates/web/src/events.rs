//! Promises, callbacks and turns of the event loop.

use futures_channel::{mpsc, oneshot};
use js_sys::{Function, Promise, Reflect};
use realm_engine::load::LocalFuture;
use realm_engine::model::{Reply, Sink};
use realm_engine::requests::Event;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::{JsFuture, future_to_promise, spawn_local};

use crate::error::thrown;
use crate::values::event_object;

/// A promise of the result of a command, and the reply that settles it.
pub(crate) fn promise<T: Send + 'static>(
    convert: impl FnOnce(T) -> JsValue + 'static,
    start: impl FnOnce(Reply<T>),
) -> Promise {
    let (sender, receiver) = oneshot::channel();
    // Nobody waits any more when the receiver is gone.
    start(Reply::new(move |result| drop(sender.send(result))));
    future_to_promise(async move {
        let result = receiver.await.unwrap_or(Err(realm_engine::Error::Disposed));
        result.map(convert).map_err(thrown)
    })
}

/// The sink that hands events to `on_event`.
pub(crate) fn sink(on_event: Function) -> Sink {
    let (sender, mut receiver) = mpsc::unbounded::<Event>();
    spawn_local(async move {
        while let Ok(event) = receiver.recv().await {
            // What the callback throws is its own affair.
            let _ = on_event.call1(&JsValue::NULL, &event_object(event));
        }
    });
    Box::new(move |event| sender.unbounded_send(event).is_ok())
}

/// A turn for everybody else: resolves in a later task of the event loop. The worker
/// provides it, since the quickest way differs between browsers.
pub(crate) fn pause() -> LocalFuture<'static, ()> {
    Box::pin(async {
        let global = js_sys::global();
        let pause = Reflect::get(&global, &"realmPause".into()).unwrap_or(JsValue::UNDEFINED);
        let Some(pause) = pause.dyn_ref::<Function>() else { return };
        if let Ok(promise) = pause.call0(&JsValue::NULL)
            && let Ok(promise) = promise.dyn_into::<Promise>()
        {
            let _ = JsFuture::from(promise).await;
        }
    })
}
