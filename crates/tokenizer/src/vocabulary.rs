//! The tokens of a vocabulary: texts, kinds, scores and the special ones.

use realm_gguf::{Metadata, Value};

use crate::error::{Error, Result};
use crate::special::{self, Role};
use crate::strings::Strings;

pub(crate) const TOKENS: &str = "tokenizer.ggml.tokens";
const TOKEN_TYPES: &str = "tokenizer.ggml.token_type";
const SCORES: &str = "tokenizer.ggml.scores";

/// What a token is for; the numbers are those of `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    Undefined,
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl TokenKind {
    fn from_number(number: i32) -> Self {
        match number {
            1 => TokenKind::Normal,
            2 => TokenKind::Unknown,
            3 => TokenKind::Control,
            4 => TokenKind::UserDefined,
            5 => TokenKind::Unused,
            6 => TokenKind::Byte,
            _ => TokenKind::Undefined,
        }
    }

    /// Shown only when special tokens are rendered.
    pub(crate) fn is_hidden(self) -> bool {
        matches!(self, TokenKind::Control | TokenKind::Unknown)
    }

    /// Found in a text before it is tokenized.
    pub(crate) fn is_cut_out(self) -> bool {
        self.is_hidden() || self == TokenKind::UserDefined
    }
}

/// The ids that have a meaning of their own.
#[derive(Clone, Debug, Default)]
pub(crate) struct SpecialIds {
    pub(crate) bos: Option<u32>,
    pub(crate) eos: Option<u32>,
    pub(crate) eot: Option<u32>,
    pub(crate) unknown: Option<u32>,
    pub(crate) separator: Option<u32>,
    pub(crate) padding: Option<u32>,
    pub(crate) mask: Option<u32>,
    /// Ascending.
    pub(crate) end_of_generation: Vec<u32>,
    /// In the file's order.
    pub(crate) suppressed: Vec<u32>,
}

/// Texts by id and back, kinds, scores.
pub(crate) struct Vocabulary {
    pub(crate) texts: Strings,
    pub(crate) kinds: Vec<TokenKind>,
    /// Empty when the file has none.
    pub(crate) scores: Vec<f32>,
    /// The longest text.
    pub(crate) max_text_bytes: usize,
}

impl Vocabulary {
    pub(crate) fn from_metadata(metadata: &Metadata) -> Result<Self> {
        let tokens = metadata.require_string_array(TOKENS)?;
        let n_tokens = tokens.len();
        // Ids are i32 in every file that has them in an array of its own.
        if n_tokens == 0 || n_tokens > i32::MAX as usize {
            let found = format!("{n_tokens} tokens");
            return Err(Error::invalid(TOKENS, found, "1 to 2147483647 tokens"));
        }
        let numbers = metadata.i32_array(TOKEN_TYPES)?;
        check_len(TOKEN_TYPES, numbers.as_ref().map(Vec::len), n_tokens)?;
        let scores = metadata.f32_array(SCORES)?;
        check_len(SCORES, scores.as_ref().map(Vec::len), n_tokens)?;

        let n_bytes = tokens.iter().map(<[u8]>::len).sum();
        let mut texts = Strings::with_capacity(n_tokens, n_bytes);
        let mut max_text_bytes = 0;
        for i in 0..n_tokens {
            let text = tokens.str(i)?;
            max_text_bytes = max_text_bytes.max(text.len());
            if text.is_empty() {
                // An empty text would match everywhere.
                texts.push_unfindable(b"");
            } else {
                texts.push(text.as_bytes());
            }
        }
        let kinds = match numbers {
            Some(numbers) => numbers.into_iter().map(TokenKind::from_number).collect(),
            None => vec![TokenKind::Normal; n_tokens],
        };
        Ok(Vocabulary { texts, kinds, scores: scores.unwrap_or_default(), max_text_bytes })
    }

    pub(crate) fn n_tokens(&self) -> usize {
        self.kinds.len()
    }

    /// The text of token `id`, which must exist.
    pub(crate) fn text(&self, id: u32) -> &str {
        std::str::from_utf8(self.texts.bytes(id)).expect("texts are checked when they are read")
    }

    pub(crate) fn id(&self, text: &str) -> Option<u32> {
        self.texts.get(text.as_bytes())
    }

