//! Threads of our own: a few microseconds to start work, no CPU time when idle.
//!
//! Work is given out in *regions*: the caller and every worker that comes in time run the
//! same closure, which shares out tasks, and the region ends when all who came have left.
//! Nobody waits for a worker that comes late because other programs have its core. Between
//! regions workers spin for a moment, then park: on a machine with more threads than cores,
//! spinning without limit would cost milliseconds per region.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use crate::sync::{self, AtomicBool, AtomicUsize, Mutex, Thread, UnsafeCell};
use crate::threads::{self, Handle};
use crate::turns::{Member, Turns};

/// Rounds of `pause` before a thread parks: tens of microseconds, the time in
/// which the next region of a running model starts. WebAssembly has no `pause`, and its
/// rounds are shorter; where every order of accesses is tried, one round is as good as many.
const SPIN_ROUNDS: usize = match (cfg!(target_family = "wasm"), cfg!(any(loom, miri))) {
    (_, true) => 1,
    (true, _) => 20_000,
    _ => 2000,
};

/// What a region runs: called once per worker that takes part, with the worker's number.
type Work<'a> = &'a (dyn Fn(usize) + Sync);

/// The state of the current region: its number in units of [`NEXT_REGION`], whether workers
/// may no longer come, and how many are inside, the caller not counted.
#[derive(Clone, Copy)]
struct Region(usize);

const CLOSED: usize = 1 << 15;
const NEXT_REGION: usize = 1 << 16;

impl Region {
    fn number(self) -> usize {
        self.0 / NEXT_REGION
    }

    fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }

    fn n_inside(self) -> usize {
        self.0 % CLOSED
    }
}

struct Shared {
    /// A [`Region`]; a change of its number tells workers that there is a new one.
    region: AtomicUsize,
    /// The closure of the current region.
    work: UnsafeCell<Option<Work<'static>>>,
    /// Some worker panicked in the current region: there is something in `panic`.
    panicked: AtomicBool,
    /// What the first of them panicked with.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    stopping: AtomicBool,
    /// One flag per worker thread: it is parked or about to be.
    parked: Vec<AtomicBool>,
    caller_parked: AtomicBool,
    caller: Mutex<Option<Thread>>,
}

// SAFETY: `work` is written by the one caller (it has the pool's turn) while the region is
// closed and nobody is inside, and read by workers only between their entering of an open
// region, which the caller opened after the write, and their leaving; all changes of `region`
// are sequentially consistent. All other fields are `Sync`.
unsafe impl Sync for Shared {}

/// A fixed number of workers: the calling thread and threads of its own.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<Box<dyn Handle>>,
    turns: Turns,
    /// Tasks until one panics, where a test wants that.
    #[cfg(test)]
    tasks_until_panic: std::sync::atomic::AtomicUsize,
}

impl Pool {
    /// A pool of `n_workers` (at least one), the caller's thread being one of them.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn new(n_workers: usize) -> std::io::Result<Self> {
        let n_threads = n_workers.saturating_sub(1).min(CLOSED - 1);
        let mut pool = Pool {
            shared: Arc::new(Shared::new(n_threads)),
            threads: Vec::with_capacity(n_threads),
            turns: Turns::default(),
            #[cfg(test)]
            tasks_until_panic: usize::MAX.into(),
        };
        for thread in 0..n_threads {
            let shared = Arc::clone(&pool.shared);
            let name = format!("realm-cpu-{}", thread + 1);
            // On failure the drop of `pool` ends the threads that did start.
            pool.threads.push(threads::start(name, move || worker(&shared, thread))?);
        }
        Ok(pool)
    }

    /// Workers per region.
    pub fn n_workers(&self) -> usize {
        self.threads.len() + 1
    }

    /// Regions that have been run so far, but for those that needed one worker only.
    #[cfg(all(test, not(target_family = "wasm")))]
    pub fn n_regions(&self) -> usize {
        self.shared.region().number()
    }

    /// Lets one task panic after `n_tasks` others, whichever worker has it.
    #[cfg(all(test, not(target_family = "wasm")))]
    pub fn break_after(&self, n_tasks: usize) {
        self.tasks_until_panic.store(n_tasks, Ordering::Relaxed);
    }

    /// Makes this thread the one that regions begin on.
    fn call_from_here(&self) {
        let mut caller = self.shared.caller.lock().unwrap_or_else(PoisonError::into_inner);
        *caller = Some(sync::current());
    }
}

