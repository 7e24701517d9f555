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

/// The numbers a value can be before its scale.
pub(super) trait Levels: Copy {
    /// The level nearest to `value`.
    fn nearest(self, value: f32) -> i32;

    /// The lowest and the highest level, each with its distance to the next one.
    fn ends(self) -> [(f32, f32); 2];
}

/// All integers from `LOW` to `HIGH`.
#[derive(Clone, Copy)]
pub(super) struct Integers<const LOW: i32, const HIGH: i32>;

impl<const LOW: i32, const HIGH: i32> Levels for Integers<LOW, HIGH> {
    fn nearest(self, value: f32) -> i32 {
        round(value.clamp(LOW as f32, HIGH as f32))
    }

    fn ends(self) -> [(f32, f32); 2] {
        [(LOW as f32, 1.0), (HIGH as f32, 1.0)]
    }
}

/// Levels in ascending order, two at least.
#[derive(Clone, Copy)]
pub(super) struct Table(pub &'static [i8]);

impl Levels for Table {
    fn nearest(self, value: f32) -> i32 {
        let above = |pair: &[i8]| f32::from(i16::from(pair[0]) + i16::from(pair[1])) * 0.5 < value;
        let index: usize = self.0.windows(2).map(|pair| usize::from(above(pair))).sum();
        self.0[index].into()
    }

    fn ends(self) -> [(f32, f32); 2] {
        let level = |i: usize| f32::from(self.0[i]);
        let last = self.0.len() - 1;
        [(level(0), level(1) - level(0)), (level(last), level(last) - level(last - 1))]
    }
}

/// To the nearest integer, ties to even; for numbers far below 2^22.
pub(super) fn round(value: f32) -> i32 {
    // Adding 1.5 * 2^23 leaves the integer in the low mantissa bits.
    const ROUND: f32 = 12_582_912.0;
    (value + ROUND).to_bits() as i32 - ROUND.to_bits() as i32
}

/// `1 / scale`, or 0 where there is no such number: all levels are then zero.
pub(super) fn inverse(scale: f32) -> f32 {
    let inverse = 1.0 / scale;
    if inverse.is_finite() { inverse } else { 0.0 }
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

/// The weighted error of the nearest levels with the scale `d`.
pub(super) fn error<L: Levels>(levels: L, d: f32, x: &[f32], w: &[f32]) -> f32 {
    let inverse = inverse(d);
    let errors = x.iter().zip(w).map(|(x, w)| {
        let error = x - d * levels.nearest(x * inverse) as f32;
        w * error * error
    });
    errors.sum()
}

/// Sums over values and the levels nearest to them.
#[derive(Clone, Copy, Default)]
struct Regression {
    /// `w * x * level`
    x_level: f32,
    /// `w * level * level`
    level_level: f32,
}

impl Regression {
    fn of<L: Levels>(levels: L, x: &[f32], w: &[f32], inverse: f32) -> Self {
        let mut sums = Self::default();
        for (x, w) in x.iter().zip(w) {
            let level = levels.nearest(x * inverse) as f32;
            sums.x_level += w * x * level;
            sums.level_level += w * level * level;
        }
        sums
    }

    fn scale(self) -> f32 {
        if self.level_level > 0.0 { self.x_level / self.level_level } else { 0.0 }
    }

    /// By how much the scale reduces the error of all zeros.
    fn gain(self) -> f32 {
        self.scale() * self.x_level
    }
}

/// `d * u + offset`, with `u` from 0 to `max`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Line {
    pub d: f32,
    pub offset: f32,
}

impl Line {
    /// The `u` for which the line is nearest to `x`.
    pub fn nearest(self, max: u8, inverse: f32, x: f32) -> u8 {
        round(((x - self.offset) * inverse).clamp(0.0, f32::from(max))) as u8
    }

    /// The weighted error of the nearest `u` of all values.
    pub fn error(self, max: u8, x: &[f32], w: &[f32]) -> f32 {
        let inverse = inverse(self.d);
        let errors = x.iter().zip(w).map(|(x, w)| {
            let u = f32::from(self.nearest(max, inverse, *x));
            let error = x - (self.d * u + self.offset);
            w * error * error
        });
        errors.sum()
    }
}

/// The line that comes nearest to `x` with weights `w`; `d` is not negative.
///
/// `below_zero` asks for an offset that is not positive.
pub(super) fn line(max: u8, below_zero: bool, x: &[f32], w: &[f32]) -> Line {
    let low = x.iter().copied().fold(f32::INFINITY, f32::min);
    let low = if below_zero { low.min(0.0) } else { low };
    let high = x.iter().copied().fold(low, f32::max);
    let range = high - low;
    let mut best = Line { d: range / f32::from(max), offset: low };
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
        let d = range / (f32::from(max) + START_STEP * step as f32);
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
fn regression(start: Line, max: u8, below_zero: bool, x: &[f32], w: &[f32]) -> Line {
    let inverse = inverse(start.d);
    let (mut sum_w, mut sum_x, mut sum_u, mut sum_uu, mut sum_ux) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (x, w) in x.iter().zip(w) {
        let u = f32::from(start.nearest(max, inverse, *x));
        // Relative to the start's offset, so that little is lost to rounding.
        let x = x - start.offset;
        sum_w += w;
        sum_x += w * x;
        sum_u += w * u;
        sum_uu += w * u * u;
        sum_ux += w * u * x;
    }
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
