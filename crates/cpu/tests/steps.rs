//! Each step alone, with the options that dense decoders do not use, against the oracle at
//! every level; and a row alone against the same row among others.

use std::ops::Range;
use std::sync::Arc;

use realm_cpu::{CpuBackend, CpuOptions, Level};
use realm_gguf::{TensorData, TensorType};
use realm_ir::{
    Activation, Add, Attend, Backend, BatchView, Conv, DeltaNet, Embed, ExpertWeights, GatedAct,
    Gating, HeadLinear, HeadNorm, KvLayer, Mix, Moe, Norm, NormKind, Program, Rope, RopeSpec,
    RopeStore, RopeStyle, Rows, SelectiveScan, SequenceView, Session, Slot, SlotInfo, Sparsify,
    Step, Temperature, WeightRef,
};
use realm_testkit::compare::compare;
use realm_testkit::oracle::NaiveBackend;
use realm_testkit::program::{Model, Size, read};
use realm_testkit::random::{self, Random};

/// Sets an option of a step.
type Change<T> = fn(&mut Bench, &mut T);

const N_ROWS: usize = 5;
const TOKENS: [u32; N_ROWS] = [3, 0, 7, 7, 1];
const PAGES: [u32; 2] = [6, 2];

/// Rounding of f32 sums against f64 sums, for values of about 1.
const F32_ROUNDING: f32 = 2e-5;

fn cpu(threads: usize, level: Level) -> CpuBackend {
    CpuBackend::new(CpuOptions { threads: Some(threads), level: Some(level) }).unwrap()
}

/// Slots, weights and steps of one small program, and what its slots hold at first.
struct Bench {
    random: Random,
    slots: Vec<SlotInfo>,
    weights: Vec<TensorData>,
    kv_layers: Vec<KvLayer>,
    /// Rows of the slots written before a run.
    values: Vec<(Slot, Vec<f32>)>,
}

impl Bench {
    fn new(seed: u64) -> Self {
        Bench {
            random: Random::new(seed),
            slots: vec![],
            weights: vec![],
            kv_layers: vec![],
            values: vec![],
        }
    }

    /// A slot of random values.
    fn slot(&mut self, width: usize) -> Slot {
        let slot = Slot(self.slots.len());
        self.slots.push(SlotInfo { width, rows: Rows::Batch });
        self.values.push((slot, self.random.normals(N_ROWS * width)));
        slot
    }

    /// Weights whose products with a row of values around 1 are around 1.
    fn matrix(&mut self, shape: &[usize], ty: TensorType) -> WeightRef {
        let deviation = 1.0 / (shape[0] as f32).sqrt();
        let name = format!("weight {}", self.weights.len());
        self.weights.push(random::tensor(&mut self.random, &name, shape, ty, deviation));
        WeightRef(self.weights.len() - 1)
    }

    /// F32 values around 1, of any shape.
    fn values(&mut self, shape: &[usize]) -> WeightRef {
        let name = format!("values {}", self.weights.len());
        self.weights.push(random::tensor(&mut self.random, &name, shape, TensorType::F32, 1.0));
        WeightRef(self.weights.len() - 1)
    }

    /// F32 values below zero, of any shape.
    fn negative_values(&mut self, shape: &[usize]) -> WeightRef {
        let name = format!("values {}", self.weights.len());
        let values = self.random.normals(shape.iter().product());
        let bytes = values.iter().flat_map(|value| (-value.abs()).to_le_bytes()).collect();
        let tensor = TensorData::from_vec(&name, shape, TensorType::F32, bytes).unwrap();
        self.weights.push(tensor);
        WeightRef(self.weights.len() - 1)
    }

    fn model(&self, steps: &[Step]) -> Model {
        let (mut slots, weights) = (self.slots.clone(), self.weights.clone());
        slots.push(SlotInfo { width: 1, rows: Rows::Outputs });
        // All that there is, and a head of nothing.
        let segments = vec![steps.to_vec(), vec![]];
        let (hidden, logits, carried) = (Slot(0), Slot(slots.len() - 1), vec![]);
        let program = Program { slots, weights, segments, hidden, carried, logits };
        Model { program: Arc::new(program), kv_layers: self.kv_layers.clone() }
    }

