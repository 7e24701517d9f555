//! Who gets rows in the next batch, who waits, and who gives up pages for others.
//!
//! [`plan`] is a pure function: from what the requests want and what is free to what is to be
//! done. It knows no session, no tokens and no texts, so it is tested without any.
//!
//! - *First come, first served.* Requests are admitted in their order, as long as there is room
//!   for all that they have to read. One that has no room yet holds up those behind it, so that
//!   nobody is overtaken for ever.
//! - *The oldest always makes progress.* When those that run need more than is free, the
//!   youngest gives up what it holds and reads it again later, which costs time and changes no
//!   result. When nobody runs who could give anything back, idle sequences do, the one that was
//!   used least recently first, and answers that nobody reads, then requests that wait. Only what
//!   is impossible is refused.
//! - *Rows.* Every generation that decodes has one row. Those that read share the rest of the
//!   batch in equal parts, of which there are few beside decoding. A text that has to be read
//!   whole comes when it fits; one that did not comes first in the next batch.
//! - *Layer calls* have batches of their own between the others', so what they get is no part of
//!   the batch.
//!
//! A plan that takes something away is made again once that is done: what sharing sequences
//! free is known only then. So a plan to run never relies on a guess.
//!
//! What will find its place here: tenants and priorities (another order of the candidates), rows
//! for drafts, and cuts of prompts at places where a state is to be kept.

#[cfg(test)]
mod tests;

use crate::kv::Room;

/// How batches are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Most rows of a batch.
    pub max_rows: usize,
    /// Most requests that are under way at once; layer calls do not count.
    pub max_running: usize,
    /// Most rows that are not decoding in a batch that also decodes: few enough that the next
    /// tokens of the others do not wait long.
    pub rows_beside_decoding: usize,
}

/// What a request is to the scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Decodes when it has one row to read, else reads its prompt.
    Generation,
    /// Reads, and never decodes.
    Embedding {
        /// Rows of its next text, when a text cannot be cut.
        whole_rows: Option<usize>,
    },
    /// One segment of the model, in batches of its own.
    Layers,
}

/// A request as the scheduler sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) kind: Kind,
    /// Rows that it would read if there were no limit; at least one.
    pub(crate) n_pending: usize,
    /// Has room for what it reads; otherwise it waits for some.
    pub(crate) is_admitted: bool,
    /// Pages and states it must get before it can go on.
    pub(crate) needs: Room,
    /// Pages and states it has, alone or shared.
    pub(crate) holds: Room,
    /// Whether it was admitted and had no row in the last batch.
    pub(crate) was_left_out: bool,
}

/// Everything a plan depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Situation<'a> {
    /// Oldest first.
    pub(crate) candidates: &'a [Candidate],
    /// What each holds who is not using it: kept sequences without a generation, and answers that
    /// nobody reads. In the order in which they give it up.
    pub(crate) idle: &'a [Room],
    /// Pages and states that nobody holds.
    pub(crate) free: Room,
}

/// What is to be done next. Requests are named by their places among the candidates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// This request gives up what it holds, and waits. Then plan again.
    Suspend(usize),
    /// This one of the idle gives up what it holds. Then plan again.
    Evict(usize),
    /// This request needs more than there can be. Then plan again.
    Refuse(usize),
    /// These are admitted, which have room now, and each candidate gets so many rows.
    Run {
        /// In their order.
        admitted: Vec<usize>,
        /// By candidate; 0 for those that wait.
        rows: Vec<usize>,
    },
}

