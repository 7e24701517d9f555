//! A model as a JS object.

use std::sync::Arc;

use js_sys::{Array, Function, Promise, Uint8Array};
use realm_engine::model::{ModelHandle, Reply, RequestHandle, Source};
use realm_tokenizer::EncodeOptions;
use wasm_bindgen::prelude::*;

use crate::args::{self, Options};
use crate::error::{Result, invalid, thrown};
use crate::events::{promise, sink};
use crate::values::{adapter, floats, model_info, tensor, vectors};

/// A loaded model.
#[wasm_bindgen]
pub struct WebModel {
    model: Arc<ModelHandle>,
}

/// A request in progress. Those that answer once have a promise of their result.
#[wasm_bindgen]
pub struct WebRequest {
    handle: RequestHandle,
    result: Option<Promise>,
}

#[wasm_bindgen]
impl WebRequest {
    /// What it comes to; nothing for a generation, which has events.
    #[wasm_bindgen(getter)]
    pub fn result(&self) -> Option<Promise> {
        self.result.clone()
    }

    /// Ends it within one step. Any number of calls.
    pub fn abort(&self) {
        self.handle.abort();
    }

    /// Lets a generation have so many tokens in all.
    pub fn allow(&self, tokens: f64) {
        self.handle.allow(tokens as usize);
    }
}

/// Starts a request that answers once; what it gives becomes a value of JS by `convert`.
fn request<T: Send + 'static>(
    convert: fn(T) -> JsValue,
    start: impl FnOnce(Reply<T>) -> RequestHandle,
) -> WebRequest {
    let mut handle = None;
    let result = promise(convert, |reply| handle = Some(start(reply)));
    let handle = handle.expect("a promise is started at once");
    WebRequest { handle, result: Some(result) }
}

impl WebModel {
    pub(crate) fn new(model: ModelHandle) -> Self {
        WebModel { model: Arc::new(model) }
    }
}

#[wasm_bindgen]
impl WebModel {
    /// What it is and how it was loaded.
    pub fn info(&self) -> Result<JsValue> {
        self.model.info().map(model_info).map_err(thrown)
    }

    /// Token ids of `text`.
    pub fn tokenize(&self, text: &str, add_special: bool, parse_special: bool) -> Result<Vec<u32>> {
        let options = EncodeOptions { add_special, parse_special };
        self.model.tokenize(text, options).map_err(thrown)
    }

    /// The text of `ids`.
    pub fn detokenize(&self, ids: &[u32], special: bool) -> Result<String> {
        self.model.detokenize(ids, special).map_err(thrown)
    }

    /// Renders a conversation.
    #[wasm_bindgen(js_name = applyChatTemplate)]
    pub fn apply_chat_template(&self, conversation: &JsValue) -> Result<String> {
        let (template, arguments) = args::conversation(conversation)?;
        self.model.apply_chat_template(template.as_deref(), &arguments).map_err(thrown)
    }

    /// Starts a generation.
    pub fn generate(
        &self,
        prompt: &JsValue,
        options: &JsValue,
        on_event: Function,
    ) -> Result<WebRequest> {
        let prompt = args::generate_prompt(prompt)?;
        let options = args::generate_options(&Options(options))?;
        let handle = self.model.generate(prompt, options, sink(on_event));
        Ok(WebRequest { handle, result: None })
    }

    /// Opens a sequence that keeps its KV cache.
    #[wasm_bindgen(js_name = openSequence)]
    pub fn open_sequence(&self) -> Result<u32> {
        self.model.open_sequence().map_err(thrown)
    }

    /// Opens a sequence with what another holds.
    #[wasm_bindgen(js_name = forkSequence)]
    pub fn fork_sequence(&self, sequence: u32) -> Result<u32> {
        self.model.fork_sequence(sequence).map_err(thrown)
    }

    /// Frees a sequence.
    #[wasm_bindgen(js_name = closeSequence)]
    pub fn close_sequence(&self, sequence: u32) -> Result<()> {
        self.model.close_sequence(sequence).map_err(thrown)
    }

