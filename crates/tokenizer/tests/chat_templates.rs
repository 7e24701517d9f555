//! The conformance kit's chat templates, rendered as transformers renders them.

use realm_testkit::kit;
use realm_tokenizer::{ChatTemplate, Error};
use serde_json::{Value, json};

fn render(case: &Value) -> Result<String, Error> {
    let file = format!("chat-templates/{}", case["template"].as_str().unwrap());
    let source = String::from_utf8(kit::read_maybe_gz(&file)).unwrap();
    let tools = Some(&case["tools"]).filter(|tools| !tools.is_null());
    ChatTemplate::new(&source)?.render(
        &case["messages"],
        tools,
        case["variables"].as_object().unwrap(),
        case["add_generation_prompt"].as_bool().unwrap(),
    )
}

#[test]
fn every_template_of_the_kit_renders_as_in_transformers() {
    let mut wrong = Vec::new();
    let cases = kit::json("chat-templates/cases.json");
    let listed = kit::cases("chat-template").len();
    let cases = cases["cases"].as_array().unwrap();
    assert_eq!(cases.len(), listed);
    for case in cases {
        let id = &case["id"];
        match (render(case), case.get("expected_error")) {
            (Ok(text), None) if case["expected"] == text.as_str() => {}
            (Ok(text), None) => wrong.push(format!("{id}: {text:?}\n  not {}", case["expected"])),
            (Ok(text), Some(error)) => wrong.push(format!("{id}: {text:?}\n  not {error}")),
            (Err(error), None) => wrong.push(format!("{id}: {error}")),
            (Err(error), Some(expected)) => {
                let expected = expected.as_str().unwrap();
                let raised = matches!(&error, Error::TemplateRaised { message }
                    if expected == format!("TemplateError: {message}"));
                if expected.starts_with("TemplateError") && !raised {
                    wrong.push(format!("{id}: {error}\n  not {expected}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn an_endless_template_is_an_error() {
    let source = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}\
                  {% endfor %}{% endfor %}{% endfor %}";
    let template = ChatTemplate::new(source).unwrap();
    let result = template.render(&json!([]), None, &Default::default(), false);
    assert!(matches!(result, Err(Error::Template { .. })), "{result:?}");
}

#[test]
fn endless_recursion_is_an_error() {
    let source = "{% macro again(x) %}{{ again(x) }}{% endmacro %}{{ again(1) }}";
    let template = ChatTemplate::new(source).unwrap();
    let result = template.render(&json!([]), None, &Default::default(), false);
    assert!(matches!(result, Err(Error::Template { .. })), "{result:?}");
}

#[test]
fn a_syntax_error_names_its_line() {
    let error = ChatTemplate::new("one\n{% for %}").err().unwrap().to_string();
    assert!(error.contains("line 2") || error.contains(":2"), "{error}");
}
