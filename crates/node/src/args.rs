//! JS values as arguments. What does not fit is an error that names the argument.

use std::sync::Arc;

use napi::bindgen_prelude::{
    Array, ArrayBuffer, ClassInstance, FromNapiValue, Function, JsObjectValue, Object, TypedArray,
    TypedArrayType, Unknown,
};
use napi::{JsValue, ValueType};
use realm_engine::chat::ChatArguments;
use realm_engine::model::ModelHandle;

use crate::error::{Result, Thrown, invalid};
use crate::model::BindingModel;

fn describe(value: &Unknown<'_>) -> String {
    value.get_type().map_or("something unknown".into(), |ty| format!("{ty}").to_lowercase())
}

fn mismatch(value: &Unknown<'_>, what: &str, expected: &str) -> Thrown {
    invalid(format!("{what}: expected {expected}, got {}", describe(value)))
}

/// Converts a value of the JS type `ty`.
fn convert<T: FromNapiValue>(
    value: Unknown<'_>,
    what: &str,
    ty: ValueType,
    expected: &str,
) -> Result<T> {
    if !value.get_type().is_ok_and(|found| found == ty) {
        return Err(mismatch(&value, what, expected));
    }
    let raw = value.value();
    // SAFETY: the value belongs to this call's environment, whose thread this is.
    let converted = unsafe { T::from_napi_value(raw.env, raw.value) };
    converted.map_err(|error| invalid(format!("{what}: {}", error.reason)))
}

pub(crate) fn string(value: Unknown<'_>, what: &str) -> Result<String> {
    convert(value, what, ValueType::String, "a string")
}

pub(crate) fn boolean(value: Unknown<'_>, what: &str) -> Result<bool> {
    convert(value, what, ValueType::Boolean, "a boolean")
}

pub(crate) fn number(value: Unknown<'_>, what: &str) -> Result<f64> {
    convert(value, what, ValueType::Number, "a number")
}

pub(crate) fn function<'a>(
    value: Unknown<'a>,
    what: &str,
) -> Result<Function<'a, Unknown<'static>, Unknown<'static>>> {
    convert(value, what, ValueType::Function, "a function")
}

pub(crate) fn object<'a>(value: Unknown<'a>, what: &str) -> Result<Object<'a>> {
    convert(value, what, ValueType::Object, "an object")
}

/// None for null and undefined.
pub(crate) fn nullable<'a>(value: Unknown<'a>) -> Option<Unknown<'a>> {
    let is_null = |ty| matches!(ty, ValueType::Null | ValueType::Undefined);
    (!value.get_type().is_ok_and(is_null)).then_some(value)
}

/// A whole number of at least 0. Infinity and what is too large become the
/// largest number there is.
pub(crate) fn count(value: Unknown<'_>, what: &str) -> Result<usize> {
    let number = number(value, what)?;
    if number >= 0.0 && (number.fract() == 0.0 || number.is_infinite()) {
        return Ok(number as usize);
    }
    Err(invalid(format!("{what} is {number}, expected a whole number of at least 0")))
}

/// A whole number of 32 bits, such as the id of a sequence.
pub(crate) fn id(value: Unknown<'_>, what: &str) -> Result<u32> {
    let number = count(value, what)?;
    u32::try_from(number).map_err(|_| {
        invalid(format!("{what} is {number}, expected a whole number of at most {}", u32::MAX))
    })
}

/// The model behind the first argument of the functions that wait.
pub(crate) fn model(value: Unknown<'_>) -> Result<Arc<ModelHandle>> {
    let model: Result<ClassInstance<'_, BindingModel>> =
        convert(value, "model", ValueType::Object, "a model");
    let model = model.map_err(|_| invalid("model: expected a model that this addon has loaded"))?;
    Ok(model.model.clone())
}

/// A property of an options object.
pub(crate) fn property<'a>(object: &Object<'a>, name: &str) -> Result<Unknown<'a>> {
    let property = object.get_named_property(name);
    property.map_err(|error: napi::Error| invalid(format!("{name}: {}", error.reason)))
}

