//! Byte-pair encoding: words split by a pre-tokenizer, merged by rank.

use hashbrown::HashMap;
use realm_gguf::Metadata;

use crate::byte_alphabet;
use crate::error::{Error, Result};
use crate::merge::{Merger, NONE, Symbol};
use crate::pre_tokenizer::{Alphabet, PreTokenizer, split};
use crate::strings::Strings;
use crate::vocabulary::Vocabulary;
use crate::words::{Joints, SPACE_MARK, WordCache, bounded};

const MERGES: &str = "tokenizer.ggml.merges";

/// A pair of symbols, as the key of the merge table.
fn pair_key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

pub(crate) struct Bpe {
    pre_tokenizer: &'static PreTokenizer,
    /// The bytes each token stands for, then those of symbols that merges
    /// mention and the vocabulary lacks.
    symbols: Strings,
    n_tokens: u32,
    /// Pair to (rank, merged symbol).
    merges: HashMap<u64, (u32, u32)>,
    /// The symbol of each single byte; [`NONE`] where there is none.
    byte_symbols: [u32; 256],
    /// The token of each single byte.
    byte_tokens: [Option<u32>; 256],
    unknown: Option<u32>,
    /// Where the text has `▁` for spaces.
    joints: Option<Joints>,
}

impl Bpe {
    pub(crate) fn new(
        metadata: &Metadata,
        vocabulary: &Vocabulary,
        pre_tokenizer: &'static PreTokenizer,
        unknown: Option<u32>,
    ) -> Result<Self> {
        let n_tokens = vocabulary.n_tokens() as u32;
        let mut symbols = match pre_tokenizer.alphabet {
            Alphabet::Bytes => byte_symbols(vocabulary),
            _ => vocabulary.texts.clone(),
        };
        let merges = read_merges(metadata, pre_tokenizer.alphabet, &mut symbols)?;

        let single = |byte: u8| symbols.get(&[byte]);
        let byte_symbols = std::array::from_fn(|byte| single(byte as u8).unwrap_or(NONE));
        let byte_tokens = std::array::from_fn(|byte| match pre_tokenizer.alphabet {
            Alphabet::Bytes => single(byte as u8).filter(|id| *id < n_tokens),
            _ => vocabulary.spelled_byte(byte as u8),
        });
        let joints = (pre_tokenizer.alphabet == Alphabet::SpaceMark).then(|| {
            let ids = 0..symbols.len() as u32;
            let texts = ids.filter_map(|id| std::str::from_utf8(symbols.bytes(id)).ok());
            Joints::new(texts, symbols.n_bytes())
        });
        Ok(Bpe {
            pre_tokenizer,
            symbols,
            n_tokens,
            merges,
            byte_symbols,
            byte_tokens,
            unknown,
            joints,
        })
    }

    /// Appends the tokens of `text`, which has no special tokens in it.
    pub(crate) fn encode(&self, text: &str, out: &mut Vec<u32>) {
        let mut merger = Merger::default();
        for text in bounded(text) {
            let marked;
            let mut cache = WordCache::default();
            let mut word = |word| {
                cache.encode(word, out, |out| self.word(word, &mut merger, out));
            };
            if let Some(joints) = &self.joints {
                marked = text.replace(' ', SPACE_MARK.encode_utf8(&mut [0; 4]));
                split(self.pre_tokenizer.stages, &marked, &mut |line| {
                    joints.words(line).for_each(&mut word);
                });
            } else {
                split(self.pre_tokenizer.stages, text, &mut word);
            }
        }
    }

    fn word(&self, word: &str, merger: &mut Merger, out: &mut Vec<u32>) {
        let token = || self.symbols.get(word.as_bytes()).filter(|id| *id < self.n_tokens);
        match self.pre_tokenizer.ignore_merges.then(token).flatten() {
            Some(id) => out.push(id),
            None => self.merged(word, merger, out),
        }
    }

