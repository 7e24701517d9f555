//! Chat templates with their arguments as JSON, and the templates of a model.

use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

use realm_gguf::Gguf;
use realm_tokenizer::{ChatTemplate, TemplateOrigin, Tokenizer, chat_template_or_builtin};
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// How long a template may take where somebody waits for what it renders: three frames.
pub const TIME_WHILE_WAITING: Duration = Duration::from_millis(50);

/// How long it may take where only those wait who have a prompt of their own.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) const TIME_AT_FIRST: Duration = Duration::from_millis(25);

/// How long it may take where nobody is held up.
pub const TIME_IN_BACKGROUND: Duration = Duration::from_millis(500);

/// Templates of a model that are kept compiled.
const MAX_KEPT: usize = 6;

/// Longest source of a template that came with a call and is kept. Compiled it takes some 50
/// times as much.
const MAX_KEPT_BYTES: usize = 64 << 10;

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

/// The templates of one model: those that were used last are kept compiled.
pub(crate) struct Templates {
    gguf: Gguf,
    tokenizer: Arc<Tokenizer>,
    /// Takes the place of the file's: the name of a built-in template, or Jinja.
    chosen: Option<String>,
    /// The one that was used last is the last.
    kept: Mutex<Vec<(Which, Arc<ChatTemplate>)>>,
    /// Whether somebody has been told that tools were left out.
    told_of_tools: Once,
}

/// One of a model's templates.
#[derive(Clone, PartialEq, Eq)]
enum Which {
    /// The file's own, or the built-in one that fits.
    Own { with_tools: bool },
    /// The name of a built-in one, or Jinja.
    Text(String),
}

impl Templates {
    /// `chosen` is the name of a built-in template or Jinja, to take the place of the file's. An
    /// empty text is no template, here as in the file.
    ///
    /// # Errors
    /// `TEMPLATE_ERROR` when it is neither.
    pub(crate) fn new(
        gguf: Gguf,
        tokenizer: Arc<Tokenizer>,
        chosen: Option<String>,
    ) -> Result<Self> {
        let chosen = chosen.filter(|text| !text.is_empty());
        let templates = Templates {
            gguf,
            tokenizer,
            chosen,
            kept: Mutex::default(),
            told_of_tools: Once::new(),
        };
        if let Some(chosen) = &templates.chosen {
            templates.compiled(Which::Text(chosen.clone()))?;
        }
        Ok(templates)
    }

    /// Where the template of the model comes from: `option`, `file`, or the name of a
    /// built-in one.
    pub(crate) fn origin(&self) -> Option<String> {
        if self.chosen.is_some() {
            return Some("option".into());
        }
        let which = Which::Own { with_tools: false };
        let name = match chat_template_or_builtin(self.gguf.metadata(), &self.tokenizer, false) {
            Ok(own) => {
                let (template, origin) = own?;
                self.keep(which, Arc::new(template));
                match origin {
                    TemplateOrigin::File => "file",
                    TemplateOrigin::Named(name) | TemplateOrigin::Guessed(name) => name,
                }
            }
            // It is there; what is wrong with it is said when it is used.
            Err(_) => "file",
        };
        Some(name.into())
    }

