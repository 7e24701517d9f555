//! The same operations, waiting for their result: for loops of one's own on a
//! thread of one's own.

use std::sync::atomic::AtomicBool;

use napi::bindgen_prelude::Unknown;
use napi_derive::napi;
use realm_engine::model::{Reply, wait};

use crate::args;
use crate::error::{Result, guard, thrown};
use crate::load::{self, Load};
use crate::model::{BindingModel, LayerRows};
use crate::values::{BindingAdapter, BindingTensor, Floats, Nullable};

#[napi]
pub fn store_model_sync(source: Unknown<'_>, options: Unknown<'_>) -> Result<BindingModel> {
    guard(|| {
        let load = Load::new(source, options)?;
        let model = load.run(&mut |_| (), &AtomicBool::new(false));
        model.map(BindingModel::new).map_err(thrown)
    })
}

/// Waits for a result of the engine's thread.
fn waited<T: Send + 'static, Handle>(start: impl FnOnce(Reply<T>) -> Handle) -> Result<T> {
    wait(start).map_err(thrown)
}

#[napi]
pub fn load_adapter_sync(model: Unknown<'_>, source: Unknown<'_>) -> Result<BindingAdapter> {
    guard(|| {
        let model = args::model(model)?;
        let source = load::source(source)?;
        waited(|reply| model.load_adapter(source, reply)).map(BindingAdapter::from)
    })
}

#[napi]
pub fn embed_tokens_sync(
    model: Unknown<'_>,
    ids: Unknown<'_>,
    position: Unknown<'_>,
) -> Result<Floats> {
    guard(|| {
        let model = args::model(model)?;
        let ids = args::u32_array(ids, "ids")?;
        let position = args::count(position, "position")?;
        waited(|reply| model.embed_tokens(ids, position, reply)).map(Floats)
    })
}

#[napi]
pub fn forward_layer_sync(
    model: Unknown<'_>,
    layer: Unknown<'_>,
    hidden: Unknown<'_>,
    position: Unknown<'_>,
    sequence: Unknown<'_>,
) -> Result<Floats> {
    guard(|| {
        let model = args::model(model)?;
        let LayerRows { layer, hidden, position, sequence } =
            LayerRows::new(layer, hidden, position, sequence)?;
        let start = |reply| model.forward_layer(layer, hidden, position, sequence, reply);
        waited(start).map(Floats)
    })
}

#[napi]
pub fn compute_logits_sync(model: Unknown<'_>, hidden: Unknown<'_>) -> Result<Floats> {
    guard(|| {
        let model = args::model(model)?;
        let hidden = args::f32_array(hidden, "hidden")?;
        waited(|reply| model.compute_logits(hidden, reply)).map(Floats)
    })
}

#[napi]
pub fn tensor_sync(model: Unknown<'_>, name: Unknown<'_>) -> Result<BindingTensor> {
    guard(|| {
        let model = args::model(model)?;
        let name = args::string(name, "name")?;
        waited(|reply| model.tensor(name, reply)).map(BindingTensor::from)
    })
}

#[napi]
pub fn dispose_sync(model: Unknown<'_>) -> Result<()> {
    guard(|| {
        let model = args::model(model)?;
        waited(|reply| model.dispose(move || reply.send(Ok(()))))
    })
}

/// Bytes per second that threads read from memory together.
#[napi]
pub fn memory_bandwidth_sync(threads: Unknown<'_>) -> Result<Nullable<f64>> {
    guard(|| {
        let threads = args::count(threads, "threads")?;
        Ok(Nullable(realm_cpu::read_bandwidth((threads > 0).then_some(threads))))
    })
}
