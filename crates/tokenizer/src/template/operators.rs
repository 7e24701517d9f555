//! Operators that mean something else in Python than in the engine: compiled
//! templates call these functions instead; see [`program`](super::program).

use std::ops::ControlFlow;

use minijinja::value::{Rest, Tuple, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

use super::filters;
use super::limits::{self, LETTERS, MAX_VALUE_BYTES, begin_work, texts};
use super::python_text::{python_str, write_python};

// Names that no template can spell.
pub(super) const SLICE: &str = "<slice>";
pub(super) const CONCAT: &str = "<concat>";
pub(super) const REMAINDER: &str = "<remainder>";

/// `value[start:stop:step]`: a text, a list or a tuple; nothing of what has no slices.
pub(super) fn slice(
    state: &mut State,
    value: Value,
    start: Value,
    stop: Value,
    step: Value,
) -> Result<Value, Error> {
    begin_work(state, texts([&value].into_iter()).saturating_mul(LETTERS))?;
    let step = if step.is_none() { 1 } else { i64::try_from(step)? };
    if step == 0 {
        return Err(limits::error("slice step cannot be zero"));
    }
    let bound = |bound: Value| -> Result<Option<i64>, Error> {
        if bound.is_none() { Ok(None) } else { Ok(Some(i64::try_from(bound)?)) }
    };
    let (start, stop) = (bound(start)?, bound(stop)?);
    if let Some(text) = value.as_str() {
        let chars: Vec<char> = text.chars().collect();
        let taken = indices(start, stop, step, chars.len()).map(|i| chars[i]);
        return Ok(Value::from(taken.collect::<String>()));
    }
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter()?.collect();
            let taken: Vec<Value> =
                indices(start, stop, step, items.len()).map(|i| items[i].clone()).collect();
            Ok(if value.is_tuple() { Tuple::from(taken).into() } else { taken.into() })
        }
        ValueKind::Undefined => {
            Err(Error::new(ErrorKind::UndefinedError, "an undefined value has no slices"))
        }
        _ => Ok(Value::UNDEFINED),
    }
}

/// The positions `start:stop:step` means in `len` items, as Python's `slice.indices`.
fn indices(
    start: Option<i64>,
    stop: Option<i64>,
    step: i64,
    len: usize,
) -> impl Iterator<Item = usize> {
    let len = len as i64;
    // Backwards, -1 is the place before the first item.
    let (lowest, highest) = if step < 0 { (-1, len - 1) } else { (0, len) };
    let place = |bound: i64| {
        let from_start = if bound < 0 { bound.saturating_add(len) } else { bound };
        from_start.clamp(lowest, highest)
    };
    let first = start.map_or(if step < 0 { highest } else { lowest }, place);
    let end = stop.map_or(if step < 0 { lowest } else { highest }, place);
    let inside = move |i: &i64| if step < 0 { *i > end } else { *i < end };
    std::iter::successors(Some(first), move |i| i.checked_add(step))
        .take_while(inside)
        .map(|i| i as usize)
}

/// `left ~ right`: both as Python's `str` writes them.
pub(super) fn concat(state: &mut State, left: Value, right: Value) -> Result<String, Error> {
    begin_writing(state, [&left, &right])?;
    let mut text = python_str(&left)?;
    write_python(&mut text, &right)?;
    Ok(text)
}

/// Says that two values are about to be written as a text. A text is copied.
fn begin_writing(state: &mut State, values: [&Value; 2]) -> Result<(), Error> {
    let mut n_bytes = 0usize;
    for value in values {
        n_bytes += match value.as_str() {
            Some(text) => text.len(),
            None => limits::measure(state, value)?.saturating_mul(LETTERS),
        };
    }
    begin_work(state, n_bytes)
}

/// `left % right`: of numbers what is left over, of a text its `%s` filled in.
pub(super) fn remainder(state: &mut State, left: Value, right: Value) -> Result<Value, Error> {
    if left.as_str().is_some() {
        begin_writing(state, [&left, &right])?;
        let args = if right.is_tuple() { right.try_iter()?.collect() } else { vec![right] };
        return filters::format(&left, Rest(args));
    }
    if left.is_integer() && right.is_integer() {
        let (left, right) = (i128::try_from(left)?, i128::try_from(right)?);
        let rest = left.checked_rem(right).ok_or_else(|| limits::error("modulo by zero"))?;
        // The sign is that of the divisor.
        let shift = rest != 0 && (rest < 0) != (right < 0);
        return Ok(Value::from(if shift { rest + right } else { rest }));
    }
    let (Ok(dividend), Ok(divisor)) = (f64::try_from(left.clone()), f64::try_from(right.clone()))
    else {
        let (left, right) = (left.kind(), right.kind());
        return Err(limits::error(format!("{left} % {right} is not possible")));
    };
    if divisor == 0.0 {
        return Err(limits::error("modulo by zero"));
    }
    let rest = dividend % divisor;
    let shift = rest != 0.0 && (rest < 0.0) != (divisor < 0.0);
    Ok(Value::from(if shift { rest + divisor } else { rest }))
}

/// Characters of a text as a list, so that a loop over it knows its length.
pub(super) fn spread(value: Value) -> Result<Value, Error> {
    let Some(text) = value.as_str() else { return Ok(value) };
    let mut n_bytes = 0;
    let chars = text.chars().try_fold(Vec::new(), |mut chars, c| {
        n_bytes += limits::VALUE_BYTES;
        if n_bytes > MAX_VALUE_BYTES {
            return ControlFlow::Break(());
        }
        chars.push(Value::from(c));
        ControlFlow::Continue(chars)
    });
    match chars {
        ControlFlow::Continue(chars) => Ok(chars.into()),
        ControlFlow::Break(()) => Err(limits::error("the text is too long for a loop")),
    }
}
