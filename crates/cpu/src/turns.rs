//! Who has the threads of a pool: sessions that want them at the same time get the same
//! time, however long their operations take.
//!
//! Who has the threads keeps them until he has had [`LEAD`] more of them than one who
//! waits, and keeps them for a moment, [`PAUSE`], between two of his runs too: while he chooses a
//! token, say. So within a turn a model runs as fast as if it were alone, in particular one whose
//! runs take less time than a single operation of another. Who is alone waits for nothing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

/// How much more time one session may have had than another that waits. Two that never rest
/// have turns of twice that. Shorter turns cost more: threads wake, and caches are filled again.
const LEAD: Duration = Duration::from_millis(2);
/// How long a session is waited for between two of its runs.
const PAUSE: Duration = Duration::from_micros(300);
/// How often those who wait look whether somebody has not come back.
const LOOK: Duration = Duration::from_millis(1);

/// The sessions of a pool.
#[derive(Default)]
pub(crate) struct Turns {
    schedule: Mutex<Schedule>,
    /// How many wait, as the schedule has it.
    n_waiting: AtomicUsize,
}

/// A session among those of its pool.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Member(u64);

impl Turns {
    /// A new session.
    pub fn join(&self) -> Member {
        self.change(Schedule::join)
    }

    /// Forgets a session, which does not have the threads now.
    pub fn part(&self, member: Member) {
        self.change(|schedule| schedule.part(member));
    }

