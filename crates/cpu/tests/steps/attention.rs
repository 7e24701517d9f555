//! What heads do: rotation, attention and a matrix of each head's own.

use realm_cpu::Level;
use realm_gguf::TensorType;
use realm_ir::{
    Attend, HeadLinear, HeadNorm, KvLayer, Rope, RopeSpec, RopeStore, RopeStyle, Step, Temperature,
};
use realm_testkit::compare::compare;
use realm_testkit::oracle::NaiveBackend;

use crate::bench::{Bench, Change, F32_ROUNDING, cpu, tolerance};

#[test]
fn a_matrix_per_head_equals_the_oracle() {
    for ty in [TensorType::F32, TensorType::F16, TensorType::Q8_0, TensorType::Q4_K] {
        for rest in [0, 16] {
            let (n_heads, in_width, out_width) = (4, 256, 48);
            let mut bench = Bench::new(3);
            let input = bench.slot(n_heads * (in_width + rest));
            let out = bench.slot(n_heads * (out_width + rest));
            let weight = bench.matrix(&[in_width, out_width, n_heads], ty);
            let step = HeadLinear { input, out, weight, n_heads, in_width, out_width, rest };
            // An f16 dot product may round its input to f16.
            let allowed = if ty == TensorType::F16 { 2e-3 } else { tolerance(ty) };
            bench.check(&format!("{ty}, rest {rest}"), &[Step::HeadLinear(step)], out, allowed);
        }
    }
}

