//! Conversations as prompts.

mod support;

use realm_engine::chat::{ChatArguments, render_chat_template};
use realm_engine::{Coded, ErrorCode, GenerateOptions, LoadOptions, Prompt};
use support::*;

fn arguments() -> ChatArguments {
    ChatArguments {
        messages: r#"[{"role": "user", "content": "Tell me a story."}]"#.into(),
        tools: None,
        variables: "{}".into(),
        add_generation_prompt: true,
        continue_final_message: false,
    }
}

fn chat(template: Option<&str>) -> Prompt {
    Prompt::Chat { template: template.map(str::to_owned), arguments: arguments() }
}

fn options() -> GenerateOptions {
    GenerateOptions { max_tokens: 8, echo: true, add_special: false, ..GenerateOptions::default() }
}

#[test]
fn a_conversation_is_answered_as_the_text_that_its_template_makes_of_it() {
    let (model, _) = load();
    for template in [None, Some("gemma"), Some("{{ messages[0].content }} Once")] {
        let text = model.apply_chat_template(template, &arguments()).unwrap();
        let answer = start(&model, chat(template), options()).end().unwrap();
        let same = start(&model, Prompt::Text(text.clone()), options()).end().unwrap();
        assert!(answer.text.starts_with(&text), "{}", answer.text);
        assert_eq!((answer.text, answer.tokens), (same.text, same.tokens));
    }
}

#[test]
fn the_template_of_the_load_takes_the_place_of_the_files() {
    let loaded = LoadOptions { chat_template: Some("chatml".into()), ..LoadOptions::default() };
    let model = load_with(&loaded, &[choice(Default::default())]).unwrap();
    let text = model.apply_chat_template(None, &arguments()).unwrap();
    let variables = r#"{"bos_token": "<|endoftext|>"}"#.to_owned();
    let alone = ChatArguments { variables, ..arguments() };
    assert!(text.ends_with(&render_chat_template("chatml", &arguments()).unwrap()), "{text}");
    assert!(render_chat_template("chatml", &alone).unwrap().starts_with("<|endoftext|>"));
    let answer = start(&model, chat(None), options()).end().unwrap();
    assert!(answer.text.starts_with(&text), "{}", answer.text);
}

#[test]
fn a_template_that_fails_ends_its_answer_alone() {
    let (model, _) = load();
    let story = start(&model, story(), options());
    let endless = "{% for i in range(99999) %}{% for j in range(99999) %}{% if i %}{% endif %}\
                   {% endfor %}{% endfor %}";
    for template in ["no-such", "{% if %}", "{{ raise_exception('no') }}", endless] {
        let error = start(&model, chat(Some(template)), options()).end().unwrap_err();
        assert_eq!(error.code(), ErrorCode::TemplateError, "{template}");
        let waited = model.apply_chat_template(Some(template), &arguments()).unwrap_err();
        assert_eq!(waited.code(), ErrorCode::TemplateError, "{template}");
    }
    assert_eq!(story.end().unwrap().tokens.len(), 8);
    let broken = ChatArguments { messages: "[".into(), ..arguments() };
    let prompt = Prompt::Chat { template: None, arguments: broken };
    let error = start(&model, prompt, options()).end().unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
}
