//! Methods of Python's `str`, `list` and `dict`.

use minijinja::formatting::{FormatStyle, format};
use minijinja::value::{Tuple, Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind};

use super::limits::{
    self, MAX_VALUE_BYTES, VALUE_BYTES, check_count, check_format, check_join, check_replace,
};
use super::python_text::{few_chars, is_python_space, split_lines, write_python};

/// Methods that look for something, and do so faster than letter by letter.
pub(super) const SEARCHES: &[&str] = &[
    "count",
    "endswith",
    "find",
    "get",
    "index",
    "items",
    "keys",
    "removeprefix",
    "removesuffix",
    "rfind",
    "rindex",
    "startswith",
    "values",
];

/// Calls `method`.
pub(super) fn call(value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    match (value.kind(), value.as_str()) {
        (_, Some(text)) => text_method(text, method, args),
        (ValueKind::Map | ValueKind::Seq, _) if method == "copy" => Ok(value.clone()),
        (ValueKind::Map, _) => map_method(value, method, args),
        (ValueKind::Seq, _) => list_method(value, method, args),
        (ValueKind::Number, _) if method == "is_integer" => {
            let number = f64::try_from(value.clone()).unwrap_or(0.5);
            Ok(Value::from(number.fract() == 0.0))
        }
        _ => Err(ErrorKind::UnknownMethod.into()),
    }
}

fn map_method(map: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    if method == "get" {
        let (key, default): (&Value, Option<Value>) = from_args(args)?;
        let found = map.as_object().and_then(|map| map.get_value(key));
        return Ok(found.or(default).unwrap_or_else(|| Value::from(())));
    }
    let take = |part: fn(Value, Value) -> Value| -> Result<Value, Error> {
        let () = from_args(args)?;
        let pairs = map.try_iter()?.map(|key| {
            let value = map.get_item(&key)?;
            Ok(part(key, value))
        });
        let items = pairs.collect::<Result<Vec<_>, Error>>()?;
        // No list: it has no places.
        Ok(Value::make_iterable(move || items.clone().into_iter()))
    };
    match method {
        "keys" => take(|key, _| key),
        "values" => take(|_, value| value),
        "items" => take(|key, value| Tuple::from([key, value]).into()),
        _ => Err(ErrorKind::UnknownMethod.into()),
    }
}

fn list_method(list: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    match method {
        "index" => list_index(list, args),
        "count" => {
            let (wanted,): (&Value,) = from_args(args)?;
            Ok(list.try_iter()?.filter(|item| item == wanted).count().into())
        }
        _ => Err(ErrorKind::UnknownMethod.into()),
    }
}

fn list_index(list: &Value, args: &[Value]) -> Result<Value, Error> {
    let (wanted,): (&Value,) = from_args(args)?;
    let place = list.try_iter()?.position(|item| item == *wanted);
    place.map(Value::from).ok_or_else(|| limits::error(format!("{wanted} is not in list")))
}

fn text_method(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    Ok(match method {
        "format" => {
            check_format(text, '{', args)?;
            format(FormatStyle::StrFormat, text, args)?.into()
        }
        "join" => {
            let (items,): (&Value,) = from_args(args)?;
            join(text, items)?.into()
        }
        "replace" => {
            let (old, new, count): (&str, &str, Option<i64>) = from_args(args)?;
            check_replace(text, old, new)?;
            let most = count.and_then(|count| usize::try_from(count).ok());
            text.replacen(old, new, most.unwrap_or(usize::MAX)).into()
        }
        "strip" | "lstrip" | "rstrip" => strip(text, method, args)?,
        "removeprefix" | "removesuffix" => {
            let (part,): (&str,) = from_args(args)?;
            let rest = match method {
                "removeprefix" => text.strip_prefix(part),
                _ => text.strip_suffix(part),
            };
            rest.unwrap_or(text).into()
        }
        "split" | "rsplit" => split(text, method == "rsplit", args)?,
        "partition" | "rpartition" => partition(text, method == "rpartition", args)?,
        "splitlines" => {
            let (keep_ends,): (Option<bool>,) = from_args(args)?;
            let lines = split_lines(text).map(|(line, end)| {
                if keep_ends == Some(true) { [line, end].concat() } else { line.into() }
            });
            let lines: Vec<Value> =
                lines.map(Value::from).take(MAX_VALUE_BYTES / VALUE_BYTES + 1).collect();
            check_count(lines.len())?;
            lines.into()
        }
        "find" | "rfind" | "index" | "rindex" | "count" => search(text, method, args)?,
        "startswith" | "endswith" => begins_or_ends(text, method == "endswith", args)?,
        "center" | "ljust" | "rjust" => {
            let (width, fill): (usize, Option<&str>) = from_args(args)?;
            pad(text, width, fill.unwrap_or(" "), method)?.into()
        }
        "zfill" => {
            let (width,): (usize,) = from_args(args)?;
            let n_digits = text.trim_start_matches(['+', '-']);
            let sign = &text[..text.len() - n_digits.len()];
            let width = width.saturating_sub(sign.len());
            format!("{sign}{}", pad(n_digits, width, "0", "rjust")?).into()
        }
        "expandtabs" => {
            let (size,): (Option<usize>,) = from_args(args)?;
            expand_tabs(text, size.unwrap_or(8))?.into()
        }
        "upper" => text.to_uppercase().into(),
        "lower" => text.to_lowercase().into(),
        "capitalize" => capitalize(text).into(),
        "title" => title(text).into(),
        "swapcase" => swap_case(text).into(),
        "casefold" => text.to_lowercase().replace('ß', "ss").into(),
        "istitle" => (any(text, char::is_alphabetic) && title(text) == text).into(),
        "islower" => (any(text, char::is_lowercase) && !any(text, char::is_uppercase)).into(),
        "isupper" => (any(text, char::is_uppercase) && !any(text, char::is_lowercase)).into(),
        "isspace" => all(text, is_python_space).into(),
        "isalpha" => all(text, char::is_alphabetic).into(),
        "isalnum" => all(text, char::is_alphanumeric).into(),
        "isnumeric" => all(text, char::is_numeric).into(),
        "isascii" => text.is_ascii().into(),
        "isdecimal" | "isdigit" => all(text, |c| c.is_numeric() && is_digit(c)).into(),
        "isidentifier" => {
            let starts_right = text.starts_with(|c: char| c == '_' || c.is_alphabetic());
            (starts_right && all(text, |c| c == '_' || c.is_alphanumeric())).into()
        }
        _ => return Err(ErrorKind::UnknownMethod.into()),
    })
}

