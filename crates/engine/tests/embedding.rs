//! Texts to vectors: pooling and batches on the toy, values on the kit's models.

mod toy;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use realm_cpu::{CpuBackend, CpuOptions};
use realm_engine::engine::Limits;
use realm_engine::load::{BackendChoice, OpenBackend, Watcher};
use realm_engine::model::{ModelHandle, Source, wait};
use realm_engine::requests::{EmbedOptions, EmbeddingRequest};
use realm_engine::{Coded, ErrorCode, GenerateOptions, LoadOptions, Prompt};
use realm_model::Pooling;
use realm_testkit::kit;
use serde_json::Value;
use toy::{Bench, END, LIMITS, greedy, letters, request, states_of};

const PLAIN: EmbedOptions = EmbedOptions { pooling: Pooling::Last, normalize: false };

fn embed(bench: &mut Bench, texts: &[Vec<u32>], pooling: Pooling) -> Vec<Vec<f32>> {
    let options = EmbedOptions { pooling, ..PLAIN };
    bench.embed(texts, options).unwrap()
}

#[test]
fn texts_of_every_length_are_pooled_as_asked_whatever_batch_they_fall_into() {
    // Batches take 8 rows, of which 4 at a time are read: some texts share one, one takes three.
    let texts = ["ab", "c", "abcde", "abcdefghijklmnopqrst", "xy", "z"].map(letters);
    let mut bench = Bench::new();
    let n_free = bench.engine.n_free_pages();
    let states: Vec<Vec<f32>> = texts.iter().map(|text| states_of(text)).collect();
    let each = |of: fn(&[f32]) -> Vec<f32>| states.iter().map(|s| of(s)).collect::<Vec<_>>();
    assert_eq!(embed(&mut bench, &texts, Pooling::None), states);
    assert_eq!(embed(&mut bench, &texts, Pooling::Cls), each(|s| vec![s[0]]));
    assert_eq!(embed(&mut bench, &texts, Pooling::Last), each(|s| vec![s[s.len() - 1]]));
    let mean = |s: &[f32]| vec![s.iter().sum::<f32>() / s.len() as f32];
    assert_eq!(embed(&mut bench, &texts, Pooling::Mean), each(mean));
    assert_eq!(bench.engine.n_free_pages(), n_free, "every page is free again");
}

#[test]
fn short_texts_share_a_batch() {
    let mut bench = Bench::new();
    let texts = ["ab", "cd", "ef", "gh", "ij"].map(letters);
    embed(&mut bench, &texts, Pooling::Last);
    let rows: Vec<_> = bench.observer.lock().unwrap().runs.iter().map(|r| r.rows.clone()).collect();
    // The layers, then the head over the same rows.
    assert_eq!(rows, [vec![2, 2, 2, 2], vec![2, 2, 2, 2], vec![2], vec![2]]);
}

#[test]
fn what_cannot_be_embedded_is_named_and_leaves_no_page_behind() {
    let mut bench = Bench::new();
    let n_free = bench.engine.n_free_pages();
    let mut refusal = |texts: &[Vec<u32>], options| {
        let error = bench.embed(texts, options).unwrap_err();
        (error.code(), error.to_string())
    };
    let (code, text) = refusal(&[letters("a"), Vec::new()], PLAIN);
    assert_eq!(code, ErrorCode::InvalidArgument);
    assert!(text.contains("text 1 has no tokens"), "{text}");
    let (code, text) = refusal(&[letters("a"), vec![3; 33]], PLAIN);
    assert_eq!(code, ErrorCode::KvExhausted);
    assert!(text.contains("33 tokens") && text.contains("32"), "{text}");
    let (code, _) = refusal(&[vec![1000]], PLAIN);
    assert_eq!(code, ErrorCode::InvalidArgument);
    let (code, text) = refusal(&[letters("a")], EmbedOptions { pooling: Pooling::Rank, ..PLAIN });
    assert_eq!(code, ErrorCode::InvalidArgument);
    assert!(text.contains("cannot rank"), "{text}");
    assert_eq!(bench.engine.n_free_pages(), n_free);
}

