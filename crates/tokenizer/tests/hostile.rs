//! Vocabularies that contradict themselves: an error, never a panic.

use proptest::prelude::*;
use realm_gguf::{Gguf, ValueType};
use realm_testkit::gguf_writer::{GgufWriter, KvValue};
use realm_tokenizer::{DecodeOptions, EncodeOptions, Error, Tokenizer};

const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const SCORES: &str = "tokenizer.ggml.scores";
const MERGES: &str = "tokenizer.ggml.merges";

/// A small right vocabulary.
fn entries(model: &str) -> Vec<(&'static str, KvValue)> {
    vec![
        ("tokenizer.ggml.model", model.into()),
        ("tokenizer.ggml.pre", "gpt-2".into()),
        (TOKENS, ["<unk>", "<s>", "</s>", "▁", "a", "b", "ab"].into()),
        (TYPES, [2i32, 3, 3, 1, 1, 1, 1].into()),
        (SCORES, [0f32, 0.0, 0.0, -3.0, -2.0, -2.5, -1.0].into()),
        (MERGES, ["a b"].into()),
    ]
}

/// The small vocabulary, `changes` made to it.
fn build(model: &str, changes: &[(&str, KvValue)]) -> Result<Tokenizer, Box<Error>> {
    let mut entries: Vec<(&str, KvValue)> = entries(model);
    for (key, value) in changes {
        entries.retain(|(existing, _)| existing != key);
        entries.push((key, value.clone()));
    }
    read(entries)
}

/// The small vocabulary without one of its keys.
fn build_without(model: &str, key: &str) -> Result<Tokenizer, Box<Error>> {
    read(entries(model).into_iter().filter(|entry| entry.0 != key).collect())
}

fn read(entries: Vec<(&str, KvValue)>) -> Result<Tokenizer, Box<Error>> {
    let mut writer = GgufWriter::new();
    for (key, value) in entries {
        writer.kv(key, value);
    }
    let gguf = Gguf::from_bytes(writer.to_bytes()).unwrap();
    Tokenizer::from_metadata(gguf.metadata())
}

#[track_caller]
fn assert_error(model: &str, key: &str, value: impl Into<KvValue>, parts: &[&str]) {
    let error = build(model, &[(key, value.into())]).err().expect("refused").to_string();
    for part in [&[key], parts].concat() {
        assert!(error.contains(part), "{error:?} does not say {part:?}");
    }
}

#[test]
fn the_vocabulary_under_test_is_right() {
    for model in ["llama", "gpt2", "gemma4", "bert", "t5", "rwkv"] {
        let tokenizer = build(model, &[]).unwrap_or_else(|error| panic!("{model}: {error}"));
        let ids = tokenizer.encode("ab", EncodeOptions::default());
        assert!(!ids.is_empty(), "{model}");
    }
}

#[test]
fn lengths_that_differ_are_named() {
    for model in ["llama", "gpt2", "gemma4", "bert"] {
        assert_error(model, TYPES, [1i32, 1], &["2 entries", "7 entries"]);
        assert_error(model, SCORES, [1f32; 8], &["8 entries", "7 entries"]);
    }
}

#[test]
fn ids_of_special_tokens_out_of_range_count_as_absent_and_are_warned_about() {
    let names = ["bos", "eos", "eot", "eom", "unknown", "seperator", "padding", "mask", "fim_pad"];
    let keys = names.map(|name| format!("tokenizer.ggml.{name}_token_id"));
    for model in ["llama", "gpt2", "gemma4", "bert", "t5", "rwkv"] {
        let absent = build(model, &[]).unwrap();
        assert!(absent.warnings().is_empty(), "{model}: {:?}", absent.warnings());
        for id in [KvValue::from(7u32), u32::MAX.into(), (-1i32).into(), u64::MAX.into()] {
            let changes = keys.each_ref().map(|key| (key.as_str(), id.clone()));
            let tokenizer = build(model, &changes).unwrap();
            let ids = |t: &Tokenizer| {
                [t.bos(), t.eos(), t.eot(), t.unknown(), t.separator(), t.pad(), t.mask()]
            };
            assert_eq!(ids(&tokenizer), ids(&absent), "{model}");
            assert_eq!(tokenizer.end_of_generation(), absent.end_of_generation(), "{model}");
            let added = EncodeOptions { add_special: true, parse_special: false };
            assert_eq!(tokenizer.encode("ab", added), absent.encode("ab", added), "{model}");
            for key in &keys {
                let warned = tokenizer.warnings().iter().filter(|text| text.starts_with(key));
                let warned: Vec<_> = warned.collect();
                assert_eq!(warned.len(), 1, "{model}, {key}: {:?}", tokenizer.warnings());
                assert!(warned[0].contains("the vocabulary has 7"), "{}", warned[0]);
            }
        }
    }
    let tokenizer = build("llama", &[("tokenizer.ggml.bos_token_id", 9u32.into())]).unwrap();
    let expected = "tokenizer.ggml.bos_token_id is 9, the vocabulary has 7: 1 is taken, which is \
                    usual for tokenizers of this kind";
    assert_eq!(tokenizer.warnings(), [expected]);
}

