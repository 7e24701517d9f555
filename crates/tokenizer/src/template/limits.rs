//! What a template may build and how long it may take, and the functions that see to it.
//!
//! Every text and container a template builds is counted when it is built, and
//! no value may be larger or deeper than the limits here. What searches, compares or
//! makes something large from something small says so before it begins, so that the
//! clock is asked in time, and what would take too long is not begun.

use std::fmt::Write;
use std::time::Duration;

use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State};
use web_time::Instant;

use super::operators;
use super::python_methods;
use super::python_text::write_python;

/// Rounds of loops, decisions and values built in one rendering; a message or tool takes
/// about a hundred. What runs between two of them is no longer than the template.
const MAX_STEPS: usize = 3_000_000;
/// Bytes of all values built in one rendering.
const MAX_TOTAL_BYTES: usize = 256 << 20;
/// Bytes of one value, a text counted wherever it occurs in it: few enough that going
/// through all of them takes tens of milliseconds.
pub(super) const MAX_VALUE_BYTES: usize = 16 << 20;
/// Values inside values inside values; messages may have half of it.
const MAX_DEPTH: usize = 256;
/// Values looked at while measuring.
const MAX_VISITS: usize = 50_000_000;
/// So many take a tenth of a millisecond or so.
const VISITS_BETWEEN_LOOKS: usize = 4096;
/// What a value takes besides its text, roughly.
pub(super) const VALUE_BYTES: usize = 24;

/// Microseconds that looking at a byte takes at least, in operations that go through many.
const BYTE_US: f64 = 0.001;
/// As many bytes take as long as looking at the letters of one, or writing them elsewhere.
pub(super) const LETTERS: usize = 8;
/// How much longer looking at a byte may take. What passes beyond it between two looks at
/// the clock was another program's time, on a machine that has more to do than it can.
const SLOWNESS: f64 = 10.0;
/// Microseconds that pass between two looks at the clock for other reasons.
const BETWEEN_LOOKS_US: f64 = 10_000.0;

// Names that no template can spell.
pub(super) const BEGIN: &str = "<begin>";
pub(super) const BUILT: &str = "<built>";
pub(super) const KEPT: &str = "<kept>";
pub(super) const ITERABLE: &str = "<iterable>";
pub(super) const MULTIPLY: &str = "<multiply>";
pub(super) const TICK: &str = "<tick>";
pub(super) const WEIGHED: &str = "<weighed>";
pub(super) const NO_CYCLE: &str = "<no cycle>";
/// A variable: the microseconds that the rendering may take.
const TIME: &str = "<time>";

/// Sets the limits, and the functions and filters that keep them.
pub(super) fn install(environment: &mut Environment<'static>) {
    environment.add_function(BEGIN, begin);
    environment.add_function(BUILT, built);
    environment.add_function(KEPT, kept);
    environment.add_function(ITERABLE, iterable);
    environment.add_function(MULTIPLY, multiply);
    environment.add_function(TICK, |state: &mut State| used(state).bytes(0));
    environment.add_function(WEIGHED, weighed);
    environment.add_function(NO_CYCLE, |_: Value| refuse("a cycle needs values"));
    environment.set_formatter(|out, state, value| {
        if let Some(text) = value.as_str() {
            begin_work(state, text.len())?;
            used(state).bytes(text.len())?;
            return Ok(out.write_str(text)?);
        }
        let mut text = String::new();
        let n_bytes = measure(state, value)?;
        begin_work(state, n_bytes.saturating_mul(LETTERS))?;
        write_python(&mut text, value)?;
        used(state).bytes(text.len())?;
        Ok(out.write_str(&text)?)
    });
    environment.set_unknown_method_callback(|state, value, method, args| {
        let mut n_bytes = texts([value].into_iter());
        for arg in args {
            n_bytes = n_bytes.saturating_add(measure(state, arg)?);
        }
        let weight = if python_methods::SEARCHES.contains(&method) { 1 } else { LETTERS };
        begin_work(state, n_bytes.saturating_mul(weight))?;
        python_methods::call(value, method, args)
    });
}

/// The variable that tells a rendering how long it may take.
pub(super) fn time(time: Duration) -> (&'static str, Value) {
    (TIME, Value::from(time.as_secs_f64() * 1e6))
}

