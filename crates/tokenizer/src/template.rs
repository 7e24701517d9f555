//! Chat templates: Jinja as Hugging Face transformers runs it.
//!
//! transformers compiles templates with jinja2's `ImmutableSandboxedEnvironment`,
//! `trim_blocks` and `lstrip_blocks` on, loop controls, its own `tojson`,
//! `raise_exception` and `strftime_now` (`utils/chat_template_utils.py`).

mod builtin;
mod clock;
mod filters;
mod limits;
mod operators;
mod program;
mod python_json;
mod python_methods;
mod python_text;

use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior};
use realm_gguf::Metadata;

use crate::error::Error;
use crate::tokenizer::Tokenizer;
use program::Program;

/// The one template of a model, or the one used without tools.
const TEMPLATE: &str = "tokenizer.chat_template";
/// The names of further ones, each under `tokenizer.chat_template.<name>`.
const TEMPLATE_NAMES: &str = "tokenizer.chat_templates";
/// The name of the template for conversations with tools.
const TOOL_USE: &str = "tool_use";

/// A compiled chat template.
///
/// Templates are programs of strangers, so their size, their instructions, the
/// text and the lists they build and the depth of these are limited; what goes
/// beyond is an error.
pub struct ChatTemplate {
    program: Program,
}

impl ChatTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// [`Error::Template`] when `source` is no valid template, or larger than any
    /// chat template needs to be.
    pub fn new(source: &str) -> Result<Self, Error> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.add_filter("tojson", python_json::to_json);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", clock::strftime_now);
        environment.add_function(operators::SLICE, operators::slice);
        environment.add_function(operators::CONCAT, operators::concat);
        environment.add_function(operators::REMAINDER, operators::remainder);
        filters::install(&mut environment);
        limits::install(&mut environment);
        let program = Program::compile(source, environment).map_err(template_error)?;
        Ok(ChatTemplate { program })
    }

    /// A template that comes with this crate; see [`builtin_names`](Self::builtin_names).
    ///
    /// It shows the texts of messages, whatever their role; it does not know
    /// tools. It begins with `bos_token`, unless a variable `add_bos_token` is
    /// false.
    pub fn builtin(name: &str) -> Option<Self> {
        let source = builtin::source(name)?;
        Some(ChatTemplate::new(&source).expect("templates of this crate compile: see its tests"))
    }

    /// The names [`builtin`](Self::builtin) knows, such as `chatml`.
    pub fn builtin_names() -> impl Iterator<Item = &'static str> {
        builtin::names()
    }

    /// The name of the built-in template whose special tokens the vocabulary has;
    /// `None` where no format is recognised.
    pub fn guess(tokenizer: &Tokenizer) -> Option<&'static str> {
        builtin::guess(tokenizer)
    }

    /// The prompt for a conversation.
    ///
    /// `messages` is a list of objects with `role`, `content` and what else the
    /// template knows; `tools` a list of function descriptions; `variables` are
    /// further names the template can see, such as `bos_token` (see
    /// [`token_variables`](Self::token_variables)) or `enable_thinking`.
    /// `add_generation_prompt` ends the prompt with the beginning of an answer.
    ///
    /// # Errors
    /// [`Error::TemplateRaised`] when the template refuses the messages,
    /// [`Error::Template`] when it fails or does not come to an end.
    pub fn render(
        &self,
        messages: &serde_json::Value,
        tools: Option<&serde_json::Value>,
        variables: &serde_json::Map<String, serde_json::Value>,
        add_generation_prompt: bool,
    ) -> Result<String, Error> {
        let mut context = vec![
            ("messages", from_json(messages)),
            ("tools", tools.map_or(Value::from(()), from_json)),
            ("documents", Value::from(())),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
        ];
        context.extend(variables.iter().map(|(name, value)| (name.as_str(), from_json(value))));
        self.program.render(Value::from_pairs(context)).map_err(template_error)
    }

    /// `bos_token` and `eos_token`, which most templates print, and whether the
    /// model wants the first of them: `add_bos_token`.
    pub fn token_variables(tokenizer: &Tokenizer) -> serde_json::Map<String, serde_json::Value> {
        let text = |id: Option<u32>| id.and_then(|id| tokenizer.token_text(id)).unwrap_or_default();
        [
            ("bos_token", text(tokenizer.bos()).into()),
            ("eos_token", text(tokenizer.eos()).into()),
            ("add_bos_token", tokenizer.adds_bos().into()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
    }
}

/// Where a template comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateOrigin {
    /// The file brings it.
    File,
    /// The file names this built-in one instead of bringing a template.
    Named(&'static str),
    /// The file has none, and this built-in one fits the vocabulary.
    Guessed(&'static str),
}

/// The template of a model: with tools, the one named `tool_use` where there is
/// one, else the unnamed one. `None` when the file brings no template.
///
/// A file may have the name of a built-in template in place of one, as those of
/// RWKV models do.
///
/// # Errors
/// [`Error::Metadata`] when the key holds no string, [`Error::Template`] when it
/// holds no valid template.
pub fn chat_template(metadata: &Metadata, with_tools: bool) -> Result<Option<ChatTemplate>, Error> {
    Ok(own_template(metadata, with_tools)?.map(|(template, _)| template))
}

/// As [`chat_template`]; where the file brings none, the built-in template that
/// fits the special tokens of its vocabulary. Says which it is.
///
/// # Errors
/// As [`chat_template`].
pub fn chat_template_or_builtin(
    metadata: &Metadata,
    tokenizer: &Tokenizer,
    with_tools: bool,
) -> Result<Option<(ChatTemplate, TemplateOrigin)>, Error> {
    if let Some(own) = own_template(metadata, with_tools)? {
        return Ok(Some(own));
    }
    Ok(ChatTemplate::guess(tokenizer)
        .and_then(|name| Some((ChatTemplate::builtin(name)?, TemplateOrigin::Guessed(name)))))
}

fn own_template(
    metadata: &Metadata,
    with_tools: bool,
) -> Result<Option<(ChatTemplate, TemplateOrigin)>, Error> {
    let mut source = None;
    if with_tools && let Some(names) = metadata.string_array(TEMPLATE_NAMES)? {
        let named = names.iter().any(|name| name == TOOL_USE.as_bytes());
        if named {
            source = metadata.str(&format!("{TEMPLATE}.{TOOL_USE}"))?;
        }
    }
    if source.is_none() {
        source = metadata.str(TEMPLATE)?;
    }
    let Some(source) = source else { return Ok(None) };
    if let Some(name) = ChatTemplate::builtin_names().find(|name| *name == source)
        && let Some(template) = ChatTemplate::builtin(name)
    {
        return Ok(Some((template, TemplateOrigin::Named(name))));
    }
    Ok(Some((ChatTemplate::new(source)?, TemplateOrigin::File)))
}

fn from_json(value: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match value {
        Json::Null => Value::from(()),
        Json::Bool(value) => Value::from(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::from(number),
            (None, Some(number)) => Value::from(number),
            (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => items.iter().map(from_json).collect::<Vec<_>>().into(),
        Json::Object(map) => Value::from_pairs(map.iter().map(|(k, v)| (k.as_str(), from_json(v)))),
    }
}

/// Marks an error as raised by the template, not by the engine.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

fn raise_exception(message: String) -> Result<Value, minijinja::Error> {
    let error = minijinja::Error::new(ErrorKind::InvalidOperation, "raise_exception");
    Err(error.with_source(Raised(message)))
}

fn template_error(error: minijinja::Error) -> Error {
    let mut source: Option<&dyn std::error::Error> = Some(&error);
    while let Some(cause) = source {
        if let Some(Raised(message)) = cause.downcast_ref() {
            return Error::TemplateRaised { message: message.clone() };
        }
        source = cause.source();
    }
    Error::Template { message: error.to_string() }
}