#[test]
fn the_first_token_of_a_bert_may_be_named_in_another_way() {
    let key = "tokenizer.ggml.cls_token_id";
    assert_eq!(build("bert", &[(key, 5u32.into())]).unwrap().bos(), Some(5));
    let outside = build("bert", &[(key, 9u32.into())]).unwrap();
    assert_eq!(outside.bos(), None);
    assert!(outside.warnings()[0].starts_with(key), "{:?}", outside.warnings());
}

#[test]
fn a_token_to_be_added_that_is_out_of_range_is_not_added() {
    for name in ["bos", "eos"] {
        let key = format!("tokenizer.ggml.{name}_token_id");
        let flag = format!("tokenizer.ggml.add_{name}_token");
        let changes = [(key.as_str(), 7u32.into()), (flag.as_str(), true.into())];
        let tokenizer = build("gpt2", &changes).unwrap();
        let added = EncodeOptions { add_special: true, parse_special: false };
        assert_eq!(tokenizer.encode("ab", added), [6]);
    }
}

#[test]
fn a_vocabulary_whose_pre_tokenizer_has_no_name_has_the_default_one() {
    let key = "tokenizer.ggml.pre";
    let named = build("gpt2", &[(key, "default".into())]).unwrap();
    assert_eq!(named.pre_tokenizer(), Some("default"));
    assert!(named.warnings().is_empty());
    let unnamed = build_without("gpt2", key).unwrap();
    for tokenizer in [&unnamed, &build("gpt2", &[(key, "".into())]).unwrap()] {
        assert_eq!(tokenizer.pre_tokenizer(), Some("default"));
        let [warning] = tokenizer.warnings() else { panic!("{:?}", tokenizer.warnings()) };
        assert!(warning.contains(key) && warning.contains("default"), "{warning}");
        assert_eq!(tokenizer.adds_bos(), named.adds_bos());
    }
    // Other kinds have none, and are not warned about.
    for model in ["llama", "bert", "t5", "rwkv"] {
        let tokenizer = build_without(model, key).unwrap();
        assert_eq!((tokenizer.pre_tokenizer(), tokenizer.warnings().len()), (None, 0), "{model}");
    }
}

#[test]
fn suppressed_tokens_are_those_of_the_file_that_exist() {
    let key = "tokenizer.ggml.suppress_tokens";
    for (ids, expected) in [(vec![5i32, 3], vec![5, 3]), (vec![-1, 7, 6], vec![6])] {
        let tokenizer = build("gpt2", &[(key, ids.as_slice().into())]).unwrap();
        assert_eq!(tokenizer.suppressed(), expected);
    }
    assert!(build("gpt2", &[]).unwrap().suppressed().is_empty());
    assert_error("gpt2", key, "all", &["array"]);
}

#[test]
fn a_file_without_a_vocabulary_says_so() {
    for model in ["none", "no_vocab"] {
        let error = build(model, &[]).err().unwrap();
        assert!(matches!(*error, Error::NoVocabulary { .. }), "{error}");
        assert!(error.to_string().contains("no vocabulary"), "{error}");
    }
}

/// A charsmap whose array holds `units`, with two replacements: "b" and "".
fn charsmap(units: &[u32]) -> KvValue {
    let mut bytes = (4 * units.len() as u32).to_le_bytes().to_vec();
    bytes.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
    bytes.extend(b"b\0\0");
    KvValue::array(ValueType::U8, &bytes.into_iter().map(KvValue::from).collect::<Vec<_>>())
}

const CHARSMAP: &str = "tokenizer.ggml.precompiled_charsmap";

/// "a" leads to unit 0x60 ^ 'a', where a key ends whose value is in unit 2.
fn units(value: u32) -> Vec<u32> {
    let mut units = vec![0; 8];
    units[0] = 0x60 << 10;
    units[1] = u32::from(b'a') | 1 << 8 | 3 << 10;
    units[2] = 1 << 31 | value;
    units
}

#[test]
fn a_charsmap_replaces_what_it_lists() {
    let tokenizer = build("t5", &[(CHARSMAP, charsmap(&units(0)))]).unwrap();
    assert_eq!(tokenizer.encode("a", EncodeOptions::default()), [5]);
    let tokenizer = build("t5", &[(CHARSMAP, charsmap(&units(1)))]).unwrap();
    assert_eq!(tokenizer.encode("ab", EncodeOptions::default()), [5]);
}

