//! Each step alone, with all its options, against the oracle.

mod common;

use realm_gguf::TensorType;
use realm_ir::{
    Activation, Add, Attend, Conv, DeltaNet, GatedAct, HeadLinear, HeadNorm, KvLayer, KvType, Mix,
    Norm, NormKind, Rope, RopeSpec, RopeStore, RopeStyle, SelectiveScan, Slot, Sparsify, Step,
    TakeRows, Temperature,
};
use realm_testkit::bench::Bench;
use realm_testkit::compare::compare;
use realm_testkit::oracle::NaiveBackend;

use common::{F32_ROUNDING, assert_close, backend};

/// Sets an option of a step.
type Change<T> = fn(&mut Bench, &mut T);

/// The oracle's values within `tolerance`, which it returns.
fn check(bench: &Bench, what: &str, steps: &[Step], outs: &[Slot], tolerance: f32) -> Vec<f32> {
    let wanted = bench.run(&NaiveBackend, steps, outs);
    let got = bench.run(backend(), steps, outs);
    assert!(compare(&got, &wanted).rms_wanted > 1e-3, "{what}: zeros show nothing");
    assert_close(what, &got, &wanted, tolerance);
    wanted
}

#[test]
fn norms_in_groups_leave_the_rest_of_a_row() {
    for kind in [NormKind::Rms, NormKind::Layer] {
        let (groups, width, epsilon) = (3, 80, 1e-5);
        let mut bench = Bench::new(1);
        let [own, shared, bare, input, out] = [(); 5].map(|()| bench.slot(groups * width + 8));
        let mut values = |n: usize| Some(bench.values(&[n]));
        let (all, one) = ([values(240), values(240)], [values(80), values(80)]);
        let norm = |input, out, [weight, bias]: [_; 2]| {
            Step::Norm(Norm { input, out, kind, groups, width, weight, bias, epsilon })
        };
        let steps = [
            norm(own, own, all),
            norm(shared, shared, one),
            norm(bare, bare, [None, None]),
            norm(input, out, all),
        ];
        check(&bench, &format!("{kind:?}"), &steps, &[own, shared, bare, out], F32_ROUNDING);
    }
}

/// Six heads over two, of 32 values, in slots wider than they need.
fn attention(bench: &mut Bench) -> (RopeStore, Attend) {
    bench.kv_layers.push(KvLayer { n_kv_heads: 2, key_width: 32, value_width: 32 });
    let (n_heads, kv_layer) = (6, 0);
    let (q, k, v) = (bench.slot(200), bench.slot(70), bench.slot(65));
    let out = bench.slot(192);
    let store =
        RopeStore { q, k, v, kv_layer, n_heads, head_norm: None, rope: None, temperature: None };
    let attend = Attend {
        q,
        out,
        kv_layer,
        n_heads,
        scale: 0.2,
        window: None,
        chunked: false,
        softcap: None,
        sinks: None,
        alibi_max_bias: None,
        causal: true,
    };
    (store, attend)
}

fn turning(style: RopeStyle, n_pairs: i32, offset: usize) -> RopeSpec {
    let inverse_frequencies = (0..n_pairs).map(|i| 0.7f32.powi(i)).collect();
    RopeSpec { style, inverse_frequencies, magnitude: 1.1, offset }
}

#[test]
fn options_of_attention_equal_the_oracle_and_change_the_result() {
    let run = |what: &str, change: Change<Attend>| {
        let mut bench = Bench::new(2);
        let (store, mut attend) = attention(&mut bench);
        change(&mut bench, &mut attend);
        let out = attend.out;
        let steps = [Step::RopeStore(store), Step::Attend(attend)];
        check(&bench, what, &steps, &[out], F32_ROUNDING)
    };
    let plain = run("plain", |_, _| {});
    let changes: [(&str, Change<Attend>); 9] = [
        ("sinks", |bench, attend| attend.sinks = Some(bench.values(&[6]))),
        ("sinks and window", |bench, attend| {
            (attend.sinks, attend.window) = (Some(bench.values(&[6])), Some(2));
        }),
        ("a window", |_, attend| attend.window = Some(7)),
        ("a window that does not slide", |_, attend| {
            (attend.window, attend.chunked) = (Some(5), true);
        }),
        ("linear biases", |_, attend| attend.alibi_max_bias = Some(8.0)),
        ("linear biases and cap", |_, attend| {
            (attend.alibi_max_bias, attend.softcap) = (Some(4.0), Some(2.0));
        }),
        ("no order", |_, attend| attend.causal = false),
        ("a window to both sides", |_, attend| {
            (attend.window, attend.causal) = (Some(9), false);
        }),
        ("a window that does not slide, without order", |_, attend| {
            (attend.window, attend.chunked, attend.causal) = (Some(5), true, false);
        }),
    ];
    for (what, change) in changes {
        assert!(run(what, change) != plain, "{what} changes nothing");
    }
}

