//! Plans for requests that are nothing but numbers.

use proptest::prelude::*;

use super::*;

const POLICY: Policy = Policy { max_rows: 16, max_running: 4, rows_beside_decoding: 6 };
const PLENTY: Room = Room { pages: 100, states: 100 };

fn pages(pages: usize) -> Room {
    Room { pages, states: 0 }
}

/// A generation under way with `n_pending` tokens to read.
fn running(n_pending: usize) -> Candidate {
    Candidate {
        kind: Kind::Generation,
        n_pending,
        is_admitted: true,
        needs: Room::NONE,
        holds: pages(2),
        was_left_out: false,
    }
}

/// A generation that waits for so many pages.
fn waiting(n_pages: usize) -> Candidate {
    Candidate { is_admitted: false, needs: pages(n_pages), holds: Room::NONE, ..running(10) }
}

fn whole_text(n_rows: usize) -> Candidate {
    Candidate { kind: Kind::Embedding { whole_rows: Some(n_rows) }, ..running(n_rows) }
}

fn layers(n_rows: usize) -> Candidate {
    Candidate { kind: Kind::Layers, ..running(n_rows) }
}

fn plan_of(candidates: &[Candidate], free: Room) -> Plan {
    plan(&POLICY, &Situation { candidates, idle: &[], free })
}

fn rows_of(candidates: &[Candidate]) -> Vec<usize> {
    match plan_of(candidates, PLENTY) {
        Plan::Run { rows, .. } => rows,
        other => panic!("{other:?}"),
    }
}

fn admitted_of(candidates: &[Candidate], free: Room) -> Vec<usize> {
    match plan_of(candidates, free) {
        Plan::Run { admitted, .. } => admitted,
        other => panic!("{other:?}"),
    }
}

#[test]
fn decoding_takes_a_row_each_and_reading_shares_what_is_left() {
    assert_eq!(rows_of(&[running(1), running(50), running(50)]), [1, 3, 3]);
    assert_eq!(rows_of(&[running(50), running(50)]), [8, 8]);
    assert_eq!(rows_of(&[running(2), running(50)]), [2, 14], "nobody gets more than it has");
    assert_eq!(rows_of(&[running(50), running(1)]), [6, 1]);
}

#[test]
fn a_text_that_cannot_be_cut_has_all_its_rows_or_none() {
    assert_eq!(rows_of(&[whole_text(10), whole_text(10)]), [10, 0]);
    assert_eq!(rows_of(&[whole_text(10), whole_text(3)]), [10, 3]);
    let left_out = Candidate { was_left_out: true, ..whole_text(10) };
    assert_eq!(rows_of(&[whole_text(10), left_out]), [0, 10], "its turn came");
}

#[test]
fn layer_calls_get_a_batch_of_their_own_and_a_small_one_beside_decoding() {
    assert_eq!(rows_of(&[layers(50), running(50)]), [16, 16]);
    assert_eq!(rows_of(&[layers(50), running(1)]), [6, 1]);
    assert_eq!(rows_of(&[layers(5), running(1), running(9)]), [5, 1, 6]);
}

#[test]
fn requests_are_admitted_in_their_order_and_one_without_room_holds_up_the_rest() {
    assert_eq!(admitted_of(&[running(1), waiting(3), waiting(2)], pages(5)), [1, 2]);
    assert_eq!(admitted_of(&[running(1), waiting(6), waiting(1)], pages(5)), [0; 0]);
    let no_room_wanted = Candidate { is_admitted: false, needs: Room::NONE, ..layers(4) };
    assert_eq!(admitted_of(&[running(1), waiting(6), no_room_wanted], pages(5)), [2]);
    let of_a_sequence = Candidate { needs: pages(1), ..no_room_wanted };
    assert_eq!(admitted_of(&[running(1), waiting(6), of_a_sequence], pages(5)), [0; 0]);
}

#[test]
fn no_more_run_than_the_policy_allows_but_layer_calls_do_not_count() {
    let full = [running(1); 4];
    let layers = Candidate { is_admitted: false, ..layers(4) };
    let all = [&full[..], &[waiting(1), layers]].concat();
    assert_eq!(admitted_of(&all, PLENTY), [5]);
}

