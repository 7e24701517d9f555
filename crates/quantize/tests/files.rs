//! What becomes of a file: metadata, shapes that do not fit, importance, errors.

mod common;

use std::fs;
use std::num::NonZero;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use common::{folder, run, shown};
use realm_gguf::{Gguf, TensorType};
use realm_ir::Coded;
use realm_quantize::{Error, ErrorCode, Imatrix, Mix, QuantizeOptions, quantize, quantize_rows};
use realm_testkit::gguf_writer::GgufWriter;

/// Values between -1 and 1 that do not repeat soon.
fn values(n: usize) -> Vec<f32> {
    (0..n as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 8_388_608.0 - 1.0).collect()
}

fn write(folder: &Path, name: &str, writer: &GgufWriter) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, writer.to_bytes()).unwrap();
    path
}

/// A model of one layer, no better than it must be.
fn model(cols: usize) -> GgufWriter {
    let mut writer = GgufWriter::new();
    writer
        .kv("general.architecture", "llama")
        .kv("llama.block_count", 1u32)
        .tensor_f32("output_norm.weight", &[cols], TensorType::F32, &values(cols))
        .tensor_f32("output.weight", &[cols, 3], TensorType::F32, &values(3 * cols))
        .tensor_f32("blk.0.attn_q.weight", &[cols, 5], TensorType::F32, &values(5 * cols));
    writer
}

fn ty(gguf: &Gguf, name: &str) -> TensorType {
    gguf.require_tensor(name).unwrap().ty()
}

#[test]
fn metadata_keeps_its_order_and_says_what_the_file_is() {
    let folder = folder("metadata");
    let mut writer = model(256);
    writer
        .alignment(64)
        .kv("general.file_type", 1u64)
        .kv("x.strings", ["a", "", "ü"])
        .kv("x.floats", [1.5f32, -0.0])
        .kv("x.bools", [true, false])
        .kv("x.empty", Vec::<i16>::new())
        .kv("x.f64", 2.5f64);
    let input = write(&folder, "in.gguf", &writer);
    let (_, out) = run(&folder, &input, &QuantizeOptions::new(Mix::Q4_K_S)).unwrap();
    let before = Gguf::open(&input).unwrap();
    let keys = |gguf: &Gguf| gguf.metadata().iter().map(|e| e.0.to_owned()).collect::<Vec<_>>();
    let mut expected = keys(&before);
    expected.push("general.quantization_version".into());
    assert_eq!(keys(&out), expected);
    assert_eq!(out.metadata().require_u32("general.file_type").unwrap(), 14);
    assert_eq!(out.metadata().require_u32("general.quantization_version").unwrap(), 2);
    assert_eq!(out.alignment(), 64);
    for (key, value) in before.metadata().iter().filter(|entry| entry.0.starts_with("x.")) {
        assert_eq!(shown(value), shown(out.metadata().get(key).unwrap()));
    }
}

#[test]
fn tensors_hold_the_blocks_of_their_values_and_vectors_stay_as_they_are() {
    let folder = folder("blocks");
    let input = write(&folder, "in.gguf", &model(256));
    let (report, out) = run(&folder, &input, &QuantizeOptions::new(Mix::Q4_K_S)).unwrap();
    let norm: Vec<u8> = values(256).iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(out.require_tensor("output_norm.weight").unwrap().bytes(), norm);
    for (name, to, rows) in
        [("output.weight", TensorType::Q6_K, 3), ("blk.0.attn_q.weight", TensorType::Q4_K, 5)]
    {
        let mut expected = vec![0; rows * to.block_bytes()];
        quantize_rows(to, &values(rows * 256), 256, None, &mut expected).unwrap();
        let tensor = out.require_tensor(name).unwrap();
        assert_eq!((tensor.ty(), tensor.bytes()), (to, &expected[..]), "{name}");
    }
    let types: Vec<_> = report.tensors.iter().map(|t| (t.from, t.to, t.is_fallback)).collect();
    let expected = [TensorType::F32, TensorType::Q6_K, TensorType::Q4_K];
    assert_eq!(types, expected.map(|to| (TensorType::F32, to, false)));
}

