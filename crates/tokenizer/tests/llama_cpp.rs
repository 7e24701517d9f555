//! Unigram, RWKV and every pre-tokenizer: ids and texts as llama.cpp v0.5.0 gives
//! them, for small vocabularies (see `data/README.md`).

use std::path::Path;

use realm_gguf::Gguf;
use realm_tokenizer::{DecodeOptions, EncodeOptions, Tokenizer};
use serde_json::Value;

fn data(file: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(file)).unwrap()
}

fn tokenizer(name: &str) -> Tokenizer {
    let gguf = Gguf::from_bytes(data(&format!("{name}.gguf"))).unwrap();
    Tokenizer::from_metadata(gguf.metadata()).unwrap()
}

fn check(name: &str) {
    let expected: Value = serde_json::from_slice(&data("expected.json")).unwrap();
    let cases = expected[name].as_array().unwrap();
    assert!(!cases.is_empty());
    let tokenizer = tokenizer(name);
    for case in cases {
        let text = case["text"].as_str().unwrap();
        for (key, parse_special) in [("ids", false), ("ids_parse", true)] {
            let ids = tokenizer.encode(text, EncodeOptions { add_special: false, parse_special });
            assert_eq!(serde_json::json!(ids), case[key], "{key} of {text:?}");
        }
        let ids: Vec<u32> = serde_json::from_value(case["ids_parse"].clone()).unwrap();
        let decoded = tokenizer.decode(&ids, DecodeOptions { special: true });
        assert_eq!(
            String::from_utf8_lossy(&decoded),
            case["decoded"].as_str().unwrap(),
            "{text:?}"
        );
    }
}

#[test]
fn unigram_gives_the_ids_and_texts_of_llama_cpp() {
    check("unigram");
}

#[test]
fn unigram_that_keeps_spaces_gives_the_ids_and_texts_of_llama_cpp() {
    check("unigram-spaces");
}

#[test]
fn rwkv_gives_the_ids_and_texts_of_llama_cpp() {
    check("rwkv");
}

/// The file as it is, but for another name of its pre-tokenizer.
fn with_pre_tokenizer(file: &[u8], name: &str) -> Vec<u8> {
    let key = b"tokenizer.ggml.pre";
    let at = file.windows(key.len()).position(|part| part == key).unwrap() + key.len() + 4;
    let length = u64::from_le_bytes(file[at..at + 8].try_into().unwrap()) as usize;
    let new_length = (name.len() as u64).to_le_bytes();
    [&file[..at], &new_length, name.as_bytes(), &file[at + 8 + length..]].concat()
}

#[test]
fn every_pre_tokenizer_cuts_as_in_llama_cpp() {
    let expected: Value = serde_json::from_slice(&data("pre_tokenizers.json")).unwrap();
    let file = data("pre_tokenizers.gguf");
    let mut n_names = 0;
    for family in expected["families"].as_array().unwrap() {
        for name in family["names"].as_array().unwrap() {
            let name = name.as_str().unwrap();
            let gguf = Gguf::from_bytes(with_pre_tokenizer(&file, name)).unwrap();
            let tokenizer = Tokenizer::from_metadata(gguf.metadata()).unwrap();
            for (text, want) in
                expected["texts"].as_array().unwrap().iter().zip(family["ids"].as_array().unwrap())
            {
                let text = text.as_str().unwrap();
                let ids = tokenizer.encode(text, EncodeOptions::default());
                assert_eq!(serde_json::json!(ids), *want, "{name}: {text:?}");
            }
            n_names += 1;
        }
    }
    assert!(n_names > 80, "{n_names}");
}

#[test]
fn a_file_that_names_no_pre_tokenizer_is_cut_by_the_default_one() {
    let expected: Value = serde_json::from_slice(&data("pre_tokenizers.json")).unwrap();
    let families = expected["families"].as_array().unwrap();
    let is_default =
        |family: &&Value| family["names"].as_array().unwrap().iter().any(|name| name == "default");
    let default = families.iter().find(is_default).unwrap();
    let file = with_pre_tokenizer(&data("pre_tokenizers.gguf"), "");
    let tokenizer = Tokenizer::from_metadata(Gguf::from_bytes(file).unwrap().metadata()).unwrap();
    let texts = expected["texts"].as_array().unwrap();
    for (text, want) in texts.iter().zip(default["ids"].as_array().unwrap()) {
        let text = text.as_str().unwrap();
        let ids = tokenizer.encode(text, EncodeOptions::default());
        assert_eq!(serde_json::json!(ids), *want, "{text:?}");
    }
}

#[test]
fn unigram_models_end_a_text_and_rwkv_models_add_nothing() {
    let added = EncodeOptions { add_special: true, parse_special: false };
    let unigram = tokenizer("unigram");
    let plain = unigram.encode("hello", EncodeOptions::default());
    assert_eq!(unigram.encode("hello", added), [&plain[..], &[1]].concat());
    assert_eq!(unigram.encode_prompt("hello", added), plain, "what is continued has no end");
    let rwkv = tokenizer("rwkv");
    assert_eq!(rwkv.encode("hello", added), rwkv.encode("hello", EncodeOptions::default()));
}

#[test]
fn rwkv_gives_every_text_back() {
    let tokenizer = tokenizer("rwkv");
    for text in ["", "the\n\n日本 語", "🦙\r\t\\x", "\u{0}\u{7f}é"] {
        let ids = tokenizer.encode(text, EncodeOptions::default());
        assert_eq!(tokenizer.decode(&ids, DecodeOptions::default()), text.as_bytes());
    }
}