    /// Makes an adapter ready; `parts` are the bytes of its files.
    #[wasm_bindgen(js_name = loadAdapter)]
    pub fn load_adapter(&self, parts: &Array) -> Result<Promise> {
        let bytes = |part: JsValue| {
            let bytes = part.dyn_into::<Uint8Array>();
            bytes.map(|bytes| bytes.to_vec().into()).map_err(|_| invalid("parts: expected bytes"))
        };
        let source = Source::Bytes(parts.iter().map(bytes).collect::<Result<_>>()?);
        Ok(promise(adapter, |reply| self.model.load_adapter(source, reply)))
    }

    /// Frees an adapter.
    #[wasm_bindgen(js_name = removeAdapter)]
    pub fn remove_adapter(&self, adapter: u32) -> Result<()> {
        self.model.remove_adapter(adapter).map_err(thrown)
    }

    /// Sets the adapters that everything runs with.
    #[wasm_bindgen(js_name = setLora)]
    pub fn set_lora(&self, lora: &JsValue) -> Result<()> {
        self.model.set_default_adapters(args::loras(lora)?).map_err(thrown)
    }

    /// One vector per text.
    pub fn embed(
        &self,
        texts: &JsValue,
        pooling: Option<String>,
        normalize: bool,
    ) -> Result<WebRequest> {
        let texts = args::items(texts, "texts")?;
        let texts: Result<Vec<_>> = texts.iter().map(|text| args::prompt(&text, "texts")).collect();
        let texts = texts?;
        let pooling = pooling.as_deref().map(args::pooling).transpose()?;
        Ok(request(vectors, |reply| self.model.embed(texts, pooling, normalize, reply)))
    }

    /// One score per document.
    pub fn rank(&self, query: String, documents: Vec<String>) -> WebRequest {
        request(floats, |reply| self.model.rank(query, documents, reply))
    }

    /// Looks up tokens, the first of which is at `position`.
    #[wasm_bindgen(js_name = embedTokens)]
    pub fn embed_tokens(&self, ids: Vec<u32>, position: usize) -> WebRequest {
        request(floats, |reply| self.model.embed_tokens(ids, position, reply))
    }

    /// Runs one layer.
    #[wasm_bindgen(js_name = forwardLayer)]
    pub fn forward_layer(
        &self,
        layer: usize,
        hidden: Vec<f32>,
        position: usize,
        sequence: u32,
    ) -> WebRequest {
        request(floats, |reply| self.model.forward_layer(layer, hidden, position, sequence, reply))
    }

    /// Runs the head.
    #[wasm_bindgen(js_name = computeLogits)]
    pub fn compute_logits(&self, hidden: Vec<f32>) -> WebRequest {
        request(floats, |reply| self.model.compute_logits(hidden, reply))
    }

    /// Frees the pages of a sequence of `forwardLayer`.
    #[wasm_bindgen(js_name = dropLayerSequence)]
    pub fn drop_layer_sequence(&self, sequence: u32) -> Result<()> {
        self.model.drop_layer_sequence(sequence).map_err(thrown)
    }

    /// The values of a tensor.
    pub fn tensor(&self, name: String) -> Promise {
        promise(tensor, |reply| self.model.tensor(name, reply))
    }

    /// Names of all tensors.
    #[wasm_bindgen(js_name = tensorNames)]
    pub fn tensor_names(&self) -> Result<Vec<String>> {
        self.model.tensor_names().map_err(thrown)
    }

    /// Bytes of each of its files that a load with `vocabOnly` reads.
    #[wasm_bindgen(js_name = headerBytes)]
    pub fn header_bytes(&self) -> Result<Vec<f64>> {
        let bytes = self.model.header_bytes().map_err(thrown)?;
        Ok(bytes.into_iter().map(|n| n as f64).collect())
    }

    /// Ends what is running, frees the memory, then resolves.
    pub fn dispose(&self) -> Promise {
        promise(|()| JsValue::UNDEFINED, |reply| self.model.dispose(|| reply.send(Ok(()))))
    }
}
