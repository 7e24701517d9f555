//! The steps of dense decoders.

use std::sync::LazyLock;

use realm_ir::{
    Activation, Attend, GatedAct, Linear, Norm, RopeStore, Slot, Step, Temperature, WeightRef,
};
use realm_testkit::program::Decoder;

use crate::{Case, config, getter, refused};

getter! {
    norm = Norm: Norm,
    linear = Linear: Linear,
    rope_store = RopeStore: RopeStore,
    attend = Attend: Attend,
    gated_act = GatedAct: GatedAct,
}

/// A layer of a small llama: norm, q k v, rotation, attention, output, norm, gate and up,
/// activation, down.
pub fn decoder() -> Case {
    // Made once: its random weights take Miri a minute.
    static DECODER: LazyLock<Case> = LazyLock::new(make_decoder);
    DECODER.clone()
}

fn make_decoder() -> Case {
    let decoder = Decoder {
        n_layers: 1,
        n_vocab: 16,
        width: 32,
        n_heads: 4,
        n_kv_heads: 2,
        key_width: 8,
        value_width: 6,
        ff_width: 48,
        rope_dims: 8,
        head_norm: true,
        bias: true,
        ..Decoder::default()
    };
    let model = decoder.build();
    Case { program: (*model.program).clone(), config: config(model.kv_layers, vec![]) }
}

#[test]
fn slots_and_weights_that_are_not_there_are_refused() {
    refused(
        decoder,
        &[
            ("layer 0, step 0 (Norm): input: found slot 99, expected one of 10", |case| {
                case.step(0, norm).input = Slot(99);
            }),
            ("layer 0, step 1 (Linear): matrix: found weight 999", |case| {
                case.step(1, linear).outputs[1].weight = WeightRef(999);
            }),
            ("layer 0, step 2 (RopeStore): layer of the KV cache: found 1", |case| {
                case.step(2, rope_store).kv_layer = 1;
            }),
            ("program: segments: found 1 segments", |case| case.program.segments.truncate(1)),
            ("program: a slot of the layer-level API: found slot 77", |case| {
                case.program.carried = vec![Slot(77)];
            }),
            ("slots of the layer-level API: found slot 0 twice", |case| {
                case.program.carried = vec![Slot(0)];
            }),
            ("the slot of the logits: found a row for every row of the batch", |case| {
                case.program.logits = Slot(1);
            }),
            ("rows of no values", |case| case.program.slots[1].width = 0),
        ],
    );
}

#[test]
fn steps_that_read_or_write_more_than_there_is_are_refused() {
    refused(
        decoder,
        &[
            (
                "layer 0, step 0 (Linear): input: found 31 values per row in slot 1, expected at least 32",
                |case| {
                    case.program.slots[1].width = 31;
                    case.program.segments[1].remove(0);
                },
            ),
            (
                "layer 0, step 0 (Norm): result: found rows of 31 values, expected rows of 32",
                |case| {
                    case.program.slots[1].width = 31;
                },
            ),
            (
                "step 1 (Linear): result: found room for 31 values per row in slot 2, expected at least 32",
                |case| {
                    case.program.slots[2].width = 31;
                },
            ),
            ("step 3 (Attend): result: found room for 23 values per row in slot 5", |case| {
                case.program.slots[5].width = 23;
            }),
            // The slot is wide enough, but this layer has made only a part of it.
            (
                "step 4 (Linear): input: found 24 values per row in slot 5, expected at least 25",
                |case| {
                    case.program.slots[5].width = 40;
                    let matrix = case.weight(&[25, 32]);
                    case.step(4, linear).outputs[0].weight = matrix;
                },
            ),
            (
                "step 7 (GatedAct): argument: found rows of 48 values, expected at least 50",
                |case| {
                    case.step(7, gated_act).out = Slot(10);
                    case.slot(50);
                },
            ),
            ("step 7 (GatedAct): factor: found rows of 48 values, expected at least 49", |case| {
                case.step(7, gated_act).up_offset = 1;
            }),
            ("step 7 (GatedAct): columns of the factor: found", |case| {
                case.step(7, gated_act).up_offset = usize::MAX;
            }),
            // Keys are gone once they are stored.
            ("step 5 (Norm): input: found 0 values per row in slot 3", |case| {
                let norm = case.step(5, norm);
                (norm.input, norm.out, norm.width, norm.weight) = (Slot(3), Slot(3), 16, None);
            }),
        ],
    );
}

#[test]
fn slots_that_a_step_both_reads_and_writes_are_refused_where_it_cannot() {
    refused(
        decoder,
        &[
            ("step 1 (Linear): results: found slot 2 twice", |case| {
                case.step(1, linear).outputs[1].out = Slot(2);
            }),
            ("step 1 (Linear): result: found slot 1, which the step reads", |case| {
                case.step(1, linear).outputs[0].out = Slot(1);
            }),
            ("step 2 (RopeStore): queries: found slot 2, which the step reads", |case| {
                case.step(2, rope_store).k = Slot(2);
            }),
            (
                "step 2 (RopeStore): keys that are values too: found 2 heads of 8 as values of 6",
                |case| {
                    case.step(2, rope_store).v = Slot(3);
                },
            ),
            ("step 3 (Attend): result: found slot 2", |case| case.step(3, attend).out = Slot(2)),
            ("step 7 (GatedAct): result: found slot 7", |case| {
                case.step(7, gated_act).out = Slot(7);
            }),
            ("step 0 (Norm): result: found a row for every output row", |case| {
                case.step(0, norm).out = Slot(8);
            }),
        ],
    );
}

