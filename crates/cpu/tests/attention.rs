//! Attention over hundreds of positions: against the oracle, and the same bits however
//! the rows are cut into batches and whatever the number of threads.

use std::sync::Arc;

use realm_cpu::{CpuBackend, CpuOptions};
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
            slots: widths.map(|width| SlotInfo { width, rows: Rows::Batch }).to_vec(),
            weights: vec![sinks],
            segments: vec![vec![Step::RopeStore(store), Step::Attend(attend.clone())]],
            hidden: Q,
            carried: vec![],
            logits: OUT,
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
        let got = self.run(&cpu(3), N_ROWS);
        let off = compare(&got, &wanted);
        let tolerance = if self.size.kv_type == KvType::F16 { 2e-3 } else { 2e-5 };
        assert!(off.max_abs <= tolerance, "{what}: {off}");
        if !self.attend.causal {
            return;
        }
        for (batch, threads) in [(N_ROWS, 1), (100, 2), (1, 1), (1, 8)] {
            let alone = self.run(&cpu(threads), batch);
            assert!(alone == got, "{what}, {batch} rows, {threads} threads");
        }
        assert_eq!(got.len(), N_ROWS * self.attend.n_heads * self.layer.value_width);
    }
}

fn cpu(threads: usize) -> CpuBackend {
    CpuBackend::new(CpuOptions { threads: Some(threads) }).unwrap()
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
