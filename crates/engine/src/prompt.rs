//! From what a program asks to the token ids that a request reads.
//!
//! [`prepare`] is the one place where a prompt becomes tokens. It takes time with long texts, so
//! [`Input::is_long`] says which of them are better prepared beside the engine's thread.

use std::panic::{AssertUnwindSafe, catch_unwind};

use realm_tokenizer::{DecodeOptions, EncodeOptions};

#[cfg(not(target_arch = "wasm32"))]
use crate::chat::TIME_AT_FIRST;
use crate::chat::{ChatArguments, TIME_IN_BACKGROUND};
use crate::error::{Error, Result};
use crate::loaded::Loaded;
use crate::options::Prompt;
use crate::pairs::PairForm;

/// Text from this many bytes on is long: it takes milliseconds to tokenise.
const LONG_TEXT_BYTES: usize = 16 << 10;

/// Text from this many bytes on takes tens of milliseconds.
#[cfg(not(target_arch = "wasm32"))]
const LARGE_TEXT_BYTES: usize = 64 << 10;

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
        let is_chat = matches!(self, Input::Prompt(Prompt::Chat { .. }, _));
        is_chat || self.n_bytes() >= LONG_TEXT_BYTES
    }

    /// Whether it takes longer than other long ones should wait for.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn is_large(&self) -> bool {
        self.n_bytes() >= LARGE_TEXT_BYTES
    }

    /// Bytes that have to be read.
    fn n_bytes(&self) -> usize {
        match self {
            Input::Prompt(prompt, _) => text_bytes(prompt),
            Input::Texts(texts) => texts.iter().map(text_bytes).sum(),
            Input::Pairs { query, documents } => {
                documents.iter().map(|document| query.len() + document.len()).sum()
            }
        }
    }

    /// Prepares it if that takes tens of milliseconds at most.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn attempt(self, loaded: &Loaded) -> Attempt {
        let input = match self {
            Input::Prompt(Prompt::Chat { template, arguments }, options) => {
                let render =
                    || loaded.templates.render(template.as_deref(), &arguments, TIME_AT_FIRST);
                match unless_it_panics(render) {
                    Ok(text) => Input::Prompt(Prompt::Text(text), options),
                    Err(error) if error.is_template_too_slow() => {
                        let chat = Prompt::Chat { template, arguments };
                        return Attempt::Left(Input::Prompt(chat, options));
                    }
                    Err(error) => return Attempt::Done(Err(error)),
                }
            }
            input => input,
        };
        match input.is_large() {
            true => Attempt::Left(input),
            false => Attempt::Done(input.prepare(loaded, &|| true)),
        }
    }

    /// The tokens of each prompt or text. A panic on the way is an error of this input alone.
    ///
    /// # Errors
    /// What is wrong with it; `ABORTED` when it is no longer wanted between two of several
    /// texts; `INTERNAL` for a panic.
    pub(crate) fn prepare(
        self,
        loaded: &Loaded,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Vec<Prepared>> {
        let check_wanted = || if is_wanted() { Ok(()) } else { Err(Error::Aborted) };
        unless_it_panics(|| match self {
            Input::Prompt(prompt, options) => Ok(vec![prepare(loaded, prompt, options)?]),
            Input::Texts(texts) => {
                if texts.iter().any(|text| matches!(text, Prompt::Chat { .. })) {
                    return Err(Error::invalid("a conversation has no embedding"));
                }
                let one = |text| check_wanted().and_then(|()| prepare(loaded, text, TEXT));
                texts.into_iter().map(one).collect()
            }
            Input::Pairs { query, documents } => {
                let form = PairForm::read(loaded)?;
                let pair = |document: String| {
                    check_wanted()?;
                    Ok(Prepared { tokens: form.tokens(&query, &document), text: None })
                };
                documents.into_iter().map(pair).collect()
            }
        })
    }
}

/// What became of an input that was tried.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) enum Attempt {
    Done(Result<Vec<Prepared>>),
    /// It takes longer: what is left to prepare.
    Left(Input),
}

/// What `work` gives, or the panic that ended it as an error.
fn unless_it_panics<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(Error::from_panic(panic.as_ref())))
}

/// Bytes that have to be read before there are tokens.
fn text_bytes(prompt: &Prompt) -> usize {
    match prompt {
        Prompt::Text(text) => text.len(),
        Prompt::Tokens(_) => 0,
        Prompt::Chat { template, arguments } => {
            let ChatArguments { messages, tools, variables, .. } = arguments;
            let optional = [template, tools].map(|text| text.as_ref().map_or(0, String::len));
            messages.len() + variables.len() + optional[0] + optional[1]
        }
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
