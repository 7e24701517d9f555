// The `k` largest of each chunk of a row, best first, of equals that of the lower column;
// one workgroup per chunk. `load` comes with the kind of input.
//
// A value counts by its bits, put in order: those of NaN are above all others.

// Values per row that there are, in chunks of CHUNK.
override n: u32;
override k: u32;
// Words between the rows of the input.
override row_width: u32;

// `[rows, chunks, k]`: column and bits; the column NOTHING where a chunk has fewer than `k`.
@group(0) @binding(1) var<storage, read_write> out: array<vec2<u32>>;

const CHUNK: u32 = 1024u;
const NOTHING: u32 = 0xffffffffu;

// Column and rank.
var<workgroup> entries: array<vec2<u32>, CHUNK>;
var<workgroup> best: array<vec2<u32>, THREADS>;

// 0 is below the ranks of all values.
fn rank_of(bits: u32) -> u32 {
    if (bits & 0x7fffffffu) > 0x7f800000u { return 0xffffffffu; }
    // The two zeros are equal.
    if (bits & 0x7fffffffu) == 0u { return 0x80000000u; }
    if bits >= 0x80000000u { return ~bits; }
    return bits | 0x80000000u;
}

fn bits_of(rank: u32) -> u32 {
    if rank >= 0x80000000u { return rank & 0x7fffffffu; }
    return ~rank;
}

fn better(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    if b.y > a.y || (b.y == a.y && b.x < a.x) { return b; }
    return a;
}

fn own_best(thread: u32) -> vec2<u32> {
    var result = vec2<u32>(NOTHING, 0u);
    for (var i = thread; i < CHUNK; i += THREADS) {
        result = better(result, entries[i]);
    }
    return result;
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    for (var i = thread; i < CHUNK; i += THREADS) {
        let at = group.x * CHUNK + i;
        var entry = vec2<u32>(NOTHING, 0u);
        if at < n { entry = load(group.y * row_width, at); }
        entries[i] = entry;
    }
    // A thread looks at its own entries alone: no barrier in between.
    var own = own_best(thread);
    for (var i = 0u; i < k; i++) {
        best[thread] = own;
        workgroupBarrier();
        for (var reach = THREADS / 2u; reach > 0u; reach /= 2u) {
            if thread < reach { best[thread] = better(best[thread], best[thread + reach]); }
            workgroupBarrier();
        }
        let chosen = best[0];
        workgroupBarrier();
        if thread == 0u {
            out[(group.y * groups.x + group.x) * k + i] =
                vec2<u32>(chosen.x, bits_of(chosen.y));
        }
        if chosen.y > 0u && chosen.x == own.x {
            for (var j = thread; j < CHUNK; j += THREADS) {
                if entries[j].x == chosen.x { entries[j] = vec2<u32>(NOTHING, 0u); }
            }
            own = own_best(thread);
        }
    }
}
