//! Formats whose values come from a codebook, several at a time: IQ1, IQ2 and IQ3.
//!
//! With the scale of a group given, each run of values takes the entry that comes
//! nearest. That is the combination of each value's nearest level, if the codebook has
//! it. Where it has not, the error decides among the entries around that combination,
//! which are listed in advance: looking at all entries would take ten times as long.
//!
//! Scales are found as for the K-quants: from several starts, by regression, then
//! rounded together.

use super::fit::{Fit, Regression, inverse};
use super::super_block::{LEN, MAX_GROUPS, Range, Scales, share};

/// Entries that are looked at where the codebook lacks a combination, at least.
const NEIGHBOURS: usize = 12;
/// Starts of the search for a scale: the largest value is this many times the highest level.
const STARTS: std::ops::RangeInclusive<i32> = -1..=6;
/// Distance of starts, in units of the distance between the highest levels.
const START_STEP: f32 = 0.3;
/// Rounds of regression and choice of entries that follow the best start.
const ROUNDS: usize = 3;

/// How signs are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Signs {
    /// Entries have signs of their own.
    InEntries,
    /// One bit for each value.
    Free,
    /// Of eight values, an even number is negative.
    Even,
}

/// A codebook with `W` values to an entry, and how a format uses it.
pub(super) struct Codebook<const W: usize> {
    entries: Vec<[f32; W]>,
    /// All numbers in entries, ascending.
    levels: Vec<f32>,
    /// For each combination of levels, the first of its `neighbours`; the end of the last.
    first_neighbour: Vec<u32>,
    neighbours: Vec<u16>,
    usage: CodebookUse,
}

/// How a format uses a codebook.
#[derive(Clone, Copy)]
pub(super) struct CodebookUse {
    pub signs: Signs,
    /// What is added to entries: one of these.
    pub shifts: &'static [f32],
    /// Values that have the shift in common.
    pub shift_len: usize,
    /// Values that have the scale in common.
    pub group_len: usize,
    /// Scales are the odd integers up to this one.
    pub max_scale: f32,
}

/// A block in terms of the codebook.
pub(super) struct Coded {
    pub scales: Scales,
    /// One for each `W` values.
    pub entries: [u16; LEN / 4],
    /// One for each eight values: the index among the format's shifts.
    pub shifts: [u8; LEN / 8],
    /// One for each eight values: bits are set where values are negative.
    pub signs: [u8; LEN / 8],
}

impl Coded {
    /// `(scale - 1) / 2` of a group.
    pub fn scale(&self, group: usize) -> u8 {
        self.scales.integers[group] as u8 / 2
    }
}

/// The entries of one group with some scale.
#[derive(Clone, Copy, Default)]
struct Group {
    fit: Fit,
    entries: [u16; 8],
    shifts: [u8; 4],
}

impl<const W: usize> Codebook<W> {
    /// From entries as they are stored, and what their numbers stand for.
    pub fn new(grid: &[[u8; W]], value: impl Fn(u8) -> f32, usage: CodebookUse) -> Self {
        let entries: Vec<_> = grid.iter().map(|entry| entry.map(&value)).collect();
        let mut levels: Vec<f32> = entries.as_flattened().to_vec();
        levels.sort_by(f32::total_cmp);
        levels.dedup();
        let mut codebook =
            Self { entries, levels, first_neighbour: vec![0], neighbours: Vec::new(), usage };
        codebook.list_neighbours();
        codebook
    }

    /// The combination of levels that `index` stands for.
    fn combination(&self, index: usize) -> [f32; W] {
        let n = self.levels.len();
        std::array::from_fn(|i| self.levels[index / n.pow(i as u32) % n])
    }

