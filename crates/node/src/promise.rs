//! Promises that are settled from the engine's threads.

use napi::bindgen_prelude::{Object, ToNapiValue};
use napi::{Env, JsDeferred, sys};
use realm_engine::model::Reply;

use crate::error::{Result, guard, refused, rejected, thrown};

/// A value whose conversion cannot bring the process down: Node calls it from C.
pub(crate) struct Guarded<T>(pub(crate) T);

impl<T: ToNapiValue> ToNapiValue for Guarded<T> {
    unsafe fn to_napi_value(env: sys::napi_env, value: Self) -> napi::Result<sys::napi_value> {
        // SAFETY: who calls this promises that `env` is alive and this is its thread, and the
        // closure runs before this function returns.
        let convert = || unsafe { T::to_napi_value(env, value.0) };
        guard(|| convert().map_err(refused)).map_err(|error| rejected(Env::from_raw(env), error))
    }
}

/// The way a promise is settled: a function that runs on the JS thread.
type Settle<T> = Box<dyn FnOnce(Env) -> napi::Result<Guarded<T>> + Send>;

/// A promise, and the reply that settles it. It keeps the process alive until then.
pub(crate) fn promise<T, U>(env: &Env, convert: fn(T) -> U) -> Result<(Reply<T>, Object<'_>)>
where
    T: Send + 'static,
    U: ToNapiValue + 'static,
{
    let (deferred, promise): (JsDeferred<Guarded<U>, Settle<U>>, _) =
        env.create_deferred().map_err(refused)?;
    let reply = Reply::new(move |result: realm_engine::Result<T>| {
        deferred.resolve(Box::new(move |env| {
            match guard(|| result.map(convert).map_err(thrown)) {
                Ok(value) => Ok(Guarded(value)),
                Err(error) => Err(rejected(env, error)),
            }
        }));
    });
    Ok((reply, promise))
}
