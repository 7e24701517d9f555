//! What filters and tests look at, and how they are put into an environment so that it is
//! counted, by whatever name and from whatever other filter they are called.

use minijinja::functions::Function;
use minijinja::value::{FunctionArgs, FunctionResult, Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, State};

use super::limits::{self, LETTERS, VALUE_BYTES, begin_work, check_count, measure, texts};

/// What is gone through.
#[derive(Clone, Copy)]
pub(super) enum Cost {
    /// The texts among the arguments, and what is side by side in their lists.
    Texts,
    /// The items of the first argument, and for each of them the texts among the others.
    Items,
    /// As [`Items`](Self::Items), which become this many lists or get as many more.
    Groups,
    /// Letter by letter what is in the arguments.
    Everything,
    /// Letter by letter the texts among the arguments.
    Letters,
    /// The items of the first argument, which are compared with each other.
    Order,
    /// The items of the first argument, which are added up.
    Sum,
}

/// Adds a filter that goes through what `cost` says.
pub(super) fn add_filter<F, R, A>(
    environment: &mut Environment<'static>,
    name: &'static str,
    cost: Cost,
    filter: F,
) where
    F: Function<R, A>,
    R: FunctionResult,
    A: for<'a> FunctionArgs<'a>,
{
    add_filter_value(environment, name, cost, Value::from_function(filter));
}

fn add_filter_value(
    environment: &mut Environment<'static>,
    name: &'static str,
    cost: Cost,
    filter: Value,
) {
    let counted = move |state: &mut State, args: Rest<ValueOrKwargs>| {
        let value = counted(state, cost, &filter, args)?;
        limits::built(state, value)
    };
    environment.add_filter(name, counted);
}

/// Adds a test that goes through its arguments once.
pub(super) fn add_test<F, R, A>(environment: &mut Environment<'static>, name: &'static str, test: F)
where
    F: Function<R, A>,
    R: FunctionResult,
    A: for<'a> FunctionArgs<'a>,
{
    add_test_value(environment, name, Value::from_function(test));
}

fn add_test_value(environment: &mut Environment<'static>, name: &'static str, test: Value) {
    let counted = move |state: &mut State, args: Rest<ValueOrKwargs>| {
        counted(state, Cost::Texts, &test, args)
    };
    environment.add_test(name, counted);
}

fn counted(
    state: &mut State,
    cost: Cost,
    function: &Value,
    args: Rest<ValueOrKwargs>,
) -> Result<Value, Error> {
    let args = args.into_values();
    if let Some((value, others)) = args.split_first() {
        let n_bytes = cost.of(state, value, others)?;
        begin_work(state, n_bytes)?;
    }
    function.call(state, &args)
}

impl Cost {
    /// Bytes of it.
    fn of(self, state: &mut State, value: &Value, others: &[Value]) -> Result<usize, Error> {
        let mut n_options = 0usize;
        for other in others {
            n_options = n_options.saturating_add(measure(state, other)?);
        }
        let n_texts = texts([value].into_iter()).saturating_add(n_options);
        match self {
            Cost::Texts => return Ok(n_texts),
            Cost::Letters => return Ok(n_texts.saturating_mul(LETTERS)),
            Cost::Everything => {
                let n_bytes = measure(state, value)?.saturating_add(n_options);
                return Ok(n_bytes.saturating_mul(LETTERS));
            }
            _ => {}
        }
        let n_items = count(value)?;
        check_count(n_items)?;
        let per_item = match self {
            Cost::Order => {
                let n_rounds = 1 + n_items.checked_ilog2().unwrap_or_default() as usize;
                n_rounds.saturating_mul(longest(state, value)?)
            }
            // Texts and lists are copied with each that is added.
            Cost::Sum if !others.iter().all(Value::is_number) => measure(state, value)?,
            _ => VALUE_BYTES + n_options,
        };
        if let (Cost::Groups, Some(n)) = (self, others.first().and_then(Value::as_usize)) {
            check_count(n)?;
        }
        Ok(n_texts.saturating_add(n_items.saturating_mul(per_item)))
    }
}

fn count(value: &Value) -> Result<usize, Error> {
    match (value.as_str(), value.len()) {
        (Some(text), _) => Ok(text.len()),
        (None, Some(n)) => Ok(n),
        (None, None) if value.kind() == ValueKind::Iterable => Ok(value.try_iter()?.count()),
        _ => Ok(0),
    }
}

/// Bytes of the longest item, whatever of it is compared.
fn longest(state: &mut State, value: &Value) -> Result<usize, Error> {
    let is_map = value.kind() == ValueKind::Map;
    let mut longest = 0;
    for item in value.try_iter()? {
        longest = longest.max(measure(state, &item)?);
        if is_map {
            longest = longest.max(measure(state, &value.get_item(&item)?)?);
        }
    }
    Ok(longest)
}
