// Weights as small integers: `quants` and `group_scales` of the format, and OFFSET, FACTOR
// and SIGNED, come before this.

// Four values from the bytes of a word.
fn values_of(word: u32) -> vec4<f32> {
    if SIGNED {
        return vec4<f32>((vec4(bitcast<i32>(word)) << vec4(24u, 16u, 8u, 0u)) >> vec4(24u));
    }
    return vec4<f32>((vec4(word) >> vec4(0u, 8u, 16u, 24u)) & vec4(0xffu));
}

// Factors of a group's first and second 16 quants, then what is added to those products.
fn factors(group: u32) -> vec4<f32> {
    let scales = group_scales(group);
    let outer = FACTOR * scales.xy;
    return vec4(outer, scales.zw - OFFSET * outer);
}

// Values 4w to 4w + 3 and 16 + 4w to 16 + 4w + 3 of group `group` of row `row`.
fn weight_values(row: u32, group: u32, w: u32) -> mat2x4<f32> {
    let at = row * parameters.n_groups + group;
    let words = quants(at, w);
    let factor = factors(at);
    return mat2x4<f32>(
        factor.x * values_of(words.x) + factor.z,
        factor.y * values_of(words.y) + factor.w,
    );
}
