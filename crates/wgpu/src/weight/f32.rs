//! F32: the file's bytes are the first plane, the second is unused.

use realm_gguf::TensorType;

use super::{Format, GROUP};

pub(super) const FORMAT: Format = Format {
    ty: TensorType::F32,
    shader: include_str!("../shaders/formats/f32.wgsl"),
    unit: GROUP,
    plane_bytes: [4 * GROUP, 0],
    repack: |unit, [values, _]| values[..unit.len()].copy_from_slice(unit),
};
