//! The kit's Gemma 4 through the layer-level calls: its rows carry the inputs of later
//! layers behind the hidden state, and its last layers read keys and values of others.

mod support;

use std::sync::Arc;

use realm_engine::threaded::{Model, Source, wait};
use realm_engine::{Coded, Error, ErrorCode, LoadOptions};
use realm_testkit::kit;
use support::*;

const EMBEDDING: usize = 64;
const N_LAYERS: usize = 6;
const PER_LAYER: usize = 16;
const HIDDEN: usize = EMBEDDING + N_LAYERS * PER_LAYER;

fn gemma4() -> Model {
    let bytes = kit::read_maybe_gz("models/gemma4/model.gguf.gz");
    let cancel = std::sync::atomic::AtomicBool::new(false);
    let watcher = realm_engine::load::Watcher { progress: &mut |_| (), cancel: &cancel };
    let backends = [choice(Arc::default())];
    Model::load(Source::Bytes(vec![bytes.into()]), &LoadOptions::default(), &backends, watcher)
        .unwrap()
}

fn embed(model: &Model, tokens: &[u32]) -> Vec<f32> {
    wait(|reply| model.embed_tokens(tokens.to_vec(), reply)).unwrap()
}

fn forward(model: &Model, layer: usize, rows: &[f32], at: usize) -> Result<Vec<f32>, Error> {
    wait(|reply| model.forward_layer(layer, rows.to_vec(), at, 1, reply))
}

/// Logits of `tokens` from position `at` on.
fn logits(model: &Model, tokens: &[u32], at: usize) -> Vec<f32> {
    let mut rows = embed(model, tokens);
    for layer in 0..N_LAYERS {
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
