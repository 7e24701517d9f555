//! Templates for models whose file brings none, and which of them fits a model.
//!
//! The templates are those the models' authors publish; the names are llama.cpp's
//! (`LLM_CHAT_TEMPLATES` in `src/llama-chat.cpp`), which some files have in place
//! of a template.

use crate::tokenizer::Tokenizer;

/// What a template writes for a message of each role, as Jinja expressions.
///
/// They see the `message`, its `text`, the same `trimmed`, whether it `begins` a turn (the first
/// message does, and every one behind an answer), and whether it is `after_system`: behind a message
/// of the system. The text of a content in parts is that of its parts, a line each.
struct BuiltinTemplate {
    name: &'static str,
    /// Before all messages.
    start: &'static str,
    system: &'static str,
    /// Also for roles that have no expression of their own, such as `tool`.
    user: &'static str,
    assistant: &'static str,
    /// How an answer begins.
    answer: &'static str,
}

/// Every name [`source`] knows.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    TEMPLATES.iter().map(|template| template.name)
}

/// The Jinja text of the template called `name`. It begins with the token that a
/// sequence begins with, unless `add_bos_token` is false.
pub(super) fn source(name: &str) -> Option<String> {
    let BuiltinTemplate { start, system, user, assistant, answer, .. } =
        TEMPLATES.iter().find(|template| template.name == name)?;
    let known = "it shows texts alone: pass content parts of type \"text\", \
                 or a template that knows others";
    Some(format!(
        "{{{{ bos_token if add_bos_token | default(true) }}}}{{{{ {start} }}}}\
         {{% for message in messages %}}\
         {{% if message.content is string or not message.content %}}\
         {{% set text = message.content or '' %}}\
         {{% else %}}\
         {{% for part in message.content %}}\
         {{% if part.type != 'text' or part.text is not string %}}\
         {{{{ raise_exception('a ' ~ message.role ~ ' message has a content part of type '\
         ~ (part.type | default(none) | tojson)\
         ~ ', which the built-in template {name} does not know; {known}') }}}}\
         {{% endif %}}\
         {{% endfor %}}\
         {{% set text = message.content | map(attribute='text') | join('\\n') %}}\
         {{% endif %}}\
         {{% set trimmed = text | trim %}}\
         {{% set begins = loop.first or loop.previtem.role == 'assistant' %}}\
         {{% set after_system = not loop.first and loop.previtem.role == 'system' %}}\
         {{% if message.role == 'system' %}}{{{{ {system} }}}}\
         {{% elif message.role == 'assistant' %}}{{{{ {assistant} }}}}\
         {{% else %}}{{{{ {user} }}}}{{% endif %}}\
         {{% endfor %}}\
         {{% set after_system = messages and messages[-1].role == 'system' %}}\
         {{% if add_generation_prompt %}}{{{{ {answer} }}}}{{% endif %}}"
    ))
}

/// The template that fits the special tokens of a vocabulary.
pub(super) fn guess(tokenizer: &Tokenizer) -> Option<&'static str> {
    let has = |text: &&str| tokenizer.token_id(text).is_some();
    SIGNS.iter().find(|(tokens, _)| tokens.iter().all(has)).map(|(_, name)| *name)
}

/// Tokens, and the template that uses them all; the first that fits counts.
const SIGNS: &[(&[&str], &str)] = &[
    (&["<|im_start|>", "<|im_sep|>"], "phi4"),
    (&["<|im_assistant|>", "<|im_middle|>"], "kimi-k2"),
    (&["<|im_start|>"], "chatml"),
    (&["<|start_header_id|>"], "llama3"),
    (&["<|header_start|>"], "llama4"),
    (&["<|turn>"], "gemma4"),
    (&["<start_of_turn>"], "gemma"),
    // Their spaces around a text tell SentencePiece vocabularies from others.
    (&["[SYSTEM_PROMPT]", "▁"], "mistral-v7"),
    (&["[SYSTEM_PROMPT]"], "mistral-v7-tekken"),
    (&["[INST]", "▁"], "mistral-v3"),
    (&["[INST]"], "mistral-v3-tekken"),
    (&["<|START_OF_TURN_TOKEN|>", "<|CHATBOT_TOKEN|>"], "command-r"),
    (&["<｜User｜>", "<｜Assistant｜>"], "deepseek3"),
    (&["<|start_of_role|>"], "granite"),
    (&["[|assistant|]", "[|endofturn|]"], "exaone3"),
    (&["<|assistant|>", "<|end|>"], "phi3"),
    (&["[gMASK]", "<sop>"], "chatglm4"),
    (&["[gMASK]", "sop"], "chatglm3"),
    (&["<|end_of_turn|>"], "openchat"),
    (&["<用户>", "<AI>"], "minicpm"),
    (&["<|role_start|>"], "megrez"),
];

