//! ggml's shapes are four numbers: files may write dimensions of 1 at their end, or not.

use realm_gguf::Gguf;
use realm_model::build;
use realm_testkit::families::{self, Values};

/// Names and shapes of the weights that a file's program has, and the steps that use them.
fn program(file: Vec<u8>) -> (Vec<(String, Vec<usize>)>, String) {
    let program = build(&Gguf::from_bytes(file).unwrap(), 64).unwrap().program;
    let weights = program.weights.iter();
    let weights = weights.map(|weight| (weight.name().to_owned(), weight.shape().to_vec()));
    (weights.collect(), format!("{:?}", program.segments))
}

#[test]
fn dimensions_of_1_at_the_end_of_shapes_change_no_program() {
    let with_ones = |(name, mut shape, values): Values| {
        shape.resize(4, 1);
        (name, shape, values)
    };
    let without_ones = |(name, mut shape, values): Values| {
        while shape.len() > 1 && shape.ends_with(&[1]) {
            shape.pop();
        }
        (name, shape, values)
    };
    for family in families::all() {
        let expected = program(family.file());
        let tensors = family.random_tensors();
        let with: Vec<_> = tensors.iter().cloned().map(with_ones).collect();
        let without: Vec<_> = tensors.into_iter().map(without_ones).collect();
        assert_eq!(program(family.write(&with)), expected, "{}", family.name());
        assert_eq!(program(family.write(&without)), expected, "{}", family.name());
    }
}

#[test]
fn a_dimension_of_1_elsewhere_is_another_shape() {
    let family = families::all().into_iter().find(|family| family.name() == "llama").unwrap();
    let mut tensors = family.random_tensors();
    let norm = tensors.iter_mut().find(|tensor| tensor.0 == "blk.0.attn_norm.weight").unwrap();
    norm.1.insert(0, 1);
    let error = build(&Gguf::from_bytes(family.write(&tensors)).unwrap(), 64).unwrap_err();
    let message = error.to_string();
    let expected = "blk.0.attn_norm.weight: found shape [1, 64], expected shape [64]";
    assert!(message.contains(expected), "{message}");
}
