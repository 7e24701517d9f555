//! Chat templates: Jinja as Hugging Face transformers runs it.
//!
//! transformers compiles templates with jinja2's `ImmutableSandboxedEnvironment`,
//! `trim_blocks` and `lstrip_blocks` on, loop controls, its own `tojson`,
//! `raise_exception` and `strftime_now` (`utils/chat_template_utils.py`).

mod builtin;
mod clock;
mod costs;
mod filters;
mod jinja;
mod limits;
mod machinery;
mod operators;
mod python_json;
mod python_methods;
mod python_text;

use std::time::Duration;

use minijinja::value::Value;
use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use realm_gguf::{Metadata, cut};

use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;
use machinery::Program;

/// The one template of a model, or the one used without tools.
const TEMPLATE: &str = "tokenizer.chat_template";
/// The one for conversations with tools, where there are several.
const TOOL_USE: &str = "tokenizer.chat_template.tool_use";

/// A compiled chat template.
///
/// Templates are programs of strangers, so their size, their steps, their time, the
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
    pub fn new(source: &str) -> Result<Self> {
        let mut environment = Environment::empty();
        jinja::install(&mut environment);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        costs::add_filter(
            &mut environment,
            "tojson",
            costs::Cost::Everything,
            python_json::to_json,
        );
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
    /// It shows the texts of messages, whatever their role; of a content in parts
    /// the text parts, a line each, and other parts are refused. It does not know
    /// tools. It begins with `bos_token`, unless a variable `add_bos_token` is
    /// false.
    pub fn builtin(name: &str) -> Option<Self> {
        let source = builtin::source(name)?;
        Some(ChatTemplate::new(&source).expect("templates of this crate compile: see its tests"))
    }

    /// The built-in template called `text`, or else `text` compiled.
    ///
    /// # Errors
    /// [`Error::Template`] when it is neither.
    pub fn named_or_new(text: &str) -> Result<Self> {
        if let Some(template) = ChatTemplate::builtin(text) {
            return Ok(template);
        }
        /// Longer than any name that somebody means to write.
        const MAX_NAME_BYTES: usize = 64;
        if (1..=MAX_NAME_BYTES).contains(&text.len())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        {
            let names = ChatTemplate::builtin_names().collect::<Vec<_>>().join(", ");
            let message = format!("no built-in template is called \"{text}\"; there are: {names}");
            return Err(Error::Template { message }.into());
        }
        ChatTemplate::new(text)
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

    /// Whether the template reads `tools`: one that does not leaves them out of the prompt.
    pub fn reads_tools(&self) -> bool {
        self.program.reads("tools")
    }

    /// The prompt for a conversation.
    ///
    /// `messages` is a list of objects with `role`, `content` and what else the
    /// template knows; `tools` a list of function descriptions; `variables` are
    /// further names the template can see, such as `bos_token` (see
    /// [`token_variables`](Self::token_variables)) or `enable_thinking`.
    /// `add_generation_prompt` ends the prompt with the beginning of an answer.
    /// `time` is how long the template may run; that a machine has more to do than it
    /// can is not held against it.
    ///
    /// # Errors
    /// [`Error::TemplateRaised`] when the template refuses the messages,
    /// [`Error::TemplateTooSlow`] when it does not come to an end in `time`,
    /// [`Error::Template`] when it fails.
    pub fn render(
        &self,
        messages: &serde_json::Value,
        tools: Option<&serde_json::Value>,
        variables: &serde_json::Map<String, serde_json::Value>,
        add_generation_prompt: bool,
        time: Duration,
    ) -> Result<String> {
        let mut context = vec![
            ("messages", from_json(messages)),
            ("tools", tools.map_or(Value::from(()), from_json)),
            ("documents", Value::from(())),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
        ];
        context.extend(variables.iter().map(|(name, value)| (name.as_str(), from_json(value))));
        self.program.render(context.into_iter(), time).map_err(template_error)
    }

    /// The prompt for a conversation whose last message is to be continued: it ends
    /// with that message's text, without what the template puts behind it.
    ///
    /// As `continue_final_message` of transformers does, by looking for a mark
    /// (`render_jinja_template`).
    ///
    /// # Errors
    /// As [`render`](Self::render); [`Error::Template`] too when the last message has
    /// no text, or the template does not print it.
    pub fn render_continued(
        &self,
        messages: &serde_json::Value,
        tools: Option<&serde_json::Value>,
        variables: &serde_json::Map<String, serde_json::Value>,
        time: Duration,
    ) -> Result<String> {
        let refuse = |message: &str| Box::new(Error::Template { message: message.into() });
        let mut messages = messages.clone();
        let text = last_text(&mut messages)
            .ok_or_else(|| refuse("the last message has no text to be continued"))?;
        let wanted = text.trim_matches(python_text::is_python_space).to_owned();
        text.push_str(CONTINUED);
        let mut prompt = self.render(&messages, tools, variables, false, time)?;
        let mark = prompt.rfind(CONTINUED.trim_end()).filter(|_| prompt.contains(&wanted));
        let mark = mark.ok_or_else(|| refuse("the template does not print the last message"))?;
        let is_whole = prompt[mark..].starts_with(CONTINUED);
        prompt.truncate(mark);
        if !is_whole {
            // The template trims its messages, and this one has been trimmed too late.
            prompt.truncate(prompt.trim_end_matches(python_text::is_python_space).len());
        }
        Ok(prompt)
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

/// Stands behind a text that is to be continued. What a template does with the space
/// at its end tells whether it trims.
const CONTINUED: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

/// The text of the last message, or of the last part of it that has one.
fn last_text(messages: &mut serde_json::Value) -> Option<&mut String> {
    use serde_json::Value as Json;
    match messages.as_array_mut()?.last_mut()?.get_mut("content")? {
        Json::String(text) => Some(text),
        Json::Array(parts) => parts.iter_mut().rev().find_map(|part| match part.get_mut("text") {
            Some(Json::String(text)) => Some(text),
            _ => None,
        }),
        _ => None,
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
/// one, else the unnamed one. `None` when the file brings no template, or an empty text.
///
/// A file may have the name of a built-in template in place of one, as those of
/// RWKV models do.
///
/// # Errors
/// [`Error::Metadata`] when the key holds no string, [`Error::Template`] when it
/// holds no valid template.
pub fn chat_template(metadata: &Metadata, with_tools: bool) -> Result<Option<ChatTemplate>> {
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
) -> Result<Option<(ChatTemplate, TemplateOrigin)>> {
    if let Some(own) = own_template(metadata, with_tools)? {
        return Ok(Some(own));
    }
    Ok(ChatTemplate::guess(tokenizer)
        .and_then(|name| Some((ChatTemplate::builtin(name)?, TemplateOrigin::Guessed(name)))))
}

fn own_template(
    metadata: &Metadata,
    with_tools: bool,
) -> Result<Option<(ChatTemplate, TemplateOrigin)>> {
    let own = |key| Ok::<_, Box<Error>>(metadata.str(key)?.filter(|text| !text.is_empty()));
    let mut source = None;
    if with_tools {
        source = own(TOOL_USE)?;
    }
    if source.is_none() {
        source = own(TEMPLATE)?;
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

fn raise_exception(message: String) -> std::result::Result<Value, minijinja::Error> {
    let error = minijinja::Error::new(ErrorKind::InvalidOperation, "raise_exception");
    Err(error.with_source(Raised(message)))
}

fn template_error(error: minijinja::Error) -> Box<Error> {
    let mut source: Option<&dyn std::error::Error> = Some(&error);
    while let Some(cause) = source {
        if let Some(Raised(message)) = cause.downcast_ref() {
            return Error::TemplateRaised { message: cut(message.to_owned()) }.into();
        }
        if cause.is::<limits::TooSlow>() {
            return Error::TemplateTooSlow { message: cut(error.to_string()) }.into();
        }
        source = cause.source();
    }
    Error::Template { message: cut(error.to_string()) }.into()
}
