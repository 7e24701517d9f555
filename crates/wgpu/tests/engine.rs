//! The engine on a device: what it says, and how little of it crosses the bus.

mod common;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;

use realm_cpu::{CpuBackend, CpuOptions};
use realm_engine::load::{BackendChoice, OpenBackend, Watcher};
use realm_engine::model::{ModelHandle, Source, wait};
use realm_engine::requests::{Completion, Event};
use realm_engine::{GenerateOptions, LoadOptions, Lora, Prompt};
use realm_gguf::{Gguf, TensorType};
use realm_ir::Backend;
use realm_testkit::kit;
use realm_testkit::lora;

use common::backend;

/// A model with float weights, whose activations no backend rounds.
fn load(backend: Arc<dyn Backend>) -> ModelHandle {
    let open = move || {
        let (backend, device) = (backend.clone(), String::new());
        Ok(OpenBackend { backend, threads: 1, device, kernel: |_, _| None })
    };
    let choice = BackendChoice { name: "only".into(), open: Box::new(open) };
    let cancel = AtomicBool::new(false);
    let watcher = Watcher { progress: &mut |_| (), cancel: &cancel, pause: None };
    let options = LoadOptions { context_length: 256, ..LoadOptions::default() };
    ModelHandle::load(Source::Path(file()), &options, &[choice], watcher).expect("the model loads")
}

fn file() -> std::path::PathBuf {
    Path::new(&kit::path()).join("../models/realm-tiny-stories-f16.gguf")
}

fn answer(model: &ModelHandle, adapters: Vec<Lora>) -> Completion {
    let options = GenerateOptions {
        max_tokens: 40,
        ignore_eos: true,
        adapters: Some(adapters),
        ..GenerateOptions::default()
    };
    let (sender, events) = mpsc::channel();
    let sink = Box::new(move |event| sender.send(event).is_ok());
    let _handle = model.generate(Prompt::Text("Once upon a time".into()), options, sink);
    loop {
        match events.recv().expect("an end or an error") {
            Event::Chunk(_) => {}
            Event::End(completion) => return completion,
            Event::Error(error) => panic!("{error}"),
        }
    }
}

/// The number of an adapter for all matrices of the layers.
fn load_adapter(model: &ModelHandle) -> u32 {
    let base = Gguf::open(file()).unwrap();
    let lora = lora::Lora::random(&base, 1, 4, TensorType::F16, |tensor| {
        tensor.name().starts_with("blk.") && tensor.shape().len() == 2
    });
    let source = Source::Bytes(vec![lora.to_bytes().into()]);
    wait(|reply| model.load_adapter(source, reply)).unwrap().0
}

#[test]
fn greedy_answers_are_those_of_the_cpu_and_read_a_few_bytes_for_each_token() {
    let cpu = CpuBackend::new(CpuOptions { threads: Some(1), ..Default::default() }).unwrap();
    let (cpu, gpu) = (load(Arc::new(cpu)), load(Arc::new(backend().clone())));
    let wanted = answer(&cpu, vec![]);
    let before = backend().counters().read_bytes;
    let got = answer(&gpu, vec![]);
    let read = backend().counters().read_bytes - before;
    assert_eq!((got.text, got.tokens.len()), (wanted.text.clone(), 40));
    // A column and a value; some of the best, should the sampler want them.
    assert!(read > 0 && read / 40 <= 64, "{read} bytes for 40 tokens");

    let adapted = |model: &ModelHandle| {
        let adapter = load_adapter(model);
        answer(model, vec![Lora { adapter, scale: 0.5 }]).text
    };
    let wanted_of_adapted = adapted(&cpu);
    assert_ne!(wanted_of_adapted, wanted.text, "the adapter shows");
    assert_eq!(adapted(&gpu), wanted_of_adapted);
    assert_eq!(answer(&gpu, vec![]).text, wanted.text, "and is gone without");
}
