// Products of quants in f32, with the scales and minimums after the sums.

struct Weights { first: vec4<f32>, second: vec4<f32>, factors: vec4<f32> }
struct Inputs { first: vec4<f32>, second: vec4<f32>, sums: vec2<f32> }

fn weights_at(row: u32, group: u32, w: u32) -> Weights {
    let at = row * parameters.n_groups + group;
    let words = quants(at, w);
    return Weights(values_of(words.x), values_of(words.y), factors(at));
}

fn inputs_at(at: u32, group: u32, w: u32) -> Inputs {
    let column = 32u * group + 4u * w;
    let first = input_four(at, column);
    let second = input_four(at, column + 16u);
    return Inputs(first, second, vec2(dot(first, vec4(1.0)), dot(second, vec4(1.0))));
}

fn product_of(weights: Weights, inputs: Inputs) -> f32 {
    let products = vec2(dot(weights.first, inputs.first), dot(weights.second, inputs.second));
    return dot(weights.factors, vec4(products, inputs.sums));
}
