//! Loading, disposing, panics: the model handle and its thread.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use realm_engine::load::{BackendChoice, Watcher};
use realm_engine::model::{ModelHandle, Reply, Source, wait};
use realm_engine::requests::{Event, FinishReason};
use realm_engine::{Coded, Error, ErrorCode, GenerateOptions, LoadOptions, Prompt};
use realm_ir::Error as IrError;
use support::*;

fn refusing(name: &str, reason: &str) -> BackendChoice {
    let reason = reason.to_owned();
    let open = move || {
        let error = IrError::Unavailable { backend: "toy", reason: reason.clone() };
        Err(error.into())
    };
    BackendChoice { name: name.into(), open: Box::new(open) }
}

#[test]
fn the_first_backend_that_runs_is_taken_and_refusals_are_kept() {
    let backends = [refusing("first", "no device"), choice(Arc::default())];
    let model = load_with(&LoadOptions::default(), &backends).unwrap();
    let info = model.info().unwrap();
    assert_eq!(info.backend, "cpu");
    assert!(info.backend_reason.contains("no device"), "{}", info.backend_reason);
}

#[test]
fn when_no_backend_runs_every_reason_is_named() {
    let backends = [refusing("first", "no device"), refusing("second", "no driver")];
    let error = load_with(&LoadOptions::default(), &backends).err().unwrap();
    assert_eq!(error.code(), ErrorCode::BackendUnavailable);
    let message = error.to_string();
    assert!(message.contains("no device") && message.contains("no driver"), "{message}");
}

#[test]
fn the_file_can_be_in_memory() {
    let bytes: Arc<[u8]> = std::fs::read(bundled()).unwrap().into();
    let cancel = AtomicBool::new(false);
    let watcher = Watcher { progress: &mut |_| (), cancel: &cancel, pause: None };
    let source = Source::Bytes(vec![bytes]);
    let backends = [choice(Arc::default())];
    let model = ModelHandle::load(source, &LoadOptions::default(), &backends, watcher).unwrap();
    let from_memory = start(&model, story(), GenerateOptions { max_tokens: 8, ..endless() });
    let (mapped, _) = load();
    let from_file = start(&mapped, story(), GenerateOptions { max_tokens: 8, ..endless() });
    assert_eq!(from_memory.end().unwrap().text, from_file.end().unwrap().text);
}

#[test]
fn loading_reports_progress_up_to_one_and_can_be_given_up() {
    let load = |cancel_at: f32| {
        let cancel = AtomicBool::new(false);
        let mut seen = Vec::new();
        let mut progress = |fraction| {
            seen.push(fraction);
            cancel.store(fraction >= cancel_at, Ordering::Relaxed);
        };
        let watcher = Watcher { progress: &mut progress, cancel: &cancel, pause: None };
        let backends = [choice(Arc::default())];
        let source = Source::Path(bundled());
        let result = ModelHandle::load(source, &LoadOptions::default(), &backends, watcher);
        (result, seen)
    };
    let (model, seen) = load(2.0);
    model.unwrap();
    assert!(seen.is_sorted() && seen.first() == Some(&0.0) && seen.last() == Some(&1.0));
    let (model, seen) = load(0.5);
    assert_eq!(model.err().unwrap().code(), ErrorCode::Aborted);
    assert!(seen.last().is_some_and(|last| *last < 1.0));
}

#[test]
fn a_vocabulary_alone_tokenises_and_runs_nothing() {
    let options = LoadOptions { vocab_only: true, ..LoadOptions::default() };
    let model = load_with(&options, &[]).unwrap();
    assert_eq!(model.info().unwrap().n_vocab, 2048);
    let ids = model.tokenize("a little dog", Default::default()).unwrap();
    assert_eq!(model.detokenize(&ids, false).unwrap(), "a little dog");
    let error = start(&model, story(), endless()).end().unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
    let error = wait(|reply| model.embed_tokens(vec![1], 0, reply)).unwrap_err();
    assert!(error.to_string().contains("vocabOnly"), "{error}");
}

