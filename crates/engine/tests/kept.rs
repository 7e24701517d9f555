//! Sequences that keep their KV cache: reuse, forks, closing.

mod toy;

use realm_engine::requests::{FinishReason, GenerationRequest};
use realm_engine::{Coded, Error, ErrorCode, Prepared};
use toy::*;

fn on(sequence: u32, prompt: &[u32], n: usize) -> GenerationRequest {
    GenerationRequest { sequence: Some(sequence), ..request(prompt, n) }
}

/// Sum of rows of the runs from `from` on.
fn rows(bench: &Bench, from: usize) -> usize {
    bench.runs()[from..].iter().flat_map(|run| &run.rows).sum()
}

#[test]
fn a_prompt_is_only_read_from_where_it_differs() {
    let mut bench = Bench::new();
    bench.engine.open_sequence(1).unwrap();
    let prompt = letters("abcdef");
    let first = bench.generate(on(1, &prompt, 4)).unwrap();
    let mut longer = prompt.clone();
    longer.extend(&first.tokens);
    longer.extend(letters("gh"));
    let n_runs = bench.runs().len();
    let second = bench.generate(on(1, &longer, 3)).unwrap();
    // The last token of the first answer was never read.
    assert_eq!(second.cached_tokens, prompt.len() + 3);
    assert_eq!(second.tokens, greedy(&longer, 3, &[END]));
    assert_eq!(rows(&bench, n_runs), 3 + 2, "three new tokens, then two of the answer");
}

#[test]
fn a_prompt_that_changed_in_the_middle_forgets_the_rest() {
    let mut bench = Bench::new();
    bench.engine.open_sequence(1).unwrap();
    bench.generate(on(1, &letters("abcdefghij"), 4)).unwrap();
    let changed = letters("abcdefxyz");
    let answer = bench.generate(on(1, &changed, 5)).unwrap();
    assert_eq!(answer.cached_tokens, 6);
    assert_eq!(answer.tokens, greedy(&changed, 5, &[END]));
}

#[test]
fn the_same_prompt_again_reads_one_token() {
    let mut bench = Bench::new();
    bench.engine.open_sequence(1).unwrap();
    let prompt = letters("abcdef");
    let first = bench.generate(on(1, &prompt, 4)).unwrap();
    let again = bench.generate(on(1, &prompt, 4)).unwrap();
    assert_eq!((again.cached_tokens, again.tokens), (5, first.tokens));
}

#[test]
fn a_fork_shares_pages_until_one_side_writes() {
    let mut bench = Bench::new();
    bench.engine.open_sequence(1).unwrap();
    let prompt = letters("abcdef");
    bench.generate(on(1, &prompt, 1)).unwrap();
    assert_eq!(bench.engine.n_free_pages(), LIMITS.n_pages - 2);
    bench.engine.fork_sequence(1, 2).unwrap();
    assert_eq!(bench.engine.n_free_pages(), LIMITS.n_pages - 2, "a fork costs nothing");

    let (left, right) = (letters("abcdefg"), letters("abcdefx"));
    let left_id = bench.start(on(1, &left, 6));
    let right_id = bench.start(on(2, &right, 6));
    bench.run();
    for (id, prompt) in [(left_id, left), (right_id, right)] {
        let answer = bench.result(id).unwrap();
        assert_eq!(answer.cached_tokens, 6);
        assert_eq!(answer.tokens, greedy(&prompt, 6, &[END]));
    }
    assert_eq!(bench.observer.lock().unwrap().n_copied_pages, 1, "only the half-full page");
}

#[test]
fn a_sequence_can_be_forked_while_it_generates() {
    let mut bench = Bench::new();
    bench.engine.open_sequence(1).unwrap();
    let prompt = letters("abcdef");
    let original = bench.start(on(1, &prompt, 12));
    for _ in 0..4 {
        bench.step();
    }
    bench.engine.fork_sequence(1, 2).unwrap();
    let other = letters("abcdefzz");
    let fork = bench.start(on(2, &other, 6));
    bench.run();
    assert_eq!(bench.result(original).unwrap().tokens, greedy(&prompt, 12, &[END]));
    assert_eq!(bench.result(fork).unwrap().tokens, greedy(&other, 6, &[END]));
    assert_eq!(bench.result(fork).unwrap().cached_tokens, 6);
}

#[test]
fn a_busy_sequence_refuses_a_second_generation() {
    let mut bench = Bench::new();
    bench.engine.open_sequence(1).unwrap();
    let first = bench.start(on(1, &letters("ab"), 6));
    let second = bench.start(on(1, &letters("cd"), 6));
    bench.run();
    assert_eq!(bench.result(first).unwrap().tokens, greedy(&letters("ab"), 6, &[END]));
    let error = bench.result(second).unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
    assert!(error.to_string().contains("sequence 1 is busy"), "{error}");
}