fn any(text: &str, is_right: fn(char) -> bool) -> bool {
    text.chars().any(is_right)
}

fn all(text: &str, is_right: fn(char) -> bool) -> bool {
    !text.is_empty() && text.chars().all(is_right)
}

/// Whether a numeric character is a digit, not a fraction or a Roman number.
fn is_digit(c: char) -> bool {
    c.is_ascii_digit()
        || !matches!(c, '¼'..='¾' | '\u{2150}'..='\u{218b}' | '\u{3007}'..='\u{9fff}')
}

fn join(separator: &str, items: &Value) -> Result<String, Error> {
    check_join(items, separator.len())?;
    let mut out = String::new();
    for (i, item) in items.try_iter()?.enumerate() {
        if i > 0 {
            out += separator;
        }
        match item.as_str() {
            Some(text) => out += text,
            None => write_python(&mut out, &item)?,
        }
        limits::check_size(out.len())?;
    }
    Ok(out)
}

fn strip(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let (chars,): (Option<&str>,) = from_args(args)?;
    let chars = chars.map(few_chars).transpose()?;
    let is_cut = |c: char| chars.as_ref().map_or(is_python_space(c), |chars| chars.contains(&c));
    Ok(Value::from(match method {
        "lstrip" => text.trim_start_matches(is_cut),
        "rstrip" => text.trim_end_matches(is_cut),
        _ => text.trim_matches(is_cut),
    }))
}

fn split(text: &str, from_end: bool, args: &[Value]) -> Result<Value, Error> {
    let (args, named): (&[Value], minijinja::value::Kwargs) = from_args(args)?;
    let arg = |i: usize, name: &str| args.get(i).cloned().or_else(|| named.get(name).ok());
    let separator = arg(0, "sep").filter(|value| !value.is_none() && !value.is_undefined());
    let most = match arg(1, "maxsplit") {
        Some(most) if !most.is_undefined() => usize::try_from(i64::try_from(most)?).ok(),
        _ => None,
    };
    // The number of parts; without `maxsplit` as many as there are.
    let n_parts = most.map_or(usize::MAX, |most| most.saturating_add(1));
    // One more than a list may have, which is then refused.
    let n_parts = n_parts.min(MAX_VALUE_BYTES / VALUE_BYTES + 1);
    let mut parts: Vec<&str> = match separator.as_ref().map(Value::as_str) {
        Some(None) => return Err(limits::error("a text is split at a text")),
        Some(Some("")) => return Err(limits::error("empty separator")),
        Some(Some(separator)) if from_end => text.rsplitn(n_parts, separator).collect(),
        Some(Some(separator)) => text.splitn(n_parts, separator).collect(),
        None => words(text, n_parts, from_end),
    };
    check_count(parts.len())?;
    if from_end {
        parts.reverse();
    }
    Ok(parts.into_iter().map(Value::from).collect::<Vec<_>>().into())
}

