//! Chat templates with their arguments as JSON, and the templates of a model.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use realm_gguf::Gguf;
use realm_tokenizer::{ChatTemplate, TemplateOrigin, Tokenizer, chat_template_or_builtin};
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// How long a template may take where somebody waits for what it renders: three frames.
pub const TIME_WHILE_WAITING: Duration = Duration::from_millis(50);

/// How long it may take where nobody is held up.
pub const TIME_IN_BACKGROUND: Duration = Duration::from_millis(500);

/// Templates of a model's that came with calls, and are kept because they may come again.
const MAX_GIVEN: usize = 4;

/// Longest source of a template that is kept. Compiled it takes some 50 times as much.
const MAX_GIVEN_BYTES: usize = 64 << 10;

/// Arguments of a chat template, each a JSON text.
#[derive(Clone, Debug)]
pub struct ChatArguments {
    /// An array of messages.
    pub messages: String,
    /// An array of tools, if there are any.
    pub tools: Option<String>,
    /// An object of further variables.
    pub variables: String,
    /// Whether to end with the beginning of an answer.
    pub add_generation_prompt: bool,
    /// Whether to end with the text of the last message, which is to be continued.
    pub continue_final_message: bool,
}

/// Renders a template that belongs to no model, in [`TIME_WHILE_WAITING`].
///
/// # Errors
/// `INVALID_ARGUMENT` for JSON that is none or of the wrong kind, `TEMPLATE_ERROR`.
pub fn render_chat_template(template: &str, arguments: &ChatArguments) -> Result<String> {
    let template = ChatTemplate::named_or_new(template)?;
    render(&template, Map::new(), arguments, TIME_WHILE_WAITING)
}

/// The templates of one model, each compiled once.
pub(crate) struct Templates {
    gguf: Gguf,
    tokenizer: Arc<Tokenizer>,
    /// Takes the place of the file's.
    chosen: Option<ChatTemplate>,
    /// The file's own, or the built-in one that fits: for conversations without tools, and
    /// for those with them. None where there is neither.
    own: OnceLock<Own>,
    own_with_tools: OnceLock<Own>,
    /// Those that came with a call, with their texts; the last one that was used first.
    given: Mutex<VecDeque<(String, Arc<ChatTemplate>)>>,
}

type Own = Option<(ChatTemplate, TemplateOrigin)>;

impl Templates {
    /// `chosen` is the name of a built-in template or Jinja, to take the place of the file's.
    ///
    /// # Errors
    /// `TEMPLATE_ERROR` when it is neither.
    pub(crate) fn new(gguf: Gguf, tokenizer: Arc<Tokenizer>, chosen: Option<&str>) -> Result<Self> {
        Ok(Templates {
            gguf,
            tokenizer,
            chosen: chosen.map(ChatTemplate::named_or_new).transpose()?,
            own: OnceLock::new(),
            own_with_tools: OnceLock::new(),
            given: Mutex::default(),
        })
    }

    /// Where the template of the model comes from: `option`, `file`, or the name of a
    /// built-in one.
    pub(crate) fn origin(&self) -> Option<String> {
        if self.chosen.is_some() {
            return Some("option".into());
        }
        let name = match self.own(false) {
            Ok(own) => match own.as_ref()?.1 {
                TemplateOrigin::File => "file",
                TemplateOrigin::Named(name) | TemplateOrigin::Guessed(name) => name,
            },
            // It is there; what is wrong with it is said when it is used.
            Err(_) => "file",
        };
        Some(name.into())
    }

    /// Renders `given`, the name of a built-in template or Jinja, else the one that was
    /// chosen, else the file's own, else the built-in one that fits the vocabulary.
    ///
    /// # Errors
    /// `TEMPLATE_ERROR` when there is none, it fails, or takes longer than `time`;
    /// `INVALID_ARGUMENT` for bad JSON.
    pub(crate) fn render(
        &self,
        given: Option<&str>,
        arguments: &ChatArguments,
        time: Duration,
    ) -> Result<String> {
        let compiled;
        let template = match (given, &self.chosen) {
            (Some(given), _) => {
                compiled = self.given(given)?;
                &*compiled
            }
            (None, Some(chosen)) => chosen,
            (None, None) => match self.own(arguments.tools.is_some())? {
                Some((own, _)) => own,
                None => return Err(no_template()),
            },
        };
        render(template, ChatTemplate::token_variables(&self.tokenizer), arguments, time)
    }

    fn own(&self, with_tools: bool) -> Result<&Own> {
        let own = if with_tools { &self.own_with_tools } else { &self.own };
        if own.get().is_none() {
            // Two threads may come here at the same time; the template of one is kept.
            let metadata = self.gguf.metadata();
            let compiled = chat_template_or_builtin(metadata, &self.tokenizer, with_tools)?;
            drop(own.set(compiled));
        }
        Ok(own.get().unwrap_or(&None))
    }

