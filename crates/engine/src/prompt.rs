//! From what a program asks to the token ids that a request reads.
//!
//! [`prepare`] is the one place where a prompt becomes tokens. It takes time with long texts, so
//! [`Input::is_long`] says which of them are better prepared beside the engine's thread.

use std::panic::{AssertUnwindSafe, catch_unwind};

use realm_tokenizer::{DecodeOptions, EncodeOptions};

use crate::chat::TIME_IN_BACKGROUND;
use crate::error::{Error, Result};
use crate::loaded::Loaded;
use crate::options::Prompt;
use crate::pairs::PairForm;

/// Text from this many bytes on is long: it takes milliseconds to tokenise.
const LONG_TEXT_BYTES: usize = 16 << 10;

/// A model's special tokens are added to texts; their names in a text are plain text.
const TEXT: PromptOptions = PromptOptions { add_special: true, parse_special: false, echo: false };

/// A prompt or a text as the engine takes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prepared {
    /// Its token ids.
    pub tokens: Vec<u32>,
    /// Its text, when it is wanted in front of the answer.
    pub text: Option<String>,
}

/// How a prompt becomes tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PromptOptions {
    /// Adds the tokens that the model wants around a text, such as BOS.
    pub(crate) add_special: bool,
    /// Takes text such as `<|im_end|>` for the token it names.
    pub(crate) parse_special: bool,
    /// Whether its text is wanted back.
    pub(crate) echo: bool,
}

/// Everything that one request reads.
#[derive(Debug)]
pub(crate) enum Input {
    /// A prompt that is to be continued.
    Prompt(Prompt, PromptOptions),
    /// Texts that are to become vectors.
    Texts(Vec<Prompt>),
    /// A query, with each of several documents.
    Pairs { query: String, documents: Vec<String> },
}

impl Input {
    /// Whether it may take so long to prepare that others would notice: much text does, and a
    /// template may.
    pub(crate) fn is_long(&self) -> bool {
        if matches!(self, Input::Prompt(Prompt::Chat { .. }, _)) {
            return true;
        }
        let bytes = match self {
            Input::Prompt(prompt, _) => text_bytes(prompt),
            Input::Texts(texts) => texts.iter().map(text_bytes).sum(),
            Input::Pairs { query, documents } => {
                documents.iter().map(|document| query.len() + document.len()).sum()
            }
        };
        bytes >= LONG_TEXT_BYTES
    }

    /// The tokens of each prompt or text. A panic on the way is an error of this input alone.
    ///
    /// # Errors
    /// What is wrong with it; `INTERNAL` for a panic.
    pub(crate) fn prepare(self, loaded: &Loaded) -> Result<Vec<Prepared>> {
        unless_it_panics(|| match self {
            Input::Prompt(prompt, options) => Ok(vec![prepare(loaded, prompt, options)?]),
            Input::Texts(texts) => {
                if texts.iter().any(|text| matches!(text, Prompt::Chat { .. })) {
                    return Err(Error::invalid("a conversation has no embedding"));
                }
                texts.into_iter().map(|text| prepare(loaded, text, TEXT)).collect()
            }
            Input::Pairs { query, documents } => {
                let form = PairForm::read(loaded)?;
                let pair = |document: String| form.tokens(&query, &document);
                let prepared = |tokens| Prepared { tokens, text: None };
                Ok(documents.into_iter().map(pair).map(prepared).collect())
            }
        })
    }
}

/// What `work` gives, or the panic that ended it as an error.
fn unless_it_panics<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(Error::from_panic(panic.as_ref())))
}

/// Bytes that have to be tokenised.
fn text_bytes(prompt: &Prompt) -> usize {
    match prompt {
        Prompt::Text(text) => text.len(),
        Prompt::Tokens(_) | Prompt::Chat { .. } => 0,
    }
}

/// The tokens of a prompt, and its text if that is wanted.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn prepare(loaded: &Loaded, prompt: Prompt, options: PromptOptions) -> Result<Prepared> {
    let PromptOptions { add_special, parse_special, echo } = options;
    let tokenizer = &loaded.tokenizer;
    let encoded = |text: String| {
        let tokens = tokenizer.encode(&text, EncodeOptions { add_special, parse_special });
        Prepared { tokens, text: echo.then_some(text) }
    };
    Ok(match prompt {
        Prompt::Text(text) => encoded(text),
        Prompt::Chat { template, arguments } => {
            let template = template.as_deref();
            encoded(loaded.templates.render(template, &arguments, TIME_IN_BACKGROUND)?)
        }
        Prompt::Tokens(tokens) => {
            let text = echo.then(|| {
                let bytes = tokenizer.decode(&tokens, DecodeOptions::default());
                String::from_utf8_lossy(&bytes).into_owned()
            });
            Prepared { tokens, text }
        }
    })
}

#[cfg(test)]
mod tests {
    use realm_ir::Coded;

    use crate::code::ErrorCode;

    use super::*;

    #[test]
    fn a_panic_while_a_prompt_is_prepared_is_an_error_of_that_prompt() {
        let error = unless_it_panics::<()>(|| panic!("a defect in a tokenizer")).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Internal);
        assert!(error.to_string().contains("a defect in a tokenizer"), "{error}");
    }

    #[test]
    fn what_has_to_be_tokenised_decides_whether_an_input_is_long() {
        let text = |n: usize| Prompt::Text("a".repeat(n));
        assert!(Input::Prompt(text(16 << 10), TEXT).is_long());
        assert!(!Input::Prompt(text((16 << 10) - 1), TEXT).is_long());
        assert!(!Input::Prompt(Prompt::Tokens(vec![1; 1 << 20]), TEXT).is_long());
        assert!(Input::Texts(vec![text(10_000), text(10_000)]).is_long());
        let documents = vec!["b".repeat(5_000); 2];
        assert!(Input::Pairs { query: "q".repeat(5_000), documents }.is_long());
    }
}
