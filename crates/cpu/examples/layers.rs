//! Where a model goes wrong: what each segment leaves, on the CPU, by the oracle, and by
//! llama.cpp where its values are given.
//!
//! `cargo run -p realm-cpu --example layers -- FILE [--tokens 1,2,3] [--reference FILE]`
//!
//! Without `--tokens` the model runs on those of the tests' families. The reference has the
//! hidden states behind every layer, `[layers, tokens, width]` as little-endian f32:
//! `benches/reference-logits.py --layers` writes it. The first line with a jump is the layer to
//! look at: where the oracle has it too, the program is wrong (recipe, numbers, build), else the
//! CPU's code.

#![expect(clippy::print_stdout, reason = "a tool prints its results")]

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use realm_cpu::{CpuBackend, CpuOptions};
use realm_gguf::Gguf;
use realm_ir::{Session, WeightLayout};
use realm_testkit::compare::{Difference, compare};
use realm_testkit::families::PROMPT;
use realm_testkit::oracle::NaiveBackend;
use realm_testkit::program::{Call, Model, Size, read};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (mut file, mut tokens, mut reference) = (None, PROMPT.to_vec(), None);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} wants a value"));
        match argument.as_str() {
            "--tokens" => tokens = value()?.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "--reference" => reference = Some(floats(std::fs::read(value()?)?)),
            _ => file = Some(PathBuf::from(argument)),
        }
    }
    let file = file.ok_or("usage: layers FILE [--tokens 1,2,3] [--reference FILE]")?;
    let plan = realm_model::build(&Gguf::open(file)?, tokens.len())?;
    let model = Model { program: Arc::new(plan.program), kv_layers: plan.kv_layers };

    let n_pages = tokens.len().div_ceil(Size::default().page_tokens);
    let (max_rows, max_outputs) = (tokens.len(), tokens.len());
    let layout = WeightLayout::Mapped;
    let size = Size { n_pages, max_rows, max_outputs, layout, ..Size::default() };
    let pages: Vec<u32> = (0..n_pages as u32).collect();
    let call = Call::one(&tokens, 0, &pages);
    let cpu = CpuBackend::new(CpuOptions::default())?;
    let mut cpu = model.open(&cpu, size)?;
    let mut oracle = model.open(&NaiveBackend, size)?;

    let n_layers = model.program.n_layers();
    for segment in model.segments() {
        let (name, slot) = match segment {
            0 => ("embedding".to_owned(), model.program.hidden),
            layer if layer <= n_layers => (format!("layer {}", layer - 1), model.program.hidden),
            _ => ("head".to_owned(), model.program.logits),
        };
        let run = |session: &mut dyn Session| {
            call.run(session, segment..segment + 1)?;
            read(&model, session, slot, tokens.len())
        };
        let (ours, wanted) = (run(&mut *cpu)?, run(&mut *oracle)?);
        print!("{name:10} oracle: {}", shown(&compare(&ours, &wanted)));
        // Layers alone: what llama.cpp gives of an embedding is scaled here and there.
        let layer = segment.checked_sub(1).filter(|layer| *layer < n_layers);
        if let (Some(layer), Some(reference)) = (layer, &reference) {
            let theirs = reference.get(layer * wanted.len()..(layer + 1) * wanted.len());
            let theirs = theirs.ok_or("the reference has fewer layers, or another width")?;
            print!("   llama.cpp: {}", shown(&compare(&ours, theirs)));
        }
        println!();
    }
    Ok(())
}

fn floats(bytes: Vec<u8>) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)).collect()
}

/// As a share of the values' size: what f32 rounds is some 1e-6, what int8 rounds some 1e-2.
fn shown(difference: &Difference) -> String {
    let Difference { max_abs, rms_wanted, .. } = difference;
    format!("rms {:.1e}, largest {:.1e}", difference.relative(), max_abs / rms_wanted)
}
