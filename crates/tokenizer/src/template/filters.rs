//! Filters and tests of jinja2 where the engine's own differ.

use minijinja::formatting::{self, FormatStyle};
use minijinja::value::{Kwargs, Rest, Value, ValueKind};
use minijinja::{Environment, Error, State};

use super::costs::Cost::{Everything, Items, Letters, Order, Texts};
use super::costs::{add_filter, add_test};
use super::limits::{self, check_size};
use super::python_text::{few_chars, is_python_space, python_repr, python_str, split_lines};

/// Puts them beside those of [`jinja`](super::jinja).
pub(super) fn install(environment: &mut Environment<'static>) {
    add_filter(environment, "string", Everything, python_str_filter);
    // In one line, unlike jinja2 where it is a long one: indented, it could become large.
    add_filter(environment, "pprint", Everything, python_repr);
    add_filter(environment, "join", Everything, join);
    add_filter(environment, "replace", Everything, replace);
    add_filter(environment, "indent", Everything, indent);
    add_filter(environment, "trim", Everything, trim);
    add_filter(environment, "int", Texts, int);
    add_filter(environment, "float", Texts, float);
    add_filter(environment, "round", Texts, round);
    add_filter(environment, "format", Everything, format);
    for name in ["default", "d"] {
        add_filter(environment, name, Texts, default);
    }
    for name in ["e", "escape", "forceescape"] {
        add_filter(environment, name, Everything, escape);
    }
    for name in ["length", "count"] {
        add_filter(environment, name, Texts, length);
    }
    add_filter(environment, "items", Items, items);
    add_filter(environment, "dictsort", Order, dictsort);
    add_filter(environment, "wordcount", Letters, |text: String| text.split_whitespace().count());
    environment.add_function("joiner", minijinja_contrib::globals::joiner);
    environment
        .add_function("cycler", |items: Rest<Value>| minijinja_contrib::globals::cycler(items.0));
    add_test(environment, "iterable", is_iterable);
    add_test(environment, "sequence", |value: &Value| {
        is_iterable(value) && value.kind() != ValueKind::Iterable
    });
    add_test(environment, "callable", |value: &Value| value.kind() == ValueKind::Plain);
}

/// Arguments of a filter by their place or their name.
struct Arguments {
    placed: Rest<Value>,
    named: Kwargs,
}

impl Arguments {
    fn get(&self, i: usize, name: &str) -> Option<Value> {
        match self.placed.get(i) {
            Some(value) => Some(value.clone()),
            None => self.named.get::<Option<Value>>(name).ok().flatten(),
        }
    }

    fn flag(&self, i: usize, name: &str) -> bool {
        self.get(i, name).is_some_and(|value| value.is_true())
    }

    /// An error for a name that was not asked for.
    fn done(&self) -> Result<(), Error> {
        self.named.assert_all_used()
    }
}

fn python_str_filter(value: &Value) -> Result<String, Error> {
    python_str(value)
}

fn join(
    state: &mut State,
    value: &Value,
    placed: Rest<Value>,
    named: Kwargs,
) -> Result<String, Error> {
    let args = Arguments { placed, named };
    let separator = args.get(0, "d").map(|d| python_str(&d)).transpose()?.unwrap_or_default();
    let attribute = args.get(1, "attribute");
    args.done()?;
    if value.is_undefined() {
        return Ok(String::new());
    }
    let items = match &attribute {
        Some(attribute) => {
            let named = Kwargs::from_iter([("attribute", attribute.clone())]);
            state.apply_filter("map", &[value.clone(), named.into()])?
        }
        None => value.clone(),
    };
    let mut out = String::new();
    for (i, item) in items.try_iter()?.enumerate() {
        if i > 0 {
            out += &separator;
        }
        match item.as_str() {
            Some(text) => out += text,
            None => out += &python_str(&item)?,
        }
        check_size(out.len())?;
    }
    Ok(out)
}

