//! Rotation, the KV cache and attention.

use realm_ir::{
    Attend, HeadNorm, KvLayer, KvType, Rope, RopeSpec, RopeStore, RopeStyle, Slot, Step,
    Temperature,
};
use realm_testkit::bench::{Bench, MAX_ROWS};

use super::{Case, Change};

pub fn all() -> Vec<Case> {
    [options(), widths(), halves(), latent(), rotations(), shared_out()].concat()
}

/// Attention over one layer of the cache, with nothing that a step may leave out.
fn plain(kv_layer: KvLayer, n_heads: usize, [q, k, v, out]: [Slot; 4]) -> (RopeStore, Attend) {
    let store =
        RopeStore { q, k, v, kv_layer: 0, n_heads, head_norm: None, rope: None, temperature: None };
    let attend = Attend {
        q,
        out,
        kv_layer: 0,
        n_heads,
        scale: 1.0 / (kv_layer.key_width as f32).sqrt(),
        window: None,
        chunked: false,
        softcap: None,
        sinks: None,
        alibi_max_bias: None,
        causal: true,
    };
    (store, attend)
}

/// Heads over a layer of the cache, in slots just wide enough.
fn heads_over(bench: &mut Bench, n_heads: usize, layer: KvLayer) -> (RopeStore, Attend) {
    bench.kv_layers.push(layer);
    let KvLayer { n_kv_heads, key_width, value_width } = layer;
    let widths = [
        n_heads * key_width,
        n_kv_heads * key_width,
        n_kv_heads * value_width,
        n_heads * value_width,
    ];
    plain(layer, n_heads, widths.map(|width| bench.slot(width)))
}

/// Six heads over two, of 32 values, in slots wider than they need.
fn six_heads(bench: &mut Bench) -> (RopeStore, Attend) {
    let layer = KvLayer { n_kv_heads: 2, key_width: 32, value_width: 32 };
    bench.kv_layers.push(layer);
    plain(layer, 6, [200, 70, 65, 192].map(|width| bench.slot(width)))
}

fn case(what: impl Into<String>, bench: Bench, store: RopeStore, attend: Attend) -> Case {
    let out = attend.out;
    Case::new(what, bench, vec![Step::RopeStore(store), Step::Attend(attend)], &[out])
}

fn turning(style: RopeStyle, n_pairs: i32, offset: usize) -> RopeSpec {
    let inverse_frequencies = (0..n_pairs).map(|i| 0.7f32.powi(i)).collect();
    RopeSpec { style, inverse_frequencies, magnitude: 1.1, offset }
}

