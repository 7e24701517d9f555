//! Attention over hundreds of positions: against the oracle, and the same bits at every level,
//! however the rows are cut into batches and whatever the number of threads.

use std::sync::Arc;

use half::f16;
use realm_cpu::{CpuBackend, CpuOptions, Level};
use realm_gguf::TensorType;
use realm_ir::{
    Attend, Backend, BatchView, KvLayer, KvType, Program, RopeStore, Rows, SequenceView, Session,
    Slot, SlotInfo, Step, WeightRef,
};
use realm_testkit::compare::compare;
use realm_testkit::oracle::NaiveBackend;
use realm_testkit::program::{Model, Size, read};
use realm_testkit::random::{self, Random};

const N_ROWS: usize = 421;
const Q: Slot = Slot(0);
const K: Slot = Slot(1);
const V: Slot = Slot(2);
const OUT: Slot = Slot(3);

/// Queries, keys and values of one sequence, and the two steps that use them.
struct Case {
    layer: KvLayer,
    attend: Attend,
    size: Size,
    values: Vec<(Slot, Vec<f32>)>,
    model: Model,
}

impl Case {
    fn new(group: usize, page_tokens: usize, change: impl Fn(&mut Attend)) -> Self {
        let layer = KvLayer { n_kv_heads: 2, key_width: 24, value_width: 20 };
        let n_heads = group * layer.n_kv_heads;
        let store = RopeStore {
            q: Q,
            k: K,
            v: V,
            kv_layer: 0,
            n_heads,
            head_norm: None,
            rope: None,
            temperature: None,
        };
        let mut attend = Attend {
            q: Q,
            out: OUT,
            kv_layer: 0,
            n_heads,
            scale: 0.6,
            window: None,
            chunked: false,
            softcap: None,
            sinks: None,
            alibi_max_bias: None,
            causal: true,
        };
        change(&mut attend);
        let mut random = Random::new(7);
        let widths = [
            n_heads * layer.key_width,
            layer.n_kv_heads * layer.key_width,
            layer.n_kv_heads * layer.value_width,
            n_heads * layer.value_width,
        ];
        let values = [Q, K, V].map(|slot| (slot, random.normals(N_ROWS * widths[slot.0])));
        let sinks = random::tensor(&mut random, "sinks", &[n_heads], TensorType::F32, 1.0);
        let program = Program {
            slots: widths
                .map(|width| SlotInfo { width, rows: Rows::Batch })
                .into_iter()
                .chain([SlotInfo { width: 1, rows: Rows::Outputs }])
                .collect(),
            weights: vec![sinks],
            segments: vec![vec![Step::RopeStore(store), Step::Attend(attend.clone())], vec![]],
            hidden: Q,
            carried: vec![],
            logits: Slot(4),
        };
        let size = Size {
            page_tokens,
            n_pages: N_ROWS.div_ceil(page_tokens) + 3,
            max_rows: N_ROWS,
            ..Size::default()
        };
        let model = Model { program: Arc::new(program), kv_layers: vec![layer] };
        Case { layer, attend, size, values: values.to_vec(), model }
    }

    /// The result of every row, in batches of `batch` rows.
    fn run(&self, backend: &dyn Backend, batch: usize) -> Vec<f32> {
        let mut session = self.model.open(backend, self.size).unwrap();
        let mut rows = Vec::new();
        for first in (0..N_ROWS).step_by(batch) {
            let n_rows = batch.min(N_ROWS - first);
            for (slot, values) in &self.values {
                let width = self.model.program.width(*slot);
                session.write(*slot, &values[first * width..][..n_rows * width]).unwrap();
            }
            self.step(&mut *session, first, n_rows);
            rows.extend(read(&self.model, &mut *session, OUT, n_rows).unwrap());
        }
        rows
    }

    fn step(&self, session: &mut dyn Session, first: usize, n_rows: usize) {
        // Not in the order of their numbers.
        let n_pages = self.size.n_pages as u32;
        let pages: Vec<u32> = (0..n_pages).rev().collect();
        let positions: Vec<u32> = (first as u32..(first + n_rows) as u32).collect();
        let sequence =
            SequenceView { first_row: 0, n_rows, pages: &pages, state: 0, adapters: &[] };
        let batch = BatchView {
            tokens: &[],
            positions: &positions,
            sequences: &[sequence],
            output_rows: &[],
            interrupt: None,
        };
        session.run(0..1, &batch).unwrap();
    }

    fn check(&self, what: &str) {
        let wanted = self.run(&NaiveBackend, N_ROWS);
        let got = self.run(&cpu(3, Level::best()), N_ROWS);
        let off = compare(&got, &wanted);
        let tolerance = if self.size.kv_type == KvType::F16 { 2e-3 } else { 2e-5 };
        assert!(off.max_abs <= tolerance, "{what}: {off}");
        self.check_batches(what, &got);
    }

