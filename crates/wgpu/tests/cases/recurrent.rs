//! Steps that go on where the last call ended.

use realm_ir::{Activation, Conv, DeltaNet, SelectiveScan, Step};
use realm_testkit::bench::Bench;

use super::Case;

pub fn all() -> Vec<Case> {
    [convolutions(), delta_rules(), selective_scans()].concat()
}

pub fn convolutions() -> Vec<Case> {
    let of = |(taps, activation, has_bias): (usize, Activation, bool)| {
        let mut bench = Bench::new(13);
        let (input, out) = (bench.slot(50), bench.slot(51));
        let weight = bench.values(&[taps, 48]);
        let bias = has_bias.then(|| bench.values(&[48]));
        let step = Conv { input, out, weight, bias, activation, state: 0 };
        let what = format!("convolution of {taps} taps, bias {has_bias}");
        Case::new(what, bench, vec![Step::Conv(step)], &[out])
    };
    let (none, silu) = (Activation::Identity, Activation::Silu);
    [(2, none, false), (4, silu, false), (12, silu, true)].map(of).into()
}

pub fn delta_rules() -> Vec<Case> {
    let of = |(n_key_heads, n_value_heads, grouped, key_width, value_width)| {
        let mut bench = Bench::new(14);
        let qkv = bench.slot(2 * n_key_heads * key_width + n_value_heads * value_width);
        let step = DeltaNet {
            qkv,
            alpha: bench.slot(n_value_heads),
            beta: bench.slot(n_value_heads),
            out: bench.slot(n_value_heads * value_width),
            decay: bench.negative_values(&[n_value_heads]),
            bias: bench.values(&[n_value_heads]),
            n_key_heads,
            n_value_heads,
            grouped,
            key_width,
            value_width,
            epsilon: 1e-6,
            state: 0,
        };
        let what = format!("delta rule of {n_value_heads} value heads, grouped {grouped}");
        let out = step.out;
        Case::new(what, bench, vec![Step::DeltaNet(step)], &[out])
    };
    [(2, 2, false, 16, 24), (2, 4, false, 16, 24), (2, 4, true, 128, 64)].map(of).into()
}

pub fn selective_scans() -> Vec<Case> {
    // Heads of one value with a decay for each of its states; wide heads with one.
    let of = |(n_heads, head_width, n_decays, n_groups, state_width)| {
        let mut bench = Bench::new(15);
        let step = SelectiveScan {
            x: bench.slot(n_heads * head_width),
            dt: bench.slot(n_heads),
            b: bench.slot(n_groups * state_width),
            c: bench.slot(n_groups * state_width),
            out: bench.slot(n_heads * head_width),
            decay: bench.negative_values(&[n_decays, n_heads]),
            bias: bench.values(&[n_heads]),
            skip: bench.values(&[n_heads]),
            n_heads,
            head_width,
            state_width,
            n_groups,
            state: 0,
        };
        let (what, out) = (format!("scan of {n_heads} heads of {head_width}"), step.out);
        Case::new(what, bench, vec![Step::SelectiveScan(step)], &[out])
    };
    [(80, 1, 16, 1, 16), (6, 32, 1, 2, 128), (3, 80, 1, 3, 10)].map(of).into()
}