#[test]
fn attention_fits_heads_of_every_width_and_number() {
    // Query heads, key heads, key width, value width.
    for (n_heads, n_kv_heads, key_width, value_width) in
        [(2, 2, 128, 128), (8, 1, 7, 13), (40, 1, 192, 512), (3, 3, 40, 256), (32, 2, 64, 64)]
    {
        let mut bench = Bench::new(3);
        bench.kv_layers.push(KvLayer { n_kv_heads, key_width, value_width });
        let (_, attend) = attention(&mut Bench::new(0));
        let q = bench.slot(n_heads * key_width);
        let store = RopeStore {
            q,
            k: bench.slot(n_kv_heads * key_width),
            v: bench.slot(n_kv_heads * value_width),
            kv_layer: 0,
            n_heads,
            head_norm: None,
            rope: None,
            temperature: None,
        };
        let out = bench.slot(n_heads * value_width);
        let attend = Attend { q, out, n_heads, scale: 1.0 / (key_width as f32).sqrt(), ..attend };
        let what = format!("{n_heads} over {n_kv_heads} of {key_width} and {value_width}");
        let steps = [Step::RopeStore(store), Step::Attend(attend)];
        check(&bench, &what, &steps, &[out], F32_ROUNDING);
    }
}

#[test]
fn halves_in_the_cache_are_as_close_as_halves_are() {
    for (key_width, value_width) in [(32, 32), (7, 13)] {
        let mut bench = Bench::new(4);
        bench.kv_type = KvType::F16;
        let (mut store, mut attend) = attention(&mut bench);
        bench.kv_layers[0] = KvLayer { n_kv_heads: 2, key_width, value_width };
        store.rope = Some(turning(RopeStyle::Halves, 3, 0));
        attend.sinks = Some(bench.values(&[6]));
        let out = attend.out;
        let steps = [Step::RopeStore(store), Step::Attend(attend)];
        // A value may be rounded to the other of two halves, 2^-11 of it apart.
        check(&bench, &format!("{key_width} and {value_width}"), &steps, &[out], 1e-3);
    }
}

#[test]
fn latent_attention_takes_its_values_from_the_keys_before_they_turn() {
    for style in [RopeStyle::Interleaved, RopeStyle::Halves] {
        let mut bench = Bench::new(5);
        bench.kv_layers.push(KvLayer { n_kv_heads: 1, key_width: 48, value_width: 36 });
        let (q, k, out) = (bench.slot(192), bench.slot(48), bench.slot(144));
        let (mut store, attend) = attention(&mut Bench::new(0));
        store = RopeStore { q, k, v: k, n_heads: 4, ..store };
        store.rope = Some(turning(style, 8, 32));
        let attend = Attend { q, out, n_heads: 4, scale: 0.15, ..attend };
        let steps = [Step::RopeStore(store), Step::Attend(attend)];
        check(&bench, &format!("{style:?}"), &steps, &[q, out], F32_ROUNDING);
    }
}

