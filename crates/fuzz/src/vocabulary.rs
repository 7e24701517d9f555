//! Tokenizers: a vocabulary, and a text for it.

use std::sync::Arc;

use realm_gguf::{Gguf, ValueType};
use realm_testkit::gguf_writer::{GgufWriter, KvValue};
use realm_tokenizer::{DecodeOptions, EncodeOptions, Tokenizer};

/// Builds a tokenizer from lines and uses it.
///
/// A line is `KEY=VALUE` for a key under `tokenizer.ggml.`, `+A B` for a merge, `#`
/// and a charsmap in hexadecimal, `"` and a text, or else a token: a digit for its
/// kind, a letter for its score, and the rest its spelling. Values are numbers,
/// `true`, `false`, or texts.
pub fn tokenizer(bytes: &[u8]) {
    let mut writer = GgufWriter::new();
    let (mut tokens, mut kinds, mut scores, mut merges) = (vec![], vec![], vec![], vec![]);
    let mut texts = vec![];
    for line in bytes.split(|byte| *byte == b'\n') {
        match line {
            [b'+', merge @ ..] => merges.push(KvValue::string(merge)),
            [b'"', text @ ..] => texts.push(String::from_utf8_lossy(text)),
            [b'#', hex @ ..] => {
                let pairs = hex.chunks(2).filter_map(|pair| std::str::from_utf8(pair).ok());
                let bytes = pairs.filter_map(|pair| u8::from_str_radix(pair, 16).ok());
                let items: Vec<KvValue> = bytes.map(KvValue::from).collect();
                writer.kv(
                    "tokenizer.ggml.precompiled_charsmap",
                    KvValue::array(ValueType::U8, &items),
                );
            }
            [kind @ b'0'..=b'9', score, token @ ..] => {
                tokens.push(KvValue::string(token));
                kinds.push(i32::from(kind - b'0'));
                scores.push(-f32::from(score % 32));
            }
            _ => {
                let Ok(line) = std::str::from_utf8(line) else { continue };
                let Some((key, value)) = line.split_once('=') else { continue };
                writer.kv(&format!("tokenizer.ggml.{key}"), scalar(value));
            }
        }
    }
    writer
        .kv("tokenizer.ggml.tokens", KvValue::array(ValueType::String, &tokens))
        .kv("tokenizer.ggml.token_type", kinds)
        .kv("tokenizer.ggml.scores", scores)
        .kv("tokenizer.ggml.merges", KvValue::array(ValueType::String, &merges));
    let Ok(gguf) = Gguf::from_bytes(writer.to_bytes()) else { return };
    let Ok(tokenizer) = Tokenizer::from_metadata(gguf.metadata()) else { return };
    let tokenizer = Arc::new(tokenizer);
    for text in texts {
        exercise(&tokenizer, &text);
    }
}

fn scalar(value: &str) -> KvValue {
    match (value.parse::<bool>(), value.parse::<u32>(), value.parse::<f32>()) {
        (Ok(flag), ..) => flag.into(),
        (_, Ok(number), _) => number.into(),
        (.., Ok(number)) => number.into(),
        _ => value.into(),
    }
}

/// Encodes a text in every way, and decodes it at once and token by token.
fn exercise(tokenizer: &Arc<Tokenizer>, text: &str) {
    for (add_special, parse_special) in [(false, false), (false, true), (true, true)] {
        let ids = tokenizer.encode(text, EncodeOptions { add_special, parse_special });
        for id in &ids {
            assert!((*id as usize) < tokenizer.n_tokens(), "id {id} outside the vocabulary");
        }
        for special in [false, true] {
            let options = DecodeOptions { special };
            let mut stream = tokenizer.stream(options);
            let mut streamed: String = ids.iter().map(|id| stream.push(*id)).collect();
            streamed += &stream.finish();
            let whole = tokenizer.decode(&ids, options);
            assert_eq!(streamed, String::from_utf8_lossy(&whole), "streamed, and at once");
        }
    }
}
