//! Steps whose rows know nothing of each other.

use realm_cpu::Level;
use realm_gguf::TensorType;
use realm_ir::{Activation, Add, Embed, GatedAct, Mix, Norm, NormKind, Sparsify, Step};
use realm_testkit::oracle::NaiveBackend;

use crate::bench::{Bench, F32_ROUNDING, cpu};

#[test]
fn norms_in_groups_leave_the_rest_of_a_row() {
    for kind in [NormKind::Rms, NormKind::Layer] {
        for shared in [true, false] {
            let (groups, width) = (3, 32);
            let mut bench = Bench::new(4);
            let slot = bench.slot(groups * width + 8);
            let n = if shared { width } else { groups * width };
            let (weight, bias) = (Some(bench.values(&[n])), Some(bench.values(&[n])));
            let epsilon = 1e-5;
            let norm = Norm { input: slot, out: slot, kind, groups, width, weight, bias, epsilon };
            let what = format!("{kind:?}, shared weights {shared}");
            bench.check(&what, &[Step::Norm(norm.clone())], slot, F32_ROUNDING);
            let bare = Norm { weight: None, bias: None, ..norm };
            bench.check(&what, &[Step::Norm(bare)], slot, F32_ROUNDING);
        }
    }
}

#[test]
fn embeddings_add_positions_and_a_constant() {
    for ty in [TensorType::F32, TensorType::F16, TensorType::Q8_0] {
        let mut bench = Bench::new(5);
        let out = bench.slot(64);
        let table = bench.matrix(&[64, 8], ty);
        // Fewer positions than rows: those beyond the last take the last.
        let positions = Some(bench.matrix(&[64, 3], ty));
        let constant = Some(bench.values(&[64]));
        let embed = Embed { table, out, scale: 8.0, positions, constant };
        bench.check(&format!("{ty}"), &[Step::Embed(embed)], out, F32_ROUNDING);
    }
}

#[test]
fn a_factor_may_be_a_part_of_a_wider_row() {
    let mut bench = Bench::new(15);
    let (gate, up, out) = (bench.slot(16), bench.slot(50), bench.slot(16));
    let activation = Activation::GeluTanh;
    let mut results = Vec::new();
    for up_offset in [0, 16, 34] {
        let step = GatedAct { gate, up: Some(up), up_offset, out, activation };
        let steps = [Step::GatedAct(step)];
        bench.check(&format!("from {up_offset} on"), &steps, out, F32_ROUNDING);
        results.push(bench.together(&NaiveBackend, &steps, out));
    }
    assert!(results[0] != results[1] && results[1] != results[2]);
}

#[test]
fn every_activation_equals_the_oracle_with_and_without_a_factor() {
    for activation in [
        Activation::Silu,
        Activation::GeluTanh,
        Activation::GeluErf,
        Activation::Relu,
        Activation::ReluSquared,
        Activation::Sigmoid,
        Activation::ClampedSwiglu,
        Activation::Softcap(1.5),
        Activation::Clamp(2.0),
        Activation::Xielu { positive: 0.9, negative: 0.6, beta: 0.5, epsilon: -1e-6 },
    ] {
        for (gate_width, has_up) in [(64, false), (64, true), (1, true)] {
            let mut bench = Bench::new(8);
            let (gate, up, out) = (bench.slot(gate_width), bench.slot(64), bench.slot(64));
            // Beyond the bounds at 7 too.
            for (_, values) in &mut bench.values {
                values.iter_mut().for_each(|value| *value *= 4.0);
            }
            let step = GatedAct { gate, up: has_up.then_some(up), up_offset: 0, out, activation };
            let what = format!("{activation:?}, gate of {gate_width}, factor {has_up}");
            bench.check(&what, &[Step::GatedAct(step)], out, F32_ROUNDING);
        }
    }
}

#[test]
fn sums_scale_both_terms() {
    let mut bench = Bench::new(9);
    let (a, b, out) = (bench.slot(40), bench.slot(40), bench.slot(40));
    for out in [out, a] {
        let add = Add { a, b, out, a_scale: -0.5, scale: 3.0 };
        bench.check("sum", &[Step::Add(add)], out, F32_ROUNDING);
    }
}

#[test]
fn mixed_slots_may_be_their_own_results() {
    let mut bench = Bench::new(14);
    let [a, b, c, d] = [(); 4].map(|()| bench.slot(40));
    for (inputs, outputs, accumulate) in [
        (vec![a, b], vec![c, d], false),
        (vec![a, b], vec![c, d], true),
        (vec![a, b, c], vec![a, b, c], false),
        (vec![b, c], vec![d, b], true),
        (vec![a], vec![b, c, d], true),
    ] {
        let weights = bench.slot(inputs.len() * outputs.len());
        let step = Mix { inputs, outputs: outputs.clone(), weights, accumulate };
        for out in outputs {
            let what = format!("{step:?}, {out:?}");
            bench.check(&what, &[Step::Mix(step.clone())], out, F32_ROUNDING);
        }
    }
}

#[test]
fn sparse_rows_keep_what_exceeds_most_of_their_first_values() {
    let mut bench = Bench::new(15);
    let values = bench.slot(200);
    for (width, deviations) in [(200, 1.6448536), (160, 0.5), (2, -0.25), (200, -2.0)] {
        let steps = [Step::Sparsify(Sparsify { values, width, deviations })];
        bench.check(&format!("{width}, {deviations}"), &steps, values, F32_ROUNDING);
        let before = &bench.values[0].1;
        for (row, before) in bench
            .together(&cpu(2, Level::best()), &steps, values)
            .chunks(200)
            .zip(before.chunks(200))
        {
            assert_eq!(row[width..], before[width..], "values behind the first {width}");
            let n_kept = row[..width].iter().filter(|value| **value > 0.0).count();
            if deviations > 1.0 {
                // Of a normal distribution, a twentieth.
                assert!((1..=20).contains(&n_kept), "{n_kept} of {width}");
            }
        }
    }
}
