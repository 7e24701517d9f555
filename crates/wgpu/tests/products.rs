//! Matrix products of every type, against the oracle.

mod common;

use realm_gguf::TensorType;
use realm_ir::{Backend, Linear, LinearOutput, Slot, Step};
use realm_testkit::bench::Bench;
use realm_testkit::compare::compare;
use realm_testkit::oracle::NaiveBackend;
use realm_testkit::random::{self, Random};
use realm_wgpu::{Arithmetic, Tuning, WgpuBackend, check_products};

use common::{F32_ROUNDING, assert_close, backend, open, open_with};

/// Results within `tolerance` of the oracle's; how far they are off, in parts of these.
fn check(
    backend: &WgpuBackend,
    bench: &Bench,
    what: &str,
    steps: &[Step],
    outs: &[Slot],
    tolerance: f32,
) -> f32 {
    let wanted = bench.run(&NaiveBackend, steps, outs);
    let got = bench.run(backend, steps, outs);
    assert!(compare(&got, &wanted).rms_wanted > 1e-3, "{what}: zeros show nothing");
    assert_close(what, &got, &wanted, tolerance);
    compare(&got, &wanted).relative()
}

fn types() -> impl Iterator<Item = TensorType> {
    [TensorType::F32, TensorType::F16, TensorType::BF16].into_iter().chain(random::block_types())
}

/// Products of one input with two weights of a type: with a bias and a factor, and added to
/// what is there. Calls have 1, 2, 12 and 48 rows: few and many, in all kernels.
fn two_products(bench: &mut Bench, ty: TensorType, width: usize) -> (Step, [Slot; 2]) {
    let input = bench.slot(width);
    let outs = [bench.slot(37), bench.slot(70)];
    let output = |weight, bias, out, scale, accumulate| LinearOutput {
        weight,
        bias,
        out,
        scale,
        accumulate,
    };
    let weights = [37, 70].map(|n_columns| bench.matrix(&[width, n_columns], ty));
    let bias = Some(bench.values(&[37]));
    let outputs = vec![
        output(weights[0], bias, outs[0], 0.7, false),
        output(weights[1], None, outs[1], 1.0, true),
    ];
    (Step::Linear(Linear { input, outputs }), outs)
}

#[test]
fn every_type_is_multiplied_with_few_and_many_rows() {
    for ty in types() {
        let mut bench = Bench::new(1);
        let (step, outs) = two_products(&mut bench, ty, 768);
        check(backend(), &bench, ty.name(), &[step], &outs, 2.0 * F32_ROUNDING);
    }
}

/// Products of one input with weights of so many columns each, the second with a bias.
fn beside_each_other(bench: &mut Bench, ty: TensorType, columns: &[usize]) -> (Step, Vec<Slot>) {
    let input = bench.slot(512);
    let mut output = |(index, n_columns): (usize, &usize)| LinearOutput {
        weight: bench.matrix(&[512, *n_columns], ty),
        bias: (index == 1).then(|| bench.values(&[*n_columns])),
        out: bench.slot(n_columns + index),
        scale: 0.7,
        accumulate: false,
    };
    let outputs: Vec<_> = columns.iter().enumerate().map(&mut output).collect();
    let outs = outputs.iter().map(|output| output.out).collect();
    (Step::Linear(Linear { input, outputs }), outs)
}

#[test]
fn matrices_of_one_input_are_multiplied_as_if_each_were_alone() {
    // The last of four has no place beside the first three.
    let lists = [&[37, 5][..], &[8, 8, 8, 30]].map(|columns| (TensorType::Q6_K, columns));
    let of_types = types().map(|ty| (ty, &[40, 70, 3][..]));
    for (ty, columns) in of_types.chain(lists) {
        let mut bench = Bench::new(11);
        let (step, outs) = beside_each_other(&mut bench, ty, columns);
        let what = format!("{ty}, {columns:?}");
        check(backend(), &bench, &what, &[step], &outs, 2.0 * F32_ROUNDING);
    }
    let tuning = Tuning { vector: Arithmetic::Int8, matrix: Arithmetic::Int8, subgroups: true };
    let mut bench = Bench::new(12);
    let (step, outs) = beside_each_other(&mut bench, TensorType::Q4_K, &[40, 70, 3]);
    check(&open_with(tuning), &bench, "int8", &[step], &outs, 3e-2);
}