pub(super) fn error(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

fn refuse(message: &str) -> Result<Value, Error> {
    Err(error(message))
}

/// Marks an error as one that more time may avoid.
#[derive(Debug, thiserror::Error)]
#[error("too slow")]
pub(super) struct TooSlow;

/// What one rendering has used up.
struct Used {
    /// All the time there is, and how much of it is gone, in microseconds.
    time_us: f64,
    gone_us: f64,
    /// When the clock was last looked at, and how many bytes were to be gone through since.
    looked: Instant,
    n_ahead: usize,
    n_steps: usize,
    n_bytes: usize,
    n_visits: usize,
}

impl Used {
    fn new(time_us: f64) -> Self {
        let looked = Instant::now();
        Used { time_us, gone_us: 0.0, looked, n_ahead: 0, n_steps: 0, n_bytes: 0, n_visits: 0 }
    }
}

/// The first instruction of every template.
fn begin(state: &mut State) {
    let time_us = state.lookup(TIME).and_then(|time| f64::try_from(time).ok());
    *used(state) = Used::new(time_us.unwrap_or_default());
}

fn used<'s>(state: &'s mut State<'_, '_>) -> &'s mut Used {
    state.get_or_insert_extension_with(|| Used::new(0.0))
}

/// Says that so many bytes are about to be gone through, all of them maybe.
///
/// # Errors
/// When that would take longer than the template has left.
pub(super) fn begin_work(state: &mut State, n_bytes: usize) -> Result<(), Error> {
    let used = used(state);
    used.bytes(0)?;
    if n_bytes as f64 * BYTE_US > used.time_us - used.gone_us {
        return Err(used.too_slow());
    }
    used.n_ahead = n_bytes;
    Ok(())
}

/// Bytes of the texts among some values, and of what lies side by side in lists.
pub(super) fn texts<'v>(values: impl Iterator<Item = &'v Value>) -> usize {
    let one = |value: &Value| match value.as_str() {
        Some(text) => text.len(),
        None => value.len().unwrap_or_default().saturating_mul(VALUE_BYTES),
    };
    values.fold(0, |sum, value| sum.saturating_add(one(value)))
}

/// Bytes of a value with all that is in it.
pub(super) fn measure(state: &mut State, value: &Value) -> Result<usize, Error> {
    used(state).measure(value, 0)
}

impl Used {
    /// One more step, and the bytes it built.
    fn bytes(&mut self, n: usize) -> Result<(), Error> {
        self.n_steps += 1;
        if self.n_steps > MAX_STEPS {
            return Err(error(format!("the template takes more than {MAX_STEPS} steps")));
        }
        self.look()?;
        self.n_bytes = self.n_bytes.saturating_add(n);
        if self.n_bytes > MAX_TOTAL_BYTES {
            return Err(error(format!("the template builds more than {MAX_TOTAL_BYTES} bytes")));
        }
        Ok(())
    }

    /// Looks at the clock.
    fn look(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        let most = BETWEEN_LOOKS_US + self.n_ahead as f64 * (BYTE_US * SLOWNESS);
        self.gone_us += ((now - self.looked).as_secs_f64() * 1e6).min(most);
        self.looked = now;
        self.n_ahead = 0;
        if self.gone_us > self.time_us { Err(self.too_slow()) } else { Ok(()) }
    }

    fn too_slow(&self) -> Error {
        let ms = (self.time_us / 1e3) as u32;
        let message = format!("the template takes longer than the {ms} ms that it has here");
        error(message).with_source(TooSlow)
    }

    /// Bytes of a value with all that is in it.
    fn measure(&mut self, value: &Value, depth: usize) -> Result<usize, Error> {
        self.n_visits += 1;
        if depth > MAX_DEPTH || self.n_visits > MAX_VISITS {
            return Err(error("the template builds lists that are too deep or too large"));
        }
        if self.n_visits.is_multiple_of(VISITS_BETWEEN_LOOKS) {
            self.look()?;
        }
        if let Some(text) = value.as_str() {
            return Ok(VALUE_BYTES + text.len());
        }
        if depth > 0 && is_namespace(value) {
            return Err(error("a namespace cannot be part of another value"));
        }
        let is_map = value.kind() == ValueKind::Map;
        let is_list = matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable);
        // What has no length makes its items one by one, when they are asked for.
        if !(is_map || is_list) || value.len().is_none() {
            return Ok(VALUE_BYTES);
        }
        let mut n_bytes = VALUE_BYTES;
        for item in value.try_iter()? {
            n_bytes += self.measure(&item, depth + 1)?;
            if is_map {
                n_bytes += self.measure(&value.get_item(&item)?, depth + 1)?;
            }
            if n_bytes > MAX_VALUE_BYTES {
                return Err(error(format!("a value of more than {MAX_VALUE_BYTES} bytes")));
            }
        }
        Ok(n_bytes)
    }
}

fn is_namespace(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.type_name().ends_with("Namespace"))
}

/// Counts values that are about to be compared or searched, and hands them on.
fn weighed(state: &mut State, values: Value) -> Result<Value, Error> {
    let mut n_bytes = 0usize;
    for value in values.try_iter()? {
        n_bytes = n_bytes.saturating_add(texts([&value].into_iter()));
    }
    begin_work(state, n_bytes)?;
    Ok(values)
}

