//! The CPU backend against the naive oracle, and against itself in other batches.

use realm_cpu::{CpuBackend, CpuOptions, Level};
use realm_gguf::TensorType;
use realm_ir::{KvType, WeightLayout};
use realm_testkit::compare::compare;
use realm_testkit::oracle::NaiveBackend;
use realm_testkit::program::{Call, Decoder, Size};

fn cpu(threads: usize) -> CpuBackend {
    cpu_at(Level::best(), threads)
}

fn cpu_at(level: Level, threads: usize) -> CpuBackend {
    CpuBackend::new(CpuOptions { threads: Some(threads), level: Some(level) }).unwrap()
}

/// A prompt of two sequences in scattered pages, then two steps of each.
fn calls() -> Vec<Call> {
    vec![
        Call::one(&[5, 9, 60, 1, 2, 33, 7], 0, &[3, 11]).and(&[8, 8, 2], 0, &[6]),
        Call::one(&[12], 7, &[3, 11]).and(&[1], 3, &[6]),
        Call::one(&[40], 8, &[3, 11, 1]).and(&[2], 4, &[6, 0]),
    ]
}

#[test]
fn f32_models_equal_the_oracle_within_rounding_at_every_level() {
    for decoder in Decoder::default().variants() {
        for kv_type in [KvType::F32, KvType::F16, KvType::Q8_0] {
            let (model, size) = (decoder.build(), Size { kv_type, ..Size::default() });
            let mut naive = model.open(&NaiveBackend, size).unwrap();
            let mut sessions: Vec<_> = Level::available()
                .map(|level| (level, model.open(&cpu_at(level, 2), size).unwrap()))
                .collect();
            for call in calls() {
                let wanted = call.logits(&model, &mut *naive).unwrap();
                // A key that rounds the other way in f16 moves a logit by about 1e-3, in int8
                // by about 1e-2.
                let allowed = match kv_type {
                    KvType::F32 => 2e-5,
                    KvType::F16 => 2e-3,
                    KvType::Q8_0 => 2e-2,
                };
                for (level, session) in &mut sessions {
                    let off = compare(&call.logits(&model, &mut **session).unwrap(), &wanted);
                    assert!(off.max_abs <= allowed, "{decoder:?}, {kv_type:?}, {level}: {off}");
                }
            }
        }
    }
}

#[test]
fn quantised_models_differ_from_the_oracle_by_the_rounding_of_activations_at_every_level() {
    for ty in realm_testkit::random::block_types() {
        let model = Decoder { ty, embedding_ty: ty, ..Decoder::default() }.build();
        let mut naive = model.open(&NaiveBackend, Size::default()).unwrap();
        let mut sessions: Vec<_> = Level::available()
            .map(|level| (level, model.open(&cpu_at(level, 2), Size::default()).unwrap()))
            .collect();
        for call in calls() {
            let wanted = call.logits(&model, &mut *naive).unwrap();
            for (level, session) in &mut sessions {
                let off = compare(&call.logits(&model, &mut **session).unwrap(), &wanted);
                // int8 activations are off by up to 1 in 254 of a block's largest value.
                assert!(off.relative() <= 0.06, "{ty}, {level}: {off}");
            }
        }
    }
}

#[test]
fn a_row_is_the_same_to_the_bit_in_any_batch_on_any_number_of_threads_at_every_level() {
    let types = [TensorType::F32, TensorType::Q8_0, TensorType::Q4_K];
    for (level, ty) in Level::available().flat_map(|level| types.map(|ty| (level, ty))) {
        for base in Decoder::default().variants().into_iter().filter(|decoder| decoder.causal) {
            let model = Decoder { ty, ..base }.build();
            let tokens: Vec<u32> = (0..37).map(|i| i * 7 % 64).collect();
            let pages: Vec<u32> = vec![9, 2, 14, 5, 0, 1, 7, 3, 4, 11];
            let size = Size { max_rows: 40, max_outputs: 40, ..Size::default() };
            let mut whole = model.open(&cpu_at(level, 3), size).unwrap();
            let wanted = Call::one(&tokens, 0, &pages).logits(&model, &mut *whole).unwrap();

            let mut session = model.open(&cpu_at(level, 1), size).unwrap();
            let mut got = Vec::new();
            for (position, token) in tokens.iter().enumerate() {
                let own = Call::one(&[*token], position as u32, &pages);
                let call = own.and(&[1, 2, 3], 0, &[12]);
                let logits = call.logits(&model, &mut *session).unwrap();
                got.extend_from_slice(&logits[..logits.len() / 4]);
            }
            assert!(got == wanted, "{ty}, {level}: {}", compare(&got, &wanted));
        }
    }
}

