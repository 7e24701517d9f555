//! The largest values of rows, chosen on the device.

use std::sync::Arc;

use realm_ir::{Backend, Program, Rows, Session, Slot, SlotInfo};
use realm_testkit::program::{Model, Size};
use realm_testkit::random::Random;

/// Values of a row, and how many are chosen.
pub const SIZES: [[usize; 2]; 5] = [[5, 8], [1024, 1], [1025, 3], [20_000, 1], [20_000, 41]];

const LOGITS: Slot = Slot(0);

/// A session that only holds rows to choose from.
pub fn open(backend: &dyn Backend, width: usize) -> Box<dyn Session> {
    let program = Program {
        slots: vec![
            SlotInfo { width, rows: Rows::Outputs },
            SlotInfo { width: 1, rows: Rows::Batch },
        ],
        weights: vec![],
        segments: vec![vec![], vec![]],
        hidden: Slot(1),
        logits: LOGITS,
        carried: vec![],
    };
    let model = Model { program: Arc::new(program), kv_layers: vec![] };
    model.open(backend, Size::default()).expect("rows fit into a buffer")
}

/// Three rows of eighths, so that there are ties; of infinities, zeros and what is no number.
fn rows(width: usize) -> Vec<f32> {
    let eighths = |value: f32| (8.0 * value).round() / 8.0;
    let mut values: Vec<f32> = Random::new(5).normals(3 * width).into_iter().map(eighths).collect();
    values[2] = f32::NEG_INFINITY;
    values[width + 1..width + 3].copy_from_slice(&[-0.0, 0.0]);
    values[2 * width + 4] = f32::NAN;
    values
}

/// Columns from the largest value down; of equal ones the lower first, and no number above all.
fn sorted(values: &[f32]) -> Vec<usize> {
    let rank = |at: &usize| if values[*at].is_nan() { f32::INFINITY } else { values[*at] };
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| rank(b).partial_cmp(&rank(a)).expect("ranks are numbers"));
    order
}

/// How the choice of `k` of `width` values differs from that of a full sort, if it does.
pub async fn fault(backend: &dyn Backend, [width, k]: [usize; 2]) -> Option<String> {
    let mut session = open(backend, width);
    let values = rows(width);
    session.write(LOGITS, &values).expect("three rows are held");
    let rows = session.read_top(LOGITS, 3, k).expect("so many can be chosen").await;
    let rows = rows.expect("the device chooses");
    if rows.len() != 3 {
        return Some(format!("{} rows of 3", rows.len()));
    }
    for (row, values) in rows.iter().zip(values.chunks(width)) {
        let wanted = &sorted(values)[..k.min(width)];
        let got: Vec<usize> = row.iter().map(|top| top.column as usize).collect();
        if got != wanted {
            return Some(format!("{k} of {width} are {got:?}, by a sort {wanted:?}"));
        }
        let is_value = |value: f32, of: f32| value == of || (value.is_nan() && of.is_nan());
        let wrong = row.iter().find(|top| !is_value(top.value, values[top.column as usize]));
        if let Some(top) = wrong {
            return Some(format!("{k} of {width}: {top:?}"));
        }
    }
    None
}
