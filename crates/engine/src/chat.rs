//! Chat templates with their arguments as JSON.

use realm_tokenizer::{ChatTemplate, TemplateOrigin, chat_template_or_builtin};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::loaded::Loaded;

/// Arguments of a chat template, each a JSON text.
#[derive(Clone, Copy, Debug)]
pub struct ChatArguments<'a> {
    /// An array of messages.
    pub messages: &'a str,
    /// An array of tools, if there are any.
    pub tools: Option<&'a str>,
    /// An object of further variables.
    pub variables: &'a str,
    /// Whether to end with the beginning of an answer.
    pub add_generation_prompt: bool,
    /// Whether to end with the text of the last message, which is to be continued.
    pub continue_final_message: bool,
}

/// Renders a template that belongs to no model.
///
/// # Errors
/// `INVALID_ARGUMENT` for JSON that is none or of the wrong kind, `TEMPLATE_ERROR`.
pub fn render_chat_template(template: &str, arguments: &ChatArguments<'_>) -> Result<String> {
    render(&ChatTemplate::named_or_new(template)?, Map::new(), arguments)
}

/// Renders the template of a model: `template`, the name of a built-in one or Jinja,
/// else the one it was loaded with, else the file's own, else the built-in one that
/// fits its vocabulary.
pub(crate) fn render_for(
    loaded: &Loaded,
    template: Option<&str>,
    arguments: &ChatArguments<'_>,
) -> Result<String> {
    let metadata = loaded.gguf.metadata();
    let template = match template.or(loaded.chat_template.as_deref()) {
        Some(template) => ChatTemplate::named_or_new(template)?,
        None => {
            let with_tools = arguments.tools.is_some();
            let own = chat_template_or_builtin(metadata, &loaded.tokenizer, with_tools)?;
            let (template, _) = own.ok_or_else(no_template)?;
            template
        }
    };
    render(&template, ChatTemplate::token_variables(&loaded.tokenizer), arguments)
}

fn no_template() -> Error {
    let names = ChatTemplate::builtin_names().collect::<Vec<_>>().join(", ");
    let message = format!(
        "the file has no chat template (tokenizer.chat_template) and its vocabulary fits no \
         built-in one; pass one of these, or Jinja: {names}"
    );
    Error::from(Box::new(realm_tokenizer::Error::Template { message }))
}

/// Where the template of a model comes from: `option`, `file`, or the name of a
/// built-in one.
pub(crate) fn origin(
    gguf: &realm_gguf::Gguf,
    tokenizer: &realm_tokenizer::Tokenizer,
    chosen: Option<&str>,
) -> Option<String> {
    if chosen.is_some() {
        return Some("option".into());
    }
    let name = match chat_template_or_builtin(gguf.metadata(), tokenizer, false) {
        Ok(own) => match own?.1 {
            TemplateOrigin::File => "file",
            TemplateOrigin::Named(name) | TemplateOrigin::Guessed(name) => name,
        },
        // It is there; what is wrong with it is said when it is used.
        Err(_) => "file",
    };
    Some(name.into())
}

/// Renders with `variables`, which those of `arguments` override.
pub(crate) fn render(
    template: &ChatTemplate,
    mut variables: Map<String, Value>,
    arguments: &ChatArguments<'_>,
) -> Result<String> {
    let messages = parse("messages", arguments.messages, "an array", Value::is_array)?;
    let tools = arguments.tools.map(|tools| parse("tools", tools, "an array", Value::is_array));
    let tools = tools.transpose()?;
    let own = parse("variables", arguments.variables, "an object", Value::is_object)?;
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
        return Ok(template.render_continued(&messages, tools.as_ref(), &variables)?);
    }
    Ok(template.render(&messages, tools.as_ref(), &variables, add_generation_prompt)?)
}

fn parse(what: &str, json: &str, expected: &str, is_right: fn(&Value) -> bool) -> Result<Value> {
    match serde_json::from_str(json) {
        Ok(value) if is_right(&value) => Ok(value),
        Ok(_) => Err(Error::invalid(format!("{what}: expected {expected}"))),
        Err(error) => Err(Error::invalid(format!("{what} is no JSON: {error}"))),
    }
}
