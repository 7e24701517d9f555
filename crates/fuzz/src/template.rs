//! Chat templates, which are programs that strangers wrote.

use realm_tokenizer::ChatTemplate;
use serde_json::{Map, Value, json};

/// Compiles the bytes as a template and renders it.
///
/// The conversation follows a NUL, as JSON: an object with `messages`, `tools` and
/// further variables. Without one the template sees a conversation with a tool call.
pub fn template(bytes: &[u8]) {
    let mut sections = bytes.splitn(2, |byte| *byte == 0);
    let Some(Ok(source)) = sections.next().map(std::str::from_utf8) else { return };
    let Ok(template) = ChatTemplate::new(source) else { return };
    let given = sections.next().and_then(|json| serde_json::from_slice(json).ok());
    let mut variables: Map<String, Value> = given.unwrap_or_else(conversation);
    let messages = variables.remove("messages").unwrap_or_default();
    let tools = variables.remove("tools");
    let time = std::time::Duration::from_millis(500);
    let _ = template.render(&messages, tools.as_ref(), &variables, true, time);
}

fn conversation() -> Map<String, Value> {
    let call = json!({"id": "a1", "type": "function", "function": {"name": "f", "arguments": {"x": [1, 2.5, null]}}});
    let conversation = json!({
        "messages": [
            {"role": "system", "content": "Be brief.\n"},
            {"role": "user", "content": [{"type": "text", "text": "Größe? 大小"}]},
            {"role": "assistant", "content": null, "tool_calls": [call], "reasoning_content": " so "},
            {"role": "tool", "name": "f", "content": "{\"y\": true}"},
            {"role": "assistant", "content": "<think>\nhm\n</think>\n\n12 cm"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters":
            {"type": "object", "properties": {"x": {"type": "array"}}, "required": ["x"]}}}],
        "bos_token": "<s>",
        "eos_token": "</s>",
    });
    conversation.as_object().expect("an object was written").clone()
}