/// What to do next.
pub(crate) fn plan(policy: &Policy, situation: &Situation<'_>) -> Plan {
    let candidates = situation.candidates;
    let mut free = situation.free;
    for (index, candidate) in candidates.iter().enumerate().filter(|(_, c)| c.is_admitted) {
        if !free.has(candidate.needs) {
            return take_for(index, free, situation);
        }
        free = free.without(candidate.needs);
    }
    let n_admitted = candidates.iter().filter(|c| c.is_admitted).count();
    let mut n_running = candidates.iter().filter(|c| c.is_admitted && c.counts()).count();
    let mut admitted = Vec::new();
    let mut is_line_held_up = false;
    for (index, candidate) in candidates.iter().enumerate().filter(|(_, c)| !c.is_admitted) {
        if candidate.counts() && n_running == policy.max_running {
            continue;
        }
        if is_line_held_up && (candidate.counts() || candidate.needs != Room::NONE) {
            continue;
        }
        if free.has(candidate.needs) {
            free = free.without(candidate.needs);
            n_running += usize::from(candidate.counts());
            admitted.push(index);
        } else if n_admitted + admitted.len() > 0 {
            is_line_held_up = true;
        } else {
            return take_for(index, free, situation);
        }
    }
    let rows = share_rows(policy, candidates, &admitted);
    Plan::Run { admitted, rows }
}

impl Candidate {
    /// Whether it is one of those of whom only so many run at once.
    fn counts(&self) -> bool {
        self.kind != Kind::Layers
    }

    fn is_decoding(&self) -> bool {
        self.kind == Kind::Generation && self.n_pending == 1
    }
}

/// Who gives something up so that the request at `index` can go on.
fn take_for(index: usize, free: Room, situation: &Situation<'_>) -> Plan {
    let candidates = situation.candidates;
    let needs = candidates[index].needs;
    // Whether somebody has anything of which there is not enough.
    let can_help = |holds: Room| {
        (needs.pages > free.pages && holds.pages > 0)
            || (needs.states > free.states && holds.states > 0)
    };
    // The youngest behind this one that could.
    let youngest = |is_admitted: bool| {
        let behind = candidates.iter().enumerate().skip(index + 1).rev();
        let mut others = behind.filter(|(_, other)| {
            other.is_admitted == is_admitted && other.counts() && can_help(other.holds)
        });
        others.next().map(|(place, _)| place)
    };
    if candidates[index].is_admitted {
        if let Some(other) = youngest(true) {
            return Plan::Suspend(other);
        }
        // Those before it are not disturbed: it waits for what they will give back.
        if candidates[..index].iter().any(|older| older.is_admitted && older.counts()) {
            return Plan::Suspend(index);
        }
    }
    if let Some(sequence) = situation.idle.iter().position(|holds| can_help(*holds)) {
        return Plan::Evict(sequence);
    }
    match youngest(false) {
        Some(other) => Plan::Suspend(other),
        None => Plan::Refuse(index),
    }
}

/// Rows per candidate: one for each that decodes, then the rest of the batch in equal parts for
/// those that read.
fn share_rows(policy: &Policy, candidates: &[Candidate], admitted: &[usize]) -> Vec<usize> {
    let runs = |index: &usize| candidates[*index].is_admitted || admitted.contains(index);
    let running: Vec<usize> = (0..candidates.len()).filter(runs).collect();
    let decoding = running.iter().filter(|index| candidates[**index].is_decoding());
    let n_decoding = decoding.count();
    let most = match n_decoding {
        0 => policy.max_rows,
        _ => policy.rows_beside_decoding,
    };
    let mut left = policy.max_rows.saturating_sub(n_decoding).min(most);
    let mut rows = vec![0; candidates.len()];
    let mut reading = Vec::new();
    for index in running {
        let candidate = &candidates[index];
        match candidate.kind {
            Kind::Layers => rows[index] = candidate.n_pending.min(most),
            _ if candidate.is_decoding() => rows[index] = 1,
            _ => reading.push(index),
        }
    }
    // Stable: among those that were left out, and among the others, the oldest comes first.
    reading.sort_by_key(|index| !candidates[*index].was_left_out);
    for (n_before, index) in reading.iter().enumerate() {
        let candidate = &candidates[*index];
        let part = candidate.n_pending.min(left.div_ceil(reading.len() - n_before));
        rows[*index] = match candidate.kind {
            Kind::Embedding { whole_rows: Some(whole) } if whole > left => 0,
            Kind::Embedding { whole_rows: Some(whole) } => part.max(whole),
            _ => part,
        };
        left -= rows[*index];
    }
    rows
}
