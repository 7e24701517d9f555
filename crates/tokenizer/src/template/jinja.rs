//! What templates find besides what [`filters`](super::filters) has of its own: the filters,
//! tests and functions of jinja2 that the engine brings. One by one, so that programs hold
//! neither those that jinja2 does not have nor those that have others in their place.

use minijinja::value::Value;
use minijinja::{Environment, filters, functions, tests};

use super::costs::Cost::{Everything, Groups, Items, Letters, Order, Sum, Texts};
use super::costs::{add_filter, add_test};

/// Puts them into an empty environment.
pub(super) fn install(environment: &mut Environment<'static>) {
    add_filters(environment);
    add_tests(environment);
    environment.add_function("range", functions::range);
    environment.add_function("dict", functions::dict);
    environment.add_function("namespace", functions::namespace);
}

fn add_filters(environment: &mut Environment<'static>) {
    add_filter(environment, "abs", Texts, filters::abs);
    add_filter(environment, "attr", Texts, filters::attr);
    add_filter(environment, "batch", Groups, filters::batch);
    add_filter(environment, "capitalize", Letters, filters::capitalize);
    add_filter(environment, "first", Texts, filters::first);
    add_filter(environment, "groupby", Order, filters::groupby);
    add_filter(environment, "last", Texts, filters::last);
    add_filter(environment, "list", Items, filters::list);
    add_filter(environment, "lower", Letters, filters::lower);
    add_filter(environment, "map", Items, filters::map);
    add_filter(environment, "max", Order, filters::max);
    add_filter(environment, "min", Order, filters::min);
    add_filter(environment, "reject", Items, filters::reject);
    add_filter(environment, "rejectattr", Items, filters::rejectattr);
    add_filter(environment, "reverse", Letters, filters::reverse);
    add_filter(environment, "safe", Everything, filters::safe);
    add_filter(environment, "select", Items, filters::select);
    add_filter(environment, "selectattr", Items, filters::selectattr);
    add_filter(environment, "slice", Groups, filters::slice);
    add_filter(environment, "sort", Order, filters::sort);
    add_filter(environment, "sum", Sum, filters::sum);
    add_filter(environment, "title", Letters, filters::title);
    add_filter(environment, "unique", Order, filters::unique);
    add_filter(environment, "upper", Letters, filters::upper);
}

fn add_tests(environment: &mut Environment<'static>) {
    add_test(environment, "boolean", tests::is_boolean);
    add_test(environment, "defined", tests::is_defined);
    add_test(environment, "divisibleby", is_divisible);
    add_test(environment, "escaped", tests::is_safe);
    add_test(environment, "even", tests::is_even);
    add_test(environment, "false", tests::is_false);
    add_test(environment, "filter", tests::is_filter);
    add_test(environment, "float", tests::is_float);
    add_test(environment, "in", tests::is_in);
    add_test(environment, "integer", tests::is_integer);
    add_test(environment, "lower", tests::is_lower);
    add_test(environment, "mapping", tests::is_mapping);
    add_test(environment, "none", tests::is_none);
    add_test(environment, "number", tests::is_number);
    add_test(environment, "odd", tests::is_odd);
    add_test(environment, "sameas", tests::is_sameas);
    add_test(environment, "string", tests::is_string);
    add_test(environment, "test", tests::is_test);
    add_test(environment, "true", tests::is_true);
    add_test(environment, "undefined", tests::is_undefined);
    add_test(environment, "upper", tests::is_upper);
    for name in ["eq", "equalto", "=="] {
        add_test(environment, name, tests::is_eq);
    }
    for name in ["ne", "!="] {
        add_test(environment, name, tests::is_ne);
    }
    for name in ["lt", "lessthan", "<"] {
        add_test(environment, name, tests::is_lt);
    }
    for name in ["le", "<="] {
        add_test(environment, name, tests::is_le);
    }
    for name in ["gt", "greaterthan", ">"] {
        add_test(environment, name, tests::is_gt);
    }
    for name in ["ge", ">="] {
        add_test(environment, name, tests::is_ge);
    }
}

/// As the engine's own, which divides by zero.
fn is_divisible(value: &Value, by: &Value) -> bool {
    let is_zero = f64::try_from(by.clone()).is_ok_and(|by| by == 0.0);
    !is_zero && tests::is_divisibleby(value, by)
}
