// Products of quants with inputs that were rounded to int8 by `quantize.wgsl`: of a group 8
// words of four values, then the scale and the sums of the first and second 16 values.

@group(0) @binding(2) var<storage, read> input: array<u32>;

struct Weights { quants: vec2<u32>, factors: vec4<f32> }
struct Inputs { quants: vec2<u32>, scale: f32, sums: vec2<f32> }

fn weights_at(row: u32, group: u32, w: u32) -> Weights {
    let at = row * parameters.n_groups + group;
    return Weights(quants(at, w), factors(at));
}

fn inputs_at(at: u32, group: u32, w: u32) -> Inputs {
    let words = 12u * (at / 32u + group);
    let sums = bitcast<vec2<f32>>(vec2(input[words + 9u], input[words + 10u]));
    return Inputs(
        vec2(input[words + w], input[words + 4u + w]),
        bitcast<f32>(input[words + 8u]),
        // Of the whole group, so for one of its pairs of words only.
        select(vec2(0.0), sums, w == 0u),
    );
}

fn product_of(weights: Weights, inputs: Inputs) -> f32 {
    let products = vec2(
        f32(dot4I8Packed(weights.quants.x, inputs.quants.x)),
        f32(dot4I8Packed(weights.quants.y, inputs.quants.y)),
    );
    return dot(weights.factors, vec4(inputs.scale * products, inputs.sums));
}
