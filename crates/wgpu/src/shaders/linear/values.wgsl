// Products of unpacked weights and inputs: sums of four in `value`, the rest in f32.

struct Weights { first: vec4<value>, second: vec4<value> }
struct Inputs { first: vec4<value>, second: vec4<value> }

fn weights_at(row: u32, group: u32, w: u32) -> Weights {
    let values = weight_values(row, group, w);
    return Weights(narrow(values[0]), narrow(values[1]));
}

fn inputs_at(at: u32, group: u32, w: u32) -> Inputs {
    let column = 32u * group + 4u * w;
    return Inputs(narrow(input_four(at, column)), narrow(input_four(at, column + 16u)));
}

fn product_of(weights: Weights, inputs: Inputs) -> f32 {
    return f32(dot(weights.first, inputs.first)) + f32(dot(weights.second, inputs.second));
}