const TEMPLATES: &[BuiltinTemplate] = &[
    BuiltinTemplate {
        name: "chatml",
        start: "''",
        system: r"'<|im_start|>system\n' ~ text ~ '<|im_end|>\n'",
        user: r"'<|im_start|>' ~ message.role ~ '\n' ~ text ~ '<|im_end|>\n'",
        assistant: r"'<|im_start|>assistant\n' ~ text ~ '<|im_end|>\n'",
        answer: r"'<|im_start|>assistant\n'",
    },
    BuiltinTemplate {
        name: "llama2",
        start: "''",
        system: r"('' if loop.first else '<s>') ~ '[INST] <<SYS>>\n' ~ text ~ '\n<</SYS>>\n\n'",
        user: "('' if not begins else '[INST] ' if loop.first else '<s>[INST] ') ~ trimmed ~ ' [/INST]'",
        assistant: "' ' ~ trimmed ~ ' </s>'",
        answer: "''",
    },
    BuiltinTemplate {
        name: "llama3",
        start: "''",
        system: r"'<|start_header_id|>system<|end_header_id|>\n\n' ~ trimmed ~ '<|eot_id|>'",
        user: r"'<|start_header_id|>' ~ message.role ~ '<|end_header_id|>\n\n' ~ trimmed ~ '<|eot_id|>'",
        assistant: r"'<|start_header_id|>assistant<|end_header_id|>\n\n' ~ trimmed ~ '<|eot_id|>'",
        answer: r"'<|start_header_id|>assistant<|end_header_id|>\n\n'",
    },
    BuiltinTemplate {
        name: "llama4",
        start: "''",
        system: r"'<|header_start|>system<|header_end|>\n\n' ~ trimmed ~ '<|eot|>'",
        user: r"'<|header_start|>' ~ message.role ~ '<|header_end|>\n\n' ~ trimmed ~ '<|eot|>'",
        assistant: r"'<|header_start|>assistant<|header_end|>\n\n' ~ trimmed ~ '<|eot|>'",
        answer: r"'<|header_start|>assistant<|header_end|>\n\n'",
    },
    BuiltinTemplate {
        name: "mistral-v1",
        start: "''",
        system: r"' [INST] ' ~ text ~ '\n\n'",
        user: "(' [INST] ' if begins) ~ text ~ ' [/INST]'",
        assistant: "' ' ~ text ~ '</s>'",
        answer: "''",
    },
    BuiltinTemplate {
        name: "mistral-v3",
        start: "''",
        system: r"'[INST] ' ~ text ~ '\n\n'",
        user: "('[INST] ' if begins) ~ text ~ '[/INST]'",
        assistant: "' ' ~ trimmed ~ '</s>'",
        answer: "''",
    },
    BuiltinTemplate {
        name: "mistral-v3-tekken",
        start: "''",
        system: r"'[INST]' ~ text ~ '\n\n'",
        user: "('[INST]' if begins) ~ text ~ '[/INST]'",
        assistant: "text ~ '</s>'",
        answer: "''",
    },
    BuiltinTemplate {
        name: "mistral-v7",
        start: "''",
        system: "'[SYSTEM_PROMPT] ' ~ text ~ '[/SYSTEM_PROMPT]'",
        user: "'[INST] ' ~ text ~ '[/INST]'",
        assistant: "' ' ~ text ~ '</s>'",
        answer: "''",
    },
    BuiltinTemplate {
        name: "mistral-v7-tekken",
        start: "''",
        system: "'[SYSTEM_PROMPT]' ~ text ~ '[/SYSTEM_PROMPT]'",
        user: "'[INST]' ~ text ~ '[/INST]'",
        assistant: "text ~ '</s>'",
        answer: "''",
    },
    BuiltinTemplate {
        name: "gemma",
        start: "''",
        // What the system says is the beginning of the user's turn.
        system: r"('<start_of_turn>user\n' if not after_system) ~ trimmed ~ '\n\n'",
        user: r"('<start_of_turn>user\n' if not after_system) ~ trimmed ~ '<end_of_turn>\n'",
        assistant: r"('<end_of_turn>\n' if after_system) ~ '<start_of_turn>model\n' ~ trimmed ~ '<end_of_turn>\n'",
        answer: r"('<end_of_turn>\n' if after_system) ~ '<start_of_turn>model\n'",
    },
    BuiltinTemplate {
        name: "gemma4",
        start: "''",
        system: r"'<|turn>system\n' ~ trimmed ~ '<turn|>\n'",
        user: r"'<|turn>user\n' ~ trimmed ~ '<turn|>\n'",
        assistant: r"'<|turn>model\n' ~ trimmed ~ '<turn|>\n'",
        // An empty thought: the answer follows at once.
        answer: r"'<|turn>model\n<|channel>thought\n<channel|>'",
    },
    BuiltinTemplate {
        name: "phi3",
        start: "''",
        system: r"'<|system|>\n' ~ text ~ '<|end|>\n'",
        user: r"'<|user|>\n' ~ text ~ '<|end|>\n'",
        assistant: r"'<|assistant|>\n' ~ text ~ '<|end|>\n'",
        answer: r"'<|assistant|>\n'",
    },
    BuiltinTemplate {
        name: "phi4",
        start: "''",
        system: "'<|im_start|>system<|im_sep|>' ~ text ~ '<|im_end|>'",
        user: "'<|im_start|>user<|im_sep|>' ~ text ~ '<|im_end|>'",
        assistant: "'<|im_start|>assistant<|im_sep|>' ~ text ~ '<|im_end|>'",
        answer: "'<|im_start|>assistant<|im_sep|>'",
    },
    BuiltinTemplate {
        name: "zephyr",
        start: "''",
        system: r"'<|system|>\n' ~ text ~ (eos_token or '</s>') ~ '\n'",
        user: r"'<|user|>\n' ~ text ~ (eos_token or '</s>') ~ '\n'",
        assistant: r"'<|assistant|>\n' ~ text ~ (eos_token or '</s>') ~ '\n'",
        answer: r"'<|assistant|>\n'",
    },
    BuiltinTemplate {
        name: "falcon3",
        start: "''",
        system: r"'<|system|>\n' ~ text ~ '\n'",
        user: r"'<|user|>\n' ~ text ~ '\n'",
        assistant: r"'<|assistant|>\n' ~ text ~ '\n'",
        answer: r"'<|assistant|>\n'",
    },
    BuiltinTemplate {
        name: "vicuna",
        start: "''",
        system: "text ~ ' '",
        user: "'USER: ' ~ text ~ ' '",
        assistant: "'ASSISTANT: ' ~ text ~ '</s>'",
        answer: "'ASSISTANT:'",
    },
    BuiltinTemplate {
        name: "vicuna-orca",
        start: "''",
        system: r"'SYSTEM: ' ~ text ~ '\n'",
        user: r"'USER: ' ~ text ~ '\n'",
        assistant: r"'ASSISTANT: ' ~ text ~ '</s>\n'",
        answer: "'ASSISTANT:'",
    },
    BuiltinTemplate {
        name: "alpaca",
        start: r"'' if messages and messages[0].role == 'system' else 'Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n'",
        system: r"text ~ '\n\n'",
        user: r"'### Instruction:\n' ~ text ~ '\n\n'",
        assistant: r"'### Response:\n' ~ text ~ '</s>'",
        answer: r"'### Response:\n'",
    },
    BuiltinTemplate {
        name: "openchat",
        start: "''",
        system: "text ~ '<|end_of_turn|>'",
        user: "'GPT4 Correct User: ' ~ text ~ '<|end_of_turn|>'",
        assistant: "'GPT4 Correct Assistant: ' ~ text ~ '<|end_of_turn|>'",
        answer: "'GPT4 Correct Assistant:'",
    },
    BuiltinTemplate {
        name: "orion",
        start: "''",
        // As in gemma.
        system: r"('Human: ' if not after_system) ~ text ~ '\n\n'",
        user: r"('Human: ' if not after_system) ~ text ~ '\n\nAssistant: </s>'",
        assistant: "('Assistant: </s>' if after_system) ~ text ~ '</s>'",
        answer: "'Assistant: </s>' if after_system else ''",
    },
    BuiltinTemplate {
        name: "deepseek",
        start: "''",
        system: "text",
        user: r"'### Instruction:\n' ~ text ~ '\n'",
        assistant: r"'### Response:\n' ~ text ~ '\n<|EOT|>\n'",
        answer: r"'### Response:\n'",
    },
    BuiltinTemplate {
        name: "deepseek2",
        start: "''",
        system: r"text ~ '\n\n'",
        user: r"'User: ' ~ text ~ '\n\n'",
        assistant: "'Assistant: ' ~ text ~ '<｜end▁of▁sentence｜>'",
        answer: "'Assistant:'",
    },
    BuiltinTemplate {
        name: "deepseek3",
        start: "''",
        system: "text",
        user: "'<｜User｜>' ~ text",
        assistant: "'<｜Assistant｜>' ~ text ~ '<｜end▁of▁sentence｜>'",
        answer: "'<｜Assistant｜>'",
    },
    BuiltinTemplate {
        name: "command-r",
        start: "''",
        system: "'<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>' ~ trimmed ~ '<|END_OF_TURN_TOKEN|>'",
        user: "'<|START_OF_TURN_TOKEN|><|USER_TOKEN|>' ~ trimmed ~ '<|END_OF_TURN_TOKEN|>'",
        assistant: "'<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' ~ trimmed ~ '<|END_OF_TURN_TOKEN|>'",
        answer: "'<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>'",
    },
    BuiltinTemplate {
        name: "chatglm3",
        start: "'[gMASK]sop'",
        system: r"'<|system|>\n ' ~ text",
        user: r"'<|' ~ message.role ~ '|>\n ' ~ text",
        assistant: r"'<|assistant|>\n ' ~ text",
        answer: "'<|assistant|>'",
    },
    BuiltinTemplate {
        name: "chatglm4",
        start: "'[gMASK]<sop>'",
        system: r"'<|system|>\n' ~ text",
        user: r"'<|' ~ message.role ~ '|>\n' ~ text",
        assistant: r"'<|assistant|>\n' ~ text",
        answer: r"'<|assistant|>\n'",
    },
    BuiltinTemplate {
        name: "minicpm",
        start: "''",
        system: "trimmed",
        user: "'<用户>' ~ trimmed ~ '<AI>'",
        assistant: "trimmed",
        answer: "''",
    },
    BuiltinTemplate {
        name: "exaone3",
        start: "''",
        system: r"'[|system|]' ~ trimmed ~ '[|endofturn|]\n'",
        user: r"'[|user|]' ~ trimmed ~ '\n'",
        assistant: r"'[|assistant|]' ~ trimmed ~ '[|endofturn|]\n'",
        answer: "'[|assistant|]'",
    },
    BuiltinTemplate {
        name: "granite",
        start: "''",
        system: r"'<|start_of_role|>system<|end_of_role|>' ~ text ~ '<|end_of_text|>\n'",
        user: r"'<|start_of_role|>' ~ message.role ~ '<|end_of_role|>' ~ text ~ '<|end_of_text|>\n'",
        assistant: r"'<|start_of_role|>assistant<|end_of_role|>' ~ text ~ '<|end_of_text|>\n'",
        answer: "'<|start_of_role|>assistant<|end_of_role|>'",
    },
    BuiltinTemplate {
        name: "megrez",
        start: "''",
        system: "'<|role_start|>system<|role_end|>' ~ text ~ '<|turn_end|>'",
        user: "'<|role_start|>' ~ message.role ~ '<|role_end|>' ~ text ~ '<|turn_end|>'",
        assistant: "'<|role_start|>assistant<|role_end|>' ~ text ~ '<|turn_end|>'",
        answer: "'<|role_start|>assistant<|role_end|>'",
    },
    BuiltinTemplate {
        name: "kimi-k2",
        start: "''",
        system: "'<|im_system|>system<|im_middle|>' ~ text ~ '<|im_end|>'",
        user: "'<|im_user|>' ~ message.role ~ '<|im_middle|>' ~ text ~ '<|im_end|>'",
        assistant: "'<|im_assistant|>assistant<|im_middle|>' ~ text ~ '<|im_end|>'",
        answer: "'<|im_assistant|>assistant<|im_middle|>'",
    },
    BuiltinTemplate {
        name: "rwkv-world",
        start: "''",
        system: r"'System: ' ~ trimmed ~ '\n\n'",
        user: r"'User: ' ~ trimmed ~ '\n\n'",
        assistant: r"'Assistant: ' ~ trimmed ~ '\n\n'",
        answer: "'Assistant:'",
    },
];