#[test]
fn a_panic_ends_what_runs_with_an_internal_error_and_nothing_else() {
    let (model, disturbance) = load();
    let kept = model.open_sequence().unwrap();
    let on_kept = || GenerateOptions { sequence: Some(kept), max_tokens: 4, ..endless() };
    let before = start(&model, story(), on_kept()).end().unwrap();
    let mut n_runs = 0;
    disturbance.lock().unwrap().hook = Some(Box::new(move |_, _| {
        n_runs += 1;
        assert_ne!(n_runs, 4, "the fourth run breaks down");
        Ok(())
    }));
    let error = start(&model, story(), endless()).end().unwrap_err();
    assert_eq!(error.code(), ErrorCode::Internal);
    assert!(error.to_string().contains("the fourth run breaks down"), "{error}");
    let after = start(&model, story(), on_kept()).end().unwrap();
    assert_eq!(after.tokens, before.tokens);
    assert_eq!(after.cached_tokens, 0, "the old session's keys and values are gone with it");
    assert_eq!(disturbance.lock().unwrap().n_sessions, 2);
}

#[test]
fn a_panic_in_a_single_layer_answers_that_call() {
    let (model, disturbance) = load();
    let want = wait(|reply| model.embed_tokens(vec![1], 0, reply)).unwrap();
    disturbance.lock().unwrap().hook = Some(Box::new(|_, _| panic!("a broken layer")));
    let error = wait(|reply| model.embed_tokens(vec![1], 0, reply)).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Internal);
    assert_eq!(wait(|reply| model.embed_tokens(vec![1], 0, reply)).unwrap(), want);
}

#[test]
fn a_model_that_cannot_go_on_after_a_panic_says_that_it_is_lost() {
    let (model, disturbance) = load();
    disturbance.lock().unwrap().is_gone = true;
    disturbance.lock().unwrap().hook = Some(Box::new(|_, _| panic!("the last straw")));
    let error = start(&model, story(), endless()).end().unwrap_err();
    assert_eq!(error.code(), ErrorCode::Internal);
    let error = start(&model, story(), endless()).end().unwrap_err();
    assert_eq!(error.code(), ErrorCode::ModelLost);
    let texts = vec![story()];
    let error = wait(|reply| model.embed(texts, None, true, reply)).unwrap_err();
    assert_eq!(error.code(), ErrorCode::ModelLost);
    let error = wait(|reply| model.embed_tokens(vec![1], 0, reply)).unwrap_err();
    assert_eq!(error.code(), ErrorCode::ModelLost);
    assert_eq!(model.tokenize("a little dog", Default::default()).unwrap().len(), 3);
}

#[test]
fn an_abort_ends_a_running_answer() {
    let (model, _) = load();
    let running = start(&model, story(), endless());
    assert!(matches!(running.next(), Event::Chunk(_)));
    running.handle.abort();
    let answer = running.end().unwrap();
    assert_eq!(answer.finish_reason, FinishReason::Abort);
    assert!(!answer.tokens.is_empty());
}

#[test]
fn a_listener_that_left_ends_the_generation() {
    let (model, disturbance) = load();
    let running = start(&model, story(), endless());
    running.next();
    drop(running.events);
    // With the first one gone, the second has the batches to itself.
    let (sender, alone) = mpsc::channel();
    disturbance.lock().unwrap().hook = Some(Box::new(move |_, batch| {
        let _ = sender.send(batch.sequences.len());
        Ok(())
    }));
    let options = GenerateOptions { max_tokens: 8, ..endless() };
    start(&model, story(), options).end().unwrap();
    assert_eq!(alone.try_iter().last(), Some(1));
}

