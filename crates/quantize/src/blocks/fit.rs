//! Scales with which numbers of few levels come nearest to given values.
//!
//! The error is the sum of `weight * (value - approximation)^2`. With the levels
//! chosen, the best scale is a linear regression; with the scale given, the best
//! levels are the nearest. Both are repeated in turn from several starts: scales
//! with which the largest value falls on the last level or somewhat beside it.

/// Starts below and above the scale that puts the largest value on the last level.
const STARTS: std::ops::RangeInclusive<i32> = -6..=12;
/// Starts at both ends of the levels.
const N_STARTS: usize = 2 * (1 + *STARTS.end() - *STARTS.start()) as usize;
/// Distance of starts, in levels.
const START_STEP: f32 = 0.15;
/// Rounds of regression and choice of levels that follow the best start.
const ROUNDS: usize = 4;
/// Values that are added up side by side; every group is a multiple of it.
const LANES: usize = 8;

/// The numbers a value can be before its scale; all are integers.
pub(super) trait Levels: Copy {
    /// The level nearest to `value`.
    fn nearest(self, value: f32) -> f32;

    /// The lowest and the highest level, each with its distance to the next one.
    fn ends(self) -> [(f32, f32); 2];
}

/// All integers from `LOW` to `HIGH`.
#[derive(Clone, Copy)]
pub(super) struct Integers<const LOW: i32, const HIGH: i32>;

impl<const LOW: i32, const HIGH: i32> Levels for Integers<LOW, HIGH> {
    #[inline(always)]
    fn nearest(self, value: f32) -> f32 {
        round(limit(value, LOW as f32, HIGH as f32))
    }

    fn ends(self) -> [(f32, f32); 2] {
        [(LOW as f32, 1.0), (HIGH as f32, 1.0)]
    }
}

/// Some `N` levels.
#[derive(Clone, Copy)]
pub(super) struct Table<const N: usize> {
    lowest: f32,
    highest: f32,
    /// From each level to the next one: where it becomes nearer, and the distance.
    /// The last entry is never reached.
    steps: [(f32, f32); N],
}

impl<const N: usize> Table<N> {
    /// From levels in ascending order, two at least.
    pub const fn new(levels: &[i8; N]) -> Self {
        let mut steps = [(f32::INFINITY, 0.0); N];
        let mut i = 0;
        while i + 1 < N {
            let (level, next) = (levels[i] as f32, levels[i + 1] as f32);
            steps[i] = ((level + next) * 0.5, next - level);
            i += 1;
        }
        Self { lowest: levels[0] as f32, highest: levels[N - 1] as f32, steps }
    }
}

impl<const N: usize> Levels for Table<N> {
    #[inline(always)]
    fn nearest(self, value: f32) -> f32 {
        let step = |(middle, distance)| if value > middle { distance } else { 0.0 };
        self.steps.into_iter().fold(self.lowest, |level, next| level + step(next))
    }

    fn ends(self) -> [(f32, f32); 2] {
        [(self.lowest, self.steps[0].1), (self.highest, self.steps[N - 2].1)]
    }
}

/// `value`, or the limit it exceeds.
#[inline(always)]
fn limit(value: f32, low: f32, high: f32) -> f32 {
    // Unlike `clamp`, this is two instructions for a whole vector.
    let value = if value < low { low } else { value };
    if value > high { high } else { value }
}

/// To the nearest integer, ties to even; for numbers far below 2^22.
#[inline(always)]
pub(super) fn round(value: f32) -> f32 {
    // From 2^23 on, f32 numbers are integers.
    const ROUND: f32 = 12_582_912.0;
    value + ROUND - ROUND
}

/// `1 / scale`, or 0 where there is no such number: all levels are then zero.
pub(super) fn inverse(scale: f32) -> f32 {
    let inverse = 1.0 / scale;
    if inverse.is_finite() { inverse } else { 0.0 }
}

/// Sums of the terms that `x` and `w` give.
#[inline(always)]
fn sums<const N: usize>(x: &[f32], w: &[f32], terms: impl Fn(f32, f32) -> [f32; N]) -> [f32; N] {
    let (x, rest) = x.as_chunks::<LANES>();
    debug_assert!(rest.is_empty(), "groups are multiples of {LANES}");
    let mut lanes = [[0.0; LANES]; N];
    for (x, w) in x.iter().zip(w.as_chunks::<LANES>().0) {
        for i in 0..LANES {
            let terms = terms(x[i], w[i]);
            for (lanes, term) in lanes.iter_mut().zip(terms) {
                lanes[i] += term;
            }
        }
    }
    lanes.map(|lanes| lanes.iter().sum())
}

/// The scale `d` for which `d * level` comes nearest to `x` with weights `w`.
///
/// `stored` rounds a scale to one that can be written. The scale's sign is that of
/// the better direction, where levels are not symmetric.
pub(super) fn scale<L: Levels>(
    levels: L,
    stored: impl Fn(f32) -> f32,
    x: &[f32],
    w: &[f32],
) -> f32 {
    let largest = x.iter().fold(0.0f32, |max, v| if v.abs() > max.abs() { *v } else { max });
    if inverse(largest) == 0.0 {
        return 0.0;
    }
    let starts = levels.ends().into_iter().flat_map(|(end, distance)| {
        STARTS.map(move |step| (end + end.signum() * distance * START_STEP * step as f32) / largest)
    });
    let mut regressions = [Regression::default(); N_STARTS];
    for (regression, start) in regressions.iter_mut().zip(starts) {
        *regression = Regression::of(levels, x, w, start);
    }
    // Sums of f32 numbers tell candidates apart so far; the error itself tells the rest.
    let gain = regressions.iter().fold(0.0, |max: f32, regression| max.max(regression.gain()));
    let mut best = 0.0;
    let mut least = f32::INFINITY;
    let mut consider = |d: f32| {
        let error = error(levels, d, x, w);
        let is_better = error < least;
        if is_better {
            (best, least) = (d, error);
        }
        is_better
    };
    for regression in regressions.iter().filter(|regression| regression.gain() >= gain * 0.9999) {
        consider(stored(regression.scale()));
    }
    let mut d = regressions.iter().find(|r| r.gain() == gain).map_or(0.0, |r| r.scale());
    for _ in 0..ROUNDS {
        d = Regression::of(levels, x, w, inverse(d)).scale();
        if !consider(stored(d)) {
            break;
        }
    }
    best
}

