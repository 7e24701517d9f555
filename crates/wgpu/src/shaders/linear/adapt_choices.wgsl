// The choices of rows that run with an adapter, and the factor on what it adds to each.

override n_used: u32;
// The weights of the choices are on the inputs.
override weigh: bool;

// Per row: no expert for those without the adapter, and its scale.
@group(0) @binding(0) var<storage, read> rows: array<u32>;
@group(0) @binding(1) var<storage, read> scales: array<f32>;
@group(0) @binding(2) var<storage, read> experts: array<u32>;
@group(0) @binding(3) var<storage, read> weights: array<f32>;
@group(0) @binding(4) var<storage, read_write> choices: array<u32>;
@group(0) @binding(5) var<storage, read_write> factors: array<f32>;

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    for (var i = id.x; i < n_used; i += THREADS) {
        let at = id.y * n_used + i;
        choices[at] = max(rows[id.y], experts[at]);
        factors[at] = scales[id.y] * select(1.0, weights[at], weigh);
    }
}
