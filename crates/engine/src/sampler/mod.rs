//! From logits to a token.
//!
//! The chain is llama.cpp's default one, as far as it is there: repeat penalty,
//! top-k, top-p, min-p, temperature, draw. Probabilities of top-p and min-p are
//! those before the temperature. A temperature of 0 takes the best token, the
//! lowest id among equals, and draws nothing.

mod candidates;
mod random;
#[cfg(test)]
mod tests;

use candidates::Candidates;
use random::SplitMix64;

use crate::error::{Error, Result};

/// How a token is chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingOptions {
    /// Divides the logits before the draw; 0 takes the best token.
    pub temperature: f32,
    /// Keeps this many best tokens; 0 keeps all.
    pub top_k: u32,
    /// Keeps the fewest best tokens with this much probability together; 1 keeps all.
    pub top_p: f32,
    /// Keeps tokens at least this many times as likely as the best; 0 keeps all.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of recent tokens; 1 changes nothing.
    pub repeat_penalty: f32,
    /// How many of the last tokens, prompt included, count as recent.
    pub repeat_last_n: usize,
    /// Start of the random numbers: the same seed gives the same text.
    pub seed: u64,
}

impl Default for SamplingOptions {
    /// Greedy: the best token, nothing else.
    fn default() -> Self {
        SamplingOptions {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            seed: 0,
        }
    }
}

impl SamplingOptions {
    /// Refuses what has no meaning.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` naming the option, its value and its range.
    pub fn check(&self) -> Result<()> {
        let checks = [
            ("temperature", self.temperature, 0.0..=f32::MAX),
            ("topP", self.top_p, 0.0..=1.0),
            ("minP", self.min_p, 0.0..=1.0),
            ("repeatPenalty", self.repeat_penalty, f32::MIN_POSITIVE..=f32::MAX),
        ];
        for (name, value, range) in checks {
            if !range.contains(&value) {
                let (low, high) = (range.start(), range.end());
                let wanted = match name {
                    "topP" | "minP" => format!("{low} to {high}"),
                    "repeatPenalty" => "a number above 0".into(),
                    _ => "a number of 0 or more".into(),
                };
                return Err(Error::invalid(format!("{name} is {value}, expected {wanted}")));
            }
        }
        Ok(())
    }
}

/// Chooses the tokens of one generation. It has its own random numbers, so that
/// its choices do not depend on what else is running.
#[derive(Debug)]
pub(crate) struct Sampler {
    options: SamplingOptions,
    random: SplitMix64,
    candidates: Candidates,
}

impl Sampler {
    pub(crate) fn new(options: SamplingOptions) -> Self {
        let random = SplitMix64::new(options.seed);
        Sampler { options, random, candidates: Candidates::default() }
    }

    pub(crate) fn seed(&self) -> u64 {
        self.options.seed
    }

    /// Chooses a token. `logits` are changed; `history` are all tokens so far,
    /// `forbidden` those that must not be chosen.
    ///
    /// # Errors
    /// `INTERNAL` when a logit is not a number or infinite, or no token is left.
    pub(crate) fn sample<'a>(
        &mut self,
        logits: &mut [f32],
        history: &[u32],
        forbidden: impl IntoIterator<Item = &'a u32>,
    ) -> Result<u32> {
        if let Some(token) = logits.iter().position(|l| l.is_nan() || *l == f32::INFINITY) {
            let found = logits[token];
            return Err(Error::internal(format!(
                "the logit of token {token} is {found}, expected a finite number"
            )));
        }
        for token in forbidden {
            if let Some(logit) = logits.get_mut(*token as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
        self.penalize(logits, history);
        let best = argmax(logits).ok_or_else(|| {
            Error::internal("no token can be chosen: every logit is negative infinity")
        })?;
        if self.options.temperature == 0.0 {
            return Ok(best);
        }
        let candidates = &mut self.candidates;
        candidates.fill(logits);
        if self.options.top_k > 0 {
            candidates.keep_top_k(self.options.top_k as usize);
        }
        if self.options.top_p < 1.0 {
            candidates.keep_top_p(self.options.top_p);
        }
        if self.options.min_p > 0.0 {
            candidates.keep_min_p(self.options.min_p);
        }
        Ok(candidates.draw(self.options.temperature, self.random.next_unit()))
    }

    /// The repeat penalty of CTRL (arXiv 1909.05858), once per distinct token.
    fn penalize(&self, logits: &mut [f32], history: &[u32]) {
        let penalty = self.options.repeat_penalty;
        if penalty == 1.0 {
            return;
        }
        let recent = history.len().saturating_sub(self.options.repeat_last_n);
        let mut tokens = history[recent..].to_vec();
        tokens.sort_unstable();
        tokens.dedup();
        for token in tokens {
            if let Some(logit) = logits.get_mut(token as usize) {
                let penalized = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
                *logit = penalized.min(f32::MAX);
            }
        }
    }
}

/// Lowest id with the highest logit; `None` when all are negative infinity.
fn argmax(logits: &[f32]) -> Option<u32> {
    let mut best = None;
    let mut highest = f32::NEG_INFINITY;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > highest {
            highest = *logit;
            best = Some(token as u32);
        }
    }
    best
}