    fn given(&self, text: &str) -> Result<Arc<ChatTemplate>> {
        // The lock is not held while a template is compiled, and nothing under it panics.
        let lock = || self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let mut given = lock();
        if let Some(place) = given.iter().position(|(known, _)| known == text)
            && let Some(found) = given.remove(place)
        {
            let template = found.1.clone();
            given.push_front(found);
            return Ok(template);
        }
        drop(given);
        let template = Arc::new(ChatTemplate::named_or_new(text)?);
        if text.len() <= MAX_GIVEN_BYTES {
            let mut given = lock();
            given.push_front((text.to_owned(), template.clone()));
            given.truncate(MAX_GIVEN);
        }
        Ok(template)
    }
}

fn no_template() -> Error {
    let names = ChatTemplate::builtin_names().collect::<Vec<_>>().join(", ");
    let message = format!(
        "the file has no chat template (tokenizer.chat_template) and its vocabulary fits no \
         built-in one; pass one of these, or Jinja: {names}"
    );
    Error::from(Box::new(realm_tokenizer::Error::Template { message }))
}

/// Renders with `variables`, which those of `arguments` override.
fn render(
    template: &ChatTemplate,
    mut variables: Map<String, Value>,
    arguments: &ChatArguments,
    time: Duration,
) -> Result<String> {
    let messages = parse("messages", &arguments.messages, "an array", Value::is_array)?;
    let tools = arguments.tools.as_deref();
    let tools =
        tools.map(|tools| parse("tools", tools, "an array", Value::is_array)).transpose()?;
    let own = parse("variables", &arguments.variables, "an object", Value::is_object)?;
    if let Value::Object(own) = own {
        variables.extend(own);
    }
    let add_generation_prompt = arguments.add_generation_prompt;
    if arguments.continue_final_message {
        if add_generation_prompt {
            let message = "a last message that is continued has no answer behind it: \
                           addGenerationPrompt and continueFinalMessage exclude each other";
            return Err(Error::invalid(message));
        }
        return Ok(template.render_continued(&messages, tools.as_ref(), &variables, time)?);
    }
    Ok(template.render(&messages, tools.as_ref(), &variables, add_generation_prompt, time)?)
}

fn parse(what: &str, json: &str, expected: &str, is_right: fn(&Value) -> bool) -> Result<Value> {
    match serde_json::from_str(json) {
        Ok(value) if is_right(&value) => Ok(value),
        Ok(_) => Err(Error::invalid(format!("{what}: expected {expected}"))),
        Err(error) => Err(Error::invalid(format!("{what} is no JSON: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use realm_testkit::gguf_writer::{GgufWriter, KvValue};

    use super::*;

    fn templates(source: &str) -> Templates {
        let bytes = GgufWriter::new()
            .kv("tokenizer.ggml.model", "gpt2")
            .kv("tokenizer.ggml.pre", "gpt-2")
            .kv("tokenizer.ggml.tokens", KvValue::from(["<s>", "a", "b"]))
            .kv("tokenizer.ggml.token_type", KvValue::from([3i32, 1, 1]))
            .kv("tokenizer.ggml.merges", KvValue::from(["a b"]))
            .kv("tokenizer.chat_template", source)
            .to_bytes();
        let gguf = Gguf::from_bytes(bytes).unwrap();
        let tokenizer = Arc::new(Tokenizer::from_metadata(gguf.metadata()).unwrap());
        Templates::new(gguf, tokenizer, None).unwrap()
    }

    #[test]
    fn a_models_own_template_is_compiled_once() {
        let templates = templates("{{ messages | length }}");
        let address = |with_tools| {
            let own = templates.own(with_tools).unwrap().as_ref().unwrap();
            std::ptr::from_ref(&own.0)
        };
        assert_eq!(address(false), address(false));
        assert_eq!(address(true), address(true));
    }

    #[test]
    fn the_last_templates_that_came_with_calls_are_kept() {
        let templates = templates("own");
        let source = |i: usize| format!("{{{{ {i} }}}}");
        let first = templates.given(&source(0)).unwrap();
        for i in 1..MAX_GIVEN {
            templates.given(&source(i)).unwrap();
        }
        assert!(Arc::ptr_eq(&first, &templates.given(&source(0)).unwrap()));
        // The one that has not been used for longest goes.
        templates.given(&source(MAX_GIVEN)).unwrap();
        assert!(Arc::ptr_eq(&first, &templates.given(&source(0)).unwrap()));
        for i in 1..=MAX_GIVEN {
            templates.given(&source(i)).unwrap();
        }
        assert_eq!(Arc::strong_count(&first), 1);
        assert_eq!(templates.given.lock().unwrap().len(), MAX_GIVEN);
        let long = templates.given(&"a ".repeat(MAX_GIVEN_BYTES)).unwrap();
        assert_eq!(Arc::strong_count(&long), 1);
    }
}