    /// What `out` holds after all rows in one call.
    fn together(&self, backend: &dyn Backend, steps: &[Step], out: Slot) -> Vec<f32> {
        let model = self.model(steps);
        let mut session = model.open(backend, Size::default()).unwrap();
        for (slot, values) in &self.values {
            session.write(*slot, values).unwrap();
        }
        run(&mut *session, steps, 0..N_ROWS);
        read(&model, &mut *session, out, N_ROWS).unwrap()
    }

    /// The same row by row, each in a call of its own.
    fn one_by_one(&self, backend: &dyn Backend, steps: &[Step], out: Slot) -> Vec<f32> {
        let model = self.model(steps);
        let mut session = model.open(backend, Size::default()).unwrap();
        let mut rows = Vec::new();
        for row in 0..N_ROWS {
            for (slot, values) in &self.values {
                let width = model.program.width(*slot);
                session.write(*slot, &values[row * width..][..width]).unwrap();
            }
            run(&mut *session, steps, row..row + 1);
            rows.extend(read(&model, &mut *session, out, 1).unwrap());
        }
        rows
    }

    /// The oracle's values within `tolerance` of their root mean square, and the same bits
    /// at every level and for each row alone.
    fn check(&self, what: &str, steps: &[Step], out: Slot, tolerance: f32) {
        let wanted = self.together(&NaiveBackend, steps, out);
        let got = self.together(&cpu(3, Level::SCALAR), steps, out);
        let off = compare(&got, &wanted);
        assert!(off.rms_wanted > 1e-3, "{what}: a result of zeros shows nothing");
        assert!(off.max_abs <= tolerance * off.rms_wanted.max(1.0), "{what}: {off}");
        for level in Level::available() {
            let same = self.together(&cpu(3, level), steps, out);
            assert!(same == got, "{what}, {level}: {}", compare(&same, &got));
            let alone = self.one_by_one(&cpu(1, level), steps, out);
            assert!(alone == got, "{what}, {level}, row by row: {}", compare(&alone, &got));
        }
    }
}

/// Runs the first segment over some rows of one sequence.
fn run(session: &mut dyn Session, steps: &[Step], rows: Range<usize>) {
    let positions: Vec<u32> = (rows.start as u32..rows.end as u32).collect();
    // Without an embedding there is no vocabulary that tokens could be of.
    let embeds = steps.iter().any(|step| matches!(step, Step::Embed(_)));
    let sequence =
        SequenceView { first_row: 0, n_rows: rows.len(), pages: &PAGES, state: 0, adapters: &[] };
    let batch = BatchView {
        tokens: if embeds { &TOKENS[rows] } else { &[] },
        positions: &positions,
        sequences: &[sequence],
        output_rows: &[],
        interrupt: None,
    };
    session.run(0..1, &batch).unwrap();
}

/// Most that rounding activations to int8 moves a value by, in units of the result's size.
fn tolerance(ty: TensorType) -> f32 {
    if ty == TensorType::F32 { F32_ROUNDING } else { 0.15 }
}

/// A mixture of 8 experts, 256 wide inside and out, with biases if asked for.
fn moe(bench: &mut Bench, ty: TensorType, biases: bool) -> Moe {
    const N: usize = 8;
    let (input, out) = (bench.slot(256), bench.slot(256));
    let mut bias = |width: usize| biases.then(|| bench.values(&[width, N]));
    let (gate_bias, up_bias, down_bias) = (bias(256), bias(256), bias(256));
    let experts = ExpertWeights {
        gate: Some(bench.matrix(&[256, 256, N], ty)),
        up: bench.matrix(&[256, 256, N], ty),
        down: bench.matrix(&[256, 256, N], ty),
        gate_bias,
        up_bias,
        down_bias,
        gate_scale: None,
        up_scale: None,
        down_scale: None,
    };
    Moe {
        input,
        router_input: input,
        out,
        accumulate: false,
        router: bench.matrix(&[256, N], TensorType::F32),
        router_bias: biases.then(|| bench.values(&[N])),
        choice_bias: None,
        gating: Gating::Softmax,
        normalize: false,
        scale: 1.0,
        n_experts: N,
        n_used: 3,
        n_groups: 1,
        n_groups_used: 1,
        experts,
        activation: Activation::Silu,
        weigh_input: false,
    }
}