#[test]
fn weights_of_another_shape_are_refused_by_name() {
    refused(
        decoder,
        &[
            (
                "embedding, step 0 (Embed): positions made.weight: found shape [31, 3], expected 3 rows of 32",
                |case| {
                    let positions = Some(case.weight(&[31, 3]));
                    if let Step::Embed(embed) = &mut case.program.segments[0][0] {
                        embed.positions = positions;
                    }
                },
            ),
            (
                "embedding, step 1 (Embed): table made.weight: found shape [32, 15], expected 16 rows of 32",
                |case| {
                    let table = case.weight(&[32, 15]);
                    let Step::Embed(mut second) = case.program.segments[0][0].clone() else {
                        panic!()
                    };
                    second.table = table;
                    case.program.segments[0].push(Step::Embed(second));
                },
            ),
            ("step 0 (Norm): factors made.weight: found shape [33], expected 32 values", |case| {
                let weight = Some(case.weight(&[33]));
                case.step(0, norm).weight = weight;
            }),
            (
                "step 1 (Linear): matrix made.weight: found shape [16, 16], expected 16 rows of 32",
                |case| {
                    let matrix = case.weight(&[16, 16]);
                    case.step(1, linear).outputs[1].weight = matrix;
                },
            ),
            ("step 1 (Linear): terms made.weight: found shape [7], expected 32 values", |case| {
                let bias = Some(case.weight(&[7]));
                case.step(1, linear).outputs[0].bias = bias;
            }),
            (
                "step 2 (RopeStore): factors of a key head made.weight: found shape [6], expected 8",
                |case| {
                    let factors = case.weight(&[6]);
                    case.step(2, rope_store).head_norm.as_mut().unwrap().k_weight = factors;
                },
            ),
            ("step 3 (Attend): sinks made.weight: found shape [2], expected 4 values", |case| {
                let sinks = Some(case.weight(&[2]));
                case.step(3, attend).sinks = sinks;
            }),
        ],
    );
}

#[test]
fn numbers_that_make_no_sense_are_refused() {
    refused(
        decoder,
        &[
            ("step 0 (Norm): epsilon: found 0", |case| case.step(0, norm).epsilon = 0.0),
            ("step 0 (Norm): epsilon: found NaN", |case| case.step(0, norm).epsilon = f32::NAN),
            ("step 0 (Norm): groups of the norm: found 0", |case| case.step(0, norm).groups = 0),
            ("step 1 (Linear): factor: found inf", |case| {
                case.step(1, linear).outputs[0].scale = f32::INFINITY;
            }),
            ("step 1 (Linear): products: found none", |case| case.step(1, linear).outputs.clear()),
            (
                "step 2 (RopeStore): query heads: found 3, expected 1 or more that are a multiple of 2",
                |case| {
                    case.step(2, rope_store).n_heads = 3;
                },
            ),
            (
                "step 2 (RopeStore): values that turn: found 8 behind 1 others, expected at most the 8",
                |case| {
                    case.step(2, rope_store).rope.as_mut().unwrap().offset = 1;
                },
            ),
            ("step 2 (RopeStore): radians per position: found inf", |case| {
                let rope = case.step(2, rope_store).rope.as_mut().unwrap();
                rope.inverse_frequencies = [1.0, f32::INFINITY].into();
            }),
            ("step 2 (RopeStore): positions of one factor on queries: found 0", |case| {
                let temperature = Temperature { scale: 0.1, length: 0, offset: 0 };
                case.step(2, rope_store).temperature = Some(temperature);
            }),
            ("step 3 (Attend): query heads: found 0", |case| case.step(3, attend).n_heads = 0),
            ("step 3 (Attend): queries: found", |case| {
                case.step(3, attend).n_heads = usize::MAX / 4 + 1;
            }),
            ("step 3 (Attend): window: found 0", |case| case.step(3, attend).window = Some(0)),
            ("step 3 (Attend): cap on scores: found 0", |case| {
                case.step(3, attend).softcap = Some(0.0);
            }),
            ("step 7 (GatedAct): the bound: found -1", |case| {
                case.step(7, gated_act).activation = Activation::Clamp(-1.0);
            }),
            ("layer 0 of the KV cache: width of a value: found 0", |case| {
                case.config.kv.layers[0].value_width = 0;
            }),
            ("positions of a page of the KV cache: found 0", |case| case.config.kv.page_tokens = 0),
        ],
    );
}

#[test]
fn layers_of_the_cache_are_stored_by_one_step_and_read_after_that() {
    refused(
        decoder,
        &[
            (
                "step 2 (Attend): layer of the KV cache: found layer 0, which no step has stored",
                |case| {
                    case.program.segments[1].remove(2);
                },
            ),
            ("step 3 (RopeStore): layer of the KV cache: found stored twice", |case| {
                let mut again = case.step(2, rope_store).clone();
                again.k = case.slot(16);
                case.program.segments[1].insert(3, Step::RopeStore(again));
            }),
        ],
    );
}
