// Keys and values as halves, two to a word.

alias Quad = vec2<u32>;

const LARGEST_HALF: f32 = 65504.0;

fn unpack_quad(quad: Quad) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(quad.x), unpack2x16float(quad.y));
}

fn pack_quad(values: vec4<f32>) -> Quad {
    let held = clamp(values, vec4<f32>(-LARGEST_HALF), vec4<f32>(LARGEST_HALF));
    return vec2<u32>(pack2x16float(held.xy), pack2x16float(held.zw));
}
