//! The chain against a naive one that sorts everything.

use proptest::prelude::*;

use super::candidates::Candidates;
use super::*;

/// What the filters should leave, by a full sort in f64.
fn naive_filter(logits: &[f32], top_k: usize, top_p: f64, min_p: f64) -> Vec<u32> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|a, b| logits[*b].partial_cmp(&logits[*a]).unwrap().then(a.cmp(b)));
    if top_k > 0 {
        order.truncate(top_k);
    }
    let best = f64::from(logits[order[0]]);
    let weight = |token: &usize| (f64::from(logits[*token]) - best).exp();
    let sum: f64 = order.iter().map(weight).sum();
    if top_p < 1.0 {
        let mut mass = 0.0;
        let mut kept = Vec::new();
        for token in order {
            kept.push(token);
            mass += weight(&token) / sum;
            if mass >= top_p {
                break;
            }
        }
        order = kept;
    }
    order.retain(|token| weight(token) >= min_p);
    let mut tokens: Vec<u32> = order.into_iter().map(|token| token as u32).collect();
    tokens.sort_unstable();
    tokens
}

fn filter(logits: &[f32], top_k: usize, top_p: f32, min_p: f32) -> Vec<u32> {
    let mut candidates = Candidates::default();
    candidates.fill(logits);
    if top_k > 0 {
        candidates.keep_top_k(top_k);
    }
    if top_p < 1.0 {
        candidates.keep_top_p(top_p);
    }
    if min_p > 0.0 {
        candidates.keep_min_p(min_p);
    }
    let mut tokens: Vec<u32> = candidates.as_slice().iter().map(|c| c.token).collect();
    tokens.sort_unstable();
    tokens
}

/// Logits in steps of 1/8, so that ties occur and thresholds are not hit by rounding alone.
fn logits() -> impl Strategy<Value = Vec<f32>> {
    proptest::collection::vec((-80i32..80).prop_map(|x| x as f32 / 8.0), 1..700)
}

proptest! {
    #[test]
    fn filters_keep_what_a_full_sort_keeps(
        logits in logits(),
        top_k in 0usize..300,
        // Odd fractions: sums of exponentials of eighths do not come to rest on them.
        top_p in (0u32..10_000).prop_map(|x| (x as f32 + 0.437) / 10_000.0),
        min_p in (0u32..1_000).prop_map(|x| (x as f32 + 0.437) / 1_000.0),
    ) {
        prop_assert_eq!(
            filter(&logits, top_k, top_p, min_p),
            naive_filter(&logits, top_k, f64::from(top_p), f64::from(min_p))
        );
        prop_assert_eq!(
            filter(&logits, 0, top_p, 0.0),
            naive_filter(&logits, 0, f64::from(top_p), 0.0)
        );
    }

    #[test]
    fn a_temperature_of_zero_takes_the_first_of_the_best(logits in logits()) {
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let want = logits.iter().position(|l| *l == highest).unwrap() as u32;
        let got = Sampler::new(SamplingOptions::default())
            .sample(&mut logits.clone(), &[], &[])
            .unwrap();
        prop_assert_eq!(got, want);
    }

    #[test]
    fn the_best_logits_are_chosen_from_as_all_are(
        logits in logits(),
        holes in proptest::collection::vec(0usize..700, 0..300),
        greedy: bool,
        top_k in 1u32..40,
        top_p in 0.1f32..1.0,
        seed: u64,
        forbidden in proptest::collection::vec(0u32..700, 0..3),
    ) {
        let mut logits = logits;
        for hole in holes.into_iter().filter(|hole| *hole > 0) {
            if let Some(logit) = logits.get_mut(hole) {
                *logit = f32::NEG_INFINITY;
            }
        }
        let temperature = if greedy { 0.0 } else { 0.8 };
        let options = SamplingOptions { temperature, top_k, top_p, seed, ..Default::default() };
        let (mut all, mut best) = (Sampler::new(options.clone()), Sampler::new(options));
        let mut top: Vec<Top> = (0..).zip(&logits).map(|(column, l)| Top { column, value: *l }).collect();
        top.sort_by(|a, b| b.value.partial_cmp(&a.value).unwrap());
        top.truncate(best.n_enough(forbidden.len()).unwrap());
        for _ in 0..5 {
            let wanted = all.sample(&mut logits.clone(), &[], &forbidden);
            let got = best.sample_best(&top, &forbidden);
            prop_assert_eq!(got.map_err(|e| e.to_string()), wanted.map_err(|e| e.to_string()));
        }
    }

    #[test]
    fn a_token_that_was_filtered_out_is_never_drawn(
        logits in logits(), seed: u64, top_k in 1u32..20, temperature in 0.1f32..5.0,
    ) {
        let options = SamplingOptions { temperature, top_k, seed, ..SamplingOptions::default() };
        let kept = naive_filter(&logits, top_k as usize, 1.0, 0.0);
        let mut sampler = Sampler::new(options);
        for _ in 0..20 {
            let token = sampler.sample(&mut logits.clone(), &[], &[]).unwrap();
            prop_assert!(kept.contains(&token));
        }
    }
}

#[test]
fn draws_follow_the_softmax_at_the_given_temperature() {
    let logits = [1.0f32, 2.0, 0.0, -1.0];
    let temperature = 0.7f32;
    let weights: Vec<f64> =
        logits.iter().map(|l| (f64::from(*l) / f64::from(temperature)).exp()).collect();
    let sum: f64 = weights.iter().sum();
    let options = SamplingOptions { temperature, seed: 7, ..SamplingOptions::default() };
    let mut sampler = Sampler::new(options);
    let draws = 200_000;
    let mut counts = [0u32; 4];
    for _ in 0..draws {
        counts[sampler.sample(&mut logits.clone(), &[], &[]).unwrap() as usize] += 1;
    }
    for (count, weight) in counts.iter().zip(&weights) {
        let share = f64::from(*count) / f64::from(draws);
        // Four standard deviations of a share of 0.5.
        assert!((share - weight / sum).abs() < 0.0045, "{share} of draws, {}", weight / sum);
    }
}