#[test]
fn when_pages_run_out_the_youngest_gives_way_and_the_oldest_never_does() {
    let hungry = Candidate { needs: pages(1), ..running(1) };
    assert_eq!(plan_of(&[hungry, running(1), running(1)], Room::NONE), Plan::Suspend(2));
    assert_eq!(plan_of(&[running(1), running(1), hungry], Room::NONE), Plan::Suspend(2));
    assert_eq!(plan_of(&[running(1), hungry, waiting(0)], Room::NONE), Plan::Suspend(1));
    let holds_nothing = Candidate { holds: Room::NONE, ..running(1) };
    assert_eq!(plan_of(&[hungry, running(1), holds_nothing], Room::NONE), Plan::Suspend(1));
    let between_texts = Candidate { needs: pages(4), holds: Room::NONE, ..running(9) };
    assert_eq!(plan_of(&[between_texts, between_texts], pages(7)), Plan::Suspend(1), "it waits");
}

#[test]
fn idle_sequences_give_way_only_when_nobody_runs_who_could() {
    let idle = [pages(0), Room { pages: 1, states: 1 }, Room { pages: 9, states: 1 }];
    let plan_of = |candidates: &[Candidate], free| {
        plan(&POLICY, &Situation { candidates, idle: &idle, free })
    };
    assert_eq!(plan_of(&[waiting(4)], pages(3)), Plan::Evict(1), "the first that has any");
    let run = Plan::Run { admitted: Vec::new(), rows: vec![1, 0] };
    assert_eq!(plan_of(&[running(1), waiting(4)], pages(3)), run, "it waits");
    let hungry = Candidate { needs: pages(1), ..running(1) };
    assert_eq!(plan_of(&[hungry, running(1)], Room::NONE), Plan::Suspend(1));
    assert_eq!(plan_of(&[hungry], Room::NONE), Plan::Evict(1));
    let stateful = Candidate { needs: Room { pages: 0, states: 1 }, ..waiting(0) };
    assert_eq!(plan_of(&[stateful], pages(3)), Plan::Evict(1), "what is missing is a state");
}

#[test]
fn what_nobody_can_give_is_refused() {
    assert_eq!(plan_of(&[waiting(4)], pages(3)), Plan::Refuse(0));
    let hungry = Candidate { needs: pages(1), ..running(1) };
    assert_eq!(plan_of(&[hungry], Room::NONE), Plan::Refuse(0));
    let holding = Candidate { holds: pages(2), ..waiting(9) };
    assert_eq!(plan_of(&[waiting(4), holding], pages(3)), Plan::Suspend(1), "it waits anyway");
    let holds_no_state = Candidate { needs: Room { pages: 0, states: 1 }, ..waiting(0) };
    assert_eq!(plan_of(&[holds_no_state, holding], pages(3)), Plan::Refuse(0));
}

fn any_candidate() -> impl Strategy<Value = Candidate> {
    let kind = prop_oneof![
        Just(Kind::Generation),
        Just(Kind::Embedding { whole_rows: None }),
        Just(Kind::Layers),
    ];
    let room = || (0usize..5, 0usize..2).prop_map(|(pages, states)| Room { pages, states });
    (kind, 1usize..40, any::<bool>(), room(), room()).prop_map(
        |(kind, n_pending, is_admitted, needs, holds)| Candidate {
            kind,
            n_pending,
            is_admitted,
            needs,
            holds,
            was_left_out: false,
        },
    )
}

proptest! {
    #[test]
    fn a_plan_to_run_stays_within_everything_it_was_given(
        candidates in proptest::collection::vec(any_candidate(), 0..9),
        free in (0usize..12, 0usize..4).prop_map(|(pages, states)| Room { pages, states }),
    ) {
        let situation = Situation { candidates: &candidates, idle: &[], free };
        let Plan::Run { admitted, rows } = plan(&POLICY, &situation) else { return Ok(()) };
        let runs = |i: usize| candidates[i].is_admitted || admitted.contains(&i);
        let running: Vec<usize> = (0..candidates.len()).filter(|i| runs(*i)).collect();
        let taken = running.iter().map(|i| candidates[*i].needs);
        let taken = taken.fold(Room::NONE, |a, b| Room {
            pages: a.pages + b.pages,
            states: a.states + b.states,
        });
        prop_assert!(free.has(taken));
        let in_batch = |i: &&usize| candidates[**i].kind != Kind::Layers;
        prop_assert!(running.iter().filter(in_batch).map(|i| rows[*i]).sum::<usize>() <= 16);
        prop_assert!((0..rows.len()).all(|i| rows[i] <= candidates[i].n_pending));
        prop_assert!((0..rows.len()).all(|i| runs(i) || rows[i] == 0));
        if let Some(oldest) = running.iter().find(in_batch) {
            prop_assert!(rows[*oldest] > 0, "the oldest makes progress");
        }
    }
}
