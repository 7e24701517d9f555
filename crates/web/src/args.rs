//! JS values as arguments. The facade has checked what users pass in; what does not fit
//! here is an error that names the argument.

use js_sys::{Array, Reflect, Uint32Array};
use realm_engine::chat::ChatArguments;
use realm_engine::{GenerateOptions, LoadOptions, Lora, Pooling, Prompt, SamplingOptions};
use realm_ir::{KvType, WeightLayout};
use wasm_bindgen::{JsCast, JsValue};

use crate::error::{Result, invalid};

/// An options object.
pub(crate) struct Options<'a>(pub(crate) &'a JsValue);

impl Options<'_> {
    fn get(&self, name: &str) -> Result<JsValue> {
        Reflect::get(self.0, &name.into())
    }

    /// None for null and undefined.
    fn nullable(&self, name: &str) -> Result<Option<JsValue>> {
        let value = self.get(name)?;
        Ok((!value.is_null() && !value.is_undefined()).then_some(value))
    }

    pub(crate) fn number(&self, name: &str) -> Result<f64> {
        let value = self.get(name)?;
        value.as_f64().ok_or_else(|| invalid(&format!("{name}: expected a number")))
    }

    /// A whole number of at least 0; what is too large becomes the largest there is.
    pub(crate) fn count(&self, name: &str) -> Result<usize> {
        let number = self.number(name)?;
        match number >= 0.0 && (number.fract() == 0.0 || number.is_infinite()) {
            true => Ok(number as usize),
            false => Err(invalid(&format!("{name} is {number}, expected a whole number"))),
        }
    }

    pub(crate) fn boolean(&self, name: &str) -> Result<bool> {
        let value = self.get(name)?;
        value.as_bool().ok_or_else(|| invalid(&format!("{name}: expected a boolean")))
    }

    pub(crate) fn string(&self, name: &str) -> Result<String> {
        let value = self.get(name)?;
        value.as_string().ok_or_else(|| invalid(&format!("{name}: expected a string")))
    }

    pub(crate) fn strings(&self, name: &str) -> Result<Vec<String>> {
        strings(&self.get(name)?, name)
    }
}

pub(crate) fn strings(value: &JsValue, name: &str) -> Result<Vec<String>> {
    let string = |item: JsValue| {
        item.as_string().ok_or_else(|| invalid(&format!("{name}: expected strings")))
    };
    items(value, name)?.iter().map(string).collect()
}

pub(crate) fn items(value: &JsValue, name: &str) -> Result<Array> {
    let array = value.dyn_ref::<Array>();
    array.cloned().ok_or_else(|| invalid(&format!("{name}: expected an array")))
}

/// Text, token ids, or a conversation.
pub(crate) fn generate_prompt(value: &JsValue) -> Result<Prompt> {
    if value.is_object() && !value.is_instance_of::<Uint32Array>() {
        let (template, arguments) = conversation(value)?;
        return Ok(Prompt::Chat { template, arguments });
    }
    prompt(value, "prompt")
}

/// Text, or token ids.
pub(crate) fn prompt(value: &JsValue, name: &str) -> Result<Prompt> {
    if let Some(text) = value.as_string() {
        return Ok(Prompt::Text(text));
    }
    let tokens = value.dyn_ref::<Uint32Array>();
    let tokens = tokens.ok_or_else(|| invalid(&format!("{name}: expected text or token ids")));
    Ok(Prompt::Tokens(tokens?.to_vec()))
}

pub(crate) fn pooling(name: &str) -> Result<Pooling> {
    let known = Pooling::ALL.into_iter().find(|pooling| pooling.as_str() == name);
    known
        .ok_or_else(|| invalid(&format!("pooling is \"{name}\", expected none, mean, cls or last")))
}

/// Adapters by their numbers, each with its scale.
pub(crate) fn loras(value: &JsValue) -> Result<Vec<Lora>> {
    let lora = |item: JsValue| {
        let item = Options(&item);
        let scale = item.number("scale")? as f32;
        Ok(Lora { adapter: item.count("adapter")? as u32, scale })
    };
    items(value, "lora")?.iter().map(lora).collect()
}

/// A conversation and its template; none for the model's own.
pub(crate) fn conversation(value: &JsValue) -> Result<(Option<String>, ChatArguments)> {
    let options = Options(value);
    let optional = |name| -> Result<Option<String>> {
        Ok(options.nullable(name)?.and_then(|text| text.as_string()))
    };
    let arguments = ChatArguments {
        messages: options.string("messages")?,
        tools: optional("tools")?,
        variables: options.string("variables")?,
        add_generation_prompt: options.boolean("addGenerationPrompt")?,
        continue_final_message: options.boolean("continueFinalMessage")?,
    };
    Ok((optional("template")?, arguments))
}

pub(crate) fn load_options(options: &Options<'_>) -> Result<LoadOptions> {
    let kv_type = match options.string("kvCacheType")?.as_str() {
        "f32" => Some(KvType::F32),
        "f16" => Some(KvType::F16),
        "q8_0" => Some(KvType::Q8_0),
        _ => None,
    };
    Ok(LoadOptions {
        context_length: options.count("contextLength")?,
        max_sequences: options.count("maxSequences")?,
        kv_type,
        // There is nothing to map: a packed copy would be a second one.
        layout: WeightLayout::Mapped,
        memory_limit: Some(options.number("memoryLimit")? as u64),
        vocab_only: options.boolean("vocabOnly")?,
        chat_template: options.nullable("chatTemplate")?.and_then(|text| text.as_string()),
    })
}

pub(crate) fn generate_options(options: &Options<'_>) -> Result<GenerateOptions> {
    let seed = options.nullable("seed")?.and_then(|seed| seed.as_f64());
    let sequence = options.nullable("sequence")?.and_then(|sequence| sequence.as_f64());
    let lora = options.nullable("lora")?;
    Ok(GenerateOptions {
        max_tokens: options.count("maxTokens")?,
        sampling: SamplingOptions {
            temperature: options.number("temperature")? as f32,
            top_k: u32::try_from(options.count("topK")?).unwrap_or(u32::MAX),
            top_p: options.number("topP")? as f32,
            min_p: options.number("minP")? as f32,
            repeat_penalty: options.number("repeatPenalty")? as f32,
            repeat_last_n: options.count("repeatLastN")?,
            seed: seed.map_or_else(random_seed, |seed| seed as u64),
        },
        draw_seed: false,
        stop: options.strings("stop")?,
        min_tokens: options.count("minTokens")?,
        ignore_eos: options.boolean("ignoreEos")?,
        echo: options.boolean("echo")?,
        max_buffered: options.count("maxBuffered")?,
        add_special: options.boolean("addSpecial")?,
        parse_special: options.boolean("parseSpecial")?,
        sequence: sequence.map(|sequence| sequence as u32),
        adapters: lora.as_ref().map(loras).transpose()?,
    })
}

/// 32 random bits: few enough to be read and typed again.
fn random_seed() -> u64 {
    (js_sys::Math::random() * 4_294_967_296.0) as u64
}