#[test]
fn every_arithmetic_is_as_close_as_its_numbers_are_and_leaves_floats_alone() {
    let types = [TensorType::F16, TensorType::Q8_0, TensorType::Q4_K, TensorType::MXFP4];
    let arithmetics =
        [(Arithmetic::F32, 2.0 * F32_ROUNDING), (Arithmetic::F16, 1e-2), (Arithmetic::Int8, 3e-2)];
    for (arithmetic, tolerance) in arithmetics {
        let tuning = Tuning { vector: arithmetic, matrix: arithmetic, subgroups: true };
        let backend = open_with(tuning);
        for ty in types {
            let mut bench = Bench::new(2);
            let (step, outs) = two_products(&mut bench, ty, 512);
            let what = format!("{ty}, {arithmetic:?}");
            let off = check(&backend, &bench, &what, &[step], &outs, tolerance);
            let is_exact = arithmetic == Arithmetic::F32 || ty == TensorType::F16;
            assert_eq!(off < F32_ROUNDING, is_exact, "{what}: {off}");
        }
    }
}

#[test]
fn every_kernel_knows_its_answers() {
    for arithmetic in [Arithmetic::F32, Arithmetic::F16, Arithmetic::Int8] {
        for subgroups in [false, true] {
            let checked = check_products(backend(), arithmetic, subgroups);
            let (n, faults) = pollster::block_on(checked).unwrap();
            assert!(n > 50 && faults.is_empty(), "{n} kernels: {faults:?}");
        }
    }
}

#[test]
fn floats_may_have_rows_of_any_width() {
    for ty in [TensorType::F32, TensorType::F16, TensorType::BF16] {
        for width in [1, 30, 67, 129] {
            let mut bench = Bench::new(3);
            let (step, outs) = two_products(&mut bench, ty, width);
            check(backend(), &bench, &format!("{ty} of {width}"), &[step], &outs, F32_ROUNDING);
        }
    }
}

#[test]
fn a_weight_may_be_narrower_than_its_slots() {
    for (ty, in_width) in [(TensorType::Q8_0, 69), (TensorType::Q4_0, 72), (TensorType::F16, 66)] {
        let mut bench = Bench::new(4);
        let [input, out] = [in_width, 41].map(|width| bench.slot(width));
        let weight = bench.matrix(&[64, 33], ty);
        let output = LinearOutput { weight, bias: None, out, scale: 1.0, accumulate: false };
        let step = Step::Linear(Linear { input, outputs: vec![output] });
        // Of the columns that are not written, the oracle's hold the same.
        check(backend(), &bench, ty.name(), &[step], &[out], F32_ROUNDING);
    }
}

#[test]
fn a_weight_of_many_pieces_and_several_parts_is_whole() {
    let small = open(Some(400_000));
    for ty in [TensorType::Q6_K, TensorType::Q5_1, TensorType::F16] {
        let mut bench = Bench::new(5);
        let [input, out] = [768, 1500].map(|width| bench.slot(width));
        let (weight, bias) = (bench.matrix(&[768, 1500], ty), Some(bench.values(&[1500])));
        let output = LinearOutput { weight, bias, out, scale: 1.0, accumulate: false };
        let step = Step::Linear(Linear { input, outputs: vec![output] });
        for (name, backend) in [("whole", backend()), ("in parts", &small)] {
            let what = format!("{ty} {name}");
            check(backend, &bench, &what, std::slice::from_ref(&step), &[out], 2.0 * F32_ROUNDING);
        }
    }
}

#[test]
fn a_weight_is_never_whole_in_memory_a_second_time() {
    let bytes_of = |n_rows: usize| {
        let shape = [1024, n_rows];
        let tensor =
            random::tensor(&mut Random::new(10), "output.weight", &shape, TensorType::Q8_0, 0.1);
        let used = allocation_counter::measure(|| drop(backend().upload(&tensor).unwrap()));
        (tensor.bytes().len() as u64, used.bytes_max)
    };
    let (small, large) = (bytes_of(1024), bytes_of(16 * 1024));
    assert!(large.0 > 15 << 20);
    assert!(large.1 < small.1 + (64 << 10), "{large:?} after {small:?}");
}
