//! Templates rendered by transformers and by this crate; see
//! `data/templates/README.md`.

use std::time::Duration;

use realm_tokenizer::{ChatTemplate, Error};
use serde_json::{Map, Value};

/// More than any of them takes.
const TIME: Duration = Duration::from_secs(10);
const EXPECTED: &str = include_str!("data/templates/expected.json");
const CONVERSATIONS: &str = include_str!("data/templates/conversations.json");
const TEMPLATES: &[(&str, &str)] = &[
    ("listing.jinja", include_str!("data/templates/listing.jinja")),
    ("parameters.jinja", include_str!("data/templates/parameters.jinja")),
    ("reasoning.jinja", include_str!("data/templates/reasoning.jinja")),
    ("tools.jinja", include_str!("data/templates/tools.jinja")),
    ("turns.jinja", include_str!("data/templates/turns.jinja")),
];

fn json(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).expect("the data is JSON")
}

fn render(source: &str, case: &Value) -> Result<String, Box<Error>> {
    let mut variables = case["variables"].as_object().cloned().unwrap_or_default();
    if let Some(documents) = case.get("documents") {
        variables.insert("documents".into(), documents.clone());
    }
    let add_generation_prompt = case["add_generation_prompt"] == true;
    ChatTemplate::new(source)?.render(
        &case["messages"],
        case.get("tools"),
        &variables,
        add_generation_prompt,
        TIME,
    )
}

/// What is wrong with the result for `source`, if anything is.
fn difference(source: &str, case: &Value, want: &Value) -> Option<String> {
    match (render(source, case), want["text"].as_str(), want["error"].as_str()) {
        (Ok(text), Some(want), _) if text == want => None,
        (Ok(text), want, error) => Some(format!("{text:?}\n  not {want:?}{error:?}")),
        (Err(error), Some(want), _) => Some(format!("{error}\n  not {want:?}")),
        (Err(error), None, Some(want)) => match (want.strip_prefix("TemplateError: "), &*error) {
            (raised, Error::TemplateRaised { message }) => {
                (raised != Some(message)).then(|| format!("{message}\n  not {want}"))
            }
            (raised, _) => raised.map(|_| format!("{error}\n  not {want}")),
        },
        (Err(error), None, None) => Some(format!("{error}, and nothing is expected")),
    }
}

#[test]
fn expressions_mean_what_they_mean_in_transformers() {
    let (expected, conversations) = (json(EXPECTED), json(CONVERSATIONS));
    let expressions = expected["expressions"].as_object().expect("expressions");
    assert!(expressions.len() > 200, "{}", expressions.len());
    let wrong: Vec<String> = expressions
        .iter()
        .filter_map(|(source, want)| {
            let wrong = difference(source, &conversations["expressions"], want)?;
            Some(format!("{source}: {wrong}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_last_message_is_continued_as_in_transformers() {
    let (expected, conversations) = (json(EXPECTED), json(CONVERSATIONS));
    let mut n_compared = 0;
    for (file, source) in TEMPLATES {
        for (name, want) in expected["continued"][*file].as_object().expect("conversations") {
            let case = &conversations[name];
            let template = ChatTemplate::new(source).expect("it compiles");
            let variables = case["variables"].as_object().expect("variables");
            let got =
                template.render_continued(&case["messages"], case.get("tools"), variables, TIME);
            match want["text"].as_str() {
                Some(want) => assert_eq!(got.unwrap(), want, "{file} {name}"),
                None => assert!(got.is_err(), "{file} {name}: {want}"),
            }
            n_compared += 1;
        }
    }
    assert!(n_compared >= 20, "{n_compared}");
}

#[test]
fn whole_templates_render_as_in_transformers() {
    let (expected, conversations) = (json(EXPECTED), json(CONVERSATIONS));
    let expected = expected["templates"].as_object().expect("templates");
    assert_eq!(expected.len(), TEMPLATES.len());
    let mut wrong = Vec::new();
    for (file, source) in TEMPLATES {
        for (name, case) in &conversations {
            let difference = difference(source, case, &expected[*file][name]);
            wrong.extend(difference.map(|what| format!("{file} {name}: {what}")));
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}
