//! The type of every tensor in every mix, beside what llama.cpp chose for the same
//! models. Where the table comes from is said in `data/types.json`.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use realm_gguf::TensorType;
use realm_quantize::{Error, Mix, QuantizeOptions, TensorReport, plan};
use realm_testkit::gguf_writer::GgufWriter;
use realm_testkit::kit;
use serde_json::Value;

fn table() -> Value {
    serde_json::from_str(include_str!("data/types.json")).unwrap()
}

/// The model that a row of the table describes.
fn model(row: &Value) -> GgufWriter {
    let architecture = row["architecture"].as_str().unwrap();
    let number = |key: &str| row[key].as_u64().unwrap() as usize;
    let (cols, n_experts) = (number("cols"), number("expert_count"));
    let mut writer = GgufWriter::new();
    writer.kv("general.architecture", architecture);
    for key in ["block_count", "expert_count"] {
        writer.kv(&format!("{architecture}.{key}"), number(key) as u32);
    }
    for key in ["head_count", "head_count_kv"] {
        writer.kv(&format!("{architecture}.attention.{key}"), number(key) as u32);
    }
    let mut tensor = |name: &str, shape: &[usize]| {
        let values = vec![0.0; shape.iter().product()];
        writer.tensor_f32(name, shape, TensorType::F32, &values);
    };
    // Any mix names the roles; those of the whole model are a single tensor.
    for role in row["types"]["Q8_0"].as_object().unwrap().keys() {
        if role == "token_embd.weight" || role == "output.weight" {
            tensor(role, &[cols, 4]);
            continue;
        }
        for layer in 0..number("block_count") {
            let name = format!("blk.{layer}.{role}");
            match role.contains("_exps") {
                true => tensor(&name, &[cols, 2, n_experts]),
                false => tensor(&name, &[cols, 2]),
            }
        }
    }
    writer
}

/// The types of each role in the order of layers, written as in the table.
fn by_role(reports: &[TensorReport]) -> BTreeMap<String, String> {
    let mut types: BTreeMap<&str, Vec<(usize, TensorType)>> = BTreeMap::new();
    for report in reports.iter().filter(|report| !report.name.ends_with("norm.weight")) {
        let in_layer = report.name.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
        let (layer, role) = in_layer.unwrap_or(("0", &report.name));
        types.entry(role).or_default().push((layer.parse().unwrap(), report.to));
    }
    let runs = |mut types: Vec<(usize, TensorType)>| {
        types.sort();
        let runs = types.chunk_by(|a, b| a.1 == b.1).map(|run| match run.len() {
            1 => run[0].1.to_string(),
            n => format!("{}*{n}", run[0].1),
        });
        runs.collect::<Vec<_>>().join(" ")
    };
    types.into_iter().map(|(role, types)| (role.to_owned(), runs(types))).collect()
}

fn check(title: &str, input: &Path, folder: &Path, expected: &Value) {
    let importance = common::importance(folder, input);
    let mut n_compared = 0;
    for mix in Mix::all() {
        let mut options = QuantizeOptions::new(mix);
        let Some(expected_plain) = expected.get(mix.name()) else {
            continue; // llama.cpp has no type of last resort for these rows
        };
        match plan(input, &options) {
            Ok(reports) => {
                let types = serde_json::to_value(by_role(&reports)).unwrap();
                assert_eq!(&types, expected_plain, "{title}, {mix}");
            }
            Err(Error::NeedsImatrix { has_imatrix: false, .. }) => {
                assert_eq!(expected_plain, "needs importance", "{title}, {mix}");
            }
            Err(error) => panic!("{title}, {mix}: {error}"),
        }
        options.imatrix = Some(importance.clone());
        let with = expected.get(format!("{mix} with importance")).unwrap_or(expected_plain);
        let types = serde_json::to_value(by_role(&plan(input, &options).unwrap())).unwrap();
        assert_eq!(&types, with, "{title}, {mix} with importance");
        n_compared += 1;
    }
    assert!(n_compared >= 30, "{title}: {n_compared} of the mixes are in the table");
}

#[test]
fn the_bundled_model_gets_the_types_that_llama_cpp_gives_it() {
    let folder = common::folder("mixes-bundled");
    let input = kit::path().join("../models/realm-tiny-stories-f16.gguf");
    check("bundled", &input, &folder, &table()["bundled"]["types"]);
}

#[test]
fn models_of_all_shapes_get_the_types_that_llama_cpp_gives_them() {
    let folder = common::folder("mixes-shapes");
    for row in table()["models"].as_array().unwrap() {
        let input = folder.join("in.gguf");
        fs::write(&input, model(row).to_bytes()).unwrap();
        check(row["name"].as_str().unwrap(), &input, &folder, &row["types"]);
    }
}
