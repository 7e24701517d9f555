//! What holds for every text, with vocabularies of the conformance kit.

use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use realm_gguf::Gguf;
use realm_testkit::kit;
use realm_tokenizer::{DecodeOptions, EncodeOptions, Tokenizer};

fn tokenizer(file: &str) -> Arc<Tokenizer> {
    let gguf = Gguf::from_bytes(kit::read_maybe_gz(file)).unwrap();
    Arc::new(Tokenizer::from_metadata(gguf.metadata()).unwrap())
}

type Shared = LazyLock<Arc<Tokenizer>>;
static GPT_2: Shared = LazyLock::new(|| tokenizer("tokenizers/gpt-2/vocab.gguf.gz"));
static QWEN35: Shared = LazyLock::new(|| tokenizer("models/qwen35/model.gguf.gz"));
static PHI_3: Shared = LazyLock::new(|| tokenizer("tokenizers/phi-3/vocab.gguf"));
static GEMMA_4: Shared = LazyLock::new(|| tokenizer("models/gemma4/model.gguf.gz"));
static BERT: Shared = LazyLock::new(|| tokenizer("tokenizers/bert-bge/vocab.gguf"));
static FALCON: Shared = LazyLock::new(|| tokenizer("tokenizers/falcon/vocab.gguf.gz"));

fn everyone() -> [&'static Tokenizer; 6] {
    [&GPT_2, &QWEN35, &PHI_3, &GEMMA_4, &BERT, &FALCON].map(|shared| &***shared)
}

/// Texts made of what tokenizers treat specially, or of anything.
fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        "[a-zA-Z']{1,6}",
        "[0-9]{1,5}",
        "[ \t\r\n]{1,4}",
        "[.,!?'\"()<>|$-]{1,3}",
        prop::sample::select(vec![
            "<|endoftext|>",
            "<|im_start|>",
            "<s>",
            "</s>",
            "[SEP]",
            "<|end|>",
            "▁",
            "Ġ",
            "é",
            "語",
            "👩‍👧",
            " 're",
            " '",
            " .",
            "ſ",
            "\u{0}",
            "<0x0A>",
            "<bos>",
            "ệ",
            "\u{301}",
            "한",
        ])
        .prop_map(String::from),
        any::<String>(),
    ];
    prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn byte_level_vocabularies_give_every_text_back(text in text(), parse_special: bool) {
        for tokenizer in [&GPT_2, &QWEN35] {
            let ids = tokenizer.encode(&text, EncodeOptions { add_special: false, parse_special });
            let back = tokenizer.decode(&ids, DecodeOptions { special: true });
            prop_assert_eq!(String::from_utf8(back).unwrap(), text.as_str());
        }
    }

    #[test]
    fn every_id_is_in_the_vocabulary(text in text(), add_special: bool, parse_special: bool) {
        for tokenizer in everyone() {
            for id in tokenizer.encode(&text, EncodeOptions { add_special, parse_special }) {
                prop_assert!((id as usize) < tokenizer.n_tokens());
            }
        }
    }

    #[test]
    fn a_second_time_gives_the_same_ids(text in text()) {
        for tokenizer in everyone() {
            let once = tokenizer.encode(&text, EncodeOptions::default());
            prop_assert_eq!(tokenizer.encode(&text, EncodeOptions::default()), once);
        }
    }

    #[test]
    fn streamed_text_is_the_text_of_all_tokens(
        text in text(),
        other in prop::collection::vec(0u32..70_000, 0..20),
        special: bool,
    ) {
        for tokenizer in [&GPT_2, &QWEN35, &PHI_3, &GEMMA_4, &BERT, &FALCON] {
            let options = EncodeOptions { add_special: true, parse_special: true };
            let encoded = tokenizer.encode(&text, options);
            for ids in [encoded, other.clone()] {
                let mut stream = tokenizer.stream(DecodeOptions { special });
                let mut streamed: String = ids.iter().map(|id| stream.push(*id)).collect();
                streamed += &stream.finish();
                let whole = tokenizer.decode(&ids, DecodeOptions { special });
                prop_assert_eq!(streamed, String::from_utf8_lossy(&whole).into_owned());
            }
        }
    }
}

#[test]
fn a_code_point_is_held_back_until_its_last_token() {
    let ids = GPT_2.encode("🦙", EncodeOptions::default());
    assert!(ids.len() > 1);
    let mut stream = GPT_2.stream(DecodeOptions::default());
    let (last, first) = ids.split_last().unwrap();
    for id in first {
        assert_eq!(stream.push(*id), "");
    }
    assert_eq!(stream.push(*last), "🦙");
    assert_eq!(stream.finish(), "");
}

#[test]
fn half_a_code_point_at_the_end_becomes_a_replacement_character() {
    let ids = GPT_2.encode("🦙", EncodeOptions::default());
    let mut stream = GPT_2.stream(DecodeOptions::default());
    assert_eq!(stream.push(ids[0]), "");
    assert_eq!(stream.finish(), "\u{fffd}");
}

/// With a number of steps quadratic in the length these would take minutes each.
#[test]
fn long_texts_without_a_word_boundary_are_tokenized() {
    const N: usize = 1 << 18;
    for unit in ["a", " ", "\n", "1", "é", "ab ", "<", "A", "'", "\t\n", "<|", "▁"] {
        let text = unit.repeat(N / unit.len());
        for tokenizer in everyone() {
            for parse_special in [false, true] {
                let options = EncodeOptions { add_special: false, parse_special };
                let ids = tokenizer.encode(&text, options);
                // WordPiece drops white space.
                assert!(!ids.is_empty() || text.trim().is_empty(), "{unit:?}");
            }
        }
    }
}
