//! Several generations: batches, fairness, pages that run out, failures.

mod toy;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use realm_engine::engine::Limits;
use realm_engine::requests::{
    Allowance, EmbedOptions, Event, FinishReason, GenerationRequest, RequestId,
};
use realm_engine::{Coded, Error, ErrorCode, SamplingOptions};
use realm_ir::Error as IrError;
use realm_model::Pooling;
use toy::*;

fn prompts() -> Vec<Vec<u32>> {
    ["once", "uponatime", "therewasadogthatran", "a", "bb", "ccccccccccc"].map(letters).into()
}

#[test]
fn the_same_answers_alone_and_together() {
    let warm = |prompt: &[u32], seed| GenerationRequest {
        sampling: SamplingOptions { temperature: 1.0, seed, ..SamplingOptions::default() },
        ..request(prompt, 9)
    };
    let mut together = Bench::new();
    let ids: Vec<RequestId> = prompts()
        .iter()
        .zip(0..)
        .map(|(prompt, seed)| together.start(warm(prompt, seed)))
        .collect();
    together.run();
    for ((id, prompt), seed) in ids.iter().zip(prompts()).zip(0..) {
        let alone = Bench::new().generate(warm(&prompt, seed)).unwrap();
        assert_eq!(together.result(*id).unwrap().tokens, alone.tokens, "seed {seed}");
    }
    let most = together.runs().iter().map(|run| run.rows.len()).max();
    assert_eq!(most, Some(LIMITS.max_outputs), "they did share batches");
}

#[test]
fn a_batch_decodes_everyone_and_shares_the_rest_between_prompts() {
    let mut bench = Bench::new();
    bench.start(request(&letters("ab"), 20));
    bench.step();
    bench.start(request(&letters("cdefghijklm"), 5));
    bench.start(request(&letters("nopqrstuvwx"), 5));
    bench.step();
    assert_eq!(bench.runs()[1].rows, [1, 4, 3], "one row decodes, seven read prompts");
    bench.step();
    assert_eq!(bench.runs()[2].rows, [1, 4, 3]);
}

#[test]
fn generations_beyond_the_largest_batch_wait_their_turn() {
    let mut bench = Bench::new();
    let ids: Vec<RequestId> = (0..7).map(|i| bench.start(request(&[3 + i, 4], 4))).collect();
    bench.run();
    for (i, id) in ids.iter().enumerate() {
        let want = greedy(&[3 + i as u32, 4], 4, &[END]);
        assert_eq!(bench.result(*id).unwrap().tokens, want);
    }
}

const FEW_PAGES: Limits = Limits { n_pages: 8, ..LIMITS };

#[test]
fn a_generation_waits_for_pages_that_others_will_free() {
    let mut bench = Bench::with(FEW_PAGES);
    let first = bench.start(request(&[5; 20], 8));
    let second = bench.start(request(&[6; 20], 8));
    bench.step();
    assert_eq!(bench.runs()[0].rows.len(), 1, "5 of 8 pages are taken, 5 are needed");
    bench.run();
    for (id, token) in [(first, 5), (second, 6)] {
        assert_eq!(bench.result(id).unwrap().tokens, greedy(&[token; 20], 8, &[END]));
    }
}

#[test]
fn the_youngest_gives_up_its_pages_and_still_answers_the_same() {
    let mut bench = Bench::with(FEW_PAGES);
    let prompts = [letters("abcdefgh"), letters("ijklmnop"), letters("qrstuvwx")];
    let ids: Vec<RequestId> =
        prompts.iter().map(|prompt| bench.start(request(prompt, 20))).collect();
    bench.run();
    for (id, prompt) in ids.iter().zip(&prompts) {
        let answer = bench.result(*id).unwrap();
        assert_eq!(answer.tokens, greedy(prompt, 20, &[END]));
        assert_eq!(answer.finish_reason, FinishReason::Length);
    }
    let rows: usize = bench.runs().iter().flat_map(|run| &run.rows).sum();
    assert!(rows > 3 * 27, "three times 27 tokens fit only one after another: {rows} rows");
    assert_eq!(bench.engine.n_free_pages(), FEW_PAGES.n_pages);
}

#[test]
fn idle_sequences_give_their_pages_up_and_are_read_again() {
    let mut bench = Bench::with(FEW_PAGES);
    for id in [1, 2] {
        bench.engine.open_sequence(id).unwrap();
        let prompt = [4 + id; 12];
        bench.generate(GenerationRequest { sequence: Some(id), ..request(&prompt, 1) }).unwrap();
    }
    let other = bench.generate(request(&[8; 16], 4)).unwrap();
    assert_eq!(other.tokens, greedy(&[8; 16], 4, &[END]));
    let mut again = |id: u32| {
        let prompt = [4 + id; 13];
        let request = GenerationRequest { sequence: Some(id), ..request(&prompt, 2) };
        let answer = bench.generate(request).unwrap();
        assert_eq!(answer.tokens, greedy(&prompt, 2, &[END]));
        answer.cached_tokens
    };
    assert_eq!(again(2), 12, "it was used last");
    assert_eq!(again(1), 0, "it was used least recently, and gave way");
}

