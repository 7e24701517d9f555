//! The text of a kernel.

use realm_gguf::TensorType;

use super::{Arithmetic, Places, ProductKernel, Work};
use crate::kernel::{THREADS, shader};
use crate::weight::{Format, Quants, Scales, Values};

macro_rules! linear {
    ($name:literal) => {
        shader!(concat!("linear/", $name))
    };
}

macro_rules! format_part {
    ($name:literal) => {
        shader!(concat!("formats/", $name))
    };
}

const BATCH: &str = shader!("batch");

/// Words of a list of tiles before the tiles, words of a tile, and choices of a tile at most:
/// `shaders/linear/tile_list.wgsl`.
pub(crate) const TILES_AT: usize = 2;
pub(crate) const TILE_WORDS: usize = 3;
pub(crate) const TILE_ROWS: usize = 32;

/// The whole text of `kernel`.
pub(super) fn of(kernel: &ProductKernel) -> String {
    // In browsers wgpu does not offer subgroups: pages need not download the text.
    let offered = !cfg!(target_arch = "wasm32");
    let by_subgroup = offered && kernel.by_subgroup && matches!(kernel.work, Work::Vector(_));
    let mut text = String::new();
    if kernel.arithmetic == Arithmetic::F16 {
        text.push_str("enable f16;\n");
    }
    text.push_str(&constants(&[("THREADS", THREADS), ("ROWS", kernel.work.n_rows())]));
    text.push_str(linear!("parameters"));
    text.push_str(linear!("place"));
    text.push_str(match kernel.places {
        Places::SideBySide => linear!("three_outs"),
        _ => linear!("one_out"),
    });
    let places: &[_] = match kernel.places {
        Places::Dense | Places::SideBySide => &[linear!("dense"), BATCH],
        Places::Heads => &[linear!("heads"), BATCH],
        Places::Choices => &[linear!("experts"), linear!("choices")],
        Places::Tiles => &[linear!("experts"), linear!("tile_list"), linear!("tiles")],
    };
    text.extend(places.iter().copied());
    text.push_str(&format_text(kernel.format, kernel.any_width));
    text.extend(arithmetic(kernel).iter().copied());
    let work: &[_] = match (kernel.work, kernel.arithmetic) {
        (Work::Vector(_), _) if by_subgroup => &[linear!("mat_vec"), linear!("by_subgroup")],
        (Work::Vector(_), _) => &[linear!("mat_vec"), linear!("by_workgroup")],
        (Work::Matrix(_), Arithmetic::Int8) => &[linear!("mat_mul_packed")],
        (Work::Matrix(_), _) => &[linear!("mat_mul")],
    };
    text.extend(work.iter().copied());
    text
}

/// The text of the embedding for a table of `format`.
pub(crate) fn embed(format: &Format, any_width: bool) -> String {
    let mut text = constants(&[("THREADS", THREADS)]);
    text.push_str(linear!("parameters"));
    text.push_str(BATCH);
    text.push_str(&format_text(format, any_width));
    text.push_str(linear!("embed"));
    text
}

fn constants(constants: &[(&str, usize)]) -> String {
    let line = |(name, value): &(&str, usize)| format!("const {name}: u32 = {value}u;\n");
    constants.iter().map(line).collect()
}

/// Input and products.
fn arithmetic(kernel: &ProductKernel) -> &'static [&'static str] {
    let factored =
        matches!(kernel.work, Work::Vector(_)) && matches!(kernel.format.values, Values::Quants(_));
    match (kernel.arithmetic, kernel.any_width) {
        (Arithmetic::Int8, _) => &[linear!("packed")],
        (Arithmetic::F32, false) if factored => &[linear!("input"), linear!("factored")],
        (Arithmetic::F32, true) if factored => &[linear!("input_any_width"), linear!("factored")],
        (Arithmetic::F32, false) => &[linear!("input"), linear!("value_f32"), linear!("values")],
        (Arithmetic::F32, true) => {
            &[linear!("input_any_width"), linear!("value_f32"), linear!("values")]
        }
        (Arithmetic::F16, false) => &[linear!("input"), linear!("value_f16"), linear!("values")],
        (Arithmetic::F16, true) => {
            &[linear!("input_any_width"), linear!("value_f16"), linear!("values")]
        }
    }
}

/// How a format's values are read.
fn format_text(format: &Format, any_width: bool) -> String {
    match (&format.values, format.ty) {
        (Values::Quants(quants), _) => quants_text(quants),
        (_, TensorType::F16) => format_part!("f16").to_owned(),
        (_, TensorType::BF16) => format_part!("bf16").to_owned(),
        _ if any_width => format_part!("f32_any_width").to_owned(),
        _ => format_part!("f32").to_owned(),
    }
}

fn quants_text(quants: &Quants) -> String {
    let Quants { low_bits, high_bits, offset, book, scales, factor } = quants;
    let mut words = format!("bits_{low_bits}(0u, group, w)");
    if *high_bits > 0 {
        let high = format!("bits_{high_bits}(parameters.high_at, group, w)");
        words = format!("{words} | ({high} << vec2({low_bits}u))");
    }
    if book.is_some() {
        words = format!("books({words})");
    }
    let group_scales = match scales {
        Scales::Half => "scales_half",
        Scales::HalfAndMinimum => "scales_half_and_minimum",
        Scales::Halves => "scales_halves",
        Scales::Power => "scales_power",
        Scales::Bytes => "scales_bytes",
        Scales::BytesAndMinimums => "scales_bytes_and_minimums",
        Scales::NibblesAndMinimums => "scales_nibbles_and_minimums",
    };
    let signed = *low_bits == 8 || book.is_some();
    let mut text = format!(
        "const OFFSET: f32 = {offset}.0;\nconst FACTOR: f32 = {factor:?};\n\
         const SIGNED: bool = {signed};\n\
         fn quants(group: u32, w: u32) -> vec2<u32> {{ return {words}; }}\n\
         fn group_scales(group: u32) -> vec4<f32> {{ return {group_scales}(group); }}\n"
    );
    if let Some(book) = book {
        let words = book.as_chunks().0.iter().map(|four: &[i8; 4]| {
            let word = u32::from_le_bytes(four.map(|level| level as u8));
            format!("{word:#x}u")
        });
        let words: Vec<_> = words.collect();
        text.push_str(&format!("const BOOK = vec4<u32>({});\n", words.join(", ")));
        text.push_str(format_part!("book"));
    }
    text.push_str(format_part!("bits"));
    text.push_str(format_part!("scales"));
    text.push_str(format_part!("quants"));
    text
}
