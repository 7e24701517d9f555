//! Elementwise functions, written so that the compiler makes vectors of them.
//!
//! Each is compiled for the vectors of each level; the session's level is the caller's. It
//! decides no bit: no product is fused with a sum, and sums have lanes of their own.

use realm_ir::Activation;
use realm_quant::{FloatJob, FloatSimd, Level};

/// `exp(x)` to within 2 units in the last place, for results that are normal numbers
/// below 2^127.5; 0 below, infinity above, NaN for NaN.
///
/// `exp(x) = 2^n * exp(r)`, `n = round(x / ln 2)`, `|r| <= ln 2 / 2`, with the
/// polynomial of Cephes' `expf`.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    /// Arguments between which `2^n` is a normal number.
    const LEAST: f32 = -87.336_54;
    const MOST: f32 = 88.376_26;
    // Adding 1.5 * 2^23 rounds to the nearest integer, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let clamped = x.clamp(LEAST, MOST);
    let rounded = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = clamped - n * LN2_HIGH - n * LN2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    let power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(1.0f32.to_bits()));
    let result = if x < LEAST { 0.0 } else { p * power };
    if x > MOST { f32::INFINITY } else { result }
}

/// `ln(1 + exp(x))`, which is `x` to all digits where `exp(x)` is large.
pub(crate) fn softplus(x: f32) -> f32 {
    if x > 20.0 { x } else { x.exp().ln_1p() }
}

#[inline(always)]
fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// `tanh(x)` from `exp`; small arguments by the odd polynomial of Cephes'
/// `tanhf`, where the quotient would lose digits.
#[inline(always)]
fn tanh(x: f32) -> f32 {
    let s = x * x;
    let mut p = -5.704_988_7e-3;
    p = p * s + 2.063_909e-2;
    p = p * s - 5.373_971_6e-2;
    p = p * s + 1.333_144_2e-1;
    p = p * s - 3.333_328e-1;
    let small = p * s * x + x;
    let large = 1.0 - 2.0 / (exp(2.0 * x.abs()) + 1.0);
    if x.abs() < 0.625 { small } else { large.copysign(x) }
}

#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    0.5 * x * (1.0 + tanh(SQRT_2_OVER_PI * x * (1.0 + 0.044_715 * x * x)))
}

/// The error function to within 3e-7, by its complement's continued quotient
/// (Abramowitz and Stegun 7.1.26 refined: Numerical Recipes' `erfc`).
#[inline(always)]
fn erf(x: f32) -> f32 {
    let z = x.abs();
    let t = 1.0 / (1.0 + 0.5 * z);
    let mut p = 0.170_872_77;
    for c in [-0.822_152_2, 1.488_515_9, -1.135_204, 0.278_868_07, -0.186_288_06, 0.096_784_18] {
        p = p * t + c;
    }
    p = p * t + 0.374_091_96;
    p = p * t + 1.000_023_7;
    let complement = t * exp(-z * z - 1.265_512_2 + p * t);
    (1.0 - complement).copysign(x)
}

