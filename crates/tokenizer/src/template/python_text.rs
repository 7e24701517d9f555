//! Values as Python's `str` writes them.

use std::fmt::{self, Write};

use minijinja::Error;
use minijinja::value::{Value, ValueKind};

use super::limits::BoundedText;
use super::python_json::python_float;

/// Appends `str(value)`.
pub(super) fn write_python(out: &mut String, value: &Value) -> Result<(), Error> {
    Ok(write(&mut BoundedText(out), value)?)
}

fn write(out: &mut BoundedText<'_>, value: &Value) -> fmt::Result {
    match value.kind() {
        ValueKind::None => out.write_str("None"),
        ValueKind::Bool => out.write_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number if !value.is_integer() => match f64::try_from(value.clone()) {
            Ok(number) => out.write_str(&python_float(number)),
            Err(_) => write!(out, "{value}"),
        },
        ValueKind::Seq => {
            let (open, close) = if value.is_tuple() { ('(', ')') } else { ('[', ']') };
            out.write_char(open)?;
            for (i, item) in value.try_iter().map_err(|_| fmt::Error)?.enumerate() {
                out.write_str(if i == 0 { "" } else { ", " })?;
                write_inner(out, &item)?;
            }
            if value.is_tuple() && value.len() == Some(1) {
                out.write_char(',')?;
            }
            out.write_char(close)
        }
        ValueKind::Map => {
            out.write_char('{')?;
            for (i, key) in value.try_iter().map_err(|_| fmt::Error)?.enumerate() {
                out.write_str(if i == 0 { "" } else { ", " })?;
                write_inner(out, &key)?;
                out.write_str(": ")?;
                write_inner(out, &value.get_item(&key).map_err(|_| fmt::Error)?)?;
            }
            out.write_char('}')
        }
        _ => write!(out, "{value}"),
    }
}

/// `repr(value)`, which puts texts in quotes.
fn write_inner(out: &mut BoundedText<'_>, value: &Value) -> fmt::Result {
    let Some(text) = value.as_str() else { return write(out, value) };
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.write_char(quote)?;
    for c in text.chars() {
        match c {
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            '\\' => out.write_str("\\\\")?,
            c if c == quote => write!(out, "\\{c}")?,
            c if c.is_ascii_control() => write!(out, "\\x{:02x}", u32::from(c))?,
            c => out.write_char(c)?,
        }
    }
    out.write_char(quote)
}