#[test]
fn a_normalised_vector_has_length_one_and_one_of_zeros_stays() {
    let mut bench = Bench::new();
    let options = EmbedOptions { pooling: Pooling::None, normalize: true };
    let texts = [vec![5, 7], vec![0]];
    let got = bench.embed(&texts, options).unwrap();
    assert_eq!(got[0], [1.0, 1.0]);
    assert_eq!(got[1].len(), 1);
}

#[test]
fn a_vector_that_is_not_finite_is_an_error_as_such_a_logit_is() {
    let mut bench = Bench::new();
    let n_free = bench.engine.n_free_pages();
    for hidden in [f32::NAN, f32::INFINITY] {
        for pooling in [Pooling::None, Pooling::Mean, Pooling::Last] {
            for normalize in [false, true] {
                bench.observer.lock().unwrap().hidden = Some(hidden);
                let options = EmbedOptions { pooling, normalize };
                let error = bench.embed(&["ab", "cde"].map(letters), options).unwrap_err();
                assert_eq!(error.code(), ErrorCode::Internal);
                assert!(error.to_string().contains(&format!("is {hidden}")), "{error}");
            }
        }
    }
    bench.observer.lock().unwrap().hidden = None;
    embed(&mut bench, &["ab", "cde"].map(letters), Pooling::Mean);
    assert_eq!(bench.engine.n_free_pages(), n_free);
}

#[test]
fn an_embedding_shares_batches_with_answers_and_waits_for_pages() {
    let mut bench = Bench::with(Limits { n_pages: 8, ..LIMITS });
    let prompt = letters("abcdefghijklmnop");
    let answer = bench.start(request(&prompt, 12));
    bench.step();
    let texts = vec![letters("quickbrown"), letters("fox"), letters("jumpsoverthelazydog")];
    let (options, abort) = (PLAIN, Arc::default());
    let want: Vec<_> = texts.iter().map(|text| vec![*states_of(text).last().unwrap()]).collect();
    let result = bench.start_embedding(EmbeddingRequest { texts, options, abort });
    bench.run();
    assert_eq!(result.recv().unwrap().unwrap(), want);
    assert_eq!(bench.result(answer).unwrap().tokens, greedy(&prompt, 12, &[END]));
    let shared = bench.runs().iter().filter(|run| run.rows.len() > 1).count();
    assert!(shared > 0, "they never shared a batch");
    assert_eq!(bench.engine.n_free_pages(), 8);
}

#[test]
fn embeddings_whose_texts_do_not_fit_at_once_take_turns() {
    let mut bench = Bench::with(Limits { n_pages: 8, ..LIMITS });
    let texts = |token| vec![vec![token; 20]; 3];
    let mut start = |token| {
        let abort = Arc::default();
        bench.start_embedding(EmbeddingRequest { texts: texts(token), options: PLAIN, abort })
    };
    let (first, second) = (start(5), start(6));
    bench.run();
    for (token, result) in [(5, first), (6, second)] {
        let want = vec![vec![*states_of(&[token; 20]).last().unwrap()]; 3];
        assert_eq!(result.recv().unwrap().unwrap(), want);
    }
}

#[test]
fn an_aborted_embedding_ends_within_one_step_and_gives_its_pages_back() {
    let mut bench = Bench::new();
    let abort = Arc::new(AtomicBool::new(false));
    let request =
        EmbeddingRequest { texts: vec![vec![5; 30]; 100], options: PLAIN, abort: abort.clone() };
    let result = bench.start_embedding(request);
    (0..5).for_each(|_| bench.step());
    assert!(result.try_recv().is_err());
    let flag = abort.clone();
    bench.hook(move |_, _| {
        flag.store(true, Ordering::Release); // in the middle of a batch
        Ok(())
    });
    bench.step();
    assert_eq!(result.recv().unwrap().unwrap_err().code(), ErrorCode::Aborted);
    assert!(bench.engine.is_idle());
    assert_eq!(bench.engine.n_free_pages(), LIMITS.n_pages);
}

