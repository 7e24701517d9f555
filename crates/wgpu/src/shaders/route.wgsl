// From a router's products to the chosen experts of a row and their weights; one
// workgroup per row.

override n_experts: u32;
override n_used: u32;
override n_groups: u32;
override n_groups_used: u32;
// Softmax of all, softmax of the chosen, sigmoid.
override gating: u32;
override normalize: bool;
override scale: f32;
override has_router_bias: bool;
override has_choice_bias: bool;

// `[rows, n_experts]`
@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> router_bias: array<f32>;
@group(0) @binding(2) var<storage, read> choice_bias: array<f32>;
// `[rows, n_used]`, best first.
@group(0) @binding(3) var<storage, read_write> experts: array<u32>;
// `[rows, n_used]`
@group(0) @binding(4) var<storage, read_write> expert_weights: array<f32>;

const LOWEST: f32 = -3.4e38;

// What the weights are made of, and what decides.
var<workgroup> scores: array<f32, n_experts>;
var<workgroup> ranks: array<f32, n_experts>;
var<workgroup> group_ranks: array<f32, n_groups>;
var<workgroup> chosen: array<u32, n_used>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let first = group.y * n_experts;
    var largest = LOWEST;
    for (var i = thread; i < n_experts; i += THREADS) {
        var logit = logits[first + i];
        if has_router_bias { logit += router_bias[i]; }
        scores[i] = logit;
        largest = max(largest, logit);
    }
    for (var i = thread; i < n_used; i += THREADS) {
        chosen[i] = 0u;
    }
    if gating == 0u {
        largest = workgroup_max(largest, thread);
        var sum = 0.0;
        for (var i = thread; i < n_experts; i += THREADS) {
            scores[i] = exp(scores[i] - largest);
            sum += scores[i];
        }
        sum = workgroup_sum(sum, thread);
        for (var i = thread; i < n_experts; i += THREADS) {
            scores[i] /= sum;
        }
    } else if gating == 2u {
        for (var i = thread; i < n_experts; i += THREADS) {
            scores[i] = 1.0 / (1.0 + exp(min(-scores[i], 80.0)));
        }
    }
    for (var i = thread; i < n_experts; i += THREADS) {
        ranks[i] = scores[i];
        if has_choice_bias { ranks[i] += choice_bias[i]; }
    }
    workgroupBarrier();

    if n_groups > 1u {
        let size = n_experts / n_groups;
        // The two largest of each group.
        for (var g = thread; g < n_groups; g += THREADS) {
            var best = ranks[g * size];
            var second = LOWEST;
            for (var i = 1u; i < size; i++) {
                let rank = ranks[g * size + i];
                second = max(second, min(rank, best));
                best = max(best, rank);
            }
            group_ranks[g] = select(best, best + second, size > 1u);
        }
        workgroupBarrier();
        for (var g = thread; g < n_groups; g += THREADS) {
            let rank = group_ranks[g];
            var n_better = 0u;
            for (var other = 0u; other < n_groups; other++) {
                let other_rank = group_ranks[other];
                if other_rank > rank || (other_rank == rank && other < g) { n_better++; }
            }
            if n_better >= n_groups_used {
                for (var i = 0u; i < size; i++) {
                    ranks[g * size + i] = LOWEST;
                }
            }
        }
        workgroupBarrier();
    }

    // An expert's place is the number of those that are better.
    for (var i = thread; i < n_experts; i += THREADS) {
        let rank = ranks[i];
        var place = 0u;
        for (var other = 0u; other < n_experts; other++) {
            if ranks[other] > rank || (ranks[other] == rank && other < i) { place++; }
        }
        if place < n_used { chosen[place] = i; }
    }
    workgroupBarrier();

    // Few: every thread adds them up for itself.
    let best = scores[chosen[0]];
    var sum = 0.0;
    for (var i = 0u; i < n_used; i++) {
        let score = scores[chosen[i]];
        sum += select(score, exp(score - best), gating == 1u);
    }
    for (var i = thread; i < n_used; i += THREADS) {
        var weight = scores[chosen[i]];
        if gating == 1u { weight = exp(weight - best); }
        if normalize || gating == 1u { weight /= sum; }
        experts[group.y * n_used + i] = chosen[i];
        expert_weights[group.y * n_used + i] = scale * weight;
    }
}