#[test]
fn experts_equal_the_oracle_in_every_gating_and_weight_type() {
    for gating in [Gating::Softmax, Gating::SoftmaxOfChosen, Gating::Sigmoid] {
        for ty in [TensorType::F32, TensorType::Q8_0, TensorType::Q4_K] {
            for biases in [false, true] {
                for normalize in [false, true] {
                    let mut bench = Bench::new(1);
                    let base = moe(&mut bench, ty, biases);
                    let step = Moe { gating, normalize, scale: 2.5, ..base };
                    let what = format!("{gating:?}, {ty}, biases {biases}, normalize {normalize}");
                    let out = step.out;
                    bench.check(&what, &[Step::Moe(step.into())], out, tolerance(ty));
                }
            }
        }
    }
}

#[test]
fn options_of_experts_equal_the_oracle_and_change_the_result() {
    let run = |what: &str, change: Change<Moe>| {
        let mut bench = Bench::new(2);
        let mut step = moe(&mut bench, TensorType::F32, false);
        change(&mut bench, &mut step);
        let out = step.out;
        let steps = [Step::Moe(step.into())];
        bench.check(what, &steps, out, F32_ROUNDING);
        bench.together(&NaiveBackend, &steps, out)
    };
    let plain = run("plain", |_, _| {});
    let changes: [(&str, Change<Moe>); 11] = [
        ("choice bias", |bench, step| step.choice_bias = Some(bench.values(&[8]))),
        ("groups", |_, step| (step.n_groups, step.n_groups_used) = (4, 2)),
        ("groups and choice bias", |bench, step| {
            (step.n_groups, step.n_groups_used) = (2, 1);
            step.choice_bias = Some(bench.values(&[8]));
        }),
        ("weighed input", |_, step| {
            (step.weigh_input, step.n_used, step.gating) = (true, 1, Gating::Sigmoid);
        }),
        ("accumulate", |_, step| step.accumulate = true),
        ("no gate", |_, step| step.experts.gate = None),
        ("one weight for gate and up", |bench, step| {
            let both = bench.matrix(&[256, 512, 8], TensorType::F32);
            (step.experts.gate, step.experts.up) = (Some(both), both);
        }),
        ("factors", |bench, step| {
            step.experts.gate_scale = Some(bench.values(&[8]));
            step.experts.up_scale = Some(bench.values(&[8]));
            step.experts.down_scale = Some(bench.values(&[8]));
            step.experts.down_bias = Some(bench.values(&[256, 8]));
        }),
        ("another input for the router", |bench, step| step.router_input = bench.slot(300)),
        ("all experts", |_, step| step.n_used = 8),
        ("clamped", |_, step| step.activation = Activation::ClampedSwiglu),
    ];
    for (what, change) in changes {
        assert!(run(what, change) != plain, "{what} changes nothing");
    }
}

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

#[test]
fn norms_in_groups_leave_the_rest_of_a_row() {
    for kind in [NormKind::Rms, NormKind::Layer] {
        for shared in [true, false] {
            let (groups, width) = (3, 32);
            let mut bench = Bench::new(4);
            let slot = bench.slot(groups * width + 8);
            let n = if shared { width } else { groups * width };
            let (weight, bias) = (Some(bench.values(&[n])), Some(bench.values(&[n])));
            let epsilon = 1e-5;
            let norm = Norm { input: slot, out: slot, kind, groups, width, weight, bias, epsilon };
            let what = format!("{kind:?}, shared weights {shared}");
            bench.check(&what, &[Step::Norm(norm.clone())], slot, F32_ROUNDING);
            let bare = Norm { weight: None, bias: None, ..norm };
            bench.check(&what, &[Step::Norm(bare)], slot, F32_ROUNDING);
        }
    }
}

