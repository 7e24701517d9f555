//! Adds up the time that a thread spends in spans, each without the spans inside it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Time by the spans' names.
#[derive(Clone, Default)]
pub struct Spans(Arc<State>);

#[derive(Default)]
struct State {
    last_id: AtomicU64,
    open: Mutex<Vec<Open>>,
    totals: Mutex<BTreeMap<&'static str, Duration>>,
}

struct Open {
    name: &'static str,
    entered: Instant,
    /// Time of the spans that were inside it.
    inside: Duration,
}

impl Spans {
    /// What has been added up since the last call.
    pub fn take(&self) -> BTreeMap<&'static str, Duration> {
        std::mem::take(&mut self.0.totals.lock().expect("one thread has spans"))
    }
}

impl Subscriber for Spans {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span()
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        // Spans are entered as they are made, and by the thread that runs the session.
        let open =
            Open { name: span.metadata().name(), entered: Instant::now(), inside: Duration::ZERO };
        self.0.open.lock().expect("one thread has spans").push(open);
        Id::from_u64(self.0.last_id.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn exit(&self, _span: &Id) {
        let mut open = self.0.open.lock().expect("one thread has spans");
        let Some(left) = open.pop() else { return };
        let time = left.entered.elapsed();
        let mut totals = self.0.totals.lock().expect("one thread has spans");
        *totals.entry(left.name).or_default() += time - left.inside;
        if let Some(outer) = open.last_mut() {
            outer.inside += time;
        }
    }

    fn enter(&self, _span: &Id) {}
    fn record(&self, _span: &Id, _values: &Record<'_>) {}
    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}
    fn event(&self, _event: &Event<'_>) {}
}
