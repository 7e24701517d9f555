//! What a model gives besides logits: hidden states to pool, scores of a pair.

use realm_ir::Slot;

use crate::error::{Error, Result};
use crate::hyperparameters::Keys;

/// How the hidden states of a text become one vector (`<architecture>.pooling_type`,
/// `llama_pooling_type` in llama.cpp `include/llama.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// They do not: a vector for each token.
    None,
    /// Their mean.
    Mean,
    /// That of the first token.
    Cls,
    /// That of the last token.
    Last,
    /// Scores, from the first token of an encoder or the last of a decoder.
    Rank,
}

impl Pooling {
    /// Every kind, in the order of the file's numbers.
    pub const ALL: [Pooling; 5] =
        [Pooling::None, Pooling::Mean, Pooling::Cls, Pooling::Last, Pooling::Rank];

    /// The name in options and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Pooling::None => "none",
            Pooling::Mean => "mean",
            Pooling::Cls => "cls",
            Pooling::Last => "last",
            Pooling::Rank => "rank",
        }
    }

    /// What the file says; where it says nothing, the mean of an encoder and the last
    /// token of a decoder, which alone has seen the whole text.
    pub(crate) fn read(keys: &Keys<'_>, is_encoder: bool) -> Result<Self> {
        let key = keys.key("pooling_type");
        match keys.metadata.u32(&key)? {
            None if is_encoder => Ok(Pooling::Mean),
            None => Ok(Pooling::Last),
            Some(number) => {
                let known = Pooling::ALL.get(number as usize).copied();
                known.ok_or_else(|| Error::unsupported(key, number, "0 to 4"))
            }
        }
    }
}

/// Where the head leaves hidden states and scores.
#[derive(Clone, Copy, Debug)]
pub struct EmbeddingPlan {
    /// Hidden states after the last norm, `[output rows, embedding_length]`.
    pub hidden: Slot,
    /// Scores `[output rows, classes]` of models that rank.
    pub scores: Option<Slot>,
    /// What the file asks for.
    pub pooling: Pooling,
    /// Whether every position sees every other: a text has to be read in one batch,
    /// and nothing can be generated.
    pub is_encoder: bool,
}
