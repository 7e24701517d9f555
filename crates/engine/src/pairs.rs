//! A query and a document as the tokens that a model which ranks wants to see.

use std::sync::Arc;

use realm_tokenizer::{EncodeOptions, Tokenizer};

use crate::error::Result;
use crate::loaded::Loaded;

/// How a model wants to see a query and a document.
pub(crate) struct PairForm {
    tokenizer: Arc<Tokenizer>,
    /// `tokenizer.chat_template.rerank`, with places for both.
    template: Option<String>,
    /// Stands between them in files that say so.
    separator: Option<u32>,
}

impl PairForm {
    pub(crate) fn read(loaded: &Loaded) -> Result<Self> {
        let metadata = loaded.gguf.metadata();
        let tokenizer = loaded.text()?.tokenizer.clone();
        let template = metadata.str("tokenizer.chat_template.rerank")?.map(str::to_owned);
        let adds_separator = metadata.bool("tokenizer.ggml.add_sep_token")?.unwrap_or(false);
        let separator = tokenizer.separator().filter(|_| adds_separator);
        Ok(PairForm { tokenizer, template, separator })
    }

    pub(crate) fn tokens(&self, query: &str, document: &str) -> Vec<u32> {
        match &self.template {
            Some(template) => from_template(&self.tokenizer, template, query, document),
            None => separated(&self.tokenizer, self.separator, query, document),
        }
    }
}

/// Fills in a template, in one pass: what stands in a query is no placeholder. The
/// whole is tokenised at once, names of special tokens included, as the models were
/// trained.
fn from_template(tokenizer: &Tokenizer, template: &str, query: &str, document: &str) -> Vec<u32> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((start, name, value)) = next_name(rest, query, document) {
        text.push_str(&rest[..start]);
        text.push_str(value);
        rest = &rest[start + name.len()..];
    }
    text.push_str(rest);
    tokenizer.encode(&text, EncodeOptions { add_special: false, parse_special: true })
}

/// The first placeholder of a template: where it is, its name, what it stands for.
fn next_name<'a>(
    template: &str,
    query: &'a str,
    document: &'a str,
) -> Option<(usize, &'static str, &'a str)> {
    [("{query}", query), ("{document}", document)]
        .into_iter()
        .filter_map(|(name, value)| Some((template.find(name)?, name, value)))
        .min_by_key(|found| found.0)
}

/// `[bos] query [eos] [separator] document [eos]`, as far as the file wants them.
/// Source: `format_prompt_rerank` in llama.cpp `tools/server`.
fn separated(
    tokenizer: &Tokenizer,
    separator: Option<u32>,
    query: &str,
    document: &str,
) -> Vec<u32> {
    let plain = EncodeOptions { add_special: false, parse_special: false };
    let end = tokenizer.eos().or(tokenizer.separator()).filter(|_| tokenizer.adds_eos());
    let mut out = Vec::new();
    out.extend(tokenizer.bos().filter(|_| tokenizer.adds_bos()));
    out.extend(tokenizer.encode(query, plain));
    out.extend(end);
    out.extend(separator);
    out.extend(tokenizer.encode(document, plain));
    out.extend(end);
    out
}

/// One number from a model's scores: a model of several classes names the relevant
/// one first.
pub(crate) fn score(scores: &[f32]) -> f32 {
    match scores {
        [first, _, ..] => {
            let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            (first - max).exp() / scores.iter().map(|score| (score - max).exp()).sum::<f32>()
        }
        _ => scores.first().copied().unwrap_or(0.0),
    }
}
