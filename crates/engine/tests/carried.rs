//! The kit's Gemma 4 through the layer-level calls: its rows carry the inputs of later
//! layers behind the hidden state, and its last layers read keys and values of others.
//! And a random Gemma 3n, whose layers also change what they carry.

mod support;

use std::sync::Arc;

use realm_engine::model::{ModelHandle, Source, wait};
use realm_engine::{Coded, Error, ErrorCode, LoadOptions};
use realm_testkit::{gemma3n, kit};
use support::*;

const EMBEDDING: usize = 64;
const N_LAYERS: usize = 6;
const PER_LAYER: usize = 16;
const HIDDEN: usize = EMBEDDING + N_LAYERS * PER_LAYER;

fn gemma4() -> ModelHandle {
    load(kit::read_maybe_gz("models/gemma4/model.gguf.gz"))
}

fn load(bytes: Vec<u8>) -> ModelHandle {
    let cancel = std::sync::atomic::AtomicBool::new(false);
    let watcher =
        realm_engine::load::Watcher { progress: &mut |_| (), cancel: &cancel, pause: None };
    let backends = [choice(Arc::default())];
    ModelHandle::load(
        Source::Bytes(vec![bytes.into()]),
        &LoadOptions::default(),
        &backends,
        watcher,
    )
    .unwrap()
}

fn embed(model: &ModelHandle, tokens: &[u32]) -> Vec<f32> {
    wait(|reply| model.embed_tokens(tokens.to_vec(), 0, reply)).unwrap()
}

fn forward(model: &ModelHandle, layer: usize, rows: &[f32], at: usize) -> Result<Vec<f32>, Error> {
    wait(|reply| model.forward_layer(layer, rows.to_vec(), at, 1, reply))
}

/// Logits of `tokens` from position `at` on.
fn logits(model: &ModelHandle, tokens: &[u32], at: usize) -> Vec<f32> {
    let mut rows = embed(model, tokens);
    for layer in 0..model.info().unwrap().n_layers {
        rows = forward(model, layer, &rows, at).unwrap();
    }
    wait(|reply| model.compute_logits(rows, reply)).unwrap()
}

#[test]
fn rows_are_as_wide_as_the_model_says_and_layers_hand_on_what_they_carry() {
    let model = gemma4();
    let info = model.info().unwrap();
    assert_eq!((info.embedding_length, info.hidden_size), (EMBEDDING, HIDDEN));
    let rows = embed(&model, &[5, 9, 60]);
    assert_eq!(rows.len(), 3 * HIDDEN);
    let after = forward(&model, 0, &rows, 0).unwrap();
    for (before, after) in rows.chunks(HIDDEN).zip(after.chunks(HIDDEN)) {
        assert!(before[..EMBEDDING] != after[..EMBEDDING]);
        assert!(before[EMBEDDING..] == after[EMBEDDING..]);
    }
    let error = forward(&model, 0, &rows[..EMBEDDING], 0).unwrap_err();
    assert_eq!(error.code(), ErrorCode::ShapeMismatch);
    assert!(error.to_string().contains(&format!("a multiple of {HIDDEN}")), "{error}");
}

#[test]
fn a_prompt_token_by_token_gives_the_bits_of_the_whole() {
    let model = gemma4();
    // Longer than the window of 8.
    let tokens: Vec<u32> = (0..20).map(|i| i * 23 % 511).collect();
    let whole = logits(&model, &tokens, 0);
    let rows = whole.chunks(whole.len() / tokens.len());
    for ((at, token), row) in tokens.iter().enumerate().zip(rows) {
        assert!(logits(&model, &[*token], at) == row, "row {at}");
    }
}

#[test]
fn a_layer_that_shares_waits_for_the_one_that_stores() {
    let model = gemma4();
    let rows = embed(&model, &[5, 9, 60]);
    // Layer 3 has a window, like layer 1, the last of its kind that stores.
    let error = forward(&model, 3, &rows, 0).unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
    assert!(error.to_string().contains("layer 1, which holds 0 positions"), "{error}");
    forward(&model, 1, &rows, 0).unwrap();
    forward(&model, 3, &rows, 0).unwrap();
    assert!(forward(&model, 3, &rows[..HIDDEN], 3).is_err());
    assert!(forward(&model, 5, &rows, 0).is_err(), "layer 5 reads layer 2");
    // Going back at the layer that stores takes away what others read.
    forward(&model, 1, &rows[..HIDDEN], 0).unwrap();
    assert!(forward(&model, 3, &rows, 0).is_err());
}

#[test]
fn layers_of_gemma3n_change_every_stream_and_no_input() {
    let model = load(gemma3n::file());
    let streams = gemma3n::N_STREAMS * gemma3n::WIDTH;
    let hidden = streams + gemma3n::N_LAYERS * gemma3n::PER_LAYER;
    let info = model.info().unwrap();
    assert_eq!((info.embedding_length, info.hidden_size), (gemma3n::WIDTH, hidden));
    let before = embed(&model, &gemma3n::PROMPT);
    let after = forward(&model, 0, &before, 0).unwrap();
    for (before, after) in before.chunks(hidden).zip(after.chunks(hidden)) {
        let (before, before_inputs) = before.split_at(streams);
        let (after, after_inputs) = after.split_at(streams);
        let mut pairs = before.chunks(gemma3n::WIDTH).zip(after.chunks(gemma3n::WIDTH));
        assert!(pairs.all(|(before, after)| before != after));
        assert!(before_inputs == after_inputs);
    }
}

#[test]
fn a_prompt_through_gemma3n_gives_the_same_bits_token_by_token() {
    let model = load(gemma3n::file());
    let whole = logits(&model, &gemma3n::PROMPT, 0);
    let rows = whole.chunks(gemma3n::N_VOCAB);
    for ((at, token), row) in gemma3n::PROMPT.iter().enumerate().zip(rows) {
        assert!(logits(&model, &[*token], at) == row, "row {at}");
    }
}
