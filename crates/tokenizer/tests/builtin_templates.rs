//! The templates for models whose file brings none.

use std::time::Duration;

use realm_gguf::Gguf;
use realm_testkit::gguf_writer::{GgufWriter, KvValue};
use realm_testkit::kit;
use realm_tokenizer::{
    ChatTemplate, TemplateOrigin, Tokenizer, chat_template, chat_template_or_builtin,
};
use serde_json::{Map, Value, json};

/// More than any of them takes.
const TIME: Duration = Duration::from_secs(10);

fn render(name: &str, messages: &Value, variables: &Map<String, Value>, prompt: bool) -> String {
    let template = ChatTemplate::builtin(name).unwrap_or_else(|| panic!("no template {name}"));
    template
        .render(messages, None, variables, prompt, TIME)
        .unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// What each format makes of a short conversation, from its authors' description.
const CONVERSATION: &[(&str, &str)] = &[
    (
        "chatml",
        "<s><|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n\
         <|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n\
         <|im_start|>assistant\n",
    ),
    (
        "llama2",
        "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi [/INST] Hello </s><s>[INST] Bye [/INST]",
    ),
    (
        "llama3",
        "<s><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|>\
         <|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>\
         <|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    (
        "llama4",
        "<s><|header_start|>system<|header_end|>\n\nBe kind.<|eot|>\
         <|header_start|>user<|header_end|>\n\nHi<|eot|>\
         <|header_start|>assistant<|header_end|>\n\nHello<|eot|>\
         <|header_start|>user<|header_end|>\n\nBye<|eot|>\
         <|header_start|>assistant<|header_end|>\n\n",
    ),
    ("mistral-v1", "<s> [INST] Be kind.\n\nHi [/INST] Hello</s> [INST] Bye [/INST]"),
    ("mistral-v3", "<s>[INST] Be kind.\n\nHi[/INST] Hello</s>[INST] Bye[/INST]"),
    ("mistral-v3-tekken", "<s>[INST]Be kind.\n\nHi[/INST]Hello</s>[INST]Bye[/INST]"),
    (
        "mistral-v7",
        "<s>[SYSTEM_PROMPT] Be kind.[/SYSTEM_PROMPT][INST] Hi[/INST] Hello</s>[INST] Bye[/INST]",
    ),
    (
        "mistral-v7-tekken",
        "<s>[SYSTEM_PROMPT]Be kind.[/SYSTEM_PROMPT][INST]Hi[/INST]Hello</s>[INST]Bye[/INST]",
    ),
    (
        "gemma",
        "<s><start_of_turn>user\nBe kind.\n\nHi<end_of_turn>\n<start_of_turn>model\n\
         Hello<end_of_turn>\n<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n",
    ),
    (
        "gemma4",
        "<s><|turn>system\nBe kind.<turn|>\n<|turn>user\nHi<turn|>\n<|turn>model\nHello<turn|>\n\
         <|turn>user\nBye<turn|>\n<|turn>model\n<|channel>thought\n<channel|>",
    ),
    (
        "phi3",
        "<s><|system|>\nBe kind.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\nHello<|end|>\n\
         <|user|>\nBye<|end|>\n<|assistant|>\n",
    ),
    (
        "phi4",
        "<s><|im_start|>system<|im_sep|>Be kind.<|im_end|><|im_start|>user<|im_sep|>Hi<|im_end|>\
         <|im_start|>assistant<|im_sep|>Hello<|im_end|><|im_start|>user<|im_sep|>Bye<|im_end|>\
         <|im_start|>assistant<|im_sep|>",
    ),
    (
        "zephyr",
        "<s><|system|>\nBe kind.<end>\n<|user|>\nHi<end>\n<|assistant|>\nHello<end>\n\
         <|user|>\nBye<end>\n<|assistant|>\n",
    ),
    (
        "falcon3",
        "<s><|system|>\nBe kind.\n<|user|>\nHi\n<|assistant|>\nHello\n<|user|>\nBye\n\
         <|assistant|>\n",
    ),
    ("vicuna", "<s>Be kind. USER: Hi ASSISTANT: Hello</s>USER: Bye ASSISTANT:"),
    ("vicuna-orca", "<s>SYSTEM: Be kind.\nUSER: Hi\nASSISTANT: Hello</s>\nUSER: Bye\nASSISTANT:"),
    (
        "alpaca",
        "<s>Be kind.\n\n### Instruction:\nHi\n\n### Response:\nHello</s>### Instruction:\nBye\n\n\
         ### Response:\n",
    ),
    (
        "openchat",
        "<s>Be kind.<|end_of_turn|>GPT4 Correct User: Hi<|end_of_turn|>\
         GPT4 Correct Assistant: Hello<|end_of_turn|>GPT4 Correct User: Bye<|end_of_turn|>\
         GPT4 Correct Assistant:",
    ),
    ("orion", "<s>Human: Be kind.\n\nHi\n\nAssistant: </s>Hello</s>Human: Bye\n\nAssistant: </s>"),
    (
        "deepseek",
        "<s>Be kind.### Instruction:\nHi\n### Response:\nHello\n<|EOT|>\n### Instruction:\nBye\n\
         ### Response:\n",
    ),
    (
        "deepseek2",
        "<s>Be kind.\n\nUser: Hi\n\nAssistant: Hello<｜end▁of▁sentence｜>User: Bye\n\nAssistant:",
    ),
    (
        "deepseek3",
        "<s>Be kind.<｜User｜>Hi<｜Assistant｜>Hello<｜end▁of▁sentence｜><｜User｜>Bye<｜Assistant｜>",
    ),
    (
        "command-r",
        "<s><|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>Be kind.<|END_OF_TURN_TOKEN|>\
         <|START_OF_TURN_TOKEN|><|USER_TOKEN|>Hi<|END_OF_TURN_TOKEN|>\
         <|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>Hello<|END_OF_TURN_TOKEN|>\
         <|START_OF_TURN_TOKEN|><|USER_TOKEN|>Bye<|END_OF_TURN_TOKEN|>\
         <|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
    ),
    (
        "chatglm3",
        "<s>[gMASK]sop<|system|>\n Be kind.<|user|>\n Hi<|assistant|>\n Hello<|user|>\n Bye\
         <|assistant|>",
    ),
    (
        "chatglm4",
        "<s>[gMASK]<sop><|system|>\nBe kind.<|user|>\nHi<|assistant|>\nHello<|user|>\nBye\
         <|assistant|>\n",
    ),
    ("minicpm", "<s>Be kind.<用户>Hi<AI>Hello<用户>Bye<AI>"),
    (
        "exaone3",
        "<s>[|system|]Be kind.[|endofturn|]\n[|user|]Hi\n[|assistant|]Hello[|endofturn|]\n\
         [|user|]Bye\n[|assistant|]",
    ),
    (
        "granite",
        "<s><|start_of_role|>system<|end_of_role|>Be kind.<|end_of_text|>\n\
         <|start_of_role|>user<|end_of_role|>Hi<|end_of_text|>\n\
         <|start_of_role|>assistant<|end_of_role|>Hello<|end_of_text|>\n\
         <|start_of_role|>user<|end_of_role|>Bye<|end_of_text|>\n\
         <|start_of_role|>assistant<|end_of_role|>",
    ),
    (
        "megrez",
        "<s><|role_start|>system<|role_end|>Be kind.<|turn_end|>\
         <|role_start|>user<|role_end|>Hi<|turn_end|><|role_start|>assistant<|role_end|>Hello\
         <|turn_end|><|role_start|>user<|role_end|>Bye<|turn_end|>\
         <|role_start|>assistant<|role_end|>",
    ),
    (
        "kimi-k2",
        "<s><|im_system|>system<|im_middle|>Be kind.<|im_end|><|im_user|>user<|im_middle|>Hi\
         <|im_end|><|im_assistant|>assistant<|im_middle|>Hello<|im_end|>\
         <|im_user|>user<|im_middle|>Bye<|im_end|><|im_assistant|>assistant<|im_middle|>",
    ),
    (
        "rwkv-world",
        "<s>System: Be kind.\n\nUser: Hi\n\nAssistant: Hello\n\nUser: Bye\n\nAssistant:",
    ),
];

#[test]
fn every_builtin_template_writes_its_authors_format() {
    let messages = json!([
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Bye"},
    ]);
    let variables = json!({"bos_token": "<s>", "eos_token": "<end>"});
    for name in ChatTemplate::builtin_names() {
        let expected = CONVERSATION.iter().find(|(known, _)| *known == name);
        let (_, expected) = expected.unwrap_or_else(|| panic!("{name} is not tested"));
        assert_eq!(
            render(name, &messages, variables.as_object().unwrap(), true),
            *expected,
            "{name}"
        );
    }
    assert_eq!(ChatTemplate::builtin_names().count(), CONVERSATION.len());
}

/// The authors' own templates, rendered by transformers, where they say the same.
#[test]
fn builtin_templates_write_what_the_authors_templates_write() {
    let mut n_compared = 0;
    for case in kit::json("chat-templates/cases.json")["cases"].as_array().unwrap() {
        let (name, begins) = match case["template"].as_str().unwrap() {
            "google-gemma-2-2b-it.jinja" => ("gemma", true),
            "gguf-gemma-4.jinja" => ("gemma4", true),
            "microsoft-Phi-3.5-mini-instruct.jinja" => ("phi3", false),
            "mistralai-Mistral-Nemo-Instruct-2407.jinja" => ("mistral-v3-tekken", true),
            "LFM2-8B-A1B.jinja" => ("chatml", true),
            _ => continue,
        };
        let prompt = case["add_generation_prompt"].as_bool().unwrap();
        // Phi-3.5 ends a text without a prompt with one more token.
        let differs = !case["tools"].is_null() || name == "phi3" && !prompt;
        if differs || case.get("expected_error").is_some() {
            continue;
        }
        let mut variables = case["variables"].as_object().unwrap().clone();
        variables.insert("add_bos_token".into(), begins.into());
        let text = render(name, &case["messages"], &variables, prompt);
        assert_eq!(text, case["expected"].as_str().unwrap(), "{name}, {}", case["id"]);
        n_compared += 1;
    }
    assert_eq!(n_compared, 18);
}

/// As `llm_chat_apply_template` of llama.cpp (`src/llama-chat.cpp`) writes them.
#[test]
fn every_message_of_a_user_has_its_header() {
    let message = |role: &str, text: &str| json!({"role": role, "content": text});
    let two_users = [message("user", "U1"), message("user", "U2")];
    let with_system = [
        message("system", "S1"),
        message("user", "U1"),
        message("tool", "T"),
        message("user", "U2"),
    ];
    let cases: [(&str, &[Value], &str); 6] = [
        (
            "gemma",
            &two_users,
            "<start_of_turn>user\nU1<end_of_turn>\n<start_of_turn>user\nU2<end_of_turn>\n\
             <start_of_turn>model\n",
        ),
        (
            "gemma",
            &with_system,
            "<start_of_turn>user\nS1\n\nU1<end_of_turn>\n<start_of_turn>user\nT<end_of_turn>\n\
             <start_of_turn>user\nU2<end_of_turn>\n<start_of_turn>model\n",
        ),
        ("orion", &two_users, "Human: U1\n\nAssistant: </s>Human: U2\n\nAssistant: </s>"),
        (
            "orion",
            &with_system,
            "Human: S1\n\nU1\n\nAssistant: </s>Human: T\n\nAssistant: </s>Human: U2\n\n\
             Assistant: </s>",
        ),
        // Here one header stands for all until the answer.
        ("llama2", &two_users, "[INST] U1 [/INST]U2 [/INST]"),
        ("mistral-v3", &two_users, "[INST] U1[/INST]U2[/INST]"),
    ];
    for (name, messages, expected) in cases {
        assert_eq!(render(name, &json!(messages), &Map::new(), true), expected, "{name}");
    }
}

#[test]
fn a_turn_that_only_the_system_has_spoken_in_is_closed() {
    let system = json!({"role": "system", "content": "S"});
    let answer = json!({"role": "assistant", "content": "A"});
    for (name, messages, expected) in [
        (
            "gemma",
            json!([system, answer]),
            "<start_of_turn>user\nS\n\n<end_of_turn>\n<start_of_turn>model\nA<end_of_turn>\n",
        ),
        ("orion", json!([system, answer]), "Human: S\n\nAssistant: </s>A</s>"),
    ] {
        assert_eq!(render(name, &messages, &Map::new(), false), expected);
    }
    for (name, expected) in [
        ("gemma", "<start_of_turn>user\nS\n\nS\n\n<end_of_turn>\n<start_of_turn>model\n"),
        ("orion", "Human: S\n\nS\n\nAssistant: </s>"),
    ] {
        assert_eq!(render(name, &json!([system, system]), &Map::new(), true), expected);
    }
}

#[test]
fn texts_in_parts_are_lines_of_one_text_whoever_says_them() {
    let conversation = |content: &dyn Fn(&str) -> Value| {
        let messages = ["system", "user", "assistant", "tool", "user"];
        json!(messages.map(|role| json!({"role": role, "content": content(role)})))
    };
    let parts = conversation(
        &|role| json!([{"type": "text", "text": format!("{role} 1")}, {"type": "text", "text": "two"}]),
    );
    let whole = conversation(&|role| json!(format!("{role} 1\ntwo")));
    let empty = [conversation(&|_| json!([])), conversation(&|_| json!(""))];
    for name in ChatTemplate::builtin_names() {
        let text = |messages: &Value| render(name, messages, &Map::new(), true);
        assert_eq!(text(&parts), text(&whole), "{name}");
        assert!(text(&parts).contains("system 1\ntwo"), "{name}");
        assert_eq!(text(&empty[0]), text(&empty[1]), "{name}");
    }
    let template = ChatTemplate::builtin("chatml").unwrap();
    let messages = json!([{"role": "assistant", "content": [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]}]);
    let text = template.render_continued(&messages, None, &Map::new(), TIME).unwrap();
    assert_eq!(text, "<|im_start|>assistant\nA\nB");
}

#[test]
fn parts_that_are_no_text_are_refused_by_name() {
    let cases = [
        (json!({"type": "image_url", "image_url": {"url": "x"}}), "\"image_url\""),
        (json!({"type": "text"}), "\"text\""),
        (json!({"type": "text", "text": 4}), "\"text\""),
        (json!({"text": "A"}), "null"),
        (json!("A"), "null"),
        (json!(null), "null"),
    ];
    for name in ChatTemplate::builtin_names() {
        for role in ["system", "user", "assistant", "tool"] {
            for (part, ty) in &cases {
                let content = json!([{"type": "text", "text": "A"}, part]);
                let messages = json!([{"role": role, "content": content}]);
                let template = ChatTemplate::builtin(name).unwrap();
                let error = template.render(&messages, None, &Map::new(), true, TIME).unwrap_err();
                let message = error.to_string();
                let found = format!(
                    "a {role} message has a content part of type {ty}, which the built-in \
                     template {name} does not know"
                );
                assert!(message.contains(&found), "{message}");
            }
        }
    }
}

#[test]
fn messages_without_a_text_and_conversations_without_a_message_are_rendered() {
    let variables = Map::new();
    for name in ChatTemplate::builtin_names() {
        let messages = json!([
            {"role": "assistant", "content": null, "tool_calls": []},
            {"role": "tool", "content": "4"},
        ]);
        let text = render(name, &messages, &variables, true);
        assert!(text.contains('4') && !text.contains("one"), "{name}: {text}");
        render(name, &json!([]), &variables, true);
    }
}

fn model(tokens: &[&str], template: Option<&str>) -> (Gguf, Tokenizer) {
    let mut writer = GgufWriter::new();
    let mut texts = vec!["<unk>", "<s>", "</s>", "a"];
    texts.extend(tokens);
    writer.kv("tokenizer.ggml.model", "llama").kv("tokenizer.ggml.tokens", KvValue::from(&*texts));
    if let Some(template) = template {
        writer.kv("tokenizer.chat_template", template);
    }
    let gguf = Gguf::from_bytes(writer.to_bytes()).unwrap();
    let tokenizer = Tokenizer::from_metadata(gguf.metadata()).unwrap();
    (gguf, tokenizer)
}

#[test]
fn the_vocabulary_tells_which_builtin_template_fits() {
    for (tokens, name) in [
        (&["<|im_start|>", "<|im_end|>"][..], "chatml"),
        (&["<|im_start|>", "<|im_sep|>", "<|im_end|>"], "phi4"),
        (&["<|start_header_id|>", "<|end_header_id|>"], "llama3"),
        (&["<start_of_turn>", "<end_of_turn>"], "gemma"),
        (&["[INST]", "[/INST]", "▁"], "mistral-v3"),
        (&["[INST]", "[/INST]"], "mistral-v3-tekken"),
        (&["[INST]", "[/INST]", "[SYSTEM_PROMPT]", "▁"], "mistral-v7"),
        (&["<|user|>", "<|assistant|>", "<|end|>"], "phi3"),
        (&["<｜User｜>", "<｜Assistant｜>"], "deepseek3"),
    ] {
        let (gguf, tokenizer) = model(tokens, None);
        let (template, origin) =
            chat_template_or_builtin(gguf.metadata(), &tokenizer, false).unwrap().unwrap();
        assert_eq!(origin, TemplateOrigin::Guessed(name));
        let variables = ChatTemplate::token_variables(&tokenizer);
        let messages = json!([{"role": "user", "content": "Hi"}]);
        assert_eq!(
            template.render(&messages, None, &variables, true, TIME).unwrap(),
            render(name, &messages, &variables, true)
        );
    }
}

#[test]
fn a_vocabulary_that_tells_nothing_has_no_template() {
    let (gguf, tokenizer) = model(&["b"], None);
    assert!(chat_template_or_builtin(gguf.metadata(), &tokenizer, true).unwrap().is_none());
}

#[test]
fn the_template_of_the_file_goes_first() {
    let (gguf, tokenizer) = model(&["<|im_start|>"], Some("{{ messages | length }}"));
    let (template, origin) =
        chat_template_or_builtin(gguf.metadata(), &tokenizer, false).unwrap().unwrap();
    assert_eq!(origin, TemplateOrigin::File);
    assert_eq!(template.render(&json!([]), None, &Map::new(), true, TIME).unwrap(), "0");
}

#[test]
fn an_empty_template_is_none() {
    let (gguf, tokenizer) = model(&["<|im_start|>"], Some(""));
    assert!(chat_template(gguf.metadata(), false).unwrap().is_none());
    let (_, origin) =
        chat_template_or_builtin(gguf.metadata(), &tokenizer, false).unwrap().unwrap();
    assert_eq!(origin, TemplateOrigin::Guessed("chatml"));
    let mut writer = GgufWriter::new();
    writer.kv("tokenizer.chat_template", "own").kv("tokenizer.chat_template.tool_use", "");
    let gguf = Gguf::from_bytes(writer.to_bytes()).unwrap();
    let template = chat_template(gguf.metadata(), true).unwrap().unwrap();
    assert_eq!(template.render(&json!([]), None, &Map::new(), true, TIME).unwrap(), "own");
}

#[test]
fn templates_that_read_tools_are_told_from_those_that_do_not() {
    let reads = |source: &str| ChatTemplate::new(source).unwrap().reads_tools();
    assert!(reads("{{ tools }}"));
    assert!(reads("{% if tools is defined and tools %}T{% endif %}"));
    assert!(reads(
        "{% macro list() %}{% for tool in tools %}{{ tool.name }}{% endfor %}{% endmacro %}"
    ));
    assert!(!reads("{{ messages[0].content }}"));
    assert!(!reads("tools {{ 'tools' ~ messages[0].tools }}"));
    for name in ChatTemplate::builtin_names() {
        assert!(!ChatTemplate::builtin(name).unwrap().reads_tools(), "{name}");
    }
}

#[test]
fn with_tools_the_template_named_tool_use_goes_first() {
    let (gguf, _) = model(&[], Some("plain"));
    let mut writer = GgufWriter::new();
    writer
        .kv("tokenizer.chat_template", "{{ 'plain' }}")
        .kv("tokenizer.chat_template.tool_use", "{{ 'with ' ~ tools | length }}");
    let several = Gguf::from_bytes(writer.to_bytes()).unwrap();
    let tools = json!([{"name": "f"}]);
    let text = |gguf: &Gguf, tools: Option<&Value>| {
        let template = chat_template(gguf.metadata(), tools.is_some()).unwrap().unwrap();
        template.render(&json!([]), tools, &Map::new(), false, TIME).unwrap()
    };
    assert_eq!(text(&several, None), "plain");
    assert_eq!(text(&several, Some(&tools)), "with 1");
    assert_eq!(text(&gguf, Some(&tools)), "plain");
}

#[test]
fn a_template_is_given_by_its_name_or_as_jinja() {
    assert!(ChatTemplate::named_or_new("chatml").is_ok());
    assert!(ChatTemplate::named_or_new("{{ messages | length }}").is_ok());
    let error = ChatTemplate::named_or_new("chat-ml").err().unwrap().to_string();
    assert!(error.contains("\"chat-ml\"") && error.contains("chatml, llama2"), "{error}");
}

#[test]
fn a_file_may_name_a_builtin_template() {
    let (gguf, tokenizer) = model(&["<|im_start|>"], Some("rwkv-world"));
    let (_, origin) =
        chat_template_or_builtin(gguf.metadata(), &tokenizer, false).unwrap().unwrap();
    assert_eq!(origin, TemplateOrigin::Named("rwkv-world"));
}

#[test]
fn a_model_that_does_not_begin_with_a_token_gets_none() {
    let variables = json!({"bos_token": "<s>", "add_bos_token": false});
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let text = render("chatml", &messages, variables.as_object().unwrap(), false);
    assert_eq!(text, "<|im_start|>user\nHi<|im_end|>\n");
}
