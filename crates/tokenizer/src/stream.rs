//! Decoding token by token.

use std::sync::Arc;

use crate::pieces::{clean_spaces, cleanable};
use crate::tokenizer::{DecodeOptions, Tokenizer};

/// Turns tokens into text as they come; see [`Tokenizer::stream`].
///
/// Bytes are held back until they form whole code points, so no chunk ends in
/// the middle of one. All chunks together, with that of [`finish`](Self::finish),
/// are what [`Tokenizer::decode`] gives for all tokens, with U+FFFD for whatever
/// is not UTF-8.
pub struct StreamDecoder {
    tokenizer: Arc<Tokenizer>,
    options: DecodeOptions,
    /// No token was pushed yet.
    at_start: bool,
    held: Vec<u8>,
}

impl StreamDecoder {
    pub(crate) fn new(tokenizer: Arc<Tokenizer>, options: DecodeOptions) -> Self {
        StreamDecoder { tokenizer, options, at_start: true, held: Vec::new() }
    }

    /// The text that token `id` completes; often empty.
    pub fn push(&mut self, id: u32) -> String {
        let piece = self.tokenizer.piece(id, self.options, self.at_start);
        self.held.extend_from_slice(piece);
        self.at_start = false;
        let ready = if self.tokenizer.cleans_spaces() {
            cleanable(&self.held)
        } else {
            self.held.len() - incomplete(&self.held)
        };
        self.take(ready)
    }

    /// The text still held back; bytes that are no whole code point become
    /// U+FFFD. The decoder is then as new.
    pub fn finish(&mut self) -> String {
        self.at_start = true;
        self.take(self.held.len())
    }

    fn take(&mut self, len: usize) -> String {
        let mut ready: Vec<u8> = self.held.drain(..len).collect();
        if self.tokenizer.cleans_spaces() {
            ready = clean_spaces(ready);
        }
        String::from_utf8(ready)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }
}

/// How many bytes at the end begin a code point that later bytes may complete.
fn incomplete(bytes: &[u8]) -> usize {
    match bytes.utf8_chunks().last() {
        // `invalid` is the longest prefix of a code point there is at the end;
        // it may only become one if one more byte could continue it.
        Some(chunk) if could_continue(chunk.invalid()) => chunk.invalid().len(),
        _ => 0,
    }
}

/// Whether these bytes, which are not UTF-8, are the beginning of something that is.
fn could_continue(bytes: &[u8]) -> bool {
    match std::str::from_utf8(bytes) {
        // No error length: the input ended too early.
        Err(error) => error.error_len().is_none(),
        Ok(_) => false,
    }
}
