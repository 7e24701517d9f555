//! The device against the naive oracle: whole programs, step by step in coverage.
//!
//! These tests need a device, a graphics card or software, and fail without one.

mod common;

use std::ops::Range;
use std::sync::Arc;

use pollster::block_on;
use realm_gguf::{TensorData, TensorType};
use realm_ir::{
    Activation, Backend, BatchView, Coded, Error, ErrorCode, KvLayout, KvType, NormKind, RopeStyle,
    SequenceView, SessionConfig, Slot, StateLayout, Uploaded, WeightLayout,
};
use realm_testkit::oracle::NaiveBackend;
use realm_testkit::program::{Call, Decoder, Model, Size, read};
use realm_testkit::random::Random;
use realm_wgpu::{WgpuBackend, WgpuOptions};

use common::{F32_ROUNDING, assert_close, backend, open};

const SIZE: Size = Size {
    page_tokens: 4,
    n_pages: 16,
    kv_type: KvType::F32,
    max_rows: 16,
    max_outputs: 16,
    layout: WeightLayout::Mapped,
};

/// Two sequences: prefill of several rows of both, then decode steps of both in one
/// batch, then a second prefill chunk beside a decode step. Pages are scattered.
fn calls() -> Vec<Call> {
    let (one, two): ([u32; 5], [u32; 3]) = ([9, 2, 14, 11, 0], [5, 7, 3]);
    let prompt: Vec<u32> = (0..11).map(|i| (7 * i + 3) % 64).collect();
    vec![
        Call::one(&prompt, 0, &one).and(&[1, 2, 3], 0, &two),
        Call::one(&[60], 11, &one).and(&[13], 3, &two),
        Call::one(&[61], 12, &one).and(&[17], 4, &two),
        Call::one(&[2], 13, &one).and(&[9, 8, 7, 6, 5, 4], 5, &two),
        Call::one(&[33], 11, &two),
    ]
}

/// Runs every call on both and compares logits and the hidden state.
fn assert_matches_oracle(backend: &WgpuBackend, what: &str, decoder: &Decoder) {
    let model = decoder.build();
    let mut wanted = model.open(&NaiveBackend, SIZE).unwrap();
    let mut got = model.open(backend, SIZE).unwrap();
    for (index, call) in calls().iter().enumerate() {
        let what = format!("{what}, call {index}");
        let wanted_logits = call.logits(&model, &mut *wanted).unwrap();
        let got_logits = call.logits(&model, &mut *got).unwrap();
        assert_close(&what, &got_logits, &wanted_logits, F32_ROUNDING);
        let hidden = |session| read(&model, session, model.program.hidden, call.n_rows()).unwrap();
        assert_close(&what, &hidden(&mut *got), &hidden(&mut *wanted), F32_ROUNDING);
    }
}

fn q4_k() -> Decoder {
    let (ty, embedding_ty) = (TensorType::Q4_K, TensorType::Q4_K);
    Decoder { ty, embedding_ty, n_layers: 1, ..Decoder::default() }
}

#[test]
fn a_dense_q4_k_layer_matches_in_both_rope_styles_with_and_without_head_norm() {
    for rope in [Some(RopeStyle::Interleaved), Some(RopeStyle::Halves), None] {
        for head_norm in [false, true] {
            let decoder = Decoder { rope, head_norm, ..q4_k() };
            assert_matches_oracle(backend(), &format!("{rope:?}, norm {head_norm}"), &decoder);
        }
    }
}

#[test]
fn every_option_of_the_steps_matches() {
    let gemma = Decoder {
        bias: true,
        post_norms: true,
        rope_dims: 16,
        window: Some(3),
        softcap: Some(5.0),
        activation: Activation::GeluTanh,
        key_width: 48,
        value_width: 80,
        n_heads: 6,
        n_kv_heads: 3,
        ty: TensorType::F32,
        embedding_ty: TensorType::F32,
        width: 96,
        ff_width: 160,
        ..q4_k()
    };
    let encoder = Decoder {
        causal: false,
        norm: NormKind::Layer,
        activation: Activation::GeluErf,
        n_layers: 2,
        ..q4_k()
    };
    let capped = Decoder { activation: Activation::Softcap(0.5), n_vocab: 67, ..q4_k() };
    for (name, decoder) in [("gemma", gemma), ("encoder", encoder), ("capped", capped)] {
        assert_matches_oracle(backend(), name, &decoder);
    }
}