fn load(model: &str) -> ModelHandle {
    let open = || {
        let backend =
            Arc::new(CpuBackend::new(CpuOptions { threads: Some(2), ..Default::default() })?);
        Ok(OpenBackend { backend, threads: 2, device: String::new(), kernel: |_, _| None })
    };
    let cpu = BackendChoice { name: "cpu".into(), open: Box::new(open) };
    let cancel = AtomicBool::new(false);
    let watcher = Watcher { progress: &mut |_| (), cancel: &cancel, pause: None };
    let source = Source::Bytes(vec![kit::read_maybe_gz(model).into()]);
    ModelHandle::load(source, &LoadOptions::default(), &[cpu], watcher).unwrap()
}

fn texts(case: &Value) -> Vec<String> {
    let list = match case["texts_file"].as_str() {
        Some(file) => kit::json(file),
        None => case["texts"].clone(),
    };
    serde_json::from_value(list).unwrap()
}

/// Cosine of two vectors.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn embeddings_of_the_kits_models_meet_their_bounds() {
    for case in kit::cases("embedding") {
        let id = case["id"].as_str().unwrap();
        let model = load(case["model"].as_str().unwrap());
        let texts: Vec<Prompt> = texts(&case).into_iter().map(Prompt::Text).collect();
        let normalize = case["normalised"].as_bool().unwrap();
        let got = wait(|reply| model.embed(texts, None, normalize, reply)).unwrap();
        let (shape, expected) = kit::npy_f32(case["expected"].as_str().unwrap());
        assert_eq!((got.len(), got[0].len()), (shape[0], shape[1]), "{id}");
        let rows = || got.iter().zip(expected.chunks_exact(shape[1]));
        let worst_cosine = rows().map(|(a, b)| cosine(a, b)).fold(f64::INFINITY, f64::min);
        let differences = rows().flat_map(|(a, b)| a.iter().zip(b).map(|(a, b)| (a - b).abs()));
        let worst = f64::from(differences.fold(0.0, f32::max));
        let lengths = got.iter().map(|row| row.iter().map(|v| v * v).sum::<f32>().sqrt());
        if normalize {
            lengths.for_each(|length| assert!((length - 1.0).abs() < 1e-6, "{id}: {length}"));
        }
        let tolerance = &case["tolerance"];
        assert!(worst_cosine >= tolerance["min_cosine"].as_f64().unwrap(), "{id}: {worst_cosine}");
        let bound = tolerance["max_abs_exact_gelu"].as_f64().unwrap_or(f64::INFINITY);
        assert!(worst <= bound, "{id}: {worst}");
    }
}

#[test]
fn an_encoder_neither_generates_nor_ranks_and_says_so() {
    let model = load("models/bert/model.gguf.gz");
    assert_eq!(model.info().unwrap().pooling.as_deref(), Some("mean"));
    let (sender, events) = mpsc::channel();
    let sink = Box::new(move |event| sender.send(event).is_ok());
    model.generate(Prompt::Text("a boat".into()), GenerateOptions::default(), sink);
    let event = events.recv().unwrap();
    let text = format!("{event:?}");
    assert!(text.contains("encoder") && text.contains("InvalidArgument"), "{text}");
    let logits = wait(|reply| model.compute_logits(vec![0.0; 64], reply));
    assert_eq!(logits.unwrap_err().code(), ErrorCode::InvalidArgument);
    let scores = wait(|reply| model.rank("a".into(), vec!["b".into()], reply));
    assert!(scores.unwrap_err().to_string().contains("does not rank"));
}