/// A place at a pool: what a session takes its turns with.
pub(crate) struct Seat {
    pool: Arc<Pool>,
    member: Member,
}

impl Seat {
    pub fn new(pool: Arc<Pool>) -> Self {
        let member = pool.turns.join();
        Seat { pool, member }
    }

    /// The workers, until the team is dropped. Waits while another seat has them.
    pub fn team(&mut self) -> Team<'_> {
        self.pool.turns.begin(self.member);
        self.pool.call_from_here();
        Team { pool: &self.pool, member: self.member }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.pool.turns.part(self.member);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            unpark(&*thread);
            thread.join();
        }
    }
}

/// Exclusive use of a pool's workers, between [`Turns::begin`] and [`Turns::end`].
pub(crate) struct Team<'a> {
    pool: &'a Pool,
    member: Member,
}

impl Drop for Team<'_> {
    fn drop(&mut self) {
        self.pool.turns.end();
    }
}

impl Team<'_> {
    /// Between two operations: lets another session go first if it is its turn, and waits
    /// until the workers are ours again.
    pub fn give_way(&mut self) {
        if self.pool.turns.give_way(self.member) {
            self.pool.call_from_here();
        }
    }

    /// Workers per region.
    pub fn n_workers(&self) -> usize {
        self.pool.n_workers()
    }

    /// Calls `work(worker)` here, and once on every worker that comes before this call of it
    /// has returned, and waits for all of them. A panic in any of them goes on in the caller.
    fn run(&self, work: Work<'_>) {
        let shared = &*self.pool.shared;
        if self.pool.threads.is_empty() {
            return work(0);
        }
        // SAFETY: the region is closed and empty (a team is the only one of its pool, and every region is ended
        // below), so nobody reads `work`. The lifetime is extended only until this function
        // returns, which is after every worker has left the closure.
        shared.work.with_mut(|place| unsafe {
            *place = Some(std::mem::transmute::<Work<'_>, Work<'static>>(work));
        });
        // It was closed and empty, so this opens the next one.
        shared.region.fetch_add(NEXT_REGION - CLOSED, Ordering::SeqCst);
        for (parked, thread) in shared.parked.iter().zip(&self.pool.threads) {
            if parked.load(Ordering::SeqCst) {
                unpark(&**thread);
            }
        }
        let own = catch_unwind(AssertUnwindSafe(|| work(0)));
        shared.region.fetch_or(CLOSED, Ordering::SeqCst);
        wait(&shared.caller_parked, || shared.region().n_inside() == 0);
        let of_worker = shared.take_panic();
        if let Some(panic) = own.err().or(of_worker) {
            resume_unwind(panic);
        }
    }

    /// [`Team::for_each`] of work that can fail: the error is that of one of the tasks.
    pub fn try_for_each<E: Send>(
        &self,
        n_tasks: usize,
        work: &(dyn Fn(usize, usize) -> Result<(), E> + Sync),
    ) -> Result<(), E> {
        let failure = Mutex::new(None);
        self.for_each(n_tasks, &|worker, task| {
            if let Err(error) = work(worker, task) {
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        });
        failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    /// Calls `work(worker, task)` once for each task below `n_tasks` and waits for all of them.
    ///
    /// Each worker has a share of tasks that follow each other, so that what one prefetches
    /// behind its data is the next one's; who is done with his own helps the others.
    pub fn for_each(&self, n_tasks: usize, work: &(dyn Fn(usize, usize) + Sync)) {
        #[cfg(test)]
        let work = &|worker: usize, task: usize| {
            // Relaxed, so that tasks are ordered by it as little as in other builds: by nothing.
            let before = self.pool.tasks_until_panic.fetch_sub(1, Ordering::Relaxed);
            assert_ne!(before, 0, "a task breaks down");
            work(worker, task);
        };
        if n_tasks <= 1 || self.n_workers() == 1 {
            return (0..n_tasks).for_each(|task| work(0, task));
        }
        let n_workers = self.n_workers();
        let share = |worker: usize| n_tasks * worker / n_workers;
        let next: Vec<_> =
            (0..n_workers).map(|worker| NextTask(AtomicUsize::new(share(worker)))).collect();
        self.run(&|worker| {
            for owner in (worker..n_workers).chain(0..worker) {
                loop {
                    let task = next[owner].0.fetch_add(1, Ordering::Relaxed);
                    if task >= share(owner + 1) {
                        break;
                    }
                    work(worker, task);
                }
            }
        });
    }
}

/// The next task of a worker's share, in a cache line of its own.
#[repr(align(64))]
struct NextTask(AtomicUsize);

/// Wakes a thread that may be parked. One whose work has not begun will not park before
/// it has looked for a region.
fn unpark(thread: &dyn Handle) {
    if let Some(thread) = thread.thread() {
        thread.unpark();
    }
}

/// Spins until `done`, then parks until it is; `parked` tells the others to wake us.
fn wait(parked: &AtomicBool, done: impl Fn() -> bool) {
    for _ in 0..SPIN_ROUNDS {
        if done() {
            return;
        }
        sync::spin_loop();
    }
    // A swap rather than a store: QEMU's ARM processors let the load in `done` overtake a store,
    // though both are sequentially consistent, and then nobody wakes us.
    parked.swap(true, Ordering::SeqCst);
    while !done() {
        sync::park();
    }
    parked.store(false, Ordering::SeqCst);
}

impl Shared {
    fn new(n_threads: usize) -> Self {
        Shared {
            region: AtomicUsize::new(CLOSED),
            work: UnsafeCell::new(None),
            panicked: AtomicBool::new(false),
            panic: Mutex::new(None),
            stopping: AtomicBool::new(false),
            parked: (0..n_threads).map(|_| AtomicBool::new(false)).collect(),
            caller_parked: AtomicBool::new(false),
            caller: Mutex::new(None),
        }
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    fn region(&self) -> Region {
        Region(self.region.load(Ordering::SeqCst))
    }

    /// Keeps what a worker panicked with for the caller of the region.
    fn keep_panic(&self, panic: Box<dyn Any + Send>) {
        self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
        self.panicked.store(true, Ordering::SeqCst);
    }

    /// What the workers of the region that has ended left for its caller.
    fn take_panic(&self) -> Option<Box<dyn Any + Send>> {
        if !self.panicked.swap(false, Ordering::SeqCst) {
            return None;
        }
        self.panic.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Enters the region that is open now; if there is none, the one that was last.
    fn enter(&self) -> Result<Region, Region> {
        let entered = |region| (!Region(region).is_closed()).then_some(region + 1);
        let region = self.region.fetch_update(Ordering::SeqCst, Ordering::SeqCst, entered);
        region.map(Region).map_err(Region)
    }

    /// Leaves the region, and wakes the caller if it waits for that.
    fn leave(&self) {
        let before = Region(self.region.fetch_sub(1, Ordering::SeqCst));
        if before.is_closed()
            && before.n_inside() == 1
            && self.caller_parked.load(Ordering::SeqCst)
            && let Some(caller) = &*self.caller.lock().unwrap_or_else(PoisonError::into_inner)
        {
            caller.unpark();
        }
    }
}

fn worker(shared: &Shared, thread: usize) {
    let mut seen = 0;
    loop {
        // Where `usize` has 32 bits, numbers come again after 65 536 regions: who slept through
        // as many misses the next one, but not the end.
        wait(&shared.parked[thread], || shared.region().number() != seen || shared.is_stopping());
        if shared.is_stopping() {
            return;
        }
        let entered = shared.enter();
        let (Ok(region) | Err(region)) = entered;
        seen = region.number();
        if entered.is_err() {
            continue;
        }
        // SAFETY: inside a region the closure is there, and its caller waits until we leave
        // before it stores another.
        let work = shared.work.with(|work| unsafe { *work });
        if let Some(work) = work
            && let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(thread + 1)))
        {
            shared.keep_panic(panic);
        }
        shared.leave();
    }
}

#[cfg(all(test, loom))]
mod interleavings;

#[cfg(all(test, not(loom), not(target_family = "wasm")))] // no threads there
mod tests {
    use super::*;

    fn seat(n_workers: usize) -> Seat {
        Seat::new(Arc::new(Pool::new(n_workers).unwrap()))
    }

    #[test]
    fn every_task_runs_once_on_any_number_of_workers() {
        for n_workers in 1..=5 {
            let mut seat = seat(n_workers);
            for n_tasks in [0, 1, 2, 7, 100] {
                let counts: Vec<_> = (0..n_tasks).map(|_| AtomicUsize::new(0)).collect();
                seat.team().for_each(n_tasks, &|worker, task| {
                    assert!(worker < n_workers);
                    counts[task].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
            }
        }
    }

    /// Waits in a region until all workers of the pool are in it.
    fn meet(inside: &AtomicUsize, n_workers: usize) {
        inside.fetch_add(1, Ordering::SeqCst);
        while inside.load(Ordering::SeqCst) < n_workers {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_leaves_the_pool_usable() {
        let mut seat = seat(3);
        for bad_worker in 0..3 {
            let inside = AtomicUsize::new(0);
            let work = |worker| {
                meet(&inside, 3);
                assert_ne!(worker, bad_worker, "this one is bad");
            };
            let run = || seat.team().run(&work);
            let panic = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
            let message = panic.downcast_ref::<String>().unwrap();
            assert!(message.contains("this one is bad"), "{message}");
            seat.team().run(&|_| {});
        }
    }

    #[test]
    fn a_worker_that_comes_late_is_not_waited_for() {
        // A pool whose only thread never comes: it has not been started.
        let mut pool = Pool::new(1).unwrap();
        pool.threads.push(Box::new(Absent));
        let n_done = AtomicUsize::new(0);
        Seat::new(Arc::new(pool)).team().for_each(4, &|worker, _| {
            assert_eq!(worker, 0);
            n_done.fetch_add(1, Ordering::SeqCst);
        });
        assert_eq!(n_done.load(Ordering::SeqCst), 4);
    }

    /// A thread that does nothing.
    struct Absent;

    impl Handle for Absent {
        fn thread(&self) -> Option<&Thread> {
            None
        }

        fn join(self: Box<Self>) {}
    }

    #[test]
    fn a_worker_ends_with_its_pool_though_it_has_seen_a_region_of_the_same_number() {
        let shared = Shared::new(1);
        assert_eq!(shared.region().number(), 0, "what a worker takes for seen at first");
        shared.stopping.store(true, Ordering::SeqCst);
        let (end, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            worker(&shared, 0);
            end.send(()).unwrap();
        });
        ended.recv_timeout(std::time::Duration::from_secs(60)).expect("it waits for a region");
    }

    #[test]
    fn threads_that_share_a_pool_take_turns() {
        let pool = Arc::new(Pool::new(2).unwrap());
        let inside = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut seat = Seat::new(Arc::clone(&pool));
                    for _ in 0..if cfg!(miri) { 2 } else { 200 } {
                        let mut team = seat.team();
                        for _ in 0..20 {
                            team.give_way();
                            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                            team.run(&|_| std::hint::black_box(()));
                            inside.fetch_sub(1, Ordering::SeqCst);
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn regions_follow_each_other_after_the_workers_parked() {
        let mut seat = seat(2);
        for _ in 0..20 {
            let inside = AtomicUsize::new(0);
            seat.team().run(&|_| meet(&inside, 2));
            assert_eq!(inside.load(Ordering::SeqCst), 2);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}