#[test]
fn idle_sequences_keep_their_pages_while_somebody_runs_who_will_give_some_back() {
    let mut bench = Bench::with(FEW_PAGES);
    bench.engine.open_sequence(1).unwrap();
    bench.generate(GenerationRequest { sequence: Some(1), ..request(&[5; 8], 1) }).unwrap();
    let first = bench.start(request(&[6; 16], 8));
    let second = bench.start(request(&[7; 16], 8));
    bench.run();
    for (id, token) in [(first, 6), (second, 7)] {
        assert_eq!(bench.result(id).unwrap().tokens, greedy(&[token; 16], 8, &[END]));
    }
    let again = GenerationRequest { sequence: Some(1), ..request(&[5; 8], 1) };
    assert_eq!(bench.generate(again).unwrap().cached_tokens, 7);
}

#[test]
fn a_prompt_that_there_can_be_no_room_for_is_an_error_with_numbers() {
    let mut bench = Bench::with(FEW_PAGES);
    bench.forward_layer(0, &[5.0; 20], 0, 3).unwrap();
    let error = bench.generate(request(&[6; 20], 4)).unwrap_err();
    assert_eq!(error.code(), ErrorCode::KvExhausted);
    let message = error.to_string();
    assert!(message.contains("5 more pages") && message.contains("3 of 8"), "{message}");
    bench.drop_layer_sequence(3);
    bench.generate(request(&[6; 20], 4)).unwrap();
}

#[test]
fn an_abort_among_others_leaves_them_alone() {
    let mut bench = Bench::new();
    let doomed = request(&letters("thequickbrownfox"), 9);
    let stop = abort(&doomed);
    let doomed = bench.start(doomed);
    let other = bench.start(request(&letters("ab"), 9));
    bench.hook(move |_, _| {
        stop();
        Ok(())
    });
    bench.run();
    assert_eq!(bench.result(doomed).unwrap().finish_reason, FinishReason::Abort);
    assert_eq!(bench.result(other).unwrap().tokens, greedy(&letters("ab"), 9, &[END]));
}

#[test]
fn an_error_of_the_backend_ends_everyone_in_the_batch_and_nobody_after() {
    let mut bench = Bench::new();
    let ids = [bench.start(request(&[3], 9)), bench.start(request(&[4], 9))];
    let mut n_runs = 0;
    bench.hook(move |_, _| {
        n_runs += 1;
        match n_runs {
            2 => Err(IrError::Unavailable { backend: "toy", reason: "device lost".into() }),
            _ => Ok(()),
        }
    });
    bench.run();
    for id in ids {
        assert_eq!(bench.result(id).unwrap_err().code(), ErrorCode::BackendUnavailable);
    }
    assert_eq!(bench.generate(request(&[5], 3)).unwrap().tokens, greedy(&[5], 3, &[END]));
}

#[test]
fn stopping_ends_everyone_with_disposed() {
    let mut bench = Bench::new();
    let ids = [bench.start(request(&[3], 9)), bench.start(request(&[4; 30], 2))];
    bench.step();
    bench.stop.store(true, Ordering::Relaxed);
    bench.run();
    for id in ids {
        assert_eq!(bench.result(id).unwrap_err().code(), ErrorCode::Disposed);
    }
}

/// A request for `n` tokens of which so many are allowed at first.
fn unread(prompt: &[u32], n: usize, allowance: &Allowance) -> GenerationRequest {
    GenerationRequest { allowance: allowance.clone(), ..request(prompt, n) }
}

/// Tokens of an answer so far.
fn n_tokens(bench: &Bench, id: RequestId) -> usize {
    let tokens = bench
        .events
        .iter()
        .filter(|(other, _)| *other == id)
        .map(|(_, event)| if let Event::Chunk(chunk) = event { chunk.tokens.len() } else { 0 });
    tokens.sum()
}

#[test]
fn an_answer_that_nobody_reads_waits_and_goes_on_as_if_it_had_not() {
    let mut bench = Bench::new();
    let allowance = Allowance::new(3);
    let id = bench.start(unread(&letters("ab"), 9, &allowance));
    bench.run();
    assert_eq!(n_tokens(&bench, id), 3);
    let n_runs = bench.runs().len();
    bench.step();
    assert_eq!(bench.runs().len(), n_runs, "there is nothing to step for");
    allowance.raise(2);
    assert!(bench.engine.is_idle(), "no fewer than before");
    allowance.raise(5);
    bench.run();
    assert_eq!(n_tokens(&bench, id), 5);
    allowance.raise(usize::MAX);
    bench.run();
    assert_eq!(bench.result(id).unwrap().tokens, greedy(&letters("ab"), 9, &[END]));
}

