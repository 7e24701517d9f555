//! The tokenizer a caller holds, whatever the kind of its vocabulary.

use std::sync::Arc;

use realm_gguf::Metadata;

use crate::bpe::Bpe;
use crate::error::{Error, Result};
use crate::partition::{Fragment, Partition};
use crate::pieces::{clean_spaces, pieces};
use crate::pre_tokenizer::{Alphabet, PreTokenizer, find, names};
use crate::rwkv::Rwkv;
use crate::special;
use crate::spm::Spm;
use crate::stream::StreamDecoder;
use crate::strings::Strings;
use crate::unigram::Unigram;
use crate::vocabulary::{SpecialIds, TokenKind, Vocabulary};
use crate::wpm::Wpm;

const MODEL: &str = "tokenizer.ggml.model";
/// The values of [`MODEL`] there is a [`Scheme`] for.
const MODELS: &str = "llama, gpt2, gemma4, bert, t5, rwkv";
const PRE: &str = "tokenizer.ggml.pre";
const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
const ADD_EOS: &str = "tokenizer.ggml.add_eos_token";

/// How [`Tokenizer::encode`] treats special tokens. Both are off by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Put the tokens around the text that the model expects there, such as a
    /// beginning-of-sequence token.
    pub add_special: bool,
    /// Read the text of control tokens, such as `<|im_start|>`, as those tokens;
    /// otherwise it is text like any other. Leave it off for text of strangers.
    pub parse_special: bool,
}

/// How [`Tokenizer::decode`] treats special tokens. Off by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecodeOptions {
    /// Render control and unknown tokens as their text; otherwise they are left out.
    pub special: bool,
}

/// Text to token ids and back, from the metadata of a GGUF file.
///
/// Never changes once built, so it can be shared between threads.
pub struct Tokenizer {
    vocabulary: Vocabulary,
    partition: Partition,
    pieces: Strings,
    ids: SpecialIds,
    scheme: Scheme,
    add_bos: bool,
    add_eos: bool,
    add_space_prefix: bool,
}

enum Scheme {
    Bpe(Box<Bpe>),
    Spm(Box<Spm>),
    Wpm(Box<Wpm>),
    Unigram(Box<Unigram>),
    Rwkv(Box<Rwkv>),
}

/// What a `tokenizer.ggml.model` implies where the file says nothing.
struct Defaults {
    ids: SpecialIds,
    add_bos: bool,
    add_eos: bool,
    add_space_prefix: bool,
    alphabet: Alphabet,
}

impl Tokenizer {
    /// Reads the vocabulary under `tokenizer.ggml.*`.
    ///
    /// # Errors
    /// [`Error::Metadata`] for missing or mistyped keys, [`Error::Invalid`] for
    /// values that contradict each other (lengths, ids out of range, merges that
    /// are no pairs), [`Error::Unsupported`] for a kind of tokenizer or
    /// pre-tokenizer that is not implemented, [`Error::NoVocabulary`] for a file
    /// that says it has none.
    pub fn from_metadata(metadata: &Metadata) -> Result<Tokenizer> {
        let model = metadata.require_str(MODEL)?;
        let pre_tokenizer = bpe_pre_tokenizer(metadata, model)?;
        let defaults = defaults(metadata, model, pre_tokenizer)?;
        let mut vocabulary = Vocabulary::from_metadata(metadata)?;
        let ids = vocabulary.special_ids(metadata, defaults.ids)?;
        let flag = |key, default| -> Result<bool> { Ok(metadata.bool(key)?.unwrap_or(default)) };
        let add_bos = flag(ADD_BOS, defaults.add_bos)?;
        let add_eos = flag(ADD_EOS, defaults.add_eos)?;
        let add_space_prefix = flag("tokenizer.ggml.add_space_prefix", defaults.add_space_prefix)?;
        for (flag, key, id) in [(ADD_BOS, special::BOS, ids.bos), (ADD_EOS, special::EOS, ids.eos)]
        {
            if metadata.bool(flag)? == Some(true) && id.is_none() {
                return Err(Error::invalid(key, "nothing", format!("an id, since {flag} is true")));
            }
        }
        let scheme = match (pre_tokenizer, model) {
            (Some(pre_tokenizer), _) => {
                let bpe = Bpe::new(metadata, &vocabulary, pre_tokenizer, ids.unknown)?;
                Scheme::Bpe(Box::new(bpe))
            }
            (None, "bert") => Scheme::Wpm(Box::new(Wpm::new(metadata, &vocabulary, ids.unknown)?)),
            (None, "t5") => {
                let unigram = Unigram::new(metadata, &vocabulary, ids.unknown, add_space_prefix)?;
                Scheme::Unigram(Box::new(unigram))
            }
            (None, "rwkv") => Scheme::Rwkv(Box::new(Rwkv::new(&vocabulary, ids.unknown))),
            (None, _) => Scheme::Spm(Box::new(Spm::new(&vocabulary, ids.unknown))),
        };
        Ok(Tokenizer {
            partition: Partition::new(&vocabulary, metadata)?,
            pieces: pieces(&vocabulary, defaults.alphabet),
            vocabulary,
            ids,
            scheme,
            add_bos,
            add_eos,
            add_space_prefix,
        })
    }

