//! Adapters of a running model: by default, per generation, swapped, forgotten.

mod support;
mod toy;

use std::sync::{Arc, Mutex};

use realm_engine::model::{ModelHandle, Source, wait};
use realm_engine::requests::{Completion, GenerationRequest};
use realm_engine::{AdapterInfo, Coded, Error, ErrorCode, GenerateOptions, Lora, Prompt};
use realm_gguf::{Gguf, TensorType};
use realm_testkit::lora;
use support::{bundled, endless, start, story};
use toy::*;

fn on(sequence: u32, prompt: &[u32], adapters: &[Lora]) -> GenerationRequest {
    let adapters = Some(adapters.to_vec());
    GenerationRequest { sequence: Some(sequence), adapters, ..request(prompt, 4) }
}

fn lora(adapter: u32, scale: f32) -> Lora {
    Lora { adapter, scale }
}

#[test]
fn keys_and_values_are_only_used_again_with_the_same_adapters() {
    let mut bench = Bench::new();
    bench.engine.add_adapter(1, Arc::new(1u8));
    bench.engine.add_adapter(2, Arc::new(2u8));
    bench.engine.open_sequence(1).unwrap();
    let prompt = letters("abcdef");
    for (adapters, cached) in [
        (vec![lora(1, 1.0)], 0),
        (vec![lora(1, 1.0)], 5),
        (vec![lora(2, 1.0)], 0),
        (vec![lora(2, 0.5)], 0),
        (vec![lora(2, 0.5), lora(1, 1.0)], 0),
        (vec![lora(1, 1.0), lora(2, 0.5)], 0),
        (vec![], 0),
        (vec![lora(1, 0.0)], 5),
    ] {
        let answer = bench.generate(on(1, &prompt, &adapters)).unwrap();
        assert_eq!(answer.cached_tokens, cached, "{adapters:?}");
        assert_eq!(answer.tokens, greedy(&prompt, 4, &[END]));
    }
    assert_eq!(bench.engine.n_free_pages(), LIMITS.n_pages - 3, "only the sequence's own pages");
}

#[test]
fn a_fork_has_the_adapters_that_its_keys_and_values_were_made_with() {
    let mut bench = Bench::new();
    bench.engine.add_adapter(1, Arc::new(1u8));
    bench.engine.open_sequence(1).unwrap();
    let prompt = letters("abcdef");
    bench.generate(on(1, &prompt, &[lora(1, 1.0)])).unwrap();
    bench.engine.fork_sequence(1, 2).unwrap();
    let same = bench.generate(on(2, &prompt, &[lora(1, 1.0)])).unwrap();
    assert_eq!(same.cached_tokens, 5);
    let other = bench.generate(on(2, &prompt, &[])).unwrap();
    assert_eq!(other.cached_tokens, 0);
}

#[test]
fn a_generation_keeps_the_adapters_it_began_with() {
    let mut bench = Bench::new();
    bench.engine.add_adapter(1, Arc::new(1u8));
    bench.engine.add_adapter(2, Arc::new(2u8));
    bench.engine.set_default_adapters(vec![lora(1, 1.0)]).unwrap();
    // For each run of the session, the adapters of each sequence.
    let seen: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let sink = seen.clone();
    bench.hook(move |_, batch| {
        let number = |sequence: &realm_ir::SequenceView<'_>| {
            let used = sequence.adapters.first();
            used.map_or(0, |used| *used.adapter.downcast_ref::<u8>().expect("one of ours"))
        };
        sink.lock().unwrap().push(batch.sequences.iter().map(number).collect());
        Ok(())
    });
    bench.start(request(&letters("ab"), 4));
    bench.step();
    bench.engine.set_default_adapters(vec![lora(2, 1.0)]).unwrap();
    bench.engine.remove_adapter(1);
    bench.start(request(&letters("cd"), 2));
    bench.start(GenerationRequest { adapters: Some(vec![]), ..request(&letters("ef"), 2) });
    bench.run();
    let seen = seen.lock().unwrap();
    assert_eq!(seen[..3], [vec![1], vec![1, 2, 0], vec![1, 2, 0]]);
    bench.engine.remove_adapter(2);
    let error = bench.engine.set_default_adapters(vec![lora(2, 1.0)]).unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument, "{error}");
}

#[test]
fn an_adapter_that_is_not_there_is_named() {
    let mut bench = Bench::new();
    bench.engine.open_sequence(1).unwrap();
    let error = bench.generate(on(1, &letters("ab"), &[lora(7, 1.0)])).unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
    assert!(error.to_string().contains("adapter 7"), "{error}");
    bench.engine.add_adapter(7, Arc::new(7u8));
    let error = bench.generate(on(1, &letters("ab"), &[lora(7, f32::NAN)])).unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument);
    assert!(bench.generate(on(1, &letters("ab"), &[])).is_ok(), "the sequence is still there");
}

