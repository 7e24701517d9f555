//! Every family through the engine: what it answers does not depend on how its rows were cut
//! into batches.

mod support;

use std::sync::{Arc, Mutex};

use realm_engine::model::{ModelHandle, wait};
use realm_engine::{Coded, ErrorCode, LoadOptions, Pooling, Prompt};
use realm_gguf::Gguf;
use realm_testkit::families::{self, Family};
use support::*;

/// More rows than any family has columns of a window or a convolution, in no multiple of a page.
const N_TOKENS: usize = 75;

fn tokens() -> Vec<u32> {
    families::PROMPT.iter().copied().cycle().take(N_TOKENS).collect()
}

fn load(family: &Family, batch_rows: usize) -> ModelHandle {
    let disturbance = Disturbance { batch_rows: Some(batch_rows), ..Disturbance::default() };
    let options = LoadOptions::default();
    load_disturbed(family.clone().with_tokens().file(), &options, Arc::new(Mutex::new(disturbance)))
}

fn is_encoder(family: &Family) -> bool {
    let gguf = Gguf::from_bytes(family.file()).unwrap();
    realm_model::build(&gguf, N_TOKENS).unwrap().embedding.is_encoder
}

/// What the embedding, every layer and the head, if there is one, leave for `tokens` from position `at` on.
fn segments(model: &ModelHandle, tokens: &[u32], at: usize, has_logits: bool) -> Vec<Vec<f32>> {
    let mut rows = vec![wait(|reply| model.embed_tokens(tokens.to_vec(), at, reply)).unwrap()];
    for layer in 0..model.info().unwrap().n_layers {
        let hidden = rows[layer].clone();
        rows.push(wait(|reply| model.forward_layer(layer, hidden, at, 0, reply)).unwrap());
    }
    if has_logits {
        let hidden = rows[rows.len() - 1].clone();
        rows.push(wait(|reply| model.compute_logits(hidden, reply)).unwrap());
    }
    rows
}

#[test]
fn layers_one_by_one_give_the_same_bits_however_many_rows_a_batch_has() {
    for family in families::all() {
        let (name, has_logits) = (family.name(), !is_encoder(&family));
        let whole = segments(&load(&family, 256), &tokens(), 0, has_logits);
        let parts = segments(&load(&family, 7), &tokens(), 0, has_logits);
        for (segment, (whole, parts)) in whole.iter().zip(&parts).enumerate() {
            assert!(whole == parts, "{name}: segment {segment}");
        }
    }
}

#[test]
fn a_prompt_goes_on_at_its_position_with_the_bits_of_the_whole() {
    for family in families::all().into_iter().filter(|family| !is_encoder(family)) {
        let (name, model, tokens) = (family.name(), load(&family, 256), tokens());
        let whole = segments(&model, &tokens, 0, true);
        // The last part is a single token, as when generating.
        let bounds = [0, 40, N_TOKENS - 1, N_TOKENS];
        let mut rows_before = 0;
        for part in bounds.windows(2) {
            let rows = segments(&model, &tokens[part[0]..part[1]], part[0], true);
            for (segment, (whole, rows)) in whole.iter().zip(&rows).enumerate() {
                let width = whole.len() / N_TOKENS;
                let own = &whole[rows_before * width..][..rows.len()];
                assert!(own == rows, "{name}: segment {segment} of {part:?}");
            }
            rows_before = part[1];
        }
    }
}

#[test]
fn positions_that_the_context_has_not_are_refused_where_they_are_looked_up() {
    let embed = |family: &Family, position: usize| {
        let model = load(family, 256);
        wait(|reply| model.embed_tokens(vec![1, 2], position, reply))
    };
    let all = families::all();
    let named = |name: &str| all.iter().find(|family| family.name() == name).unwrap();
    for position in [255, usize::MAX] {
        let error = embed(named("gpt2"), position).unwrap_err();
        assert_eq!(error.code(), ErrorCode::KvExhausted, "{error}");
        assert!(error.to_string().contains("the context takes 256"), "{error}");
        embed(named("llama"), position).unwrap();
    }
    embed(named("gpt2"), 254).unwrap();
}

#[test]
fn texts_have_the_same_vectors_however_many_rows_a_batch_has() {
    for family in families::all() {
        let name = family.name();
        let vectors = |batch_rows: usize| {
            let model = load(&family, batch_rows);
            let texts: Vec<_> =
                [N_TOKENS, 3, 20].map(|n| Prompt::Tokens(tokens()[..n].to_vec())).to_vec();
            wait(|reply| model.embed(texts, Some(Pooling::None), false, reply)).unwrap()
        };
        assert!(vectors(256) == vectors(7), "{name}");
    }
}
