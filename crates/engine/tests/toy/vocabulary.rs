//! What the toy's tokens spell.

use realm_engine::requests::{TextStream, Vocabulary};

use super::END;

/// Letters, and `é` in two tokens.
pub struct ToyVocabulary {
    /// Never chosen.
    pub suppressed: Vec<u32>,
}

impl Vocabulary for ToyVocabulary {
    fn end_of_generation_tokens(&self) -> &[u32] {
        &[END]
    }

    fn suppressed_tokens(&self) -> &[u32] {
        &self.suppressed
    }

    fn text_stream(&self) -> Box<dyn TextStream> {
        Box::new(ToyText::default())
    }
}

#[derive(Default)]
struct ToyText(Vec<u8>);

impl TextStream for ToyText {
    fn push(&mut self, token: u32) -> String {
        match token {
            1 => self.0.push(0xc3),
            2 => self.0.push(0xa9),
            _ => self.0.push(b'a' + ((token + 23) % 26) as u8),
        }
        match std::str::from_utf8(&self.0) {
            Err(error) if error.error_len().is_none() => String::new(),
            _ => self.finish(),
        }
    }

    fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.0)).into_owned()
    }
}
