//! Slots are as wide as what layers leave in them, whatever a file's numbers say beside.

use realm_gguf::Gguf;
use realm_ir::Rows;
use realm_model::build;
use realm_testkit::families::{self, Family};

/// Width of the hidden state of all families, and of all queries and keys.
const EMBEDDING: usize = 64;

/// Width of an expert of all families.
const EXPERT: usize = 32;

fn family(name: &str) -> Family {
    let found = families::all().into_iter().find(|family| family.name() == name);
    found.unwrap_or_else(|| panic!("no family {name}"))
}

/// Widths of the slots with a row per token.
fn widths(family: &Family) -> Vec<usize> {
    let plan = build(&Gguf::from_bytes(family.file()).unwrap(), 64).unwrap();
    let of_batch = plan.program.slots.iter().filter(|slot| slot.rows == Rows::Batch);
    of_batch.map(|slot| slot.width).collect()
}

#[test]
fn a_dense_part_that_no_layer_has_takes_no_room() {
    for name in ["qwen3moe", "qwen2moe", "bailingmoe"] {
        // What a converter writes there is the width of a dense part, which these have not.
        let wide = widths(&family(name).key("feed_forward_length", 9600u32));
        assert_eq!(wide, widths(&family(name)), "{name}");
        assert_eq!(wide.iter().max(), Some(&EMBEDDING), "{name}");
    }
}

#[test]
fn shared_experts_have_slots_of_their_own_width() {
    let has = |name: &str| widths(&family(name)).iter().filter(|width| **width == EXPERT).count();
    // Gate and up; the experts that are chosen have no slots.
    assert_eq!(has("qwen2moe"), has("qwen3moe") + 2);
}

#[test]
fn a_dense_layer_before_experts_has_room() {
    let dense = family("deepseek");
    assert_eq!(widths(&dense).iter().filter(|width| **width == 96).count(), 2, "gate and up");
}
