//! From tokens to the text of an answer.

use crate::stop::{StopMatcher, StopStrings, Stopped};

/// Turns tokens into text, one after another. Bytes that do not make a whole
/// code point yet are held back.
pub trait TextStream: Send {
    /// The text that `token` completes; empty when it completes none.
    fn push(&mut self, token: u32) -> String;
    /// What is held back, when no more tokens will come.
    fn finish(&mut self) -> String;
}

/// What generating has to know of a tokenizer.
pub trait Vocabulary: Send + Sync {
    /// Ids that end an answer.
    fn end_of_generation_tokens(&self) -> &[u32];
    /// Ids that are never chosen.
    fn suppressed_tokens(&self) -> &[u32];
    /// A decoder for one answer.
    fn text_stream(&self) -> Box<dyn TextStream>;
}

/// Text and tokens of one answer as they come.
pub(crate) struct Answer {
    stream: Box<dyn TextStream>,
    stops: StopMatcher,
    /// It does not end by itself before it has this many tokens.
    min_tokens: usize,
    /// Everything that was handed out.
    pub(crate) text: String,
    /// Tokens of the answer without the one that ended it.
    pub(crate) tokens: Vec<u32>,
    /// The stop string that was found.
    pub(crate) stop_text: Option<String>,
}

impl Answer {
    pub(crate) fn new(stream: Box<dyn TextStream>, stop: StopStrings, min_tokens: usize) -> Self {
        Answer {
            stream,
            stops: StopMatcher::new(stop),
            min_tokens,
            text: String::new(),
            tokens: Vec::new(),
            stop_text: None,
        }
    }

    /// Text in front of the answer, handed out as it is.
    pub(crate) fn echo(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Whether it must not end by itself yet.
    pub(crate) fn is_too_short(&self) -> bool {
        self.tokens.len() < self.min_tokens
    }

    /// Takes a token and gives the text that can be handed out with it.
    pub(crate) fn push(&mut self, token: u32) -> String {
        self.tokens.push(token);
        let piece = self.stream.push(token);
        self.pass(&piece)
    }

    /// Gives the text that was held back; nothing after a stop string.
    pub(crate) fn finish(&mut self) -> String {
        if self.stop_text.is_some() {
            return String::new();
        }
        let rest = self.stream.finish();
        let mut text = self.pass(&rest);
        if self.stop_text.is_none() {
            let held = self.stops.finish();
            self.text.push_str(&held);
            text.push_str(&held);
        }
        text
    }

    fn pass(&mut self, piece: &str) -> String {
        let text = match self.is_too_short() {
            true => self.stops.pass_over(piece),
            false => match self.stops.push(piece) {
                Stopped::Not(text) => text,
                Stopped::By(text, stop) => {
                    self.stop_text = Some(stop);
                    text
                }
            },
        };
        self.text.push_str(&text);
        text
    }
}
