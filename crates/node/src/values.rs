//! Results as JS objects, field by field as in `ts/binding.ts`.

use std::collections::BTreeMap;

use napi::bindgen_prelude::{Float32ArraySlice, ToNapiValue, Uint32ArraySlice};
use napi::{Env, sys};
use napi_derive::napi;
use realm_engine::requests::{Chunk, Completion};
use realm_engine::{AdapterInfo, MemoryEstimate, ModelInfo, Tensor};
use realm_ir::MemoryPlan;

/// Numbers that become a `Float32Array` on the JS heap.
pub struct Floats(pub Vec<f32>);

impl ToNapiValue for Floats {
    unsafe fn to_napi_value(env: sys::napi_env, value: Self) -> napi::Result<sys::napi_value> {
        let copy = Float32ArraySlice::copy_from(&Env::from_raw(env), &value.0)?;
        // SAFETY: who calls this promises that `env` is alive and this is its thread; the copy was
        // made in it.
        unsafe { ToNapiValue::to_napi_value(env, copy) }
    }
}

/// Token ids that become a `Uint32Array` on the JS heap.
pub struct Tokens(pub Vec<u32>);

impl ToNapiValue for Tokens {
    unsafe fn to_napi_value(env: sys::napi_env, value: Self) -> napi::Result<sys::napi_value> {
        let copy = Uint32ArraySlice::copy_from(&Env::from_raw(env), &value.0)?;
        // SAFETY: who calls this promises that `env` is alive and this is its thread; the copy was
        // made in it.
        unsafe { ToNapiValue::to_napi_value(env, copy) }
    }
}

/// `null` where there is no value; napi leaves the field out.
pub struct Nullable<T>(pub Option<T>);

impl<T: ToNapiValue> ToNapiValue for Nullable<T> {
    unsafe fn to_napi_value(env: sys::napi_env, value: Self) -> napi::Result<sys::napi_value> {
        // SAFETY: who calls this promises that `env` is alive and this is its thread, which is all
        // that either conversion asks for.
        unsafe {
            match value.0 {
                Some(value) => T::to_napi_value(env, value),
                None => ToNapiValue::to_napi_value(env, napi::bindgen_prelude::Null),
            }
        }
    }
}

#[napi(object, object_from_js = false)]
pub struct BindingModelInfo {
    pub architecture: String,
    pub name: Nullable<String>,
    pub file_type: Nullable<String>,
    pub file_bytes: f64,
    pub weight_bytes: f64,
    pub weight_types: BTreeMap<String, f64>,
    pub bytes_per_token: f64,
    pub parameter_count: f64,
    pub layer_count: f64,
    pub hidden_size: f64,
    pub embedding_size: f64,
    pub head_count: f64,
    pub kv_head_count: f64,
    pub feed_forward_size: f64,
    pub vocabulary_size: f64,
    pub trained_context_length: f64,
    pub context_length: f64,
    pub max_sequences: f64,
    pub kv_cache_type: String,
    pub kv_page_tokens: f64,
    pub kv_cache_bytes: f64,
    pub layout: Nullable<String>,
    pub packed_bytes: f64,
    pub memory: BindingMemory,
    pub pooling: Nullable<String>,
    pub tokenizer: String,
    pub pre_tokenizer: Nullable<String>,
    pub bos_token: Nullable<u32>,
    pub eos_token: Nullable<u32>,
    pub end_of_generation_tokens: Vec<u32>,
    pub chat_template: Nullable<String>,
    pub chat_template_origin: Nullable<String>,
    pub backend: String,
    pub backend_reason: String,
    pub device: Nullable<String>,
    pub threads: f64,
    pub kernels: BTreeMap<String, String>,
    pub warnings: Vec<String>,
    pub load_ms: f64,
}

impl From<ModelInfo> for BindingModelInfo {
    fn from(info: ModelInfo) -> Self {
        BindingModelInfo {
            architecture: info.architecture,
            name: Nullable(info.name),
            file_type: Nullable(info.file_type),
            file_bytes: info.file_bytes as f64,
            weight_bytes: info.weight_bytes as f64,
            weight_types: info.weight_types.into_iter().map(|(ty, n)| (ty, n as f64)).collect(),
            bytes_per_token: info.bytes_per_token as f64,
            parameter_count: info.parameter_count as f64,
            layer_count: info.n_layers as f64,
            hidden_size: info.hidden_size as f64,
            embedding_size: info.embedding_length as f64,
            head_count: info.n_heads as f64,
            kv_head_count: info.n_kv_heads as f64,
            feed_forward_size: info.feed_forward_length as f64,
            vocabulary_size: info.n_vocab as f64,
            trained_context_length: info.trained_context_length as f64,
            context_length: info.context_length as f64,
            max_sequences: info.max_sequences as f64,
            kv_cache_type: info.kv_type,
            kv_page_tokens: info.kv_page_tokens as f64,
            kv_cache_bytes: info.kv_cache_bytes as f64,
            layout: Nullable(Some(info.layout).filter(|layout| !layout.is_empty())),
            packed_bytes: info.packed_bytes as f64,
            memory: info.memory.into(),
            pooling: Nullable(info.pooling),
            tokenizer: info.tokenizer,
            pre_tokenizer: Nullable(info.pre_tokenizer),
            bos_token: Nullable(info.bos_token),
            eos_token: Nullable(info.eos_token),
            end_of_generation_tokens: info.end_of_generation_tokens,
            chat_template: Nullable(info.chat_template),
            chat_template_origin: Nullable(info.chat_template_origin),
            backend: info.backend,
            backend_reason: info.backend_reason,
            device: Nullable(Some(info.device).filter(|device| !device.is_empty())),
            threads: info.threads as f64,
            kernels: info.kernels,
            warnings: info.warnings,
            load_ms: info.load_ms,
        }
    }
}

