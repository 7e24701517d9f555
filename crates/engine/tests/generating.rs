//! One generation at a time: text, tokens, and every way to end.

mod toy;

use realm_engine::requests::{Event, FinishReason, GenerationRequest};
use realm_engine::{Coded, ErrorCode, SamplingOptions};
use realm_ir::Error as IrError;
use toy::*;

#[test]
fn a_greedy_answer_is_the_best_token_after_the_whole_history() {
    let mut bench = Bench::new();
    let prompt = letters("onceupon");
    let answer = bench.generate(request(&prompt, 12)).unwrap();
    assert_eq!(answer.tokens, greedy(&prompt, 12, &[END]));
    assert_eq!(answer.finish_reason, FinishReason::Length);
    assert_eq!((answer.prompt_tokens, answer.cached_tokens), (8, 0));
    assert_eq!(bench.engine.n_free_pages(), LIMITS.n_pages, "all pages are free again");
}

#[test]
fn a_long_prompt_is_read_in_batches_and_the_answer_is_the_same() {
    let prompt = letters("thequickbrownfoxjumps");
    let mut bench = Bench::new();
    let answer = bench.generate(request(&prompt, 3)).unwrap();
    assert_eq!(answer.tokens, greedy(&prompt, 3, &[END]));
    let rows: Vec<usize> = bench.runs().iter().map(|run| run.rows[0]).collect();
    assert_eq!(rows, [8, 8, 5, 1, 1]);
    let outputs: Vec<usize> = bench.runs().iter().map(|run| run.n_outputs).collect();
    assert_eq!(outputs, [0, 0, 1, 1, 1], "logits only where a token follows");
}

#[test]
fn an_end_token_stops_and_is_in_neither_text_nor_tokens() {
    let mut bench = Bench::new();
    let start = GenerationRequest { ignore_eos: false, ..request(&letters("ab"), 10) };
    bench.bias(END, 100.0);
    let answer = bench.generate(start).unwrap();
    assert_eq!(answer.finish_reason, FinishReason::Stop);
    assert_eq!((answer.text.as_str(), answer.tokens.len()), ("", 0));
}

#[test]
fn end_tokens_wait_for_min_tokens_and_never_come_with_ignore_eos() {
    let prompt = letters("ab");
    let mut bench = Bench::new();
    bench.bias(END, 100.0);
    let min = GenerationRequest { ignore_eos: false, min_tokens: 3, ..request(&prompt, 10) };
    let answer = bench.generate(min).unwrap();
    assert_eq!(answer.tokens, greedy(&prompt, 3, &[END]));
    assert_eq!(answer.finish_reason, FinishReason::Stop);
    let answer = bench.generate(request(&prompt, 10)).unwrap();
    assert_eq!(answer.tokens, greedy(&prompt, 10, &[END]));
    assert_eq!(answer.finish_reason, FinishReason::Length);
}

#[test]
fn a_stop_string_ends_nothing_before_min_tokens_and_may_have_begun_there() {
    let prompt = letters("ab");
    let script = letters("xyzxyzxyz");
    let told = |min_tokens, stop: &[&str]| {
        let mut bench = Bench::new();
        bench.script(&script);
        let start = GenerationRequest { min_tokens, stop: stops(stop), ..request(&prompt, 9) };
        let answer = bench.generate(start).unwrap();
        (answer.text, answer.tokens.len(), answer.stop_text)
    };
    let ended = |text: &str, n_tokens, stop: &str| (text.into(), n_tokens, Some(stop.into()));
    assert_eq!(told(0, &["yz"]), ended("x", 3, "yz"));
    assert_eq!(told(3, &["yz"]), ended("x", 3, "yz"), "it is complete with the third token");
    assert_eq!(told(4, &["yz"]), ended("xyzx", 6, "yz"));
    assert_eq!(told(4, &["yzx"]), ended("x", 4, "yzx"));
    assert_eq!(told(9, &["xyz"]), ended("xyzxyz", 9, "xyz"));
    assert_eq!(told(10, &["xyz"]), ("xyzxyzxyz".into(), 9, None));
}