#[test]
fn rows_that_are_not_whole_blocks_get_a_type_that_fits() {
    let folder = folder("fallback");
    let cases = [
        (Mix::Q4_K_S, 96, TensorType::Q5_0),
        (Mix::Q5_K_S, 96, TensorType::Q5_1),
        (Mix::Q6_K, 96, TensorType::Q8_0),
        (Mix::Q3_K_S, 96, TensorType::Q4_0),
        (Mix::IQ4_XS, 96, TensorType::IQ4_NL),
        (Mix::TQ1_0, 96, TensorType::Q4_0),
        (Mix::Q4_K_S, 20, TensorType::F16),
        (Mix::Q4_0, 20, TensorType::F16),
    ];
    for (mix, cols, expected) in cases {
        let input = write(&folder, "in.gguf", &model(cols));
        let (report, out) = run(&folder, &input, &QuantizeOptions::new(mix)).unwrap();
        assert_eq!(ty(&out, "blk.0.attn_q.weight"), expected, "{mix} {cols}");
        assert!(report.tensors[2].is_fallback);
    }
}

#[test]
fn experts_of_the_mxfp4_mix_are_mxfp4_and_the_rest_q8_0() {
    let folder = folder("experts");
    let mut writer = model(64);
    writer.kv("llama.expert_count", 2u32).tensor_f32(
        "blk.0.ffn_up_exps.weight",
        &[64, 3, 2],
        TensorType::F32,
        &values(64 * 6),
    );
    let input = write(&folder, "in.gguf", &writer);
    let (_, out) = run(&folder, &input, &QuantizeOptions::new(Mix::MXFP4_MOE)).unwrap();
    assert_eq!(ty(&out, "blk.0.ffn_up_exps.weight"), TensorType::MXFP4);
    assert_eq!(ty(&out, "blk.0.attn_q.weight"), TensorType::Q8_0);
    assert_eq!(ty(&out, "output.weight"), TensorType::Q8_0);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let folder = folder("threads");
    let input = write(&folder, "in.gguf", &model(512));
    let bytes = [1, 2, 7].map(|threads| {
        let threads = NonZero::new(threads);
        let options = QuantizeOptions { threads, ..QuantizeOptions::new(Mix::Q2_K) };
        run(&folder, &input, &options).unwrap();
        fs::read(folder.join("out.gguf")).unwrap()
    });
    assert!(bytes[0] == bytes[1] && bytes[1] == bytes[2]);
}

#[test]
fn a_split_model_becomes_one_file() {
    let folder = folder("split");
    for (i, bytes) in model(256).to_split_bytes(2).iter().enumerate() {
        fs::write(folder.join(format!("in-{:05}-of-00002.gguf", i + 1)), bytes).unwrap();
    }
    let input = folder.join("in-00001-of-00002.gguf");
    let (_, out) = run(&folder, &input, &QuantizeOptions::new(Mix::Q8_0)).unwrap();
    assert_eq!(out.tensors().len(), 3);
    assert!(out.metadata().iter().all(|(key, _)| !key.starts_with("split.")));
}

/// An importance matrix of `blk.0.attn_q.weight`, with these factors in two matrices at most.
fn imatrix(cols: usize, factors: &[f32], counts: &[f32]) -> GgufWriter {
    let n = counts.len();
    let mut writer = GgufWriter::new();
    writer
        .kv("general.type", "imatrix")
        .tensor_f32("blk.0.attn_q.weight.in_sum2", &[cols, n], TensorType::F32, factors)
        .tensor_f32("blk.0.attn_q.weight.counts", &[1, n], TensorType::F32, counts);
    writer
}