#[test]
fn attention_over_more_positions_than_a_tile_matches() {
    let model = q4_k().build();
    let size = Size { page_tokens: 16, n_pages: 16, max_rows: 200, max_outputs: 200, ..SIZE };
    let tokens: Vec<u32> = (0..200).map(|i| i * 31 % 64).collect();
    let pages: Vec<u32> = (0..13).rev().collect();
    let call = Call::one(&tokens, 0, &pages);
    let mut sessions = [&NaiveBackend as &dyn Backend, backend()]
        .map(|backend| model.open(backend, size).unwrap());
    let [wanted, got] =
        sessions.each_mut().map(|session| call.logits(&model, &mut **session).unwrap());
    assert_close("200 rows", &got, &wanted, F32_ROUNDING);
}

#[test]
fn large_positions_rotate_as_exactly_as_small_ones() {
    // 2 million positions over and over through one page: only the rotation sees them.
    let model = q4_k().build();
    let pages = vec![3; 500_001];
    let call = Call::one(&[5], 2_000_000, &pages);
    let [wanted, got] = [&NaiveBackend as &dyn Backend, backend()].map(|backend| {
        let mut session = model.open(backend, SIZE).unwrap();
        call.run(&mut *session, 0..1).unwrap();
        let rope_store = Model {
            program: Arc::new(realm_ir::Program {
                segments: vec![model.program.segments[1][..3].to_vec(), vec![]],
                ..(*model.program).clone()
            }),
            kv_layers: model.kv_layers.clone(),
        };
        let mut session = rope_store.open(backend, SIZE).unwrap();
        let hidden: Vec<f32> = Random::new(3).normals(256);
        session.write(model.program.hidden, &hidden).unwrap();
        call.run(&mut *session, 0..1).unwrap();
        read(&model, &mut *session, Slot(2), 1).unwrap()
    });
    assert_close("queries", &got, &wanted, F32_ROUNDING);
}

#[test]
fn weights_above_the_binding_limit_are_split_by_rows() {
    // 100 kB hold every slot and cache, and 781 rows of a matrix of 256 columns.
    let small = open(Some(100_000));
    let model = Decoder { n_vocab: 1000, ff_width: 2048, rope_dims: 16, ..q4_k() }.build();
    let size = Size { max_rows: 5, max_outputs: 5, ..SIZE };
    let call = Call::one(&[0, 780, 781, 999, 5], 0, &[4, 2]);
    let [wanted, got] = [&NaiveBackend as &dyn Backend, &small].map(|backend| {
        let mut session = model.open(backend, size).unwrap();
        call.logits(&model, &mut *session).unwrap()
    });
    assert_close("split", &got, &wanted, F32_ROUNDING);
}

#[test]
fn layer_by_layer_is_bit_identical_to_one_submission() {
    let model = Decoder { n_layers: 2, ..q4_k() }.build();
    let call = &calls()[0];
    let mut whole = model.open(backend(), SIZE).unwrap();
    let wanted = call.logits(&model, &mut *whole).unwrap();

    let mut single = model.open(backend(), SIZE).unwrap();
    for segment in model.segments() {
        call.run(&mut *single, segment..segment + 1).unwrap();
        if segment + 1 < model.segments().end {
            let hidden = read(&model, &mut *single, model.program.hidden, call.n_rows()).unwrap();
            single.write(model.program.hidden, &hidden).unwrap();
        }
    }
    let got = read(&model, &mut *single, model.program.logits, call.n_rows()).unwrap();
    assert_eq!(got, wanted);
}

#[test]
fn a_run_is_one_submission_however_many_segments() {
    let backend = open(None);
    let model = Decoder { n_layers: 3, ..q4_k() }.build();
    let mut session = model.open(&backend, SIZE).unwrap();
    let before = backend.counters();
    calls()[0].run(&mut *session, model.segments()).unwrap();
    let after = backend.counters();
    assert_eq!(after.submissions - before.submissions, 1);
    assert!(after.dispatches - before.dispatches >= 3 * 7);
    assert!(after.batch_bytes - before.batch_bytes < 512);
}

#[test]
fn a_layer_takes_nine_dispatches_while_generating() {
    let backend = open(None);
    let count = |n_layers| {
        let model = Decoder { n_layers, ..q4_k() }.build();
        let mut session = model.open(&backend, SIZE).unwrap();
        let before = backend.counters().dispatches;
        Call::one(&[1], 0, &[0]).run(&mut *session, model.segments()).unwrap();
        backend.counters().dispatches - before
    };
    // Norm; queries, keys and values; rotation; attention; output; norm; gate and up;
    // activation; down.
    assert_eq!(count(3) - count(2), 9);
}

/// Two heads whose keys and values are 128 KiB, in bindings of hardly more than half of it.
const DEALT_OUT: Size = Size { n_pages: 64, ..SIZE };
const SMALL_BINDING: usize = 70_000;

