//! Token ids and texts of the conformance kit, from llama.cpp.

use std::time::Duration;

use realm_gguf::Gguf;
use realm_testkit::kit;
use realm_tokenizer::{DecodeOptions, EncodeOptions, Tokenizer};
use serde_json::Value;

/// More than any template of the kit takes.
const TIME: Duration = Duration::from_secs(10);

fn tokenizer(file: &str) -> Tokenizer {
    let gguf = Gguf::from_bytes(kit::read_maybe_gz(file)).unwrap();
    Tokenizer::from_metadata(gguf.metadata()).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn hex(value: &Value) -> Vec<u8> {
    let digits = value.as_str().unwrap();
    (0..digits.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap())
        .collect()
}

/// `value`, unless it says "same" as `other`.
fn or_same<'a>(value: &'a Value, other: &'a Value) -> &'a Value {
    if value == "same" { other } else { value }
}

const PLAIN: EncodeOptions = EncodeOptions { add_special: false, parse_special: false };
const ADD_PARSE: EncodeOptions = EncodeOptions { add_special: true, parse_special: true };
const PARSE: EncodeOptions = EncodeOptions { add_special: false, parse_special: true };

/// Checks one kind of output of one text, noting a difference.
fn check<T: PartialEq + std::fmt::Debug>(
    wrong: &mut Vec<String>,
    what: &str,
    text: &str,
    got: T,
    want: T,
) {
    if got != want {
        let text: String = text.chars().take(60).collect();
        wrong.push(format!("{what} of {text:?}:\n   {got:?}\n   not {want:?}"));
    }
}

fn check_vocabulary(name: &str) {
    let case = kit::cases("tokenizer")
        .into_iter()
        .find(|case| case["id"] == format!("tokenizer/{name}"))
        .unwrap();
    let tokenizer = tokenizer(case["vocab"].as_str().unwrap());
    let texts = kit::json(case["texts"].as_str().unwrap());
    let expected = kit::json(case["expected"].as_str().unwrap());
    let mut wrong = Vec::new();
    assert_eq!(tokenizer.n_tokens() as u64, expected["n_vocab"].as_u64().unwrap());
    assert_eq!(tokenizer.adds_bos(), expected["add_bos"].as_bool().unwrap());
    assert_eq!(tokenizer.adds_eos(), expected["add_eos"].as_bool().unwrap());
    assert_eq!(tokenizer.bos().map(u64::from), expected["bos"].as_u64());
    assert_eq!(tokenizer.eos().map(u64::from), expected["eos"].as_u64());
    for case in expected["cases"].as_array().unwrap() {
        let text = texts[case["text_index"].as_u64().unwrap() as usize].as_str().unwrap();
        let plain = ids(&case["ids"]);
        let add_parse = ids(or_same(&case["ids_add_parse"], &case["ids"]));
        check(&mut wrong, "ids", text, tokenizer.encode(text, PLAIN), plain.clone());
        check(
            &mut wrong,
            "ids_add_parse",
            text,
            tokenizer.encode(text, ADD_PARSE),
            add_parse.clone(),
        );
        if let Some(parse) = case.get("ids_parse") {
            check(&mut wrong, "ids_parse", text, tokenizer.encode(text, PARSE), ids(parse));
        }
        let decode = |ids: &[u32], special| {
            let bytes = tokenizer.decode(ids, DecodeOptions { special });
            String::from_utf8_lossy(&bytes).into_owned()
        };
        for (key, got) in [
            ("decode_hex", decode(&plain, false)),
            ("decode_add_parse_keep_special_hex", decode(&add_parse, true)),
            ("decode_add_parse_skip_special_hex", decode(&add_parse, false)),
        ] {
            let want = hex(or_same(&case[key], &case["decode_hex"]));
            check(&mut wrong, key, text, got, String::from_utf8_lossy(&want).into_owned());
        }
    }
    let [input, output] = [0, 1].map(|i| {
        let file = case["upstream"][i].as_str().unwrap();
        String::from_utf8(kit::read_maybe_gz(file)).unwrap()
    });
    let inputs: Vec<&str> = input.split("\n__ggml_vocab_test__\n").collect();
    let mut n_upstream = 0;
    for (text, line) in inputs.iter().zip(output.split('\n')) {
        let want: Vec<u32> = line.split_whitespace().map(|id| id.parse().unwrap()).collect();
        check(&mut wrong, "upstream", text, tokenizer.encode(text, PLAIN), want);
        n_upstream += 1;
    }
    let counted = format!("{n_upstream}/{n_upstream}");
    assert_eq!(case["measured"]["upstream_ok"], counted, "upstream pairs");
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

/// One test per vocabulary, and one that none of the kit is left out.
macro_rules! vocabularies {
    ($($test:ident: $name:literal,)*) => {
        $(#[test]
        fn $test() {
            check_vocabulary($name);
        })*

        #[test]
        fn every_vocabulary_of_the_kit_is_tested() {
            let tested = [$(concat!("tokenizer/", $name)),*];
            for case in kit::cases("tokenizer") {
                assert!(tested.contains(&case["id"].as_str().unwrap()), "{}", case["id"]);
            }
        }
    };
}

vocabularies! {
    llama_spm_gives_the_ids_and_bytes_of_llama_cpp: "llama-spm",
    llama_bpe_gives_the_ids_and_bytes_of_llama_cpp: "llama-bpe",
    qwen2_gives_the_ids_and_bytes_of_llama_cpp: "qwen2",
    gpt_2_gives_the_ids_and_bytes_of_llama_cpp: "gpt-2",
    phi_3_gives_the_ids_and_bytes_of_llama_cpp: "phi-3",
    deepseek_llm_gives_the_ids_and_bytes_of_llama_cpp: "deepseek-llm",
    bert_bge_gives_the_ids_and_bytes_of_llama_cpp: "bert-bge",
    falcon_gives_the_ids_and_bytes_of_llama_cpp: "falcon",
    gemma_4_gives_the_ids_and_bytes_of_llama_cpp: "gemma-4",
}

#[test]
fn the_prompt_of_every_model_in_the_kit_gives_its_ids() {
    let mut wrong = Vec::new();
    for case in kit::cases("logits") {
        let model = case["model"].as_str().unwrap();
        let prompt = case["prompt"].as_str().unwrap();
        let tokens = ids(&kit::json(case["tokens"].as_str().unwrap()));
        let n_prompt = case["n_prompt"].as_u64().unwrap() as usize;
        // The kit cuts prompts off after 40 tokens.
        let mut got = tokenizer(model).encode(prompt, ADD_PARSE);
        got.truncate(n_prompt.max(40));
        check(&mut wrong, model, prompt, got, tokens[..n_prompt].to_vec());
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_prompts_of_the_bundled_model_give_their_ids() {
    let models = kit::path().join("../models");
    let gguf = Gguf::open(models.join("realm-tiny-stories-Q8_0.gguf")).unwrap();
    let tokenizer = Tokenizer::from_metadata(gguf.metadata()).unwrap();
    let expected = std::fs::read(models.join("expected.json")).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    let prompts = expected["prompts"].as_array().unwrap();
    assert!(!prompts.is_empty());
    let template = realm_tokenizer::chat_template(gguf.metadata(), false).unwrap().unwrap();
    for case in prompts {
        let prompt = case["prompt"].as_str().unwrap();
        assert_eq!(tokenizer.encode(prompt, ADD_PARSE), ids(&case["prompt_ids"]), "{prompt:?}");
        let messages = &case["messages"];
        if !messages.is_null() {
            let rendered =
                template.render(messages, None, &Default::default(), true, TIME).unwrap();
            assert_eq!(rendered, prompt);
        }
    }
}
