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
use realm_ir::Top;

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

    /// How many of the best logits are enough to choose as if all were there, when
    /// `n_forbidden` tokens must not be chosen; `None` when only all are.
    pub(crate) fn n_enough(&self, n_forbidden: usize) -> Option<usize> {
        if self.options.repeat_penalty != 1.0 {
            return None;
        }
        match (self.options.temperature == 0.0, self.options.top_k as usize) {
            (true, _) => Some(n_forbidden.saturating_add(1)),
            (false, 0) => None,
            // One more: with no more than top-k there is nothing to sort out, and
            // candidates stay in order of their ids.
            // In 32 bits the sum may be more than can be counted: then all are needed.
            (false, top_k) => Some(top_k.saturating_add(1).saturating_add(n_forbidden)),
        }
    }

    /// Chooses from the best logits, of which there are [`Sampler::n_enough`] or all, as
    /// [`Sampler::sample`] does from all.
    ///
    /// # Errors
    /// Those of [`Sampler::sample`].
    pub(crate) fn sample_best<'a>(
        &mut self,
        best: &[Top],
        forbidden: impl IntoIterator<Item = &'a u32>,
    ) -> Result<u32> {
        if let Some(top) = best.iter().find(|top| !is_possible(top.value)) {
            return Err(impossible(top.column as usize, top.value));
        }
        let forbidden: Vec<u32> = forbidden.into_iter().copied().collect();
        let allowed = |top: &&Top| !forbidden.contains(&top.column);
        let allowed: Vec<Top> = best.iter().filter(allowed).copied().collect();
        let best = allowed.first().filter(|best| best.value > f32::NEG_INFINITY);
        let best = best.ok_or_else(nothing_left)?.column;
        if self.options.temperature == 0.0 {
            return Ok(best);
        }
        self.candidates.fill_from(&allowed);
        Ok(self.draw())
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
        if let Some(token) = logits.iter().position(|logit| !is_possible(*logit)) {
            return Err(impossible(token, logits[token]));
        }
        for token in forbidden {
            if let Some(logit) = logits.get_mut(*token as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
        self.penalize(logits, history);
        let best = argmax(logits).ok_or_else(nothing_left)?;
        if self.options.temperature == 0.0 {
            return Ok(best);
        }
        self.candidates.fill(logits);
        Ok(self.draw())
    }

    /// Filters the candidates and draws one of them.
    fn draw(&mut self) -> u32 {
        let candidates = &mut self.candidates;
        if self.options.top_k > 0 {
            candidates.keep_top_k(self.options.top_k as usize);
        }
        if self.options.top_p < 1.0 {
            candidates.keep_top_p(self.options.top_p);
        }
        if self.options.min_p > 0.0 {
            candidates.keep_min_p(self.options.min_p);
        }
        candidates.draw(self.options.temperature, self.random.next_unit())
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

fn is_possible(logit: f32) -> bool {
    logit < f32::INFINITY
}

fn impossible(token: usize, logit: f32) -> Error {
    Error::not_finite(format!("the logit of token {token} is {logit}, expected a finite number"))
}

fn nothing_left() -> Error {
    Error::not_finite("no token can be chosen: every logit is negative infinity")
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