/// The items of an array.
pub(crate) fn items<'a>(value: Unknown<'a>, what: &str) -> Result<Vec<Unknown<'a>>> {
    let array: Array<'a> = convert(value, what, ValueType::Object, "an array")?;
    (0..array.len())
        .map(|i| match array.get(i) {
            Ok(Some(item)) => Ok(item),
            _ => Err(invalid(format!("{what}[{i}] cannot be read"))),
        })
        .collect()
}

pub(crate) fn strings(value: Unknown<'_>, what: &str) -> Result<Vec<String>> {
    let items = items(value, what)?.into_iter().enumerate();
    items.map(|(i, item)| string(item, &format!("{what}[{i}]"))).collect()
}

/// The bytes of a typed array of one of the types `wanted`.
fn typed_array<'a>(
    value: Unknown<'a>,
    what: &str,
    wanted: &[TypedArrayType],
    expected: &str,
) -> Result<TypedArray<'a>> {
    if !value.is_typedarray().unwrap_or(false) {
        return Err(mismatch(&value, what, expected));
    }
    let array: TypedArray<'a> = convert(value, what, ValueType::Object, expected)?;
    if !wanted.contains(&array.typed_array_type) {
        let found = array.typed_array_type.as_ref().to_owned();
        return Err(invalid(format!("{what}: expected {expected}, got {found}")));
    }
    if array.arraybuffer.is_empty() && is_detached(&array) {
        return Err(invalid(format!("{what}: its buffer is detached, it was transferred away")));
    }
    Ok(array)
}

/// Whether the buffer behind an array that looks empty was taken away.
fn is_detached(array: &TypedArray<'_>) -> bool {
    let Ok(buffer) = array.get_named_property("buffer") else { return false };
    // A SharedArrayBuffer is refused here, and cannot be detached.
    let buffer: Result<ArrayBuffer<'_>> =
        convert(buffer, "buffer", ValueType::Object, "an ArrayBuffer");
    buffer.is_ok_and(|buffer| buffer.is_detached().unwrap_or(false))
}

fn words<const N: usize>(array: &TypedArray<'_>) -> impl Iterator<Item = [u8; N]> {
    array.arraybuffer.as_chunks().0.iter().copied()
}

pub(crate) fn u32_array(value: Unknown<'_>, what: &str) -> Result<Vec<u32>> {
    let array = typed_array(value, what, &[TypedArrayType::Uint32], "a Uint32Array")?;
    Ok(words(&array).map(u32::from_ne_bytes).collect())
}

pub(crate) fn f32_array(value: Unknown<'_>, what: &str) -> Result<Vec<f32>> {
    let array = typed_array(value, what, &[TypedArrayType::Float32], "a Float32Array")?;
    Ok(words(&array).map(f32::from_ne_bytes).collect())
}

/// A copy of the bytes of a Uint8Array or Buffer.
pub(crate) fn bytes(value: Unknown<'_>, what: &str) -> Result<Arc<[u8]>> {
    let array = typed_array(value, what, &[TypedArrayType::Uint8], "a Uint8Array")?;
    Ok(Arc::from(&array.arraybuffer[..]))
}

/// A conversation and its template; none for the model's own.
pub(crate) struct Conversation {
    pub(crate) template: Option<String>,
    pub(crate) arguments: ChatArguments,
}

impl Conversation {
    pub(crate) fn new(value: Unknown<'_>) -> Result<Self> {
        let object = object(value, "conversation")?;
        let text = |name| string(property(&object, name)?, name);
        let flag = |name| boolean(property(&object, name)?, name);
        let optional = |name| {
            let value = nullable(property(&object, name)?);
            value.map(|value| string(value, name)).transpose()
        };
        Ok(Conversation {
            template: optional("template")?,
            arguments: ChatArguments {
                messages: text("messages")?,
                tools: optional("tools")?,
                variables: text("variables")?,
                add_generation_prompt: flag("addGenerationPrompt")?,
                continue_final_message: flag("continueFinalMessage")?,
            },
        })
    }
}