#[test]
fn tokens_that_the_vocabulary_suppresses_are_never_chosen() {
    let prompt = letters("ab");
    let best = greedy(&prompt, 1, &[END])[0];
    let mut bench = Bench::suppressing(vec![best]);
    let answer = bench.generate(request(&prompt, 10)).unwrap();
    assert_eq!(answer.tokens, greedy(&prompt, 10, &[END, best]));
    let start = GenerationRequest { ignore_eos: false, ..request(&prompt, 10) };
    bench.bias(END, 100.0);
    assert_eq!(bench.generate(start).unwrap().finish_reason, FinishReason::Stop);
}

#[test]
fn the_context_ends_an_answer_with_length() {
    let prompt = letters("abcdefghijklmnopqrstuvwxyz");
    let mut bench = Bench::new();
    let answer = bench.generate(request(&prompt, usize::MAX)).unwrap();
    assert_eq!(answer.tokens.len(), LIMITS.context_length - prompt.len());
    assert_eq!(answer.finish_reason, FinishReason::Length);
}

#[test]
fn a_prompt_that_leaves_no_room_is_refused_with_both_numbers() {
    let mut bench = Bench::new();
    let error = bench.generate(request(&[5; 32], 1)).unwrap_err();
    assert_eq!(error.code(), ErrorCode::KvExhausted);
    let message = error.to_string();
    assert!(message.contains("32 tokens") && message.contains("takes 32"), "{message}");
    assert_eq!(bench.generate(request(&[5; 31], 9)).unwrap().tokens.len(), 1);
}

#[test]
fn no_tokens_asked_for_reads_the_prompt_and_samples_nothing() {
    let mut bench = Bench::new();
    let answer = bench.generate(request(&letters("abc"), 0)).unwrap();
    assert_eq!((answer.tokens.len(), answer.finish_reason), (0, FinishReason::Length));
    assert_eq!(bench.runs()[0].rows, [3]);
}

#[test]
fn requests_without_a_meaning_are_refused_and_run_nothing() {
    let mut bench = Bench::new();
    let good = request(&letters("abc"), 5);
    let hot = SamplingOptions { temperature: -1.0, ..SamplingOptions::default() };
    for (bad, part) in [
        (GenerationRequest { prompt: Vec::new(), ..good.clone() }, "no tokens"),
        (GenerationRequest { prompt: vec![3, 40], ..good.clone() }, "token id 40 at index 1"),
        (GenerationRequest { sampling: hot, ..good.clone() }, "temperature is -1"),
        (GenerationRequest { sequence: Some(7), ..good.clone() }, "sequence 7 is not open"),
    ] {
        let error = bench.generate(bad).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidArgument);
        assert!(error.to_string().contains(part), "{error}");
    }
    assert!(bench.runs().is_empty());
}

#[test]
fn a_stop_string_over_several_tokens_ends_the_answer_before_it() {
    let mut bench = Bench::new();
    bench.script(&letters("helloworldandmore"));
    let stop = stops(&["never", "world"]);
    let answer = bench.generate(GenerationRequest { stop, ..request(&letters("ab"), 20) }).unwrap();
    assert_eq!(answer.text, "hello");
    assert_eq!(answer.finish_reason, FinishReason::Stop);
    assert_eq!(answer.stop_text.as_deref(), Some("world"));
    assert_eq!(answer.tokens, letters("helloworld"), "tokens that were chosen stay");
}

#[test]
fn the_beginning_of_a_stop_string_comes_out_when_it_does_not_become_one() {
    let mut bench = Bench::new();
    bench.script(&letters("oneworxwor"));
    let stop = stops(&["world"]);
    let answer = bench.generate(GenerationRequest { stop, ..request(&letters("ab"), 10) }).unwrap();
    assert_eq!((answer.text.as_str(), answer.stop_text), ("oneworxwor", None));
    let texts: Vec<String> = chunks(&bench).into_iter().map(|chunk| chunk.0).collect();
    assert_eq!(texts, ["o", "n", "e", "", "", "", "worx", "", "", "wor"]);
}

