// F32: one plane of values.

@group(0) @binding(0) var<storage, read> values: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> scales: array<vec4<u32>>;

// The 32 values of group `group`, counted over all rows of the binding.
fn weights(group: u32) -> array<vec4<f32>, 8> {
    var result: array<vec4<f32>, 8>;
    for (var i = 0u; i < 8u; i++) {
        result[i] = values[group * 8u + i];
    }
    return result;
}