    /// Renders `given`, the name of a built-in template or Jinja, else the one that was
    /// chosen, else the file's own, else the built-in one that fits the vocabulary. Of tools that
    /// the template leaves out it warns once.
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
        let which = match given.filter(|text| !text.is_empty()).or(self.chosen.as_deref()) {
            Some(text) => Which::Text(text.to_owned()),
            None => Which::Own { with_tools: arguments.tools.is_some() },
        };
        let template = self.compiled(which)?;
        let variables = ChatTemplate::token_variables(&self.tokenizer);
        let text = render(&template, variables, arguments, time)?;
        if arguments.tools.as_deref().is_some_and(|tools| tools != "[]") && !template.reads_tools()
        {
            self.told_of_tools.call_once(|| {
                tracing::warn!(
                    "the chat template knows no tools, so that the prompt does not have those that \
                     were passed; describe them in a message, or pass a template that knows them"
                );
            });
        }
        Ok(text)
    }

    fn compiled(&self, which: Which) -> Result<Arc<ChatTemplate>> {
        {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(place) = kept.iter().position(|(known, _)| *known == which) {
                kept[place..].rotate_left(1);
                return Ok(kept[kept.len() - 1].1.clone());
            }
        }
        // Without the lock: somebody else may have come here for the same one.
        let template = match &which {
            Which::Text(text) => ChatTemplate::named_or_new(text)?,
            Which::Own { with_tools } => {
                let metadata = self.gguf.metadata();
                let own = chat_template_or_builtin(metadata, &self.tokenizer, *with_tools)?;
                own.ok_or_else(no_template)?.0
            }
        };
        let template = Arc::new(template);
        self.keep(which, template.clone());
        Ok(template)
    }

    fn keep(&self, which: Which, template: Arc<ChatTemplate>) {
        if matches!(&which, Which::Text(text) if text.len() > MAX_KEPT_BYTES) {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == MAX_KEPT {
            kept.remove(0);
        }
        kept.push((which, template));
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
    use crate::log::{LogLevel, listen};

    fn arguments(tools: Option<&str>) -> ChatArguments {
        ChatArguments {
            messages: "[]".into(),
            tools: tools.map(str::to_owned),
            variables: "{}".into(),
            add_generation_prompt: true,
            continue_final_message: false,
        }
    }

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

    fn text(i: usize) -> Which {
        Which::Text(format!("{{{{ {i} }}}}"))
    }

    #[test]
    fn the_templates_that_were_used_last_are_kept() {
        let templates = templates("own");
        assert_eq!(templates.origin().as_deref(), Some("file"));
        let own = || templates.compiled(Which::Own { with_tools: false }).unwrap();
        let first = own();
        assert!(Arc::ptr_eq(&first, &own()));
        for i in 0..20 {
            let given = templates.compiled(text(i)).unwrap();
            assert!(Arc::ptr_eq(&given, &templates.compiled(text(i)).unwrap()));
            assert!(Arc::ptr_eq(&first, &own()), "one that is used stays");
        }
        assert_eq!(templates.kept.lock().unwrap().len(), MAX_KEPT);
        for i in 0..MAX_KEPT {
            templates.compiled(text(i)).unwrap();
        }
        assert_eq!(Arc::strong_count(&first), 1, "one that is not goes");
        let long = templates.compiled(Which::Text("a ".repeat(MAX_KEPT_BYTES))).unwrap();
        assert_eq!(Arc::strong_count(&long), 1);
    }

    #[test]
    fn a_template_for_tools_is_another_than_the_one_without() {
        let templates = templates("own");
        let own = |with_tools| templates.compiled(Which::Own { with_tools }).unwrap();
        assert!(Arc::ptr_eq(&own(true), &own(true)));
        assert!(!Arc::ptr_eq(&own(true), &own(false)));
    }

    #[test]
    fn an_empty_text_is_no_template() {
        let templates = templates("own");
        let arguments = arguments(None);
        for given in [None, Some("")] {
            assert_eq!(templates.render(given, &arguments, TIME_IN_BACKGROUND).unwrap(), "own");
        }
        let Templates { gguf, tokenizer, .. } = templates;
        let templates = Templates::new(gguf, tokenizer, Some(String::new())).unwrap();
        assert_eq!(templates.origin().as_deref(), Some("file"));
    }

    #[test]
    fn tools_that_a_template_leaves_out_are_warned_of_once_for_each_model() {
        let heard = Arc::new(Mutex::new(0));
        let count = heard.clone();
        let _listening = listen(move |entry| {
            let is_ours = entry.level == LogLevel::Warn && entry.message.contains("knows no tools");
            *count.lock().unwrap() += usize::from(is_ours);
        });
        let render = |templates: &Templates, tools: Option<&str>| {
            let text = templates.render(None, &arguments(tools), TIME_IN_BACKGROUND).unwrap();
            (text, *heard.lock().unwrap())
        };
        let knows = templates("{{ tools | length }}");
        assert_eq!(render(&knows, Some("[{}]")), ("1".into(), 0));
        let ignores = templates("own");
        assert_eq!(render(&ignores, None), ("own".into(), 0));
        assert_eq!(render(&ignores, Some("[]")), ("own".into(), 0));
        assert_eq!(render(&ignores, Some("[{}]")), ("own".into(), 1));
        assert_eq!(render(&ignores, Some("[{}]")), ("own".into(), 1));
        assert_eq!(render(&templates("other"), Some("[{}]")), ("other".into(), 2));
    }
}
