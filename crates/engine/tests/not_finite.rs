//! Weights that are no numbers: the error of whoever met them names their tensor.

mod support;

use std::sync::Arc;

use realm_engine::model::{ModelHandle, wait};
use realm_engine::{Coded, Error, ErrorCode, GenerateOptions, LoadOptions, Pooling, Prompt};
use realm_testkit::families::{self, Family, PROMPT};
use support::*;

fn llama() -> Family {
    let mut all = families::all().into_iter();
    all.find(|family| family.name() == "llama").unwrap().with_tokens()
}

/// The model with the values of some tensors changed.
fn load(change: impl Fn(&str, &mut [f32])) -> ModelHandle {
    let family = llama();
    let mut tensors = family.random_tensors();
    tensors.iter_mut().for_each(|(name, _, values)| change(name, values));
    load_bytes(family.write(&tensors), &LoadOptions::default()).0
}

fn generate(model: &ModelHandle) -> Arc<Error> {
    let options = GenerateOptions { max_tokens: 2, ..endless() };
    start(model, Prompt::Tokens(PROMPT.to_vec()), options).end().unwrap_err()
}

fn embed(model: &ModelHandle) -> Error {
    let texts = vec![Prompt::Tokens(vec![1, 2]), Prompt::Tokens(PROMPT.to_vec())];
    wait(|reply| model.embed(texts, Some(Pooling::Mean), true, reply)).unwrap_err()
}

#[test]
fn a_weight_that_is_not_finite_is_named_to_all_who_meet_it() {
    for (tensor, index, value, said) in [
        ("blk.0.attn_norm.weight", 5, f32::NAN, "NaN"),
        ("blk.2.ffn_down.weight", 100, f32::INFINITY, "inf"),
        ("blk.3.attn_q.weight", 4095, f32::NEG_INFINITY, "-inf"),
        ("output_norm.weight", 63, f32::NAN, "NaN"),
        ("output.weight", 70, f32::NAN, "NaN"),
    ] {
        let model = load(|name, values| {
            if name == tensor {
                values[index] = value;
            }
        });
        let expected = format!("{tensor}: found {said} at index {index}, expected finite numbers");
        for _ in 0..2 {
            let error = generate(&model);
            assert_eq!(
                (error.code(), error.to_string()),
                (ErrorCode::ModelInvalid, expected.clone())
            );
        }
        if tensor != "output.weight" {
            let error = embed(&model);
            assert_eq!((error.code(), error.to_string()), (ErrorCode::ModelInvalid, expected));
        }
    }
}

#[test]
fn values_that_grow_out_of_finite_weights_are_no_fault_of_the_file() {
    let model = load(|name, values| {
        if name.starts_with("blk.1.ffn_") && !name.contains("norm") {
            values.iter_mut().for_each(|value| *value *= 1e30);
        }
    });
    for _ in 0..2 {
        let error = generate(&model);
        assert_eq!(error.code(), ErrorCode::Internal, "{error}");
        assert!(error.to_string().starts_with("internal error: the logit of token"), "{error}");
        let error = embed(&model);
        assert_eq!(error.code(), ErrorCode::Internal, "{error}");
        assert!(error.to_string().starts_with("internal error: a value of a text"), "{error}");
    }
}

#[test]
fn a_weight_that_nothing_reads_harms_nobody() {
    // Token 15 is in no prompt; nor is it chosen, whatever follows.
    let model = load(|name, values| {
        if name == "token_embd.weight" {
            values[15 * 64] = f32::NAN;
        }
    });
    let texts = vec![Prompt::Tokens(PROMPT.to_vec())];
    wait(|reply| model.embed(texts, Some(Pooling::Mean), true, reply)).unwrap();
}