#[test]
fn an_importance_matrix_weights_the_columns_of_its_matrix() {
    let folder = folder("imatrix");
    let input = write(&folder, "in.gguf", &model(256));
    let sums: Vec<f32> = (0..256).map(|i| if i % 2 == 0 { 100.0 } else { 1.0 }).collect();
    let file = write(&folder, "imatrix.gguf", &imatrix(256, &sums, &[10.0]));
    assert_eq!(Imatrix::open(&file).unwrap().len(), 1);
    let options = QuantizeOptions { imatrix: Some(file), ..QuantizeOptions::new(Mix::Q2_K) };
    let (_, out) = run(&folder, &input, &options).unwrap();
    let factors: Vec<f32> = sums.iter().map(|sum| sum / 10.0).collect();
    let mut expected = vec![0; 5 * TensorType::Q2_K.block_bytes()];
    quantize_rows(TensorType::Q2_K, &values(5 * 256), 256, Some(&factors), &mut expected).unwrap();
    assert_eq!(out.require_tensor("blk.0.attn_q.weight").unwrap().bytes(), expected);
}

/// The older format of an importance matrix: entries of a name, calls and sums.
fn dat(entries: &[(&str, i32, &[f32])]) -> Vec<u8> {
    let mut bytes = (entries.len() as i32).to_le_bytes().to_vec();
    for (name, calls, sums) in entries {
        bytes.extend((name.len() as i32).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend(calls.to_le_bytes());
        bytes.extend((sums.len() as i32).to_le_bytes());
        bytes.extend(sums.iter().flat_map(|sum| sum.to_le_bytes()));
    }
    bytes.extend(7i32.to_le_bytes());
    bytes.extend(4i32.to_le_bytes());
    bytes.extend(b"text");
    bytes
}

#[test]
fn an_importance_matrix_of_the_older_format_says_the_same() {
    let folder = folder("dat");
    let input = write(&folder, "in.gguf", &model(256));
    let sums: Vec<f32> = (0..256).map(|i| (i % 7) as f32 * 10.0).collect();
    let new = write(&folder, "imatrix.gguf", &imatrix(256, &sums, &[10.0]));
    let old = folder.join("imatrix.dat");
    fs::write(&old, dat(&[("other", 0, &[1.0]), ("blk.0.attn_q.weight", 10, &sums)])).unwrap();
    assert_eq!(Imatrix::open(&old).unwrap().len(), 2);
    let bytes = [new, old].map(|file| {
        let options = QuantizeOptions { imatrix: Some(file), ..QuantizeOptions::new(Mix::Q2_K) };
        run(&folder, &input, &options).unwrap();
        fs::read(folder.join("out.gguf")).unwrap()
    });
    assert!(bytes[0] == bytes[1]);
}

#[test]
fn a_damaged_importance_matrix_of_the_older_format_is_refused() {
    let folder = folder("bad-dat");
    let path = folder.join("imatrix.dat");
    let whole = dat(&[("blk.0.attn_q.weight", 10, &[1.0; 16])]);
    let opened = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        Imatrix::open(&path)
    };
    assert!(opened(&whole).is_ok());
    let end_of_entry = whole.len() - 12;
    for n in 0..end_of_entry {
        assert!(matches!(opened(&whole[..n]), Err(Error::Imatrix { .. })), "{n} bytes");
    }
    // The counts of entries, of the name's bytes, and of sums.
    for at in [0, 4, 4 + 4 + 19 + 4] {
        for count in [-1, i32::MAX] {
            let mut bytes = whole.clone();
            bytes[at..at + 4].copy_from_slice(&i32::to_le_bytes(count));
            assert!(matches!(opened(&bytes), Err(Error::Imatrix { .. })), "{count} at {at}");
        }
    }
    assert!(opened(&dat(&[("a", 1, &[f32::NAN])])).is_err());
    assert!(opened(&dat(&[("a", 1, &[-1.0])])).is_err());
    assert!(opened(&dat(&[])).is_err());
    let missing = Imatrix::open(folder.join("no-such.dat")).unwrap_err();
    let Error::Gguf(cause) = &missing else { panic!("{missing}") };
    assert!(matches!(**cause, realm_gguf::Error::NotFound { .. }), "{missing}");
}

