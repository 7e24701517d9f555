//! Steps that remember what earlier calls gave them.

use realm_ir::{Activation, Conv, DeltaNet, SelectiveScan, Step};

use crate::bench::{Bench, F32_ROUNDING};

#[test]
fn convolutions_go_on_where_the_last_call_ended() {
    for (taps, activation, has_bias) in [
        (2, Activation::Identity, false),
        (4, Activation::Silu, false),
        (4, Activation::Silu, true),
    ] {
        let mut bench = Bench::new(12);
        let (input, out) = (bench.slot(48), bench.slot(48));
        let weight = bench.values(&[taps, 48]);
        let bias = has_bias.then(|| bench.values(&[48]));
        let step = Conv { input, out, weight, bias, activation, state: 0 };
        bench.check(
            &format!("{taps} taps, bias {has_bias}"),
            &[Step::Conv(step)],
            out,
            F32_ROUNDING,
        );
    }
}

#[test]
fn a_delta_rule_remembers_what_earlier_calls_taught_it() {
    for (n_key_heads, n_value_heads, grouped) in [(2, 2, false), (2, 4, false), (2, 4, true)] {
        let (key_width, value_width) = (16, 24);
        let mut bench = Bench::new(13);
        let qkv = bench.slot(2 * n_key_heads * key_width + n_value_heads * value_width);
        let [alpha, beta] = [bench.slot(n_value_heads), bench.slot(n_value_heads)];
        let out = bench.slot(n_value_heads * value_width);
        let (decay, bias) = (bench.values(&[n_value_heads]), bench.values(&[n_value_heads]));
        let step = DeltaNet {
            qkv,
            alpha,
            beta,
            out,
            decay,
            bias,
            n_key_heads,
            n_value_heads,
            grouped,
            key_width,
            value_width,
            epsilon: 1e-6,
            state: 0,
        };
        let what = format!("{n_value_heads} value heads, grouped {grouped}");
        bench.check(&what, &[Step::DeltaNet(step)], out, F32_ROUNDING);
    }
}

#[test]
fn a_selective_scan_remembers_what_earlier_calls_told_it() {
    // Heads of one value with a decay for each of its states; wide heads with one.
    for (n_heads, head_width, n_decays, n_groups) in [(80, 1, 16, 1), (6, 32, 1, 2), (3, 80, 1, 3)]
    {
        let state_width = 16;
        let mut bench = Bench::new(14);
        let (x, dt) = (bench.slot(n_heads * head_width), bench.slot(n_heads));
        let [b, c] = [bench.slot(n_groups * state_width), bench.slot(n_groups * state_width)];
        let step = SelectiveScan {
            x,
            dt,
            b,
            c,
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
        let (what, out) = (format!("{n_heads} heads of {head_width}"), step.out);
        bench.check(&what, &[Step::SelectiveScan(step)], out, F32_ROUNDING);
    }
}
