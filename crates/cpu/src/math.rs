//! Elementwise functions, written so that the compiler makes vectors of them.
//!
//! Each is compiled once per instruction set; which one runs depends on the
//! machine alone, so a value's result does not depend on where it stands. Neither does
//! it on the machine: no product is fused with a sum, and sums have lanes of their own.
//! AArch64's vectors belong to the baseline that everything is compiled for.

use realm_ir::Activation;

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

/// Compiles `$name` for each instruction set and picks one when called.
macro_rules! per_instruction_set {
    ($(#[$doc:meta])* pub(crate) fn $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? $body:block) => {
        $(#[$doc])*
        pub(crate) fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                let has_avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
                if has_avx2
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                {
                    // SAFETY: the CPU has the instructions.
                    return unsafe { avx512($($arg),*) };
                }
                if has_avx2 {
                    // SAFETY: the CPU has the instructions.
                    return unsafe { avx2($($arg),*) };
                }
            }
            body($($arg),*)
        }
    };
}

per_instruction_set! {
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

per_instruction_set! {
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

per_instruction_set! {
    /// `values[i] = factor * values[i] + other_factor * others[i]`
    pub(crate) fn blend(values: &mut [f32], factor: f32, others: &[f32], other_factor: f32) {
        values.iter_mut().zip(others).for_each(|(v, o)| *v = factor * *v + other_factor * o);
    }
}

per_instruction_set! {
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

per_instruction_set! {
    /// `values[i] = exp(factor * values[i])`
    pub(crate) fn exp_scaled(factor: f32, values: &mut [f32]) {
        values.iter_mut().for_each(|value| *value = exp(factor * *value));
    }
}

per_instruction_set! {
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

per_instruction_set! {
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

    #[test]
    fn weights_sum_to_what_is_returned() {
        for n in [1, 15, 16, 17, 100] {
            let mut scores: Vec<f32> = (0..n).map(|i| (i as f32 * 0.7).sin() * 5.0).collect();
            let total: f64 = scores.iter().map(|s| f64::from(*s).exp()).sum();
            let largest = scores.iter().copied().fold(f32::MIN, f32::max);
            let (max, sum) = softmax_weights(&mut scores);
            assert_eq!(max, largest);
            assert!((f64::from(sum) * f64::from(max).exp() / total - 1.0).abs() < 1e-5);
        }
    }
}