#[test]
fn embeddings_add_positions_and_a_constant() {
    for ty in [TensorType::F32, TensorType::F16, TensorType::Q8_0] {
        let mut bench = Bench::new(5);
        let out = bench.slot(64);
        let table = bench.matrix(&[64, 8], ty);
        // Fewer positions than rows: those beyond the last take the last.
        let positions = Some(bench.matrix(&[64, 3], ty));
        let constant = Some(bench.values(&[64]));
        let embed = Embed { table, out, scale: 8.0, positions, constant };
        bench.check(&format!("{ty}"), &[Step::Embed(embed)], out, F32_ROUNDING);
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
fn a_factor_may_be_a_part_of_a_wider_row() {
    let mut bench = Bench::new(15);
    let (gate, up, out) = (bench.slot(16), bench.slot(50), bench.slot(16));
    let activation = Activation::GeluTanh;
    let mut results = Vec::new();
    for up_offset in [0, 16, 34] {
        let step = GatedAct { gate, up: Some(up), up_offset, out, activation };
        let steps = [Step::GatedAct(step)];
        bench.check(&format!("from {up_offset} on"), &steps, out, F32_ROUNDING);
        results.push(bench.together(&NaiveBackend, &steps, out));
    }
    assert!(results[0] != results[1] && results[1] != results[2]);
}

#[test]
fn every_activation_equals_the_oracle_with_and_without_a_factor() {
    for activation in [
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
        for (gate_width, has_up) in [(64, false), (64, true), (1, true)] {
            let mut bench = Bench::new(8);
            let (gate, up, out) = (bench.slot(gate_width), bench.slot(64), bench.slot(64));
            // Beyond the bounds at 7 too.
            for (_, values) in &mut bench.values {
                values.iter_mut().for_each(|value| *value *= 4.0);
            }
            let step = GatedAct { gate, up: has_up.then_some(up), up_offset: 0, out, activation };
            let what = format!("{activation:?}, gate of {gate_width}, factor {has_up}");
            bench.check(&what, &[Step::GatedAct(step)], out, F32_ROUNDING);
        }
    }
}

#[test]
fn sums_scale_both_terms() {
    let mut bench = Bench::new(9);
    let (a, b, out) = (bench.slot(40), bench.slot(40), bench.slot(40));
    for out in [out, a] {
        let add = Add { a, b, out, a_scale: -0.5, scale: 3.0 };
        bench.check("sum", &[Step::Add(add)], out, F32_ROUNDING);
    }
}

#[test]
fn mixed_slots_may_be_their_own_results() {
    let mut bench = Bench::new(14);
    let [a, b, c, d] = [(); 4].map(|()| bench.slot(40));
    for (inputs, outputs, accumulate) in [
        (vec![a, b], vec![c, d], false),
        (vec![a, b], vec![c, d], true),
        (vec![a, b, c], vec![a, b, c], false),
        (vec![b, c], vec![d, b], true),
        (vec![a], vec![b, c, d], true),
    ] {
        let weights = bench.slot(inputs.len() * outputs.len());
        let step = Mix { inputs, outputs: outputs.clone(), weights, accumulate };
        for out in outputs {
            let what = format!("{step:?}, {out:?}");
            bench.check(&what, &[Step::Mix(step.clone())], out, F32_ROUNDING);
        }
    }
}

#[test]
fn sparse_rows_keep_what_exceeds_most_of_their_first_values() {
    let mut bench = Bench::new(15);
    let values = bench.slot(200);
    for (width, deviations) in [(200, 1.6448536), (160, 0.5), (2, -0.25), (200, -2.0)] {
        let steps = [Step::Sparsify(Sparsify { values, width, deviations })];
        bench.check(&format!("{width}, {deviations}"), &steps, values, F32_ROUNDING);
        let before = &bench.values[0].1;
        for (row, before) in bench
            .together(&cpu(2, Level::best()), &steps, values)
            .chunks(200)
            .zip(before.chunks(200))
        {
            assert_eq!(row[width..], before[width..], "values behind the first {width}");
            let n_kept = row[..width].iter().filter(|value| **value > 0.0).count();
            if deviations > 1.0 {
                // Of a normal distribution, a twentieth.
                assert!((1..=20).contains(&n_kept), "{n_kept} of {width}");
            }
        }
    }
}

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
