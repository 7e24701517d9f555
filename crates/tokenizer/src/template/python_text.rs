//! Values as Python's `str` writes them, and what Python takes for white space and lines.

use std::fmt::{self, Write};

use minijinja::Error;
use minijinja::value::{Value, ValueKind};

use super::limits::{self, BoundedText};
use super::python_json::python_float;

/// Appends `str(value)`.
pub(super) fn write_python(out: &mut String, value: &Value) -> Result<(), Error> {
    Ok(write(&mut BoundedText(out), value)?)
}

/// `str(value)`.
pub(super) fn python_str(value: &Value) -> Result<String, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.to_owned());
    }
    let mut text = String::new();
    write_python(&mut text, value)?;
    Ok(text)
}

/// `repr(value)`.
pub(super) fn python_repr(value: &Value) -> Result<String, Error> {
    let mut text = String::new();
    write_inner(&mut BoundedText(&mut text), value)?;
    Ok(text)
}

/// `str.isspace` of one character: Unicode's white space and four separators.
pub(super) fn is_python_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// The different characters of a text, few enough to look for one of them.
pub(super) fn few_chars(text: &str) -> Result<Vec<char>, Error> {
    const MAX_CHARS: usize = 32;
    let mut chars = Vec::new();
    for c in text.chars() {
        if !chars.contains(&c) {
            chars.push(c);
        }
        if chars.len() > MAX_CHARS {
            return Err(limits::error(format!("more than {MAX_CHARS} characters to strip")));
        }
    }
    Ok(chars)
}

/// The lines of `str.splitlines`, each with what ends it.
pub(super) fn split_lines(text: &str) -> impl Iterator<Item = (&str, &str)> {
    const ENDS: [char; 10] =
        ['\n', '\r', '\x0b', '\x0c', '\x1c', '\x1d', '\x1e', '\u{85}', '\u{2028}', '\u{2029}'];
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let cut = rest.find(ENDS).unwrap_or(rest.len());
        let (line, behind) = rest.split_at(cut);
        let end = match behind.chars().next() {
            Some('\r') if behind.starts_with("\r\n") => 2,
            Some(c) => c.len_utf8(),
            None => 0,
        };
        rest = &behind[end..];
        Some((line, &behind[..end]))
    })
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
    if value.is_undefined() {
        return out.write_str("Undefined");
    }
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
            c if is_printable(c) => out.write_char(c)?,
            c => match u32::from(c) {
                c @ ..=0xff => write!(out, "\\x{c:02x}")?,
                c @ ..=0xffff => write!(out, "\\u{c:04x}")?,
                c => write!(out, "\\U{c:08x}")?,
            },
        }
    }
    out.write_char(quote)
}

/// `str.isprintable` of one character, without the code points nobody has assigned.
fn is_printable(c: char) -> bool {
    !matches!(c,
        '\0'..='\x1f' | '\x7f'..='\u{a0}' | '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{1680}'
        | '\u{2000}'..='\u{200f}' | '\u{2028}'..='\u{202f}' | '\u{205f}'..='\u{206f}' | '\u{3000}'
        | '\u{e000}'..='\u{f8ff}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{10ffff}')
}