fn replace(value: &Value, placed: Rest<Value>, named: Kwargs) -> Result<String, Error> {
    let args = Arguments { placed, named };
    let (Some(old), Some(new)) = (args.get(0, "old"), args.get(1, "new")) else {
        return Err(limits::error("replace needs what to replace and what with"));
    };
    let (text, old, new) = (python_str(value)?, python_str(&old)?, python_str(&new)?);
    let count = args.get(2, "count").filter(|count| !count.is_none());
    let most = count.and_then(|count| count.as_usize()).unwrap_or(usize::MAX);
    args.done()?;
    let n_matches = text.matches(&old).count().min(most);
    check_size(text.len().saturating_add(n_matches.saturating_mul(new.len())))?;
    Ok(text.replacen(&old, &new, most))
}

fn indent(value: &Value, placed: Rest<Value>, named: Kwargs) -> Result<String, Error> {
    let args = Arguments { placed, named };
    let width = args.get(0, "width");
    let (first, blank) = (args.flag(1, "first"), args.flag(2, "blank"));
    args.done()?;
    let text = python_str(value)?;
    let n_lines = text.len().min(1 + text.matches(['\n', '\r']).count());
    let indentation = match &width {
        None => " ".repeat(4),
        Some(width) => match (width.as_str(), width.as_usize()) {
            (Some(text), _) => text.to_owned(),
            (None, Some(n)) => {
                check_size(n.saturating_mul(n_lines + 1))?;
                " ".repeat(n)
            }
            _ => return Err(limits::error("indent takes a number or a text")),
        },
    };
    check_size(text.len().saturating_add(indentation.len().saturating_mul(n_lines + 1)))?;
    let mut out = String::new();
    // With a line end behind it, as jinja2 does, so that an empty text has a line.
    let text = text + "\n";
    for (i, (line, _)) in split_lines(&text).enumerate() {
        if i > 0 {
            out.push('\n');
        }
        if if i == 0 { first } else { blank || !line.is_empty() } {
            out += &indentation;
        }
        out += line;
    }
    Ok(out)
}

fn trim(value: &Value, placed: Rest<Value>, named: Kwargs) -> Result<String, Error> {
    let args = Arguments { placed, named };
    let chars = args.get(0, "chars").filter(|chars| !chars.is_none());
    args.done()?;
    let text = python_str(value)?;
    let chars = chars.map(|chars| few_chars(&python_str(&chars)?)).transpose()?;
    let is_cut = |c: char| chars.as_ref().map_or(is_python_space(c), |chars| chars.contains(&c));
    Ok(text.trim_matches(is_cut).to_owned())
}

fn int(value: &Value, placed: Rest<Value>, named: Kwargs) -> Result<Value, Error> {
    let args = Arguments { placed, named };
    let default = args.get(0, "default").unwrap_or_else(|| Value::from(0));
    let base = args.get(1, "base").and_then(|base| base.as_usize()).unwrap_or(10);
    args.done()?;
    if let Ok(flag) = bool::try_from(value.clone()) {
        return Ok(Value::from(i64::from(flag)));
    }
    if value.is_integer() {
        return Ok(value.clone());
    }
    let number = match value.as_str() {
        Some(text) => {
            let text = text.trim_matches(is_python_space).replace('_', "");
            let digits = match base {
                16 => text.trim_start_matches("0x").trim_start_matches("0X"),
                8 => text.trim_start_matches("0o").trim_start_matches("0O"),
                2 => text.trim_start_matches("0b").trim_start_matches("0B"),
                3..=36 => &text,
                _ => return Err(limits::error(format!("int has no base {base}"))),
            };
            if let Ok(number) = i128::from_str_radix(digits, base as u32) {
                return Ok(Value::from(number));
            }
            text.parse().ok()
        }
        None => f64::try_from(value.clone()).ok(),
    };
    Ok(match number {
        Some(number) if number.is_finite() => Value::from(number.trunc() as i128),
        _ => default,
    })
}

fn float(value: &Value, placed: Rest<Value>, named: Kwargs) -> Result<Value, Error> {
    let args = Arguments { placed, named };
    let default = args.get(0, "default").unwrap_or_else(|| Value::from(0.0));
    args.done()?;
    let number: Option<f64> = match value.as_str() {
        Some(text) => text.trim_matches(is_python_space).replace('_', "").parse().ok(),
        None => f64::try_from(value.clone()).ok(),
    };
    Ok(number.map_or(default, Value::from))
}