#[test]
fn mixes_below_three_bits_ask_for_an_importance_matrix_that_knows_their_matrices() {
    let folder = folder("needs-imatrix");
    let input = write(&folder, "in.gguf", &model(256));
    let error = run(&folder, &input, &QuantizeOptions::new(Mix::IQ2_XS)).unwrap_err();
    let Error::NeedsImatrix { tensor, has_imatrix: false, .. } = &error else { panic!("{error}") };
    assert_eq!(tensor, "blk.0.attn_q.weight");

    let other = folder.join("other.dat");
    fs::write(&other, dat(&[("blk.0.attn_k.weight", 1, &[1.0; 256])])).unwrap();
    let options = |imatrix| QuantizeOptions { imatrix, ..QuantizeOptions::new(Mix::IQ2_XS) };
    let error = run(&folder, &input, &options(Some(other))).unwrap_err();
    assert!(matches!(error, Error::NeedsImatrix { has_imatrix: true, .. }), "{error}");
    assert!(!folder.join("out.gguf").exists());

    let file = write(&folder, "imatrix.gguf", &imatrix(256, &[1.0; 256], &[1.0]));
    let (_, out) = run(&folder, &input, &options(Some(file))).unwrap();
    assert_eq!(ty(&out, "blk.0.attn_q.weight"), TensorType::IQ2_XS);
}

#[test]
fn what_is_read_is_not_overwritten() {
    let folder = folder("same-file");
    let input = write(&folder, "in.gguf", &model(256));
    let file = write(&folder, "imatrix.gguf", &imatrix(256, &[1.0; 256], &[1.0]));
    for (i, bytes) in model(256).to_split_bytes(2).iter().enumerate() {
        fs::write(folder.join(format!("part-{:05}-of-00002.gguf", i + 1)), bytes).unwrap();
    }
    let mut options = QuantizeOptions::new(Mix::Q8_0);
    options.imatrix = Some(file.clone());
    let before = names(&folder);
    let split = folder.join("part-00001-of-00002.gguf");
    let cases = [
        (&input, input.clone()),
        (&input, folder.join("../same-file/in.gguf")),
        (&input, file),
        (&split, folder.join("part-00002-of-00002.gguf")),
    ];
    for (input, output) in cases {
        let bytes = fs::read(&output).unwrap();
        let error = quantize(input, &output, &options, |_| ControlFlow::Continue(())).unwrap_err();
        assert!(matches!(error, Error::SameFile { .. }), "{error}");
        assert_eq!(fs::read(&output).unwrap(), bytes);
    }
    assert_eq!(names(&folder), before);
}