    fn merged(&self, word: &str, merger: &mut Merger, out: &mut Vec<u32>) {
        merger.clear();
        if self.pre_tokenizer.alphabet == Alphabet::Bytes {
            for byte in word.bytes() {
                merger.push(1, self.byte_symbols[usize::from(byte)]);
            }
        } else {
            let mut buffer = [0; 4];
            for c in word.chars() {
                let id = match self.byte_symbols.get(c as usize) {
                    Some(id) if c.is_ascii() => *id,
                    _ => self.symbols.get(c.encode_utf8(&mut buffer).as_bytes()).unwrap_or(NONE),
                };
                merger.push(c.len_utf8(), id);
            }
        }
        merger.merge(|left: &Symbol, right: &Symbol| {
            self.merges.get(&pair_key(left.id, right.id)).copied()
        });
        for symbol in merger.symbols() {
            if symbol.id < self.n_tokens {
                out.push(symbol.id);
                continue;
            }
            for byte in &word.as_bytes()[symbol.start as usize..symbol.end as usize] {
                out.extend(self.byte_tokens[usize::from(*byte)].or(self.unknown));
            }
        }
    }
}

/// The bytes of each token in GPT-2's alphabet.
fn byte_symbols(vocabulary: &Vocabulary) -> Strings {
    let texts = &vocabulary.texts;
    let mut symbols = Strings::with_capacity(texts.len(), texts.n_bytes());
    let mut buffer = Vec::new();
    for id in 0..texts.len() as u32 {
        let text = vocabulary.text(id);
        if text.is_empty() || !spelled(Alphabet::Bytes, text, &mut buffer) {
            symbols.push_unfindable(b"");
        } else {
            symbols.push(&buffer);
        }
    }
    symbols
}

/// Puts the bytes a vocabulary entry stands for into `bytes`; false when its
/// text is not in the alphabet and so never comes out of a text.
fn spelled(alphabet: Alphabet, text: &str, bytes: &mut Vec<u8>) -> bool {
    bytes.clear();
    if alphabet == Alphabet::Bytes {
        text.chars().all(|c| byte_alphabet::byte(c).map(|byte| bytes.push(byte)).is_some())
    } else {
        bytes.extend_from_slice(text.as_bytes());
        true
    }
}

/// The merge table; symbols that are no tokens are added to `symbols`.
fn read_merges(
    metadata: &Metadata,
    alphabet: Alphabet,
    symbols: &mut Strings,
) -> Result<HashMap<u64, (u32, u32)>> {
    let lines = metadata.require_string_array(MERGES)?;
    if lines.len() > i32::MAX as usize / 2 {
        let found = format!("{} merges", lines.len());
        return Err(Error::invalid(MERGES, found, "at most 1073741823"));
    }
    let mut merges = HashMap::with_capacity(lines.len());
    let (mut left, mut right) = (Vec::new(), Vec::new());
    let mut merged = 0;
    for i in 0..lines.len() {
        let line = lines.str(i)?;
        // A part may be a space itself, so the separator is never the first byte.
        let separator = line.char_indices().skip(1).find(|(_, c)| *c == ' ').map(|(at, _)| at);
        let halves = separator.map(|at| (&line[..at], &line[at + 1..]));
        let Some((first, second)) = halves.filter(|(_, second)| !second.is_empty()) else {
            let key = format!("{MERGES}[{i}]");
            return Err(Error::invalid(key, format!("{line:?}"), "two parts with a space between"));
        };
        if !spelled(alphabet, first, &mut left) || !spelled(alphabet, second, &mut right) {
            continue; // no text has these characters in this alphabet
        }
        let key = pair_key(symbols.intern(&left), symbols.intern(&right));
        left.extend_from_slice(&right);
        // Tokens are mostly numbered in the order of their first merge.
        merged = symbols.intern_near(&left, merged);
        merges.entry(key).or_insert((i as u32, merged));
    }
    Ok(merges)
}
