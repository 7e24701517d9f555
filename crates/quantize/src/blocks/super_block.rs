//! 256 values in groups whose integer scales share a scale.
//!
//! Groups are fitted one by one, then their scales are rounded together. Rounding
//! is repeated: each group takes the best of the integers near its scale, and the
//! shared scales become the regression over all groups, as long as that helps.

use std::convert::identity;

use super::fit::{self, Fit, Levels, Line, Regression};
use super::stored_f16;

/// Values in a block.
pub(super) const LEN: usize = 256;
/// Most groups in a block.
pub(super) const MAX_GROUPS: usize = 16;
/// Rounds of choosing integer scales and fitting the shared ones.
const ROUNDS: usize = 3;
/// Starts that give the largest scale of a group the largest integers.
const STARTS: i32 = 3;

/// The integers that the scale of a group can be: from `first`, which is as far from
/// zero as any, to `last`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub first: f32,
    pub last: f32,
    /// Distance of neighbours, negative where `last` is below `first`.
    pub step: f32,
}

impl Range {
    /// The integer nearest to `value`, and its neighbours.
    fn near(self, value: f32) -> [f32; 3] {
        let near = self.first + self.step * fit::round((value - self.first) / self.step);
        let (low, high) = (self.first.min(self.last), self.first.max(self.last));
        [near - self.step, near, near + self.step].map(|v| v.clamp(low, high))
    }
}

/// The shared scale, and the integers of the groups.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scales {
    pub d: f32,
    pub integers: [i8; MAX_GROUPS],
}

/// Rounds the scales that groups want to integers times a shared one.
///
/// `fit` tells how good a scale is for a group.
pub(super) fn share(wanted: &[f32], range: Range, fit: impl Fn(usize, f32) -> Fit) -> Scales {
    let largest = wanted.iter().fold(0.0f32, |max, v| if v.abs() > max.abs() { *v } else { max });
    let mut best = Scales { d: 0.0, integers: [range.last as i8; MAX_GROUPS] };
    let mut least = f32::INFINITY;
    for start in 0..STARTS {
        let mut d = stored_f16(largest / (range.first + range.step * start as f32));
        for _ in 0..ROUNDS {
            let mut next = Scales { d, ..best };
            let mut sums = Regression::default();
            let mut error = 0.0;
            for (j, wanted) in wanted.iter().enumerate() {
                let near = range.near((wanted * fit::inverse(d)).clamp(-1e4, 1e4));
                let (integer, group) = near
                    .map(|integer| (integer, fit(j, d * integer)))
                    .into_iter()
                    .min_by(|a, b| a.1.error.total_cmp(&b.1.error))
                    .expect("there are three candidates");
                next.integers[j] = integer as i8;
                error += group.error;
                sums.x_level += group.regression.x_level * integer;
                sums.level_level += group.regression.level_level * integer * integer;
            }
            if error >= least {
                break;
            }
            (best, least) = (next, error);
            d = stored_f16(sums.scale());
        }
    }
    best
}

/// `d * scales[group] * level`.
pub(super) struct Symmetric {
    pub d: f32,
    pub scales: [i8; MAX_GROUPS],
    /// The level of every value.
    pub levels: [i8; LEN],
}

/// Fits groups of `group_len` values, with scales of `-max_scale` to `max_scale - 1`.
pub(super) fn symmetric<L: Levels>(
    levels: L,
    group_len: usize,
    max_scale: f32,
    x: &[f32],
    w: &[f32],
) -> Symmetric {
    let group = |j: usize| j * group_len..(j + 1) * group_len;
    let n_groups = LEN / group_len;
    let mut wanted = [0.0f32; MAX_GROUPS];
    for (j, wanted) in wanted[..n_groups].iter_mut().enumerate() {
        *wanted = fit::scale(levels, identity, &x[group(j)], &w[group(j)]);
    }
    let range = Range { first: -max_scale, last: max_scale - 1.0, step: 1.0 };
    let scales = share(&wanted[..n_groups], range, |j, scale| {
        fit::fit(levels, scale, &x[group(j)], &w[group(j)])
    });
    let mut chosen = [0; LEN];
    for (i, chosen) in chosen.iter_mut().enumerate() {
        let scale = scales.d * f32::from(scales.integers[i / group_len]);
        *chosen = levels.nearest(x[i] * fit::inverse(scale)) as i8;
    }
    Symmetric { d: scales.d, scales: scales.integers, levels: chosen }
}

/// `d * scales[group] * u - dmin * mins[group]`.
pub(super) struct Affine {
    pub d: f32,
    pub dmin: f32,
    pub scales: [u8; MAX_GROUPS],
    pub mins: [u8; MAX_GROUPS],
    /// From 0 to the format's largest.
    pub u: [u8; LEN],
}

