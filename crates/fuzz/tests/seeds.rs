//! Every seed, through the function that is fuzzed, within the limits of a refusal.

use std::fs;
use std::path::Path;

use realm_fuzz::TARGETS;
use realm_gguf::Gguf;

/// Most bytes that are allocated at a time.
const MAX_BYTES: u64 = 64 << 20;

#[test]
fn every_seed_is_read_or_refused_in_little_memory() {
    for (name, target) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(name);
        let mut n_seeds = 0;
        for entry in fs::read_dir(&folder).expect("every target has seeds") {
            let path = entry.expect("the folder can be read").path();
            let bytes = fs::read(&path).expect("a seed is a file");
            let used = allocation_counter::measure(|| target(&bytes));
            assert!(used.bytes_max < MAX_BYTES, "{}: {} bytes", path.display(), used.bytes_max);
            n_seeds += 1;
        }
        assert!(n_seeds > 1, "{name} has {n_seeds} seeds");
    }
}

#[test]
fn a_seed_of_models_is_accepted_and_so_is_run() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/model");
    let makes_a_program = |path: &Path| {
        let gguf = Gguf::from_bytes(fs::read(path).expect("a seed is a file"));
        gguf.is_ok_and(|gguf| realm_model::build(&gguf, 64).is_ok())
    };
    let mut entries = fs::read_dir(folder).expect("models have seeds");
    assert!(entries.any(|entry| makes_a_program(&entry.expect("the folder can be read").path())));
}

#[test]
fn every_type_of_blocks_has_a_seed_that_names_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/blocks");
    for (i, ty) in realm_quant::supported().enumerate() {
        let bytes = fs::read(folder.join(ty.name())).expect("make_seeds has been run");
        assert_eq!(usize::from(bytes[0]), i, "{ty}: make_seeds has not been run since");
    }
}

#[test]
fn every_fuzzer_has_its_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/fuzz_targets");
    let mut files: Vec<String> = fs::read_dir(folder)
        .expect("the fuzzers are there")
        .map(|entry| entry.expect("the folder can be read").file_name().into_string())
        .map(|name| name.expect("a name in ASCII"))
        .collect();
    files.sort();
    let names: Vec<String> = TARGETS.iter().map(|(name, _)| format!("{name}.rs")).collect();
    assert_eq!(files, names);
}
