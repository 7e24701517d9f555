//! Each step alone, with all its options, against the oracle.

mod cases;
mod common;

use pollster::block_on;
use realm_wgpu::{Arithmetic, WgpuBackend};

use cases::{Case, attention, experts, recurrent, rows, tables, top};
use common::{backend, open};

/// Every case gives what the oracle gives.
#[track_caller]
fn check(cases: Vec<Case>) {
    let fault = |case: &Case| block_on(case.fault(backend(), Arithmetic::F32));
    let faults: Vec<_> = cases.iter().filter_map(fault).collect();
    assert!(faults.is_empty() && !cases.is_empty(), "{faults:#?}");
}

/// Each case gives something else than the first.
#[track_caller]
fn assert_changes(cases: &[Case]) {
    let (plain, others) = cases.split_first().expect("a case without options");
    let wanted = block_on(plain.wanted());
    for case in others {
        assert_ne!(block_on(case.wanted()), wanted, "{} changes nothing", case.what);
    }
}

#[test]
fn norms_in_groups_leave_the_rest_of_a_row() {
    check(rows::norms());
}

#[test]
fn every_activation_equals_the_oracle_with_and_without_a_factor() {
    check(rows::activations());
}

#[test]
fn sums_scale_both_terms_and_may_replace_the_first() {
    check(rows::sums());
}

#[test]
fn output_rows_are_taken_and_worked_on() {
    check(rows::output_rows());
}

#[test]
fn every_head_has_a_matrix_of_its_own() {
    check(rows::heads());
}

#[test]
fn mixed_slots_may_be_their_own_results() {
    check(rows::mixes());
}

#[test]
fn sparse_rows_keep_what_exceeds_most_of_their_first_values() {
    check(rows::sparse());
}

#[test]
fn options_of_attention_equal_the_oracle_and_change_the_result() {
    assert_changes(&attention::options());
    check(attention::options());
}

#[test]
fn attention_fits_heads_of_every_width_and_number() {
    check(attention::widths());
}

#[test]
fn halves_in_the_cache_are_as_close_as_halves_are() {
    check(attention::halves());
}

#[test]
fn latent_attention_takes_its_values_from_the_keys_before_they_turn() {
    check(attention::latent());
}

#[test]
fn heads_turn_are_normalised_and_grow_with_their_position() {
    check(attention::rotations());
}

#[test]
fn positions_that_several_workgroups_share_are_put_together() {
    let backend = open(None);
    for case in attention::shared_out() {
        let before = backend.counters().dispatches;
        assert_eq!(block_on(case.fault(&backend, Arithmetic::F32)), None);
        let n_dispatches = backend.counters().dispatches - before;
        let n_steps = 2 * case.bench.calls.len() as u64;
        assert!(n_dispatches > n_steps, "{}: nothing is put together", case.what);
    }
}

#[test]
fn heads_in_several_buffers_give_what_one_buffer_gives() {
    let whole = open(None);
    // Devices by the limit of their bindings.
    let mut devices: Vec<(usize, WgpuBackend)> = Vec::new();
    for (limit, case) in attention::dealt_out() {
        if !devices.iter().any(|(known, _)| *known == limit) {
            devices.push((limit, open(Some(limit))));
        }
        let (_, small) = devices.iter().find(|(known, _)| *known == limit).expect("just opened");
        let [in_one, dealt_out] = [&whole, small].map(|backend| {
            let before = backend.counters().dispatches;
            assert_eq!(block_on(case.fault(backend, Arithmetic::F32)), None, "{limit} bytes");
            backend.counters().dispatches - before
        });
        // A buffer more is a dispatch more that stores and one that attends.
        let n_calls = case.bench.calls.len() as u64;
        assert!(dealt_out >= in_one + 2 * n_calls, "{}: {in_one}, {dealt_out}", case.what);
    }
}

#[test]
fn convolutions_go_on_where_the_last_call_ended() {
    check(recurrent::convolutions());
}

#[test]
fn a_delta_rule_remembers_what_earlier_calls_taught_it() {
    check(recurrent::delta_rules());
}

#[test]
fn a_selective_scan_remembers_what_earlier_calls_told_it() {
    check(recurrent::selective_scans());
}

#[test]
fn experts_of_several_types_match_for_few_and_many_rows() {
    check(experts::types());
}

#[test]
fn options_of_a_mixture_match_and_change_the_result() {
    assert_changes(&experts::options());
    check(experts::options());
}

#[test]
fn of_experts_with_equal_scores_the_first_are_chosen_by_every_gating() {
    check(experts::ties());
}

#[test]
fn experts_in_several_buffers_are_found() {
    // Two experts' matrices fit into a buffer.
    let small = open(Some(600_000));
    let floats = experts::types().swap_remove(0);
    assert_eq!(block_on(floats.fault(&small, Arithmetic::F32)), None);
}

#[test]
fn rows_of_every_type_are_looked_up() {
    check(tables::types());
}

#[test]
fn embeddings_scale_tokens_and_add_positions_and_a_constant() {
    check(tables::options());
}

#[test]
fn the_largest_values_are_those_of_a_full_sort_and_ties_go_to_the_lower_column() {
    for size in top::SIZES {
        assert_eq!(block_on(top::fault(backend(), size)), None);
    }
    let mut session = top::open(backend(), 1024);
    let too_many = session.read_top(realm_ir::Slot(0), 17, 3).expect("so many can be chosen");
    assert!(block_on(too_many).is_err());
}
