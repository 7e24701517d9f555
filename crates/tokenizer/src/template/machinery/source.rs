//! What of a source the compiler is given.

use minijinja::machinery::{self, Token};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Error, ErrorKind};

use super::blocks::Rewriter;

/// The longest templates in use have some 20 000 bytes.
const MAX_SOURCE_BYTES: usize = 256 << 10;
/// Tokens between `{{` and `}}` or `{%` and `%}`; expressions nest at most as deep.
const MAX_TAG_TOKENS: usize = 2000;
/// Squares of the tokens in each tag, summed up: so often may the compiler look at a token,
/// which it does for every operator around it. Templates in use have some 30 000.
const MAX_LOOKS: usize = 16_000_000;
/// `elif`s of a template, which nest as well.
const MAX_ELIFS: usize = 256;
/// What the engine may compute while it compiles, and keep: elements of repeated constants
/// of all tags together.
const MAX_CONSTANTS: u64 = 1 << 20;

/// Refuses sources on which the compiler itself would use too much stack, memory or time.
///
/// Gives back the source with its blocks rewritten.
pub(super) fn check(source: &str, syntax: &SyntaxConfig) -> Result<String, Error> {
    let mut blocks = Rewriter::new(source);
    let too_large = |what: String| Err(Error::new(ErrorKind::SyntaxError, what));
    if source.len() > MAX_SOURCE_BYTES {
        let n = source.len();
        return too_large(format!("{n} bytes, more than the {MAX_SOURCE_BYTES} that are read"));
    }
    let (mut n_elifs, mut n_looks, mut n_constants) = (0, 0, 0u64);
    let mut tag = Tag::default();
    for token in machinery::tokenize(source, false, syntax.clone()) {
        let (token, span) = token?;
        blocks.token(&token, span, tag.is_block && tag.n_tokens == 1);
        let begins_tag = matches!(token, Token::VariableStart | Token::BlockStart);
        if begins_tag {
            n_constants = n_constants.saturating_add(tag.n_constants());
            n_looks += tag.n_tokens * tag.n_tokens;
            tag = Tag { is_block: matches!(token, Token::BlockStart), ..Tag::default() };
        }
        match token {
            Token::Ident("elif") => n_elifs += 1,
            Token::Mul => tag.multiplies = true,
            Token::Int(value) => tag.factor = tag.factor.saturating_mul(value.max(1)),
            Token::Str(text) => tag.n_bytes += text.len() as u64,
            Token::String(text) => tag.n_bytes += text.len() as u64,
            _ => {}
        }
        tag.n_tokens += 1;
        let line = span.start_line;
        if tag.n_tokens > MAX_TAG_TOKENS {
            return too_large(format!("line {line}: more than {MAX_TAG_TOKENS} tokens in one tag"));
        }
        if n_elifs > MAX_ELIFS {
            return too_large(format!("line {line}: more than {MAX_ELIFS} elif"));
        }
        if n_looks + tag.n_tokens * tag.n_tokens > MAX_LOOKS {
            return too_large(format!("line {line}: too many long expressions"));
        }
        if n_constants.saturating_add(tag.n_constants()) > MAX_CONSTANTS {
            return too_large(format!("line {line}: products of constants are too large"));
        }
    }
    Ok(blocks.finish())
}

/// What is known of the tag that is being read.
struct Tag {
    /// Between `{%` and `%}`.
    is_block: bool,
    n_tokens: usize,
    n_bytes: u64,
    /// The product of its integers.
    factor: u64,
    multiplies: bool,
}

impl Default for Tag {
    fn default() -> Self {
        Tag { is_block: false, n_tokens: 0, n_bytes: 0, factor: 1, multiplies: false }
    }
}

impl Tag {
    /// At most so many elements come of its constants.
    fn n_constants(&self) -> u64 {
        match self.multiplies {
            true => (self.n_bytes + self.n_tokens as u64).saturating_mul(self.factor),
            false => 0,
        }
    }
}