#[test]
fn an_answer_that_nobody_reads_can_be_aborted_and_ends_with_the_engine() {
    let mut bench = Bench::new();
    let start = unread(&letters("ab"), 9, &Allowance::new(3));
    let abort_it = abort(&start);
    let id = bench.start(start);
    let other = bench.start(unread(&letters("ab"), 9, &Allowance::new(2)));
    bench.run();
    abort_it();
    bench.run();
    let answer = bench.result(id).unwrap();
    assert_eq!((answer.tokens.len(), answer.finish_reason), (3, FinishReason::Abort));
    bench.engine.fail_all(Error::Disposed);
    bench.run();
    assert_eq!(bench.result(other).unwrap_err().code(), ErrorCode::Disposed);
    assert_eq!(bench.engine.n_free_pages(), LIMITS.n_pages);
}

#[test]
fn answers_that_nobody_reads_keep_nobody_from_running_and_give_up_their_pages() {
    let mut bench = Bench::with(Limits { n_pages: 4, ..LIMITS });
    let allowances: Vec<Allowance> = (0..7).map(|_| Allowance::new(1)).collect();
    let ids: Vec<RequestId> = allowances
        .iter()
        .map(|allowance| {
            let id = bench.start(unread(&[3, 4], 6, allowance));
            bench.run();
            id
        })
        .collect();
    for id in &ids {
        assert_eq!(n_tokens(&bench, *id), 1, "more wait than run at once, and than have pages");
    }
    let large = letters("thequick");
    assert_eq!(bench.generate(request(&large, 6)).unwrap().tokens, greedy(&large, 6, &[END]));
    allowances.iter().for_each(|allowance| allowance.raise(6));
    bench.run();
    for id in &ids {
        assert_eq!(bench.result(*id).unwrap().tokens, greedy(&[3, 4], 6, &[END]));
    }
    assert_eq!(bench.engine.n_free_pages(), 4);
}

#[test]
fn after_a_panic_everyone_fails_and_everything_works_again() {
    let mut bench = Bench::new();
    bench.engine.open_sequence(1).unwrap();
    bench.generate(GenerationRequest { sequence: Some(1), ..request(&[5, 6, 7], 2) }).unwrap();
    bench.engine.open_sequence(2).unwrap();
    bench.generate(GenerationRequest { sequence: Some(2), ..request(&[5, 6, 7], 2) }).unwrap();
    let running = bench.start(request(&[3], 9));
    let kept = bench.start(GenerationRequest { sequence: Some(1), ..request(&[5, 6, 7, 8], 9) });
    bench.step();
    bench.engine.recover(Error::from_panic(&"out of luck"));
    bench.run();
    for id in [running, kept] {
        let error: Arc<Error> = bench.result(id).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Internal);
        assert!(error.to_string().contains("out of luck"), "{error}");
    }
    assert_eq!(bench.engine.n_free_pages(), LIMITS.n_pages);
    for sequence in [1, 2] {
        let again = GenerationRequest { sequence: Some(sequence), ..request(&[5, 6, 7, 8], 9) };
        let answer = bench.generate(again).unwrap();
        assert_eq!(answer.cached_tokens, 0, "nothing of the old cache is relied on");
        assert_eq!(answer.tokens, greedy(&[5, 6, 7, 8], 9, &[END]));
    }
}

#[test]
fn a_session_that_says_it_is_lost_is_replaced() {
    let mut bench = Bench::new();
    bench.engine.open_sequence(1).unwrap();
    bench.generate(GenerationRequest { sequence: Some(1), ..request(&[5, 6, 7], 2) }).unwrap();
    let mut n_runs = 0;
    bench.hook(move |_, _| {
        n_runs += 1;
        if n_runs == 2 { Err(IrError::SessionLost { backend: "toy" }) } else { Ok(()) }
    });
    let error = bench.generate(request(&[3], 9)).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Internal);
    assert!(error.to_string().contains("lost"), "{error}");
    assert_eq!(bench.observer.lock().unwrap().n_reopened, 1);
    let again = GenerationRequest { sequence: Some(1), ..request(&[5, 6, 7], 2) };
    let answer = bench.generate(again).unwrap();
    assert_eq!((answer.cached_tokens, answer.tokens), (0, greedy(&[5, 6, 7], 2, &[END])));
}

#[test]
fn a_lost_session_that_nothing_can_replace_loses_the_model() {
    let mut bench = Bench::new();
    bench.hook(|_, _| Err(IrError::SessionLost { backend: "toy" }));
    bench.observer.lock().unwrap().is_gone = true;
    let first = bench.forward_layer(0, &[1.0], 0, 0).unwrap_err();
    assert_eq!(first.code(), ErrorCode::Internal, "what was under way");
    let options = EmbedOptions { pooling: Pooling::Last, normalize: false };
    let embedding = bench.embed(&[vec![3]], options).unwrap_err();
    let layer = bench.embed_tokens(&[3]).unwrap_err();
    assert_eq!([embedding.code(), layer.code()], [ErrorCode::ModelLost; 2]);
    let error = bench.generate(request(&[3], 9)).unwrap_err();
    assert_eq!(error.code(), ErrorCode::ModelLost);
    assert!(error.to_string().contains("must be loaded again"), "{error}");
}
