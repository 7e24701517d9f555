//! SentencePiece's BPE as llama.cpp runs it: neighbours whose union is a token
//! are merged, the highest score first, on a text with `▁` for spaces.
//!
//! Source: `llm_tokenizer_spm_session` in llama.cpp `src/llama-vocab.cpp`.

use crate::merge::{Merger, NONE, Symbol};
use crate::vocabulary::Vocabulary;
use crate::words::{Joints, SPACE_MARK, WordCache, bounded};

pub(crate) struct Spm {
    /// Per token: 0 for the best score, equal for equal ones.
    ranks: Vec<u32>,
    byte_tokens: [Option<u32>; 256],
    unknown: Option<u32>,
    max_text_bytes: u32,
    joints: Joints,
}

impl Spm {
    pub(crate) fn new(vocabulary: &Vocabulary, unknown: Option<u32>) -> Self {
        let n_tokens = vocabulary.n_tokens();
        let byte_tokens = std::array::from_fn(|byte| {
            let byte = byte as u8;
            vocabulary.spelled_byte(byte).or_else(|| vocabulary.texts.get(&[byte]))
        });
        Spm {
            ranks: ranks(&vocabulary.scores, n_tokens),
            byte_tokens,
            unknown,
            max_text_bytes: u32::try_from(vocabulary.max_text_bytes).unwrap_or(u32::MAX),
            joints: Joints::new(
                (0..n_tokens as u32).map(|id| vocabulary.text(id)),
                vocabulary.texts.n_bytes(),
            ),
        }
    }

    /// Appends the tokens of `text`; `lead_space` puts a space before it.
    pub(crate) fn encode(
        &self,
        vocabulary: &Vocabulary,
        text: &str,
        lead_space: bool,
        out: &mut Vec<u32>,
    ) {
        let mut merger = Merger::default();
        for (i, text) in bounded(text).enumerate() {
            let mut marked = String::with_capacity(text.len() + text.len() / 2);
            if lead_space && i == 0 {
                marked.push(SPACE_MARK);
            }
            marked.extend(text.chars().map(|c| if c == ' ' { SPACE_MARK } else { c }));
            let mut cache = WordCache::default();
            for word in self.joints.words(&marked) {
                cache.encode(word, out, |out| self.merged(vocabulary, word, &mut merger, out));
            }
        }
    }

    fn merged(&self, vocabulary: &Vocabulary, word: &str, merger: &mut Merger, out: &mut Vec<u32>) {
        let token = |start: usize, end: usize| vocabulary.texts.get(&word.as_bytes()[start..end]);
        merger.clear();
        for (start, c) in word.char_indices() {
            let len = c.len_utf8();
            merger.push(len, token(start, start + len).unwrap_or(NONE));
        }
        merger.merge(|left: &Symbol, right: &Symbol| {
            if right.end - left.start > self.max_text_bytes {
                return None;
            }
            let id = token(left.start as usize, right.end as usize)?;
            Some((self.ranks[id as usize], id))
        });
        for symbol in merger.symbols() {
            if symbol.id != NONE {
                out.push(symbol.id);
                continue;
            }
            for byte in &word.as_bytes()[symbol.start as usize..symbol.end as usize] {
                out.extend(self.byte_tokens[usize::from(*byte)].or(self.unknown));
            }
        }
    }
}

fn ranks(scores: &[f32], n_tokens: usize) -> Vec<u32> {
    // Adding 0 makes -0 and 0 the same; the total order takes care of NaN.
    let score = |id: &u32| scores.get(*id as usize).map_or(0.0, |score| score + 0.0);
    let mut ids: Vec<u32> = (0..n_tokens as u32).collect();
    ids.sort_by(|a, b| score(b).total_cmp(&score(a)));
    let mut ranks = vec![0; n_tokens];
    let mut rank = 0;
    for pair in ids.windows(2) {
        rank += u32::from(score(&pair[0]).total_cmp(&score(&pair[1])).is_ne());
        ranks[pair[1] as usize] = rank;
    }
    ranks
}
