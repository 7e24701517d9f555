// out = act(gate) * up, or act(gate).

override width: u32;
override of_outputs: bool;
override has_up: bool;
override in_place: bool;
// Index into the functions below, in the order of `plan.rs`.
override activation: u32;
override cap: f32;

@group(0) @binding(0) var<storage, read> gate: array<f32>;
@group(0) @binding(1) var<storage, read> up: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;

// Beyond 15 tanh is 1 in f32; some drivers give NaN for large arguments.
fn safe_tanh(x: f32) -> f32 { return tanh(clamp(x, -15.0, 15.0)); }

fn silu(x: f32) -> f32 { return x / (1.0 + exp(min(-x, 80.0))); }

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

fn act(x: f32) -> f32 {
    switch activation {
        case 0u: { return silu(x); }
        case 1u: { return gelu_tanh(x); }
        case 2u: { return gelu_erf(x); }
        default: { return cap * safe_tanh(x / cap); }
    }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= width { return; }
    let at = id.y * width + id.x;
    var value: f32;
    if in_place { value = act(out[at]); } else { value = act(gate[at]); }
    if has_up { value *= up[at]; }
    out[at] = value;
}
