// Softmax cross entropy with its gradient, in one pass over the logits Z, in place:
//
//   loss[b] = log Σ_c exp(Z[b,c]) - Σ_c T[b,c] Z[b,c]      Z[b,c] = (softmax(Z[b])[c] - T[b,c]) / batch
//
// where the target T has 1 - smoothing for the label, and smoothing / classes more for every class.
//
// and, for each workgroup's rows, the sums of the losses, and of the rows whose highest logit (the first of equal ones)
// is the label's. An invocation computes one row.
//
// An index or a label past the last takes the last: nothing outside the buffers is read, whatever they hold.
//
// Buffers:
//   labels  [count], looked up by order
//   order   [batch]
//   logits  Z, [batch, classes]; every element is read and written
//   sums    [workgroups, 2]: losses, rows classified right
//   params  the struct below

const WORKGROUP_SIZE: u32 = 64u;

struct Params {
    batch: u32,
    classes: u32,
    count: u32,
    smoothing: f32,
}

@group(0) @binding(0) var<storage, read_write> labels: array<u32>;
@group(0) @binding(1) var<storage, read_write> order: array<u32>;
@group(0) @binding(2) var<storage, read_write> logits: array<f32>;
@group(0) @binding(3) var<storage, read_write> sums: array<f32>;
@group(0) @binding(4) var<storage, read_write> params: Params;

var<workgroup> partial: array<vec2<f32>, WORKGROUP_SIZE>;

// The loss of a row, and 1 if it is classified right.
fn classified(b: u32, batch: u32, classes: u32) -> vec2<f32> {
    let row = b * classes;
    let label = min(labels[min(order[b], params.count - 1u)], classes - 1u);
    var highest = 0u;
    var most = logits[row];
    for (var c = 1u; c < classes; c++) {
        let logit = logits[row + c];
        if (logit > most) {
            highest = c;
            most = logit;
        }
    }
    let own = logits[row + label];
    var total = 0.0;
    // How far the logits are below the highest, of all classes.
    var below = 0.0;
    for (var c = 0u; c < classes; c++) {
        let less = logits[row + c] - most;
        let part = exp(less);
        logits[row + c] = part;
        total += part;
        below -= less;
    }
    let share = params.smoothing / f32(classes);
    let rest = 1.0 - params.smoothing;
    for (var c = 0u; c < classes; c++) {
        let wanted = select(share, rest + share, c == label);
        logits[row + c] = (logits[row + c] / total - wanted) / f32(batch);
    }
    var loss = log(total) + rest * (most - own);
    // Without smoothing nothing is added, whatever the others are.
    if (share > 0.0) {
        loss += share * below;
    }
    return vec2<f32>(loss, select(0.0, 1.0, highest == label));
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(invocation: Invocation) {
    let group = workgroup_index(invocation);
    let lane = invocation.lane;
    let batch = params.batch;
    let b = group * WORKGROUP_SIZE + lane;
    if (b < batch) {
        partial[lane] = classified(b, batch, params.classes);
    } else {
        partial[lane] = vec2<f32>();
    }
    workgroupBarrier();
    if (lane == 0u && group * WORKGROUP_SIZE < batch) {
        var total = vec2<f32>();
        for (var i = 0u; i < WORKGROUP_SIZE; i++) {
            total += partial[i];
        }
        sums[2u * group] = total.x;
        sums[2u * group + 1u] = total.y;
    }
}
