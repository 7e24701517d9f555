//! A folder of its own for each test, and a short way to quantise into it.

#![allow(dead_code, reason = "each file of tests uses some of it")]

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use realm_gguf::{Array, Gguf, TensorType, Value};
use realm_quantize::{Error, QuantizeOptions, Report, quantize};
use realm_testkit::gguf_writer::GgufWriter;

/// An empty folder for the test `name`.
pub fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Quantises `input` to `out.gguf` in `folder`.
pub fn run(
    folder: &Path,
    input: &Path,
    options: &QuantizeOptions,
) -> Result<(Report, Gguf), Error> {
    let output = folder.join("out.gguf");
    let report = quantize(input, &output, options, |_| ControlFlow::Continue(()))?;
    let gguf = Gguf::open(&output).unwrap();
    assert_eq!(report.output_bytes, gguf.file_bytes());
    Ok((report, gguf))
}

/// A file that gives every matrix of a model importances of 1.
pub fn importance(folder: &Path, model: &Path) -> PathBuf {
    let mut writer = GgufWriter::new();
    writer.kv("general.type", "imatrix");
    for tensor in Gguf::open(model).unwrap().tensors() {
        if let [cols, _, rest @ ..] = tensor.shape() {
            let n = rest.iter().product();
            let sums = vec![1.0; cols * n];
            let name = tensor.name();
            writer
                .tensor_f32(&format!("{name}.in_sum2"), &[*cols, n], TensorType::F32, &sums)
                .tensor_f32(&format!("{name}.counts"), &[1, n], TensorType::F32, &sums[..n]);
        }
    }
    let path = folder.join("importance.gguf");
    fs::write(&path, writer.to_bytes()).unwrap();
    path
}

/// Type and contents of a value, as text.
pub fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("string {:?}", text.bytes()),
        Value::Array(array) => {
            let items = match array {
                Array::Scalars(items) => items.iter().map(|item| shown(&item)).collect::<Vec<_>>(),
                Array::Strings(items) => items.iter().map(|item| format!("{item:?}")).collect(),
                Array::Arrays(items) => items.iter().map(|item| format!("{item:?}")).collect(),
            };
            format!("{}s {items:?}", array.item_type())
        }
        scalar => format!("{scalar:?}"),
    }
}
