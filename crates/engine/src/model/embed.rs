//! Embedding and ranking on the engine's thread.

use std::sync::Arc;

use realm_model::Pooling;
use realm_tokenizer::{EncodeOptions, Tokenizer};

use super::{Model, Reply};
use crate::core::EmbedOptions;
use crate::error::{Error, Result};
use crate::loaded::Loaded;
use crate::options::Prompt;

/// A model's special tokens are added to texts; their names in a text are plain text.
const TEXT: EncodeOptions = EncodeOptions { add_special: true, parse_special: false };

impl Model {
    /// One vector per text, see [`crate::core::Core::embed`]. Without `pooling`, the
    /// file's own; token ids are taken as they are.
    pub fn embed(
        &self,
        texts: Vec<Prompt>,
        pooling: Option<Pooling>,
        normalize: bool,
        reply: Reply<Vec<Vec<f32>>>,
    ) {
        let tokenizer = match self.loaded() {
            Ok(loaded) => loaded.tokenizer.clone(),
            Err(error) => return reply.send(Err(error)),
        };
        self.call(reply, async move |core| {
            let tokens = |text| match text {
                Prompt::Text(text) => Ok(tokenizer.encode(&text, TEXT)),
                Prompt::Tokens(tokens) => Ok(tokens),
                Prompt::Chat { .. } => Err(Error::invalid("a conversation has no embedding")),
            };
            let texts: Vec<Vec<u32>> = texts.into_iter().map(tokens).collect::<Result<_>>()?;
            let pooling = match pooling.unwrap_or(core.default_pooling()) {
                Pooling::Rank => {
                    return Err(Error::invalid("the model ranks: use rerank, or name a pooling"));
                }
                pooling => pooling,
            };
            core.embed(&texts, EmbedOptions { pooling, normalize }).await
        });
    }

    /// How well each document answers the query: the first of the model's scores, or
    /// the share of the first in their softmax where a model has several.
    ///
    /// # Errors
    /// Through `reply`: `INVALID_ARGUMENT` when the model does not rank, and those of
    /// [`Model::embed`].
    pub fn rank(&self, query: String, documents: Vec<String>, reply: Reply<Vec<f32>>) {
        let form = self.loaded().and_then(|loaded| PairForm::read(&loaded));
        let form = match form {
            Ok(form) => form,
            Err(error) => return reply.send(Err(error)),
        };
        self.call(reply, async move |core| {
            if core.default_pooling() != Pooling::Rank {
                return Err(Error::invalid(format!(
                    "the model does not rank: its pooling is \"{}\"; rank by comparing embeddings",
                    core.default_pooling().as_str()
                )));
            }
            let pair = |document: &String| form.tokens(&query, document);
            let pairs: Vec<Vec<u32>> = documents.iter().map(pair).collect();
            let options = EmbedOptions { pooling: Pooling::Rank, normalize: false };
            let scores = core.embed(&pairs, options).await?;
            Ok(scores.iter().map(|scores| score(scores)).collect())
        });
    }
}

/// How a model wants to see a query and a document.
struct PairForm {
    tokenizer: Arc<Tokenizer>,
    /// `tokenizer.chat_template.rerank`, with places for both.
    template: Option<String>,
    /// Stands between them in files that say so.
    separator: Option<u32>,
}

impl PairForm {
    fn read(loaded: &Loaded) -> Result<Self> {
        let metadata = loaded.gguf.metadata();
        let template = metadata.str("tokenizer.chat_template.rerank")?.map(str::to_owned);
        let adds_separator = metadata.bool("tokenizer.ggml.add_sep_token")?.unwrap_or(false);
        let separator = loaded.tokenizer.separator().filter(|_| adds_separator);
        Ok(PairForm { tokenizer: loaded.tokenizer.clone(), template, separator })
    }

    fn tokens(&self, query: &str, document: &str) -> Vec<u32> {
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
fn score(scores: &[f32]) -> f32 {
    match scores {
        [first, _, ..] => {
            let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            (first - max).exp() / scores.iter().map(|score| (score - max).exp()).sum::<f32>()
        }
        _ => scores.first().copied().unwrap_or(0.0),
    }
}