/// Counts a value that was just built, and hands it on.
pub(super) fn built(state: &mut State, value: Value) -> Result<Value, Error> {
    let used = used(state);
    let n_bytes = match value.as_str() {
        Some(text) if text.len() > MAX_VALUE_BYTES => {
            return Err(error(format!("a text of more than {MAX_VALUE_BYTES} bytes")));
        }
        Some(text) => text.len(),
        None => {
            used.measure(&value, 0)?;
            VALUE_BYTES * (1 + value.len().unwrap_or_default())
        }
    };
    used.bytes(n_bytes)?;
    Ok(value)
}

/// Hands on a value that is about to become part of a namespace.
fn kept(value: Value) -> Result<Value, Error> {
    if is_namespace(&value) {
        return Err(error("a namespace cannot be part of another value"));
    }
    Ok(value)
}

/// Hands on what is about to be iterated over.
fn iterable(value: Value) -> Result<Value, Error> {
    if value.is_none() {
        return Err(error("none is not iterable"));
    }
    operators::spread(value)
}

/// `left * right`, without the texts and lists nobody needs.
fn multiply(state: &mut State, left: Value, right: Value) -> Result<Value, Error> {
    let product = match (left.is_number(), right.is_number()) {
        (true, true) => return multiply_numbers(&left, &right),
        (true, false) => (right, left),
        _ => (left, right),
    };
    let (value, times) = product;
    let times =
        times.as_i64().ok_or_else(|| error("only a number can tell how often to repeat"))?;
    let times = usize::try_from(times).unwrap_or_default();
    if let Some(text) = value.as_str() {
        if text.len().saturating_mul(times) > MAX_VALUE_BYTES {
            return Err(error(format!("a text of more than {MAX_VALUE_BYTES} bytes")));
        }
        used(state).bytes(text.len() * times)?;
        return Ok(Value::from(text.repeat(times)));
    }
    if value.kind() != ValueKind::Seq {
        return Err(error(format!("{} cannot be multiplied", value.kind())));
    }
    let size = used(state).measure(&value, 0)?;
    if size.saturating_mul(times) > MAX_VALUE_BYTES {
        return Err(error(format!("a value of more than {MAX_VALUE_BYTES} bytes")));
    }
    begin_work(state, size * times)?;
    used(state).bytes(size * times)?;
    let items: Vec<Value> = value.try_iter()?.collect();
    Ok((0..times).flat_map(|_| items.iter().cloned()).collect::<Vec<_>>().into())
}

fn multiply_numbers(left: &Value, right: &Value) -> Result<Value, Error> {
    if left.is_integer() && right.is_integer() {
        let product = i128::try_from(left.clone())?.checked_mul(i128::try_from(right.clone())?);
        return product.map(Value::from).ok_or_else(|| error("the product is too large"));
    }
    Ok(Value::from(f64::try_from(left.clone())? * f64::try_from(right.clone())?))
}

/// Refuses to build a text of so many bytes.
pub(super) fn check_size(n_bytes: usize) -> Result<(), Error> {
    if n_bytes > MAX_VALUE_BYTES {
        return Err(error(format!("a text of more than {MAX_VALUE_BYTES} bytes")));
    }
    Ok(())
}

pub(super) fn check_replace(text: &str, old: &str, new: &str) -> Result<(), Error> {
    let n_matches = text.matches(old).count();
    check_size(text.len().saturating_add(n_matches.saturating_mul(new.len())))
}

pub(super) fn check_join(items: &Value, separator_bytes: usize) -> Result<(), Error> {
    check_size(items.len().unwrap_or_default().saturating_mul(separator_bytes))
}

/// Refuses a list of so many values.
pub(super) fn check_count(n_values: usize) -> Result<(), Error> {
    if n_values > MAX_VALUE_BYTES / VALUE_BYTES {
        return Err(error(format!("a list of more than {} values", MAX_VALUE_BYTES / VALUE_BYTES)));
    }
    Ok(())
}

/// Widths and precisions of at most three digits, and no more fields than the largest of
/// the values can be put into.
pub(super) fn check_format(pattern: &str, mark: char, args: &[Value]) -> Result<(), Error> {
    /// What a width or a number takes at most.
    const FIELD_BYTES: usize = 2000;
    let mut n_digits = 0;
    for c in pattern.chars() {
        n_digits = if c.is_ascii_digit() { n_digits + 1 } else { 0 };
        if n_digits > 3 {
            return Err(error("a format with a number of more than three digits"));
        }
    }
    let mut longest = FIELD_BYTES;
    for arg in args {
        let mut text = String::new();
        write_python(&mut text, arg)?;
        longest = longest.max(text.len());
    }
    let n_fields = pattern.matches(mark).count();
    check_size(pattern.len().saturating_add(n_fields.saturating_mul(longest)))
}

/// A writer that stops at the largest text a template may build.
pub(super) struct BoundedText<'t>(pub(super) &'t mut String);

impl Write for BoundedText<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        if self.0.len() + text.len() > MAX_VALUE_BYTES {
            return Err(std::fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}