#[test]
fn a_code_point_over_two_tokens_comes_out_whole() {
    let mut bench = Bench::new();
    let [first, second] = E_ACUTE;
    bench.script(&[letter('a'), first, second, letter('b')]);
    let answer = bench.generate(request(&letters("ab"), 4)).unwrap();
    assert_eq!(answer.text, "a\u{e9}b");
    let texts: Vec<(String, usize)> = chunks(&bench);
    let texts: Vec<(&str, usize)> = texts.iter().map(|(text, n)| (text.as_str(), *n)).collect();
    assert_eq!(texts, [("a", 1), ("", 1), ("\u{e9}", 1), ("b", 1)]);
}

#[test]
fn a_code_point_that_stays_unfinished_ends_as_a_replacement_character() {
    let mut bench = Bench::new();
    bench.script(&[letter('a'), E_ACUTE[0], END]);
    let start = GenerationRequest { ignore_eos: false, ..request(&letters("ab"), 9) };
    let answer = bench.generate(start).unwrap();
    assert_eq!((answer.text.as_str(), answer.tokens.len()), ("a\u{fffd}", 2));
}

/// Text and number of tokens of every chunk.
fn chunks(bench: &Bench) -> Vec<(String, usize)> {
    let chunk = |event: &Event| match event {
        Event::Chunk(chunk) => Some((chunk.text.clone(), chunk.tokens.len())),
        _ => None,
    };
    bench.events.iter().filter_map(|(_, event)| chunk(event)).collect()
}

#[test]
fn an_echo_puts_the_prompt_in_front_of_the_answer() {
    let mut bench = Bench::new();
    bench.script(&letters("xyz"));
    let start = GenerationRequest { echo: Some("ab".into()), ..request(&letters("ab"), 3) };
    let answer = bench.generate(start).unwrap();
    assert_eq!((answer.text.as_str(), answer.tokens), ("abxyz", letters("xyz")));
}

#[test]
fn an_aborted_generation_ends_with_what_it_has() {
    let mut bench = Bench::new();
    bench.script(&letters("helloworld"));
    let start = request(&letters("ab"), 10);
    let stop = abort(&start);
    let id = bench.start(start);
    for _ in 0..3 {
        bench.step();
    }
    stop();
    bench.run();
    let answer = bench.result(id).unwrap();
    assert_eq!((answer.text.as_str(), answer.finish_reason), ("hel", FinishReason::Abort));
    assert_eq!(bench.engine.n_free_pages(), LIMITS.n_pages);
}

#[test]
fn a_generation_that_is_aborted_before_it_starts_runs_nothing() {
    let mut bench = Bench::new();
    let start = request(&letters("ab"), 10);
    abort(&start)();
    assert_eq!(bench.generate(start).unwrap().finish_reason, FinishReason::Abort);
    assert!(bench.runs().is_empty());
}

#[test]
fn an_abort_takes_effect_in_the_middle_of_a_prompt() {
    let mut bench = Bench::new();
    let start = request(&letters("thequickbrownfoxjumps"), 10);
    let stop = abort(&start);
    let mut n_runs = 0;
    bench.hook(move |_, _| {
        n_runs += 1;
        if n_runs == 2 {
            stop(); // in the middle of the second of three batches
        }
        Ok(())
    });
    let answer = bench.generate(start).unwrap();
    assert_eq!((answer.tokens.len(), answer.finish_reason), (0, FinishReason::Abort));
    assert_eq!(bench.runs().len(), 2);
    assert_eq!(bench.engine.n_free_pages(), LIMITS.n_pages);
}

#[test]
fn an_error_of_the_backend_ends_the_generation_with_its_code() {
    let mut bench = Bench::new();
    bench.hook(|_, _| Err(IrError::OutOfMemory { what: "a toy".into(), bytes: 7 }));
    let error = bench.generate(request(&letters("ab"), 5)).unwrap_err();
    assert_eq!(error.code(), ErrorCode::OutOfMemory);
    assert_eq!(bench.engine.n_free_pages(), LIMITS.n_pages);
}

#[test]
fn logits_that_are_no_numbers_end_the_generation_with_an_internal_error() {
    let mut bench = Bench::new();
    bench.bias(7, f32::NAN);
    let error = bench.generate(request(&letters("ab"), 5)).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Internal);
    assert!(error.to_string().contains("token 7"), "{error}");
}