    fn list_neighbours(&mut self) {
        let mut distances: Vec<(f32, u16)> = Vec::with_capacity(self.entries.len());
        for index in 0..self.levels.len().pow(W as u32) {
            let wanted = self.combination(index);
            let distance = |entry: &[f32; W]| {
                entry.iter().zip(wanted).map(|(e, w)| (e - w).powi(2)).sum::<f32>()
            };
            distances.clear();
            distances.extend((0u16..).zip(&self.entries).map(|(i, entry)| (distance(entry), i)));
            let n = NEIGHBOURS.min(distances.len() - 1);
            let (nearest, farthest, _) =
                distances.select_nth_unstable_by(n, |a, b| a.0.total_cmp(&b.0));
            match nearest.iter().find(|(distance, _)| *distance == 0.0) {
                Some((_, entry)) => self.neighbours.push(*entry),
                None => {
                    self.neighbours.extend(nearest.iter().map(|(_, entry)| entry));
                    self.neighbours.push(farthest.1);
                }
            }
            self.first_neighbour.push(self.neighbours.len() as u32);
        }
    }

    /// The entry nearest to `x`, which is in units of the levels.
    fn nearest(&self, x: &[f32; W], w: &[f32; W]) -> u16 {
        let mut steps = [0usize; W];
        for pair in self.levels.windows(2) {
            let middle = (pair[0] + pair[1]) * 0.5;
            for (steps, x) in steps.iter_mut().zip(x) {
                *steps += usize::from(*x > middle);
            }
        }
        let index = steps.iter().rev().fold(0, |index, step| index * self.levels.len() + step);
        let range = self.first_neighbour[index] as usize..self.first_neighbour[index + 1] as usize;
        let neighbours = &self.neighbours[range];
        if let [only] = neighbours {
            return *only;
        }
        let (mut best, mut least) = (neighbours[0], f32::INFINITY);
        for neighbour in neighbours {
            let entry = &self.entries[usize::from(*neighbour)];
            let mut terms = [0.0; W];
            for i in 0..W {
                let error = x[i] - entry[i];
                terms[i] = w[i] * error * error;
            }
            let error = total(terms);
            if error < least {
                (best, least) = (*neighbour, error);
            }
        }
        best
    }

    /// The best entries of a group with this scale.
    fn group(&self, x: &[f32], w: &[f32], scale: f32) -> Group {
        let mut group = Group::default();
        let shift_len = self.usage.shift_len;
        let runs = x.chunks_exact(shift_len).zip(w.chunks_exact(shift_len));
        let entries = group.entries.chunks_exact_mut(shift_len / W);
        for (((x, w), entries), chosen) in runs.zip(entries).zip(&mut group.shifts) {
            let mut best = Fit { error: f32::INFINITY, ..Fit::default() };
            for (i, shift) in (0..).zip(self.usage.shifts) {
                let mut next = [0; 8];
                let fit = self.run(x, w, scale, *shift, &mut next);
                if fit.error < best.error {
                    (best, *chosen) = (fit, i);
                    entries.copy_from_slice(&next[..entries.len()]);
                }
            }
            group.fit.error += best.error;
            group.fit.regression.x_level += best.regression.x_level;
            group.fit.regression.level_level += best.regression.level_level;
        }
        group
    }

    /// The best entries of values with this scale and shift.
    fn run(&self, x: &[f32], w: &[f32], scale: f32, shift: f32, entries: &mut [u16]) -> Fit {
        let inverse = inverse(scale);
        let (mut error, mut x_level, mut level_level) = ([0.0; W], [0.0; W], [0.0; W]);
        let cells = x.as_chunks::<W>().0.iter().zip(w.as_chunks::<W>().0);
        for ((x, w), chosen) in cells.zip(entries) {
            *chosen = self.nearest(&x.map(|x| x * inverse - shift), w);
            let entry = &self.entries[usize::from(*chosen)];
            for i in 0..W {
                let level = entry[i] + shift;
                let off = x[i] - scale * level;
                error[i] += w[i] * off * off;
                x_level[i] += w[i] * x[i] * level;
                level_level[i] += w[i] * level * level;
            }
        }
        let [error, x_level, level_level] = [error, x_level, level_level].map(total);
        Fit { error, regression: Regression { x_level, level_level } }
    }

