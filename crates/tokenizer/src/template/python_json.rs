//! `tojson` as Python's `json.dumps` writes it.

use std::fmt::Write;

use minijinja::Error;
use minijinja::value::{Kwargs, Value, ValueKind};

use super::limits::{self, BoundedText};

/// Spaces, or bytes of text, that a level is indented by at most.
const MAX_INDENT: usize = 16;

/// The filter, with the arguments of transformers: `ensure_ascii` (false unless
/// given), `indent` (a number or a text), `separators`, `sort_keys`.
pub(super) fn to_json(
    value: &Value,
    ensure_ascii: Option<Value>,
    options: Kwargs,
) -> Result<String, Error> {
    let ensure_ascii = match ensure_ascii {
        Some(flag) => Some(flag),
        None => options.get::<Option<Value>>("ensure_ascii")?,
    };
    let indent: Option<Value> = options.get("indent")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let sort_keys: Option<Value> = options.get("sort_keys")?;
    options.assert_all_used()?;
    let indent = match indent {
        None => None,
        Some(indent) if indent.is_none() => None,
        Some(indent) => Some(match indent.as_str() {
            Some(text) if text.len() <= MAX_INDENT => text.to_owned(),
            Some(_) => " ".repeat(MAX_INDENT),
            None => {
                " ".repeat(usize::try_from(i64::try_from(indent)?).unwrap_or(0).min(MAX_INDENT))
            }
        }),
    };
    let (between_items, after_key) = match separators.as_deref() {
        Some([items, key]) => (items.clone(), key.clone()),
        _ if indent.is_some() => (",".into(), ": ".into()),
        _ => (", ".into(), ": ".into()),
    };
    let is_set = |flag: Option<Value>| flag.is_some_and(|flag| flag.is_true());
    let (ensure_ascii, sort_keys) = (is_set(ensure_ascii), is_set(sort_keys));
    let mut text = String::new();
    let out = BoundedText(&mut text);
    JsonWriter { out, indent, between_items, after_key, ensure_ascii, sort_keys, depth: 0 }
        .value(value)?;
    Ok(text)
}

struct JsonWriter<'t> {
    out: BoundedText<'t>,
    /// What each level adds to the beginning of a line; without it there is one line.
    indent: Option<String>,
    between_items: String,
    after_key: String,
    ensure_ascii: bool,
    sort_keys: bool,
    depth: usize,
}

impl JsonWriter<'_> {
    fn value(&mut self, value: &Value) -> Result<(), Error> {
        match value.kind() {
            ValueKind::String => self.text(value.as_str().unwrap_or_default())?,
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?.collect();
                self.items('[', items, ']', |writer, item| writer.value(item))?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort_unstable();
                }
                self.items('{', keys, '}', |writer, key| {
                    writer.key(key)?;
                    writer.out.write_str(&writer.after_key)?;
                    writer.value(&value.get_item(key)?)
                })?;
            }
            _ => self.out.write_str(&scalar(value)?)?,
        }
        Ok(())
    }

    /// What is no text becomes one.
    fn key(&mut self, key: &Value) -> Result<(), Error> {
        let text = match key.as_str() {
            Some(text) => text,
            None => &scalar(key)?,
        };
        self.text(text)
    }

    fn items(
        &mut self,
        open: char,
        items: Vec<Value>,
        close: char,
        mut write_item: impl FnMut(&mut Self, &Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.write_char(open)?;
        self.depth += 1;
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.out.write_str(&self.between_items)?;
            }
            self.new_line()?;
            write_item(self, item)?;
        }
        self.depth -= 1;
        if !items.is_empty() {
            self.new_line()?;
        }
        Ok(self.out.write_char(close)?)
    }

    fn new_line(&mut self) -> Result<(), Error> {
        let Some(indent) = &self.indent else { return Ok(()) };
        self.out.write_char('\n')?;
        for _ in 0..self.depth {
            self.out.write_str(indent)?;
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), Error> {
        let out = &mut self.out;
        out.write_char('"')?;
        for c in text.chars() {
            match c {
                '"' => out.write_str("\\\"")?,
                '\\' => out.write_str("\\\\")?,
                '\n' => out.write_str("\\n")?,
                '\r' => out.write_str("\\r")?,
                '\t' => out.write_str("\\t")?,
                '\x08' => out.write_str("\\b")?,
                '\x0c' => out.write_str("\\f")?,
                ' '..='~' => out.write_char(c)?,
                '\x7f'.. if !self.ensure_ascii => out.write_char(c)?,
                _ => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        write!(out, "\\u{unit:04x}")?;
                    }
                }
            }
        }
        Ok(out.write_char('"')?)
    }
}

/// What is neither a text nor made of other values.
fn scalar(value: &Value) -> Result<String, Error> {
    Ok(match value.kind() {
        ValueKind::None => "null".into(),
        ValueKind::Bool => if value.is_true() { "true" } else { "false" }.into(),
        ValueKind::Number if value.is_integer() => value.to_string(),
        ValueKind::Number => match f64::try_from(value.clone())? {
            number if number.is_nan() => "NaN".into(),
            number if number.is_infinite() && number > 0.0 => "Infinity".into(),
            number if number.is_infinite() => "-Infinity".into(),
            number => python_float(number),
        },
        kind => return Err(limits::error(format!("{kind} value cannot be written as JSON"))),
    })
}

/// `repr` of a Python float: the shortest digits that read back the same, with
/// an exponent of at least two digits below 1e-4 and from 1e16.
pub(super) fn python_float(value: f64) -> String {
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if value != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let plain = value.to_string();
    if plain.contains('.') { plain } else { plain + ".0" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_python_writes_them() {
        // From Python 3.12: repr(x).
        for (value, text) in [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (2500.0, "2500.0"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (123456789.123, "123456789.123"),
        ] {
            assert_eq!(python_float(value), text);
        }
    }
}
