//! One segment at a time: the same numbers as generating, and its refusals.

mod toy;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use realm_engine::engine::Limits;
use realm_engine::requests::{LayerRequest, LayerWork};
use realm_engine::{Coded, ErrorCode};
use toy::*;

/// All segments over `tokens` at `position`.
fn forward(bench: &mut Bench, tokens: &[u32], position: usize, sequence: u32) -> Vec<f32> {
    let mut hidden = bench.embed_tokens(tokens).unwrap();
    for layer in 0..N_LAYERS {
        hidden = bench.forward_layer(layer, &hidden, position, sequence).unwrap();
    }
    bench.compute_logits(&hidden).unwrap()
}

#[test]
fn embedding_layers_and_head_give_the_logits_of_the_whole_model() {
    let mut bench = Bench::new();
    // More rows than a batch takes, more outputs than a batch has.
    let tokens = letters("thequickbrownfoxjumps");
    let logits = forward(&mut bench, &tokens, 0, 0);
    for (row, logits) in logits.chunks(N_VOCAB).enumerate() {
        assert_eq!(logits, logits_after(&tokens[..=row]), "row {row}");
    }
    assert!(bench.runs().iter().all(|run| run.rows[0] <= LIMITS.max_rows));
}

#[test]
fn a_sequence_goes_on_where_it_was_and_sequences_do_not_mix() {
    let mut bench = Bench::new();
    let (first, second) = (letters("abcde"), letters("vwxyz"));
    for at in 0..5 {
        for (sequence, tokens) in [(0, &first), (9, &second)] {
            let logits = forward(&mut bench, &tokens[at..=at], at, sequence);
            assert_eq!(logits, logits_after(&tokens[..=at]), "sequence {sequence} at {at}");
        }
    }
}

#[test]
fn a_position_that_was_there_already_is_written_again() {
    let mut bench = Bench::new();
    forward(&mut bench, &letters("abcdefgh"), 0, 0);
    let logits = forward(&mut bench, &letters("xy"), 3, 0);
    assert_eq!(logits[N_VOCAB..], logits_after(&letters("abcxy")));
    let error = bench.forward_layer(0, &[1.0], 6, 0).unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument, "what was behind it is forgotten");
}

#[test]
fn a_layer_that_failed_holds_what_was_before_it() {
    let mut bench = Bench::new();
    forward(&mut bench, &letters("abcdef"), 0, 0);
    bench.hook(|_, _| Err(realm_ir::Error::OutOfMemory { what: "a toy".into(), bytes: 7 }));
    let error = bench.forward_layer(0, &[1.0], 3, 0).unwrap_err();
    assert_eq!(error.code(), ErrorCode::OutOfMemory);
    bench.hook(|_, _| Ok(()));
    let error = bench.forward_layer(0, &[1.0], 5, 0).unwrap_err();
    assert!(error.to_string().contains("holds 3 positions"), "{error}");
}

#[test]
fn a_recurrent_layer_that_failed_holds_nothing() {
    let mut bench = Bench::with(Limits { n_states: 3, ..LIMITS });
    forward(&mut bench, &letters("abc"), 0, 0);
    bench.hook(|_, _| Err(realm_ir::Error::OutOfMemory { what: "a toy".into(), bytes: 7 }));
    let error = bench.forward_layer(0, &[1.0], 3, 0).unwrap_err();
    assert_eq!(error.code(), ErrorCode::OutOfMemory);
    bench.hook(|_, _| Ok(()));
    // Nobody knows how far its state came.
    let error = bench.forward_layer(0, &[1.0], 3, 0).unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
    assert!(error.to_string().contains("holds 0 positions"), "{error}");
    let logits = forward(&mut bench, &letters("xy"), 0, 0);
    assert_eq!(logits[N_VOCAB..], logits_after(&letters("xy")));
}

#[test]
fn a_position_beyond_what_the_layer_holds_is_refused_with_both() {
    let mut bench = Bench::new();
    bench.forward_layer(0, &[1.0, 2.0, 3.0], 0, 4).unwrap();
    let error = bench.forward_layer(1, &[1.0], 3, 4).unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
    let message = error.to_string();
    assert!(
        message.contains("position is 3") && message.contains("layer 1 of sequence 4 holds 0"),
        "{message}"
    );
}

#[test]
fn arguments_out_of_range_are_refused_by_name() {
    let mut bench = Bench::new();
    let error = bench.forward_layer(2, &[1.0], 0, 0).unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
    assert!(error.to_string().contains("layer is 2, the model has 2"), "{error}");
    let error = bench.embed_tokens(&[3, 40]).unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
    assert!(error.to_string().contains("token id 40 at index 1"), "{error}");
    let error = bench.forward_layer(0, &[1.0], usize::MAX, 0).unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
}

#[test]
fn an_id_outside_the_vocabulary_is_named_by_its_place_in_the_whole_call() {
    let mut bench = Bench::new();
    let mut tokens = vec![3; 3 * LIMITS.max_rows];
    tokens[2 * LIMITS.max_rows + 1] = 40;
    let error = bench.embed_tokens(&tokens).unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
    assert!(error.to_string().contains("token id 40 at index 17"), "{error}");
    assert_eq!(bench.runs().len(), 2, "what is before it has run by then");
}

