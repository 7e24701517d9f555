//! What a template may build, and the functions that see to it.
//!
//! Every text and container a template builds is counted when it is built, and
//! no value may be larger or deeper than the limits here. The few filters that
//! make something large from something small look before they do.

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
/// Bytes of one value, a text counted wherever it occurs in it.
pub(super) const MAX_VALUE_BYTES: usize = 32 << 20;
/// Values inside values inside values; messages may have half of it.
const MAX_DEPTH: usize = 256;
/// Values looked at while measuring.
const MAX_VISITS: usize = 50_000_000;
/// Time of one rendering. Steps are quick unless they compare or search
/// large values, so only a template that does little else gets here.
const MAX_TIME: Duration = Duration::from_secs(10);
/// What a value takes besides its text, roughly.
pub(super) const VALUE_BYTES: usize = 24;

// Names that no template can spell.
pub(super) const BUILT: &str = "<built>";
pub(super) const KEPT: &str = "<kept>";
pub(super) const ITERABLE: &str = "<iterable>";
pub(super) const MULTIPLY: &str = "<multiply>";
pub(super) const TICK: &str = "<tick>";

/// Sets the limits, and the functions and filters that keep them.
pub(super) fn install(environment: &mut Environment<'static>) {
    environment.add_function(BUILT, built);
    environment.add_function(KEPT, kept);
    environment.add_function(ITERABLE, iterable);
    environment.add_function(MULTIPLY, multiply);
    environment.add_function(TICK, |state: &mut State| used(state).bytes(0));
    environment.set_formatter(|out, state, value| {
        if let Some(text) = value.as_str() {
            used(state).bytes(text.len())?;
            return Ok(out.write_str(text)?);
        }
        let mut text = String::new();
        write_python(&mut text, value)?;
        used(state).bytes(text.len())?;
        Ok(out.write_str(&text)?)
    });
    environment.set_unknown_method_callback(|_, value, method, args| {
        python_methods::call(value, method, args)
    });
}

pub(super) fn error(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

/// What one rendering has used up.
struct Used {
    since: Instant,
    n_steps: usize,
    n_bytes: usize,
    n_visits: usize,
}

fn used<'s>(state: &'s mut State<'_, '_>) -> &'s mut Used {
    let unused = || Used { since: Instant::now(), n_steps: 0, n_bytes: 0, n_visits: 0 };
    state.get_or_insert_extension_with(unused)
}

impl Used {
    /// One more step, and the bytes it built.
    fn bytes(&mut self, n: usize) -> Result<(), Error> {
        self.n_steps += 1;
        if self.n_steps > MAX_STEPS {
            return Err(error(format!("the template takes more than {MAX_STEPS} steps")));
        }
        if self.since.elapsed() > MAX_TIME {
            return Err(error(format!("the template takes more than {MAX_TIME:?}")));
        }
        self.n_bytes = self.n_bytes.saturating_add(n);
        if self.n_bytes > MAX_TOTAL_BYTES {
            return Err(error(format!("the template builds more than {MAX_TOTAL_BYTES} bytes")));
        }
        Ok(())
    }

    /// Bytes of a value with all that is in it.
    fn measure(&mut self, value: &Value, depth: usize) -> Result<usize, Error> {
        self.n_visits += 1;
        if depth > MAX_DEPTH || self.n_visits > MAX_VISITS {
            return Err(error("the template builds lists that are too deep or too large"));
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

/// Counts a value that was just built, and hands it on.
fn built(state: &mut State, value: Value) -> Result<Value, Error> {
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

/// Widths and precisions of at most three digits.
pub(super) fn check_format(pattern: &str) -> Result<(), Error> {
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).count();
    if pattern.char_indices().any(|(i, _)| digits(&pattern[i..]) > 3) {
        return Err(error("a format with a number of more than three digits"));
    }
    Ok(())
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
