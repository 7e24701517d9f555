// The functions of one value.

// Index into `activate`, in the order of `activation.rs`.
override activation: u32;
// What the function is given beside its argument.
override parameter_0: f32;
override parameter_1: f32;
override parameter_2: f32;
override parameter_3: f32;

// Beyond 15 tanh is 1 in f32; some drivers give NaN for large arguments.
fn safe_tanh(x: f32) -> f32 { return tanh(clamp(x, -15.0, 15.0)); }

// Beyond 80 the exponential would overflow, and the result is 0 in f32.
fn sigmoid(x: f32) -> f32 { return 1.0 / (1.0 + exp(min(-x, 80.0))); }

fn gelu_tanh(x: f32) -> f32 {
    let inner = 0.7978845608 * (x + 0.044715 * x * x * x);
    return 0.5 * x * (1.0 + safe_tanh(inner));
}

// Abramowitz and Stegun 7.1.26: within 1.5e-7.
fn erf(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.3275911 * abs(x));
    let series = t * (0.254829592 + t * (-0.284496736
        + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    return sign(x) * (1.0 - series * exp(-min(x * x, 80.0)));
}

fn gelu_erf(x: f32) -> f32 { return 0.5 * x * (1.0 + erf(x * 0.7071067812)); }

// exp(x) - 1 for x <= 0, by its series where the difference would cancel.
fn exp_minus_one(x: f32) -> f32 {
    if x < -0.5 { return exp(x) - 1.0; }
    return x * (1.0 + x / 2.0 * (1.0 + x / 3.0 * (1.0 + x / 4.0 * (1.0 + x / 5.0
        * (1.0 + x / 6.0 * (1.0 + x / 7.0 * (1.0 + x / 8.0)))))));
}

fn xielu(x: f32) -> f32 {
    let linear = parameter_2 * x;
    if x > 0.0 { return parameter_0 * x * x + linear; }
    return parameter_1 * (exp_minus_one(min(x, parameter_3)) - x) + linear;
}

fn activate(x: f32) -> f32 {
    switch activation {
        case 0u: { return x; }
        case 1u: { return x * sigmoid(x); }
        case 2u: { return gelu_tanh(x); }
        case 3u: { return gelu_erf(x); }
        case 4u: { return max(x, 0.0); }
        case 5u: { return max(x, 0.0) * max(x, 0.0); }
        case 6u: { return sigmoid(x); }
        case 7u: { return min(x, 7.0) * sigmoid(1.702 * min(x, 7.0)); }
        case 8u: { return parameter_0 * safe_tanh(x / parameter_0); }
        case 9u: { return clamp(x, -parameter_0, parameter_0); }
        default: { return xielu(x); }
    }
}

// What the function of the gate is multiplied with.
fn factor_of(up: f32) -> f32 {
    if activation == 7u { return 1.0 + clamp(up, -7.0, 7.0); }
    return up;
}
