//! What a whole file means: the plan of a model and its first tokens, its tokenizer and
//! template, or an importance matrix.

use std::sync::Arc;

use realm_cpu::{CpuBackend, CpuOptions};
use realm_gguf::Gguf;
use realm_model::ModelPlan;
use realm_quantize::Imatrix;
use realm_testkit::program::Model;
use realm_tokenizer::{EncodeOptions, Tokenizer, chat_template_or_builtin};

/// Reads a file as everything that a file can be.
pub fn model(bytes: &[u8]) {
    let Ok(gguf) = Gguf::from_bytes(bytes) else { return };
    let _ = Imatrix::from_gguf(&gguf);
    let _ = realm_model::vocabulary_only(&gguf);
    if let Ok(plan) = realm_model::build(&gguf, 64) {
        run(plan);
    }
    if let Ok(tokenizer) = Tokenizer::from_metadata(gguf.metadata()) {
        tokenizer.encode("Hello <s> world", EncodeOptions::default());
        let _ = chat_template_or_builtin(gguf.metadata(), &tokenizer, true);
    }
}

/// Values of a row of all slots beyond which a program is not run: a file may ask for more
/// memory than a fuzzer has, which is no fault.
const MOST_VALUES: usize = 1 << 20;

/// Runs some tokens of what was accepted: it must not be refused any more.
fn run(plan: ModelPlan) {
    let widths = plan.program.slots.iter().map(|slot| slot.width).chain(plan.state_widths.clone());
    let keys = plan.kv_layers.iter().map(|layer| layer.width());
    if widths.chain(keys).fold(0, usize::saturating_add) > MOST_VALUES {
        return;
    }
    let backend = CpuBackend::new(CpuOptions { threads: Some(1), ..Default::default() })
        .expect("one thread is its own");
    let model = Model { program: Arc::new(plan.program), kv_layers: plan.kv_layers };
    if let Err(error) = model.run_a_little(&backend, plan.state_widths) {
        panic!("a program that was made does not run: {error}");
    }
}
