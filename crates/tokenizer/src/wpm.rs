//! WordPiece as llama.cpp runs it: words of normalised text, each cut greedily
//! into the longest tokens.
//!
//! Converters write the beginning of a word as `▁` and drop the `##` of its
//! continuation. Source: `llm_tokenizer_wpm_session` in llama.cpp
//! `src/llama-vocab.cpp`.

use realm_gguf::Metadata;

use crate::error::Result;
use crate::trie::Trie;
use crate::unicode::{Class, Classes, base};
use crate::vocabulary::Vocabulary;
use crate::words::SPACE_MARK;

pub(crate) struct Wpm {
    pieces: Trie,
    unknown: Option<u32>,
    lowercase: bool,
    strip_accents: bool,
}

impl Wpm {
    pub(crate) fn new(
        metadata: &Metadata,
        vocabulary: &Vocabulary,
        unknown: Option<u32>,
    ) -> Result<Self> {
        let lowercase = metadata.bool("tokenizer.ggml.normalizer.lowercase")?.unwrap_or(true);
        let strip_accents = metadata.bool("tokenizer.ggml.normalizer.strip_accents")?;
        Ok(Wpm {
            pieces: Trie::new(vocabulary.entries()),
            unknown,
            lowercase,
            strip_accents: strip_accents.unwrap_or(lowercase),
        })
    }

    /// Appends the tokens of `text`, which has no special tokens in it.
    pub(crate) fn encode(&self, text: &str, out: &mut Vec<u32>) {
        let classes = Classes::get();
        let mut word = String::new();
        for c in text.chars() {
            let c = if self.strip_accents { base(c) } else { c };
            let class = classes.of(c);
            if class.meets(Class::SPACE) {
                self.word(&mut word, out);
                continue;
            }
            let accent = self.strip_accents && class.meets(Class::MARK);
            if c == '\0' || c == '\u{fffd}' || class.meets(Class::CONTROL) || accent {
                continue;
            }
            let symbol = class.meets(Class::SYMBOL) && c < '\u{7f}';
            let alone = class.meets(Class::PUNCTUATION) || symbol || is_ideograph(c);
            if alone {
                self.word(&mut word, out);
            }
            let lower = c.to_lowercase().next().filter(|_| self.lowercase);
            word.push(lower.unwrap_or(c));
            if alone {
                self.word(&mut word, out);
            }
        }
        self.word(&mut word, out);
    }

    /// Appends the tokens of a word, or the unknown one, and empties the word.
    fn word(&self, word: &mut String, out: &mut Vec<u32>) {
        if word.is_empty() {
            return;
        }
        word.insert(0, SPACE_MARK);
        let before = out.len();
        let mut rest = word.as_bytes();
        while !rest.is_empty() {
            let Some((id, len)) = self.pieces.longest(rest) else {
                out.truncate(before);
                out.extend(self.unknown);
                break;
            };
            out.push(id);
            rest = &rest[len..];
        }
        word.clear();
    }
}

/// The blocks BERT takes for Chinese characters, each a word of its own.
fn is_ideograph(c: char) -> bool {
    matches!(u32::from(c),
        0x4E00..=0x9FFF
        | 0x3400..=0x4DBF
        | 0x20000..=0x2A6DF
        | 0x2A700..=0x2B73F
        | 0x2B740..=0x2B81F
        | 0x2B920..=0x2CEAF // not from 0x2B820: so do the reference tokenizers
        | 0xF900..=0xFAFF
        | 0x2F800..=0x2FA1F)
}