    /// Waits until the threads are `member`'s, which they are until it calls [`Turns::end`].
    pub fn begin(&self, member: Member) {
        let thread = std::thread::current().id();
        let mut schedule = self.lock();
        loop {
            let has_come = schedule.ask(member, thread, now());
            self.n_waiting.store(schedule.n_waiting(), Ordering::Relaxed);
            if has_come {
                return;
            }
            let is_away = schedule.holder.is_some_and(|holder| holder.away.is_some());
            let turn = Arc::clone(&schedule.session(member).turn);
            let woken = turn.wait_timeout(schedule, if is_away { PAUSE } else { LOOK });
            schedule = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Lets another session go first if one waits that has had less time; true if so, when
    /// the threads are `member`'s again.
    pub fn give_way(&self, member: Member) -> bool {
        if self.n_waiting.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let Some(next) = self.change(|schedule| schedule.give_way(now())) else { return false };
        next.notify_one();
        self.begin(member);
        true
    }

    /// Ends what [`Turns::begin`] began.
    pub fn end(&self) {
        let thread = std::thread::current().id();
        if let Some(next) = self.change(|schedule| schedule.end(thread, now())) {
            next.notify_one();
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Schedule) -> T) -> T {
        let mut schedule = self.lock();
        let result = change(&mut schedule);
        self.n_waiting.store(schedule.n_waiting(), Ordering::Relaxed);
        result
    }

    fn lock(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time since some moment.
#[cfg(not(target_family = "wasm"))]
fn now() -> Duration {
    static START: std::sync::LazyLock<std::time::Instant> =
        std::sync::LazyLock::new(std::time::Instant::now);
    START.elapsed()
}

/// WebAssembly has no clock. Every look at it counts as a millisecond, so that sessions that
/// wait get their turns nevertheless.
#[cfg(target_family = "wasm")]
fn now() -> Duration {
    static LOOKS: AtomicUsize = AtomicUsize::new(0);
    Duration::from_millis(LOOKS.fetch_add(1, Ordering::Relaxed) as u64)
}

/// Who has had how much time, as of the moments it is told.
#[derive(Default)]
struct Schedule {
    sessions: Vec<SessionTime>,
    next_id: u64,
    holder: Option<Holder>,
}

struct SessionTime {
    member: Member,
    /// Time that it has had the threads. Only differences between sessions count.
    used: Duration,
    /// When it last had them.
    seen: Duration,
    is_waiting: bool,
    /// Told when the threads are handed to it.
    turn: Arc<Condvar>,
}

/// Who has the threads, or had them last.
#[derive(Clone, Copy)]
struct Holder {
    member: Member,
    /// Up to when its time is counted.
    since: Duration,
    /// Between two runs: the thread that it was last seen on.
    away: Option<ThreadId>,
}

impl Schedule {
    fn join(&mut self) -> Member {
        let member = Member(self.next_id);
        self.next_id += 1;
        let (used, seen) = (Duration::ZERO, Duration::ZERO);
        let turn = Arc::default();
        self.sessions.push(SessionTime { member, used, seen, is_waiting: false, turn });
        member
    }

    fn part(&mut self, member: Member) {
        self.sessions.retain(|session| session.member != member);
        if self.holder.is_some_and(|holder| holder.member == member) {
            self.holder = None;
        }
    }

    fn n_waiting(&self) -> usize {
        self.sessions.iter().filter(|session| session.is_waiting).count()
    }

    fn session(&mut self, member: Member) -> &mut SessionTime {
        let session = self.sessions.iter_mut().find(|session| session.member == member);
        session.expect("it has joined and not parted")
    }

    /// Whether the threads are `member`'s from now on; otherwise it waits.
    fn ask(&mut self, member: Member, thread: ThreadId, now: Duration) -> bool {
        self.count(now);
        let holder = self.holder;
        let is_ours = holder.is_some_and(|holder| holder.member == member);
        let is_free = holder.is_none_or(|holder| match holder.away {
            None => false,
            // On this thread nobody else can come back.
            Some(on) => on == thread || self.has_rested(holder.member, now),
        });
        if !is_ours && !self.session(member).is_waiting && self.has_rested(member, now) {
            self.admit(member);
        }
        let has_come = is_ours || is_free || self.is_over(member);
        match has_come {
            true => self.hand_to(member, now),
            false => self.session(member).is_waiting = true,
        }
        has_come
    }

    /// Whether a session that does not have the threads has let a while pass without them.
    fn has_rested(&mut self, member: Member, now: Duration) -> bool {
        now.saturating_sub(self.session(member).seen) >= PAUSE
    }

    /// Counts the holder's time up to `now`, or up to where it was last seen if that is long ago.
    fn count(&mut self, now: Duration) {
        let Some(Holder { member, since, away }) = self.holder else { return };
        let has_gone = away.is_some() && self.has_rested(member, now);
        let session = self.session(member);
        let until = if has_gone { session.seen } else { now };
        session.used += until.saturating_sub(since);
        self.holder = Some(Holder { member, since: now, away });
    }

    /// Lets a session that rested compete with those that did not: what it missed, and what it
    /// had too much before, counts for a turn at most.
    fn admit(&mut self, member: Member) {
        let holder = self.holder.map(|holder| holder.member);
        let competes = |session: &&SessionTime| {
            session.member != member && (session.is_waiting || Some(session.member) == holder)
        };
        let times = self.sessions.iter().filter(competes).map(|session| session.used);
        if let (Some(least), Some(most)) = (times.clone().min(), times.max()) {
            let session = self.session(member);
            session.used = session.used.clamp(least.saturating_sub(LEAD), most + LEAD);
        }
    }

    /// Whether the holder is between two runs, and would have to give way to `member` after it.
    fn is_over(&mut self, member: Member) -> bool {
        let Some(Holder { member: holder, away: Some(_), .. }) = self.holder else { return false };
        let used = self.session(member).used;
        self.session(holder).used >= used + LEAD
    }

    /// Hands the threads to the one who waits and has had least, if the holder has had more:
    /// what to tell him with.
    fn give_way(&mut self, now: Duration) -> Option<Arc<Condvar>> {
        self.count(now);
        let holder = self.holder?.member;
        let waiting = self.sessions.iter().filter(|session| session.is_waiting);
        let next = waiting.min_by_key(|session| session.used)?;
        let (next, used, turn) = (next.member, next.used, Arc::clone(&next.turn));
        let session = self.session(holder);
        if session.used < used + LEAD {
            return None;
        }
        session.seen = now;
        self.hand_to(next, now);
        Some(turn)
    }

    /// Ends a run of the holder, who keeps the threads for now if nobody is to go first.
    fn end(&mut self, thread: ThreadId, now: Duration) -> Option<Arc<Condvar>> {
        let next = self.give_way(now);
        if next.is_none()
            && let Some(Holder { member, away, .. }) = &mut self.holder
        {
            *away = Some(thread);
            let member = *member;
            self.session(member).seen = now;
        }
        next
    }

    fn hand_to(&mut self, member: Member, now: Duration) {
        self.session(member).is_waiting = false;
        self.holder = Some(Holder { member, since: now, away: None });
    }
}

#[cfg(all(test, not(target_family = "wasm")))] // no threads there
mod tests {
    use super::*;

    /// A model that answers: operations of some length, some of them a run, then a pause.
    #[derive(Clone, Copy)]
    struct Load {
        operation: Duration,
        per_run: usize,
        pause: Duration,
    }

    fn load(operation_us: u64, per_run: usize, pause_us: u64) -> Load {
        let [operation, pause] = [operation_us, pause_us].map(Duration::from_micros);
        Load { operation, per_run, pause }
    }

    fn a_thread() -> ThreadId {
        std::thread::spawn(|| std::thread::current().id()).join().unwrap()
    }

    /// Operations that each of them has done after `time`, on a clock of its own.
    fn operations(loads: &[Load], time: Duration) -> Vec<usize> {
        let mut schedule = Schedule::default();
        let members: Vec<_> = loads.iter().map(|_| schedule.join()).collect();
        let threads: Vec<_> = loads.iter().map(|_| a_thread()).collect();
        let mut resting_until = vec![Duration::ZERO; loads.len()];
        let mut done = vec![0usize; loads.len()];
        let mut now = Duration::ZERO;
        while now < time {
            for (i, member) in members.iter().enumerate() {
                let has_it =
                    schedule.holder.is_some_and(|h| h.member == *member && h.away.is_none());
                if resting_until[i] <= now && !has_it {
                    schedule.ask(*member, threads[i], now);
                }
            }
            let running = schedule.holder.filter(|holder| holder.away.is_none());
            let running = running.and_then(|h| members.iter().position(|m| *m == h.member));
            let Some(i) = running else {
                now += Duration::from_micros(10);
                continue;
            };
            now += loads[i].operation;
            done[i] += 1;
            if done[i].is_multiple_of(loads[i].per_run) {
                schedule.end(threads[i], now);
                resting_until[i] = now + loads[i].pause;
            } else {
                schedule.give_way(now);
            }
        }
        done
    }

    #[test]
    #[cfg_attr(miri, ignore = "simulates minutes, and is plain arithmetic")]
    fn sessions_that_answer_together_get_equal_shares_of_their_rates_alone() {
        let (tiny, small, large) = (load(5, 30, 40), load(20, 60, 100), load(300, 110, 200));
        let (prompt, unhurried) = (load(40_000, 150, 1_000), load(100, 50, 400));
        let time = Duration::from_secs(20);
        let groups: [&[Load]; 7] = [
            &[tiny, tiny],
            &[tiny, large],
            &[small, prompt],
            &[tiny, prompt],
            &[large, unhurried],
            &[tiny, large, prompt],
            &[tiny, tiny, small, small, large],
        ];
        for loads in groups {
            let together = operations(loads, time);
            for (i, load) in loads.iter().enumerate() {
                let alone = operations(&[*load], time)[0];
                let share = together[i] as f64 / alone as f64;
                let fair = 1.0 / loads.len() as f64;
                assert!(share > 0.9 * fair, "session {i} of {together:?}: {share}, {fair} is fair");
            }
        }
    }

    #[test]
    fn what_a_session_had_alone_is_not_held_against_it() {
        let mut schedule = Schedule::default();
        let (old, new) = (schedule.join(), schedule.join());
        let (a, b) = (a_thread(), a_thread());
        let second = Duration::from_secs(1);
        assert!(schedule.ask(old, a, Duration::ZERO));
        assert!(!schedule.ask(new, b, 10 * second));
        assert!(schedule.give_way(10 * second).is_some(), "who comes new goes first");
        assert!(!schedule.ask(old, a, 10 * second));
        assert!(schedule.give_way(10 * second + LEAD).is_none(), "the first turn has just begun");
        assert!(schedule.give_way(10 * second + 3 * LEAD).is_some(), "but it ends");
    }

    #[test]
    fn a_session_between_two_runs_is_waited_for_a_moment_and_no_longer() {
        let mut schedule = Schedule::default();
        let (one, other) = (schedule.join(), schedule.join());
        let (a, b) = (a_thread(), a_thread());
        assert!(schedule.ask(one, a, Duration::ZERO));
        let end = Duration::from_micros(10);
        schedule.end(a, end);
        assert!(!schedule.ask(other, b, end + PAUSE / 2));
        assert!(schedule.ask(one, a, end + PAUSE / 2), "it came back");
        schedule.end(a, 2 * end + PAUSE / 2);
        assert!(schedule.ask(other, b, 2 * end + 2 * PAUSE), "it did not");
    }

    #[test]
    fn two_sessions_of_one_thread_do_not_wait_for_each_other() {
        let mut schedule = Schedule::default();
        let (one, other, thread) = (schedule.join(), schedule.join(), a_thread());
        for step in 0..10 {
            let member = if step % 2 == 0 { one } else { other };
            let now = Duration::from_micros(step);
            assert!(schedule.ask(member, thread, now));
            schedule.end(thread, now);
        }
    }

    #[test]
    fn one_session_at_a_time_has_the_threads() {
        let turns = Turns::default();
        let n_inside = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let member = turns.join();
                    for _ in 0..if cfg!(miri) { 3 } else { 300 } {
                        turns.begin(member);
                        for _ in 0..3 {
                            turns.give_way(member);
                            assert_eq!(n_inside.fetch_add(1, Ordering::SeqCst), 0);
                            std::thread::sleep(Duration::from_micros(50));
                            n_inside.fetch_sub(1, Ordering::SeqCst);
                        }
                        turns.end();
                    }
                    turns.part(member);
                });
            }
        });
    }
}
