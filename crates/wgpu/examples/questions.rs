//! Small products with known answers, as JSON for the test that asks browsers for them:
//! `cargo run -p realm-wgpu --example questions -- f32|f16|int8`

use std::io::{BufWriter, Error, Write, stdout};

use realm_wgpu::{Arithmetic, questions};
use serde_json::json;

fn main() -> Result<(), Error> {
    let arithmetic = match std::env::args().nth(1).as_deref() {
        Some("f32") => Arithmetic::F32,
        Some("f16") => Arithmetic::F16,
        Some("int8") => Arithmetic::Int8,
        _ => return Err(Error::other("expected f32, f16 or int8")),
    };
    let list: Vec<_> = questions(arithmetic)
        .map(|question| {
            json!({
                "name": question.name,
                "text": question.text,
                "reads": question.reads,
                "parameters": question.parameters,
                "choices": question.choices,
                "batch": question.batch,
                "outValues": question.out_values,
                "grid": question.grid,
                "answers": question.answers,
                "tolerance": question.tolerance,
            })
        })
        .collect();
    let mut out = BufWriter::new(stdout().lock());
    serde_json::to_writer(&mut out, &list)?;
    out.flush()
}
