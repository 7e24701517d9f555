//! A model as a JS object.

use std::sync::Arc;

use napi::bindgen_prelude::{JavaScriptClassExt, JsObjectValue, Object, ToNapiValue, Unknown};
use napi::{Env, JsValue, ValueType};
use napi_derive::napi;
use realm_engine::model::{ModelHandle, Reply, RequestHandle};
use realm_engine::{GenerateOptions, Lora, Pooling, Prompt, SamplingOptions};
use realm_tokenizer::EncodeOptions;

use crate::args::{self, Conversation};
use crate::error::{Result, guard, invalid, refused, thrown};
use crate::events::sink;
use crate::load::source as source_of;
use crate::promise::promise;
use crate::values::{BindingAdapter, BindingModelInfo, BindingTensor, Floats, Tokens};

/// A loaded model. When JS forgets it, it ends what it does and frees itself,
/// without holding up the JS thread.
#[napi]
pub struct BindingModel {
    pub(crate) model: Arc<ModelHandle>,
}

/// A request in progress. Those that answer once have their promise as `result`.
#[napi]
pub struct BindingRequest {
    handle: RequestHandle,
}

#[napi]
impl BindingRequest {
    /// Ends it within one step. Any number of calls.
    #[napi]
    pub fn abort(&self) {
        self.handle.abort();
    }

    /// Lets a generation have so many tokens in all.
    #[napi]
    pub fn allow(&self, tokens: Unknown<'_>) -> Result<()> {
        guard(|| {
            self.handle.allow(args::count(tokens, "tokens")?);
            Ok(())
        })
    }
}

/// Starts a request that answers once; what it gives becomes a value of JS by `convert`.
fn request<T, U>(
    env: &Env,
    convert: fn(T) -> U,
    start: impl FnOnce(Reply<T>) -> RequestHandle,
) -> Result<Object<'_>>
where
    T: Send + 'static,
    U: ToNapiValue + 'static,
{
    let (reply, result) = promise(env, convert)?;
    let request = BindingRequest { handle: start(reply) };
    let instance = request.into_instance(env).map_err(refused)?;
    let mut object = Object::from_raw(env.raw(), instance.value().value);
    object.set_named_property("result", result).map_err(refused)?;
    Ok(object)
}

impl BindingModel {
    pub(crate) fn new(model: ModelHandle) -> Self {
        BindingModel { model: Arc::new(model) }
    }
}

#[napi]
impl BindingModel {
    #[napi]
    pub fn info(&self) -> Result<BindingModelInfo> {
        guard(|| self.model.info().map(BindingModelInfo::from).map_err(thrown))
    }

    #[napi]
    pub fn tokenize(
        &self,
        text: Unknown<'_>,
        add_special: Unknown<'_>,
        parse_special: Unknown<'_>,
    ) -> Result<Tokens> {
        guard(|| {
            let options = EncodeOptions {
                add_special: args::boolean(add_special, "addSpecial")?,
                parse_special: args::boolean(parse_special, "parseSpecial")?,
            };
            let text = args::string(text, "text")?;
            self.model.tokenize(&text, options).map(Tokens).map_err(thrown)
        })
    }

    #[napi]
    pub fn detokenize(&self, ids: Unknown<'_>, special: Unknown<'_>) -> Result<String> {
        guard(|| {
            let ids = args::u32_array(ids, "ids")?;
            let special = args::boolean(special, "special")?;
            self.model.detokenize(&ids, special).map_err(thrown)
        })
    }

    #[napi]
    pub fn apply_chat_template(&self, conversation: Unknown<'_>) -> Result<String> {
        guard(|| {
            let Conversation { template, arguments } = Conversation::new(conversation)?;
            self.model.apply_chat_template(template.as_deref(), &arguments).map_err(thrown)
        })
    }

    #[napi]
    pub fn generate(
        &self,
        prompt: Unknown<'_>,
        options: Unknown<'_>,
        on_event: Unknown<'_>,
    ) -> Result<BindingRequest> {
        guard(|| {
            let prompt = generate_prompt(prompt)?;
            let options = generate_options(&args::object(options, "options")?)?;
            let handle = self.model.generate(prompt, options, sink(on_event)?);
            Ok(BindingRequest { handle })
        })
    }

    #[napi]
    pub fn open_sequence(&self) -> Result<u32> {
        guard(|| self.model.open_sequence().map_err(thrown))
    }

    #[napi]
    pub fn fork_sequence(&self, sequence: Unknown<'_>) -> Result<u32> {
        guard(|| {
            let sequence = args::id(sequence, "sequence")?;
            self.model.fork_sequence(sequence).map_err(thrown)
        })
    }

