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
        let n_texts = texts([value].into_iter().chain(others));
        match self {
            Cost::Texts => return Ok(n_texts),
            Cost::Letters => return Ok(n_texts.saturating_mul(LETTERS)),
            Cost::Everything => {
                let mut sum = 0usize;
                for value in [value].into_iter().chain(others) {
                    sum = sum.saturating_add(measure(state, value)?);
                }
                return Ok(sum.saturating_mul(LETTERS));
            }
            _ => {}
        }
        let n_items = count(value)?;
        check_count(n_items)?;
        let per_item = match self {
            Cost::Order => {
                let n_rounds = 1 + n_items.checked_ilog2().unwrap_or_default() as usize;
                n_rounds.saturating_mul(VALUE_BYTES + longest_key(state, value, others)?)
            }
            Cost::Sum if !starts_with_number(others) => measure(state, value)?,
            _ => {
                VALUE_BYTES
                    + options(others).map(|value| texts([&value].into_iter())).sum::<usize>()
            }
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

/// Arguments by their place, and those that have a name.
fn options(others: &[Value]) -> impl Iterator<Item = Value> {
    others.iter().flat_map(|value| match value.kind() {
        ValueKind::Map => {
            let names: Vec<Value> = value.try_iter().into_iter().flatten().collect();
            names.iter().filter_map(|name| value.get_item(name).ok()).collect()
        }
        _ => vec![value.clone()],
    })
}

fn named(others: &[Value], name: &str) -> Option<Value> {
    let named = others.last().filter(|value| value.kind() == ValueKind::Map)?;
    named.get_attr(name).ok().filter(|value| !value.is_undefined())
}

/// Bytes of the longest of what items are put in order by.
fn longest_key(state: &mut State, value: &Value, others: &[Value]) -> Result<usize, Error> {
    let attribute = named(others, "attribute").or_else(|| others.first().cloned());
    let attribute = attribute.as_ref().and_then(Value::as_str);
    let is_map = value.kind() == ValueKind::Map;
    let mut longest = 0;
    for item in value.try_iter()? {
        let n_bytes = match attribute {
            // By key or by value.
            _ if is_map => measure(state, &item)?.max(measure(state, &value.get_item(&item)?)?),
            Some(attribute) => {
                let keys = attribute.split(',').map(|path| part(&item, path.trim()));
                keys.map(|key| measure(state, &key)).sum::<Result<usize, Error>>()?
            }
            None => measure(state, &item)?,
        };
        longest = longest.max(n_bytes);
    }
    Ok(longest)
}

/// What a path such as `function.name` leads to.
fn part(value: &Value, path: &str) -> Value {
    path.split('.').fold(value.clone(), |value, name| {
        let found = match name.parse() {
            Ok(place) => value.get_item_by_index(place),
            Err(_) => value.get_attr(name),
        };
        found.unwrap_or_default()
    })
}

/// Whether a sum begins at a number, as all of them do unless they are told otherwise.
fn starts_with_number(others: &[Value]) -> bool {
    let start = named(others, "start").or_else(|| others.get(1).cloned());
    start.is_none_or(|start| start.is_number() || start.kind() == ValueKind::Map)
}
