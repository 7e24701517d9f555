//! Tokens that may still be chosen, and the filters that make them fewer.

use std::cmp::Ordering;

use realm_ir::Top;

/// A token with its logit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) token: u32,
    pub(crate) logit: f32,
}

/// Best first; among equals the lower id. Logits are finite here.
fn best_first(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.partial_cmp(&a.logit).unwrap_or(Ordering::Equal).then(a.token.cmp(&b.token))
}

/// Size of the first part that [`Candidates::keep_top_p`] sorts. Most
/// distributions reach their mass within it.
const FIRST_SORTED: usize = 128;

/// The candidates of one step: sorted best first or in order of their ids.
/// Never empty, and every filter keeps at least one.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    items: Vec<Candidate>,
    is_sorted: bool,
}

impl Candidates {
    /// Starts over with all tokens that have a chance at all.
    pub(crate) fn fill(&mut self, logits: &[f32]) {
        self.is_sorted = false;
        self.items.clear();
        let candidate =
            |(token, logit): (usize, &f32)| Candidate { token: token as u32, logit: *logit };
        let possible = logits.iter().enumerate().filter(|(_, l)| **l > f32::NEG_INFINITY);
        self.items.extend(possible.map(candidate));
    }

    /// The same when only the best tokens are known.
    pub(crate) fn fill_from(&mut self, best: &[Top]) {
        self.is_sorted = false;
        self.items.clear();
        let possible = best.iter().filter(|top| top.value > f32::NEG_INFINITY);
        self.items.extend(possible.map(|top| Candidate { token: top.column, logit: top.value }));
        self.items.sort_unstable_by_key(|candidate| candidate.token);
    }

    #[cfg(test)]
    pub(crate) fn as_slice(&self) -> &[Candidate] {
        &self.items
    }

    /// Highest logit.
    fn max_logit(&self) -> f32 {
        self.items.iter().map(|c| c.logit).fold(f32::NEG_INFINITY, f32::max)
    }

    /// Moves the best `n` to the front, sorted; the rest is in any order.
    fn sort_best(&mut self, n: usize) {
        if self.is_sorted {
            return;
        }
        if n < self.items.len() {
            self.items.select_nth_unstable_by(n, best_first);
            self.items[..n].sort_unstable_by(best_first);
        } else {
            self.items.sort_unstable_by(best_first);
        }
    }

    /// Keeps the `k` best.
    pub(crate) fn keep_top_k(&mut self, k: usize) {
        if k >= self.items.len() {
            return;
        }
        self.sort_best(k.max(1));
        self.items.truncate(k.max(1));
        self.is_sorted = true;
    }

    /// Keeps the fewest best whose probabilities add up to `p` or more.
    pub(crate) fn keep_top_p(&mut self, p: f32) {
        let max = self.max_logit();
        let weight = |c: &Candidate| f64::from(c.logit - max).exp();
        let wanted = f64::from(p) * self.items.iter().map(weight).sum::<f64>();
        let mut sorted = FIRST_SORTED.min(self.items.len());
        loop {
            self.sort_best(sorted);
            let mut mass = 0.0;
            let reaches = |c: &Candidate| {
                mass += weight(c);
                mass >= wanted
            };
            if let Some(last) = self.items[..sorted].iter().position(reaches) {
                self.items.truncate(last + 1);
                break;
            }
            if sorted == self.items.len() {
                break; // rounding: the sum of all stayed below the wanted mass
            }
            sorted = (sorted * 8).min(self.items.len());
        }
        self.is_sorted = true;
    }

    /// Keeps those at least `p` times as likely as the best one.
    pub(crate) fn keep_min_p(&mut self, p: f32) {
        let least = f64::from(self.max_logit()) + f64::from(p.min(1.0)).ln();
        self.items.retain(|c| f64::from(c.logit) >= least);
    }

    /// The token at `unit` (`0.0..1.0`) of the distribution at `temperature` (above 0).
    pub(crate) fn draw(&self, temperature: f32, unit: f64) -> u32 {
        let max = f64::from(self.max_logit());
        let weight = |c: &Candidate| ((f64::from(c.logit) - max) / f64::from(temperature)).exp();
        let wanted = unit * self.items.iter().map(weight).sum::<f64>();
        let mut mass = 0.0;
        let beyond = |c: &&Candidate| {
            mass += weight(c);
            mass > wanted
        };
        // Rounding can leave the sum at `wanted`: then it is the last one.
        self.items.iter().find(beyond).or(self.items.last()).map_or(0, |c| c.token)
    }
}
