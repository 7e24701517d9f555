//! The device against the naive oracle: whole programs, step by step in coverage.
//!
//! These tests need a graphics adapter, hardware or software, and fail without one.

mod common;

use std::sync::Arc;

use realm_gguf::{TensorData, TensorType};
use realm_ir::{Activation, Backend, Coded, Error, ErrorCode, KvType, NormKind, RopeStyle};
use realm_testkit::oracle::NaiveBackend;
use realm_testkit::program::{Call, Decoder, Model, Size, read};
use realm_testkit::random::Random;
use realm_wgpu::{WgpuBackend, WgpuOptions};

use common::{F32_ROUNDING, assert_close, backend, open};

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
    let mut wanted = model.open(&NaiveBackend, Size::default()).unwrap();
    let mut got = model.open(backend, Size::default()).unwrap();
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
    let size =
        Size { page_tokens: 16, n_pages: 16, max_rows: 200, max_outputs: 200, ..Size::default() };
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
        let mut session = model.open(backend, Size::default()).unwrap();
        call.run(&mut *session, 0..1).unwrap();
        let rope_store = Model {
            program: Arc::new(realm_ir::Program {
                segments: vec![model.program.segments[1][..3].to_vec(), vec![]],
                ..(*model.program).clone()
            }),
            kv_layers: model.kv_layers.clone(),
        };
        let mut session = rope_store.open(backend, Size::default()).unwrap();
        let hidden: Vec<f32> = Random::new(3).normals(256);
        session.write(model.program.hidden, &hidden).unwrap();
        call.run(&mut *session, 0..1).unwrap();
        read(&model, &mut *session, realm_ir::Slot(2), 1).unwrap()
    });
    assert_close("queries", &got, &wanted, F32_ROUNDING);
}

#[test]
fn weights_above_the_binding_limit_are_split_by_rows() {
    // 100 kB hold every slot and cache, and 781 rows of a matrix of 256 columns.
    let small = open(Some(100_000));
    let model = Decoder { n_vocab: 1000, ff_width: 2048, rope_dims: 16, ..q4_k() }.build();
    let size = Size { max_rows: 5, max_outputs: 5, ..Size::default() };
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
    let mut whole = model.open(backend(), Size::default()).unwrap();
    let wanted = call.logits(&model, &mut *whole).unwrap();

    let mut single = model.open(backend(), Size::default()).unwrap();
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
    let mut session = model.open(&backend, Size::default()).unwrap();
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
        let mut session = model.open(&backend, Size::default()).unwrap();
        let before = backend.counters().dispatches;
        Call::one(&[1], 0, &[0]).run(&mut *session, model.segments()).unwrap();
        backend.counters().dispatches - before
    };
    // Norm; queries, keys and values; rotation; attention; output; norm; gate and up;
    // activation; down.
    assert_eq!(count(3) - count(2), 9);
}

#[test]
fn a_copied_page_continues_like_the_original() {
    let model = Decoder { n_layers: 2, ..q4_k() }.build();
    let mut session = model.open(backend(), Size::default()).unwrap();
    Call::one(&[1, 2, 3], 0, &[0]).logits(&model, &mut *session).unwrap();
    session.copy_page(0, 7).unwrap();
    let wanted = Call::one(&[4], 3, &[0]).logits(&model, &mut *session).unwrap();
    let got = Call::one(&[4], 3, &[7]).logits(&model, &mut *session).unwrap();
    assert_eq!(got, wanted);
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
    let huge = Size { n_pages: 1 << 30, ..Size::default() };
    let text = model.open(backend(), huge).err().unwrap().to_string();
    assert!(text.contains("KV cache") && text.contains("bytes"), "{text}");
    let q8_0 = Size { kv_type: KvType::Q8_0, ..Size::default() };
    let text = model.open(backend(), q8_0).err().unwrap().to_string();
    assert!(text.contains("a KV cache of q8_0 is not supported"), "{text}");

    let missing = WgpuOptions { adapter: Some("no such card".into()), ..WgpuOptions::default() };
    let error = WgpuBackend::new(missing).err().unwrap();
    assert_eq!(error.code(), ErrorCode::BackendUnavailable);
}

#[test]
fn bad_batches_and_shapes_are_refused_and_the_session_goes_on() {
    let model = q4_k().build();
    let mut session = model.open(backend(), Size::default()).unwrap();
    let refused = Call::one(&[64], 0, &[0]).run(&mut *session, model.segments());
    assert!(matches!(refused, Err(Error::InvalidBatch { .. })));
    let refused = Call::one(&[1], 0, &[16]).run(&mut *session, model.segments());
    assert!(matches!(refused, Err(Error::InvalidBatch { .. })));
    let refused = Call::one(&[1], 0, &[0]).run(&mut *session, 0..99);
    assert!(matches!(refused, Err(Error::InvalidBatch { .. })));
    let hidden = model.program.hidden;
    assert!(matches!(session.write(hidden, &[0.0; 255]), Err(Error::ShapeMismatch { .. })));
    assert!(matches!(session.write(hidden, &[0.0; 17 * 256]), Err(Error::ShapeMismatch { .. })));
    let refused = pollster::block_on(session.read(hidden, 15..17, &mut [0.0; 512]));
    assert!(matches!(refused, Err(Error::ShapeMismatch { .. })));
    Call::one(&[1], 0, &[0]).logits(&model, &mut *session).unwrap();
}