#[test]
fn packing_in_the_background_changes_no_bit() {
    for ty in [TensorType::Q4_0, TensorType::Q6_K] {
        let model = Decoder { ty, embedding_ty: ty, ..Decoder::default() }.build();
        let call = Call::one(&[1, 2, 3, 4, 5], 0, &[4, 2]);
        let mut mapped = model.open(&cpu(2), Size::default()).unwrap();
        let wanted = call.logits(&model, &mut *mapped).unwrap();
        let size = Size { layout: WeightLayout::Packed, ..Size::default() };
        let mut packed = model.open(&cpu(2), size).unwrap();
        // Sooner or later in between the copies are complete.
        for _ in 0..50 {
            assert!(call.logits(&model, &mut *packed).unwrap() == wanted, "{ty}");
        }
    }
}

#[test]
fn segments_run_one_by_one_give_what_they_give_together() {
    let model = Decoder { ty: TensorType::Q4_K, ..Decoder::default() }.build();
    let backend = cpu(2);
    let call = Call::one(&[1, 2, 3, 4, 5], 0, &[4, 2]);
    let mut together = model.open(&backend, Size::default()).unwrap();
    let wanted = call.logits(&model, &mut *together).unwrap();

    let mut session = model.open(&backend, Size::default()).unwrap();
    for segment in model.segments() {
        call.run(&mut *session, segment..segment + 1).unwrap();
        let hidden = model.program.hidden;
        let values =
            realm_testkit::program::read(&model, &mut *session, hidden, call.n_rows()).unwrap();
        session.write(hidden, &values).unwrap();
    }
    let n_rows = call.n_rows();
    let logits = model.program.logits;
    let got = realm_testkit::program::read(&model, &mut *session, logits, n_rows).unwrap();
    assert!(got == wanted);
}

#[test]
fn copied_pages_continue_like_the_original() {
    let model = Decoder::default().build();
    let mut session = model.open(&cpu(2), Size::default()).unwrap();
    Call::one(&[1, 2, 3], 0, &[0]).logits(&model, &mut *session).unwrap();
    session.copy_page(0, 7).unwrap();
    let wanted = Call::one(&[4], 3, &[0]).logits(&model, &mut *session).unwrap();
    let got = Call::one(&[4], 3, &[7]).logits(&model, &mut *session).unwrap();
    assert_eq!(got, wanted);
    assert!(session.copy_page(0, 16).unwrap_err().to_string().contains("page 16"));
}

#[test]
fn two_sessions_of_one_backend_work_at_the_same_time() {
    let model = Decoder::default().build();
    let backend = cpu(2);
    let call = Call::one(&[1, 2, 3, 4, 5], 0, &[4, 2]);
    let mut alone = model.open(&backend, Size::default()).unwrap();
    let wanted = call.logits(&model, &mut *alone).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut session = model.open(&backend, Size::default()).unwrap();
                for _ in 0..20 {
                    assert!(call.logits(&model, &mut *session).unwrap() == wanted);
                }
            });
        }
    });
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let model = Decoder::default().build();
    let mut session = model.open(&cpu(1), Size::default()).unwrap();
    let too_far = session.run(0..99, &batch(&[0]));
    assert!(too_far.unwrap_err().to_string().contains("segments 0..99"));
    let no_tokens = session.run(0..1, &batch(&[0]));
    assert!(no_tokens.unwrap_err().to_string().contains("tokens of the batch"));
    let odd = session.write(model.program.hidden, &[0.0; 3]);
    assert!(odd.unwrap_err().to_string().contains("rows of 256"));
    let mut out = [0.0; 3];
    let short = pollster::block_on(session.read(model.program.hidden, 0..1, &mut out));
    assert!(short.unwrap_err().to_string().contains("expected 256"));
}

/// One row at position 0 without a token.
fn batch(output_rows: &[u32]) -> realm_ir::BatchView<'_> {
    realm_ir::BatchView {
        tokens: &[],
        positions: &[0],
        sequences: &[realm_ir::SequenceView {
            first_row: 0,
            n_rows: 1,
            pages: &[0],
            state: 0,
            adapters: &[],
        }],
        output_rows,
        interrupt: None,
    }
}