#[napi(object, object_from_js = false)]
pub struct BindingMemory {
    pub weights: f64,
    pub copies: f64,
    pub kv: f64,
    pub states: f64,
    pub slots: f64,
    pub total: f64,
}

impl From<MemoryPlan> for BindingMemory {
    fn from(memory: MemoryPlan) -> Self {
        BindingMemory {
            weights: memory.weights as f64,
            copies: memory.copies as f64,
            kv: memory.kv as f64,
            states: memory.states as f64,
            slots: memory.slots as f64,
            total: memory.total() as f64,
        }
    }
}

#[napi(object, object_from_js = false)]
pub struct BindingEstimate {
    pub memory: BindingMemory,
    pub backend: String,
    pub layout: Nullable<String>,
    pub context_length: f64,
    pub max_sequences: f64,
}

impl From<MemoryEstimate> for BindingEstimate {
    fn from(estimate: MemoryEstimate) -> Self {
        let layout = Some(estimate.memory.layout.as_str().to_owned());
        BindingEstimate {
            layout: Nullable(layout.filter(|_| !estimate.backend.is_empty())),
            memory: estimate.memory.into(),
            backend: estimate.backend,
            context_length: estimate.context_length as f64,
            max_sequences: estimate.max_sequences as f64,
        }
    }
}

#[napi(object, object_from_js = false)]
pub struct BindingAdapterInfo {
    pub name: Nullable<String>,
    pub rank: f64,
    pub alpha: f64,
    pub tensor_count: f64,
    pub bytes: f64,
}

#[napi(object, object_from_js = false)]
pub struct BindingAdapter {
    pub id: u32,
    pub info: BindingAdapterInfo,
}

impl From<(u32, AdapterInfo)> for BindingAdapter {
    fn from((id, info): (u32, AdapterInfo)) -> Self {
        let info = BindingAdapterInfo {
            name: Nullable(info.name),
            rank: info.rank as f64,
            alpha: f64::from(info.alpha),
            tensor_count: info.n_tensors as f64,
            bytes: info.bytes as f64,
        };
        BindingAdapter { id, info }
    }
}

#[napi(object, object_from_js = false)]
pub struct BindingTensor {
    pub data: Floats,
    pub shape: Vec<f64>,
    #[napi(js_name = "type")]
    pub ty: String,
}

impl From<Tensor> for BindingTensor {
    fn from(tensor: Tensor) -> Self {
        BindingTensor {
            data: Floats(tensor.data),
            shape: tensor.shape.iter().map(|n| *n as f64).collect(),
            ty: tensor.ty,
        }
    }
}

#[napi(object, object_from_js = false)]
pub struct BindingChunk {
    pub text: String,
    pub tokens: Tokens,
    pub index: f64,
}

impl From<Chunk> for BindingChunk {
    fn from(chunk: Chunk) -> Self {
        BindingChunk { text: chunk.text, tokens: Tokens(chunk.tokens), index: chunk.index as f64 }
    }
}

#[napi(object, object_from_js = false)]
pub struct BindingResult {
    pub text: String,
    pub tokens: Tokens,
    pub finish_reason: &'static str,
    pub stop_text: Nullable<String>,
    pub prompt_tokens: f64,
    pub cached_tokens: f64,
    pub completion_tokens: f64,
    pub seed: f64,
    pub prompt_ms: f64,
    pub first_token_ms: f64,
    pub decode_ms: f64,
}

impl From<Completion> for BindingResult {
    fn from(completion: Completion) -> Self {
        BindingResult {
            text: completion.text,
            completion_tokens: completion.tokens.len() as f64,
            tokens: Tokens(completion.tokens),
            finish_reason: completion.finish_reason.as_str(),
            stop_text: Nullable(completion.stop_text),
            prompt_tokens: completion.prompt_tokens as f64,
            cached_tokens: completion.cached_tokens as f64,
            seed: completion.seed as f64,
            prompt_ms: completion.prompt_ms,
            first_token_ms: completion.first_token_ms,
            decode_ms: completion.decode_ms,
        }
    }
}