#[test]
fn an_output_that_cannot_be_written_is_named() {
    let folder = folder("unwritable");
    let input = write(&folder, "in.gguf", &model(256));
    let output = folder.join("no-such-folder/out.gguf");
    let options = QuantizeOptions::new(Mix::Q8_0);
    let error = quantize(&input, &output, &options, |_| ControlFlow::Continue(())).unwrap_err();
    assert_eq!(error.code(), ErrorCode::WriteFailed);
    assert!(error.to_string().contains("no-such-folder"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told_from_an_output_that_cannot_be_written() {
    use std::io::Write;

    let path = PathBuf::from("/dev/full");
    let mut file = fs::File::options().write(true).open(&path).unwrap();
    let source = file.write_all(b"GGUF").unwrap_err();
    let error = Error::Io { path, source };
    assert_eq!(error.code(), ErrorCode::StorageFull, "{error}");
}

#[test]
fn every_expert_has_an_importance_of_its_own() {
    let folder = folder("expert-imatrix");
    let mut writer = GgufWriter::new();
    writer.kv("general.architecture", "llama").tensor_f32(
        "blk.0.attn_q.weight",
        &[256, 2, 2],
        TensorType::F32,
        &values(4 * 256),
    );
    let input = write(&folder, "in.gguf", &writer);
    // The second expert has never been asked.
    let factors: Vec<f32> = (0..512).map(|i| (i % 5) as f32).collect();
    let file = write(&folder, "imatrix.gguf", &imatrix(256, &factors, &[1.0, 0.0]));
    let options = QuantizeOptions { imatrix: Some(file), ..QuantizeOptions::new(Mix::Q4_K_S) };
    let (_, out) = run(&folder, &input, &options).unwrap();
    let tensor = out.require_tensor("blk.0.attn_q.weight").unwrap();
    let (first, second) = tensor.bytes().split_at(2 * 144);
    let (x, y) = (&values(4 * 256)[..512], &values(4 * 256)[512..]);
    let mut expected = vec![0; 2 * 144];
    quantize_rows(TensorType::Q4_K, x, 256, Some(&factors[..256]), &mut expected).unwrap();
    assert_eq!(first, expected);
    quantize_rows(TensorType::Q4_K, y, 256, None, &mut expected).unwrap();
    assert_eq!(second, expected);
}

#[test]
fn importance_that_does_not_fit_is_refused() {
    let folder = folder("bad-imatrix");
    let input = write(&folder, "in.gguf", &model(256));
    let cases = [
        (imatrix(128, &[1.0; 128], &[1.0]), "256 columns, 1 matrices"),
        (imatrix(256, &[1.0; 512], &[1.0, 1.0]), "256 columns, 1 matrices"),
        (imatrix(256, &[f32::NAN; 256], &[1.0]), "finite numbers"),
        (imatrix(256, &[-1.0; 256], &[1.0]), "not negative"),
        (model(256), "expected imatrix"),
    ];
    for (writer, sentence) in cases {
        let file = write(&folder, "imatrix.gguf", &writer);
        let options = QuantizeOptions { imatrix: Some(file), ..QuantizeOptions::new(Mix::Q4_K_S) };
        let error = run(&folder, &input, &options).unwrap_err();
        assert!(error.to_string().contains(sentence), "{error}");
        assert!(!folder.join("out.gguf").exists());
    }
}

/// The names of the files in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn an_error_leaves_the_output_as_it_was() {
    let folder = folder("errors");
    fs::write(folder.join("out.gguf"), b"before").unwrap();
    let mut bad = model(256);
    let mut row = values(512);
    row[300] = f32::INFINITY;
    bad.tensor_f32("blk.0.attn_k.weight", &[256, 2], TensorType::F32, &row);
    let input = write(&folder, "in.gguf", &bad);
    let error = run(&folder, &input, &QuantizeOptions::new(Mix::Q4_0)).unwrap_err();
    let Error::NotFinite { tensor, row: 1, .. } = &error else { panic!("{error}") };
    assert_eq!(tensor, "blk.0.attn_k.weight");

    let good = write(&folder, "good.gguf", &model(256));
    let output = folder.join("out.gguf");
    let options = QuantizeOptions::new(Mix::Q4_0);
    let mut calls = 0;
    let error = quantize(&good, &output, &options, |progress| {
        calls += 1;
        assert!(progress.done_bytes <= progress.total_bytes);
        if calls == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap_err();
    assert!(matches!(error, Error::Stopped), "{error}");

    assert_eq!(fs::read(&output).unwrap(), b"before");
    assert_eq!(names(&folder), ["good.gguf", "in.gguf", "out.gguf"]);
    run(&folder, &good, &options).unwrap();
}

#[test]
fn a_value_that_would_become_infinite_is_refused_by_name() {
    let folder = folder("too-large");
    let cases = [
        (Mix::F16, TensorType::F32, 1e30, TensorType::F16),
        (Mix::F16, TensorType::F32, -65_520.0, TensorType::F16),
        (Mix::F16, TensorType::BF16, 1e30, TensorType::F16),
        (Mix::BF16, TensorType::F32, f32::MAX, TensorType::BF16),
        (Mix::Q4_0, TensorType::F32, 1e30, TensorType::Q4_0),
        (Mix::Q8_0, TensorType::BF16, 1e7, TensorType::Q8_0),
        (Mix::Q4_K_M, TensorType::F32, -1e7, TensorType::Q4_K),
        (Mix::IQ4_XS, TensorType::F32, 1e12, TensorType::IQ4_XS),
        (Mix::TQ2_0, TensorType::F32, 1e5, TensorType::TQ2_0),
    ];
    for (mix, from, value, to) in cases {
        let mut row = values(512);
        row[300] = value;
        let mut writer = model(256);
        writer.tensor_f32("blk.0.attn_k.weight", &[256, 2], from, &row);
        let input = write(&folder, "in.gguf", &writer);
        let error = run(&folder, &input, &QuantizeOptions::new(mix)).unwrap_err();
        let message = error.to_string();
        let Error::TooLarge { tensor, row: 1, value: found, ty, .. } = &error else {
            panic!("{mix}: {message}")
        };
        assert_eq!((tensor.as_str(), *ty), ("blk.0.attn_k.weight", to), "{mix}");
        assert!((found / value - 1.0).abs() < 0.01, "{found} instead of {value}");
        assert!(message.contains(tensor) && message.contains(to.name()), "{message}");
        assert_eq!(error.code(), ErrorCode::Shared(realm_ir::ErrorCode::ModelInvalid));
        assert_eq!(names(&folder), ["in.gguf"]);
    }
    // What the type can hold is written.
    let mut row = values(512);
    row[300] = 65_519.0;
    let mut writer = model(256);
    writer.tensor_f32("blk.0.attn_k.weight", &[256, 2], TensorType::F32, &row);
    let input = write(&folder, "in.gguf", &writer);
    for mix in [Mix::F16, Mix::BF16, Mix::Q8_0, Mix::Q4_K_M] {
        run(&folder, &input, &QuantizeOptions::new(mix)).unwrap();
    }
}

#[test]
fn quantising_again_must_be_asked_for() {
    let folder = folder("again");
    let input = write(&folder, "in.gguf", &model(256));
    let (_, once) = run(&folder, &input, &QuantizeOptions::new(Mix::Q8_0)).unwrap();
    let once_values = once.require_tensor("blk.0.attn_q.weight").unwrap();
    let again = folder.join("again.gguf");
    fs::rename(folder.join("out.gguf"), &again).unwrap();

    let mut options = QuantizeOptions::new(Mix::F32);
    let error = run(&folder, &again, &options).unwrap_err();
    assert!(matches!(error, Error::AlreadyQuantized { ty: TensorType::Q8_0, .. }), "{error}");
    options.allow_requantize = true;
    let (_, out) = run(&folder, &again, &options).unwrap();
    let mut expected = vec![0.0; 5 * 256];
    realm_quant::dequantize(TensorType::Q8_0, once_values.bytes(), &mut expected).unwrap();
    let expected: Vec<u8> = expected.iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(out.require_tensor("blk.0.attn_q.weight").unwrap().bytes(), expected);
}

#[test]
fn mixes_are_found_by_name_in_any_case() {
    for mix in Mix::all() {
        assert_eq!(mix.name().to_lowercase().parse::<Mix>().unwrap(), mix);
    }
    assert_eq!("q4_k".parse::<Mix>().unwrap(), Mix::Q4_K_M);
    let error = "Q4_K_XL".parse::<Mix>().unwrap_err();
    assert!(error.to_string().contains("Q4_K_XL") && error.to_string().contains("Q4_K_M"));
}