#[test]
fn a_model_whose_heads_lie_in_several_buffers_matches() {
    let small = open(Some(SMALL_BINDING));
    let dispatches = |backend: &WgpuBackend| {
        let model = Decoder { rope_dims: 16, ..q4_k() }.build();
        let mut wanted = model.open(&NaiveBackend, DEALT_OUT).unwrap();
        let mut got = model.open(backend, DEALT_OUT).unwrap();
        let before = backend.counters().dispatches;
        for (index, call) in calls().iter().enumerate() {
            let wanted = call.logits(&model, &mut *wanted).unwrap();
            let got = call.logits(&model, &mut *got).unwrap();
            assert_close(&format!("call {index}"), &got, &wanted, F32_ROUNDING);
        }
        backend.counters().dispatches - before
    };
    let n_calls = calls().len() as u64;
    // The matrices are split as well, the keys and values once more in each call.
    assert!(dispatches(&small) >= dispatches(&open(None)) + 2 * n_calls);
}

#[test]
fn a_copied_page_continues_like_the_original() {
    let model = Decoder { n_layers: 2, rope_dims: 16, ..q4_k() }.build();
    for backend in [&open(Some(SMALL_BINDING)), &open(None)] {
        let mut session = model.open(backend, DEALT_OUT).unwrap();
        Call::one(&[1, 2, 3], 0, &[0]).logits(&model, &mut *session).unwrap();
        Call::one(&[5, 6, 7], 0, &[2]).logits(&model, &mut *session).unwrap();
        let before = backend.counters();
        // One behind the other: what was copied is copied again, and then replaced.
        for [from, to] in [[0, 7], [7, 5], [2, 7]] {
            session.copy_page(from, to).unwrap();
        }
        assert_eq!(backend.counters(), before, "copies wait for the next run");
        let of_copy = Call::one(&[4], 3, &[5]);
        of_copy.run(&mut *session, model.segments()).unwrap();
        assert_eq!(backend.counters().submissions - before.submissions, 1);
        let got = read(&model, &mut *session, model.program.logits, 1).unwrap();
        let wanted = Call::one(&[4], 3, &[0]).logits(&model, &mut *session).unwrap();
        assert_eq!(got, wanted);
        let wanted = Call::one(&[4], 3, &[2]).logits(&model, &mut *session).unwrap();
        let got = Call::one(&[4], 3, &[7]).logits(&model, &mut *session).unwrap();
        assert_eq!(got, wanted);
    }
}

#[test]
fn what_is_not_there_is_refused_by_name() {
    let bytes = vec![0; 4 * TensorType::Q8_K.block_bytes()];
    let q8_k = TensorData::from_vec("output.weight", &[256, 4], TensorType::Q8_K, bytes).unwrap();
    let error = backend().upload(&q8_k).err().unwrap();
    assert_eq!(error.code(), ErrorCode::ModelUnsupported);
    let text = error.to_string();
    assert!(text.contains("output.weight") && text.contains("Q8_K"), "{text}");
    assert!(text.contains("Q4_K, Q5_K"), "{text}");

    let model = q4_k().build();
    let huge = Size { n_pages: 1 << 30, ..SIZE };
    let text = model.open(backend(), huge).err().unwrap().to_string();
    assert!(text.contains("KV cache") && text.contains("lower contextLength"), "{text}");
    let text = model.open(&open(Some(20_000)), SIZE).err().unwrap().to_string();
    assert!(text.contains("activations of 16 rows") && text.contains("20000 at most"), "{text}");
    let q8_0 = Size { kv_type: KvType::Q8_0, ..SIZE };
    let text = model.open(backend(), q8_0).err().unwrap().to_string();
    assert!(text.contains("a KV cache of q8_0 is not supported"), "{text}");

    let missing = WgpuOptions { device: Some("no such card".into()), ..WgpuOptions::default() };
    let error = WgpuBackend::new(missing).err().unwrap();
    assert_eq!(error.code(), ErrorCode::BackendUnavailable);
}