#[test]
fn disposing_ends_everything_with_disposed_and_answers_every_call() {
    let (model, _) = load();
    let running = start(&model, story(), endless());
    running.next();
    let (done, disposed) = mpsc::channel();
    for n in 0..3 {
        let done = done.clone();
        model.dispose(move || done.send(n).unwrap());
    }
    assert_eq!(running.end().unwrap_err().code(), ErrorCode::Disposed);
    for _ in 0..3 {
        disposed.recv_timeout(Duration::from_secs(60)).expect("an answer");
    }
    let late = start(&model, story(), endless()).end().unwrap_err();
    let layer = wait(|reply| model.embed_tokens(vec![1], 0, reply)).unwrap_err();
    let tensor = wait(|reply| model.tensor("output_norm.weight".into(), reply)).unwrap_err();
    assert_eq!(late.code(), ErrorCode::Disposed);
    for error in [
        layer,
        tensor,
        model.info().unwrap_err(),
        model.tokenize("a", Default::default()).unwrap_err(),
        model.open_sequence().unwrap_err(),
    ] {
        assert!(matches!(error, Error::Disposed), "{error}");
    }
}

#[test]
fn disposing_takes_effect_in_the_middle_of_a_step() {
    let (model, disturbance) = load();
    let (entered, in_step) = mpsc::channel();
    disturbance.lock().unwrap().hook = Some(Box::new(move |_, batch| {
        let _ = entered.send(());
        let waiting = Instant::now();
        while !batch.is_interrupted() {
            assert!(waiting.elapsed() < Duration::from_secs(60), "nobody interrupts the step");
            std::thread::yield_now();
        }
        Ok(())
    }));
    let running = start(&model, story(), endless());
    in_step.recv_timeout(Duration::from_secs(60)).expect("a step");
    model.dispose(|| ());
    assert_eq!(running.end().unwrap_err().code(), ErrorCode::Disposed);
}

#[test]
fn dropping_the_model_ends_what_runs() {
    let (model, _) = load();
    let running = start(&model, story(), endless());
    running.next();
    drop(model);
    assert_eq!(running.end().unwrap_err().code(), ErrorCode::Disposed);
}

#[test]
fn disposing_frees_the_weights_and_the_cache() {
    let bytes: Arc<[u8]> = std::fs::read(bundled()).unwrap().into();
    let cancel = AtomicBool::new(false);
    let watcher = Watcher { progress: &mut |_| (), cancel: &cancel, pause: None };
    let source = Source::Bytes(vec![bytes.clone()]);
    let backends = [choice(Arc::default())];
    let model = ModelHandle::load(source, &LoadOptions::default(), &backends, watcher).unwrap();
    assert!(Arc::strong_count(&bytes) > 1);
    let (done, disposed) = mpsc::channel();
    model.dispose(move || done.send(()).unwrap());
    disposed.recv_timeout(Duration::from_secs(60)).expect("an answer");
    assert_eq!(Arc::strong_count(&bytes), 1, "nobody holds the file any more");
}

#[test]
fn sequences_are_checked_at_once_and_keep_what_they_read() {
    let (model, _) = load();
    let sequence = model.open_sequence().unwrap();
    let on = |sequence, n| GenerateOptions { sequence: Some(sequence), max_tokens: n, ..endless() };
    let first = start(&model, story(), on(sequence, 4)).end().unwrap();
    let fork = model.fork_sequence(sequence).unwrap();
    let again = start(&model, story(), on(fork, 4)).end().unwrap();
    assert_eq!(again.text, first.text);
    assert_eq!((first.cached_tokens, again.cached_tokens), (0, first.prompt_tokens - 1));
    model.close_sequence(sequence).unwrap();
    for error in [
        model.close_sequence(sequence).unwrap_err(),
        model.fork_sequence(sequence).unwrap_err(),
        model.fork_sequence(99).unwrap_err(),
    ] {
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
    }
}

#[test]
fn a_seed_that_was_drawn_can_be_used_again() {
    let (model, _) = load();
    let mut options = GenerateOptions { max_tokens: 16, draw_seed: true, ..endless() };
    options.sampling.temperature = 1.0;
    let first = start(&model, story(), options.clone()).end().unwrap();
    options.draw_seed = false;
    options.sampling.seed = first.seed;
    assert_eq!(start(&model, story(), options).end().unwrap().tokens, first.tokens);
}