#[test]
fn the_same_seed_draws_the_same_tokens_and_another_seed_others() {
    let logits: Vec<f32> = (0..1000).map(|i| (i % 7) as f32 / 7.0).collect();
    let draw = |seed| -> Vec<u32> {
        let options = SamplingOptions { temperature: 1.0, seed, ..SamplingOptions::default() };
        let mut sampler = Sampler::new(options);
        (0..20).map(|_| sampler.sample(&mut logits.clone(), &[], &[]).unwrap()).collect()
    };
    assert_eq!(draw(42), draw(42));
    assert_ne!(draw(42), draw(43));
}

#[test]
fn the_repeat_penalty_lowers_recent_tokens_of_either_sign_once() {
    let sample = |logits: &[f32], history: &[u32], last_n| {
        let options = SamplingOptions {
            repeat_penalty: 2.0,
            repeat_last_n: last_n,
            ..SamplingOptions::default()
        };
        Sampler::new(options).sample(&mut logits.to_vec(), history, &[]).unwrap()
    };
    assert_eq!(sample(&[4.0, 3.0], &[0], 8), 1, "4 / 2 is below 3");
    assert_eq!(sample(&[4.0, 1.5], &[0, 0, 0], 8), 0, "penalised once, not three times");
    assert_eq!(sample(&[-1.0, -1.5], &[0], 8), 1, "-1 * 2 is below -1.5");
    assert_eq!(sample(&[4.0, 3.0], &[0, 1], 1), 0, "only the last token counts");
    assert_eq!(sample(&[4.0, 3.0], &[0], 0), 0, "no token counts");
}

#[test]
fn a_forbidden_token_is_not_chosen_even_if_it_is_the_best() {
    let mut sampler = Sampler::new(SamplingOptions::default());
    assert_eq!(sampler.sample(&mut [9.0, 1.0, 2.0], &[], &[0, 77]).unwrap(), 2);
}

#[test]
fn logits_that_are_no_numbers_are_an_error_that_names_the_token() {
    let mut sampler = Sampler::new(SamplingOptions::default());
    for bad in [f32::NAN, f32::INFINITY] {
        let error = sampler.sample(&mut [0.0, bad], &[], &[]).unwrap_err();
        assert!(error.to_string().contains("logit of token 1"), "{error}");
    }
    let error = sampler.sample(&mut [f32::NEG_INFINITY; 3], &[], &[]).unwrap_err();
    assert!(error.to_string().contains("no token can be chosen"), "{error}");
}

#[test]
fn some_logits_are_enough_only_where_the_rest_cannot_matter() {
    let greedy = SamplingOptions::default();
    let n_enough = |options: SamplingOptions| Sampler::new(options).n_enough(2);
    assert_eq!(n_enough(greedy.clone()), Some(3));
    assert_eq!(n_enough(SamplingOptions { repeat_penalty: 1.1, ..greedy.clone() }), None);
    let drawing = SamplingOptions { temperature: 1.0, ..greedy };
    assert_eq!(n_enough(drawing.clone()), None);
    assert_eq!(n_enough(SamplingOptions { top_k: 40, ..drawing }), Some(43));
    let mut sampler = Sampler::new(SamplingOptions::default());
    let error = sampler.sample_best(&[Top { column: 9, value: f32::NAN }], &[]).unwrap_err();
    assert!(error.to_string().contains("logit of token 9"), "{error}");
}

#[test]
fn more_logits_than_can_be_counted_are_all_of_them() {
    let greedy = Sampler::new(SamplingOptions::default());
    assert_eq!(greedy.n_enough(usize::MAX), Some(usize::MAX));
    // In 32 bits, top-k alone may leave no room for one more.
    let options = SamplingOptions { temperature: 1.0, top_k: u32::MAX, ..Default::default() };
    let drawing = Sampler::new(options);
    assert_eq!(drawing.n_enough(usize::MAX - 1), Some(usize::MAX));
    assert!(drawing.n_enough(2) >= Some(u32::MAX as usize));
}

#[test]
fn extreme_penalties_and_temperatures_still_choose_a_token() {
    let options = SamplingOptions {
        temperature: 1e-30,
        repeat_penalty: f32::MIN_POSITIVE,
        ..SamplingOptions::default()
    };
    let mut sampler = Sampler::new(options);
    assert_eq!(sampler.sample(&mut [3e30, -3e30, 1.0], &[0, 1], &[]).unwrap(), 0);
}

#[test]
fn options_without_a_meaning_are_refused_by_name() {
    let greedy = SamplingOptions::default();
    greedy.check().unwrap();
    for (name, options) in [
        ("temperature", SamplingOptions { temperature: -1.0, ..greedy.clone() }),
        ("temperature", SamplingOptions { temperature: f32::NAN, ..greedy.clone() }),
        ("topP", SamplingOptions { top_p: 1.5, ..greedy.clone() }),
        ("minP", SamplingOptions { min_p: -0.1, ..greedy.clone() }),
        ("repeatPenalty", SamplingOptions { repeat_penalty: 0.0, ..greedy.clone() }),
    ] {
        let error = options.check().unwrap_err().to_string();
        assert!(error.starts_with(name), "{error}");
    }
}