#[inline(always)]
fn gelu_erf(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// Compiles `$name` for the vectors of every level: one function per call of the macro.
macro_rules! at_every_level {
    ($(#[$doc:meta])* pub(crate) fn $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? $body:block) => {
        $(#[$doc])*
        pub(crate) fn $name(level: Level, $($arg: $ty),*) $(-> $ret)? {
            // A function of its own: it says that no slice overlaps another one.
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $ret)? $body
            struct Call<T>(T);
            impl FloatJob for Call<($($ty,)*)> {
                type Output = output!($($ret)?);
                #[inline(always)]
                fn run<S: FloatSimd>(self, _: S) -> Self::Output {
                    let ($($arg,)*) = self.0;
                    body($($arg),*)
                }
            }
            level.run(Call(($($arg,)*)))
        }
    };
}

macro_rules! output {
    () => {
        ()
    };
    ($ret:ty) => {
        $ret
    };
}

at_every_level! {
    /// `gate[i] = activation(gate[i])`, times `up[i]` where there is an `up`.
    pub(crate) fn gated(activation: Activation, gate: &mut [f32], up: Option<&[f32]>) {
        #[inline(always)]
        fn apply(gate: &mut [f32], up: Option<&[f32]>, f: impl Fn(f32) -> f32) {
            match up {
                Some(up) => gate.iter_mut().zip(up).for_each(|(g, u)| *g = f(*g) * u),
                None => gate.iter_mut().for_each(|g| *g = f(*g)),
            }
        }
        match activation {
            Activation::Identity => apply(gate, up, |x| x),
            Activation::Silu => apply(gate, up, silu),
            Activation::GeluTanh => apply(gate, up, gelu_tanh),
            Activation::GeluErf => apply(gate, up, gelu_erf),
            Activation::Relu => apply(gate, up, |x| x.max(0.0)),
            Activation::ReluSquared => apply(gate, up, |x| x.max(0.0) * x.max(0.0)),
            Activation::Sigmoid => apply(gate, up, |x| 1.0 / (1.0 + exp(-x))),
            Activation::ClampedSwiglu => {
                let swish = |x: f32| x / (1.0 + exp(-1.702 * x));
                apply(gate, None, |x| swish(x.min(7.0)));
                let up = up.into_iter().flatten();
                gate.iter_mut().zip(up).for_each(|(g, u)| *g *= 1.0 + u.clamp(-7.0, 7.0));
            }
            Activation::Softcap(cap) => apply(gate, up, |x| cap * tanh(x / cap)),
            Activation::Clamp(bound) => apply(gate, up, |x| x.clamp(-bound, bound)),
            Activation::Xielu { positive, negative, beta, epsilon } => apply(gate, up, |x| {
                let below = negative * (x.min(epsilon).exp_m1() - x);
                beta * x + if x > 0.0 { positive * x * x } else { below }
            }),
        }
    }
}

at_every_level! {
    /// Turns scores into weights, `exp(s - max)`: the largest score, and the sum of the
    /// weights. Values go to 16 lanes in turn, so the order depends on the length alone.
    pub(crate) fn softmax_weights(scores: &mut [f32]) -> (f32, f32) {
        let mut lanes = [f32::NEG_INFINITY; 16];
        let (chunks, rest) = scores.as_chunks::<16>();
        // Not `f32::max`, whose care for NaN costs more than the comparison.
        let larger = |lane: &mut f32, s: f32| *lane = if s > *lane { s } else { *lane };
        for chunk in chunks {
            lanes.iter_mut().zip(chunk).for_each(|(lane, s)| larger(lane, *s));
        }
        lanes.iter_mut().zip(rest).for_each(|(lane, s)| larger(lane, *s));
        let max = lanes.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut sums = [0.0f32; 16];
        let (chunks, rest) = scores.as_chunks_mut::<16>();
        for chunk in chunks {
            for (sum, s) in sums.iter_mut().zip(chunk) {
                *s = exp(*s - max);
                *sum += *s;
            }
        }
        for (sum, s) in sums.iter_mut().zip(rest) {
            *s = exp(*s - max);
            *sum += *s;
        }
        (max, sums.iter().sum())
    }
}

at_every_level! {
    /// `values[i] = factor * values[i] + other_factor * others[i]`
    pub(crate) fn blend(values: &mut [f32], factor: f32, others: &[f32], other_factor: f32) {
        values.iter_mut().zip(others).for_each(|(v, o)| *v = factor * *v + other_factor * o);
    }
}

at_every_level! {
    /// `out[c] += sum over i of weights[i] * values[i][c]`, in the order of `i`. Of `values`,
    /// 16 columns `[weights.len()][16]` follow each other, then those that are left.
    pub(crate) fn add_columns(weights: &[f32], values: &[f32], out: &mut [f32]) {
        let (panels, rest) = out.as_chunks_mut::<16>();
        let (values, values_of_rest) = values.split_at(panels.len() * 16 * weights.len());
        for (out, values) in panels.iter_mut().zip(values.chunks_exact(16 * weights.len())) {
            let mut sums = *out;
            for (weight, row) in weights.iter().zip(values.as_chunks::<16>().0) {
                for i in 0..16 {
                    sums[i] += weight * row[i];
                }
            }
            *out = sums;
        }
        if !rest.is_empty() {
            for (weight, row) in weights.iter().zip(values_of_rest.chunks_exact(rest.len())) {
                rest.iter_mut().zip(row).for_each(|(out, value)| *out += weight * value);
            }
        }
    }
}

at_every_level! {
    /// `values[i] = exp(factor * values[i])`
    pub(crate) fn exp_scaled(factor: f32, values: &mut [f32]) {
        values.iter_mut().for_each(|value| *value = exp(factor * *value));
    }
}

at_every_level! {
    /// Rows of int8 `[rows][stride]`, of which `scaled_len` share a row of `scales`.
    pub(crate) fn unpack_keys(
        quants: &[i8],
        scales: &[f32],
        stride: usize,
        scaled_len: usize,
        out: &mut [f32]
    ) {
        let rows = quants.chunks_exact(stride).zip(out.chunks_exact_mut(stride));
        for (i, (quants, out)) in rows.enumerate() {
            let scales = &scales[i / scaled_len * stride..][..stride];
            for ((out, q), d) in out.iter_mut().zip(quants).zip(scales) {
                *out = f32::from(*q) * d;
            }
        }
    }
}

at_every_level! {
    /// Rows of int8 `[rows][stride]`, each run of `scaled_len` of a row with one of its
    /// `scales`.
    pub(crate) fn unpack_values(
        quants: &[i8],
        scales: &[f32],
        stride: usize,
        scaled_len: usize,
        out: &mut [f32]
    ) {
        let n_rows = quants.len() / stride;
        let rows = quants.chunks_exact(stride).zip(out.chunks_exact_mut(stride));
        for ((quants, out), scales) in rows.zip(scales.chunks_exact(scales.len() / n_rows)) {
            let runs = quants.chunks(scaled_len).zip(out.chunks_mut(scaled_len));
            for ((quants, out), d) in runs.zip(scales) {
                out.iter_mut().zip(quants).for_each(|(out, q)| *out = f32::from(*q) * d);
            }
        }
    }
}

at_every_level! {
    /// `state[i] = decay[i] * state[i] + x * b[i]`; returns the sum of `state[i] * c[i]`, in
    /// 16 lanes. A single `decay` is that of every value.
    pub(crate) fn scan(state: &mut [f32], decay: &[f32], x: f32, b: &[f32], c: &[f32]) -> f32 {
        let n = state.len();
        let (b, c) = (&b[..n], &c[..n]);
        if let [decay] = decay {
            state.iter_mut().zip(b).for_each(|(s, b)| *s = decay * *s + x * b);
        } else {
            let rows = state.iter_mut().zip(b).zip(&decay[..n]);
            rows.for_each(|((s, b), decay)| *s = decay * *s + x * b);
        }
        let mut lanes = [0.0f32; 16];
        let (chunks, rest) = state.as_chunks::<16>();
        let (c_chunks, c_rest) = c.as_chunks::<16>();
        for (chunk, c) in chunks.iter().zip(c_chunks) {
            lanes.iter_mut().zip(chunk).zip(c).for_each(|((lane, s), c)| *lane += s * c);
        }
        lanes.iter_mut().zip(rest).zip(c_rest).for_each(|((lane, s), c)| *lane += s * c);
        lanes.iter().sum()
    }
}

at_every_level! {
    /// `sum of x[i]^2`, in 16 lanes.
    pub(crate) fn sum_of_squares(x: &[f32]) -> f32 {
        let mut lanes = [0.0f32; 16];
        let (chunks, rest) = x.as_chunks::<16>();
        for chunk in chunks {
            lanes.iter_mut().zip(chunk).for_each(|(lane, v)| *lane += v * v);
        }
        lanes.iter_mut().zip(rest).for_each(|(lane, v)| *lane += v * v);
        lanes.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Largest difference from `truth` over `from..=to`, relative to `max(|truth|, floor)`.
    fn worst(f: fn(f32) -> f32, truth: fn(f64) -> f64, from: f32, to: f32, floor: f64) -> f64 {
        let n = 200_000;
        (0..=n)
            .map(|i| from + (to - from) * i as f32 / n as f32)
            .map(|x| {
                (f64::from(f(x)) - truth(f64::from(x))).abs() / truth(f64::from(x)).abs().max(floor)
            })
            .fold(0.0, f64::max)
    }

    #[test]
    fn exponentials_are_within_two_units_in_the_last_place() {
        assert!(worst(exp, f64::exp, -87.0, 88.0, 0.0) < 2.4e-7);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-200.0), 0.0);
        assert_eq!(exp(200.0), f32::INFINITY);
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn hyperbolic_tangents_are_within_three_units_in_the_last_place() {
        assert!(worst(tanh, f64::tanh, -20.0, 20.0, 1e-30) < 3.6e-7);
        assert_eq!(tanh(0.0), 0.0);
        assert_eq!(tanh(f32::INFINITY), 1.0);
        assert_eq!(tanh(-100.0), -1.0);
    }

    #[test]
    fn activations_equal_their_definitions() {
        let gelu = |x: f64| {
            0.5 * x
                * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        };
        assert!(worst(silu, |x| x / (1.0 + (-x).exp()), -80.0, 80.0, 1e-6) < 1e-6);
        assert!(worst(gelu_tanh, gelu, -10.0, 10.0, 1e-2) < 1e-5);
    }

    #[test]
    fn the_error_function_matches_its_series() {
        // 2 / sqrt(pi) * sum of (-1)^n x^(2n+1) / (n! (2n+1))
        let truth = |x: f64| {
            let mut term = x;
            let mut sum = x;
            for n in 1..80 {
                term *= -x * x / f64::from(n);
                sum += term / f64::from(2 * n + 1);
            }
            sum * 2.0 / std::f64::consts::PI.sqrt()
        };
        assert!(worst(erf, truth, -3.5, 3.5, 1.0) < 5e-7);
        assert_eq!(erf(10.0), 1.0);
    }

    /// Values of some length, with all kinds of magnitudes and signs.
    fn values(n: usize) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * 0.7).sin() * 5.0).collect()
    }

    /// Lengths around those of vectors.
    const LENGTHS: [usize; 8] = [1, 15, 16, 17, 31, 33, 64, 100];

    fn near(got: f32, want: f64) -> bool {
        (f64::from(got) - want).abs() <= 1e-5 * want.abs().max(1.0)
    }

    #[test]
    fn weights_sum_to_what_is_returned_at_every_level() {
        for (level, n) in Level::available().flat_map(|level| LENGTHS.map(|n| (level, n))) {
            let mut scores = values(n);
            let total: f64 = scores.iter().map(|s| f64::from(*s).exp()).sum();
            let largest = scores.iter().copied().fold(f32::MIN, f32::max);
            let (max, sum) = softmax_weights(level, &mut scores);
            assert_eq!(max, largest);
            assert!((f64::from(sum) * f64::from(max).exp() / total - 1.0).abs() < 1e-5);
        }
    }

    #[test]
    fn gates_equal_their_definitions_at_every_level() {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let definitions: [(Activation, &dyn Fn(f64) -> f64); 8] = [
            (Activation::Identity, &|x| x),
            (Activation::Silu, &|x| x * sigmoid(x)),
            (Activation::Relu, &|x| x.max(0.0)),
            (Activation::ReluSquared, &|x| x.max(0.0).powi(2)),
            (Activation::Sigmoid, &sigmoid),
            (Activation::Softcap(2.0), &|x| 2.0 * (x / 2.0).tanh()),
            (Activation::Clamp(1.5), &|x| x.clamp(-1.5, 1.5)),
            (Activation::Xielu { positive: 0.8, negative: 0.6, beta: 0.5, epsilon: -1e-6 }, &|x| {
                let below = 0.6 * (x.min(-1e-6).exp_m1() - x);
                0.5 * x + if x > 0.0 { 0.8 * x * x } else { below }
            }),
        ];
        for (level, n) in Level::available().flat_map(|level| LENGTHS.map(|n| (level, n))) {
            for (activation, definition) in &definitions {
                let (inputs, up) = (values(n), values(n + 1)[1..].to_vec());
                let (mut alone, mut gate) = (inputs.clone(), inputs.clone());
                gated(level, *activation, &mut alone, None);
                gated(level, *activation, &mut gate, Some(&up));
                for i in 0..n {
                    let want = definition(f64::from(inputs[i]));
                    assert!(near(alone[i], want), "{level} {activation:?} {}", inputs[i]);
                    assert!(near(gate[i], want * f64::from(up[i])), "{level} {activation:?}");
                }
            }
        }
    }

    #[test]
    fn sums_and_scans_equal_plain_loops_at_every_level() {
        let wide = |v: &[f32]| v.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
        for (level, n) in Level::available().flat_map(|level| LENGTHS.map(|n| (level, n))) {
            let (a, b, c) = (values(n), values(n + 3)[3..].to_vec(), values(n + 5)[5..].to_vec());
            let (wide_a, wide_b, wide_c) = (wide(&a), wide(&b), wide(&c));
            let squares = wide_a.iter().map(|v| v * v).sum();
            assert!(near(sum_of_squares(level, &a), squares), "{level} {n}");

            let mut blended = a.clone();
            blend(level, &mut blended, 0.3, &b, -2.0);
            assert!((0..n).all(|i| near(blended[i], 0.3 * wide_a[i] - 2.0 * wide_b[i])));

            let mut decays = a.clone();
            exp_scaled(level, 0.4, &mut decays);
            assert!((0..n).all(|i| near(decays[i], (0.4 * wide_a[i]).exp())), "{level} {n}");

            for decay in [&[0.5][..], &b] {
                let mut state = a.clone();
                let got = scan(level, &mut state, decay, 0.7, &b, &c);
                let of = |i: usize| f64::from(decay[i % decay.len()]);
                let wanted: Vec<f64> =
                    (0..n).map(|i| of(i) * wide_a[i] + f64::from(0.7f32) * wide_b[i]).collect();
                assert!((0..n).all(|i| near(state[i], wanted[i])), "{level} {n}");
                let sum: f64 = wanted.iter().zip(&wide_c).map(|(s, c)| s * c).sum();
                let size: f64 = wanted.iter().zip(&wide_c).map(|(s, c)| (s * c).abs()).sum();
                assert!((f64::from(got) - sum).abs() <= 1e-6 * size, "{level} {n}: {got} {sum}");
            }
        }
    }

    /// Bits of whatever a function wrote and returned.
    fn bits(lists: &[&[f32]]) -> Vec<u32> {
        lists.concat().iter().map(|value| value.to_bits()).collect()
    }

    /// What every function here makes of the same input.
    fn all_functions(level: Level, n: usize) -> Vec<Vec<u32>> {
        let (a, b, c) = (values(n), values(n + 3)[3..].to_vec(), values(n + 5)[5..].to_vec());
        let activations = [
            Activation::Silu,
            Activation::GeluTanh,
            Activation::GeluErf,
            Activation::ClampedSwiglu,
            Activation::Softcap(2.0),
        ];
        let mut all = Vec::new();
        for activation in activations {
            let mut gate = a.clone();
            gated(level, activation, &mut gate, Some(&b));
            all.push(bits(&[&gate]));
        }
        let mut scores = a.clone();
        let (max, sum) = softmax_weights(level, &mut scores);
        all.push(bits(&[&scores, &[max, sum]]));
        let mut blended = a.clone();
        blend(level, &mut blended, 0.3, &b, -2.0);
        let mut decays = a.clone();
        exp_scaled(level, 0.4, &mut decays);
        let mut state = a.clone();
        let sum = scan(level, &mut state, &b, 0.7, &b, &c);
        all.push(bits(&[&blended, &decays, &state, &[sum, sum_of_squares(level, &a)]]));
        let mut columns = b.clone();
        add_columns(level, &[0.3, -0.4, 0.5], &values(3 * n), &mut columns);
        all.push(bits(&[&columns]));
        let quants: Vec<i8> = (0..2 * n).map(|i| (i * 37 % 255) as i8).collect();
        let (mut keys, mut rows) = (vec![0.0; 2 * n], vec![0.0; 2 * n]);
        unpack_keys(level, &quants, &a, n, 2, &mut keys);
        unpack_values(level, &quants, &values(2 * n.div_ceil(32)), n, 32, &mut rows);
        all.push(bits(&[&keys, &rows]));
        all
    }

    #[test]
    fn every_level_gives_the_bits_of_plain_code() {
        for (level, n) in Level::available().flat_map(|level| LENGTHS.map(|n| (level, n))) {
            assert!(all_functions(level, n) == all_functions(Level::SCALAR, n), "{level} {n}");
        }
    }
}