/// Values with some scale: how far they are off, and sums for a better scale.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fit {
    pub error: f32,
    pub regression: Regression,
}

/// The nearest levels with the scale `d`.
pub(super) fn fit<L: Levels>(levels: L, d: f32, x: &[f32], w: &[f32]) -> Fit {
    let inverse = inverse(d);
    let [error, x_level, level_level] = sums(x, w, |x, w| {
        let level = levels.nearest(x * inverse);
        let error = x - d * level;
        [w * error * error, w * x * level, w * level * level]
    });
    Fit { error, regression: Regression { x_level, level_level } }
}

/// The weighted error of the nearest levels with the scale `d`.
pub(super) fn error<L: Levels>(levels: L, d: f32, x: &[f32], w: &[f32]) -> f32 {
    let inverse = inverse(d);
    let [error] = sums(x, w, |x, w| {
        let error = x - d * levels.nearest(x * inverse);
        [w * error * error]
    });
    error
}

/// Sums over values and the levels nearest to them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Regression {
    /// `w * x * level`
    pub x_level: f32,
    /// `w * level * level`
    pub level_level: f32,
}

impl Regression {
    fn of<L: Levels>(levels: L, x: &[f32], w: &[f32], inverse: f32) -> Self {
        let [x_level, level_level] = sums(x, w, |x, w| {
            let level = levels.nearest(x * inverse);
            [w * x * level, w * level * level]
        });
        Self { x_level, level_level }
    }

    /// The scale with the least error, if levels stay as they are.
    pub fn scale(self) -> f32 {
        if self.level_level > 0.0 { self.x_level / self.level_level } else { 0.0 }
    }

    /// By how much the scale reduces the error of all zeros.
    pub fn gain(self) -> f32 {
        self.scale() * self.x_level
    }
}

/// `d * u + offset`, with integers `u` from 0 to a largest one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Line {
    pub d: f32,
    pub offset: f32,
}

impl Line {
    /// The `u` up to `max` for which the line is nearest to `x`; `inverse` is that of `d`.
    #[inline(always)]
    pub fn nearest(self, max: f32, inverse: f32, x: f32) -> f32 {
        round(limit((x - self.offset) * inverse, 0.0, max))
    }

    /// The weighted error of the nearest `u` of all values.
    pub fn error(self, max: f32, x: &[f32], w: &[f32]) -> f32 {
        let inverse = inverse(self.d);
        let [error] = sums(x, w, |x, w| {
            let error = x - (self.d * self.nearest(max, inverse, x) + self.offset);
            [w * error * error]
        });
        error
    }
}

/// The line that comes nearest to `x` with weights `w`; `d` is not negative.
///
/// `below_zero` asks for an offset that is not positive.
pub(super) fn line(max: f32, below_zero: bool, x: &[f32], w: &[f32]) -> Line {
    let low = x.iter().copied().fold(f32::INFINITY, f32::min);
    let low = if below_zero { low.min(0.0) } else { low };
    let high = x.iter().copied().fold(low, f32::max);
    let range = high - low;
    let mut best = Line { d: range / max, offset: low };
    if inverse(range) == 0.0 {
        return Line { d: 0.0, offset: low };
    }
    let mut least = best.error(max, x, w);
    let mut consider = |best: &mut Line, start: Line| {
        let next = regression(start, max, below_zero, x, w);
        let error = next.error(max, x, w);
        let better = error < least;
        if better {
            (*best, least) = (next, error);
        }
        better
    };
    for step in STARTS {
        let d = range / (max + START_STEP * step as f32);
        consider(&mut best, Line { d, offset: low });
    }
    for _ in 0..ROUNDS {
        let start = best;
        if !consider(&mut best, start) {
            break;
        }
    }
    best
}

/// The best line for the `u` that are nearest with the line `start`.
fn regression(start: Line, max: f32, below_zero: bool, x: &[f32], w: &[f32]) -> Line {
    let inverse = inverse(start.d);
    let [sum_w, sum_x, sum_u, sum_uu, sum_ux] = sums(x, w, |x, w| {
        let u = start.nearest(max, inverse, x);
        // Relative to the start's offset, so that little is lost to rounding.
        let x = x - start.offset;
        [w, w * x, w * u, w * u * u, w * u * x]
    });
    let determinant = sum_w * sum_uu - sum_u * sum_u;
    if determinant <= 0.0 {
        return start;
    }
    let d = (sum_w * sum_ux - sum_x * sum_u) / determinant;
    let offset = start.offset + (sum_uu * sum_x - sum_u * sum_ux) / determinant;
    if below_zero && offset > 0.0 {
        let sum_ux = sum_ux + start.offset * sum_u;
        return Line { d: (sum_ux / sum_uu).max(0.0), offset: 0.0 };
    }
    if d > 0.0 { Line { d, offset } } else { start }
}