fn random(seed: u64) -> Vec<u8> {
    let gguf = Gguf::open(bundled()).unwrap();
    let lora = lora::Lora::random(&gguf, seed, 4, TensorType::F16, |tensor| {
        tensor.name() != "token_embd.weight" && tensor.shape().len() == 2
    });
    lora.to_bytes()
}

fn load_adapter(model: &ModelHandle, bytes: Vec<u8>) -> Result<(u32, AdapterInfo), Error> {
    wait(|reply| model.load_adapter(Source::Bytes(vec![bytes.into()]), reply))
}

fn options(adapters: Option<Vec<Lora>>) -> GenerateOptions {
    GenerateOptions { adapters, max_tokens: 24, ..endless() }
}

fn answer(model: &ModelHandle, adapters: Option<Vec<Lora>>) -> Completion {
    start(model, story(), options(adapters)).end().unwrap()
}

#[test]
fn generations_with_and_without_adapters_share_a_model() {
    let (model, _) = support::load();
    let plain = answer(&model, None).tokens;
    let (first, info) = load_adapter(&model, random(1)).unwrap();
    let (second, _) = load_adapter(&model, random(2)).unwrap();
    assert_eq!((info.rank, info.name.as_deref()), (4, Some("random")));
    assert_eq!(answer(&model, None).tokens, plain, "loading changes nothing");
    let lists = [
        vec![],
        vec![lora(first, 1.0)],
        vec![lora(second, 1.0)],
        vec![lora(first, 0.5), lora(second, -0.5)],
    ];
    let alone: Vec<_> =
        lists.iter().map(|list| answer(&model, Some(list.clone())).tokens).collect();
    assert_eq!(alone[0], plain);
    assert!((0..4).all(|i| (0..i).all(|j| alone[i] != alone[j])), "each shows: {alone:?}");

    let running: Vec<_> =
        lists.iter().map(|list| start(&model, story(), options(Some(list.clone())))).collect();
    let together: Vec<_> = running.iter().map(|running| running.end().unwrap().tokens).collect();
    assert_eq!(together, alone);

    model.set_default_adapters(vec![lora(first, 1.0)]).unwrap();
    assert_eq!(answer(&model, None).tokens, alone[1]);
    model.set_default_adapters(vec![lora(second, 1.0)]).unwrap();
    assert_eq!(answer(&model, None).tokens, alone[2], "swapped");
    model.remove_adapter(second).unwrap();
    assert_eq!(answer(&model, None).tokens, plain, "gone from the default");
    assert_eq!(answer(&model, Some(lists[1].clone())).tokens, alone[1]);
    let error = start(&model, story(), options(Some(lists[2].clone()))).end().unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidArgument, "{error}");
    assert!(model.remove_adapter(second).is_err());
}

#[test]
fn layers_run_with_the_default_adapters_to_the_same_bits() {
    let (model, disturbance) = support::load();
    let (id, _) = load_adapter(&model, random(1)).unwrap();
    model.set_default_adapters(vec![lora(id, 1.0)]).unwrap();
    let tokens = vec![5, 300, 17];
    let one = GenerateOptions { max_tokens: 1, ..endless() };
    start(&model, Prompt::Tokens(tokens.clone()), one).end().unwrap();
    let generated = disturbance.lock().unwrap().logits.clone();
    let mut hidden = wait(|reply| model.embed_tokens(tokens, 0, reply)).unwrap();
    for layer in 0..model.info().unwrap().n_layers {
        hidden = wait(|reply| model.forward_layer(layer, hidden, 0, 0, reply)).unwrap();
    }
    let last = hidden.split_off(hidden.len() / 3 * 2);
    let logits = wait(|reply| model.compute_logits(last, reply)).unwrap();
    assert!(logits == generated);
}

#[test]
fn a_file_that_is_no_adapter_leaves_the_model_as_it_was() {
    let (model, _) = support::load();
    let plain = answer(&model, None).tokens;
    let bytes = std::fs::read(bundled()).unwrap();
    let error = load_adapter(&model, bytes).unwrap_err();
    assert_eq!(error.code(), ErrorCode::ModelInvalid, "{error}");
    let error = load_adapter(&model, b"GGUF".to_vec()).unwrap_err();
    assert_eq!(error.code(), ErrorCode::ModelInvalid, "{error}");
    let missing = Source::Path("no/such/adapter.gguf".into());
    let error = wait(|reply| model.load_adapter(missing, reply)).unwrap_err();
    assert_eq!(error.code(), ErrorCode::ModelNotFound, "{error}");
    assert_eq!(answer(&model, None).tokens, plain);
    wait(|reply| model.dispose(|| reply.send(Ok(())))).unwrap();
    assert_eq!(load_adapter(&model, random(1)).unwrap_err().code(), ErrorCode::Disposed);
}
