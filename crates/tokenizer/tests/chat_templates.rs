//! The conformance kit's chat templates, rendered as transformers renders them.

use std::time::Duration;

use realm_testkit::kit;
use realm_tokenizer::{ChatTemplate, Error};
use serde_json::{Map, Value, json};

/// More than a template needs.
const TIME: Duration = Duration::from_secs(10);

fn render(case: &Value) -> Result<String, Box<Error>> {
    let file = format!("chat-templates/{}", case["template"].as_str().unwrap());
    let source = String::from_utf8(kit::read_maybe_gz(&file)).unwrap();
    let tools = Some(&case["tools"]).filter(|tools| !tools.is_null());
    ChatTemplate::new(&source)?.render(
        &case["messages"],
        tools,
        case["variables"].as_object().unwrap(),
        case["add_generation_prompt"].as_bool().unwrap(),
        TIME,
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
                let raised = matches!(&*error, Error::TemplateRaised { message }
                    if expected == format!("TemplateError: {message}"));
                if expected.starts_with("TemplateError") && !raised {
                    wrong.push(format!("{id}: {error}\n  not {expected}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

fn render_alone(source: &str) -> Result<String, Box<Error>> {
    ChatTemplate::new(source)?.render(&json!([]), None, &Default::default(), false, TIME)
}

#[track_caller]
fn assert_stopped(source: &str) {
    let result = render_alone(source);
    let start: String = source.chars().take(200).collect();
    let is_stopped = result
        .as_ref()
        .is_err_and(|e| matches!(**e, Error::Template { .. } | Error::TemplateTooSlow { .. }));
    assert!(is_stopped, "{start}: {:?}", result.map(|t| t.len()));
}

#[test]
fn endless_loops_and_recursion_are_errors() {
    assert_stopped(
        "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}\
         {% endfor %}{% endfor %}{% endfor %}",
    );
    assert_stopped("{% macro again(x) %}{{ again(x) }}{% endmacro %}{{ again(1) }}");
}

#[test]
fn texts_without_end_are_errors() {
    for double in [
        "{% set n.s = n.s ~ n.s %}",
        "{% set n.s = n.s + n.s %}",
        "{% set n.s = n.s * 2 %}",
        "{% set n.s = 2 * n.s %}",
        "{% set n.s = n.s.replace('a', 'aa') %}",
        "{% set n.s = n.s | replace('a', n.s) %}",
        "{% set n.s = [n.s, n.s] | join(n.s) %}",
        "{% set n.s = n.s.join([n.s, n.s]) %}",
        "{% set n.s = '%s%s' | format(n.s, n.s) %}",
        "{% set n.s = '{}{}'.format(n.s, n.s) %}",
        "{% set n.s = [n.s, n.s] | tojson %}",
        "{% set n.s = [n.s, n.s] | string %}",
        "{% set n.s = (n.s ~ '\n') | indent(100000000) %}",
        "{% set n.s = (n.s ~ '\n') | indent(width=100000000) %}",
        "{% set s %}{{ n.s }}{{ n.s }}{% endset %}{% set n.s = s %}",
        "{% for i in range(9999) %}{{ n.s }}{% endfor %}{% set n.s = n.s ~ n.s %}",
    ] {
        assert_stopped(&format!(
            "{{% set n = namespace(s='aaaa') %}}{{% for i in range(99) %}}{double}{{% endfor %}}"
        ));
    }
    let long = "x".repeat(100_000);
    assert_stopped(&format!("{{% for i in range(99999) %}}{long}{{% endfor %}}"));
    assert_stopped("{% macro m(s) %}{{ m(s ~ s) }}{% endmacro %}{{ m('aaaaaaaa') }}");
    assert_stopped("{{ 'a' * 100000000 }}");
    assert_stopped("{{ ('a' * 10000) * 10000 }}");
    assert_stopped("{% set n = 100000000 %}{{ 'a' * n }}");
    assert_stopped("{{ '%100000000d' | format(1) }}");
    assert_stopped("{{ '{:>100000000}'.format(1) }}");
}

/// A loop of 10^7 rounds.
fn for_ever(body: &str) -> String {
    format!(
        "{{% for i in range(99999) %}}{{% for j in range(99) %}}{body}{{% endfor %}}{{% endfor %}}"
    )
}

#[test]
fn a_template_that_takes_longer_than_it_may_is_told_so() {
    let long = "{% set a = 'a' * 10000 %}{% set a = a * 1000 %}{% set b = a ~ 'b' %}\
                {% set l = a[:100000] | list %}";
    for body in [
        "{% set z = 1 %}",
        "{% if a ~ 'c' == b %}{% endif %}",
        "{% if a in b %}{% endif %}",
        "{% if 1 == 1 == b == a %}{% endif %}",
        "{% if a is in(b) %}{% endif %}",
        "{% if loop.changed(a) %}{% endif %}",
        "{% if l == l %}{% endif %}",
        "{% if b.endswith('c') or b.find('c') > 0 %}{% endif %}",
        "{% for x in l %}{% break %}{% endfor %}",
    ] {
        let template = ChatTemplate::new(&format!("{long}{}", for_ever(body))).unwrap();
        let time = Duration::from_millis(50);
        let error = template.render(&json!([]), None, &Map::new(), false, time).unwrap_err();
        let steps = "the template takes more than 3000000 steps";
        let error = error.to_string();
        assert!(
            error.contains("longer than the 50 ms") || error.contains(steps),
            "{body}: {error}"
        );
    }
}

/// A text of 6 MB takes more than 2 ms to go through, so nothing that does so is begun.
#[test]
fn what_would_take_longer_than_is_left_is_not_begun() {
    let variables = json!({ "x": "ab".repeat(3_000_000), "l": vec!["a"; 100_000] });
    let variables = variables.as_object().unwrap();
    for expression in [
        "x == x",
        "x != 'b'",
        "x < x",
        "'c' in x",
        "'c' not in x",
        "1 < 2 == x",
        "x is eq(x)",
        "x is in(x)",
        "x is lower",
        "x ~ 'b'",
        "l ~ 'b'",
        "l + l",
        "l * 3",
        "'%s' % x",
        "'%s' % (l,)",
        "x[1:]",
        "x | upper",
        "x | trim",
        "x | replace('a', 'b')",
        "x | length",
        "x | indent",
        "x | string",
        "x | tojson",
        "x | escape",
        "x | wordcount",
        "x | int",
        "'%s' | format(x)",
        "'a' | default(x)",
        "['a'] | join(x)",
        "[x] | map('upper') | list",
        "[x, x] | select('eq', x) | list",
        "[x, x] | sort",
        "[x, x] | unique | list",
        "[x, x] | min",
        "{x: 1} | dictsort",
        "[{'k': x}] | groupby('k')",
        "l | sort",
        "l | tojson",
        "l | map(attribute='a' * 60) | list",
        "([[1], [2]] * 200) | sum(start=l)",
        "x.find('c')",
        "x.split('a')",
        "x.strip('ab')",
        "x.startswith('a')",
        "x.upper()",
        "'-'.join([x])",
        "'a'.replace('a', x)",
        "'{}'.format(x)",
    ] {
        let source = format!("{{% set ns = namespace(y={expression}) %}}done");
        let template = ChatTemplate::new(&source).unwrap();
        let run = |time| template.render(&json!([]), None, variables, false, time);
        let error = run(Duration::from_millis(2)).map_or_else(|e| e.to_string(), |_| "none".into());
        assert!(error.contains("longer than the 2 ms"), "{expression}: {error}");
        match run(TIME) {
            Ok(text) => assert_eq!(text, "done", "{expression}"),
            Err(error) => {
                let error = error.to_string();
                assert!(error.contains("more than"), "{expression}: {error}");
            }
        }
    }
}

/// Each of these would take gigabytes, or years, if it were done.
#[test]
fn large_results_of_small_arguments_are_errors() {
    let variables = json!({ "x": "a".repeat(15 << 20), "l": vec!["a"; 100_000], "many": 600_000 });
    for expression in [
        "l | map('replace', 'a', x) | list",
        "('{0}' * many).format(x)",
        "('%(a)s' * many) | format({'a': x})",
        "('{:>999}' * many).format(1)",
        "[1] | batch(100000000, 'x')",
        "[1] | slice(100000000)",
        "l | sum(start='')",
        "(l | list) * 7 | sum(start=[])",
        "(['a'] * many) | sort",
        "([x[:99999]] + l) | min",
        "x | list",
        "x.split('a')",
        "x.replace('a', '\n').splitlines()",
        "l | map('center', 999) | list",
    ] {
        let template = ChatTemplate::new(&format!("{{% set y = {expression} %}}")).unwrap();
        let variables = variables.as_object().unwrap();
        let time = Duration::from_millis(500);
        let error = template.render(&json!([]), None, variables, false, time).err();
        let is_stopped = error
            .as_ref()
            .is_some_and(|e| matches!(**e, Error::Template { .. } | Error::TemplateTooSlow { .. }));
        assert!(is_stopped, "{expression}: {error:?}");
    }
    assert_stopped(&"{{ 'a' * 9999999 }}".repeat(1000));
    assert_stopped(&"{{ 'a' * 99999 }}".repeat(1000));
}

#[test]
fn stripping_many_characters_takes_no_longer_than_stripping_few() {
    let variables = json!({ "x": "a".repeat(4 << 20), "chars": "b".repeat(4 << 20) + "a" });
    let template = ChatTemplate::new("{{ x.strip(chars) }}{{ x | trim(chars) }}.").unwrap();
    let variables = variables.as_object().unwrap();
    assert_eq!(template.render(&json!([]), None, variables, false, TIME).unwrap(), ".");
}

#[test]
fn what_the_engine_would_divide_by_zero_is_not() {
    assert_eq!(
        render_alone("{{ 6 is divisibleby(0) }}{{ 6 is divisibleby(3) }}").unwrap(),
        "FalseTrue"
    );
    assert_stopped("{% for i in [1] %}{{ loop.cycle() }}{% endfor %}");
    assert_eq!(
        render_alone("{% for i in [1, 2] %}{{ loop.cycle('a', 'b') }}{% endfor %}").unwrap(),
        "ab"
    );
    assert_eq!(
        render_alone("{% for i in [1, 1, 2] %}{{ loop.changed(i) }}{% endfor %}").unwrap(),
        "TrueFalseTrue"
    );
}

#[test]
fn lists_without_end_are_errors() {
    for grow in [
        "{% set n.x = [n.x] %}",
        "{% set n.x = {'x': n.x} %}",
        "{% set n.x = (n.x,) %}",
        "{% set n.x = [n.x, n.x] %}",
        "{% set n.x = n.x + n.x + [1] %}",
        "{% set n.x = (n.x + [1]) * 2 %}",
        "{% set n.x = n.x | batch(1) | list %}",
        "{% set n.x = n %}",
        "{% set n.x = [n] %}",
        "{% set n.x = namespace(x=n) %}",
        "{% set n.x = dict(x=n.x) %}",
    ] {
        assert_stopped(&format!(
            "{{% set n = namespace(x=[1]) %}}{{% for i in range(99999) %}}{grow}{{% endfor %}}{{{{ n }}}}"
        ));
    }
}

#[test]
fn sources_no_compiler_should_see_are_errors() {
    for source in [
        format!("{{{{ {}1 }}}}", "x+".repeat(100_000)),
        format!("{{{{ {}1 }}}}", "x+".repeat(10_000)),
        format!("{{{{ {}1{} }}}}", "(".repeat(10_000), ")".repeat(10_000)),
        format!("{{{{ x{} }}}}", ".x".repeat(10_000)),
        format!("{{{{ x{} }}}}", "|list".repeat(10_000)),
        format!("{{{{ {} x }}}}", "not ".repeat(10_000)),
        format!("{{% if x %}}{}{{% endif %}}", "{% elif x %}".repeat(10_000)),
        "{% if x %}".repeat(10_000),
        format!("{{{{ {}1 }}}}", "x+".repeat(990)).repeat(130),
        "{".repeat(300_000),
    ] {
        assert_stopped(&source);
    }
}

#[test]
fn what_templates_usually_compute_is_not_stopped() {
    for (source, want) in [
        ("{{ '=' * 80 }}", "=".repeat(80)),
        ("{{ 3 * 4 }} {{ 1.5 * 2 }} {{ [1] * 2 }} {{ 2 * 'ab' }}", "12 3.0 [1, 1] abab".into()),
        (
            "{{ [none, true, 'a', \"b'\", 1.0, {'k': 'v'}, ()] }}",
            "[None, True, 'a', \"b'\", 1.0, {'k': 'v'}, ()]".into(),
        ),
        ("{{ ['a', 1] | pprint }}{{ 'a' | pprint }}", "['a', 1]'a'".into()),
        ("{{ none }}{{ false }}{{ undefined_name }}", "NoneFalse".into()),
        ("{% for x in undefined_name %}{{ x }}{% else %}none{% endfor %}", "none".into()),
        (
            "{% set n = namespace(a=[]) %}{% for i in range(3) %}{% set n.a = n.a + [i] %}{% endfor %}\
          {{ n.a | join(',') }}",
            "0,1,2".into(),
        ),
        (
            "{%- macro m(a, b=2) -%}{% if a %}{{ a }}{{ b }}{{ m(a - 1) }}{% endif %}{%- endmacro -%}\
          {{ m(2) }}",
            "2212".into(),
        ),
        (
            "{% for x in [1, 2, 3] if x != 2 %}{{ loop.index }}{{ x }}{% if loop.last %}{% break %}\
          {% endif %}{% endfor %}",
            "1123".into(),
        ),
        (
            "{{ 'a-b' | replace('-', '+') }}{{ 'A'.lower() }}{{ ' x '.strip() }}{{ 'a,b'.split(',')[1] }}",
            "a+baxb".into(),
        ),
        ("{{ 'a\nb' | indent(2) }}", "a\n  b".into()),
        ("{{ '%s-%02d' | format('a', 5) }}", "a-05".into()),
        (
            "{{ {'b': 1, 'a': [1.5, none, 'é']} | tojson }}",
            "{\"b\": 1, \"a\": [1.5, null, \"é\"]}".into(),
        ),
        ("{% for k, v in {'a': 1}.items() %}{{ k }}={{ v }}{% endfor %}", "a=1".into()),
        (
            "{{ 'x' if false else 'y' }}{{ [1,2,3][::-1] | list }}{{ 'abc'[1:] }}",
            "y[3, 2, 1]bc".into(),
        ),
        ("a\n", "a".into()),
        ("a\n\n", "a\n".into()),
        ("{% if true %}\n  x\n  {% endif %}\ny", "  x\ny".into()),
    ] {
        match render_alone(source) {
            Ok(text) => assert_eq!(text, want, "{source}"),
            Err(error) => panic!("{source}: {error}"),
        }
    }
}

#[test]
fn json_is_written_as_python_writes_it() {
    // From Python 3.12: json.dumps(value, ensure_ascii=..., sort_keys=..., indent=...).
    for (expression, want) in [
        (r#"{1: 'a', 1.5: 'b', none: 'd'} | tojson"#, { r#"{"1": "a", "1.5": "b", "null": "d"}"# }),
        (r#"'\"\\\n\t/\x7f\u2028<>&' | tojson"#, "\"\\\"\\\\\\n\\t/\x7f\u{2028}<>&\""),
        (r#"'\x7fé😀' | tojson(ensure_ascii=true)"#, r#""\u007f\u00e9\ud83d\ude00""#),
        (r#"'\x01\x08\x0c' | tojson"#, r#""\u0001\b\f""#),
        ("[1e400, -1e400, 1e16, 12345678901234567890123] | tojson", {
            "[Infinity, -Infinity, 1e+16, 12345678901234567890123]"
        }),
        (
            "{'b': [], 'a': {}} | tojson(sort_keys=true, indent=2)",
            "{\n  \"a\": {},\n  \"b\": []\n}",
        ),
        ("[1, {'a': 2}] | tojson(indent='\t')", "[\n\t1,\n\t{\n\t\t\"a\": 2\n\t}\n]"),
        ("{true: 1} | tojson", "{\"true\": 1}"),
        ("[1, {'a': 2}] | tojson(separators=(',', ':'))", "[1,{\"a\":2}]"),
    ] {
        match render_alone(&format!("{{{{ {expression} }}}}")) {
            Ok(text) => assert_eq!(text, want, "{expression}"),
            Err(error) => panic!("{expression}: {error}"),
        }
    }
    for expression in ["nothing", "[nothing]", "{'a': nothing}", "joiner()"] {
        assert_stopped(&format!("{{{{ {expression} | tojson }}}}"));
    }
}

#[test]
fn blocks_are_rendered_where_they_stand() {
    for (source, want) in [
        ("a{% block b %}b{% endblock %}c", "abc"),
        ("{% set x = 1 %}{% block b scoped %}{% set x = 2 %}{{ x }}{% endblock b %}{{ x }}", "21"),
        ("a {%- block b -%} b {%- endblock -%} c", "abc"),
        ("{% generation %}{{ 'block' }}{% endgeneration %}", "block"),
        ("a {%- block b -%} b {%- endblock -%} c{{ self.b() }}", "abcb"),
        ("{% block b %}b\n{% endblock %}\nc{{ self.b() }}", "b\ncb\n"),
    ] {
        assert_eq!(render_alone(source).unwrap(), want, "{source}");
    }
}

#[test]
fn other_templates_are_errors() {
    for tag in ["include 'a'", "extends 'a'", "import 'a' as a", "from 'a' import b"] {
        assert_stopped(&format!("{{% {tag} %}}"));
    }
}

#[test]
fn a_long_conversation_is_rendered() {
    let source = kit::read_maybe_gz("chat-templates/gguf-gemma-4.jinja");
    let template = ChatTemplate::new(std::str::from_utf8(&source).unwrap()).unwrap();
    let messages: Vec<Value> = (0..4000)
        .map(|i| {
            let role = ["user", "assistant"][i % 2];
            json!({"role": role, "content": "word ".repeat(200)})
        })
        .collect();
    let text = template.render(&messages.into(), None, &Default::default(), true, TIME).unwrap();
    assert!(text.len() > 4000 * 1000 - 4000);
}

#[test]
fn an_error_names_its_line() {
    for source in ["one\n{% for %}", "one\n{{ none + 1 }}", "one\n{% for x in none %}{% endfor %}"]
    {
        let error = render_alone(source).err().unwrap().to_string();
        assert!(error.contains("line 2") || error.contains(":2"), "{error}");
    }
}

#[test]
fn the_words_of_a_template_are_cut_in_an_error() {
    for source in ["{{ raise_exception('é' * 100000) }}", "{{ 1 | no_such_filter_NAME }}"] {
        let source = source.replace("NAME", &"x".repeat(100_000));
        let error = render_alone(&source).unwrap_err().to_string();
        assert!(error.chars().count() < 1100 && error.ends_with('…'), "{} bytes", error.len());
    }
}