#[test]
fn nothing_in_gives_nothing_out() {
    let mut bench = Bench::new();
    assert!(forward(&mut bench, &[], 0, 0).is_empty());
    assert!(bench.runs().is_empty());
    assert_eq!(bench.engine.n_free_pages(), LIMITS.n_pages);
}

#[test]
fn the_end_of_the_context_and_of_the_cache_leave_the_sequence_unchanged() {
    let limits = Limits { n_pages: 3, ..LIMITS };
    let mut bench = Bench::with(limits);
    forward(&mut bench, &letters("abcdef"), 0, 0);
    for (rows, part) in [(30, "the context takes 32"), (10, "needs 4 pages of 4 tokens and has 2")]
    {
        let hidden = vec![1.0; rows];
        let error = bench.forward_layer(0, &hidden, 6, 0).unwrap_err();
        assert_eq!(error.code(), ErrorCode::KvExhausted);
        assert!(error.to_string().contains(part), "{error}");
    }
    let logits = forward(&mut bench, &letters("g"), 6, 0);
    assert_eq!(logits, logits_after(&letters("abcdefg")));
}

#[test]
fn a_dropped_sequence_frees_its_pages_and_begins_anew() {
    let mut bench = Bench::new();
    forward(&mut bench, &letters("abcdef"), 0, 3);
    assert_eq!(bench.engine.n_free_pages(), LIMITS.n_pages - 2);
    bench.drop_layer_sequence(3);
    bench.drop_layer_sequence(3);
    assert_eq!(bench.engine.n_free_pages(), LIMITS.n_pages);
    assert_eq!(forward(&mut bench, &letters("xy"), 0, 3)[N_VOCAB..], logits_after(&letters("xy")));
}

#[test]
fn layers_between_the_steps_of_a_generation_disturb_neither() {
    let mut bench = Bench::new();
    let id = bench.start(request(&letters("ab"), 6));
    let tokens = letters("vwxyz");
    for at in 0..5 {
        bench.step();
        let logits = forward(&mut bench, &tokens[at..=at], at, 0);
        assert_eq!(logits, logits_after(&tokens[..=at]));
    }
    bench.run();
    assert_eq!(bench.result(id).unwrap().tokens, greedy(&letters("ab"), 6, &[END]));
}

#[test]
fn a_stopped_core_says_disposed() {
    let mut bench = Bench::new();
    bench.stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let error = bench.embed_tokens(&[3]).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Disposed);
}

#[test]
fn a_long_call_takes_turns_with_an_answer_and_is_short_beside_it() {
    let mut bench = Bench::new();
    let id = bench.start(request(&letters("ab"), 12));
    bench.step();
    let tokens = letters("thequickbrownfoxjumps");
    let work = LayerWork::EmbedTokens { tokens, position: 0 };
    let result = bench.start_layers(LayerRequest { work, abort: Arc::default() });
    for _ in 0..3 {
        bench.step();
    }
    assert_eq!(result.recv().unwrap().unwrap().len(), 21);
    let runs = &bench.runs()[1..];
    let rows: Vec<_> = runs.iter().map(|run| (run.segments.len(), run.rows.clone())).collect();
    let (token, part) = ((N_LAYERS + 2, vec![1]), (1, vec![ROWS_BESIDE_DECODING]));
    assert_eq!(rows, [&token, &part, &token, &part, &token, &part].map(Clone::clone));
    bench.run();
    assert_eq!(bench.result(id).unwrap().tokens, greedy(&letters("ab"), 12, &[END]));
}

#[test]
fn an_aborted_call_ends_within_one_step_and_those_behind_it_have_their_turn() {
    let mut bench = Bench::new();
    let abort = Arc::new(AtomicBool::new(false));
    let hidden = vec![1.0; 30];
    let work = LayerWork::Forward { layer: 0, hidden, position: 0, sequence: 1 };
    let doomed = bench.start_layers(LayerRequest { work, abort: abort.clone() });
    let work = LayerWork::Forward { layer: 0, hidden: vec![2.0], position: 8, sequence: 1 };
    let next = bench.start_layers(LayerRequest { work, abort: Arc::default() });
    bench.step();
    abort.store(true, Ordering::Release);
    bench.step();
    assert_eq!(doomed.recv().unwrap().unwrap_err().code(), ErrorCode::Aborted);
    let row = next.recv().unwrap().unwrap();
    let inputs = [[1; 8].as_slice(), &[2]].concat();
    assert_eq!(row, first_layer(&inputs)[8..], "it goes on behind the part that was run");
}

#[test]
fn a_call_waits_for_pages_that_others_will_free() {
    let limits = Limits { n_pages: 8, ..LIMITS };
    let mut bench = Bench::with(limits);
    let id = bench.start(request(&letters("abcdefghijklmnopqrst"), 8));
    bench.step();
    let row = bench.forward_layer(0, &[3.0; 16], 0, 1).unwrap();
    assert_eq!(row, first_layer(&[3; 16]));
    bench.run();
    assert_eq!(bench.result(id).unwrap().tokens.len(), 8);
}