#[test]
fn bad_batches_and_shapes_are_refused_and_the_session_goes_on() {
    let model = q4_k().build();
    let mut session = model.open(backend(), SIZE).unwrap();
    let good = Call::one(&[1], 0, &[0]);
    let wanted = good.logits(&model, &mut *session).unwrap();
    for bad in [Call::one(&[64], 0, &[0]), Call::one(&[1], 0, &[16]), Call::one(&[1], 4, &[0])] {
        let refused = bad.run(&mut *session, model.segments());
        assert!(matches!(refused, Err(Error::InvalidBatch { .. })), "{bad:?}");
    }
    let refused = good.run(&mut *session, 0..99);
    assert!(matches!(refused, Err(Error::InvalidBatch { .. })));
    let hidden = model.program.hidden;
    for (slot, n_values) in [(hidden, 255), (hidden, 17 * 256), (Slot(99), 256)] {
        let refused = session.write(slot, &vec![0.0; n_values]);
        assert!(matches!(refused, Err(Error::ShapeMismatch { .. })), "{n_values} to {slot:?}");
    }
    let reads = [(hidden, 15..17, 512), (hidden, 0..1, 255), (hidden, 0..usize::MAX, 256)];
    let reversed = Range { start: 16, end: 0 };
    for (slot, rows, n_values) in
        reads.into_iter().chain([(hidden, reversed, 0), (Slot(99), 0..1, 256)])
    {
        let refused = block_on(session.read(slot, rows.clone(), &mut vec![0.0; n_values]));
        assert!(matches!(refused, Err(Error::ShapeMismatch { .. })), "{rows:?} of {slot:?}");
    }
    let logits = model.program.logits;
    for (slot, n_rows) in [(logits, 17), (logits, usize::MAX), (Slot(99), 1)] {
        let refused = block_on(session.read_top(slot, n_rows, 1).expect("a choice of one"));
        assert!(matches!(refused, Err(Error::ShapeMismatch { .. })), "{n_rows} of {slot:?}");
    }
    assert!(session.read_top(logits, 1, usize::MAX).is_none());
    let nothing = block_on(session.read_top(logits, 1, 0).unwrap()).unwrap();
    assert_eq!(nothing, [vec![]]);
    for (from, to) in [(16, 0), (0, 16), (u32::MAX, 0)] {
        assert!(matches!(session.copy_page(from, to), Err(Error::InvalidBatch { .. })));
        assert!(matches!(session.copy_state(from, to), Err(Error::InvalidBatch { .. })));
    }
    assert_eq!(good.logits(&model, &mut *session).unwrap(), wanted);
}

#[test]
fn sequences_without_rows_change_nothing() {
    let model = q4_k().build();
    let mut session = model.open(backend(), SIZE).unwrap();
    let good = Call::one(&[1, 2], 0, &[0]);
    let wanted = good.logits(&model, &mut *session).unwrap();
    let own = SequenceView { first_row: 0, n_rows: 2, pages: &[0], state: 0, adapters: &[] };
    let empty = SequenceView { n_rows: 0, pages: &[], ..own };
    // More than a grid has workgroups.
    let mut sequences = vec![empty; 70_000];
    sequences.push(own);
    sequences.extend(vec![SequenceView { first_row: 2, ..empty }; 2]);
    let batch = BatchView {
        tokens: &[1, 2],
        positions: &[0, 1],
        sequences: &sequences,
        output_rows: &[0, 1],
        interrupt: None,
    };
    session.run(model.segments(), &batch).unwrap();
    assert_eq!(read(&model, &mut *session, model.program.logits, 2).unwrap(), wanted);
    let none = BatchView { tokens: &[], positions: &[], sequences: &[], output_rows: &[], ..batch };
    session.run(model.segments(), &none).unwrap();
    session.run(model.segments(), &BatchView { sequences: &sequences[..9], ..none }).unwrap();
    assert_eq!(good.logits(&model, &mut *session).unwrap(), wanted);
}

#[test]
fn a_session_without_what_its_program_needs_is_refused() {
    let model = q4_k().build();
    let tensors: Vec<_> = model.program.weights.iter().collect();
    let weights = backend().upload_together(&tensors).unwrap();
    let kv =
        KvLayout { layers: model.kv_layers.clone(), page_tokens: 4, n_pages: 16, ty: KvType::F32 };
    let config = SessionConfig {
        kv: kv.clone(),
        states: StateLayout::default(),
        max_rows: 2,
        max_outputs: 2,
        layout: WeightLayout::Mapped,
    };
    let open = |weights: &[Uploaded], config: &SessionConfig| {
        backend().session(Arc::clone(&model.program), weights.into(), config.clone()).err()
    };
    assert!(open(&weights, &config).is_none());
    let fewer = open(&weights[1..], &config);
    let no_layers = KvLayout { layers: vec![], ..kv.clone() };
    let no_layers = open(&weights, &SessionConfig { kv: no_layers, ..config.clone() });
    let no_positions = KvLayout { page_tokens: 0, ..kv };
    let no_positions = open(&weights, &SessionConfig { kv: no_positions, ..config });
    let refusals =
        [(fewer, "weights"), (no_layers, "layer of the KV cache"), (no_positions, "positions")];
    for (refusal, what) in refusals {
        let refusal = refusal.expect(what).to_string();
        assert!(refusal.contains(what), "{refusal}");
    }
}
