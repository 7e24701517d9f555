//! Which frequencies a model turns with.

use realm_gguf::Gguf;
use realm_ir::Step;
use realm_model::{Error, build};
use realm_testkit::families::{self, CONTEXT_LENGTH, Family};

const ORIGINAL: &str = "rope.scaling.original_context_length";
const SHORT: f32 = 2.0;
const LONG: f32 = 16.0;

fn family(name: &str) -> Family {
    let found = families::all().into_iter().find(|family| family.name() == name);
    found.unwrap_or_else(|| panic!("no family {name}"))
}

/// Frequencies of all rotations of a file, loaded with `context_length`. Its short factors are all
/// [`SHORT`], its long ones [`LONG`].
fn frequencies(family: &Family, context_length: usize) -> Result<Vec<Vec<f32>>, Box<Error>> {
    let mut tensors = family.random_tensors();
    for (name, _, values) in &mut tensors {
        match name.as_str() {
            "rope_factors_short.weight" => values.fill(SHORT),
            "rope_factors_long.weight" => values.fill(LONG),
            _ => {}
        }
    }
    let plan = build(&Gguf::from_bytes(family.write(&tensors))?, context_length)?;
    let rope = |step: &Step| match step {
        Step::RopeStore(step) => step.rope.clone(),
        Step::Rope(step) => Some(step.rope.clone()),
        _ => None,
    };
    let ropes = plan.program.segments.iter().flatten().filter_map(rope);
    Ok(ropes.map(|rope| rope.inverse_frequencies.to_vec()).collect())
}

/// The factor that all frequencies of `family` are divided by: the first, of a base to the power
/// of 0, is 1.
fn factor(family: &Family, context_length: usize) -> f32 {
    let ropes = frequencies(family, context_length).unwrap();
    assert!(!ropes.is_empty());
    let factors: Vec<f32> = ropes.iter().map(|frequencies| 1.0 / frequencies[0]).collect();
    assert!(factors.iter().all(|factor| *factor == factors[0]), "{factors:?}");
    factors[0]
}

#[test]
fn long_factors_are_those_of_contexts_beyond_the_original_one() {
    for name in ["phi3.longrope-beyond", "minicpm.longrope", "minicpm3.longrope"] {
        let family = family(name);
        for (original, context_length, expected) in
            [(128u32, 1, SHORT), (128, 128, SHORT), (128, 129, LONG), (129, 129, SHORT)]
        {
            let family = family.clone().key(ORIGINAL, original);
            assert_eq!(factor(&family, context_length), expected, "{name}, {context_length}");
        }
    }
}

#[test]
fn without_an_original_context_it_is_the_one_the_model_was_trained_for() {
    let trained = CONTEXT_LENGTH as usize;
    let plain = family("phi3").whole(families::tensors::ROPE_FACTORS);
    assert_eq!(factor(&plain, trained), SHORT);
    assert_eq!(factor(&plain, trained + 1), LONG);
}

#[test]
fn factors_that_are_needed_and_not_there_are_named() {
    for (missing, context_length) in
        [("rope_factors_long.weight", 129), ("rope_factors_short.weight", 128)]
    {
        let family = family("phi3.longrope-beyond").without(missing);
        let error = frequencies(&family, context_length).unwrap_err().to_string();
        assert!(error.contains(missing), "{error}");
        assert!(frequencies(&family, 257 - context_length).is_ok());
    }
}