    /// Every token's text and id.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&[u8], u32)> {
        (0..self.n_tokens() as u32).map(|id| (self.texts.bytes(id), id))
    }

    /// The texts and ids of the tokens whose kind is `wanted`.
    pub(crate) fn entries_of(
        &self,
        wanted: fn(TokenKind) -> bool,
    ) -> impl Iterator<Item = (&[u8], u32)> {
        self.entries().filter(move |(_, id)| wanted(self.kinds[*id as usize]))
    }

    /// The token of a single byte in vocabularies that spell them `<0x0A>`.
    pub(crate) fn spelled_byte(&self, byte: u8) -> Option<u32> {
        self.id(&format!("<0x{byte:02X}>"))
    }

    /// Reads the special ids and settles the kinds of tokens that are control
    /// tokens by their name, as llama.cpp does (`llama_vocab::impl::load`).
    pub(crate) fn special_ids(
        &mut self,
        metadata: &Metadata,
        defaults: SpecialIds,
        warnings: &mut Vec<String>,
    ) -> Result<SpecialIds> {
        let mut id = |key, default| self.special_id(metadata, key, default, warnings);
        let mut ids = SpecialIds {
            bos: id(special::BOS, defaults.bos)?,
            eos: id(special::EOS, defaults.eos)?,
            unknown: id(special::UNKNOWN, defaults.unknown)?,
            separator: id(special::SEPARATOR, defaults.separator)?,
            padding: id(special::PADDING, defaults.padding)?,
            mask: id(special::MASK, defaults.mask)?,
            suppressed: self.suppressed(metadata)?,
            ..SpecialIds::default()
        };
        let mut ends: Vec<u32> = Vec::new();
        for role in special::ROLES {
            let id = self.role_id(metadata, role, warnings)?;
            if role.key == special::EOT {
                ids.eot = id;
            }
            if role.ends_generation {
                ends.extend(id);
            }
        }
        for name in special::END_OF_GENERATION {
            if let Some(id) = self.id(name) {
                self.kinds[id as usize] = TokenKind::Control;
                ends.push(id);
            }
        }
        for name in special::ALWAYS_SHOWN {
            if let Some(id) = self.id(name) {
                self.kinds[id as usize] = TokenKind::UserDefined;
            }
        }
        ends.extend(ids.eos);
        for rule in special::NOT_AN_END {
            let ends_with = |name: &&str| self.id(name).is_some_and(|id| ends.contains(&id));
            if let Some(id) = self.id(rule.name)
                && ends.contains(&id)
                && rule.beside.iter().all(ends_with)
            {
                ends.retain(|end| *end != id);
                self.kinds[id as usize] = rule.kind;
            }
        }
        ends.sort_unstable();
        ends.dedup();
        ids.end_of_generation = ends;
        Ok(ids)
    }

    /// The id under `key`; else the default, if the vocabulary is large enough.
    ///
    /// As in llama.cpp, an id that is not in the vocabulary counts as absent, with a warning:
    /// converters write -1 for a token that a model does not have, and some the ids of a
    /// vocabulary that was longer.
    pub(crate) fn special_id(
        &self,
        metadata: &Metadata,
        key: &str,
        default: Option<u32>,
        warnings: &mut Vec<String>,
    ) -> Result<Option<u32>> {
        let n_tokens = self.n_tokens();
        let default = default.filter(|id| (*id as usize) < n_tokens);
        let integer = metadata.get(key).and_then(Value::as_integer);
        if let Some(found) = integer.filter(|id| !(0..n_tokens as i128).contains(id)) {
            let taken = default.map_or("there is no such token".to_owned(), |id| {
                format!("{id} is taken, which is usual for tokenizers of this kind")
            });
            warnings.push(format!("{key} is {found}, the vocabulary has {n_tokens}: {taken}"));
            return Ok(default);
        }
        Ok(metadata.u32(key)?.or(default))
    }

    /// What the file says is never to be chosen; as everywhere, -1 stands for no token.
    fn suppressed(&self, metadata: &Metadata) -> Result<Vec<u32>> {
        let ids = metadata.i32_array(special::SUPPRESSED)?.unwrap_or_default();
        let ids = ids.into_iter().filter_map(|id| u32::try_from(id).ok());
        Ok(ids.filter(|id| (*id as usize) < self.n_tokens()).collect())
    }

    /// The id a role has by its key, or else by one of its well-known names.
    fn role_id(
        &mut self,
        metadata: &Metadata,
        role: &Role,
        warnings: &mut Vec<String>,
    ) -> Result<Option<u32>> {
        if let Some(id) = self.special_id(metadata, role.key, None, warnings)? {
            return Ok(Some(id));
        }
        let id = role.names.iter().find_map(|name| self.id(name));
        if let Some(id) = id {
            self.kinds[id as usize] = TokenKind::Control;
        }
        Ok(id)
    }
}

fn check_len(key: &str, len: Option<usize>, n_tokens: usize) -> Result<()> {
    match len {
        Some(len) if len != n_tokens => {
            let expected = format!("{n_tokens} entries, as many as {TOKENS}");
            Err(Error::invalid(key, format!("{len} entries"), expected))
        }
        _ => Ok(()),
    }
}