    /// The token ids of `text`.
    pub fn encode(&self, text: &str, options: EncodeOptions) -> Vec<u32> {
        let mut out = Vec::with_capacity(text.len() / 4 + 2);
        let (first, last) = if options.add_special { self.around() } else { (None, None) };
        out.extend(first);
        let mut after_special = true;
        for fragment in self.partition.fragments(text, options.parse_special) {
            match fragment {
                Fragment::Token(id) => out.push(id),
                Fragment::Text(text) => match &self.scheme {
                    Scheme::Bpe(bpe) => bpe.encode(text, &mut out),
                    Scheme::Wpm(wpm) => wpm.encode(text, &mut out),
                    Scheme::Unigram(unigram) => unigram.encode(text, &mut out),
                    Scheme::Rwkv(rwkv) => rwkv.encode(text, &mut out),
                    Scheme::Spm(spm) => {
                        let lead_space = self.add_space_prefix && after_special;
                        spm.encode(&self.vocabulary, text, lead_space, &mut out);
                    }
                },
            }
            after_special = matches!(fragment, Fragment::Token(_));
        }
        out.extend(last);
        out
    }

    /// The tokens the model expects before and behind every text.
    fn around(&self) -> (Option<u32>, Option<u32>) {
        match self.scheme {
            // WordPiece models are trained with both, RWKV models with neither.
            Scheme::Wpm(_) => (self.ids.bos, self.ids.separator),
            Scheme::Rwkv(_) => (None, None),
            _ => (self.ids.bos.filter(|_| self.add_bos), self.ids.eos.filter(|_| self.add_eos)),
        }
    }

    /// The bytes of a text; usually, but not always, UTF-8. Ids outside the
    /// vocabulary are left out.
    ///
    /// Where the model puts a space before every text, the first token loses it.
    pub fn decode(&self, ids: &[u32], options: DecodeOptions) -> Vec<u8> {
        let mut text = Vec::with_capacity(4 * ids.len());
        for (i, id) in ids.iter().enumerate() {
            text.extend_from_slice(self.piece(*id, options, i == 0));
        }
        if self.cleans_spaces() { clean_spaces(text) } else { text }
    }

    /// A decoder for tokens that come one by one.
    pub fn stream(self: &Arc<Self>, options: DecodeOptions) -> StreamDecoder {
        StreamDecoder::new(self.clone(), options)
    }

    /// The bytes of one token inside a text: empty for a control token unless
    /// `special` is set, and for an id outside the vocabulary.
    pub fn token_bytes(&self, id: u32, special: bool) -> &[u8] {
        match self.vocabulary.kinds.get(id as usize) {
            Some(kind) if special || !kind.is_hidden() => self.pieces.bytes(id),
            _ => &[],
        }
    }

    /// The text of a token as the vocabulary spells it, such as `Ġthe`.
    pub fn token_text(&self, id: u32) -> Option<&str> {
        ((id as usize) < self.n_tokens()).then(|| self.vocabulary.text(id))
    }

    /// The token that the vocabulary spells `text`.
    pub fn token_id(&self, text: &str) -> Option<u32> {
        self.vocabulary.id(text)
    }

    /// Number of tokens in the vocabulary.
    pub fn n_tokens(&self) -> usize {
        self.vocabulary.n_tokens()
    }

    /// Whether [`EncodeOptions::add_special`] puts [`bos`](Self::bos) first.
    pub fn adds_bos(&self) -> bool {
        self.add_bos
    }

    /// Whether [`EncodeOptions::add_special`] puts [`eos`](Self::eos) last.
    pub fn adds_eos(&self) -> bool {
        self.add_eos
    }

    /// Beginning of a sequence (`[CLS]` in BERT).
    pub fn bos(&self) -> Option<u32> {
        self.ids.bos
    }

    /// End of a sequence.
    pub fn eos(&self) -> Option<u32> {
        self.ids.eos
    }

    /// End of a turn in a conversation.
    pub fn eot(&self) -> Option<u32> {
        self.ids.eot
    }

