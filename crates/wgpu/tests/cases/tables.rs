//! Rows looked up in tables.

use realm_gguf::TensorType;
use realm_ir::{Embed, Step};
use realm_testkit::bench::{Bench, N_VOCAB};
use realm_testkit::random;

use super::Case;

pub fn all() -> Vec<Case> {
    [types(), options()].concat()
}

/// Every type that a table can have.
pub fn types() -> Vec<Case> {
    let floats = [TensorType::F32, TensorType::F16, TensorType::BF16];
    let of_type = |ty| {
        let mut bench = Bench::new(17);
        let out = bench.slot(256);
        let table = bench.matrix(&[256, N_VOCAB], ty);
        let step = Embed { table, out, scale: 3.0, positions: None, constant: None };
        Case::new(format!("table of {ty}"), bench, vec![Step::Embed(step)], &[out])
    };
    floats.into_iter().chain(random::block_types()).map(of_type).collect()
}

/// Tables for positions and a constant row beside that for tokens.
pub fn options() -> Vec<Case> {
    let tables = [
        (TensorType::F32, 75, TensorType::F16),
        (TensorType::Q6_K, 256, TensorType::F32),
        (TensorType::IQ3_S, 512, TensorType::Q8_0),
    ];
    let mut cases = Vec::new();
    for (ty, width, position_ty) in tables {
        for has_constant in [false, true] {
            let mut bench = Bench::new(6);
            let out = bench.slot(width);
            let table = bench.matrix(&[width, N_VOCAB], ty);
            // Fewer than there are positions.
            let positions = Some(bench.matrix(&[width, 7], position_ty));
            let constant = has_constant.then(|| bench.values(&[width]));
            let step = Embed { table, out, scale: 3.0, positions, constant };
            let what = format!("table of {ty} and positions, constant {has_constant}");
            cases.push(Case::new(what, bench, vec![Step::Embed(step)], &[out]));
        }
    }
    cases
}