#[test]
fn heads_turn_are_normalised_and_grow_with_their_position() {
    for style in [RopeStyle::Interleaved, RopeStyle::Halves] {
        for after_rope in [false, true] {
            let mut bench = Bench::new(6);
            let (mut store, attend) = attention(&mut bench);
            store.rope = Some(turning(style, 12, 4));
            let (q_weight, k_weight) = (bench.values(&[32]), bench.values(&[32]));
            store.head_norm = Some(HeadNorm { q_weight, k_weight, epsilon: 1e-5, after_rope });
            store.temperature = Some(Temperature { scale: 0.5, length: 3, offset: 1 });
            let (q, out) = (store.q, attend.out);
            // The queries of another layer: more columns than heads, what is behind them stays.
            let heads = bench.slot(200);
            let rope = turning(style, 12, 4);
            let alone = Rope { heads, n_heads: 6, head_width: 32, rope };
            let again = Attend { q: heads, out: bench.slot(192), ..attend.clone() };
            let outs = [q, out, heads, again.out];
            let steps = [
                Step::RopeStore(store),
                Step::Attend(attend),
                Step::Rope(alone),
                Step::Attend(again),
            ];
            let what = format!("{style:?}, norm after the rotation {after_rope}");
            check(&bench, &what, &steps, &outs, F32_ROUNDING);
        }
    }
}

#[test]
fn every_activation_equals_the_oracle_with_and_without_a_factor() {
    for activation in [
        Activation::Identity,
        Activation::Silu,
        Activation::GeluTanh,
        Activation::GeluErf,
        Activation::Relu,
        Activation::ReluSquared,
        Activation::Sigmoid,
        Activation::ClampedSwiglu,
        Activation::Softcap(1.5),
        Activation::Clamp(2.0),
        Activation::Xielu { positive: 0.9, negative: 0.6, beta: 0.5, epsilon: -1e-6 },
    ] {
        let mut bench = Bench::new(7);
        // Beyond the bounds at 7 too.
        bench.spread = 4.0;
        let (gate, up, one) = (bench.slot(64), bench.slot(64), bench.slot(1));
        let outs = [(); 3].map(|()| bench.slot(64));
        let (both, wide) = (bench.slot(64), bench.slot(100));
        let act = |gate, up, up_offset, out| {
            Step::GatedAct(GatedAct { gate, up, up_offset, out, activation })
        };
        let steps = [
            act(gate, None, 0, outs[0]),
            act(one, Some(up), 0, outs[1]),
            act(gate, Some(wide), 36, outs[2]),
            // To where the gate was, then to where the factor was, then to where both were.
            act(gate, Some(up), 0, gate),
            act(gate, Some(up), 0, up),
            act(both, Some(both), 0, both),
        ];
        let outs = [outs[0], outs[1], outs[2], gate, up, both];
        for out in outs {
            // A function of what itself made needs as much room as that is large.
            let what = format!("{activation:?}, {out:?}");
            check(&bench, &what, &steps, &[out], 2.0 * F32_ROUNDING);
        }
    }
}

#[test]
fn sums_scale_both_terms_and_may_replace_either() {
    let mut bench = Bench::new(8);
    let (a, b, out, wide) = (bench.slot(40), bench.slot(40), bench.slot(40), bench.slot(50));
    let add = |a, b, out| Step::Add(Add { a, b, out, a_scale: -0.5, scale: 3.0 });
    let steps = [add(a, b, out), add(a, wide, wide), add(a, out, a), add(out, b, b), add(b, b, b)];
    check(&bench, "sums", &steps, &[a, b, out, wide], F32_ROUNDING);
}

#[test]
fn output_rows_are_taken_and_worked_on() {
    let mut bench = Bench::new(9);
    let (input, out) = (bench.slot(70), bench.output_slot(70));
    let activation = Activation::Softcap(2.0);
    let steps = [
        Step::TakeRows(TakeRows { input, out }),
        Step::GatedAct(GatedAct { gate: out, up: None, up_offset: 0, out, activation }),
    ];
    check(&bench, "outputs", &steps, &[out], F32_ROUNDING);
}

#[test]
fn every_head_has_a_matrix_of_its_own() {
    for (in_width, out_width, rest) in [(64, 96, 0), (96, 30, 16), (32, 5, 70)] {
        for ty in [TensorType::F32, TensorType::Q4_K] {
            if ty == TensorType::Q4_K && in_width != 64 {
                continue;
            }
            let in_width = if ty == TensorType::Q4_K { 256 } else { in_width };
            let mut bench = Bench::new(10);
            let n_heads = 3;
            let input = bench.slot(n_heads * (in_width + rest) + 3);
            let out = bench.slot(n_heads * (out_width + rest) + 1);
            let weight = bench.matrix(&[in_width, out_width, n_heads], ty);
            let step = HeadLinear { input, out, weight, n_heads, in_width, out_width, rest };
            let what = format!("{ty}, {in_width} to {out_width} and {rest}");
            check(&bench, &what, &[Step::HeadLinear(step)], &[out], F32_ROUNDING);
        }
    }
}