    #[napi]
    pub fn close_sequence(&self, sequence: Unknown<'_>) -> Result<()> {
        guard(|| {
            let sequence = args::id(sequence, "sequence")?;
            self.model.close_sequence(sequence).map_err(thrown)
        })
    }

    #[napi]
    pub fn load_adapter<'a>(&self, env: &'a Env, source: Unknown<'_>) -> Result<Object<'a>> {
        guard(|| {
            let source = source_of(source)?;
            let (reply, promise) = promise(env, BindingAdapter::from)?;
            self.model.load_adapter(source, reply);
            Ok(promise)
        })
    }

    #[napi]
    pub fn remove_adapter(&self, adapter: Unknown<'_>) -> Result<()> {
        guard(|| {
            let adapter = args::id(adapter, "adapter")?;
            self.model.remove_adapter(adapter).map_err(thrown)
        })
    }

    #[napi]
    pub fn set_lora(&self, lora: Unknown<'_>) -> Result<()> {
        guard(|| self.model.set_default_adapters(loras(lora)?).map_err(thrown))
    }

    #[napi]
    pub fn embed_tokens<'a>(
        &self,
        env: &'a Env,
        ids: Unknown<'_>,
        position: Unknown<'_>,
    ) -> Result<Object<'a>> {
        guard(|| {
            let ids = args::u32_array(ids, "ids")?;
            let position = args::count(position, "position")?;
            request(env, Floats, |reply| self.model.embed_tokens(ids, position, reply))
        })
    }

    #[napi]
    pub fn embed<'a>(
        &self,
        env: &'a Env,
        texts: Unknown<'_>,
        pooling: Unknown<'_>,
        normalize: Unknown<'_>,
    ) -> Result<Object<'a>> {
        guard(|| {
            let texts = args::items(texts, "texts")?.into_iter().enumerate();
            let texts: Result<Vec<_>> =
                texts.map(|(i, text)| prompt(text, &format!("texts[{i}]"))).collect();
            let pooling = args::nullable(pooling).map(self::pooling).transpose()?;
            let (texts, normalize) = (texts?, args::boolean(normalize, "normalize")?);
            request(env, vectors, |reply| self.model.embed(texts, pooling, normalize, reply))
        })
    }

    #[napi]
    pub fn rank<'a>(
        &self,
        env: &'a Env,
        query: Unknown<'_>,
        documents: Unknown<'_>,
    ) -> Result<Object<'a>> {
        guard(|| {
            let query = args::string(query, "query")?;
            let documents = args::strings(documents, "documents")?;
            request(env, Floats, |reply| self.model.rank(query, documents, reply))
        })
    }

    #[napi]
    pub fn forward_layer<'a>(
        &self,
        env: &'a Env,
        layer: Unknown<'_>,
        hidden: Unknown<'_>,
        position: Unknown<'_>,
        sequence: Unknown<'_>,
    ) -> Result<Object<'a>> {
        guard(|| {
            let rows = LayerRows::new(layer, hidden, position, sequence)?;
            let LayerRows { layer, hidden, position, sequence } = rows;
            request(env, Floats, |reply| {
                self.model.forward_layer(layer, hidden, position, sequence, reply)
            })
        })
    }

    #[napi]
    pub fn compute_logits<'a>(&self, env: &'a Env, hidden: Unknown<'_>) -> Result<Object<'a>> {
        guard(|| {
            let hidden = args::f32_array(hidden, "hidden")?;
            request(env, Floats, |reply| self.model.compute_logits(hidden, reply))
        })
    }

    #[napi]
    pub fn drop_layer_sequence(&self, sequence: Unknown<'_>) -> Result<()> {
        guard(|| {
            let sequence = args::id(sequence, "sequence")?;
            self.model.drop_layer_sequence(sequence).map_err(thrown)
        })
    }

    #[napi]
    pub fn tensor<'a>(&self, env: &'a Env, name: Unknown<'_>) -> Result<Object<'a>> {
        guard(|| {
            let name = args::string(name, "name")?;
            let (reply, promise) = promise(env, BindingTensor::from)?;
            self.model.tensor(name, reply);
            Ok(promise)
        })
    }

    #[napi]
    pub fn tensor_names(&self) -> Result<Vec<String>> {
        guard(|| self.model.tensor_names().map_err(thrown))
    }

    #[napi]
    pub fn dispose<'a>(&self, env: &'a Env) -> Result<Object<'a>> {
        guard(|| {
            let (reply, promise) = promise(env, |()| ())?;
            self.model.dispose(|| reply.send(Ok(())));
            Ok(promise)
        })
    }
}