/// Attention without options, then with each.
pub fn options() -> Vec<Case> {
    let changes: [(&str, Change<Attend>); 10] = [
        ("no options", |_, _| {}),
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
    let with = |(what, change): (&str, Change<Attend>)| {
        let mut bench = Bench::new(2);
        let (store, mut attend) = six_heads(&mut bench);
        change(&mut bench, &mut attend);
        case(format!("attention with {what}"), bench, store, attend)
    };
    changes.map(with).into()
}

/// Heads of many widths and numbers.
pub fn widths() -> Vec<Case> {
    // Query heads, key heads, key width, value width.
    let shapes =
        [(2, 2, 128, 128), (8, 1, 7, 13), (40, 1, 192, 512), (3, 3, 40, 256), (32, 2, 64, 64)];
    let of_shape = |(n_heads, n_kv_heads, key_width, value_width)| {
        let mut bench = Bench::new(3);
        let layer = KvLayer { n_kv_heads, key_width, value_width };
        let (store, attend) = heads_over(&mut bench, n_heads, layer);
        let what = format!("{n_heads} heads over {n_kv_heads} of {key_width} and {value_width}");
        case(what, bench, store, attend)
    };
    shapes.map(of_shape).into()
}

/// A cache of f16, of whole quads and others.
pub fn halves() -> Vec<Case> {
    let of_widths = |(key_width, value_width)| {
        let mut bench = Bench::new(4);
        bench.kv_type = KvType::F16;
        let (mut store, mut attend) = six_heads(&mut bench);
        bench.kv_layers[0] = KvLayer { n_kv_heads: 2, key_width, value_width };
        store.rope = Some(turning(RopeStyle::Halves, 3, 0));
        attend.sinks = Some(bench.values(&[6]));
        let what = format!("halves in a cache of {key_width} and {value_width}");
        // A value may be rounded to the other of two halves, 2^-11 of it apart.
        case(what, bench, store, attend).within(1e-3)
    };
    [(32, 32), (7, 13)].map(of_widths).into()
}

/// Values that are the keys before they turn.
pub fn latent() -> Vec<Case> {
    let of_style = |style| {
        let mut bench = Bench::new(5);
        let layer = KvLayer { n_kv_heads: 1, key_width: 48, value_width: 36 };
        bench.kv_layers.push(layer);
        let [q, k, out] = [192, 48, 144].map(|width| bench.slot(width));
        let (mut store, attend) = plain(layer, 4, [q, k, k, out]);
        store.rope = Some(turning(style, 8, 32));
        let mut case = case(format!("latent attention, {style:?}"), bench, store, attend);
        case.outs.push(q);
        case
    };
    [RopeStyle::Interleaved, RopeStyle::Halves].map(of_style).into()
}

/// Rotation with everything around it, and the queries of another layer turned alone.
pub fn rotations() -> Vec<Case> {
    let of_style = |(style, after_rope)| {
        let mut bench = Bench::new(6);
        let (mut store, attend) = six_heads(&mut bench);
        store.rope = Some(turning(style, 12, 4));
        let (q_weight, k_weight) = (bench.values(&[32]), bench.values(&[32]));
        store.head_norm = Some(HeadNorm { q_weight, k_weight, epsilon: 1e-5, after_rope });
        store.temperature = Some(Temperature { scale: 0.5, length: 3, offset: 1 });
        let (q, out) = (store.q, attend.out);
        // More columns than heads: what is behind them stays.
        let heads = bench.slot(200);
        let rope = turning(style, 12, 4);
        let alone = Rope { heads, n_heads: 6, head_width: 32, rope };
        let again = Attend { q: heads, out: bench.slot(192), ..attend.clone() };
        let outs = [q, out, heads, again.out];
        let steps = vec![
            Step::RopeStore(store),
            Step::Attend(attend),
            Step::Rope(alone),
            Step::Attend(again),
        ];
        let what = format!("rotation {style:?}, norm after it {after_rope}");
        Case::new(what, bench, steps, &outs)
    };
    let styles = [RopeStyle::Interleaved, RopeStyle::Halves];
    styles.into_iter().flat_map(|style| [(style, false), (style, true)]).map(of_style).collect()
}

/// Rows of one sequence that sees so far that several workgroups share its positions.
pub fn shared_out() -> Vec<Case> {
    let changes: [(&str, KvType, Change<Attend>); 4] = [
        ("f32", KvType::F32, |_, _| {}),
        ("f16", KvType::F16, |_, _| {}),
        ("with sinks", KvType::F32, |bench, attend| attend.sinks = Some(bench.values(&[6]))),
        ("in a window", KvType::F32, |_, attend| attend.window = Some(150)),
    ];
    let with = |(what, kv_type, change): (&str, KvType, Change<Attend>)| {
        let mut bench = Bench::new(16);
        (bench.kv_type, bench.page_tokens) = (kv_type, 24);
        bench.calls = [[MAX_ROWS, 0]; 5].into_iter().chain([[1, 0], [2, 1]]).collect();
        let (store, mut attend) = six_heads(&mut bench);
        change(&mut bench, &mut attend);
        let case = case(format!("positions shared out, {what}"), bench, store, attend);
        if kv_type == KvType::F16 { case.within(1e-3) } else { case }
    };
    changes.map(with).into()
}

/// Cases with heads enough to be dealt out, and the most bytes of a binding that make a device do
/// so. Slots fit.
pub fn dealt_out() -> Vec<(usize, Case)> {
    // Twelve heads over four in f16, whose sequences are short and then long.
    let grouped = || {
        let mut bench = Bench::new(17);
        (bench.kv_type, bench.page_tokens) = (KvType::F16, 24);
        bench.calls = [[3, 2]; 2].into_iter().chain([[MAX_ROWS, 0]; 4]).collect();
        bench.calls.extend([[1, 1], [1, 0], [5, 20]]);
        let layer = KvLayer { n_kv_heads: 4, key_width: 24, value_width: 16 };
        let (mut store, mut attend) = heads_over(&mut bench, 12, layer);
        store.rope = Some(turning(RopeStyle::Halves, 8, 4));
        attend.sinks = Some(bench.values(&[12]));
        (attend.alibi_max_bias, attend.softcap) = (Some(4.0), Some(2.0));
        case("twelve heads over four", bench, store, attend).within(1e-3)
    };
    // Three heads in two parts: one has more than the other.
    let uneven = || {
        let mut bench = Bench::new(18);
        let layer = KvLayer { n_kv_heads: 3, key_width: 40, value_width: 256 };
        let (store, attend) = heads_over(&mut bench, 3, layer);
        case("three heads", bench, store, attend)
    };
    // 32 pages of 4 positions of two heads of 32 and 32 values in f32 are 65 536 bytes.
    let small = options().into_iter().map(|case| (40_000, case));
    // Four times that: a table of angles does not fit into less.
    let turned = rotations().into_iter().map(|mut case| {
        case.bench.page_tokens = 16;
        (140_000, case)
    });
    // Six times that, or half of it in f16.
    let long = shared_out().into_iter().map(|case| match case.bench.kv_type {
        KvType::F16 => (100_000, case),
        _ => (200_000, case),
    });
    let others = [(160_000, grouped()), (70_000, grouped()), (310_000, uneven())];
    small.chain(turned).chain(long).chain(others).collect()
}
