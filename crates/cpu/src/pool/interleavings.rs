//! Regions under loom: two threads, one or two regions, in every order in which their accesses
//! can meet with a few preemptions. `npm run deep -- loom` runs these.
//!
//! Tasks write to cells that nothing else guards, so that a task that runs twice, late or
//! unseen by the caller is an access at the wrong time. A wake-up that is lost is a deadlock.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use super::{Pool, Seat};
use crate::sync::UnsafeCell;

/// Switches away from a thread that could go on, per run; `LOOM_MAX_PREEMPTIONS` may say more.
const PREEMPTIONS: usize = 4;

/// Runs `regions` on a pool of two, in every order.
fn in_every_order(regions: impl Fn(&mut Seat) + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound.get_or_insert(PREEMPTIONS);
    model.check(move || regions(&mut Seat::new(Arc::new(Pool::new(2).unwrap()))));
}

/// How often each task ran.
struct Counts(Vec<UnsafeCell<usize>>);

// SAFETY: loom watches every access to the cells, and fails where two would meet.
unsafe impl Sync for Counts {}

impl Counts {
    fn of(n_tasks: usize) -> Self {
        Counts((0..n_tasks).map(|_| UnsafeCell::new(0)).collect())
    }

    fn count(&self, task: usize) {
        // SAFETY: `with_mut` fails before an access that meets another.
        self.0[task].with_mut(|count| unsafe { *count += 1 });
    }

    fn all_are(&self, n: usize) -> bool {
        // SAFETY: `with` fails before an access that meets a change.
        self.0.iter().all(|count| count.with(|count| unsafe { *count }) == n)
    }
}

#[test]
fn every_task_has_run_once_when_the_caller_goes_on() {
    in_every_order(|seat| {
        let counts = Counts::of(3);
        seat.team().for_each(3, &|_, task| counts.count(task));
        assert!(counts.all_are(1));
    });
}

#[test]
fn a_region_runs_its_own_tasks_and_none_of_the_one_before() {
    in_every_order(|seat| {
        let first = Counts::of(2);
        seat.team().for_each(2, &|_, task| first.count(task));
        assert!(first.all_are(1));
        let second = Counts::of(2);
        seat.team().for_each(2, &|_, task| second.count(task));
        assert!(first.all_are(1) && second.all_are(1));
    });
}

#[test]
fn a_panic_in_any_task_reaches_the_caller_and_no_later_region() {
    for bad in 0..2 {
        in_every_order(move |seat| {
            let work = |_, task| {
                if task == bad {
                    // Without the hook, which would print it once per order.
                    resume_unwind(Box::new("this one is bad"));
                }
            };
            let run = || seat.team().for_each(2, &work);
            let panic = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
            assert_eq!(panic.downcast_ref(), Some(&"this one is bad"));
            let counts = Counts::of(2);
            seat.team().for_each(2, &|_, task| counts.count(task));
            assert!(counts.all_are(1));
        });
    }
}