#[test]
fn closing_a_sequence_frees_its_pages_even_while_it_generates() {
    let mut bench = Bench::new();
    bench.engine.open_sequence(1).unwrap();
    bench.generate(on(1, &letters("abcdef"), 3)).unwrap();
    assert!(bench.engine.n_free_pages() < LIMITS.n_pages);
    bench.engine.close_sequence(1).unwrap();
    assert_eq!(bench.engine.n_free_pages(), LIMITS.n_pages);

    bench.engine.open_sequence(2).unwrap();
    let id = bench.start(on(2, &letters("ab"), 6));
    bench.step();
    bench.engine.close_sequence(2).unwrap();
    bench.run();
    assert_eq!(bench.result(id).unwrap().tokens.len(), 6, "what runs is not disturbed");
    assert_eq!(bench.engine.n_free_pages(), LIMITS.n_pages);
    assert!(bench.engine.close_sequence(2).is_err());
}

#[test]
fn unknown_sequences_are_refused_by_number() {
    let mut bench = Bench::new();
    for error in
        [bench.engine.close_sequence(7).unwrap_err(), bench.engine.fork_sequence(7, 8).unwrap_err()]
    {
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
        assert!(error.to_string().contains("sequence 7"), "{error}");
    }
}

#[test]
fn an_interrupted_batch_leaves_nothing_wrong_behind_in_a_kept_sequence() {
    let mut bench = Bench::new();
    bench.engine.open_sequence(1).unwrap();
    let prompt = letters("thequickbrownfoxjumps");
    bench.generate(on(1, &prompt[..6], 1)).unwrap();
    let doomed = on(1, &prompt, 4);
    let stop = abort(&doomed);
    let mut n_runs = 0;
    bench.hook(move |_, _| {
        n_runs += 1;
        if n_runs == 2 {
            stop();
        }
        Ok(())
    });
    let answer = bench.generate(doomed).unwrap();
    assert_eq!((answer.cached_tokens, answer.finish_reason), (6, FinishReason::Abort));
    let again = bench.generate(on(1, &prompt, 4)).unwrap();
    assert_eq!(again.cached_tokens, 12, "6 + 8 were read, the last 2 in a spoilt page");
    assert_eq!(again.tokens, greedy(&prompt, 4, &[END]));
}

#[test]
fn a_sequence_that_lost_its_pages_to_others_answers_the_same() {
    let limits = realm_engine::engine::Limits { n_pages: 8, ..LIMITS };
    let mut bench = Bench::with(limits);
    bench.engine.open_sequence(1).unwrap();
    let older = bench.start(request(&letters("abcdefgh"), 20));
    let kept = bench.start(on(1, &letters("ijklmnop"), 20));
    bench.run();
    assert_eq!(bench.result(older).unwrap().tokens, greedy(&letters("abcdefgh"), 20, &[END]));
    assert_eq!(bench.result(kept).unwrap().tokens, greedy(&letters("ijklmnop"), 20, &[END]));
}

#[test]
fn a_prompt_that_comes_later_finds_its_sequence_as_it_was_when_it_was_asked_for() {
    let mut bench = Bench::new();
    bench.engine.open_sequence(1).unwrap();
    let prompt = letters("abcdef");
    bench.generate(on(1, &prompt, 1)).unwrap();
    let late = bench.next_id();
    assert!(bench.engine.register_generation(late, on(1, &[], 4)));
    let busy = bench.generate(on(1, &prompt, 1)).unwrap_err();
    assert!(busy.to_string().contains("sequence 1 is busy"), "{busy}");
    bench.engine.fork_sequence(1, 2).unwrap();
    bench.engine.close_sequence(1).unwrap();
    assert_eq!(bench.generate(on(2, &letters("abcdefz"), 2)).unwrap().cached_tokens, 6);
    let tokens = letters("abcdefgh");
    bench.engine.prepared(late, Ok(vec![Prepared { tokens: tokens.clone(), text: None }]));
    bench.run();
    let answer = bench.result(late).unwrap();
    assert_eq!((answer.cached_tokens, answer.tokens), (6, greedy(&tokens, 4, &[END])));
    assert!(bench.engine.fork_sequence(1, 3).is_err(), "it was closed");
}

#[test]
fn a_prompt_that_fails_to_come_leaves_its_sequence_as_it_was() {
    let mut bench = Bench::new();
    bench.engine.open_sequence(1).unwrap();
    let prompt = letters("abcdef");
    bench.generate(on(1, &prompt, 1)).unwrap();
    let late = bench.next_id();
    bench.engine.register_generation(late, on(1, &[], 4));
    bench.engine.prepared(late, Err(Error::from_panic(&"a defect")));
    bench.run();
    assert_eq!(bench.result(late).unwrap_err().code(), ErrorCode::Internal);
    let aborted = bench.next_id();
    let doomed = on(1, &[], 4);
    let stop = abort(&doomed);
    bench.engine.register_generation(aborted, doomed);
    stop();
    bench.step();
    assert_eq!(bench.result(aborted).unwrap().finish_reason, FinishReason::Abort);
    bench.engine.prepared(aborted, Ok(Vec::new()));
    assert_eq!(bench.generate(on(1, &prompt, 1)).unwrap().cached_tokens, 5);
}
