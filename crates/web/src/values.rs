//! Results as JS objects, field by field as in `ts/binding.ts`.

use std::collections::BTreeMap;

use js_sys::{Array, Float32Array, Object, Reflect, Uint32Array};
use realm_engine::requests::{Chunk, Completion, Event};
use realm_engine::{AdapterInfo, MemoryEstimate, ModelInfo, Tensor};
use realm_ir::MemoryPlan;
use wasm_bindgen::JsValue;

use crate::error::thrown;

/// An object with these fields.
pub(crate) fn object<K: AsRef<str>>(fields: impl IntoIterator<Item = (K, JsValue)>) -> JsValue {
    let object = Object::new();
    for (name, value) in fields {
        // A plain object takes any property.
        let _ = Reflect::set(&object, &name.as_ref().into(), &value);
    }
    object.into()
}

/// `null` where there is no value.
fn nullable<T: Into<JsValue>>(value: Option<T>) -> JsValue {
    value.map_or(JsValue::NULL, Into::into)
}

fn number(value: usize) -> JsValue {
    (value as f64).into()
}

pub(crate) fn floats(values: Vec<f32>) -> JsValue {
    Float32Array::from(&values[..]).into()
}

pub(crate) fn vectors(vectors: Vec<Vec<f32>>) -> JsValue {
    vectors.into_iter().map(floats).collect::<Array>().into()
}

fn tokens(ids: &[u32]) -> JsValue {
    Uint32Array::from(ids).into()
}

pub(crate) fn model_info(info: ModelInfo) -> JsValue {
    let record =
        |map: BTreeMap<String, u64>| object(map.into_iter().map(|(k, v)| (k, number(v as usize))));
    let warnings: Array = info.warnings.into_iter().map(JsValue::from).collect();
    let ends: Array = info.end_of_generation_tokens.iter().map(|id| JsValue::from(*id)).collect();
    object([
        ("architecture", info.architecture.into()),
        ("name", nullable(info.name)),
        ("fileType", nullable(info.file_type)),
        ("fileBytes", (info.file_bytes as f64).into()),
        ("weightBytes", (info.weight_bytes as f64).into()),
        ("weightTypes", record(info.weight_types)),
        ("bytesPerToken", (info.bytes_per_token as f64).into()),
        ("parameterCount", (info.parameter_count as f64).into()),
        ("layerCount", number(info.n_layers)),
        ("hiddenSize", number(info.hidden_size)),
        ("embeddingSize", number(info.embedding_length)),
        ("headCount", number(info.n_heads)),
        ("kvHeadCount", number(info.n_kv_heads)),
        ("feedForwardSize", number(info.feed_forward_length)),
        ("vocabularySize", number(info.n_vocab)),
        ("trainedContextLength", number(info.trained_context_length)),
        ("contextLength", number(info.context_length)),
        ("maxSequences", number(info.max_sequences)),
        ("kvCacheType", info.kv_type.into()),
        ("kvPageTokens", number(info.kv_page_tokens)),
        ("kvCacheBytes", (info.kv_cache_bytes as f64).into()),
        ("layout", nullable(Some(info.layout).filter(|layout| !layout.is_empty()))),
        ("packedBytes", (info.packed_bytes as f64).into()),
        ("memory", memory(&info.memory)),
        ("pooling", nullable(info.pooling)),
        ("tokenizer", info.tokenizer.into()),
        ("preTokenizer", nullable(info.pre_tokenizer)),
        ("bosToken", nullable(info.bos_token)),
        ("eosToken", nullable(info.eos_token)),
        ("endOfGenerationTokens", ends.into()),
        ("chatTemplate", nullable(info.chat_template)),
        ("chatTemplateOrigin", nullable(info.chat_template_origin)),
        ("backend", info.backend.into()),
        ("backendReason", info.backend_reason.into()),
        ("threads", number(info.threads)),
        ("device", info.device.into()),
        ("kernels", object(info.kernels.into_iter().map(|(k, v)| (k, v.into())))),
        ("warnings", warnings.into()),
        ("loadMs", info.load_ms.into()),
    ])
}

fn memory(memory: &MemoryPlan) -> JsValue {
    let bytes = |bytes: u64| JsValue::from(bytes as f64);
    object([
        ("weights", bytes(memory.weights)),
        ("copies", bytes(memory.copies)),
        ("kv", bytes(memory.kv)),
        ("states", bytes(memory.states)),
        ("slots", bytes(memory.slots)),
        ("total", bytes(memory.total())),
    ])
}

pub(crate) fn estimate(estimate: MemoryEstimate) -> JsValue {
    let layout = Some(estimate.memory.layout.as_str()).filter(|_| !estimate.backend.is_empty());
    object([
        ("memory", memory(&estimate.memory)),
        ("layout", nullable(layout)),
        ("backend", estimate.backend.into()),
        ("contextLength", number(estimate.context_length)),
        ("maxSequences", number(estimate.max_sequences)),
    ])
}

pub(crate) fn adapter((id, info): (u32, AdapterInfo)) -> JsValue {
    let info = object([
        ("name", nullable(info.name)),
        ("rank", number(info.rank)),
        ("alpha", f64::from(info.alpha).into()),
        ("tensorCount", number(info.n_tensors)),
        ("bytes", (info.bytes as f64).into()),
    ]);
    object([("id", id.into()), ("info", info)])
}

pub(crate) fn tensor(tensor: Tensor) -> JsValue {
    let shape: Array = tensor.shape.iter().map(|n| number(*n)).collect();
    object([("data", floats(tensor.data)), ("shape", shape.into()), ("type", tensor.ty.into())])
}

fn chunk_object(chunk: Chunk) -> JsValue {
    object([
        ("text", chunk.text.into()),
        ("tokens", tokens(&chunk.tokens)),
        ("index", number(chunk.index)),
    ])
}

fn result_object(completion: Completion) -> JsValue {
    object([
        ("text", completion.text.into()),
        ("tokens", tokens(&completion.tokens)),
        ("finishReason", completion.finish_reason.as_str().into()),
        ("stopText", nullable(completion.stop_text)),
        ("promptTokens", number(completion.prompt_tokens)),
        ("cachedTokens", number(completion.cached_tokens)),
        ("completionTokens", number(completion.tokens.len())),
        ("seed", (completion.seed as f64).into()),
        ("promptMs", completion.prompt_ms.into()),
        ("firstTokenMs", completion.first_token_ms.into()),
        ("decodeMs", completion.decode_ms.into()),
    ])
}

/// An event as the object that `onEvent` gets.
pub(crate) fn event_object(event: Event) -> JsValue {
    let (ty, name, value) = match event {
        Event::Chunk(chunk) => ("chunk", "chunk", chunk_object(chunk)),
        Event::End(completion) => ("end", "result", result_object(completion)),
        Event::Error(error) => ("error", "error", thrown(error)),
    };
    object([("type", ty.into()), (name, value)])
}