    /// Stands for what the vocabulary cannot spell.
    pub fn unknown(&self) -> Option<u32> {
        self.ids.unknown
    }

    /// Between two texts (`[SEP]` in BERT).
    pub fn separator(&self) -> Option<u32> {
        self.ids.separator
    }

    /// Fills up batches.
    pub fn pad(&self) -> Option<u32> {
        self.ids.padding
    }

    /// What a masked language model is to guess.
    pub fn mask(&self) -> Option<u32> {
        self.ids.mask
    }

    /// Whether a generation is over with this token: the end of a sequence, turn
    /// or message, or a token known by its name, as in llama.cpp.
    pub fn is_end_of_generation(&self, id: u32) -> bool {
        self.ids.end_of_generation.binary_search(&id).is_ok()
    }

    /// All tokens with which a generation is over, ascending.
    pub fn end_of_generation(&self) -> &[u32] {
        &self.ids.end_of_generation
    }

    /// Tokens that the file says a model must not choose.
    pub fn suppressed(&self) -> &[u32] {
        &self.ids.suppressed
    }

    /// Whether this is a control token: one with a meaning but no text.
    pub fn is_control(&self, id: u32) -> bool {
        self.vocabulary.kinds.get(id as usize) == Some(&TokenKind::Control)
    }

    /// What token `id` adds to a text, at its start or further on.
    pub(crate) fn piece(&self, id: u32, options: DecodeOptions, at_start: bool) -> &[u8] {
        let piece = self.token_bytes(id, options.special);
        match piece.strip_prefix(b" ") {
            Some(rest) if at_start && self.add_space_prefix => rest,
            _ => piece,
        }
    }

    pub(crate) fn cleans_spaces(&self) -> bool {
        matches!(self.scheme, Scheme::Wpm(_))
    }
}

/// The pre-tokenizer of a BPE model; `None` for other kinds.
fn bpe_pre_tokenizer(metadata: &Metadata, model: &str) -> Result<Option<&'static PreTokenizer>> {
    let name = match model {
        "llama" | "bert" | "t5" | "rwkv" => return Ok(None),
        "none" | "no_vocab" => {
            return Err(Error::NoVocabulary { key: MODEL.into(), found: model.into() }.into());
        }
        "gemma4" => "gemma4",
        "gpt2" => metadata.require_str(PRE)?,
        other => {
            return Err(Error::unsupported(MODEL, other, MODELS));
        }
    };
    match find(name) {
        Some(pre_tokenizer) => Ok(Some(pre_tokenizer)),
        None => Err(Error::unsupported(PRE, name, names().collect::<Vec<_>>().join(", "))),
    }
}

fn defaults(
    metadata: &Metadata,
    model: &str,
    pre_tokenizer: Option<&PreTokenizer>,
) -> Result<Defaults> {
    Ok(match (pre_tokenizer, model) {
        (Some(pre_tokenizer), _) => Defaults {
            ids: SpecialIds::default(),
            // Only where there is such a token: the name of a pre-tokenizer is
            // weaker evidence than the absence of one.
            add_bos: pre_tokenizer.add_bos && metadata.get(special::BOS).is_some(),
            add_eos: false,
            add_space_prefix: false,
            alphabet: pre_tokenizer.alphabet,
        },
        (None, "bert") => Defaults {
            // The ids of every BERT vocabulary that has its tokens in the usual place.
            ids: SpecialIds {
                bos: metadata.u32(special::CLS)?.or(Some(101)),
                unknown: Some(100),
                separator: Some(102),
                padding: Some(0),
                mask: Some(103),
                ..SpecialIds::default()
            },
            add_bos: true,
            add_eos: false,
            add_space_prefix: false,
            alphabet: Alphabet::SpaceMark,
        },
        (None, "t5") => Defaults {
            ids: SpecialIds {
                eos: Some(1),
                unknown: Some(2),
                padding: Some(0),
                ..SpecialIds::default()
            },
            add_bos: false,
            add_eos: true,
            add_space_prefix: false,
            alphabet: Alphabet::SpaceMark,
        },
        (None, "rwkv") => Defaults {
            ids: SpecialIds::default(),
            add_bos: false,
            add_eos: false,
            add_space_prefix: false,
            alphabet: Alphabet::Escaped,
        },
        (None, _) => Defaults {
            // SentencePiece's own ids.
            ids: SpecialIds {
                bos: Some(1),
                eos: Some(2),
                unknown: Some(0),
                ..SpecialIds::default()
            },
            add_bos: true,
            add_eos: false,
            add_space_prefix: true,
            alphabet: Alphabet::SpaceMark,
        },
    })
}