    /// The same bits at every level, in batches of any size, on any number of threads.
    fn check_batches(&self, what: &str, got: &[f32]) {
        let run = |level: Level, batch: usize, threads: usize| {
            let again = self.run(&cpu(threads, level), batch);
            assert!(again == got, "{what}, {level}, {batch} rows, {threads} threads");
        };
        for level in Level::available() {
            run(level, N_ROWS, 2);
            if self.attend.causal {
                run(level, 1, 2);
            }
        }
        if !self.attend.causal {
            return;
        }
        for (batch, threads) in [(N_ROWS, 1), (100, 2), (1, 1), (1, 8)] {
            run(Level::best(), batch, threads);
        }
        assert_eq!(got.len(), N_ROWS * self.attend.n_heads * self.layer.value_width);
    }
}

fn cpu(threads: usize, level: Level) -> CpuBackend {
    CpuBackend::new(CpuOptions { threads: Some(threads), level: Some(level) }).unwrap()
}

#[test]
fn long_sequences_equal_the_oracle_and_do_not_depend_on_batches() {
    for (group, page_tokens) in [(1, 32), (4, 32), (7, 5), (2, 200)] {
        let shape = format!("groups of {group}, pages of {page_tokens}");
        Case::new(group, page_tokens, |_| {}).check(&shape);
    }
}

#[test]
fn options_of_attention_hold_over_long_sequences() {
    let windowed = |window| move |attend: &mut Attend| attend.window = Some(window);
    Case::new(2, 32, windowed(150)).check("a window");
    Case::new(1, 32, windowed(1)).check("a window of one");
    Case::new(3, 16, windowed(33)).check("a window beside a page");
    for (group, page_tokens, window) in [(2, 32, 150), (3, 16, 33), (1, 32, 128)] {
        let of = |what: &str| format!("{what} of {window}, pages of {page_tokens}");
        Case::new(group, page_tokens, |attend| {
            (attend.window, attend.chunked) = (Some(window), true);
        })
        .check(&of("a chunked window"));
        Case::new(group, page_tokens, |attend| {
            (attend.window, attend.causal) = (Some(window), false);
        })
        .check(&of("a window to both sides"));
    }
    Case::new(1, 32, |attend| (attend.window, attend.causal) = (Some(300), false))
        .check("a window to both sides over several chunks");
    Case::new(2, 32, |attend| attend.softcap = Some(2.0)).check("a cap");
    Case::new(2, 32, |attend| attend.alibi_max_bias = Some(8.0)).check("linear biases");
    Case::new(2, 32, |attend| attend.sinks = Some(WeightRef(0))).check("sinks");
    Case::new(2, 32, |attend| attend.causal = false).check("both directions");
    let mut halves = Case::new(2, 32, |_| {});
    halves.size.kv_type = KvType::F16;
    halves.check("halves");
}

/// What a block of `q8_0` keeps of values: multiples of a scale in f16, the largest of them
/// 127 (ggml's `block_q8_0`). At most half a scale is lost, and what the f16 of the scale is
/// off by, 2^-11 of it, up to 127 times: 1/254 and 1/2048 of the largest value.
fn round_to_q8_0(values: &mut [f32], head_width: usize) {
    for block in values.chunks_mut(head_width).flat_map(|head| head.chunks_mut(KvType::BLOCK_LEN)) {
        let largest = block.iter().fold(0.0f32, |max, v| max.max(v.abs()));
        let scale = largest / 127.0;
        for value in block {
            let rounded =
                (*value * (1.0 / scale)).round_ties_even() * f16::from_f32(scale).to_f32();
            assert!((rounded - *value).abs() <= largest * (1.0 / 254.0 + 1.0 / 2048.0));
            *value = rounded;
        }
    }
}

/// The rounding is done here by its definition, so what is left to a cache of int8 is as
/// exact as one of f32.
#[test]
fn attention_over_int8_is_exact_attention_over_the_rounded_keys_and_values() {
    let cases = [
        ("int8", Case::new(3, 32, |_| {})),
        ("a window and pages of five", Case::new(2, 5, |attend| attend.window = Some(33))),
        ("one head each", Case::new(1, 200, |_| {})),
    ];
    for (what, mut case) in cases {
        let unrounded = case.run(&NaiveBackend, N_ROWS);
        let mut rounded = Case {
            values: case.values.clone(),
            model: case.model.clone(),
            attend: case.attend.clone(),
            ..case
        };
        for (slot, values) in &mut rounded.values {
            match *slot {
                K => round_to_q8_0(values, case.layer.key_width),
                V => round_to_q8_0(values, case.layer.value_width),
                _ => {}
            }
        }
        let wanted = rounded.run(&NaiveBackend, N_ROWS);
        case.size.kv_type = KvType::Q8_0;
        let got = case.run(&cpu(3, Level::best()), N_ROWS);
        let off = compare(&got, &wanted);
        assert!(off.max_abs <= 2e-5, "{what}: {off}");
        // And it is rounded: otherwise this would be the attention over a cache of f32.
        assert!(compare(&got, &unrounded).max_abs > 1e-3, "{what}");
        case.check_batches(what, &got);
    }
}