/// Fits groups of `group_len` values, with `u` up to `max` and scales and
/// minimums up to `max_scale`.
pub(super) fn affine(max: f32, group_len: usize, max_scale: f32, x: &[f32], w: &[f32]) -> Affine {
    let n_groups = LEN / group_len;
    let group = |j: usize| j * group_len..(j + 1) * group_len;
    let lines: [Line; MAX_GROUPS] = std::array::from_fn(|j| {
        let (x, w) = (x.get(group(j)).unwrap_or(&[]), w.get(group(j)).unwrap_or(&[]));
        if x.is_empty() { Line { d: 0.0, offset: 0.0 } } else { fit::line(max, true, x, w) }
    });
    let shared = |largest: f32| stored_f16(largest / max_scale);
    let mut d = shared(lines.iter().fold(0.0, |max, line| max.max(line.d)));
    let mut dmin = shared(lines.iter().fold(0.0, |max, line| max.max(-line.offset)));
    let mut best = Affine { d, dmin, scales: [0; MAX_GROUPS], mins: [0; MAX_GROUPS], u: [0; LEN] };
    let mut least = f32::INFINITY;
    for _ in 0..ROUNDS {
        let mut next =
            Affine { d, dmin, scales: [0; MAX_GROUPS], mins: [0; MAX_GROUPS], u: [0; LEN] };
        let mut error = 0.0;
        let mut sums = SharedScales::default();
        for (j, line) in lines.iter().enumerate().take(n_groups) {
            let (x, w) = (&x[group(j)], &w[group(j)]);
            let chosen = best_integers(*line, [d, dmin], max, max_scale, x, w);
            error += chosen.error;
            (next.scales[j], next.mins[j]) = (chosen.scale, chosen.min);
            let line = chosen.line([d, dmin]);
            let inverse = fit::inverse(line.d);
            for ((x, w), u) in x.iter().zip(w).zip(&mut next.u[group(j)]) {
                *u = line.nearest(max, inverse, *x) as u8;
                let a = f32::from(*u) * f32::from(chosen.scale);
                sums.add(*x, *w, a, -f32::from(chosen.min));
            }
        }
        if error >= least {
            break;
        }
        (best, least) = (next, error);
        [d, dmin] = sums.solve([d, dmin]).map(stored_f16);
    }
    best
}

/// The integers chosen for one group.
struct Integers {
    scale: u8,
    min: u8,
    error: f32,
}

impl Integers {
    fn line(&self, [d, dmin]: [f32; 2]) -> Line {
        Line { d: d * f32::from(self.scale), offset: -dmin * f32::from(self.min) }
    }
}

/// The best of the integer scales and minimums around those that `wanted` asks for.
fn best_integers(
    wanted: Line,
    shared: [f32; 2],
    max: f32,
    max_scale: f32,
    x: &[f32],
    w: &[f32],
) -> Integers {
    let near = |wanted: f32, shared: f32| {
        let near = fit::round((wanted * fit::inverse(shared)).clamp(0.0, max_scale));
        [near - 1.0, near, near + 1.0].map(|v| v.clamp(0.0, max_scale) as u8)
    };
    let mut best = Integers { scale: 0, min: 0, error: f32::INFINITY };
    for scale in near(wanted.d, shared[0]) {
        for min in near(-wanted.offset, shared[1]) {
            let mut next = Integers { scale, min, error: 0.0 };
            next.error = next.line(shared).error(max, x, w);
            if next.error < best.error {
                best = next;
            }
        }
    }
    best
}

/// The regression of `x` on `a` and `b`, for `d * a + dmin * b`; where there is no
/// `b`, on `a` alone.
#[derive(Default)]
struct SharedScales {
    aa: f32,
    ab: f32,
    bb: f32,
    ax: f32,
    bx: f32,
}

impl SharedScales {
    fn add(&mut self, x: f32, w: f32, a: f32, b: f32) {
        self.aa += w * a * a;
        self.ab += w * a * b;
        self.bb += w * b * b;
        self.ax += w * a * x;
        self.bx += w * b * x;
    }

    /// The solution, or what is known already where there is none; of two scales,
    /// none is negative.
    fn solve(&self, known: [f32; 2]) -> [f32; 2] {
        if self.bb == 0.0 {
            return if self.aa > 0.0 { [self.ax / self.aa, known[1]] } else { known };
        }
        let determinant = self.aa * self.bb - self.ab * self.ab;
        if determinant <= 0.0 {
            return known;
        }
        let d = (self.ax * self.bb - self.bx * self.ab) / determinant;
        let dmin = (self.bx * self.aa - self.ax * self.ab) / determinant;
        if d >= 0.0 && dmin >= 0.0 { [d, dmin] } else { known }
    }
}