#[test]
fn mixed_slots_may_be_their_own_results() {
    let mut bench = Bench::new(11);
    let slots = [(); 6].map(|()| bench.slot(40));
    let [a, b, c, d, e, f] = slots;
    let mut steps = Vec::new();
    for (inputs, outputs, accumulate) in [
        (vec![a, b], vec![c, d], false),
        (vec![a, b], vec![c, d], true),
        (vec![a, b, c], vec![a, b, c], false),
        (vec![b, c], vec![d, b], true),
        (vec![a], vec![b, c, d], true),
        (vec![a, b, c, d, e, f], vec![e, f], false),
    ] {
        let weights = bench.slot(inputs.len() * outputs.len());
        steps.push(Step::Mix(Mix { inputs, outputs, weights, accumulate }));
    }
    for n in 1..=steps.len() {
        check(&bench, &format!("{n} mixes"), &steps[..n], &slots, 2.0 * F32_ROUNDING);
    }
}

#[test]
fn sparse_rows_keep_what_exceeds_most_of_their_first_values() {
    let mut bench = Bench::new(12);
    let mut outs = Vec::new();
    let mut steps = Vec::new();
    for (width, deviations) in [(200, 1.6448536), (160, 0.5), (2, -0.25), (200, -2.0)] {
        let values = bench.slot(200);
        outs.push(values);
        steps.push(Step::Sparsify(Sparsify { values, width, deviations }));
    }
    check(&bench, "sparse", &steps, &outs, F32_ROUNDING);
}

#[test]
fn convolutions_go_on_where_the_last_call_ended() {
    for (taps, activation, has_bias) in [
        (2, Activation::Identity, false),
        (4, Activation::Silu, false),
        (12, Activation::Silu, true),
    ] {
        let mut bench = Bench::new(13);
        let (input, out) = (bench.slot(50), bench.slot(51));
        let weight = bench.values(&[taps, 48]);
        let bias = has_bias.then(|| bench.values(&[48]));
        let step = Conv { input, out, weight, bias, activation, state: 0 };
        let what = format!("{taps} taps, bias {has_bias}");
        check(&bench, &what, &[Step::Conv(step)], &[out], F32_ROUNDING);
    }
}

#[test]
fn a_delta_rule_remembers_what_earlier_calls_taught_it() {
    for (n_key_heads, n_value_heads, grouped, key_width, value_width) in
        [(2, 2, false, 16, 24), (2, 4, false, 16, 24), (2, 4, true, 128, 64)]
    {
        let mut bench = Bench::new(14);
        let qkv = bench.slot(2 * n_key_heads * key_width + n_value_heads * value_width);
        let [alpha, beta] = [bench.slot(n_value_heads), bench.slot(n_value_heads)];
        let out = bench.slot(n_value_heads * value_width);
        let decay = bench.negative_values(&[n_value_heads]);
        let bias = bench.values(&[n_value_heads]);
        let epsilon = 1e-6;
        let state = 0;
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
            epsilon,
            state,
        };
        let what = format!("{n_value_heads} value heads, grouped {grouped}");
        check(&bench, &what, &[Step::DeltaNet(step)], &[out], F32_ROUNDING);
    }
}

#[test]
fn a_selective_scan_remembers_what_earlier_calls_told_it() {
    // Heads of one value with a decay for each of its states; wide heads with one.
    for (n_heads, head_width, n_decays, n_groups, state_width) in
        [(80, 1, 16, 1, 16), (6, 32, 1, 2, 128), (3, 80, 1, 3, 10)]
    {
        let mut bench = Bench::new(15);
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
        check(&bench, &what, &[Step::SelectiveScan(step)], &[out], F32_ROUNDING);
    }
}
