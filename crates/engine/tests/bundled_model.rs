//! The bundled model on the CPU against what llama.cpp answered.

mod support;

use realm_engine::model::{ModelHandle, wait};
use realm_engine::{GenerateOptions, Prompt};
use serde_json::Value;
use support::*;

/// The largest distance between two logits that rounding may turn around.
const ROUNDING: f32 = 0.02;

fn expected() -> Value {
    let path = realm_testkit::kit::path().join("../models/expected.json");
    let json = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&json).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn ids(value: &Value) -> Vec<u32> {
    let ids = value.as_array().expect("a list of ids");
    ids.iter().map(|id| id.as_u64().expect("an id") as u32).collect()
}

/// Logits after `tokens`, layer by layer.
fn logits_after(model: &ModelHandle, tokens: &[u32]) -> Vec<f32> {
    let mut hidden = wait(|reply| model.embed_tokens(tokens.to_vec(), 0, reply)).unwrap();
    let width = hidden.len() / tokens.len();
    for layer in 0..model.info().unwrap().n_layers {
        hidden = wait(|reply| model.forward_layer(layer, hidden, 0, 0, reply)).unwrap();
    }
    let last = hidden[hidden.len() - width..].to_vec();
    wait(|reply| model.compute_logits(last, reply)).unwrap()
}

#[test]
fn greedy_answers_are_those_of_llama_cpp_up_to_ties() {
    let (model, _) = load();
    let ends = model.info().unwrap().end_of_generation_tokens;
    for case in expected()["prompts"].as_array().expect("a list of prompts") {
        let prompt = ids(&case["prompt_ids"]);
        let mut want = ids(&case["greedy"]["Q8_0"]["ids"]);
        let ended = want.last().is_some_and(|id| ends.contains(id));
        if ended {
            want.pop();
        }
        let options = GenerateOptions { max_tokens: 256, ..GenerateOptions::default() };
        let text = Prompt::Text(case["prompt"].as_str().expect("a prompt").into());
        let answer = start(&model, text, options).end().unwrap();
        let name = &case["id"];
        assert_eq!(answer.prompt_tokens, prompt.len(), "{name}");
        let Some(at) = (0..want.len()).find(|i| answer.tokens.get(*i) != Some(&want[*i])) else {
            assert_eq!((answer.tokens, answer.finish_reason.as_str()), (want, "stop"), "{name}");
            continue;
        };
        let before = [&prompt[..], &want[..at]].concat();
        let logits = logits_after(&model, &before);
        let ours = answer.tokens.get(at).unwrap_or(&ends[1]);
        let gap = logits[*ours as usize] - logits[want[at] as usize];
        assert!(gap < ROUNDING, "{name}: token {at} differs and is better by {gap}");
    }
}

#[test]
fn layers_one_by_one_give_the_bits_of_the_generating_path() {
    let (model, disturbance) = load();
    let tokens = model.tokenize("Once upon a time there was", Default::default()).unwrap();
    let options = GenerateOptions { max_tokens: 5, ..endless() };
    let answer = start(&model, Prompt::Tokens(tokens.clone()), options).end().unwrap();
    let generated = std::mem::take(&mut disturbance.lock().unwrap().logits);
    let n_vocab = model.info().unwrap().n_vocab;
    for (n, generated) in generated.chunks(n_vocab).enumerate() {
        let history = [&tokens[..], &answer.tokens[..n]].concat();
        let by_layers = logits_after(&model, &history);
        let bits = |logits: &[f32]| logits.iter().map(|l| l.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&by_layers), bits(generated), "token {n}");
    }
}

#[test]
fn the_same_seed_gives_the_same_text_alone_and_among_sixteen() {
    let (model, _) = load();
    let warm = |seed| {
        let mut options = GenerateOptions { max_tokens: 24, ..endless() };
        options.sampling.temperature = 1.0;
        options.sampling.seed = seed;
        options
    };
    let together: Vec<Running> = (0..16).map(|seed| start(&model, story(), warm(seed))).collect();
    let together: Vec<String> = together.iter().map(|r| r.end().unwrap().text).collect();
    for (seed, text) in (0..).zip(&together).step_by(5) {
        assert_eq!(&start(&model, story(), warm(seed)).end().unwrap().text, text);
    }
    assert_ne!(together[0], together[1]);
}

#[test]
fn a_tensor_comes_out_in_the_shape_of_the_file() {
    let (model, _) = load();
    let names = model.tensor_names().unwrap();
    assert!(names.iter().any(|name| name == "blk.0.attn_q.weight"));
    let tensor = wait(|reply| model.tensor("blk.0.attn_k.weight".into(), reply)).unwrap();
    assert_eq!((tensor.shape.as_slice(), tensor.ty.as_str()), (&[256, 128][..], "Q8_0"));
    assert_eq!(tensor.data.len(), 256 * 128);
    let error = wait(|reply| model.tensor("blk.9.nothing".into(), reply)).unwrap_err();
    assert!(error.to_string().contains("blk.9.nothing"), "{error}");
}
