//! Every architecture, as tiny random models: what they compute, and what becomes of
//! files that are damaged or cannot be run.

mod files;
mod mutations;
mod references;

use std::sync::Arc;

use realm_cpu::{CpuBackend, CpuOptions, Level};
use realm_gguf::Gguf;
use realm_model::{Error, build};
use realm_testkit::families::{CONTEXT_LENGTH, PROMPT};
use realm_testkit::program::{Call, Model, Size};

fn model(bytes: &[u8]) -> Result<Model, Box<Error>> {
    let plan = build(&Gguf::from_bytes(bytes.to_vec())?, CONTEXT_LENGTH as usize)?;
    Ok(Model { program: Arc::new(plan.program), kv_layers: plan.kv_layers })
}

/// Refuses a file, or runs some tokens of it.
///
/// # Panics
/// When a program that the file makes cannot be run: it should not have been made.
fn run_a_little(gguf: &Gguf, backend: &CpuBackend) -> Result<(), Box<Error>> {
    let plan = build(gguf, CONTEXT_LENGTH as usize)?;
    let model = Model { program: Arc::new(plan.program), kv_layers: plan.kv_layers };
    let ran = model.run_a_little(backend, plan.state_widths);
    ran.unwrap_or_else(|error| panic!("a program that was made does not run: {error}"));
    Ok(())
}

/// What the model gives for each token of the prompt: as many in the first call as
/// `n_first`, then one by one.
fn outputs(model: &Model, n_first: usize, level: Level) -> Vec<f32> {
    let backend = CpuBackend::new(CpuOptions { threads: Some(1), level: Some(level) }).unwrap();
    let mut session = model.open(&backend, Size::default()).unwrap();
    let pages = [3, 11, 2, 7];
    let mut outputs =
        Call::one(&PROMPT[..n_first], 0, &pages).logits(model, &mut *session).unwrap();
    for (pos, token) in PROMPT.iter().enumerate().skip(n_first) {
        let call = Call::one(&[*token], pos as u32, &pages);
        outputs.extend(call.logits(model, &mut *session).unwrap());
    }
    outputs
}