    /// The scale that a group would have if it need not share one.
    fn scale(&self, x: &[f32], w: &[f32]) -> f32 {
        let largest = x.iter().fold(0.0f32, |max, v| max.max(v.abs()));
        if inverse(largest) == 0.0 {
            return 0.0;
        }
        let [.., second, highest] = self.levels[..] else { return 0.0 };
        let mut best = Fit { error: f32::INFINITY, ..Fit::default() };
        let mut scale = 0.0;
        for step in STARTS {
            let end = highest + START_STEP * step as f32 * (highest - second);
            let start = largest / end;
            let fit = self.group(x, w, start).fit;
            if fit.regression.gain() > best.regression.gain() {
                (best, scale) = (fit, fit.regression.scale());
            }
        }
        for _ in 0..ROUNDS {
            let fit = self.group(x, w, scale).fit;
            if fit.regression.gain() <= best.regression.gain() {
                break;
            }
            (best, scale) = (fit, fit.regression.scale());
        }
        scale.max(0.0)
    }

    /// Chooses scales and entries for 256 values.
    pub fn code(&self, x: &[f32], w: &[f32]) -> Coded {
        let CodebookUse { group_len, shift_len, max_scale, .. } = self.usage;
        let (x, signs) = self.magnitudes(x, w);
        let group = |j: usize| j * group_len..(j + 1) * group_len;
        let n_groups = LEN / group_len;
        let mut wanted = [0.0; MAX_GROUPS];
        for (j, wanted) in wanted[..n_groups].iter_mut().enumerate() {
            *wanted = self.scale(&x[group(j)], &w[group(j)]);
        }
        let range = Range { first: max_scale, last: 1.0, step: -2.0 };
        let scales = share(&wanted[..n_groups], range, |j, scale| {
            self.group(&x[group(j)], &w[group(j)], scale).fit
        });
        let mut coded = Coded { scales, entries: [0; LEN / 4], shifts: [0; LEN / 8], signs };
        for j in 0..n_groups {
            let scale = scales.d * f32::from(scales.integers[j]);
            let chosen = self.group(&x[group(j)], &w[group(j)], scale);
            let n = group_len / W;
            coded.entries[j * n..][..n].copy_from_slice(&chosen.entries[..n]);
            for (i, shift) in
                coded.shifts[j * group_len / 8..][..group_len / 8].iter_mut().enumerate()
            {
                *shift = chosen.shifts[8 * i / shift_len];
            }
        }
        coded
    }

    /// What entries have to come near to, and the signs that are written.
    fn magnitudes(&self, x: &[f32], w: &[f32]) -> ([f32; LEN], [u8; LEN / 8]) {
        let mut magnitudes: [f32; LEN] = std::array::from_fn(|i| x[i]);
        let mut signs = [0u8; LEN / 8];
        if self.usage.signs == Signs::InEntries {
            return (magnitudes, signs);
        }
        let eights = magnitudes.as_chunks_mut::<8>().0.iter_mut().zip(w.as_chunks::<8>().0);
        for ((x, w), signs) in eights.zip(&mut signs) {
            for (i, x) in x.iter_mut().enumerate() {
                *signs |= u8::from(*x < 0.0) << i;
                *x = x.abs();
            }
            if self.usage.signs == Signs::Even && signs.count_ones() % 2 == 1 {
                // A value with the wrong sign takes the lowest level: its error grows by
                // 4 * w * |x| * that level.
                let cost = |i: &usize| w[*i] * x[*i];
                let cheapest =
                    (0..8).min_by(|a, b| cost(a).total_cmp(&cost(b))).expect("there are eight");
                *signs ^= 1 << cheapest;
                x[cheapest] = -x[cheapest];
            }
        }
        (magnitudes, signs)
    }
}

/// The sum of four or eight terms, in an order that vectors like.
fn total<const W: usize>(terms: [f32; W]) -> f32 {
    let mut four = [0.0; 4];
    for terms in terms.chunks_exact(4) {
        for (four, term) in four.iter_mut().zip(terms) {
            *four += term;
        }
    }
    (four[0] + four[2]) + (four[1] + four[3])
}