#[test]
fn an_echo_is_the_text_of_the_prompt_in_whatever_form_it_came() {
    let (model, _) = load();
    let options = GenerateOptions { max_tokens: 4, echo: true, ..endless() };
    let from_text = start(&model, story(), options.clone()).end().unwrap();
    assert!(from_text.text.starts_with("Once upon a time"), "{}", from_text.text);
    let ids = model.tokenize("Once upon a time", Default::default()).unwrap();
    let from_ids = start(&model, Prompt::Tokens(ids), options).end().unwrap();
    assert_eq!(from_ids.text, from_text.text);
}

#[test]
fn an_aborted_answer_is_heard_of_before_the_batch_that_it_is_not_part_of() {
    let (model, disturbance) = load();
    let (entered, in_batch) = mpsc::channel();
    let (go, leave) = mpsc::channel::<()>();
    disturbance.lock().unwrap().hook = Some(Box::new(move |_, batch| {
        let _ = entered.send(batch.sequences.len());
        let _ = leave.recv_timeout(Duration::from_secs(60));
        Ok(())
    }));
    let running = start(&model, story(), endless());
    let texts = vec![Prompt::Tokens(vec![5; 500]); 100];
    let embedding = model.embed(texts, None, true, Reply::new(|_| ()));
    while in_batch.recv_timeout(Duration::from_secs(60)).expect("a batch") < 2 {
        go.send(()).unwrap();
    }
    running.handle.abort();
    go.send(()).unwrap();
    // Nobody lets the batch of the embedding go on before the answer has ended.
    assert_eq!(running.end().unwrap().finish_reason, FinishReason::Abort);
    embedding.abort();
    drop(go);
}

/// Text that takes long to tokenise, and that no context takes.
fn long() -> Prompt {
    Prompt::Text("The quick brown fox jumps over the lazy dog. ".repeat(20_000))
}

#[test]
fn a_long_prompt_that_is_still_being_prepared_can_be_aborted_and_disposed_of() {
    let (model, _) = load();
    let sequence = model.open_sequence().unwrap();
    let on = || GenerateOptions { sequence: Some(sequence), max_tokens: 4, ..endless() };
    let first = start(&model, long(), on());
    let busy = start(&model, story(), on()).end().unwrap_err();
    assert!(busy.to_string().contains("is busy"), "{busy}");
    first.handle.abort();
    assert_eq!(first.end().unwrap().finish_reason, FinishReason::Abort);
    assert_eq!(start(&model, story(), on()).end().unwrap().tokens.len(), 4);

    let error = start(&model, long(), endless()).end().unwrap_err();
    assert_eq!(error.code(), ErrorCode::KvExhausted, "{error}");
    let last = start(&model, long(), endless());
    wait(|reply| model.dispose(|| reply.send(Ok(())))).unwrap();
    assert_eq!(last.end().unwrap_err().code(), ErrorCode::Disposed);
}

#[test]
fn texts_that_are_being_embedded_can_be_aborted() {
    let (model, _) = load();
    let texts = || vec![Prompt::Tokens(vec![5; 500]); 1000];
    let mut handle = None;
    let aborted = wait(|reply| {
        let started = model.embed(texts(), None, true, reply);
        started.abort();
        handle = Some(started);
    });
    assert_eq!(aborted.unwrap_err().code(), ErrorCode::Aborted);
    let vectors = wait(|reply| model.embed(vec![story()], None, true, reply)).unwrap();
    assert_eq!(vectors.len(), 1);
}

#[test]
fn stop_strings_that_cannot_be_used_end_their_generation_alone() {
    let (model, _) = load();
    let story_until = |stop: String| {
        let options = GenerateOptions { stop: vec![stop], max_tokens: 4, ..endless() };
        start(&model, story(), options).end()
    };
    for stop in [String::new(), "a".repeat(1 << 20)] {
        assert_eq!(story_until(stop).unwrap_err().code(), ErrorCode::InvalidArgument);
    }
    assert_eq!(story_until("a".repeat(1 << 16)).unwrap().tokens.len(), 4);
}