fn round(value: &Value, placed: Rest<Value>, named: Kwargs) -> Result<Value, Error> {
    /// More digits behind the point than numbers are rounded to.
    const MAX_PRECISION: i64 = 300;

    let args = Arguments { placed, named };
    let precision = args.get(0, "precision").map_or(Ok(0), i64::try_from)?;
    let method = args.get(1, "method");
    args.done()?;
    let number = f64::try_from(value.clone())?;
    if precision > MAX_PRECISION {
        return Ok(value.clone());
    }
    let digits = precision.max(-MAX_PRECISION) as i32;
    let scale = 10f64.powi(digits);
    Ok(match method.as_ref().map_or(Some("common"), Value::as_str) {
        Some("common") if precision < 0 => {
            let step = 10f64.powi(-digits);
            let rounded = (number / step).round_ties_even() * step;
            if value.is_integer() { Value::from(rounded as i128) } else { Value::from(rounded) }
        }
        Some("common") if value.is_integer() => value.clone(),
        // As Python, which rounds the decimal digits and not a product.
        Some("common") => {
            let rounded = format!("{number:.*}", precision as usize);
            Value::from(rounded.parse().unwrap_or(number))
        }
        Some("ceil") => Value::from((number * scale).ceil() / scale),
        Some("floor") => Value::from((number * scale).floor() / scale),
        _ => return Err(limits::error("round has the methods common, ceil and floor")),
    })
}

/// `pattern % args`. What is put into markup is escaped.
pub(super) fn format(pattern: &Value, mut args: Rest<Value>) -> Result<Value, Error> {
    let Some(text) = pattern.as_str() else {
        return Err(limits::error(format!("{} is no format", pattern.kind())));
    };
    limits::check_format(text, '%', &args)?;
    if !pattern.is_safe() {
        return formatting::format(FormatStyle::Printf, text, &args).map(Value::from);
    }
    for arg in args.iter_mut().filter(|arg| arg.kind() == ValueKind::String) {
        *arg = escape(std::mem::take(arg))?;
    }
    formatting::format(FormatStyle::Printf, text, &args).map(Value::from_safe_string)
}

fn default(value: Value, placed: Rest<Value>, named: Kwargs) -> Result<Value, Error> {
    let args = Arguments { placed, named };
    let default = args.get(0, "default_value").unwrap_or_else(|| Value::from(""));
    let also_false = args.flag(1, "boolean");
    args.done()?;
    Ok(if value.is_undefined() || (also_false && !value.is_true()) { default } else { value })
}

fn escape(value: Value) -> Result<Value, Error> {
    if value.is_safe() {
        return Ok(value);
    }
    let text = python_str(&value)?;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&#34;",
            '\'' => out += "&#39;",
            c => out.push(c),
        }
        check_size(out.len())?;
    }
    Ok(Value::from_safe_string(out))
}

fn length(value: &Value) -> Result<usize, Error> {
    if value.is_undefined() {
        return Ok(0);
    }
    let kind = value.kind();
    value.len().ok_or_else(|| limits::error(format!("{kind} has no length")))
}

fn items(value: Value) -> Result<Value, Error> {
    if value.is_undefined() {
        return Ok(Value::from(Vec::<Value>::new()));
    }
    minijinja::filters::items(&value)
}

/// Takes its arguments by their place as well, which the engine's own does not.
fn dictsort(value: &Value, placed: Rest<Value>, named: Kwargs) -> Result<Value, Error> {
    let args = Arguments { placed, named };
    let options = [(0, "case_sensitive"), (1, "by"), (2, "reverse")];
    let given = options.iter().filter_map(|(i, name)| Some((*name, args.get(*i, name)?)));
    let given = Kwargs::from_iter(given);
    args.done()?;
    minijinja::filters::dictsort(value, given)
}

/// Whether a loop can run over it; over what is undefined, not once.
fn is_iterable(value: &Value) -> bool {
    use ValueKind::{Iterable, Map, Seq, String, Undefined};
    matches!(value.kind(), String | Seq | Map | Iterable | Undefined)
}
