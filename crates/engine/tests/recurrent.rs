//! Sequences with a recurrent state: one of its own each, never cut back.

mod toy;

use realm_engine::engine::Limits;
use realm_engine::requests::GenerationRequest;
use realm_engine::{Coded, ErrorCode};
use toy::*;

const RECURRENT: Limits = Limits { n_states: 3, ..LIMITS };

fn on(sequence: u32, prompt: &[u32], n: usize) -> GenerationRequest {
    GenerationRequest { sequence: Some(sequence), ..request(prompt, n) }
}

#[test]
fn more_generations_than_states_take_turns_and_answer_the_same() {
    let mut bench = Bench::with(RECURRENT);
    let prompts: Vec<_> = ["abc", "defg", "hi", "jklmno", "p"].map(letters).to_vec();
    let ids: Vec<_> = prompts.iter().map(|prompt| bench.start(request(prompt, 5))).collect();
    bench.run();
    for (id, prompt) in ids.into_iter().zip(&prompts) {
        assert_eq!(bench.result(id).unwrap().tokens, greedy(prompt, 5, &[END]));
    }
}

#[test]
fn a_kept_sequence_goes_on_but_never_back() {
    let mut bench = Bench::with(RECURRENT);
    bench.engine.open_sequence(1).unwrap();
    let prompt = letters("abcdef");
    let first = bench.generate(on(1, &prompt, 4)).unwrap();
    let mut longer = prompt.clone();
    longer.extend(&first.tokens);
    longer.extend(letters("gh"));
    let second = bench.generate(on(1, &longer, 3)).unwrap();
    assert_eq!(second.cached_tokens, prompt.len() + 3);
    assert_eq!(second.tokens, greedy(&longer, 3, &[END]));

    let changed = letters("abcxyz");
    let third = bench.generate(on(1, &changed, 3)).unwrap();
    assert_eq!(third.cached_tokens, 0, "the state cannot go back to the common prefix");
    assert_eq!(third.tokens, greedy(&changed, 3, &[END]));
}

#[test]
fn a_fork_has_a_state_of_its_own_and_is_read_again_where_none_was_free() {
    let mut bench = Bench::with(RECURRENT);
    bench.engine.open_sequence(1).unwrap();
    bench.generate(on(1, &letters("abcdef"), 1)).unwrap();
    bench.engine.fork_sequence(1, 2).unwrap();
    let (left, right) = (letters("abcdefg"), letters("abcdefx"));
    let ids = [bench.start(on(1, &left, 6)), bench.start(on(2, &right, 6))];
    bench.run();
    for (id, prompt) in ids.into_iter().zip([left, right]) {
        let answer = bench.result(id).unwrap();
        assert_eq!(answer.cached_tokens, 6);
        assert_eq!(answer.tokens, greedy(&prompt, 6, &[END]));
    }
    bench.engine.fork_sequence(1, 3).unwrap();
    assert_eq!(bench.engine.n_free_states(), 0);
    bench.engine.fork_sequence(1, 4).unwrap();
    let prompt = letters("abcdefgh");
    let answer = bench.generate(on(4, &prompt, 3)).unwrap();
    assert_eq!(answer.cached_tokens, 0, "no state was free: it is read again");
    assert_eq!(answer.tokens, greedy(&prompt, 3, &[END]));
    bench.engine.close_sequence(3).unwrap();
    bench.engine.fork_sequence(4, 5).unwrap();
    let longer = [prompt, answer.tokens, letters("z")].concat();
    assert_eq!(bench.generate(on(5, &longer, 3)).unwrap().cached_tokens, 10);
}

#[test]
fn a_batch_given_up_forgets_the_whole_sequence() {
    let mut bench = Bench::with(RECURRENT);
    bench.engine.open_sequence(1).unwrap();
    let prompt = letters("abcdef");
    bench.generate(on(1, &prompt, 2)).unwrap();
    bench.observer.lock().unwrap().hook = Some(Box::new(|_, _| Err(realm_ir::Error::Interrupted)));
    let mut longer = prompt.clone();
    longer.extend(letters("zz"));
    let id = bench.start(on(1, &longer, 2));
    bench.step();
    bench.observer.lock().unwrap().hook = None;
    bench.run();
    assert_eq!(bench.result(id).unwrap().tokens, greedy(&longer, 2, &[END]));
}

#[test]
fn layers_of_a_recurrent_model_go_on_or_start_again() {
    let mut bench = Bench::with(RECURRENT);
    let mut run =
        |rows: usize, position: usize| bench.forward_layer(0, &vec![5.0; rows], position, 9);
    run(3, 0).unwrap();
    run(2, 3).unwrap();
    let error = run(1, 2).unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
    assert!(error.to_string().contains("expected 5 or 0"), "{error}");
    run(2, 0).unwrap();
    run(1, 2).unwrap();
}

#[test]
fn one_state_is_enough_for_any_number_of_kept_sequences_and_requests() {
    let mut bench = Bench::with(Limits { n_states: 1, ..LIMITS });
    let prompts = ["abc", "defg", "hi"].map(letters);
    for round in 0..2 {
        for id in 0..3 {
            if round == 0 {
                bench.engine.open_sequence(id).unwrap();
            }
        }
        let ids: Vec<_> = (0..3).map(|id| bench.start(on(id, &prompts[id as usize], 4))).collect();
        bench.run();
        for (id, prompt) in ids.into_iter().zip(&prompts) {
            assert_eq!(bench.result(id).unwrap().tokens, greedy(prompt, 4, &[END]));
        }
    }
}

#[test]
fn a_state_that_nobody_gives_back_is_named_in_the_refusal() {
    let mut bench = Bench::with(Limits { n_states: 1, ..LIMITS });
    bench.forward_layer(0, &[5.0], 0, 9).unwrap();
    for error in [
        bench.generate(request(&letters("ab"), 3)).unwrap_err().to_string(),
        bench.forward_layer(0, &[5.0], 0, 8).unwrap_err().to_string(),
    ] {
        assert!(error.contains("all recurrent states are in use"), "{error}");
        assert!(error.contains("0 of 1 are free") && !error.contains("pages"), "{error}");
        let remedy =
            "sequences of forwardLayer hold 1 of the states: free them with dropLayerSequence";
        assert!(error.contains(remedy), "{error}");
    }
    bench.drop_layer_sequence(9);
    bench.generate(request(&letters("ab"), 3)).unwrap();
}