/// Arguments of `forwardLayer`.
pub(crate) struct LayerRows {
    pub(crate) layer: usize,
    pub(crate) hidden: Vec<f32>,
    pub(crate) position: usize,
    pub(crate) sequence: u32,
}

impl LayerRows {
    pub(crate) fn new(
        layer: Unknown<'_>,
        hidden: Unknown<'_>,
        position: Unknown<'_>,
        sequence: Unknown<'_>,
    ) -> Result<Self> {
        Ok(LayerRows {
            layer: args::count(layer, "layer")?,
            hidden: args::f32_array(hidden, "hidden")?,
            position: args::count(position, "position")?,
            sequence: args::id(sequence, "sequence")?,
        })
    }
}

/// Text, or token ids.
fn prompt(value: Unknown<'_>, what: &str) -> Result<Prompt> {
    match value.get_type() {
        Ok(ValueType::String) => Ok(Prompt::Text(args::string(value, what)?)),
        _ => Ok(Prompt::Tokens(args::u32_array(value, what)?)),
    }
}

/// Text, token ids, or a conversation.
fn generate_prompt(value: Unknown<'_>) -> Result<Prompt> {
    let is_object = value.get_type().is_ok_and(|ty| ty == ValueType::Object);
    if is_object && !value.is_typedarray().unwrap_or(false) {
        let Conversation { template, arguments } = Conversation::new(value)?;
        return Ok(Prompt::Chat { template, arguments });
    }
    prompt(value, "prompt")
}

fn pooling(value: Unknown<'_>) -> Result<Pooling> {
    let name = args::string(value, "pooling")?;
    let known = Pooling::ALL.into_iter().find(|pooling| pooling.as_str() == name);
    known.ok_or_else(|| invalid(format!("pooling is \"{name}\", expected none, mean, cls or last")))
}

/// Adapters by their numbers, each with its scale.
fn loras(value: Unknown<'_>) -> Result<Vec<Lora>> {
    let lora = |(i, item)| {
        let item = args::object(item, &format!("lora[{i}]"))?;
        Ok(Lora {
            adapter: args::id(args::property(&item, "adapter")?, "adapter")?,
            scale: args::number(args::property(&item, "scale")?, "scale")? as f32,
        })
    };
    args::items(value, "lora")?.into_iter().enumerate().map(lora).collect()
}

fn vectors(vectors: Vec<Vec<f32>>) -> Vec<Floats> {
    vectors.into_iter().map(Floats).collect()
}

fn generate_options(object: &Object<'_>) -> Result<GenerateOptions> {
    let property = |name| args::property(object, name);
    let number = |name| args::number(property(name)?, name).map(|number| number as f32);
    let count = |name| args::count(property(name)?, name);
    let boolean = |name| args::boolean(property(name)?, name);
    let seed = args::nullable(property("seed")?).map(seed).transpose()?;
    let sequence = args::nullable(property("sequence")?);
    let lora = args::nullable(property("lora")?);
    Ok(GenerateOptions {
        max_tokens: count("maxTokens")?,
        sampling: SamplingOptions {
            temperature: number("temperature")?,
            top_k: u32::try_from(count("topK")?).unwrap_or(u32::MAX),
            top_p: number("topP")?,
            min_p: number("minP")?,
            repeat_penalty: number("repeatPenalty")?,
            repeat_last_n: count("repeatLastN")?,
            seed: seed.unwrap_or(0),
        },
        draw_seed: seed.is_none(),
        stop: args::strings(property("stop")?, "stop")?,
        min_tokens: count("minTokens")?,
        ignore_eos: boolean("ignoreEos")?,
        echo: boolean("echo")?,
        max_buffered: count("maxBuffered")?,
        add_special: boolean("addSpecial")?,
        parse_special: boolean("parseSpecial")?,
        sequence: sequence.map(|id| args::id(id, "sequence")).transpose()?,
        adapters: lora.map(loras).transpose()?,
    })
}

/// A whole number that JS can hold exactly, so that the result can give it back.
fn seed(value: Unknown<'_>) -> Result<u64> {
    const LARGEST: f64 = ((1u64 << 53) - 1) as f64;
    let number = args::number(value, "seed")?;
    if number.fract() == 0.0 && (0.0..=LARGEST).contains(&number) {
        return Ok(number as u64);
    }
    Err(invalid(format!("seed is {number}, expected a whole number of 0 to {LARGEST}")))
}