/// Six heads over two, of 32 values.
fn attention(bench: &mut Bench) -> (RopeStore, Attend) {
    bench.kv_layers.push(KvLayer { n_kv_heads: 2, key_width: 32, value_width: 32 });
    let (n_heads, kv_layer) = (6, 0);
    let (q, k, v) = (bench.slot(192), bench.slot(64), bench.slot(64));
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

#[test]
fn options_of_attention_equal_the_oracle_and_change_the_result() {
    let run = |what: &str, change: Change<Attend>| {
        let mut bench = Bench::new(6);
        let (store, mut attend) = attention(&mut bench);
        change(&mut bench, &mut attend);
        let out = attend.out;
        let steps = [Step::RopeStore(store), Step::Attend(attend)];
        bench.check(what, &steps, out, F32_ROUNDING);
        bench.together(&NaiveBackend, &steps, out)
    };
    let plain = run("plain", |_, _| {});
    let changes: [(&str, Change<Attend>); 5] = [
        ("sinks", |bench, attend| attend.sinks = Some(bench.values(&[6]))),
        ("sinks and window", |bench, attend| {
            (attend.sinks, attend.window) = (Some(bench.values(&[6])), Some(2));
        }),
        ("a window that does not slide", |_, attend| {
            (attend.window, attend.chunked) = (Some(2), true);
        }),
        ("linear biases", |_, attend| attend.alibi_max_bias = Some(8.0)),
        ("linear biases and cap", |_, attend| {
            (attend.alibi_max_bias, attend.softcap) = (Some(4.0), Some(2.0));
        }),
    ];
    for (what, change) in changes {
        assert!(run(what, change) != plain, "{what} changes nothing");
    }
}

#[test]
fn a_latent_key_turns_only_behind_its_offset_and_is_its_own_value() {
    for style in [RopeStyle::Interleaved, RopeStyle::Halves] {
        let mut bench = Bench::new(7);
        bench.kv_layers.push(KvLayer { n_kv_heads: 1, key_width: 48, value_width: 32 });
        let (n_heads, kv_layer) = (4, 0);
        let (q, k, out) = (bench.slot(192), bench.slot(48), bench.slot(128));
        let rope = Some(RopeSpec {
            style,
            inverse_frequencies: (0..8).map(|i| 0.7f32.powi(i)).collect(),
            magnitude: 1.1,
            offset: 32,
        });
        let store =
            RopeStore { q, k, v: k, kv_layer, n_heads, head_norm: None, rope, temperature: None };
        let attend = Attend {
            q,
            out,
            kv_layer,
            n_heads,
            scale: 0.15,
            window: None,
            chunked: false,
            softcap: None,
            sinks: None,
            alibi_max_bias: None,
            causal: true,
        };
        let steps = [Step::RopeStore(store), Step::Attend(attend)];
        bench.check(&format!("{style:?}, queries"), &steps, q, F32_ROUNDING);
        bench.check(&format!("{style:?}, result"), &steps, out, F32_ROUNDING);
    }
}

#[test]
fn heads_that_rotate_alone_attend_to_what_others_stored() {
    for style in [RopeStyle::Interleaved, RopeStyle::Halves] {
        let mut bench = Bench::new(14);
        let (store, attend) = attention(&mut bench);
        // More columns than heads: what is behind them stays.
        let (heads, out) = (bench.slot(200), bench.slot(192));
        let rope = RopeSpec {
            style,
            inverse_frequencies: (0..12).map(|i| 0.7f32.powi(i)).collect(),
            magnitude: 1.1,
            offset: 4,
        };
        let alone = Rope { heads, n_heads: 6, head_width: 32, rope };
        let sharing = Attend { q: heads, out, window: Some(2), ..attend };
        let steps = [Step::RopeStore(store), Step::Rope(alone), Step::Attend(sharing)];
        bench.check(&format!("{style:?}, heads"), &steps, heads, F32_ROUNDING);
        bench.check(&format!("{style:?}, result"), &steps, out, F32_ROUNDING);
        let unturned = bench.together(&NaiveBackend, &steps[..1], heads);
        assert!(bench.together(&NaiveBackend, &steps, heads) != unturned);
    }
}

#[test]
fn heads_are_normalised_after_their_rotation_where_asked() {
    let run = |after_rope: bool| {
        let mut bench = Bench::new(15);
        let (mut store, attend) = attention(&mut bench);
        store.rope = Some(RopeSpec {
            style: RopeStyle::Halves,
            inverse_frequencies: (0..16).map(|i| 0.7f32.powi(i)).collect(),
            magnitude: 1.0,
            offset: 0,
        });
        let (q_weight, k_weight) = (bench.values(&[32]), bench.values(&[32]));
        store.head_norm = Some(HeadNorm { q_weight, k_weight, epsilon: 1e-5, after_rope });
        let out = attend.out;
        let steps = [Step::RopeStore(store), Step::Attend(attend)];
        bench.check(&format!("after the rotation: {after_rope}"), &steps, out, F32_ROUNDING);
        bench.together(&NaiveBackend, &steps, out)
    };
    assert!(run(true) != run(false));
}

#[test]
fn queries_grow_with_their_position() {
    let mut bench = Bench::new(16);
    let (mut store, attend) = attention(&mut bench);
    store.temperature = Some(Temperature { scale: 0.5, length: 2, offset: 1 });
    let q = store.q;
    let before = bench.values[0].1.clone();
    let steps = [Step::RopeStore(store), Step::Attend(attend)];
    bench.check("temperature", &steps, q, F32_ROUNDING);
    let after = bench.together(&cpu(1, Level::best()), &steps, q);
    // Positions 0 to 4: the factor grows at 1 and at 3.
    for (row, steps) in [0.0f32, 1.0, 1.0, 2.0, 2.0].iter().enumerate() {
        let factor = 1.0 + 0.5 * (1.0 + steps).ln();
        assert!((after[row * 192] - factor * before[row * 192]).abs() < 1e-6, "row {row}");
    }
}

#[test]
fn a_window_without_order_reaches_half_its_size_to_either_side() {
    let mut bench = Bench::new(17);
    let (store, mut attend) = attention(&mut bench);
    (attend.window, attend.causal) = (Some(3), false);
    let (q, k, v, out) = (store.q, store.k, store.v, attend.out);
    let steps = [Step::RopeStore(store), Step::Attend(attend)];
    let run = |bench: &Bench| {
        let (wanted, got) = (
            bench.together(&NaiveBackend, &steps, out),
            bench.together(&cpu(2, Level::best()), &steps, out),
        );
        assert!(compare(&got, &wanted).max_abs < F32_ROUNDING);
        got
    };
    let before = run(&bench);
    // What the last position says reaches the one before it and no further.
    for (slot, values) in &mut bench.values {
        if [k, v].contains(slot) {
            values[4 * 64..].fill(3.0);
        }
    }
    assert!(q != out);
    let after = run(&bench);
    assert!(before[..3 * 192] == after[..3 * 192]);
    assert!(before[3 * 192..4 * 192] != after[3 * 192..4 * 192]);
}
