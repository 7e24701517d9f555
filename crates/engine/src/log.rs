//! What goes wrong where no call waits for it, and what should be looked at, on its way to
//! whoever listens.
//!
//! The crates say it with `tracing`; this is the subscriber. It is the process's, since most
//! of what it hears belongs to no model alone (a device that fails, a thread): every listener
//! hears everything from [`LogLevel::Warn`] on. Spans are none of its business.

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// It works, though maybe not as intended.
    Warn,
    /// Something was not done.
    Error,
}

impl LogLevel {
    /// `warn` or `error`.
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Warn => "warn",
            LogLevel::Error => "error",
        }
    }
}

/// Something that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// How bad it is.
    pub level: LogLevel,
    /// What it is.
    pub message: String,
}

type Listener = Arc<dyn Fn(LogEntry) + Send + Sync>;

/// Those who listen, by their numbers.
struct Listeners {
    last: u64,
    open: Vec<(u64, Listener)>,
}

static LISTENERS: Mutex<Listeners> = Mutex::new(Listeners { last: 0, open: Vec::new() });

fn listeners() -> MutexGuard<'static, Listeners> {
    // Whole whatever happened to its last holder: nothing is called under the lock.
    LISTENERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Somebody who listens, until this is dropped.
#[derive(Debug)]
pub struct Listening(u64);

impl Drop for Listening {
    fn drop(&mut self) {
        let mut listeners = listeners();
        let place = listeners.open.iter().position(|(number, _)| *number == self.0);
        let gone = place.map(|place| listeners.open.swap_remove(place));
        drop(listeners);
        // Whatever the listener holds is let go of without the lock.
        drop(gone);
    }
}

/// Calls `listener` with everything that is said from now on, on the thread that says it; it
/// should be quick. A program that has a subscriber for `tracing` of its own keeps that one,
/// and nothing is heard here.
pub fn listen(listener: impl Fn(LogEntry) + Send + Sync + 'static) -> Listening {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| drop(tracing::subscriber::set_global_default(Teller)));
    let mut listeners = listeners();
    listeners.last += 1;
    let number = listeners.last;
    listeners.open.push((number, Arc::new(listener)));
    Listening(number)
}

/// Tells all listeners.
struct Teller;

fn level(metadata: &Metadata<'_>) -> Option<LogLevel> {
    match *metadata.level() {
        _ if !metadata.is_event() => None,
        Level::ERROR => Some(LogLevel::Error),
        Level::WARN => Some(LogLevel::Warn),
        _ => None,
    }
}

impl Subscriber for Teller {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if level(metadata).is_some() { Interest::always() } else { Interest::never() }
    }

    /// So that what is below costs no more than if nobody listened.
    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::WARN)
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        level(metadata).is_some()
    }

    fn event(&self, event: &Event<'_>) {
        let Some(level) = level(event.metadata()) else { return };
        let open: Vec<Listener> =
            listeners().open.iter().map(|(_, listener)| listener.clone()).collect();
        if open.is_empty() {
            return;
        }
        let mut words = Words::default();
        event.record(&mut words);
        let message = words.message + &words.values;
        for listener in open {
            listener(LogEntry { level, message: message.clone() });
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1) // never asked for: no span is enabled
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The message of an event, and its other values behind it.
#[derive(Default)]
struct Words {
    message: String,
    values: String,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // A text takes what is written.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.values, ", {name}: {value:?}"),
        };
    }

    fn record_bytes(&mut self, _: &Field, _: &[u8]) {} // nobody says any

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a listener heard that has `mark` in it: other tests speak meanwhile.
    fn heard(mark: &'static str) -> (Listening, Arc<Mutex<Vec<LogEntry>>>) {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let entries = heard.clone();
        let listening = listen(move |entry| {
            if entry.message.contains(mark) {
                entries.lock().unwrap().push(entry);
            }
        });
        (listening, heard)
    }

    #[test]
    fn every_listener_hears_warnings_and_errors_with_their_values_and_nothing_else() {
        let (_one, first) = heard("a pump");
        let (_other, second) = heard("a pump");
        let _span = tracing::error_span!("a pump").entered();
        tracing::info!("a pump runs");
        tracing::warn!("a pump is old");
        tracing::error!(pressure = 3, reason = %"a leak", name = "north", "a pump {}", "fails");
        let entry = |level, message: &str| LogEntry { level, message: message.to_owned() };
        let expected = [
            entry(LogLevel::Warn, "a pump is old"),
            entry(LogLevel::Error, "a pump fails, pressure: 3, reason: a leak, name: north"),
        ];
        assert_eq!(*first.lock().unwrap(), expected);
        assert_eq!(*second.lock().unwrap(), expected);
    }

    #[test]
    fn who_stops_listening_hears_no_more_and_is_let_go_of() {
        let (listening, entries) = heard("a gate");
        tracing::warn!("a gate opens");
        drop(listening);
        tracing::warn!("a gate closes");
        assert_eq!(entries.lock().unwrap().len(), 1);
        assert_eq!(Arc::strong_count(&entries), 1);
    }

    #[test]
    fn a_listener_may_stop_while_it_is_told() {
        let (_outer, entries) = heard("a bell");
        let inner = Arc::new(Mutex::new(None));
        let own = inner.clone();
        let listening = listen(move |entry| {
            if entry.message.contains("a bell") {
                drop(own.lock().unwrap().take());
            }
        });
        *inner.lock().unwrap() = Some(listening);
        tracing::warn!("a bell rings");
        tracing::warn!("a bell rings again");
        assert!(inner.lock().unwrap().is_none());
        assert_eq!(entries.lock().unwrap().len(), 2);
    }
}
