// Scales of a group (written by `weight/repack.rs`): of its first and second 16 values, then
// the minimums of both, which are added to scale times quant.

fn half_word(group: u32) -> u32 {
    return (data[parameters.scales_at + group / 2u] >> (16u * (group % 2u))) & 0xffffu;
}

fn block_scales(group: u32) -> vec2<f32> {
    return unpack2x16float(data[parameters.blocks_at + group / 8u]);
}

fn scales_half(group: u32) -> vec4<f32> {
    let scale = unpack2x16float(half_word(group)).x;
    return vec4(scale, scale, 0.0, 0.0);
}

fn scales_half_and_minimum(group: u32) -> vec4<f32> {
    return unpack2x16float(data[parameters.scales_at + group]).xxyy;
}

fn scales_halves(group: u32) -> vec4<f32> {
    return vec4(unpack2x16float(data[parameters.scales_at + group]), 0.0, 0.0);
}

fn scales_power(group: u32) -> vec4<f32> {
    let exponent = (data[parameters.scales_at + group / 4u] >> (8u * (group % 4u))) & 0xffu;
    let scale = bitcast<f32>(exponent << 23u);
    return vec4(scale, scale, 0.0, 0.0);
}

fn scales_bytes(group: u32) -> vec4<f32> {
    let bytes = vec2(bitcast<i32>(half_word(group))) << vec2(24u, 16u);
    return vec4(block_scales(group).x * vec2<f32>(bytes >> vec2(24u)), 0.0, 0.0);
}

fn scales_bytes_and_minimums(group: u32) -> vec4<f32> {
    let bytes = (vec2(half_word(group)) >> vec2(0u, 8u)) & vec2(0xffu);
    let factors = block_scales(group) * vec2<f32>(bytes);
    return vec4(factors.xx, -factors.yy);
}

fn scales_nibbles_and_minimums(group: u32) -> vec4<f32> {
    let nibbles = (vec4(half_word(group)) >> vec4(0u, 8u, 4u, 12u)) & vec4(15u);
    let factors = block_scales(group);
    return vec4(factors.xx, -factors.yy) * vec4<f32>(nibbles);
}
