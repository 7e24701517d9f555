//! Chat templates with their arguments as JSON.

use realm_tokenizer::ChatTemplate;
use serde_json::{Map, Value};

use crate::error::{Error, Result};

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
}

/// Renders a template that belongs to no model.
///
/// # Errors
/// `INVALID_ARGUMENT` for JSON that is none or of the wrong kind, `TEMPLATE_ERROR`.
pub fn render_chat_template(template: &str, arguments: &ChatArguments<'_>) -> Result<String> {
    render(&ChatTemplate::new(template)?, Map::new(), arguments)
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
    Ok(template.render(&messages, tools.as_ref(), &variables, add_generation_prompt)?)
}

fn parse(what: &str, json: &str, expected: &str, is_right: fn(&Value) -> bool) -> Result<Value> {
    match serde_json::from_str(json) {
        Ok(value) if is_right(&value) => Ok(value),
        Ok(_) => Err(Error::invalid(format!("{what}: expected {expected}"))),
        Err(error) => Err(Error::invalid(format!("{what} is no JSON: {error}"))),
    }
}
