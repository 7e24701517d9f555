// Functions of the gates of recurrent steps.

fn sigmoid(x: f32) -> f32 { return 1.0 / (1.0 + exp(min(-x, 80.0))); }

// ln(1 + exp(x)): where 1 + exp(x) rounds too much away, by the first terms of its series.
fn softplus(x: f32) -> f32 {
    if x > 20.0 { return x; }
    let y = exp(x);
    if y < 1e-3 { return y * (1.0 - y * (0.5 - y / 3.0)); }
    return log(1.0 + y);
}