#[test]
fn offsets_out_of_a_charsmap_are_refused() {
    assert_error("t5", CHARSMAP, charsmap(&units(3)), &["unit 1", "no replacement"]);
    let mut outside = units(0);
    outside[1] |= 1 << 20;
    assert_error("t5", CHARSMAP, charsmap(&outside), &["unit 1"]);
    for bytes in [vec![1u8], vec![0; 4], vec![255; 8], vec![4, 0, 0, 0, 1, 2, 3, 4]] {
        let n_bytes = format!("{} bytes", bytes.len());
        let value = KvValue::array(
            ValueType::U8,
            &bytes.into_iter().map(KvValue::from).collect::<Vec<_>>(),
        );
        assert_error("t5", CHARSMAP, value, &[&n_bytes]);
    }
    assert_error("t5", CHARSMAP, [1i32, 2], &["i32", "u8 or i8"]);
    assert_error("t5", CHARSMAP, "text", &["string", "u8 or i8"]);
}

#[test]
fn a_charsmap_whose_children_lie_outside_matches_nothing() {
    let tokenizer = build("t5", &[(CHARSMAP, charsmap(&[u32::MAX >> 1 & !0x1FF, 0]))]).unwrap();
    assert_eq!(tokenizer.encode("a", EncodeOptions::default()), [4]);
}

#[test]
fn an_empty_vocabulary_is_refused() {
    assert_error("llama", TOKENS, KvValue::array(ValueType::String, &[]), &["0 tokens"]);
}

#[test]
fn tokens_that_are_not_utf_8_are_refused() {
    let tokens = KvValue::array(ValueType::String, &[KvValue::string(b"a\xff")]);
    let changes = [(TOKENS, tokens), (TYPES, [1i32].into()), (SCORES, [0f32].into())];
    let error = build("llama", &changes).err().unwrap().to_string();
    assert!(error.contains("tokenizer.ggml.tokens[0]") && error.contains("UTF-8"), "{error}");
}

#[test]
fn merges_that_are_no_pairs_are_refused() {
    for line in ["", "a", " ", "a ", "ab"] {
        assert_error("gpt2", MERGES, ["a b", line], &["[1]", "two parts"]);
    }
}

#[test]
fn merges_of_unknown_tokens_do_no_harm() {
    let tokenizer = build("gpt2", &[(MERGES, ["b b", "a bb", "x y", "a b"].into())]).unwrap();
    // "abb" is merged, but is no token: it falls back to its bytes.
    let ids = tokenizer.encode("abb", EncodeOptions::default());
    assert_eq!(ids, [4, 5, 5]);
    assert_eq!(tokenizer.encode("ab", EncodeOptions::default()), [6]);
}

#[test]
fn kinds_that_are_not_implemented_are_named_with_those_that_are() {
    for model in ["", "plamo2"] {
        let error = build(model, &[]).err().unwrap();
        assert!(matches!(*error, Error::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains("llama, gpt2, gemma4, bert, t5, rwkv"), "{error}");
    }
    assert_error("gpt2", "tokenizer.ggml.pre", "no-such", &["no-such", "llama-bpe", "qwen2"]);
}

#[test]
fn mistyped_keys_are_refused() {
    for key in [TOKENS, TYPES, SCORES, MERGES, "tokenizer.ggml.pre", "tokenizer.ggml.add_bos_token"]
    {
        assert_error("gpt2", key, 3.5f32, &[]);
    }
}

#[test]
fn a_token_to_be_added_must_exist() {
    let error = build("gpt2", &[("tokenizer.ggml.add_bos_token", true.into())]).err().unwrap();
    assert!(error.to_string().contains("bos_token_id"), "{error}");
}

proptest! {
    #[test]
    fn any_vocabulary_either_works_or_is_refused(
        model in prop::sample::select(vec!["llama", "gpt2", "gemma4", "bert", "t5", "rwkv"]),
        pre in prop::sample::select(vec!["gpt-2", "llama-bpe", "qwen2", "whitespace", "default"]),
        tokens in prop::collection::vec(r"[ab▁Ġ<>x0-9 \\é]{0,4}", 1..30),
        types in prop::collection::vec(-1i32..8, 30),
        scores in prop::collection::vec(any::<f32>(), 30),
        merges in prop::collection::vec("[abĠ▁]{1,2} [abĠ▁]{1,2}", 0..20),
        text in "[ab <>▁x0-9é]{0,40}",
        options: (bool, bool),
    ) {
        let n = tokens.len();
        let result = build(model, &[
            ("tokenizer.ggml.pre", pre.into()),
            (TOKENS, tokens.into()),
            (TYPES, types[..n].into()),
            (SCORES, scores[..n].into()),
            (MERGES, if merges.is_empty() { ["a b"].into() } else { merges.into() }),
        ]);
        if let Ok(tokenizer) = result {
            let (add_special, parse_special) = options;
            let ids = tokenizer.encode(&text, EncodeOptions { add_special, parse_special });
            tokenizer.decode(&ids, DecodeOptions { special: add_special });
            prop_assert!(ids.iter().all(|id| (*id as usize) < n));
        }
    }
}
