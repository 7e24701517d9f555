// out[row] = scale * row of a table, or that added to out. The row is that of the token, of the
// position or the first; a thread makes 8 values.

override source: u32;
const BY_TOKEN: u32 = 0u;
const BY_POSITION: u32 = 1u;

@group(0) @binding(0) var<storage, read> data: array<u32>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@group(0) @binding(2) var<uniform> parameters: Parameters;

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let group = id.x / 4u;
    let w = id.x % 4u;
    if group >= parameters.n_groups { return; }
    // A table in several parts is several dispatches; `first_matrix` is the part's first.
    var entry = 0u;
    if source == BY_TOKEN { entry = token(id.y); }
    if source == BY_POSITION { entry = min(position(id.y), parameters.matrix_rows - 1u); }
    let index = entry - parameters.first_matrix;
    if entry < parameters.first_matrix || index >= parameters.n_columns { return; }
    let values = weight_values(parameters.first_row + index, group, w);
    for (var i = 0u; i < 8u; i++) {
        let column = 32u * group + 16u * (i / 4u) + 4u * w + i % 4u;
        if column >= parameters.width { continue; }
        let at = id.y * parameters.out_stride + column;
        var value = parameters.scale * values[i / 4u][i % 4u];
        if has(ACCUMULATE) { value += out[at]; }
        out[at] = value;
    }
}