/// Splits at runs of white space, at most into `n_parts`, the last with what is left.
fn words(text: &str, n_parts: usize, from_end: bool) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text.trim_matches(is_python_space);
    while !rest.is_empty() {
        let cut = if from_end { rest.rfind(is_python_space) } else { rest.find(is_python_space) };
        let Some(cut) = cut.filter(|_| parts.len() + 1 < n_parts) else {
            // Python keeps the white space on the far side of what is left.
            parts.push(rest);
            break;
        };
        let (before, behind) = rest.split_at(cut);
        let (part, left) = if from_end { (behind, before) } else { (before, behind) };
        parts.push(part.trim_matches(is_python_space));
        rest = left.trim_matches(is_python_space);
    }
    parts
}

fn partition(text: &str, from_end: bool, args: &[Value]) -> Result<Value, Error> {
    let (separator,): (&str,) = from_args(args)?;
    if separator.is_empty() {
        return Err(limits::error("empty separator"));
    }
    let found = if from_end { text.rsplit_once(separator) } else { text.split_once(separator) };
    let parts = match found {
        Some((before, behind)) => [before, separator, behind],
        None if from_end => ["", "", text],
        None => [text, "", ""],
    };
    Ok(Tuple::from(parts.map(Value::from)).into())
}

/// The part of a text that optional `start` and `end` name, and where it begins.
fn window(text: &str, start: Option<i64>, end: Option<i64>) -> Option<(usize, &str)> {
    if start.is_none() && end.is_none() {
        return Some((0, text));
    }
    let n_chars = text.chars().count() as i64;
    let place = |bound: i64| (if bound < 0 { bound + n_chars } else { bound }).max(0) as usize;
    let byte = |n: usize| text.char_indices().nth(n).map_or(text.len(), |(byte, _)| byte);
    let (start, end) = (start.map_or(0, place), end.map_or(usize::MAX, place));
    (start <= n_chars as usize && start <= end).then(|| (start, &text[byte(start)..byte(end)]))
}

fn search(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let (wanted, start, end): (&str, Option<i64>, Option<i64>) = from_args(args)?;
    let part = window(text, start, end);
    if method == "count" {
        return Ok(Value::from(part.map_or(0, |(_, part)| part.matches(wanted).count())));
    }
    let found = part.and_then(|(start, part)| {
        let byte = if method.starts_with('r') { part.rfind(wanted) } else { part.find(wanted) };
        Some(start + part[..byte?].chars().count())
    });
    match found {
        Some(place) => Ok(Value::from(place)),
        None if method.ends_with("index") => Err(limits::error("substring not found")),
        None => Ok(Value::from(-1)),
    }
}

fn begins_or_ends(text: &str, at_end: bool, args: &[Value]) -> Result<Value, Error> {
    let (wanted, start, end): (&Value, Option<i64>, Option<i64>) = from_args(args)?;
    let Some((_, part)) = window(text, start, end) else { return Ok(Value::from(false)) };
    let fits = |wanted: &Value| match wanted.as_str() {
        Some(wanted) if at_end => Ok(part.ends_with(wanted)),
        Some(wanted) => Ok(part.starts_with(wanted)),
        None => Err(Error::new(ErrorKind::InvalidOperation, "expected a text or a tuple of texts")),
    };
    if !wanted.is_tuple() {
        return fits(wanted).map(Value::from);
    }
    for wanted in wanted.try_iter()? {
        if fits(&wanted)? {
            return Ok(Value::from(true));
        }
    }
    Ok(Value::from(false))
}

fn pad(text: &str, width: usize, fill: &str, method: &str) -> Result<String, Error> {
    let missing = width.saturating_sub(text.chars().count());
    limits::check_size(missing.saturating_mul(fill.len()).saturating_add(text.len()))?;
    // As CPython's `str.center` shares out an odd number.
    let before = match method {
        "ljust" => 0,
        "rjust" => missing,
        _ => missing / 2 + (missing & width & 1),
    };
    Ok([&fill.repeat(before), text, &fill.repeat(missing - before)].concat())
}

fn expand_tabs(text: &str, size: usize) -> Result<String, Error> {
    limits::check_size(text.matches('\t').count().saturating_mul(size))?;
    let (mut out, mut column) = (String::new(), 0);
    for c in text.chars() {
        match c {
            '\t' if size > 0 => {
                let n = size - column % size;
                out.extend(std::iter::repeat_n(' ', n));
                column += n;
            }
            '\t' => {}
            _ => {
                out.push(c);
                column = if matches!(c, '\n' | '\r') { 0 } else { column + 1 };
            }
        }
    }
    Ok(out)
}

/// A capital, and no other.
fn capitalize(text: &str) -> String {
    let mut rest = text.chars();
    let first = rest.next().into_iter().flat_map(char::to_uppercase);
    first.chain(rest.as_str().to_lowercase().chars()).collect()
}

/// A capital behind everything that is no letter.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        if inside {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        inside = c.is_alphabetic();
    }
    out
}

fn swap_case(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_uppercase() {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
    }
    out
}
