// Q4_K in two planes (repacked by `weight/q4_k.rs`): w = d * scale * quant - dmin * minimum.
//
// quants: per group of 32 values a vec4, value 8i + j in bits 4j of component i.
// scales: per block of 8 groups a vec4: d and dmin as two f16, then the file's
// 12 bytes of 6-bit scales and minimums.

@group(0) @binding(0) var<storage, read> quants: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> scales: array<vec4<u32>>;

fn byte_of(words: vec3<u32>, index: u32) -> u32 {
    return (words[index / 4u] >> (8u * (index % 4u))) & 0xffu;
}

// Scale and minimum of group `index` of a block: `get_scale_min_k4` of ggml's layout.
fn scale_and_minimum(words: vec3<u32>, index: u32) -> vec2<f32> {
    let high = byte_of(words, index % 4u);
    let high_minimum = byte_of(words, index % 4u + 4u);
    if index < 4u {
        return vec2(f32(high & 63u), f32(high_minimum & 63u));
    }
    let low = byte_of(words, index + 4u);
    return vec2(
        f32((low & 15u) | ((high >> 6u) << 4u)),
        f32((low >> 4u) | ((high_minimum >> 6u) << 4u)),
    );
}

// The 32 values of group `group`, counted over all rows of the binding.
fn weights(group: u32) -> array<vec4<f32>, 8> {
    let block = scales[group / 8u];
    let factors = unpack2x16float(block.x) * scale_and_minimum(block.yzw, group % 8u);
    let quant = quants[group];
    var result: array<vec4<f32>, 8>;
    for (var i = 0u; i < 4u; i++) {
        let word = vec4(quant[i]);
        let low = vec4<f32>((word >> vec4(0u, 4u, 8u, 12u)) & vec4(15u));
        let high = vec4<f32>((word >> vec4(16u, 20u, 24u, 28u)) & vec4(15u));
        result[2u * i] = factors.x * low - factors.y;
        result[2u * i + 1u] = factors.x * high - factors.y;
    }
    return result;
}
